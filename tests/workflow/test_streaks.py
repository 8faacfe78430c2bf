"""A night on which a satellite crosses every exposure."""

import numpy as np
import pytest

from astrid.schema import CANDIDATES, INJECTIONS, STREAKS, CandidateFlag, MaskBit
from astrid.stores.tables import read_json, read_table
from astrid.workflow import images
from tests.workflow.conftest import night

CELLS = [(0, epoch, "g") for epoch in range(4)]
WORDS = (
    "survey.satellite_trail_probability=1",
    "survey.height=400",
    "survey.width=400",
    "survey.stars_per_megapixel=2400",
    "survey.bad_columns=0",
    "grid.core=512",
)


@pytest.fixture
def trails(place):
    ended = place("run", *night("trails", *WORDS))
    assert ended.code == 0, ended.err
    return place.run("trails")


def n_beside(streaks, candidates):
    """Count the candidates within 5 px of the axis of a streak."""
    n = 0
    for one in candidates.to_pylist():
        for row in streaks:
            if (row["epoch"], row["tile"]) != (one["epoch"], one["tile"]):
                continue
            along = np.array([row["y_end"] - row["y_start"], row["x_end"] - row["x_start"]]) / row["length"]
            off = np.array([one["y"] - row["y_start"], one["x"] - row["x_start"]])
            if abs(off @ [along[1], -along[0]]) < 5 and 0 <= off @ along <= row["length"]:
                n += 1
                break
    return n


def test_each_trail_is_one_record_and_not_many_candidates(trails, place, monkeypatch):
    streaks = read_table(trails / "streaks.parquet", STREAKS).to_pylist()
    found = [(row["tile"], row["epoch"], row["band"]) for row in streaks if not row["is_negative"]]
    assert sorted(found) == CELLS
    for row in streaks:
        assert row["length"] > 60
        assert (row["flux_per_length"] < 0) == row["is_negative"] == (row["significance"] < 0)
        assert np.hypot(row["ra_end"] - row["ra_start"], row["dec_end"] - row["dec_start"]) * 3600 == pytest.approx(
            0.5 * row["length"], rel=0.02
        )
    candidates = read_table(trails / "candidates.parquet", CANDIDATES)
    on_streak = (np.array(candidates["flags"]) & CandidateFlag.STREAK) != 0
    bits = (np.array(candidates["mask_bits"]) & MaskBit.STREAK) != 0
    assert not (on_streak & ~bits).any()

    monkeypatch.setattr(images, "flag_streaks", lambda difference, science, template: (difference, ()))
    assert place("run", *night("unaware", *WORDS, "keep=none")).code == 0
    unaware = read_table(place.run("unaware") / "candidates.parquet", CANDIDATES)
    assert len(candidates) < len(unaware)
    assert n_beside(streaks, candidates) < 0.4 * n_beside(streaks, unaware)
    aware, before = (read_json(run / "metrics.json")["rows"][0] for run in (trails, place.run("unaware")))
    assert aware["n_false"] < before["n_false"]
    assert aware["megapixels"] < before["megapixels"]
    assert aware["n_masked"] > before["n_masked"]

    put_in = read_table(trails / "injections.parquet", INJECTIONS).to_pylist()
    under = [row for row in put_in if row["mask_bits"] & MaskBit.STREAK]
    assert under
    assert {row["lost_in"] for row in under} <= {"", "masked"}
    assert 'id="streaks"' in (trails / "report.html").read_text()
