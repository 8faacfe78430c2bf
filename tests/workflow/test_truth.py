import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrid.cli import build, compose
from astrid.image import ExposureInfo
from astrid.schema import KNOWN_EVENTS, LEDGER
from astrid.skygrid import Tile
from astrid.stores.tables import read_table
from astrid.workflow.evaluate import fluxes_at
from astrid.workflow.truth import events_at_exposures, near_tiles, why_none_counts
from tests.workflow.conftest import night

DAYS = (60000.0, 60001.0, 60002.0, 60003.0)


def exposures(bands=("r",)):
    return [ExposureInfo(f"{b}{d}", "", b, d, 30.0, (9, 9)) for b in bands for d in DAYS]


def table(*rows):
    plain = {"event_id": "a", "kind": None, "ra": 10.0, "dec": 20.0, "band": None, "mjd": None, "flux": None}
    full = [{**plain, **row} for row in rows]
    return pa.table(
        {f.name: pa.array([row[f.name] for row in full], f.type) for f in KNOWN_EVENTS}, schema=KNOWN_EVENTS
    )


def seen(events, band="r", unit="nJy", bands=("r",)):
    """Return the fluxes of the first event at the exposures of a band."""
    return fluxes_at(events_at_exposures(events, exposures(bands), unit), band, np.array(DAYS))[3][0].tolist()


def test_an_event_without_time_or_band_counts_everywhere_with_unknown_flux():
    for band in ("r", "g"):
        assert np.isnan(seen(table({"flux": 7.0}), band, bands=("r", "g"))).all()


def test_an_event_with_a_time_counts_from_then_on():
    np.testing.assert_equal(seen(table({"mjd": 60001.2})), [0.0, np.nan, np.nan, np.nan])


def test_an_event_with_two_times_counts_between_them():
    np.testing.assert_equal(seen(table({"mjd": 60000.9}, {"mjd": 60002.1})), [0.0, np.nan, np.nan, 0.0])


def test_a_measured_flux_holds_for_the_exposures_of_that_night():
    rows = {"mjd": 60000.1, "flux": 5.0}, {"mjd": 60002.2, "flux": 9.0}
    np.testing.assert_equal(seen(table(*rows)), [5.0, np.nan, 9.0, 0.0])


def test_a_flux_in_njy_means_nothing_in_a_cube_of_counts():
    assert np.isnan(seen(table({"mjd": 60000.0, "flux": 5.0}), unit="count/s")).all()


def test_bands_match_whatever_their_case():
    assert np.isnan(seen(table({"band": "R"}))).all()


def test_a_moving_event_counts_only_where_a_row_says_it_is():
    events = table({"mjd": 60000.0}, {"mjd": 60001.4, "ra": 10.1}, {"mjd": 60003.0, "ra": 10.2})
    rows = events_at_exposures(events, exposures(), "nJy").to_pylist()
    assert [(row["mjd"], row["ra"]) for row in rows] == [(60000.0, 10.0), (60003.0, 10.2)]


def test_an_event_that_no_exposure_saw_is_known_to_be_absent():
    assert seen(table({"mjd": 60700.0})) == [0.0, 0.0, 0.0, 0.0]


def test_events_far_away_are_left_out_and_said_to_be():
    tile = Tile(0, (100, 100), 10, ra=10.0, dec=20.0, pixel_scale=1.0)
    here, there = table({}), table({"ra": 190.0, "dec": -20.0})
    assert why_none_counts(here, [tile]) == ""
    assert "180 degrees" in why_none_counts(there, [tile])
    assert len(near_tiles(pa.concat_tables([here, there]), [tile])) == 1
    assert "no WCS" in why_none_counts(here, [Tile(0, (100, 100), 10, frame="pixel")])


def test_truth_changes_the_evaluation_and_nothing_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.csv").write_text("ra,dec\n1,2\n")

    def made(truth):
        return build(compose("run", [f"truth={truth}"]))

    one, other = made("known_events"), made("one.csv")
    assert (one.cube_key, one.difference_key, one.detection_key) == (
        other.cube_key, other.difference_key, other.detection_key
    )  # fmt: skip
    before = other.evaluation_key
    (tmp_path / "one.csv").write_text("ra,dec\n1,3\n")
    assert len({made(t).evaluation_key for t in ("known_events", "none", "null", "one.csv")} | {before}) == 4


def metrics(place, name):
    return json.loads((place.run(name) / "metrics.json").read_text())


def test_positions_of_ones_own_replace_those_of_the_survey(done_before):
    events = pq.read_table(next((done_before.folder / "cubes").glob("*/known_events.parquet")))
    positions = {row["event_id"]: (row["ra"], row["dec"]) for row in events.to_pylist()}
    first = dict(list(positions.items())[:2])
    lines = "\n".join(f"{name},{ra},{dec}" for name, (ra, dec) in first.items())
    (done_before.folder / "mine.csv").write_text(f"Name,RA,DEC\n{lines}\n")
    ended = done_before("run", *night("mine", "truth=mine.csv"))
    assert ended.code == 0, ended.out + ended.err
    assert len(list((done_before.folder / "cubes").glob("simulated-*"))) == 1
    kept = read_table(done_before.run("mine") / "known_events.parquet", KNOWN_EVENTS)
    assert set(kept["event_id"].to_pylist()) == set(first)
    row = next(row for row in metrics(done_before, "mine")["rows"] if row["truth"] == "known_events")
    assert row["n_true"] + row["n_masked"] == 2 * 4
    assert row["n_recovered"] > 0
    injected, before = (metrics(done_before, name)["rows"][0] for name in ("mine", "night"))
    assert injected["n_false"] >= before["n_false"]  # transients that the file does not name are false


def test_without_truth_there_is_no_row_of_known_events(done_before):
    assert done_before("run", *night("none", "truth=none")).code == 0
    assert [row["truth"] for row in metrics(done_before, "none")["rows"]] == ["injections"]


def test_a_wrong_table_stops_a_run_before_it_starts(place):
    (place.folder / "wrong.csv").write_text("ra,dec\n1,2\n3,north\n")
    ended = place("run", *night("wrong", "truth=wrong.csv"))
    assert ended.code == 2
    assert all(part in ended.err for part in ("wrong.csv", "row 2", "column dec", "'north'"))
    assert not (place.folder / "exposures").exists()
    assert "is not a file" in place("run", *night("typo", "truth=known_event")).err


def test_images_without_wcs_say_why_no_event_counts(place, images):
    from astropy.io import fits

    (place.folder / "in").mkdir()
    for path in images()[:3]:
        shutil.copy(path, place.folder / "in" / path.name)
        with fits.open(place.folder / "in" / path.name, mode="update") as file:
            for hdu in file:
                for key in ("CTYPE1", "CTYPE2"):
                    hdu.header.remove(key, ignore_missing=True)
    (place.folder / "mine.csv").write_text("ra,dec\n150,2.2\n")
    options = ("survey=directory", "survey.path=in", "grid.core=256", "cluster=inline", "name=plain", "truth=mine.csv")
    ended = place("run", *options)
    assert ended.code == 0, ended.out + ended.err
    assert "no WCS" in metrics(place, "plain")["notes"]["known_events"]
    ledger = read_table(place.run("plain") / "ledger.parquet", LEDGER).to_pylist()
    assert [row["status"] for row in ledger if row["step"] == "truth"] == ["skipped"]
    assert len([row for row in metrics(place, "plain")["rows"] if row["truth"] == "injections"]) == 1
