import numpy as np
import pyarrow as pa
import pytest

from astrid.detection.crossmatch import MatchRule
from astrid.workflow.verdicts import COUNTS, VERDICTS, is_catalogued, settle

RULE = MatchRule()


def rows(schema, **columns):
    n = len(next(iter(columns.values())))
    full = {field.name: columns.get(field.name, [None] * n) for field in schema}
    return pa.table(full, schema=schema)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, False),
        ({"variable_sigma": 1.0, "variable_separation": 0.3}, True),
        ({"variable_sigma": 3.6, "variable_separation": 0.3}, False),
        ({"agn_sigma": 0.2, "agn_separation": 3.1}, False),
        ({"asteroid_sigma": 50.0, "asteroid_separation": 2.0}, True),  # errors of orbits are too small
        ({"asteroid_sigma": 50.0, "asteroid_separation": 9.0}, False),
        ({"star_sigma": 0.1, "star_separation": 0.1}, False),
        ({"galaxy_sigma": 0.1, "galaxy_separation": 0.1}, False),
    ],
)
def test_only_what_changes_or_moves_by_itself_is_catalogued(columns, expected):
    names = [f"{kind}_{name}" for kind in ("variable", "agn", "asteroid", "star") for name in ("sigma", "separation")]
    full = {name: pa.array([columns.get(name)], pa.float64()) for name in names}
    assert is_catalogued(pa.table({"candidate_id": ["a"], **full}), RULE).tolist() == [expected]


def test_where_nobody_was_asked_nothing_is_catalogued():
    assert not is_catalogued(pa.table({"candidate_id": ["a"]}), RULE).any()


def test_false_alarms_at_flagged_candidates_are_ignored_by_every_detector_and_nothing_else_is():
    place = {"tile": [0] * 5, "epoch": [0, 0, 0, 0, 1], "band": ["r"] * 5}
    verdicts = rows(
        VERDICTS, detector=["unet", "unet", "unet", "mf", "mf"], y=[10.0, 10.0, 40.0, 11.0, 10.0],
        x=[20.0, 20.0, 20.0, 20.5, 20.0], verdict=["false", "true", "false", "false", "false"],
        is_near_star=[True, False, True, False, True], **place,
    )  # fmt: skip
    counts = rows(
        COUNTS, detector=["unet", "mf", "mf"], tile=[0] * 3, epoch=[0, 0, 1], band=["r"] * 3, n_false=[2, 1, 1],
        n_ignored=[0, 3, 0], n_false_near_stars=[2, 0, 1],
    )  # fmt: skip
    flagged = pa.table({"tile": [0], "epoch": [0], "band": ["r"], "y": [10.0], "x": [20.0]})
    said, counted = settle(verdicts, counts, flagged)
    assert said["verdict"].to_pylist() == ["ignored", "true", "false", "ignored", "false"]
    assert counted["n_false"].to_pylist() == [1, 0, 1]
    assert counted["n_ignored"].to_pylist() == [1, 4, 0]
    assert counted["n_false_near_stars"].to_pylist() == [1, 0, 1]
    assert said.schema == VERDICTS
    assert counted.schema == COUNTS
    assert settle(verdicts, counts, flagged.slice(1)) == (verdicts, counts)
    assert np.sum(counted["n_false"]) + np.sum(counted["n_ignored"]) == 7
