"""Catalogues of the archives about candidates, with the command line, through the emulator."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from astrid.detection.reference import CATALOGUES
from astrid.schema import CANDIDATES, OBJECTS
from astrid.stores.tables import read_table
from tests.archives.test_run import place, statuses, words
from tests.workflow.conftest import Place

__all__ = ["place"]
ASKED = ("vizier", "xmatch", "skybot", "sesame")
HURRIED = [
    f"archive.services.{name}.{key}" for name in ASKED for key in ("interval_s=0", "backoff_s=0.01", "attempts=2")
]
FEW = ("selection.max_images_per_band=4", "selection.max_seeing_arcsec=4", *HURRIED)


def detect(place: Place, url: str, *more: str, name: str = "run"):
    """Run until candidates have their matches."""
    return place("detect", *words(url, *FEW, *more, targets="field-a", name=name))


def status(place, name="run"):
    """What the candidates of a run say of each catalogue; all say the same here."""
    rows = read_table(place.run(name) / "candidates.parquet", CANDIDATES)
    said = [json.loads(text) for text in rows["match_status"].to_pylist()]
    assert said
    return {catalogue: {one[catalogue] for one in said} for catalogue in CATALOGUES}


def origins(place, name):
    """The origin of each object."""
    rows = read_table(place.run(name) / "objects.parquet", OBJECTS)
    return dict(zip(rows["object_id"].to_pylist(), rows["origin"].to_pylist(), strict=True))


def test_candidates_get_origin_and_matches_from_the_archives_with_one_word(place, emulator):
    url = emulator.fault("500x0", "matched")
    ended = place("run", *words(url, *FEW, "catalogues=vizier", targets="field-a"))
    assert ended.code == 0, ended.out + ended.err
    said = status(place)
    assert all(one <= {"matched", "no match", "empty"} for one in said.values())
    assert all(origins(place, "run").values())
    done = statuses(place, "crossmatch")
    assert done == {f"t0000/{name}": "done" for name in CATALOGUES}
    page = (place.run("run") / "report.html").read_text()
    for cited in ("VizieR catalogue access tool", "mission Gaia", "SkyBoT", "Samuel Oschin"):
        assert cited in page
    assert any(origin in page for origin in origins(place, "run").values())
    before = len(emulator.log)
    assert detect(place, url, "catalogues=vizier").code == 0
    again = detect(place, url, "catalogues=vizier", "crossmatch.max_sigma=3", name="other")  # other matches, same rows
    assert again.code == 0, again.out + again.err
    assert not [one for one in emulator.log[before:] if one.service in ASKED]
    assert detect(place, url, "catalogues=xmatch", name="uploaded").code == 0
    assert [one for one in emulator.log[before:] if one.service == "xmatch"]
    assert origins(place, "uploaded") == origins(place, "run")
    assert status(place, "uploaded") == said


def test_a_service_that_failed_stops_no_other_and_is_asked_again(place, emulator):
    url = emulator.fault("503x2@skybot", "failing")
    ended = detect(place, url, "catalogues=vizier")
    assert ended.code == 1
    said = status(place)
    assert said["skybot"] == {"failed"}
    assert said["gaia"] <= {"matched", "no match"}
    assert all(origins(place, "run").values())
    assert statuses(place, "crossmatch") == {f"t0000/{name}": "failed" if name == "skybot" else "done" for name in said}
    assert detect(place, url, "catalogues=vizier").code == 0
    assert status(place)["skybot"] <= {"matched", "no match", "empty"}


def test_objects_bring_the_light_curves_of_ztf_and_one_that_fails_stops_nothing(place, emulator):
    url = emulator.fault("500x2@nph_light_curves", "curves")
    more = (
        "catalogues=vizier",
        "catalogues.catalogues=[gaia]",
        "catalogues.light_curves=5",
        "archive.services.irsa.attempts=2",
    )
    assert detect(place, url, *more).code == 1
    assert "failed" in statuses(place, "context").values()
    assert detect(place, url, *more).code == 0
    rows = pq.read_table(place.run("run") / "ztf_light_curves.parquet").to_pandas()
    objects = read_table(place.run("run") / "objects.parquet", OBJECTS).to_pandas().set_index("object_id")
    assert len(rows) > 3
    assert set(rows["object_id"]) <= set(objects.index)
    away = objects.loc[rows["object_id"]]
    assert (
        np.hypot(rows["ra"].to_numpy() - away["ra"].to_numpy(), rows["dec"].to_numpy() - away["dec"].to_numpy()).max()
        < 3 / 3600
    )
    assert np.isfinite(rows["magnitude"]).all()


def test_not_asked_and_empty_are_two_things(place, emulator):
    ended = detect(
        place, emulator.fault("empty@vizier", "hollow"), "catalogues=vizier", "catalogues.catalogues=[gaia,ps1]"
    )
    assert ended.code == 0, ended.out + ended.err
    said = status(place)
    assert (said["gaia"], said["ps1"]) == ({"empty"}, {"empty"})
    assert (said["sdss"], said["skybot"]) == ({"not asked"}, {"not asked"})
    assert set(origins(place, "run").values()) == {None}  # nobody who could tell had anything there


@pytest.mark.parametrize("fault", ["html", "short"])
def test_answers_that_are_none_are_failures_and_no_empty_catalogue(fault, place, emulator):
    url = emulator.fault(f"{fault}x4@vizier", f"none-{fault}")
    assert detect(place, url, "catalogues=vizier", "catalogues.catalogues=[gaia,ps1]").code == 1
    assert (status(place)["gaia"], status(place)["ps1"]) == ({"failed"}, {"failed"})
    assert detect(place, url, "catalogues=vizier", "catalogues.catalogues=[gaia,ps1]").code == 0
    assert status(place)["gaia"] <= {"matched", "no match"}


def test_a_name_nobody_knows_is_told_from_a_name_service_that_is_down(place, emulator):
    ended = place("plan", *words(emulator.url, *FEW, targets="Nobody 17"))
    assert ended.code == 2
    assert "nor does the name service know it" in ended.err
    ended = place("plan", *words(emulator.fault("500@sesame", "nameless"), *FEW, targets="field-b"))
    assert ended.code == 2
    assert "the name service could not be asked: sesame: status 500" in ended.err
    asked = len(emulator.requests("sesame"))
    ended = place("plan", *words(emulator.url, *FEW, targets="M101"))  # ships
    assert len(emulator.requests("sesame")) == asked
