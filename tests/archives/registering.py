"""Fetch what a survey has at a place of the emulated sky, without a workflow."""

from dataclasses import replace
from pathlib import Path

from astrid.archives import Archive, Fetcher
from astrid.image import ExposureInfo
from astrid.surveys.fetched import FetchedSurvey, Place, with_answers, write_registered
from tests.archives.conftest import QUICK, public
from tests.archives.emulator import SERVICES, Emulator, Sky


def place_of(number: int = 0, *, size: float = 60.0, margin: float = 8.0, **changes: float) -> Place:
    """A square about the centre of a field."""
    name, ra, dec = Sky().centres[number]
    return replace(Place(name, ra, dec, size, margin), **changes)


def patient() -> dict[str, object]:
    """The services without waiting between requests, but with time for the emulator to draw."""
    quick = QUICK | {"timeout_s": 20.0, "deadline_s": 60.0}
    return {name: replace(service, **quick) for name, service in public().services.items()}


def register(
    survey: FetchedSurvey, fetcher: Fetcher, folder: Path, place: Place, most: int | None = None
) -> list[ExposureInfo]:
    """Plan, fetch and register; return what was registered."""
    found = []
    for wanted in survey.plan(place, fetcher).wanted[:most]:
        fetched = {kind: fetcher.fetch(download) for kind, download in wanted.files.items()}
        files = {kind: file.path for kind, file in fetched.items()}
        found.append(survey.register(with_answers(wanted, fetched), files))
        write_registered(folder, found[-1])
    return found


def registered(survey: FetchedSurvey, folder: Path, most: int | None = 3) -> list[ExposureInfo]:
    """The same with a server and a cache of its own in ``folder``."""
    with Emulator(SERVICES, Sky()) as server:
        archive = Archive(patient(), cache=str(folder / "cache"), base_url=server.url)
        return register(survey, Fetcher(archive), folder, place_of(), most)
