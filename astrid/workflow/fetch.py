"""Plan and fetch: what the archives have at the targets, and the files of what is missing."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from astrid.archives import ArchiveError, Download, Fetcher, NoCoverage, Permanent
from astrid.errors import CellSkipped, DataError, UsageError
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import read_json, write_json
from astrid.surveys.fetched import (
    FetchedSurvey,
    Place,
    Plan,
    Wanted,
    files_of,
    merged,
    read_registered,
    with_answers,
    write_registered,
)
from astrid.targets import Images, Selection, Target, Targets, summarise, tiles_of
from astrid.workflow.keys import Product
from astrid.workflow.limits import limiter_for
from astrid.workflow.runner import Outcome, Runner
from astrid.workflow.settings import Settings

logger = logging.getLogger(__name__)

PLACES_FILE = "places.json"
PLAN_THREADS = 4  # searches at a time; each service's own limit holds too


@dataclass(frozen=True)
class Fetch:
    """Fetch the files of one exposure, check them and register it."""

    survey: FetchedSurvey
    fetcher: Fetcher
    folder: Path

    def __call__(self, key: Wanted, ticket: Ticket | None) -> Product:
        """Register the exposure; nothing is recorded before all of its files are there."""
        fetched = {}
        for kind, download in key.files.items():
            try:
                fetched[kind] = self.fetcher.fetch(download)
            except (NoCoverage, Permanent) as error:
                if download.optional and not error.reason.startswith("status 403"):  # who bans has it nevertheless
                    logger.warning("%s goes without its %s: %s", key.exposure_id, kind, error)
                elif isinstance(error, NoCoverage):
                    raise CellSkipped(f"no coverage: {error}") from error
                else:
                    raise
        files = {kind: file.path for kind, file in fetched.items()}
        write_registered(self.folder, self.survey.register(with_answers(key, fetched), files))
        return Product()


@dataclass(frozen=True)
class Planned:
    """What would be fetched.

    Attributes
    ----------
    places : tuple of Place
        What was asked about.
    plan : Plan
        Exposures that the survey has and the rules keep.
    failed : mapping
        Why a place could not be planned, by its name.
    notes : tuple of str
        What the user should know of what was left out.
    """

    places: tuple[Place, ...]
    plan: Plan
    failed: dict[str, str]
    notes: tuple[str, ...]


def fetch(settings: Settings, runner: Runner, journal: Journal) -> None:
    """Fetch and register what the archives have at the targets and is not here yet.

    Raises
    ------
    DataError
        If there is nothing at all, or nothing could be asked.
    """
    fetcher = fetcher_of(settings, runner)
    runner.progress.start("plan", 1)
    planned = make_plan(settings, fetcher)
    known = journal.done("plan") | planned.failed.keys()
    rows = [Outcome("plan", place.name, "done").row() for place in planned.places if place.name not in known]
    if rows:
        journal.append(rows, {})
    for name, reason in planned.failed.items():
        runner.record("plan", name, "failed", reason, journal)
    runner.progress.finish("plan")
    for note in planned.notes:
        runner.progress.note(note)
    folder = settings.exposure_folder
    wanted = planned.plan.wanted
    write_json(settings.cube_folder / PLACES_FILE, [asdict(place) for place in planned.places])
    here = read_registered(folder)
    if not wanted and not here:
        raise DataError(nothing_planned(settings, planned))
    complete = {key for key, info in here.items() if all(path.exists() for path in files_of(info))}
    work = Fetch(survey_of(settings), fetcher, folder)
    skipped = journal.done("fetch", ["skipped"])
    asked_again = {one.exposure_id for one in wanted if one.exposure_id in skipped and may_be_there_now(one, fetcher)}
    again = ((journal.done("fetch", ["done"]) | here.keys()) - complete) | asked_again
    runner.run("fetch", work, wanted, journal, again=again)


def may_be_there_now(wanted: Wanted, fetcher: Fetcher) -> bool:
    """Return whether an exposure that was left out deserves another look: its "nothing there" is too old."""
    notes = [fetcher.cached(one) for one in wanted.files.values() if not one.optional]
    return None in notes and all(note is None or note["outcome"] == "ok" for note in notes)


def survey_of(settings: Settings) -> FetchedSurvey:
    """Return the survey of a run that fetches.

    Raises
    ------
    UsageError
        If it does not.
    """
    if not isinstance(settings.survey, FetchedSurvey) or settings.targets is None:
        name = settings.survey.name
        raise UsageError(f"survey={name} fetches nothing; this is for surveys of archives, such as survey=ztf")
    return settings.survey


def read_places(folder: Path) -> list[Place]:
    """Return the places of a cube whose survey fetches, in order; none for other surveys."""
    path = folder / PLACES_FILE
    return [Place(**row) for row in read_json(path)] if path.exists() else []


def fetcher_of(settings: Settings, runner: Runner) -> Fetcher:
    """Return the fetcher of a run, whose limits its workers share."""
    return Fetcher(settings.archive, limiter_for(settings.archive, runner.client))


def make_plan(settings: Settings, fetcher: Fetcher) -> Planned:
    """Ask the archives what they have, fetching no pixels; a place that cannot be asked about is noted."""
    survey, given = survey_of(settings), settings.targets or Targets(())
    targets, refused = settings.selection.of_targets(given)
    places = places_of(settings, targets)
    failed: dict[str, str] = {}
    notes = [str(one) for one in refused[:5]]
    if len(refused) > 5:
        notes.append(summarise(refused, len(given)))
    plans = []
    with ThreadPoolExecutor(PLAN_THREADS) as pool:
        asked = [(place, pool.submit(survey.plan, place, fetcher)) for place in places]
        for place, future in asked:
            try:
                plan, dropped = selected(future.result(), place, settings.selection)
            except (ArchiveError, DataError) as error:
                failed[place.name] = str(error)
                continue
            except (ValueError, TypeError, KeyError, IndexError) as error:  # a row with nothing where a number belongs
                logger.exception("the plan of %s", place.name)
                failed[place.name] = f"an answer of the archive has a row that does not read ({error!r}); see the log"
                continue
            plans.append(replace(plan, rejected=dict(Counter(plan.rejected) + dropped)))
    plan = merged(plans)
    notes += [f"{count} images left out: {reason}" for reason, count in sorted(plan.rejected.items())]
    return Planned(tuple(places), plan, failed, tuple(notes))


def selected(plan: Plan, place: Place, selection: Selection) -> tuple[Plan, Counter[str]]:
    """Keep the exposures that the rules of the mission keep; count the others by rule.

    The rules are about times, seeing and depth: what has no time is kept, and so is what has only a planned one; it is
    judged when its file is here.
    """
    timeless = tuple(one for one in plan.wanted if math.isnan(one.mjd) or one.mjd_is_planned)
    wanted = tuple(one for one in plan.wanted if not (math.isnan(one.mjd) or one.mjd_is_planned))
    images = Images(
        [one.exposure_id for one in wanted],
        [one.band for one in wanted],
        np.array([one.mjd for one in wanted], float),
        np.array([one.seeing_arcsec for one in wanted], float),
        np.array([one.limiting_magnitude for one in wanted], float),
    )
    keep, out = selection.of_images(images, mjd_min=place.mjd_min, mjd_max=place.mjd_max)
    dropped = Counter(f"selection.{one.rule}" for one in out)
    kept = tuple(one for one, stays in zip(wanted, keep, strict=True) if stays)
    return replace(plan, wanted=kept + timeless), dropped


def places_of(settings: Settings, targets: Targets) -> list[Place]:
    """Return the squares to look at, each a tile: one about each target that fits, several for a larger one.

    A point that lies well within the square of another target gets none of its own.
    """
    survey, (start, end) = survey_of(settings), settings.selection.mjd_range
    places: list[Place] = []
    taken: Counter[str] = Counter()
    scale = settings.grid.pixel_scale or survey.pixel_scale_arcsec
    margin = settings.grid.border * scale
    core = int(min(survey.largest_arcsec / scale, settings.grid.core or math.inf))
    reach = survey.cutout_arcsec / 2 / 3600
    for target in targets:
        low = max(start, -math.inf if target.mjd_min is None else target.mjd_min)
        high = min(end, math.inf if target.mjd_max is None else target.mjd_max)
        name = re.sub(r"[^\w.+-]+", "_", target.name).strip("_") or "target"
        taken[name] += 1
        name = name if taken[name] == 1 else f"{name}-{taken[name]}"
        size = 2 * 3600 * target.extent(reach)
        if size <= core * scale and not target.polygon:
            place = Place(name, target.ra, target.dec, max(size, survey.cutout_arcsec), margin, low, high)
            if not any(_within(target, other) and (other.mjd_min, other.mjd_max) == (low, high) for other in places):
                places.append(place)
            continue
        for tile in tiles_of(Targets((target,)), pixel_scale=scale, default_radius=reach, core=core, border=0):
            side = max(tile.core) * scale
            places.append(Place(f"{name}-t{tile.index:02d}", tile.ra, tile.dec, side, margin, low, high))
    return places


def _within(target: Target, place: Place) -> bool:
    """Return whether a point lies in the inner part of a square that is fetched anyway."""
    if target.radius is not None:
        return False
    north = abs(target.dec - place.dec) * 3600
    east = abs((target.ra - place.ra + 180) % 360 - 180) * math.cos(math.radians(place.dec)) * 3600
    return max(north, east) < place.size_arcsec / 4


def nothing_planned(settings: Settings, planned: Planned) -> str:
    """Say why there is nothing to fetch."""
    if planned.failed:
        name, reason = next(iter(planned.failed.items()))
        return f"survey {settings.survey.name}: {len(planned.failed)} of {len(planned.places)} places could not be" + (
            f" asked about; the first, {name}: {reason}"
        )
    rules = "; ".join(planned.notes) or "the archive has no image there"
    return f"survey {settings.survey.name}: nothing to fetch at {len(planned.places)} places: {rules}"


@dataclass(frozen=True)
class Amount:
    """Files and bytes of a part of a plan: in all, and those that are not in the cache."""

    exposures: int = 0
    files: int = 0
    size: int = 0
    missing_files: int = 0
    missing_size: int = 0
    exact: bool = True

    def plus(self, files: Sequence[Download], fetcher: Fetcher) -> Amount:
        """Add an exposure that brings files which no other has brought."""
        missing = [one for one in files if fetcher.cached(one) is None]
        return Amount(
            self.exposures + 1,
            self.files + len(files),
            self.size + sum(one.size or 0 for one in files),
            self.missing_files + len(missing),
            self.missing_size + sum(one.size or 0 for one in missing),
            self.exact and all(one.exact and one.size is not None for one in files),
        )

    def joined(self, other: Amount) -> Amount:
        """Add another part."""
        return Amount(
            self.exposures + other.exposures,
            self.files + other.files,
            self.size + other.size,
            self.missing_files + other.missing_files,
            self.missing_size + other.missing_size,
            self.exact and other.exact,
        )


def amounts(wanted: Iterable[Wanted], fetcher: Fetcher) -> dict[tuple[str, str], Amount]:
    """Count a plan by place and band."""
    found: dict[tuple[str, str], Amount] = {}
    seen: set[str] = set()  # several exposures may share a file
    for one in wanted:
        key = (one.place, one.band)
        own = [file for file in one.files.values() if fetcher.key(file) not in seen]
        seen |= {fetcher.key(file) for file in own}
        found[key] = found.get(key, Amount()).plus(own, fetcher)
    return found


def least_seconds(wanted: Sequence[Wanted], fetcher: Fetcher) -> float:
    """Return how long the missing files take at least, by the rate that each service allows."""
    files = {fetcher.key(one): one for each in wanted for one in each.files.values()}
    missing = Counter(one.service for one in files.values() if fetcher.cached(one) is None)
    return max((count * fetcher.archive.service(name).interval_s for name, count in missing.items()), default=0.0)
