import json
import logging
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from astrid.cli import COMMANDS, build, compose
from astrid.schema import CANDIDATES, CELLS, INJECTIONS, LEDGER, LIGHT_CURVES, OBJECTS, SCORED, STREAKS, CandidateFlag
from astrid.stores.tables import read_json, read_table
from astrid.workflow.pipeline import STEPS
from astrid.workflow.settings import digest_of
from tests.workflow.conftest import assert_same_results, night

TABLES = {
    "candidates": CANDIDATES,
    "objects": OBJECTS,
    "injections": INJECTIONS,
    "scored": SCORED,
    "ledger": LEDGER,
    "light_curves": LIGHT_CURVES,
    "cells": CELLS,
}
FIELDS = [
    "dataset",
    "truth",
    "subtraction",
    "detector",
    "precision",
    "recall",
    "localization",
    "false_alarms_per_image",
    "seconds_per_image",
    "threshold",
    "precision_ci",
    "recall_ci",
    "position_rms_px",
    "false_alarms_per_megapixel",
    "false_alarms_near_stars",
    "n_false_near_stars",
    "seconds_per_megapixel",
    "completeness_50_snr",
    "n_images",
    "n_true",
]


@pytest.fixture(scope="session")
def folder(undisturbed):
    return undisturbed.run("night")


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_its_schema_and_rows(folder, name):
    assert len(read_table(folder / f"{name}.parquet", TABLES[name]))  # read_table checks the schema


def test_streaks_have_a_table_even_where_there_are_none(folder):
    read_table(folder / "streaks.parquet", STREAKS)


def test_each_injection_that_was_missed_names_the_step_that_lost_it(folder):
    rows = read_table(folder / "injections.parquet", INJECTIONS).to_pylist()
    assert {row["lost_in"] for row in rows} <= {"", "masked", "subtraction", "detection", "matching"}
    for row in rows:
        assert (row["lost_in"] == "") == (row["recovered_by"] is not None)
        if row["mask_bits"] and row["recovered_by"] is None:
            assert row["lost_in"] == "masked"


def test_the_curves_of_a_detector_end_where_its_row_of_metrics_stands(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    row, curve = metrics["rows"][0], metrics["curves"]["matched_filter"]
    assert curve["recall"][-1] == pytest.approx(row["recall"])
    assert curve["precision"][-1] == pytest.approx(row["precision"])
    assert curve["average_precision"]["low"] is None  # four cells tell of no interval
    assert curve["reliability"] is None  # significance is no probability


def test_completeness_apart_counts_every_injection_that_is_not_masked_once(folder):
    apart = json.loads((folder / "metrics.json").read_text())["completeness_apart"]["matched_filter"]
    rows = read_table(folder / "injections.parquet", INJECTIONS).to_pylist()
    assert sum(one["n"] for one in apart["place"].values()) == sum(row["mask_bits"] == 0 for row in rows)
    assert apart["magnitude"]["bins"]


def test_candidates_that_fade_are_flagged(folder):
    candidates = read_table(folder / "candidates.parquet", CANDIDATES)
    fading = (np.array(candidates["flags"]) & CandidateFlag.FADING) != 0
    assert fading.tolist() == candidates["is_negative"].to_pylist()


def test_metrics_have_a_row_for_injections_and_one_for_known_events(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [row["truth"] for row in metrics["rows"]] == ["injections", "known_events"]
    for row in metrics["rows"]:
        assert not set(FIELDS) - set(row)
        assert (row["subtraction"], row["detector"], row["n_images"]) == ("zogy", "matched_filter", 4)
        assert row["threshold"] == 5.0
        assert 0 <= row["recall_ci"][0] <= row["recall"] <= row["recall_ci"][1] <= 1
        assert row["seconds_per_image"] > 0
    assert isinstance(metrics["notes"]["threshold"], str)


def test_the_configuration_is_kept_whole_and_can_be_read(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["survey"]["n_epochs"] == 4
    assert config["name"] == "night"


def test_the_report_opens_offline(folder):
    page = (folder / "report.html").read_text()
    assert "night" in page
    for word in ('src="http', 'href="http', "@import", "url(http"):
        assert word not in page


def test_seconds_are_cpu_seconds_of_the_pass_without_injections_per_cell(folder):
    ledger = read_table(folder / "ledger.parquet", LEDGER).to_pylist()
    timed = ("measure", "preprocess", "template", "subtract", "detect")
    total = sum(row["cpu_seconds"] for row in ledger if row["step"] in timed)
    row = json.loads((folder / "metrics.json").read_text())["rows"][0]
    assert row["seconds_per_image"] == pytest.approx(total / 4)


def test_a_bright_known_transient_is_found_at_its_place(folder, undisturbed):
    truth = pq.read_table(next(undisturbed.folder.glob("cubes/*/known_events.parquet"))).to_pylist()
    objects = read_table(folder / "objects.parquet", OBJECTS).to_pylist()
    depth = np.median(read_table(folder / "cells.parquet", CELLS)["depth_flux"].to_numpy())
    spread = {}
    for row in truth:
        spread.setdefault(row["event_id"], []).append(row)
    bright = [rows for rows in spread.values() if np.ptp([r["flux"] for r in rows]) > 10 * depth]
    assert bright
    found = 0
    for rows in bright:
        peak = max(rows, key=lambda r: r["flux"])
        offsets = [
            3600 * np.hypot((o["ra"] - peak["ra"]) * np.cos(np.radians(peak["dec"])), o["dec"] - peak["dec"])
            for o in objects
        ]
        found += min(offsets) < 1.0  # arcsec: two pixels
    assert found == len(bright)


def test_every_object_has_a_light_curve_at_every_epoch(folder):
    objects = read_table(folder / "objects.parquet", OBJECTS)["object_id"].to_pylist()
    curves = read_table(folder / "light_curves.parquet", LIGHT_CURVES)
    pairs = list(zip(curves["object_id"].to_pylist(), curves["epoch"].to_pylist(), strict=True))
    assert sorted(pairs) == sorted((name, epoch) for name in objects for epoch in range(4))


def test_candidates_belong_to_objects(folder):
    candidates = read_table(folder / "candidates.parquet", CANDIDATES)
    objects = read_table(folder / "objects.parquet", OBJECTS)
    assert set(candidates["object_id"].to_pylist()) == set(objects["object_id"].to_pylist())
    assert len(set(candidates["candidate_id"].to_pylist())) == len(candidates)


def test_injections_keep_their_distance_and_say_their_true_strength(folder):
    rows = read_table(folder / "injections.parquet", INJECTIONS)
    assert len(rows) >= 4
    assert (rows["snr"].to_numpy() > 0).all()
    places = np.column_stack([rows[name].to_numpy() for name in ("tile", "epoch", "y", "x")]) * (1e6, 1e6, 1, 1)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert distances[~np.eye(len(places), dtype=bool)].min() >= 10


def test_what_it_says_ends_with_the_table_and_the_paths(undisturbed):
    said = json.loads((undisturbed.folder / "said.json").read_text())
    assert "Precision" in said
    assert "Seconds" in said  # no column is lost when it is not written to a terminal
    assert said.rstrip().splitlines()[-2:] == [
        "report: runs/night/report.html",
        "candidates: runs/night/candidates.parquet",
    ]


def test_a_second_run_does_nothing_and_changes_nothing(done_before, undisturbed):
    journals = sorted(str(p.relative_to(done_before.folder)) for p in done_before.folder.rglob("batch-*"))
    ended = done_before("run", *night("night"))
    assert ended.code == 0, ended.out
    for step in ("measure", "preprocess", "template", "subtract", "detect", "light_curves", "evaluate"):
        count = 1 if step == "template" else 4
        assert f"{step}: {count} done before in" in ended.out
    assert sorted(str(p.relative_to(done_before.folder)) for p in done_before.folder.rglob("batch-*")) == journals
    assert_same_results(done_before.run("night"), undisturbed.run("night"))


def test_another_threshold_redoes_only_detection_and_later(done_before):
    ended = done_before("run", *night("higher", "detection.threshold=8"))
    assert ended.code == 0, ended.out
    for step in ("measure", "preprocess", "subtract"):
        assert f"{step}: 4 done before in" in ended.out
    for step in ("detect", "light_curves", "evaluate"):
        assert f"{step}: 4 done in" in ended.out
    candidates = read_table(done_before.run("higher") / "candidates.parquet", CANDIDATES)
    lower = read_table(done_before.run("night") / "candidates.parquet", CANDIDATES)
    assert np.abs(candidates["significance"].to_numpy()).min() >= 8
    assert 0 < len(candidates) < len(lower)


def test_a_name_taken_by_another_configuration_is_refused(done_before):
    before = (done_before.run("night") / "config.yaml").read_text()
    ended = done_before("run", *night("night", "detection.threshold=8"))
    assert ended.code == 2
    assert "runs/night was made with another configuration" in ended.err
    assert "choose another name" in ended.err
    assert (done_before.run("night") / "config.yaml").read_text() == before


def test_the_cluster_is_no_part_of_the_configuration_that_a_name_stands_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inline, local = (build(compose("run", night("night", cluster=cluster))) for cluster in ("inline", "local"))
    assert digest_of(inline.science) == digest_of(local.science)
    other = build(compose("run", night("night", "linking.radius_pixels=3")))
    assert digest_of(other.science) != digest_of(inline.science)


def test_steps_one_after_the_other_give_what_run_gives(place, undisturbed):
    for step in STEPS:
        ended = place(step, *night("steps"))
        assert ended.code == 0, f"{step}: {ended.out}{ended.err}"
        assert (place.run("steps") / "report.html").exists() == (step == "report")
    assert_same_results(place.run("steps"), undisturbed.run("night"))


def test_multirun_runs_once_for_each_value(done_before):
    ended = done_before("evaluate", "-m", *NIGHT_WITHOUT_NAME, "detection.threshold=6,9")
    assert ended.code == 0, ended.out + ended.err
    runs = [path for path in (done_before.folder / "runs").iterdir() if path.is_dir() and path.name != "night"]
    thresholds = [yaml.safe_load((path / "config.yaml").read_text())["detection"]["threshold"] for path in runs]
    assert sorted(thresholds) == [6, 9]
    for path in runs:
        assert len(read_json(path / "metrics.json")["rows"]) == 2
    extra = {path.name for path in done_before.folder.iterdir()} - {"runs", "cubes", "exposures", "said.json"}
    assert not extra  # Hydra leaves nothing beside them
    assert not logging.getLogger("astrid.surveys.directory").disabled  # the modules' warnings still reach the log


NIGHT_WITHOUT_NAME = [word for word in night("") if not word.startswith("name=")]


def test_multirun_finds_a_typo_before_the_first_job(place):
    ended = place("run", "-m", "detection.treshold=5,6")
    assert ended.code == 2
    assert "detection.threshold" in ended.err
    assert not list(place.folder.iterdir())


def test_cfg_prints_the_configuration_and_runs_nothing(place):
    ended = place("run", "--cfg", "detection.threshold=7")
    assert ended.code == 0
    config = yaml.safe_load(ended.out)
    assert config["detection"]["threshold"] == 7
    assert "hydra" not in config
    assert not list(place.folder.iterdir())


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("run", "--help")])
def test_help_fits_one_screen_and_shows_what_to_type(place, words):
    ended = place(*words)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert "astrid run survey=directory survey.path=DIR" in ended.out
    for command in COMMANDS:
        assert f"  {command} " in ended.out


def test_version_is_a_line(place):
    ended = place("--version")
    assert ended.code == 0
    assert ended.out.startswith("astrid ")


def test_status_lists_the_runs_and_what_one_has_done(undisturbed):
    assert undisturbed("status").out.split() == ["night"]
    ended = undisturbed("status", "night")
    assert ended.code == 0
    for line in ("  preprocess    4 done", "  evaluate      4 done"):
        assert line in ended.out
    assert "matched_filter" in ended.out


def test_status_of_a_run_that_is_not_there_names_those_that_are(undisturbed):
    ended = undisturbed("status", "nigth")
    assert ended.code == 2
    assert "there are: night" in ended.err


def test_without_a_name_a_run_is_called_after_survey_and_date(place):
    for _ in range(2):
        assert place("ingest", *NIGHT_WITHOUT_NAME).code == 0
    assert place("ingest", *NIGHT_WITHOUT_NAME, "detection.threshold=9").code == 0
    first, second = sorted(os.listdir(place.folder / "runs"))
    assert first.startswith("simulated-20")
    assert second == f"{first}-2"
