"""Whole runs on real events, against what was measured of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import astrid
from astrid.cli import build, compose
from astrid.stores.tables import read_json
from astrid.workflow.pipeline import execute
from benchmarks.noise_honesty import Silent


def metrics_of(folder: Path, *options: str) -> dict[str, Any]:
    settings = replace(build(compose("run", ["name=real", "cluster.dashboard=127.0.0.1:0", *options])), root=folder)
    assert execute(settings, "evaluate", Silent()) == 0
    return read_json(settings.run_folder / "metrics.json")


@pytest.mark.slow
def test_jwst_pair_finds_what_is_injected_in_noise_that_is_correlated(tmp_path, real_data):
    path = real_data("jwst_a2744_pair")
    found = metrics_of(tmp_path, "experiment=jwst_pair", f"survey.path={path}")
    (row,) = found["rows"]
    assert row["recall_snr8"] >= 0.9
    assert row["false_alarms_per_megapixel"] <= 8
    widths = astrid.open_cube(tmp_path / "cubes", group="differences/zogy").score_width.to_numpy()
    assert widths[np.isfinite(widths)] == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_ztf_alerts_find_transients_and_asteroids_and_half_of_the_bogus(tmp_path, real_data):
    path = real_data("ztf_alerts.parquet")
    found = metrics_of(tmp_path, "survey=ztf_alerts", f"survey.path={path}", "truth=known_events")
    rows = {(row["label_basis"], row["kind"]): row for row in found["alerts"]}
    for label, least in (("catalogue:transient", 0.98), ("catalogue:solar-system", 1.0), ("catalogue:variable", 0.92)):
        assert rows[label, ""]["detected"] >= least, label
        assert rows[label, ""]["detected_by_object"] >= least, label
    assert rows["score:drb<0.3", ""]["detected"] <= 0.55
    assert rows["all", ""]["score_width"] == pytest.approx(1, abs=0.05)
    assert rows["all", ""]["share_of_widths_0p8_to_1p2_by_object"] >= 0.94
    assert rows["catalogue:transient", ""]["off_centre_per_stamp"] <= 0.7
    assert rows["catalogue:variable", ""]["off_centre_per_stamp"] <= 1.2
