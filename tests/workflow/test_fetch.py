import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from astrid.archives import Archive, Download, Fetched, Fetcher, NoCoverage, Permanent
from astrid.archives.cache import Cache
from astrid.archives.checks import Content
from astrid.cli import build, compose
from astrid.errors import CellSkipped
from astrid.surveys.fetched import Place, Plan, Wanted
from astrid.surveys.ztf import Ztf
from astrid.targets import Selection
from astrid.workflow.fetch import Fetch, amounts, make_plan, may_be_there_now, selected

PLACE = Place("a", 150.0, 2.0, 60.0, mjd_min=59000.0, mjd_max=59010.0)
SERVICES = {"irsa": {"url": "https://irsa.ipac.caltech.edu", "interval_s": 2.0}}


def wanted(name: str, mjd: float = math.nan, **changes: object) -> Wanted:
    return Wanted(name, "a", "r", mjd, 30.0, {"science": Download("irsa", f"/{name}", size=100)}, **changes)


@pytest.fixture
def fetcher(tmp_path):
    return Fetcher(Archive(SERVICES, cache=str(tmp_path / "cache")))


def test_a_planned_time_is_not_held_against_an_exposure():
    plan = Plan(
        (
            wanted("late", 59030.0),
            wanted("planned", 59030.0, mjd_is_planned=True),
            wanted("in", 59005.0),
            wanted("picture"),
        )
    )
    kept, dropped = selected(plan, PLACE, Selection())
    assert {one.exposure_id for one in kept.wanted} == {"planned", "in", "picture"}
    assert sum(dropped.values()) == 1


def test_exposures_of_one_file_are_counted_as_one_file(fetcher):
    shared = {"science": Download("irsa", "/sector", size=1000)}
    plan = [replace(wanted(str(number)), files=shared) for number in range(5)] + [wanted("own")]
    (amount,) = amounts(plan, fetcher).values()
    assert (amount.exposures, amount.files, amount.size, amount.missing_files) == (6, 2, 1100, 2)


def remember_nothing(fetcher: Fetcher, download: Download, seconds: float) -> None:
    note = {"url": "https://x", "reason": "nothing there", "received_utc": "2026-01-01T00:00:00Z"}
    Cache(fetcher.archive.folder).add_no_coverage(download.service, fetcher.key(download), note, seconds)


@pytest.mark.parametrize(("seconds", "again"), [(3600.0, False), (-1.0, True)])
def test_nothing_there_is_asked_again_when_it_is_old(seconds, again, fetcher):
    one = wanted("x")
    remember_nothing(fetcher, one.files["science"], seconds)
    assert may_be_there_now(one, fetcher) == again


def test_an_exposure_without_its_image_is_not_asked_for_again_because_its_mask_never_was(fetcher):
    science = Download("irsa", "/x")
    one = replace(wanted("x"), files={"science": science, "mask": Download("irsa", "/m")})
    remember_nothing(fetcher, science, 3600.0)
    assert not may_be_there_now(one, fetcher)


@dataclass
class Answers:
    """A fetcher with one outcome for one kind of file."""

    outcome: Exception
    strikes: str
    folder: Path

    def fetch(self, download: Download) -> Fetched:
        if download.path == self.strikes:
            raise self.outcome
        path = self.folder / "file"
        path.write_bytes(b"x")
        return Fetched(path, {}, True)


class Registering:
    """Registers nothing but what files it was given."""

    name = "ztf"

    def register(self, key, files):
        raise StopIteration(sorted(files))


GONE = Permanent("irsa", "https://x", "status 404 (Not Found)")
BANNED = Permanent("irsa", "https://x", "status 403 (Forbidden)")
NOTHING = NoCoverage("irsa", "https://x", "nothing there: status 400")


@pytest.mark.parametrize(
    ("outcome", "optional", "ends_in"),
    [
        (GONE, True, StopIteration),
        (NOTHING, True, StopIteration),
        (BANNED, True, Permanent),  # a ban says nothing of the file
        (GONE, False, Permanent),
        (NOTHING, False, CellSkipped),
    ],
)
def test_an_exposure_goes_without_an_optional_file_that_is_not_there(outcome, optional, ends_in, tmp_path):
    files = {
        "science": Download("irsa", "/science", check=Content()),
        "template": Download("irsa", "/template", optional=optional),
    }
    work = Fetch(Registering(), Answers(outcome, "/template", tmp_path), tmp_path)
    with pytest.raises(ends_in) as caught:
        work(replace(wanted("x"), files=files), None)
    if ends_in is StopIteration:
        assert caught.value.args == (["science"],)


def test_a_row_of_an_archive_that_does_not_read_costs_one_place(tmp_path, monkeypatch):
    def plan(self, place, fetcher):
        if place.name == "bad":
            raise ValueError("could not convert string to float: ''")
        return Plan((wanted("x", 59000.0),))

    monkeypatch.setattr(Ztf, "plan", plan)
    table = tmp_path / "targets.csv"
    table.write_text("name,ra,dec\ngood,150.0,20.0\nbad,151.0,20.0\n")
    words = ["survey=ztf", f"targets={table}", "cluster=inline", f"archive.cache={tmp_path}"]
    settings = replace(build(compose("run", words)), root=tmp_path)
    planned = make_plan(settings, Fetcher(settings.archive))
    assert [one.exposure_id for one in planned.plan.wanted] == ["x"]
    assert "does not read" in planned.failed["bad"]
