"""Detect: candidates in each difference, objects across epochs, their light curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astrid.detection import Detector
from astrid.detection.features import measure_candidates
from astrid.detection.linking import link
from astrid.image import Difference, Image
from astrid.imaging.photometry import PsfFlux, flux_limit, is_detection, limiting_magnitude, magnitude, psf_flux
from astrid.schema import CANDIDATES, LIGHT_CURVES, OBJECTS, STREAKS, is_optional
from astrid.skygrid import Tile
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import write_table
from astrid.workflow.images import GROUP, Differences
from astrid.workflow.keys import Cell, Product, digest
from astrid.workflow.preprocess import read_tiles
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Linking, Settings
from astrid.workflow.subtract import STREAK_TABLE, cells, difference_group, differences_of

CANDIDATE_TABLE = "candidates"
LIGHT_CURVE_TABLE = "light_curves"
STAMP_TABLE = "stamps"
STAMP_RADIUS = 20
STAMPS = pa.schema(
    [
        ("candidate_id", pa.string()),
        ("side", pa.int32()),
        *((name, pa.binary()) for name in ("science", "template", "difference", "significance")),
    ]
)


@dataclass(frozen=True)
class Detect:
    """Find and measure the candidates of one cell."""

    differences: Differences
    detector: Detector
    folder: Path
    subtraction: str
    difference_group: str
    flux_unit: str
    stamps: bool

    def __call__(self, cell: Cell, ticket: Ticket | None) -> Product:
        """Return the candidates of a cell's core as rows."""
        science, template, template_id = self.differences.inputs(cell)
        difference = self.differences.of(cell, science, template)
        tile = read_tiles(self.folder)[cell.tile]
        columns = candidates_in_core(self.detector, difference, science, template, tile)
        numbers = self.differences.reader.numbers(GROUP)
        n = len(columns["y"])
        ra, dec = tile.to_sky(columns["y"], columns["x"])
        ids = [
            candidate_id(cell, self.detector.name, self.difference_group, y, x)
            for y, x in zip(columns["y"], columns["x"], strict=True)
        ]
        rows: dict[str, Any] = {
            **columns,
            "candidate_id": ids,
            "object_id": [None] * n,
            "tile": [cell.tile] * n,
            "epoch": [cell.epoch] * n,
            "band": [cell.band] * n,
            "mjd": [float(numbers["mjd"][cell.index])] * n,
            "ra": ra,
            "dec": dec,
            "ra_error": columns["x_error"] * tile.pixel_scale,
            "dec_error": columns["y_error"] * tile.pixel_scale,
            "flux_unit": [self.flux_unit] * n,
            "score": [None if np.isnan(s) else float(s) for s in columns["score"]],
            "subtraction": [self.subtraction] * n,
            "template_id": [template_id] * n,
            "detector": [self.detector.name] * n,
            "stamp": [f"{self.difference_group}:{cell}" for _ in range(n)],
        }
        tables = {CANDIDATE_TABLE: to_table(rows, CANDIDATES)}
        if self.stamps and n:
            tables[STAMP_TABLE] = cut_stamps(ids, columns, science, template, difference)
        return Product(tables=tables)


def candidates_in_core(
    detector: Detector, difference: Difference, science: Image, template: Image, tile: Tile
) -> dict[str, Any]:
    """Detect, measure, and keep what the tile owns."""
    found = detector(difference)
    columns: dict[str, Any] = measure_candidates(difference, science, template, found)
    columns["score"] = np.full(len(found), np.nan) if found.score is None else found.score
    own = tile.in_core(columns["y"], columns["x"])
    return {name: values[own] for name, values in columns.items()}


def flux_at(difference: Difference, y: NDArray[np.float64], x: NDArray[np.float64]) -> PsfFlux:
    """Measure fluxes on a difference with the PSF of each place; a streak hides no sky."""
    return psf_flux(difference.flux, difference.variance, difference.unusable, difference.psf_at(y, x), y, x)


def candidate_id(cell: Cell, detector: str, difference: str, y: float, x: float) -> str:
    """Return the id of a candidate: a hash of its cell, method and rounded position."""
    return digest(str(cell), detector, difference, round(float(y), 1), round(float(x), 1), length=16)


def to_table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Return rows with the columns and types of a schema, without optional ones; NaN becomes null in no column."""
    given = pa.schema([f for f in schema if f.name in columns or not is_optional(f)], metadata=schema.metadata)
    return pa.table([pa.array(columns[f.name], f.type) for f in given], schema=given)


def cut_stamps(
    ids: Sequence[str], columns: Mapping[str, Any], science: Image, template: Image, difference: Difference
) -> pa.Table:
    """Return small cut-outs around candidates, for when the differences are not kept."""
    side = 2 * STAMP_RADIUS + 1
    layers = {
        "science": science.flux,
        "template": template.flux,
        "difference": difference.flux,
        "significance": difference.significance,
    }
    padded = {name: np.pad(layer, STAMP_RADIUS, constant_values=np.nan) for name, layer in layers.items()}
    cut: dict[str, list[bytes]] = {name: [] for name in layers}
    for y, x in zip(np.rint(columns["y"]).astype(int), np.rint(columns["x"]).astype(int), strict=True):
        for name, layer in padded.items():
            cut[name].append(np.ascontiguousarray(layer[y : y + side, x : x + side], np.float32).tobytes())
    return pa.table({"candidate_id": list(ids), "side": [side] * len(ids), **cut}, schema=STAMPS)


@dataclass(frozen=True)
class LightCurves:
    """Measure all objects of a tile on one difference, whether they were found there or not."""

    differences: Differences
    folder: Path
    objects: Path
    linking: Linking
    flux_unit: str

    def __call__(self, cell: Cell, ticket: Ticket | None) -> Product:
        """Return forced photometry as rows."""
        objects = read_objects(str(self.objects), self.objects.stat().st_mtime)
        here = objects.filter(pc.equal(objects["tile"], cell.tile))
        if not len(here):
            return Product()
        science, template, _ = self.differences.inputs(cell)
        difference = self.differences.of(cell, science, template)
        y, x = here["y"].to_numpy(), here["x"].to_numpy()
        forced = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf_at(y, x), y, x)
        numbers = self.differences.reader.numbers(GROUP)
        zero_point = float(numbers["zero_point"][cell.index])
        sigma = self.linking.detection_sigma
        n = len(here)
        mags, mag_errors = magnitude(forced.flux, forced.error, zero_point)
        found = is_detection(forced.flux, forced.error, n_sigma=sigma)
        inside = (
            np.clip(np.rint(y), 0, difference.mask.shape[0] - 1).astype(int),
            np.clip(np.rint(x), 0, difference.mask.shape[1] - 1).astype(int),
        )
        rows = {
            "object_id": here["object_id"],
            "tile": [cell.tile] * n,
            "epoch": [cell.epoch] * n,
            "band": [cell.band] * n,
            "mjd": [float(numbers["mjd"][cell.index])] * n,
            "flux": forced.flux,
            "flux_error": forced.error,
            "flux_unit": [self.flux_unit] * n,
            "significance": forced.flux / forced.error,
            "is_detection": found,
            "flux_limit": flux_limit(forced.flux, forced.error, n_sigma=sigma),
            "magnitude": np.where(found, mags, np.nan),
            "magnitude_error": np.where(found, mag_errors, np.nan),
            "limiting_magnitude": limiting_magnitude(flux_limit(forced.flux, forced.error, n_sigma=sigma), zero_point),
            "mask_bits": difference.mask[inside].astype(np.int32),
        }
        return Product(tables={LIGHT_CURVE_TABLE: to_table(rows, LIGHT_CURVES)})


@lru_cache(maxsize=2)
def read_objects(path: str, stamp: float) -> pa.Table:
    """Return the objects; ``stamp`` is the time of the file, so that a new one is read."""
    return pq.read_table(path)


def link_candidates(
    candidates: pa.Table, tiles: Sequence[Tile], seeing: float, linking: Linking
) -> tuple[pa.Table, pa.Table]:
    """Link candidates at one place into objects.

    Returns
    -------
    (candidates, objects)
        Candidates with their ``object_id``, and one row per object.
    """
    if not len(candidates):
        return candidates, OBJECTS.empty_table()
    columns = {
        name: candidates[name].to_numpy(zero_copy_only=False)
        for name in (
            "y",
            "x",
            "tile",
            "epoch",
            "band",
            "mjd",
            "flux",
            "significance",
            "y_error",
            "x_error",
            "is_negative",
        )
    }
    radius = max(linking.radius_pixels, linking.radius_fwhm * seeing)
    labels = link(columns["y"], columns["x"], columns["tile"], radius)
    objects: list[dict[str, Any]] = []
    ids = np.empty(len(labels), object)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        part = {name: values[members] for name, values in columns.items()}
        weight = np.square(part["significance"])
        y, x = (float(np.average(part[axis], weights=weight)) for axis in ("y", "x"))
        tile = tiles[int(part["tile"][0])]
        ra, dec = tile.to_sky(y, x)
        peak = int(np.argmax(np.abs(part["significance"])))
        errors = np.hypot(part["y_error"], part["x_error"]) / np.sqrt(2)
        object_id = digest(tile.index, round(y, 1), round(x, 1), length=16)
        ids[members] = object_id
        objects.append(
            {
                "object_id": object_id,
                "tile": tile.index,
                "ra": float(ra[0]),
                "dec": float(dec[0]),
                "y": y,
                "x": x,
                "position_error": float(1 / np.sqrt(np.sum(1 / np.square(errors)))),
                "n_candidates": len(members),
                "n_epochs": len({(e, b) for e, b in zip(part["epoch"], part["band"], strict=True)}),
                "n_negative": int(np.sum(part["is_negative"])),
                "bands": ",".join(sorted(set(part["band"]))),
                "first_mjd": float(part["mjd"].min()),
                "last_mjd": float(part["mjd"].max()),
                "peak_significance": float(part["significance"][peak]),
                "peak_flux": float(part["flux"][peak]),
                "flux_unit": candidates["flux_unit"][0].as_py(),
                "score": None,
            }
        )
    place = candidates.schema.get_field_index("object_id")
    linked = candidates.set_column(place, CANDIDATES.field("object_id"), pa.array(list(ids), pa.string()))
    table = pa.Table.from_pylist(objects, schema=OBJECTS)
    return linked.sort_by("candidate_id"), table.sort_by("object_id")


def detect(settings: Settings, runner: Runner, journal: Journal, differences_journal: Journal) -> None:
    """Find the candidates, link them, measure their light curves, and write the tables of the run.

    The streaks were found with the differences: their rows are those of ``differences_journal``.
    """
    layout = settings.cube_store.layout(GROUP)
    keys = cells(settings, layout.bands)
    differences = differences_of(settings)
    work = Detect(
        differences,
        settings.detection,
        settings.cube_folder,
        settings.word("subtraction"),
        difference_group(settings),
        layout.flux_unit,
        settings.keep == "stamps",
    )
    runner.run("detect", work, keys, journal)
    candidates = journal.table(CANDIDATE_TABLE, CANDIDATES)
    seeing = differences.reader.numbers(GROUP)["seeing_fwhm"]
    width = float(np.nanmedian(seeing)) if np.isfinite(seeing).any() else 0.0
    candidates, objects = link_candidates(candidates, read_tiles(settings.cube_folder), width, settings.linking)
    write_table(settings.run_folder / "candidates.parquet", candidates, CANDIDATES)
    write_table(settings.run_folder / "objects.parquet", objects, OBJECTS)
    streaks = differences_journal.table(STREAK_TABLE, STREAKS)
    write_table(settings.run_folder / "streaks.parquet", streaks.sort_by("streak_id"), STREAKS)
    forced = LightCurves(
        differences, settings.cube_folder, settings.run_folder / "objects.parquet", settings.linking, layout.flux_unit
    )
    found = digest(sorted(objects["object_id"].to_pylist()))
    with Journal(settings.run_folder / "journal" / f"light_curves-{settings.detection_key}-{found}") as own:
        runner.run("light_curves", forced, keys, own)
        curves = own.table(LIGHT_CURVE_TABLE, LIGHT_CURVES)
        known = {_outcome(row) for row in journal.ledger().to_pylist()}
        fresh = [row for row in own.ledger().to_pylist() if _outcome(row) not in known]
    if fresh:
        journal.append(fresh, {})  # what failed here failed in the run
    order = [("object_id", "ascending"), ("mjd", "ascending"), ("band", "ascending")]
    write_table(settings.run_folder / "light_curves.parquet", curves.sort_by(order), LIGHT_CURVES)


def _outcome(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("step", "key", "status", "finished"))
