"""The headline of a run in words: what was found, how good it is, what went wrong."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from astrid.report.wording import (
    ABSENT,
    count,
    fixed,
    interval,
    number,
    number_or_nan,
    per_cent,
    shorten,
    threshold_note,
    truth_name,
)

MAX_REASONS = 10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """One number of the headline."""

    label: str
    value: str
    bounds: str
    meaning: str


@dataclass(frozen=True)
class Reason:
    """Why some cells were skipped or failed."""

    status: str
    step: str
    n: int
    text: str
    n_wordings: int


def metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.json``, none if there are none."""
    return [dict(row) for row in metrics.get("rows") or ()]


def headline_row(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row the headline speaks of: the first measured on injections, else the first."""
    rows = metric_rows(metrics)
    return next((row for row in rows if row.get("truth") == "injections"), rows[0] if rows else None)


def make_cards(row: Row | None) -> list[Card]:
    """Make the big numbers of the headline; none without metrics."""
    if row is None:
        return []
    truths = truth_name(row)
    snr50 = row.get("completeness_50_snr")
    return [
        Card("Precision", per_cent(row.get("precision")), _bounds(row, "precision", 100, " %"),
             "of what was reported is real"),
        Card("Recall", per_cent(row.get("recall")), _bounds(row, "recall", 100, " %"), f"of the {truths} were found"),
        Card("Localization", _with_unit(fixed(row.get("localization"), 1), "%"), _bounds(row, "localization", 1, " %"),
             "mean overlap with the true position"),
        Card("False alarms", number(row.get("false_alarms_per_image"), 2),
             _bounds(row, "false_alarms_per_image", 1, "", 2),
             "per image; on real images an upper limit"),
        Card("Time", _with_unit(number(row.get("seconds_per_image"), 2), "s"),
             _bounds(row, "seconds_per_image", 1, " s", 2),
             "of CPU per image"),
        Card("Half found at", _with_unit(fixed(snr50, 1), "", "S/N "), _plus_minus(row, "completeness_50_snr"),
             "the 50 % point of completeness"),
    ]  # fmt: skip


def _bounds(row: Row, key: str, factor: float, unit: str, decimals: int = 1) -> str:
    text = interval(row.get(f"{key}_ci"), factor, decimals)
    return f"{text}{unit}" if text else ""


def _plus_minus(row: Row, key: str) -> str:
    error = fixed(row.get(f"{key}_error"), 1)
    return _bounds(row, key, 1, "") or ("" if error == ABSENT else f"± {error}")


def write_apart(row: Row | None) -> str:
    """Say how many truths and detections the numbers leave out; empty if none."""
    if row is None:
        return ""
    wordings = {
        "n_faint": f"{truth_name(row)} below S/N 5",
        "n_masked": f"{truth_name(row)} on masked pixels",
        "n_ignored": "detections at catalogued variables, AGN and asteroids, on streaks, or at too faint known events",
    }
    counts = {key: number_or_nan(row.get(key)) for key in wordings}
    parts = [f"{int(n):,} {wordings[key]}" for key, n in counts.items() if math.isfinite(n) and n > 0]
    return f"Left out: {', '.join(parts)}." if parts else ""


def _with_unit(text: str, unit: str, prefix: str = "") -> str:
    return text if text == ABSENT else f"{prefix}{text} {unit}".strip()


def write_verdict(row: Row | None, n_candidates: int, n_objects: int) -> list[str]:
    """Say in a few plain sentences what the run found and how far to trust it."""
    if n_candidates:
        first = f"This run found {count(n_candidates, 'candidate')}"
        first += f", linked into {count(n_objects, 'object')}." if n_objects else "."
    else:
        first = "This run found no candidates."
    if row is None:
        return [first, "Nothing was evaluated, so there are no numbers that say how far to trust it."]
    sentences = [first]
    recall, precision = number_or_nan(row.get("recall")), number_or_nan(row.get("precision"))
    n_true, truths = number_or_nan(row.get("n_true")), truth_name(row)
    if math.isfinite(recall):
        of_how_many = f"{int(n_true):,} {truths}" if math.isfinite(n_true) else truths
        sentences.append(f"Of {of_how_many} it recovered {per_cent(recall)}{_between(row, 'recall')}.")
    else:
        sentences.append(f"Recall could not be measured: there were no usable {truths}.")
    deep = number_or_nan(row.get("recall_snr8"))
    if math.isfinite(deep):
        sentences.append(f"From S/N 8 upwards it is {per_cent(deep)}{_between(row, 'recall_snr8')}.")
    if math.isfinite(precision):
        share = f"{per_cent(precision)}{_between(row, 'precision')}"
        sentences.append(f"Of what it reports, {share} is real at that density of {truths}.")
    else:
        sentences.append("Precision is not defined here.")
    false_alarms = number_or_nan(row.get("false_alarms_per_image"))
    if math.isfinite(false_alarms):
        if false_alarms == 0:
            text = "No false alarm was seen."
        elif false_alarms < 1:
            text = f"Expect one false alarm in about {number(1 / false_alarms, 2)} images."
        else:
            text = f"Expect about {number(false_alarms, 2)} false alarms in every image."
        sentences.append(text)
    return sentences


def _between(row: Row, key: str) -> str:
    text = interval(row.get(f"{key}_ci"), 100)
    return f" (95 % interval {text} %)" if text else ""


def write_threshold(row: Row | None) -> str:
    """Say which threshold the headline was made with; empty if that is not recorded."""
    if row is None:
        return ""
    note = threshold_note(row)
    return "" if note == ABSENT else note


def collect_reasons(ledger: pa.Table) -> tuple[list[Reason], int]:
    """Group what was skipped or failed by step and reason, numbers in the reasons ignored.

    Returns
    -------
    list of Reason
        Failures first, then the most frequent; each with its first wording.
    int
        How many groups were left out of the list.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in ledger.to_pylist():
        status = str(row["status"] or "")
        if status in ("skipped", "failed"):
            text = str(row["reason"] or "no reason recorded")
            pattern = re.sub(r"\d+(\.\d+)?", "#", text)
            groups.setdefault((status, str(row["step"] or ""), pattern), []).append(text)
    reasons = [
        Reason(status, step, len(texts), shorten(texts[0], 220), len(set(texts)))
        for (status, step, _), texts in groups.items()
    ]
    reasons.sort(key=lambda r: (r.status != "failed", -r.n, r.step, r.text))
    return reasons[:MAX_REASONS], max(0, len(reasons) - MAX_REASONS)


def summarise_ledger(ledger: pa.Table) -> list[dict[str, Any]]:
    """Count outcomes, CPU time and peak memory per step, in the order the steps first appear."""
    steps: dict[str, list[Row]] = {}
    for row in ledger.to_pylist():
        steps.setdefault(str(row["step"] or ""), []).append(row)
    summary = []
    for step, rows in steps.items():
        outcomes = Counter(str(r["status"]) for r in rows)
        cpu = [v for v in (number_or_nan(r["cpu_seconds"]) for r in rows) if math.isfinite(v)]
        memory = [v for v in (number_or_nan(r["peak_memory_mb"]) for r in rows) if math.isfinite(v)]
        summary.append(
            {
                "step": step,
                "done": outcomes["done"],
                "skipped": outcomes["skipped"],
                "failed": outcomes["failed"],
                "cpu": number(sum(cpu), 3) if cpu else ABSENT,
                "mean": number(sum(cpu) / len(cpu), 2) if cpu else ABSENT,
                "memory": number(max(memory), 3) if memory else ABSENT,
            }
        )
    return summary


def describe_extent(cells: pa.Table, ledger: pa.Table) -> str:
    """Say how much data the run saw."""
    rows = cells.to_pylist()
    if not rows:
        done = sum(s == "done" for s in ledger["status"].to_pylist())
        return "No image was processed." if not done else ""

    def n_different(keys: Sequence[str]) -> int:
        return len({tuple(r[k] for k in keys) for r in rows})

    parts = [count(n_different(["tile", "epoch", "band"]), "image"), count(n_different(["tile"]), "tile")]
    parts += [count(n_different(["epoch"]), "epoch"), count(n_different(["band"]), "band")]
    times = [v for v in (number_or_nan(r["mjd"]) for r in rows) if math.isfinite(v)]
    text = ", ".join(parts)
    if times:
        text += f", MJD {min(times):.3f} to {max(times):.3f}" if max(times) > min(times) else f", MJD {times[0]:.3f}"
    return text + "."
