"""Evaluate: what the run finds of transients put into its own pixels, and of known events."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astrid.detection import Detections, Detector
from astrid.detection.matched_filter import MatchedFilter
from astrid.detection.sources import Sources, find_sources
from astrid.errors import CellSkipped, DataError
from astrid.evaluation.alerts import judge_alert, summarise_alerts
from astrid.evaluation.cell import recover
from astrid.evaluation.completeness import completeness
from astrid.evaluation.false_peaks import learned_threshold_note, threshold_note
from astrid.evaluation.localization import localize
from astrid.evaluation.losses import lost_in
from astrid.evaluation.matching import Verdict, classify, match, match_radius
from astrid.evaluation.metrics import IGNORED_BELOW_SNR, Truths, metrics_row
from astrid.image import Difference, ExposureInfo, Image
from astrid.imaging.calibration import flux_per_electron, flux_scale_of
from astrid.imaging.psf import psf_fwhm
from astrid.schema import ALERTS, INJECTIONS, KNOWN_EVENTS, SCORED, MaskBit
from astrid.simulation.injections import (
    InjectionRecipe,
    Injections,
    inject,
    perturbed_psfs,
    plan_injections,
    psf_flux_error,
)
from astrid.simulation.seeds import seed_of
from astrid.skygrid import Tile
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import write_json, write_table
from astrid.surveys import StampSurvey, Survey
from astrid.workflow.detect import candidate_id, flux_at, to_table
from astrid.workflow.event_scores import event_scores
from astrid.workflow.images import GROUP, PROVIDED, Differences
from astrid.workflow.ingest import EVENTS_FILE, read_exposures
from astrid.workflow.keys import Cell, CellExposure, Product, digest
from astrid.workflow.preprocess import read_tiles
from astrid.workflow.protocol import apart, compared, scored_table
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Settings
from astrid.workflow.stamps import event_in, padded_to, with_usual_zero_points
from astrid.workflow.subtract import cells, difference_group, differences_of
from astrid.workflow.truth import NONE as NO_EVENTS
from astrid.workflow.truth import events_at_exposures, near_tiles, why_none_counts
from astrid.workflow.verdicts import COUNTS, VERDICTS, read_verdicts

logger = logging.getLogger(__name__)

TIMED_STEPS = ("measure", "preprocess", "template", "subtract", "detect")
SAME_TIME_DAYS = 1e-4

EVENTS = pa.schema(
    [
        ("detector", pa.string()),
        ("event_id", pa.string()),
        ("tile", pa.int32()),
        ("epoch", pa.int32()),
        ("band", pa.string()),
        *((name, pa.float64()) for name in ("y", "x", "flux", "snr", "dy", "dx", "iou")),
        ("mask_bits", pa.int32()),
        ("is_recovered", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Evaluate:
    """Search one cell twice, as it is and with injections, and compare with what is there."""

    differences: Differences
    detectors: tuple[Detector, ...]
    survey: Survey
    recipe: InjectionRecipe
    folder: Path
    difference_group: str
    flux_unit: str
    events: Path

    def __call__(self, key: CellExposure, ticket: Ticket | None) -> Product:
        """Return injections, known events, verdicts and counts as rows."""
        cell = key.cell
        science, template, _ = self.differences.inputs(cell)
        difference = self.differences.of(cell, science, template)
        tile = read_tiles(self.folder)[cell.tile]
        events = self._events(cell, tile, difference)
        plain = {one.name: own(one(difference), tile) for one in self.detectors}
        tables: dict[str, list[pa.Table]] = {
            name: [] for name in ("injections", "found", "events", "verdicts", "counts")
        }
        n_duplicates = dict.fromkeys(plain, 0)
        sources = find_sources(template)
        truths = self._plan(key, science, difference, tile, events)
        if truths is not None and len(truths):
            changed = self.differences.made(self._injected(key, science, truths), template).difference
            for one in self.detectors:
                rows, found, extra = injection_rows(
                    truths, one(changed), changed, cell, tile, one, self.flux_unit, sources
                )
                tables["injections"].append(rows)
                tables["found"].append(found)
                n_duplicates[one.name] += extra
        radius = match_radius(psf_fwhm(difference.psf))
        for name, found in plain.items():
            verdict = classify(
                found.y,
                found.x,
                found.rank,
                radius=radius,
                known=events.bright,
                ignored=events.faint,
                excused=is_on_streak(found, difference),
            )
            near_star = sources.is_near_star(found.y, found.x)
            tables["verdicts"].append(verdict_rows(name, found, verdict, near_star, cell, self.difference_group))
            tables["events"].append(event_rows(name, events, found, difference, cell))
            count = {
                "detector": [name],
                **_cell_columns(cell, 1),
                "n_detections": [len(found)],
                "n_false": [int(np.sum(verdict == Verdict.FALSE))],
                "n_false_near_stars": [int(np.sum((verdict == Verdict.FALSE) & near_star))],
                "n_ignored": [int(np.sum(verdict == Verdict.IGNORED))],
                "n_duplicates": [n_duplicates[name]],
                "megapixels": [searched_megapixels(difference, tile)],
            }
            tables["counts"].append(to_table(count, COUNTS))
        if isinstance(self.survey, StampSurvey):
            tables["alerts"] = [self._alert(self.survey, key, difference, template)]
        return Product(tables={name: pa.concat_tables(rows) for name, rows in tables.items() if rows})

    def _alert(self, survey: StampSurvey, key: CellExposure, difference: Difference, template: Image) -> pa.Table:
        """Return the row of an alert: its own difference beside the survey's."""
        info, extra = key.info, key.info.extra
        shape = difference.flux.shape[0], difference.flux.shape[1]
        y, x = event_in(shape, info)
        try:
            theirs = padded_to(survey.read_difference(info), shape).flux * np.float32(flux_scale_of(info)[0])
        except DataError as error:
            logger.warning("alert %s: no difference of the survey: %s", info.exposure_id, error)
            theirs = None
        result = judge_alert(
            difference,
            template,
            theirs,
            y,
            x,
            is_negative=bool(extra["is_negative"]),
            threshold=_sigma(self.detectors[0]),
        )
        probability = float("nan")
        if not isinstance(self.detectors[0], MatchedFilter):
            scored = event_scores(self.detectors[:1], difference, y, x, is_negative=bool(extra["is_negative"]))
            probability = scored[self.detectors[0].name].probability
        said = {
            "exposure_id": info.exposure_id,
            "object_id": str(extra["object_id"]),
            "mjd": info.mjd,
            "kind": survey.kind_of(info),
            "flux_unit": self.flux_unit,
            "y": y,
            "x": x,
            "score": None if np.isnan(probability) else probability,
            **{name: extra.get(name) for name in ("label", "label_basis")},
            **{name: extra.get(name) for name in ("survey_significance", "survey_flux", "survey_score", "is_dipole")},
        }
        columns = {name: [value] for name, value in {**said, **asdict(result)}.items()}
        return to_table({**columns, **_cell_columns(key.cell, 1)}, ALERTS)

    def _plan(
        self, key: CellExposure, science: Image, difference: Difference, tile: Tile, events: EventsHere
    ) -> Injections | None:
        """Say what to inject; None where nothing fits but known events are there to judge by.

        Raises
        ------
        CellSkipped
            If nothing fits and no events are known.
        """
        seed = seed_of(self.recipe.seed, key.info.exposure_id, str(key.cell))
        box = (tile.border, tile.border + tile.core[0], tile.border, tile.border + tile.core[1])
        places = np.concatenate([events.bright, events.faint])
        try:
            return plan_injections(science, difference, seed=seed, core=box, avoid=places, recipe=self.recipe)
        except CellSkipped as error:
            if not len(places):
                raise
            logger.warning("%s is judged by known events alone: %s", key.cell, error)
            return None

    def _injected(self, key: CellExposure, science: Image, truths: Injections) -> Image:
        scale = float(self.differences.reader.numbers(GROUP)["flux_scale"][key.cell.index])
        return injected(key, science, truths, self.recipe, self.survey, scale)

    def _events(self, cell: Cell, tile: Tile, difference: Difference) -> EventsHere:
        """Return the known events in the core of a cell and how bright they are in its difference."""
        table = read_events(str(self.events), self.events.stat().st_mtime_ns)
        if not len(table) or tile.frame != "sky":
            return EventsHere.none()
        mjd = self.differences.reader.numbers(GROUP)["mjd"][cell.tile, :, cell.band_index]
        ids, ra, dec, fluxes = fluxes_at(table, cell.band, mjd)
        y, x = tile.to_pixel(ra[:, cell.epoch], dec[:, cell.epoch])
        keep = tile.in_core(y, x)
        ids, y, x = [i for i, k in zip(ids, keep, strict=True) if k], y[keep], x[keep]
        fluxes, ra, dec = fluxes[keep], ra[keep], dec[keep]
        # what has moved on is not in the template at this place
        away = np.hypot((ra - ra[:, [cell.epoch]]) * np.cos(np.radians(dec)), dec - dec[:, [cell.epoch]])
        there = np.where(away * 3600 < tile.pixel_scale, fluxes, 0.0)
        expected = fluxes[:, cell.epoch] - self._template_flux(cell, there)
        error = np.array([psf_flux_error(difference.variance, difference.psf, *at) for at in zip(y, x, strict=True)])
        return EventsHere(tuple(ids), y, x, expected, np.abs(expected) / error if len(y) else expected)

    def _template_flux(self, cell: Cell, fluxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the flux that known events have in the template of a cell."""
        group = self.differences.templates.group
        if group == PROVIDED:
            return np.zeros(len(fluxes))
        text = str(self.differences.reader.numbers(group)["weights"][cell.tile, cell.band_index])
        weights = {int(epoch): float(weight) for epoch, weight in json.loads(text or "{}").items()}
        weights = {epoch: weight for epoch, weight in weights.items() if epoch != cell.epoch} or {cell.epoch: 1.0}
        values = fluxes[:, list(weights)]
        return np.asarray(np.average(np.nan_to_num(values), axis=1, weights=list(weights.values())), float)


@dataclass(frozen=True, eq=False)
class EventsHere:
    """Known events in a cell: where, expected flux in the difference, and its S/N (NaN where unknown)."""

    ids: tuple[str, ...]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux: NDArray[np.float64]
    snr: NDArray[np.float64]

    @classmethod
    def none(cls) -> EventsHere:
        """No events."""
        empty = np.empty(0)
        return cls((), empty, empty, empty, empty)

    @property
    def bright(self) -> NDArray[np.float64]:
        """Positions of those that count: a detection there is true."""
        keep = ~(self.snr < IGNORED_BELOW_SNR)
        return np.column_stack([self.y[keep], self.x[keep]])

    @property
    def faint(self) -> NDArray[np.float64]:
        """Positions of those too faint to count: a detection there is neither true nor false."""
        keep = self.snr < IGNORED_BELOW_SNR
        return np.column_stack([self.y[keep], self.x[keep]])


@lru_cache(maxsize=2)
def read_events(path: str, changed: int) -> pa.Table:
    """Return the known events of a run; ``changed`` is when the file was written."""
    return pq.read_table(path)


def write_events(
    settings: Settings, infos: Sequence[ExposureInfo], flux_unit: str, runner: Runner, journal: Journal
) -> str:
    """Write the known events that a run is judged by; return why none of the user's counts, empty where some do."""
    events, note = KNOWN_EVENTS.empty_table(), ""
    if settings.user_events is not None:
        tiles = read_tiles(settings.cube_folder)
        note = why_none_counts(settings.user_events, tiles)
        events = events_at_exposures(near_tiles(settings.user_events, tiles), infos, flux_unit)
        if note and not _is_recorded(journal, note):
            runner.record("truth", settings.truth, "skipped", note, journal)
    elif settings.truth != NO_EVENTS:
        events = pq.read_table(settings.cube_folder / EVENTS_FILE)
    write_table(settings.run_folder / EVENTS_FILE, events, KNOWN_EVENTS)
    return note


def _is_recorded(journal: Journal, note: str) -> bool:
    return note in journal.ledger()["reason"].to_pylist()


def fluxes_at(
    table: pa.Table, band: str, mjd: NDArray[np.float64]
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return ids and the (n_events, n_epochs) ra, dec and fluxes of known events at the times of a series.

    An event without band or time counts at every epoch with unknown (NaN) flux.
    """
    here = table.filter(pc.or_kleene(pc.equal(table["band"], band), pc.is_null(table["band"])))
    ids = here["event_id"].to_pylist()
    times, values, ra, dec = (
        here[name].to_numpy(zero_copy_only=False).astype(float) for name in ("mjd", "flux", "ra", "dec")
    )
    rows: dict[str, int] = {}
    for event in ids:
        rows.setdefault(event, len(rows))
    place = np.array([rows[event] for event in ids], int)
    fluxes = np.zeros((len(rows), len(mjd)))
    sky = np.full((2, len(rows), len(mjd)), np.nan)
    sky[:, place] = np.stack([ra, dec])[:, :, None]
    fluxes[place[np.isnan(times)]] = np.nan
    for epoch, when in enumerate(mjd):
        same = np.abs(times - when) < SAME_TIME_DAYS
        fluxes[place[same], epoch] = values[same]
        sky[:, place[same], epoch] = ra[same], dec[same]
    return list(rows), sky[0], sky[1], fluxes


def own(found: Detections, tile: Tile) -> Detections:
    """Keep the detections that a tile owns."""
    return found.chosen(tile.in_core(found.y, found.x))


def is_on_streak(found: Detections, difference: Difference) -> NDArray[np.bool_]:
    """Return which detections lie on a streak: on masked pixels, they are neither true nor false."""
    pixels = np.rint(found.y).astype(int), np.rint(found.x).astype(int)
    return np.asarray((difference.mask[pixels] & MaskBit.STREAK) != 0, bool)


def searched_megapixels(difference: Difference, tile: Tile) -> float:
    """Return the unmasked area of a core, in megapixels; streaks are masked."""
    b = tile.border
    core = difference.mask[b : b + tile.core[0], b : b + tile.core[1]]
    return float(np.sum(core == 0) / 1e6)


def _cell_columns(cell: Cell, n: int) -> dict[str, Any]:
    return {"tile": [cell.tile] * n, "epoch": [cell.epoch] * n, "band": [cell.band] * n}


def injection_rows(
    truths: Injections,
    everything: Detections,
    difference: Difference,
    cell: Cell,
    tile: Tile,
    detector: Detector,
    flux_unit: str,
    sources: Sources,
) -> tuple[pa.Table, pa.Table, int]:
    """Match the detections that a tile owns to injections.

    Returns
    -------
    (injections, detections at them, number of second detections)
    """
    n, found = len(truths), own(everything, tile)
    fwhm = psf_fwhm(difference.psf)
    result = recover(
        truths.y,
        truths.x,
        truths.snr,
        truths.mask_bits,
        found.y,
        found.x,
        found.significance,
        fwhm=fwhm,
        footprints=found.footprint,
        score=found.score,
    )
    hit = result.truths.is_recovered
    which = result.matches.detection[hit]
    place: dict[str, NDArray[np.float64]] = {name: np.full(n, np.nan) for name in ("y", "x", "significance", "flux")}
    for name in ("y", "x", "significance"):
        place[name][hit] = getattr(found, name)[which]
    place["flux"][hit] = flux_at(difference, place["y"][hit], place["x"][hit]).flux
    positive = everything.significance > 0
    lost = lost_in(
        truths.y,
        truths.x,
        truths.mask_bits,
        hit,
        difference.significance,
        difference.unusable == 0,
        everything.y[positive],
        everything.x[positive],
        threshold=_sigma(detector),
        radius=match_radius(fwhm),
    )
    ra, dec = tile.to_sky(truths.y, truths.x)
    rows = {
        "injection_id": [digest(str(cell), i, truths.seed, length=16) for i in range(n)],
        **_cell_columns(cell, n),
        "y": truths.y,
        "x": truths.x,
        "ra": ra,
        "dec": dec,
        "flux": truths.flux,
        "flux_unit": [flux_unit] * n,
        "snr": truths.snr,
        "host": list(truths.host),
        "mask_bits": truths.mask_bits,
        "seed": [truths.seed] * n,
        "detector": [detector.name] * n,
        "recovered_by": [detector.name if h else None for h in hit],
        "lost_in": lost,
        "recovered_y": place["y"],
        "recovered_x": place["x"],
        "recovered_significance": place["significance"],
        "recovered_flux": place["flux"],
        "iou": result.truths.iou,
        "is_near_star": sources.is_near_star(truths.y, truths.x),
    }
    counted = result.matches.is_matched & result.truths.is_counted[result.matches.truth]
    said = np.where(result.is_duplicate, "duplicate", np.where(counted, "true", "ignored"))
    at_one = np.flatnonzero(result.is_duplicate | result.matches.is_matched)
    near = found.chosen(at_one)
    scored = scored_rows(detector.name, near, said[at_one], sources.is_near_star(near.y, near.x), cell)
    return to_table(rows, INJECTIONS), scored, result.n_duplicates


def _sigma(detector: Detector) -> float:
    """Return the significance that a detector asks for; that of the matched filter where it asks for something else."""
    return detector.threshold if isinstance(detector, MatchedFilter) else MatchedFilter().threshold


def scored_rows(
    detector: str,
    found: Detections,
    verdict: Sequence[str] | NDArray[np.str_],
    near_star: NDArray[np.bool_],
    cell: Cell,
) -> pa.Table:
    """Say what detections of the pass with injections are."""
    n = len(found)
    rows = {
        "detector": [detector] * n,
        **_cell_columns(cell, n),
        "y": found.y,
        "x": found.x,
        "significance": found.significance,
        "score": [None] * n if found.score is None else found.score,
        "verdict": [str(v) for v in verdict],
        "is_near_star": near_star,
        "is_injected": [True] * n,
    }
    return to_table(rows, SCORED)


def event_rows(detector: str, events: EventsHere, found: Detections, difference: Difference, cell: Cell) -> pa.Table:
    """Match detections to known events."""
    n, fwhm = len(events.ids), psf_fwhm(difference.psf)
    # a fading event is negative against a template that holds it: the sign does not matter here
    matches = match(events.y, events.x, found.y, found.x, np.abs(found.significance), radius=match_radius(fwhm))
    hit = matches.is_recovered
    which = matches.detection[hit]
    dy, dx, iou = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    dy[hit], dx[hit] = found.y[which] - events.y[hit], found.x[which] - events.x[hit]
    prints = None if found.footprint is None else tuple(found.footprint[i] for i in which)
    iou[hit] = localize(events.y[hit], events.x[hit], found.y[which], found.x[which], fwhm=fwhm, footprints=prints)
    pixels = np.rint(events.y).astype(int), np.rint(events.x).astype(int)
    rows = {
        "detector": [detector] * n,
        "event_id": list(events.ids),
        **_cell_columns(cell, n),
        "y": events.y,
        "x": events.x,
        "flux": events.flux,
        "snr": events.snr,
        "dy": dy,
        "dx": dx,
        "iou": iou,
        "mask_bits": difference.mask[pixels].astype(np.int32),
        "is_recovered": hit,
    }
    return to_table(rows, EVENTS)


def verdict_rows(
    detector: str,
    found: Detections,
    verdict: NDArray[np.int8],
    near_star: NDArray[np.bool_],
    cell: Cell,
    difference_group: str,
) -> pa.Table:
    """Say what each detection of the pass without injections is."""
    n = len(found)
    rows = {
        "detector": [detector] * n,
        "candidate_id": [
            candidate_id(cell, detector, difference_group, y, x) for y, x in zip(found.y, found.x, strict=True)
        ],
        **_cell_columns(cell, n),
        "y": found.y,
        "x": found.x,
        "significance": found.significance,
        "score": [None] * n if found.score is None else found.score,
        "verdict": [Verdict(v).name.lower() for v in verdict],
        "is_near_star": near_star,
    }
    return to_table(rows, VERDICTS)


def evaluate(settings: Settings, runner: Runner, journal: Journal, ledger: pa.Table) -> dict[str, Any]:
    """Run both passes on every cell and write ``metrics.json`` and ``injections.parquet``.

    Parameters
    ----------
    settings, runner, journal
        Of the run.
    ledger : table
        Of the earlier steps: CPU seconds come from it.

    Returns
    -------
    dict
        What ``metrics.json`` holds.
    """
    layout = settings.cube_store.layout(GROUP)
    differences = differences_of(settings)
    keys = with_exposures(settings, cells(settings, layout.bands))
    detectors: tuple[Detector, ...] = (settings.detection,)
    if settings.detection.name != "matched_filter":
        detectors = (settings.detection, MatchedFilter())
    work = Evaluate(
        differences,
        detectors,
        settings.survey,
        settings.evaluation,
        settings.cube_folder,
        difference_group(settings),
        layout.flux_unit,
        settings.run_folder / EVENTS_FILE,
    )
    infos = [info for info, _ in listed_exposures(settings)]
    unplaced = write_events(settings, infos, layout.flux_unit, runner, journal)
    runner.run("evaluate", work, keys, journal)
    injections = journal.table("injections", INJECTIONS)
    events, (verdicts, counts) = journal.table("events", EVENTS), read_verdicts(settings, journal)
    write_table(settings.run_folder / "injections.parquet", injections, INJECTIONS)
    scored = scored_table(verdicts, journal.table("found", SCORED))
    write_table(settings.run_folder / "scored.parquet", scored, SCORED)
    seconds = cpu_seconds(ledger, counts)
    rows, curves = [], {}
    for one in detectors:
        counted = counts.filter(pc.equal(counts["detector"], one.name))
        common: dict[str, Any] = {
            "dataset": settings.survey.name,
            "subtraction": settings.word("subtraction"),
            "detector": one.name,
            "n_false": int(pc.sum(counted["n_false"]).as_py() or 0),
            "n_false_near_stars": int(pc.sum(counted["n_false_near_stars"]).as_py() or 0),
            "n_ignored": int(pc.sum(counted["n_ignored"]).as_py() or 0),
            "n_images": len(counted),
            "megapixels": float(pc.sum(counted["megapixels"]).as_py() or 0.0),
            "cpu_seconds": seconds,
            "threshold": one.threshold,
            "is_preselected": isinstance(settings.survey, StampSurvey),
        }
        put_in = injections.filter(pc.equal(injections["detector"], one.name))
        if len(put_in):
            second = int(pc.sum(counted["n_duplicates"]).as_py() or 0)
            injected = truths_of_injections(put_in)
            row = metrics_row(injected, truth="injections", n_duplicates=second, **common)
            rows.append(row)
            usable = ~injected.is_masked
            curves[one.name] = completeness(injected.snr[usable], injected.is_recovered[usable]).as_dict()
        known = events.filter(pc.equal(events["detector"], one.name))
        if len(known):
            rows.append(metrics_row(truths_of_events(known), truth="known_events", **common))
    notes = {
        "threshold": note_on(settings, differences, rows),
        "seconds": "CPU seconds of preprocess + subtract + detect, of the pass without injections, per cell",
    }
    if unplaced:
        notes["known_events"] = unplaced
    metrics: dict[str, Any] = {"rows": rows, "notes": notes, "completeness": curves}
    if len(injections):
        zero_point = settings.cube_store.reader().numbers(GROUP)["zero_point"]
        metrics["completeness_apart"] = apart(injections, zero_point, layout.bands)
    if len(injections) and not isinstance(settings.survey, StampSurvey):
        metrics.update(compared([one.name for one in detectors], scored, injections, counts))
    if isinstance(settings.survey, StampSurvey):
        alerts = journal.table("alerts", ALERTS)
        order = [("object_id", "ascending"), ("mjd", "ascending")]
        write_table(settings.run_folder / "alerts.parquet", alerts.sort_by(order), ALERTS)
        metrics["alerts"] = summarise_alerts(alerts.to_pydict())
    write_json(settings.run_folder / "metrics.json", metrics)
    return metrics


def listed_exposures(settings: Settings) -> list[tuple[ExposureInfo, int]]:
    """Return the exposures of a run's cube and their epochs."""
    return with_usual_zero_points(read_exposures(settings.cube_folder / "exposures.parquet"))


def with_exposures(settings: Settings, some: Sequence[Cell]) -> list[CellExposure]:
    """Return cells with the exposure that each holds."""
    ids = settings.cube_store.reader().numbers(GROUP)["exposure_id"]
    infos = {info.exposure_id: info for info, _ in listed_exposures(settings)}
    return [CellExposure(cell, infos[str(ids[cell.index])]) for cell in some]


def injected(
    key: CellExposure, science: Image, truths: Injections, recipe: InjectionRecipe, survey: Survey, flux_scale: float
) -> Image:
    """Put transients into a science image, with the PSF and the photon noise that it has."""
    rng = np.random.default_rng(seed_of(truths.seed, "pixels"))
    psf = survey.true_psf(key.info, (science.psf.shape[0], science.psf.shape[1]))
    if psf is None:
        psf = perturbed_psfs(science, truths, recipe.psf_uncertainty, rng)
    slope = flux_per_electron(key.info)
    return inject(science, truths, psf, rng=rng, variance_per_flux=None if slope is None else slope * flux_scale)


def truths_of_injections(table: pa.Table) -> Truths:
    """Return the injections of one detector as truths."""
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    hit = np.array([name is not None for name in table["recovered_by"].to_pylist()], bool)
    return Truths(
        column["snr"],
        column["mask_bits"],
        hit,
        column["iou"],
        column["recovered_y"] - column["y"],
        column["recovered_x"] - column["x"],
    )


def truths_of_events(table: pa.Table) -> Truths:
    """Return the known events of one detector as truths."""
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return Truths(
        column["snr"],
        column["mask_bits"],
        column["is_recovered"].astype(bool),
        column["iou"],
        column["dy"],
        column["dx"],
    )


def cpu_seconds(ledger: pa.Table, counts: pa.Table) -> float | None:
    """Return the CPU seconds of the timed steps, None where none were recorded."""
    timed = ledger.filter(pc.is_in(ledger["step"], value_set=pa.array(TIMED_STEPS)))
    total = pc.sum(timed["cpu_seconds"]).as_py()
    return float(total) if total and len(counts) else None


def note_on(settings: Settings, differences: Differences, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the plain-language note on the threshold."""
    if not rows:
        return "no cell could be evaluated"
    if not isinstance(settings.detection, MatchedFilter):
        return learned_threshold_note(
            settings.detection.name,
            settings.detection.threshold,
            false_alarms_per_megapixel=rows[0]["false_alarms_per_megapixel"],
            megapixels=rows[0]["megapixels"],
        )
    psf: NDArray[np.float32] | None = None
    for cell in cells(settings, settings.cube_store.layout(GROUP).bands):
        try:
            science, template, _ = differences.inputs(cell)
            psf = differences.of(cell, science, template).psf
            break
        except CellSkipped:
            continue
    if psf is None:
        return "no cell could be evaluated"
    return threshold_note(
        settings.detection.threshold,
        psf,
        how="fixed before the run, not tuned on it",
        false_alarms_per_megapixel=rows[0]["false_alarms_per_megapixel"],
        megapixels=rows[0]["megapixels"],
    )
