import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits

from astrid.errors import AlgorithmError
from tests.workflow.conftest import night

FOLDER = ("survey=directory", "survey.path=in", "grid.core=256", "cluster=inline", "name=bad")


@pytest.fixture
def folder(place):
    (place.folder / "in").mkdir()
    return place.folder / "in"


@pytest.fixture
def good(folder, images):
    for path in images()[:3]:
        shutil.copy(path, folder / path.name)
    return folder


def says(ended, *parts):
    """Check that a command failed with a short message of these parts and no traceback."""
    said = ended.out + ended.err
    assert ended.code != 0, said
    assert "Traceback" not in said
    for part in parts:
        assert part in said, said
    assert len(ended.err.splitlines()) <= 3, said


def failures(place):
    rows = pq.read_table(place.run("bad") / "ledger.parquet").to_pylist()
    return {row["key"]: row["reason"] for row in rows if row["status"] == "failed"}


def preprocessed(place):
    rows = pq.read_table(place.run("bad") / "ledger.parquet").to_pylist()
    return [row["status"] for row in rows if row["step"] == "preprocess"]


def test_an_empty_folder(place, folder):
    says(place("run", *FOLDER), "astrid: ", "in")


def test_a_path_that_does_not_exist(place):
    says(place("run", *FOLDER), "astrid: ", "in", "not")


def test_files_that_cannot_be_used_are_named_and_the_rest_is_done(place, good):
    (good / "text.fits").write_text("hello\n")
    whole = next(good.glob("sim_*.fits")).read_bytes()
    (good / "truncated.fits").write_bytes(whole[:30000])
    with fits.open(sorted(good.glob("sim_*.fits"))[0]) as opened:
        opened[0].data = np.full(opened[0].data.shape, np.nan, np.float32)
        opened[0].header["DATE-OBS"] = "2023-03-01T00:00:00"
        opened.writeto(good / "nan.fits")
    ended = place("preprocess", *FOLDER)
    says(ended, "text.fits", "truncated.fits", "nan")
    assert len(failures(place)) == 3
    assert preprocessed(place) == ["done"] * 3


def test_two_exposures_that_claim_one_cell_are_not_merged(place, good):
    first = sorted(good.glob("*.fits"))[0]
    shutil.copy(first, good / "twin.fits")
    ended = place("preprocess", *FOLDER)
    says(ended, "is taken by", "not merged")
    assert preprocessed(place) == ["done"] * 3
    again = place("preprocess", *FOLDER)
    assert again.code == 1  # still not used, still said


def test_a_single_epoch_is_skipped_with_the_reason(place, folder, images):
    shutil.copy(images()[0], folder)
    ended = place("run", *FOLDER)
    assert ended.code == 0, ended.out + ended.err
    rows = pq.read_table(place.run("bad") / "ledger.parquet").to_pylist()
    assert [row["reason"] for row in rows if row["step"] == "template"] == ["no template: 1 epoch"]
    assert {row["status"] for row in rows if row["step"] in ("subtract", "detect", "evaluate")} == {"skipped"}
    assert "no template: 1 epoch" in ended.out
    assert (place.run("bad") / "report.html").exists()


def test_a_cube_of_another_schema_version(place):
    words = night("bad", "store=zarr")
    assert place("preprocess", *words).code == 0
    cube = next(place.folder.glob("cubes/*/cube"))
    zarr.open_group(cube, mode="a")["cube"].attrs["schema_version"] = 999
    before = sorted(str(path) for path in cube.rglob("*"))
    says(place("subtract", *words), "schema version 999", "expected")
    assert sorted(str(path) for path in cube.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("run", "survey=simulatd"), ("simulatd", "simulated", "directory")),
        (("run", "detection.treshold=6"), ("detection.treshold", "detection.threshold")),
        (("run", "nonsense=1"), ("nonsense",)),
        (("run", "--nonsense"), ("--nonsense", "key=value")),
        (("run", "survey"), ("'survey'", "key=value")),
        (("runn",), ("no command 'runn'", "'run'")),
        (("run", "detection.threshold=-3"), ("threshold", "-3")),
        (("run", "grid.core=4"), ("grid.core", "16")),
        (("run", "keep=some"), ("keep", "some")),
        (("run", "survey.n_epochs=many"), ("n_epochs",)),
        (("run", "survey=directory"), ("survey.path",)),
        (("run", "cluster=address"), ("cluster.scheduler=",)),
        (("run", "name=a/b"), ("name", "a/b")),
        (("run", "survey.bands=[g"), ("survey.bands=[g",)),
        (("status", "absent"), ("absent",)),
        (("status",), ("no runs",)),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(place, words, parts):
    ended = place(*words)
    assert ended.code == 2
    says(ended, *parts)


def test_the_traceback_is_there_on_request_only(place):
    words = ("run", *FOLDER)
    assert "Traceback" not in place(*words).err
    assert "Traceback" in place(*words, "debug=true").err


def test_a_light_curve_that_fails_is_in_the_ledger_and_the_exit_code(place, good, monkeypatch):
    def refuse(*_):
        raise AlgorithmError("no photometry here")

    monkeypatch.setattr("astrid.workflow.detect.psf_flux", refuse)
    ended = place("detect", *FOLDER, "detection.threshold=3")
    assert ended.code == 1
    assert "no photometry here" in ended.out + ended.err
    rows = pq.read_table(place.run("bad") / "ledger.parquet").to_pylist()
    assert {row["status"] for row in rows if row["step"] == "light_curves"} == {"failed"}
