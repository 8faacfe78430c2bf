"""From targets to results through the emulator, with the command line."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from astrid import open_cube
from astrid.archives.cache import Cache
from astrid.archives.checks import FitsImage
from astrid.schema import LEDGER
from astrid.stores.tables import read_json, read_table
from astrid.surveys.fetched import REGISTERED, files_of, read_registered
from tests.archives.emulator.__main__ import write_tables
from tests.workflow.conftest import Place, kill

SERVICES = ("irsa", "ps1", "skyview", "hips2fits", "hips2fits_mirror")
QUICK = (
    *(f"archive.services.{name}.{key}" for name in SERVICES for key in ("interval_s=0", "backoff_s=0.01")),
    "debug=true",
)


@pytest.fixture
def place(tmp_path, emulator):
    """A folder with targets.csv and events.csv, to run commands in."""
    write_tables(emulator.sky, tmp_path)
    return Place(tmp_path)


def words(url, *more, targets="targets.csv", cluster="inline", name="run", survey="ztf"):
    """What is said on the command line."""
    asked = (
        f"survey={survey}",
        "archive=emulator",
        f"archive.base_url={url}",
        "archive.cache=cache",
        f"targets={targets}",
    )
    return (*asked, "survey.bands=[r]", "survey.cutout_arcsec=120", f"cluster={cluster}", f"name={name}", *QUICK, *more)


def statuses(place, step, name="run"):
    """Key and status of a step, from the ledger of a run."""
    rows = read_table(place.run(name) / "ledger.parquet", LEDGER).to_pylist()
    return {row["key"]: row["status"] for row in rows if row["step"] == step}


def registered(place):
    """The registered exposures of the only survey in a folder."""
    (folder,) = (place.folder / "exposures").iterdir()
    return read_registered(folder)


@pytest.mark.parametrize(
    ("survey", "n_images", "options", "cited"),
    [
        ("ztf", 6, ("selection.max_seeing_arcsec=4",), "Samuel Oschin"),
        ("ps1", 5, ("grid.pixel_scale=0.5",), "Pan-STARRS1 Surveys"),
    ],
)
def test_from_five_targets_to_the_transients_of_the_sky_with_one_command(
    survey, n_images, options, cited, place, emulator
):
    more = ("truth=events.csv", f"selection.max_images_per_band={n_images}", *options)
    ended = place("run", *words(emulator.fault("500x0", f"whole-{survey}"), *more, survey=survey))
    assert ended.code == 0, ended.out + ended.err
    assert len(statuses(place, "fetch")) == 5 * n_images
    assert set(statuses(place, "fetch").values()) == {"done"}
    objects = pq.read_table(place.run("run") / "objects.parquet").to_pandas()
    for event in emulator.sky.events():
        east = (objects["ra"] - event["ra"]) * np.cos(np.radians(event["dec"]))
        assert np.hypot(east, objects["dec"] - event["dec"]).min() * 3600 < 1.5, event["name"]
    rows = {row["truth"]: row for row in read_json(place.run("run") / "metrics.json")["rows"]}
    assert rows["known_events"]["recall"] >= 0.8
    assert rows["injections"]["recall"] > 0.6
    assert cited in (place.run("run") / "report.html").read_text()
    flux = {row["flux_unit"] for row in pq.read_table(place.run("run") / "candidates.parquet").to_pylist()}
    assert flux == {"nJy"}


CONE = "185.7288,15.8236"


def test_tess_and_hubble_give_the_transient_of_a_field_with_one_command_each(place, emulator):
    url = emulator.fault("500x0", "space")
    asked = ("archive=emulator", f"archive.base_url={url}", "archive.cache=cache", f"targets={CONE}", *QUICK)
    for survey, options, cited in (
        ("tess", ("survey.bin_hours=24",), "TESS mission"),
        ("hst", ("survey.cutout_arcsec=40",), "Hubble Space Telescope"),
    ):
        said = (f"survey={survey}", f"name={survey}", "cluster=inline", "truth=events.csv")
        ended = place("run", *said, "archive.services.mast.interval_s=0", *asked, *options)
        assert ended.code == 0, ended.out + ended.err
        rows = {row["truth"]: row for row in read_json(place.run(survey) / "metrics.json")["rows"]}
        assert rows["known_events"]["recall"] >= 0.7, survey
        assert rows["known_events"]["precision"] >= 0.7, survey
        assert rows["injections"]["n_true"] > 0, survey
        assert cited in (place.run(survey) / "report.html").read_text()


def test_a_second_run_asks_nothing(place, emulator):
    url = emulator.fault("500x0", "second")
    assert place("ingest", *words(url, targets=CONE)).code == 0
    before = len(emulator.requests())
    assert place("ingest", *words(url, targets=CONE)).code == 0
    assert place("ingest", *words(url, targets=CONE, name="other")).code == 0
    assert len(emulator.requests()) == before
    assert len(registered(place)) == 10


def test_a_list_of_exposures_that_was_lost_is_made_again_from_the_cache(place, emulator):
    url = emulator.fault("500x0", "lost-list")
    assert place("ingest", *words(url, targets=CONE)).code == 0
    before = len(emulator.requests())
    shutil.rmtree(place.folder / "exposures")
    ended = place("ingest", *words(url, targets=CONE))
    assert ended.code == 0, ended.out + ended.err
    assert len(registered(place)) == 10
    assert len(emulator.requests()) == before


def test_a_target_in_a_name_a_table_and_a_cone_is_the_same_place(place, emulator):
    url = emulator.fault("500x0", "words")
    (place.folder / "one.csv").write_text(f"name,ra,dec\nmine,{CONE}\n")
    for number, targets in enumerate(("one.csv", CONE, "185.7288, 15.8236, 1arcmin")):
        assert place("plan", *words(url, targets=targets, name=f"p{number}")).code == 0
    assert len(emulator.requests(text="/search/")) >= 1


def test_a_region_larger_than_a_square_becomes_several(place, emulator):
    url = emulator.fault("500x0", "region")
    said = words(url, "survey.largest_arcsec=120", "selection.max_images_per_band=2", targets=f"{CONE},90arcsec")
    ended = place("preprocess", *said)
    assert ended.code == 0, ended.out + ended.err
    tiles = read_json(next((place.folder / "cubes").glob("*/tiles.json")))
    assert len(tiles["tiles"]) == len(tiles["places"]) == 4
    assert set(statuses(place, "preprocess").values()) == {"done"}
    assert len(statuses(place, "preprocess")) == 8
    assert not statuses(place, "group")


def test_an_exposure_that_fails_stops_no_other_and_is_fetched_by_the_next_run(place, emulator):
    url = emulator.fault("404x1@sciimg.fits", "one-fails")
    ended = place("ingest", *words(url, targets=CONE))
    assert ended.code == 1
    assert sorted(statuses(place, "fetch").values()) == ["done"] * 9 + ["failed"]
    assert "404" in ended.out
    ended = place("ingest", *words(url, targets=CONE))
    assert ended.code == 0, ended.out + ended.err
    assert set(statuses(place, "fetch").values()) == {"done"}
    assert len(registered(place)) == 10


def test_an_exposure_without_coverage_is_skipped_with_the_reason(place, emulator):
    ended = place("ingest", *words(emulator.fault("emptyx1@sciimg.fits", "off"), targets=CONE))
    assert ended.code == 0, ended.out + ended.err
    assert sorted(statuses(place, "fetch").values()) == ["done"] * 9 + ["skipped"]
    assert "no coverage" in ended.out


@pytest.mark.parametrize("fault", ["html", "short", "500"])
def test_a_service_that_stumbles_once_is_not_noticed(fault, place, emulator):
    ended = place("ingest", *words(emulator.fault(f"{fault}x1@sciimg.fits", f"stumbles-{fault}"), targets=CONE))
    assert ended.code == 0, ended.out + ended.err
    assert len(registered(place)) == 10


def test_a_service_that_is_down_is_named(place, emulator):
    down = (emulator.fault("503", "down"), "archive.services.irsa.attempts=2")
    ended = place("ingest", *words(*down, targets=CONE))
    assert ended.code == 2
    assert "irsa: status 503" in ended.err
    assert "run the same command again later" in ended.err


def test_nothing_there_says_by_which_rule(place, emulator):
    url = emulator.fault("500x0", "nothing-there")
    ended = place("ingest", *words(url, "selection.max_seeing_arcsec=1", targets=CONE))
    assert ended.code == 2
    assert "selection.max_seeing_arcsec" in ended.err
    ended = place("ingest", *words(url, targets="266.4,-29.0", name="centre"))
    assert ended.code == 2
    assert "min_galactic_latitude" in ended.err


def test_a_survey_of_an_archive_needs_targets_and_others_take_none(place, emulator):
    ended = place("ingest", "survey=ztf")
    assert ended.code == 2
    assert "survey=ztf needs targets=" in ended.err
    ended = place("ingest", "targets=1,2")
    assert ended.code == 2
    assert "is for surveys of archives" in ended.err


def test_the_plan_counts_before_anything_is_fetched(place, emulator):
    url = emulator.fault("500x0", "plan")
    said = words(url, targets=CONE)
    ended = place("plan", *said)
    assert ended.code == 0, ended.err
    assert "│ r    │        10 │    30 │" in ended.out
    assert "estimated" in ended.out
    assert "1 images left out: not public (ipac_gid)" in ended.out
    assert not list((place.folder / "cache").glob("objects/*/*/*.fits"))
    planned = float(next(line for line in ended.out.splitlines() if "all " in line).split("~")[1].split()[0])
    before = Cache(place.folder / "cache").sizes().by_service["irsa"][0]
    assert before == 1  # the search alone
    assert place("ingest", *said).code == 0
    size = Cache(place.folder / "cache").sizes().size_bytes / 1e6
    assert planned == pytest.approx(size, rel=0.5)
    assert "│       0 │ ~0.0 MB │" in place("plan", *said).out.replace("        0", "       0")


def test_the_cache_is_reported_and_pruned(place, emulator):
    url = emulator.fault("500x0", "pruned")
    said = words(url, targets=CONE)
    assert place("ingest", *said).code == 0
    ended = place("cache", "archive.cache=cache")
    assert "irsa" in ended.out
    assert "31 answers" in ended.out
    assert place("cache", "archive.cache=cache", "prune=30").out.startswith("deleted 0 files")
    assert place("cache", "archive.cache=cache", "prune=0").out.startswith("deleted ")
    assert Cache(place.folder / "cache").sizes().files == 0
    ended = place("ingest", *said)  # what is gone from the cache is fetched again
    assert ended.code == 0, ended.out + ended.err
    assert all(path.exists() for info in registered(place).values() for path in files_of(info))
    assert place("cache", "archive.cache=cache", "prune=soon").code == 2
    assert place("cache", "archive.cache=cache", "service=irsa").code == 2


def test_dask_workers_fetch_within_the_limits(place, emulator):
    url = emulator.fault("500x0", "workers")
    emulator.most_running.clear()
    said = words(url, "cluster.n_workers=2", "archive.services.irsa.concurrency=1", targets=CONE, cluster="local")
    ended = place("ingest", *said)
    assert ended.code == 0, ended.out + ended.err
    assert len(registered(place)) == 10
    assert emulator.most_running["irsa"] == 1


PICTURES = ("survey=skyview", "survey.bands=[dss2_red,sdss_r,galex_nuv,wise_w1]")


def test_pictures_without_a_time_are_stored_and_never_subtracted(place, emulator):
    said = words(emulator.fault("500x0", "pictures"), *PICTURES, targets=f"{CONE};210.9107,54.3118")
    ended = place("run", *said)
    assert ended.code == 0, ended.out + ended.err
    assert set(statuses(place, "fetch").values()) == set(statuses(place, "preprocess").values()) == {"done"}
    assert len(statuses(place, "preprocess")) == 8
    for step in ("template", "subtract", "detect", "evaluate"):
        assert list(statuses(place, step).values()) == ["skipped"] * 8
    reason = "mosaics without a time (epoch): they are context, never subtracted"
    assert reason in ended.out
    report = (place.run("run") / "report.html").read_text()
    assert reason in report
    assert "sent by hips2fits" in report  # SkyView has no GALEX of the second field
    assert "SkyView facility" in report
    cube = open_cube(next((place.folder / "cubes").glob("*/cube")))
    assert cube.attrs["flux_unit"] == "as_sent"
    assert dict(cube.attrs["band_units"])["sdss_r"] == "nanomaggy"
    assert "never subtracted" in cube.attrs["context"]
    assert np.isnan(cube.mjd.values).all()
    assert float((cube.mask == 0).mean()) > 0.9
    assert pq.read_table(place.run("run") / "candidates.parquet").num_rows == 0
    assert read_json(place.run("run") / "metrics.json")["rows"] == []
    before = len(emulator.requests())
    assert place("run", *said).code == 0
    assert len(emulator.requests()) == before


def test_where_one_service_is_down_the_next_sends_the_picture(place, emulator):
    down = words(emulator.fault("503@basicform", "sky-down"), *PICTURES, targets=CONE)
    ended = place("ingest", *down, "archive.services.skyview.attempts=2", "survey.bands=[dss2_red]")
    assert ended.code == 0, ended.out + ended.err
    (info,) = registered(place).values()
    assert info.extra["answered"]["science"]["service"] == "hips2fits"
    assert info.extra["epoch"] is None


def test_images_of_the_own_archives_are_brought_to_the_tile_whatever_their_pixels(place, emulator):
    bands = ("sdss_r", "galex_nuv", "2mass_j", "wise_w1")
    own = ("survey.services=[own]", f"survey.bands=[{','.join(bands)}]", "survey.cutout_arcsec=80")
    said = words(emulator.fault("500x0", "sky-own"), *PICTURES, *own, targets="210.9107,54.3118")
    ended = place("run", *said)
    assert ended.code == 0, ended.out + ended.err
    assert set(statuses(place, "preprocess").values()) == {"done"}
    cube = open_cube(next((place.folder / "cubes").glob("*/cube")))
    infos = {info.band: info for info in registered(place).values()}
    assert set(infos) == set(bands)
    assert len({info.shape for info in infos.values()}) == 4  # each with pixels of its own
    assert float((cube.mask == 0).mean()) > 0.9
    report = (place.run("run") / "report.html").read_text()
    assert "Infrared Science Archive" in report
    assert "SkyView facility" not in report


def verify(place, emulator, url):
    """Every exposure of the plan is there once, with whole files, and the list has each once."""
    (folder,) = (place.folder / "exposures").iterdir()
    found = read_registered(folder)
    assert len(found) == 20
    assert len(list((folder / REGISTERED).glob("*.json"))) == 20
    for info in found.values():
        for path in files_of(info):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            FitsImage(needs_wcs=False, may_be_blank=True)(path)
    listed = pq.read_table(next((place.folder / "cubes").glob("*/exposures.parquet")))["exposure_id"].to_pylist()
    assert sorted(listed) == sorted(found)


def kill_and_resume(place, emulator, url, kills):
    """Kill the ingest at random moments, then let it end."""
    said = words(url, targets=f"{CONE};151.7120,1.6928")
    rng = np.random.default_rng(kills)
    for _ in range(kills):
        wanted = len(emulator.requests()) + int(rng.integers(1, 9))
        process = start(place, "ingest", *said)
        end = time.monotonic() + 60
        while len(emulator.requests()) < wanted and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.05)))
        kill(process)
    ended = place("ingest", *said)
    assert ended.code == 0, ended.out + ended.err
    verify(place, emulator, url)


def start(place, *said):
    """Start a command in a process group of its own."""
    repository = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", "from astrid.cli import main; main()", *said],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_an_ingest_that_is_killed_three_times_ends_with_every_file_once(place, emulator):
    kill_and_resume(place, emulator, emulator.fault("500x0", "killed-3"), 3)


@pytest.mark.slow
def test_an_ingest_that_is_killed_twenty_times_ends_with_every_file_once(place, emulator):
    kill_and_resume(place, emulator, emulator.fault("500x0", "killed-20"), 20)
