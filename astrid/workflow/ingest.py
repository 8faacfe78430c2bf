"""Ingest: list the exposures of a survey and give each its epoch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from astrid.errors import DataError
from astrid.image import ExposureInfo
from astrid.schema import EXPOSURES, KNOWN_EVENTS
from astrid.stores.journal import Journal
from astrid.stores.tables import read_table, table_of, write_table
from astrid.surveys import ContextSurvey, StampSurvey
from astrid.surveys.fetched import FetchedSurvey
from astrid.workflow.fetch import fetch
from astrid.workflow.runner import Outcome, Runner
from astrid.workflow.settings import Settings

EVENTS_FILE = "known_events.parquet"
SAME_EPOCH_SECONDS = 0.5  # exposures of one band this close in time are one epoch


def ingest(settings: Settings, runner: Runner, journal: Journal) -> None:
    """List the exposures, number the epochs and write both to ``exposures.parquet``.

    A survey of an archive fetches what is missing before. A file that cannot be used
    is recorded and left out. Epochs keep their number when exposures are added later.

    Raises
    ------
    DataError
        If no exposure is left.
    """
    if isinstance(settings.survey, FetchedSurvey):
        fetch(settings, runner, journal)
    runner.progress.start("ingest", 1)
    listing = settings.survey.list_exposures(settings.exposure_folder)
    recorded = journal.done("ingest")
    for problem in listing.problems:
        runner.record("ingest", problem.path, "failed", problem.reason, journal)
    if not listing.exposures:
        first = f"; the first: {listing.problems[0].path}: {listing.problems[0].reason}" if listing.problems else ""
        raise DataError(f"survey {settings.survey.name}: none of {len(listing.problems)} files can be used{first}")
    path = settings.cube_folder / "exposures.parquet"
    known = read_exposures(path) if path.exists() else []
    if isinstance(settings.survey, ContextSurvey):
        epochs = [(info, 0) for info in listing.exposures]  # without a time there is one of each band
    else:
        number = number_epochs_by_object if isinstance(settings.survey, StampSurvey) else number_epochs
        epochs = number(listing.exposures, known)
    if [(info.exposure_id, epoch) for info, epoch in known] != [(info.exposure_id, epoch) for info, epoch in epochs]:
        write_exposures(epochs, path)
    new = [info.exposure_id for info, _ in epochs if info.exposure_id not in recorded]
    if new:
        journal.append([Outcome("ingest", key, "done").row() for key in new], {})
    events = settings.survey.known_events(settings.exposure_folder)
    if events is None:
        events = KNOWN_EVENTS.empty_table()
    write_table(settings.cube_folder / EVENTS_FILE, events, KNOWN_EVENTS)
    runner.progress.finish("ingest")


def number_epochs(
    exposures: Sequence[ExposureInfo], known: Sequence[tuple[ExposureInfo, int]] = ()
) -> list[tuple[ExposureInfo, int]]:
    """Give each exposure its epoch: the ordinal of its time within its band.

    Parameters
    ----------
    exposures : sequence of ExposureInfo
        All of them.
    known : sequence of (ExposureInfo, int)
        Epochs given earlier, which stay; new times come after them.
    """
    before = {info.exposure_id: epoch for info, epoch in known}
    following: dict[str, int] = {}
    at_time: dict[tuple[str, int], int] = {}
    for info, epoch in known:
        following[info.band] = max(following.get(info.band, 0), epoch + 1)
        at_time.setdefault((info.band, _slot(info)), epoch)
    numbered = []
    for info in sorted(exposures, key=lambda info: (info.mjd, info.exposure_id)):
        given = before.get(info.exposure_id)
        if given is not None:
            epoch = given
        else:
            near = [at_time.get((info.band, _slot(info) + step)) for step in (0, -1)]
            epoch = next((e for e in near if e is not None), following.get(info.band, 0))
        following[info.band] = max(following.get(info.band, 0), epoch + 1)
        at_time.setdefault((info.band, _slot(info)), epoch)
        numbered.append((info, epoch))
    return numbered


def number_epochs_by_object(
    exposures: Sequence[ExposureInfo], known: Sequence[tuple[ExposureInfo, int]] = ()
) -> list[tuple[ExposureInfo, int]]:
    """Give each alert its epoch among those of its object; see `number_epochs`."""
    given: dict[str, list[tuple[ExposureInfo, int]]] = {}
    alerts: dict[str, list[ExposureInfo]] = {}
    for info in exposures:
        alerts.setdefault(str(info.extra["object_id"]), []).append(info)
    for info, epoch in known:
        given.setdefault(str(info.extra["object_id"]), []).append((info, epoch))
    numbered = [pair for name, infos in alerts.items() for pair in number_epochs(infos, given.get(name, ()))]
    return sorted(numbered, key=lambda pair: (pair[0].mjd, pair[0].exposure_id))


def _slot(info: ExposureInfo) -> int:
    return round(info.mjd * 86400 / SAME_EPOCH_SECONDS)


def write_exposures(epochs: Iterable[tuple[ExposureInfo, int]], path: Path) -> None:
    """Write exposures and their epochs; the tiles come later."""
    rows = [
        {
            "exposure_id": info.exposure_id,
            "tile": -1,
            "epoch": epoch,
            "band": info.band,
            "mjd": info.mjd,
            "info": json.dumps(asdict(info)),
        }
        for info, epoch in epochs
    ]
    write_table(path, table_of(rows, EXPOSURES), EXPOSURES)


def read_exposures(path: Path) -> list[tuple[ExposureInfo, int]]:
    """Read what `write_exposures` wrote."""
    table = read_table(path, EXPOSURES)
    found = []
    for row in table.to_pylist():
        values = json.loads(row["info"])
        values["shape"] = tuple(values["shape"])
        found.append((ExposureInfo(**values), int(row["epoch"])))
    return found
