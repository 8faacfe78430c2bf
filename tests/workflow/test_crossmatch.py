import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid.cli import build, compose
from astrid.detection.reference import CATALOGUES
from astrid.errors import DataError
from astrid.schema import CANDIDATES, MATCH_COLUMNS, OBJECTS
from astrid.stores.tables import read_json, read_table
from astrid.workflow.catalogues import LocalCatalogues, Request, read_parquet
from tests.workflow.conftest import night

ARCSEC = 1 / 3600


def candidates(place, name):
    return read_table(place.run(name) / "candidates.parquet", CANDIDATES)


def write(folder, name, **columns):
    """A catalogue with the columns it must have, zero where not given."""
    folder.mkdir(exist_ok=True)
    n = len(next(iter(columns.values())))
    full = {column: [0.0] * n for column in CATALOGUES[name].required} | columns
    pq.write_table(pa.table(full), folder / f"{name}.parquet")


@pytest.fixture
def catalogued(done_before):
    """The small night beside catalogues of its own objects: stars in Gaia, galaxies beside in PS1, one asteroid."""
    objects = read_table(done_before.run("night") / "objects.parquet", OBJECTS).to_pylist()
    found = candidates(done_before, "night").to_pylist()
    star, host = objects[0], objects[1]
    moving = next(one for one in found if one["object_id"] not in (star["object_id"], host["object_id"]))
    folder = done_before.folder / "mine"
    far = {"ra": star["ra"] + 90 * ARCSEC, "dec": star["dec"]}
    write(
        folder, "gaia", Source=["1", "2"], RA_ICRS=[star["ra"], far["ra"]], DE_ICRS=[star["dec"], far["dec"]],
        Plx=[10.0, 10.0], e_Plx=[0.1, 0.1], Gmag=[17.0, 18.0],
    )  # fmt: skip
    write(
        folder, "ps1", objID=["3"], RAJ2000=[host["ra"]], DEJ2000=[host["dec"] + 2.5 * ARCSEC], imag=[18.0],
        iKmag=[17.0],
    )  # fmt: skip
    write(
        folder, "skybot", Name=["Ceres"], _RAJ2000=[moving["ra"]], _DECJ2000=[moving["dec"]], mjd=[moving["mjd"]],
        ErrPos=[0.1],
    )  # fmt: skip
    return done_before, star, host, moving


def test_objects_carry_their_origin_and_match_and_nothing_is_deleted(catalogued):
    place, star, host, moving = catalogued
    ended = place("run", *night("matched", "catalogues=local", "catalogues.path=mine"))
    assert ended.code == 0, ended.out + ended.err
    objects = {
        row["object_id"]: row for row in read_table(place.run("matched") / "objects.parquet", OBJECTS).to_pylist()
    }
    assert objects[star["object_id"]]["origin"] == "star"
    assert objects[star["object_id"]]["star_id"] == "1"
    assert objects[star["object_id"]]["star_catalogue"] == "gaia"
    assert objects[star["object_id"]]["star_separation"] < 0.01
    assert objects[star["object_id"]]["star_magnitude"] == 17.0
    assert objects[host["object_id"]]["origin"] == "galaxy offset"
    assert objects[host["object_id"]]["galaxy_separation"] == pytest.approx(2.5, abs=0.05)
    rows = {row["candidate_id"]: row for row in candidates(place, "matched").to_pylist()}
    assert rows[moving["candidate_id"]]["origin"] == "solar system"
    assert rows[moving["candidate_id"]]["asteroid_id"] == "Ceres"
    status = json.loads(rows[moving["candidate_id"]]["match_status"])
    assert set(status) == set(CATALOGUES)
    assert (status["skybot"], status["sdss"], status["allwise"]) == ("matched", "not asked", "not asked")
    before, after = candidates(place, "night"), candidates(place, "matched")
    plain = [name for name in before.column_names if name not in {column for column, *_ in MATCH_COLUMNS}]
    assert before.select(plain).equals(after.select(plain))
    page = (place.run("matched") / "report.html").read_text()
    assert "galaxy offset" in page
    assert "asteroid Ceres" in page
    assert "Nearest match" not in (place.run("night") / "report.html").read_text()


def test_a_second_run_matches_nothing_again_unless_the_rows_changed(catalogued):
    place, star, _, _ = catalogued
    words = night("matched", "catalogues=local", "catalogues.path=mine")
    assert place("detect", *words).code == 0
    first = candidates(place, "matched")
    made = {path: path.stat().st_mtime_ns for path in (place.run("matched") / "journal").glob("crossmatch-*/batch-*")}
    assert place("detect", *words).code == 0
    assert candidates(place, "matched").equals(first)
    again = {path: path.stat().st_mtime_ns for path in (place.run("matched") / "journal").glob("crossmatch-*/batch-*")}
    assert again == made
    write(place.folder / "mine", "gaia", Source=["9"], RA_ICRS=[star["ra"]], DE_ICRS=[star["dec"]], PSS=[0.9])
    assert place("detect", *words).code == 0
    assert "9" in candidates(place, "matched")["star_id"].to_pylist()


def test_a_catalogue_that_failed_is_told_from_one_not_asked_and_asked_again(catalogued):
    place, star, _, _ = catalogued
    whole = (place.folder / "mine" / "gaia.parquet").read_bytes()
    (place.folder / "mine" / "gaia.parquet").write_bytes(b"PAR1")
    words = night("matched", "catalogues=local", "catalogues.path=mine")
    ended = place("detect", *words)
    assert ended.code == 1
    rows = candidates(place, "matched").to_pylist()
    assert {json.loads(row["match_status"])["gaia"] for row in rows} == {"failed"}
    assert any(row["origin"] for row in rows)  # the others were asked
    ledger = pq.read_table(place.run("matched") / "ledger.parquet").to_pylist()
    (failed,) = [row for row in ledger if row["status"] == "failed"]
    assert (failed["step"], failed["key"]) == ("crossmatch", "t0000/gaia")
    assert "gaia.parquet" in failed["reason"]
    (place.folder / "mine" / "gaia.parquet").write_bytes(whole)
    assert place("detect", *words).code == 0
    objects = {
        row["object_id"]: row for row in read_table(place.run("matched") / "objects.parquet", OBJECTS).to_pylist()
    }
    assert objects[star["object_id"]]["origin"] == "star"


def test_nobody_is_asked_unless_told_and_the_configuration_is_as_before(done_before):
    row = candidates(done_before, "night").to_pylist()[0]
    assert all(row[name] is None for name, *_ in MATCH_COLUMNS)
    ledger = pq.read_table(done_before.run("night") / "ledger.parquet")
    assert "crossmatch" not in ledger["step"].to_pylist()
    kept = json.loads((done_before.run("night") / "configuration.json").read_text())
    assert "catalogues" not in kept


def test_catalogues_change_the_matches_and_no_candidate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", "ps1", objID=["1"])
    none, local, wider = (
        build(compose("run", words))
        for words in (
            [],
            ["catalogues=local", "catalogues.path=mine"],
            ["catalogues=local", "catalogues.path=mine", "crossmatch.search_arcsec=60"],
        )
    )
    assert none.detection_key == local.detection_key
    assert len({one.crossmatch_key for one in (none, local, wider)}) == 3
    assert local.catalogues.names == ("ps1",)


def test_images_without_a_wcs_are_skipped_with_the_reason(place, images):
    from astropy.io import fits

    folder = place.folder / "plain"
    folder.mkdir()
    for path in images():
        shutil.copy(path, folder)
    for path in folder.glob("*.fits"):
        with fits.open(path, mode="update") as hdus:
            for hdu in hdus:
                for key in [
                    key for key in hdu.header if key.startswith(("CTYPE", "CRVAL", "CRPIX", "CD", "CDELT", "PC"))
                ]:
                    del hdu.header[key]
    write(place.folder / "mine", "ps1", objID=["1"])
    ended = place(
        "detect", "survey=directory", "survey.path=plain", "grid.core=256", "cluster=inline", "name=plain",
        "catalogues=local", "catalogues.path=mine",
    )  # fmt: skip
    assert ended.code in (0, 1), ended.out + ended.err
    ledger = pq.read_table(place.run("plain") / "ledger.parquet").to_pylist()
    (row,) = [row for row in ledger if row["step"] == "crossmatch"]
    assert row["status"] == "skipped"
    assert "no WCS" in row["reason"]
    assert {row["origin"] for row in candidates(place, "plain").to_pylist()} <= {None}


def test_units_of_a_file_count_and_a_file_of_something_else_is_named(tmp_path):
    unit = {"e_RAJ2000": b"mas", "e_DEJ2000": b"mas"}
    names = (*CATALOGUES["ps1"].required, *unit)
    schema = pa.schema([pa.field(n, pa.float64(), metadata={"unit": unit[n]} if n in unit else None) for n in names])
    pq.write_table(pa.table({n: [50.0] for n in names}, schema=schema), tmp_path / "ps1.parquet")
    assert read_parquet(tmp_path / "ps1.parquet", "ps1").error[0] == pytest.approx(0.05)
    with pytest.raises(DataError, match=r"ps1.parquet: Gaia DR3: no column Source"):
        read_parquet(tmp_path / "ps1.parquet", "gaia")


def test_a_folder_without_catalogues_is_refused_with_the_names_of_its_files(tmp_path):
    with pytest.raises(DataError, match=r"holds none of gaia\.parquet"):
        _ = LocalCatalogues(str(tmp_path)).names
    with pytest.raises(ValueError, match="no catalogue 'simbad'"):
        LocalCatalogues(str(tmp_path), ["simbad"])
    with pytest.raises(DataError, match=r"ps1\.parquet is not a file"):
        LocalCatalogues(str(tmp_path), ["ps1"]).rows(Request("ps1", 1.0, 2.0, 0.1, ()))


def test_the_same_positions_in_another_order_match_the_same(catalogued):
    place = catalogued[0]
    path = place.folder / "mine" / "gaia.parquet"
    table = pq.read_table(path)
    assert place("detect", *night("matched", "catalogues=local", "catalogues.path=mine")).code == 0
    pq.write_table(table.take(np.arange(len(table))[::-1]), path)
    shutil.copytree(place.folder / "mine", place.folder / "turned")
    assert place("detect", *night("turned", "catalogues=local", "catalogues.path=turned")).code == 0
    assert candidates(place, "matched").equals(candidates(place, "turned"))


def test_false_alarms_at_catalogued_variables_are_ignored_and_counted(done_before):
    place = done_before
    found = candidates(place, "night").to_pylist()
    (before,) = {row["n_false"] for row in read_json(place.run("night") / "metrics.json")["rows"]}
    assert before > 0
    at = {"RA_ICRS": [row["ra"] for row in found], "DE_ICRS": [row["dec"] for row in found]}
    names = [str(number) for number in range(len(found))]
    write(place.folder / "variables", "gaia", Source=names, VarFlag=["VARIABLE"] * len(found), **at)
    ended = place("run", *night("flagged", "catalogues=local", "catalogues.path=variables"))
    assert ended.code == 0, ended.out + ended.err
    for row, plain in zip(
        *(read_json(place.run(name) / "metrics.json")["rows"] for name in ("flagged", "night")), strict=True
    ):
        assert row["n_false"] == 0
        assert row["n_ignored"] == plain["n_ignored"] + before
        assert row["recall"] == plain["recall"]
    page = (place.run("flagged") / "report.html").read_text()
    assert "detections at catalogued variables" in page
    assert sum(pq.read_table(place.run("flagged") / "cells.parquet")["n_false_alarms"].to_pylist()) == 0
