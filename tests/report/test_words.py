from __future__ import annotations

import doctest
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from astrid.evaluation.completeness import completeness
from astrid.report import completeness_curve, metrics_table, svg, wording
from astrid.report.charts import draw_completeness
from astrid.report.summary import collect_reasons, summarise_ledger
from astrid.schema import LEDGER

from .conftest import fill


def printed(metrics) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=False).print(metrics_table(metrics))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("module", [wording, svg])
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0


def test_the_terminal_table_fits_100_columns_and_cuts_nothing(data):
    lines = printed(data.metrics)
    assert max(len(line.rstrip()) for line in lines) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    for expected in ("matched_filter", "95.3 %", "92 to 97", "71.4 %", "0.18", "3.4", "S/N ≥", "Localization"):
        assert expected in text
    heads = "".join(lines[:3])
    for head in ("Subtraction", "Detector", "Truth", "Precision", "Recall", "alarms", "Seconds", "Threshold"):
        assert head in heads
    assert "run" in text


def test_the_terminal_table_survives_missing_numbers_long_names_and_markup():
    row = {"subtraction": "alard_lupton", "detector": "matched_filter+isolation_forest", "truth": "injections"}
    row |= {
        "recall": float("nan"),
        "precision": None,
        "threshold_note": "[red]not markup[/red]",
        "recall_ci": [None, 1],
    }
    row |= {"false_alarms_per_image": 12345.6, "seconds_per_image": 1234.5}
    lines = printed({"rows": [row]})
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert "nan" not in "".join(lines)
    assert "12,346" in "".join(lines)
    assert "[red]" in "".join(lines)
    assert "Nothing was evaluated" in "".join(printed({}))


@given(st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(1, 6))
def test_a_number_reads_back_to_its_digits(value, digits):
    text = wording.number(value, digits)
    if not math.isfinite(value):
        assert text == wording.ABSENT
    else:
        assert float(text.replace(",", "")) == pytest.approx(value, rel=0.6 * 10.0 ** (1 - digits), abs=1e-300)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_inside_the_range_and_not_too_many(low, span):
    values = svg.ticks(low, low + span)
    assert 1 <= len(values) <= 8
    assert all(low - 1e-6 * span <= v <= low + span * (1 + 1e-6) for v in values)


def test_reasons_that_differ_only_in_numbers_are_one_group_and_failures_come_first():
    rows = [{"step": "subtract", "status": "skipped", "reason": "no template: 1 epoch"}] * 5
    rows += [{"step": "preprocess", "status": "failed", "reason": f"rms {k}.5 px"} for k in range(3)]
    rows += [{"step": "detect", "status": "done", "reason": ""}]
    reasons, n_more = collect_reasons(fill(LEDGER, rows))
    assert [(r.status, r.n, r.n_wordings) for r in reasons] == [("failed", 3, 3), ("skipped", 5, 1)]
    assert n_more == 0
    many = [{"step": f"s{k}", "status": "failed", "reason": "r"} for k in range(14)]
    assert collect_reasons(fill(LEDGER, many))[1] == 4


def test_the_ledger_is_counted_per_step():
    rows = [{"step": "a", "status": s, "cpu_seconds": 2.0, "peak_memory_mb": 100.0 + k}
            for k, s in enumerate(("done", "done", "failed", "skipped"))]  # fmt: skip
    (step,) = summarise_ledger(fill(LEDGER, rows))
    assert (step["done"], step["skipped"], step["failed"]) == (2, 1, 1)
    assert (step["cpu"], step["mean"], step["memory"]) == ("8.00", "2.0", "103")


def test_a_measured_completeness_becomes_a_curve_through_its_half():
    rng = np.random.default_rng(4)
    snr = np.exp(rng.uniform(np.log(3), np.log(50), 800))
    found = rng.uniform(size=800) < 1 / (1 + np.exp(-(np.log(snr) - np.log(6)) / 0.1))
    curve = completeness_curve(completeness(snr, found))
    assert curve["fit_snr50"] == pytest.approx(6, rel=0.1)
    assert np.interp(curve["fit_snr50"], curve["fit_snr"], curve["fit"]) == pytest.approx(0.5, abs=0.05)
    assert all(a <= f <= b for a, f, b in zip(curve["low"], curve["fraction"], curve["high"], strict=True))
    figure = draw_completeness({"matched_filter": curve})
    assert figure is not None
    assert "half of the injections are found at S/N" in figure.caption


def test_completeness_without_truths_or_without_fit_makes_no_false_curve():
    none = completeness_curve(completeness([], []))
    assert none["snr"] == []
    assert draw_completeness({"a": none}) is None
    all_found = completeness_curve(completeness([10.0, 20.0, 30.0, 40.0], [True] * 4))
    figure = draw_completeness({"a": all_found})
    assert figure is not None
    assert "no fit was possible" in figure.caption
    assert all_found["fit"] == []


def test_replacing_the_metrics_changes_the_table(data):
    other = replace(data, metrics={"rows": [dict(data.metrics["rows"][0], recall=0.123)]})
    assert "12.3 %" in "\n".join(printed(other.metrics))
