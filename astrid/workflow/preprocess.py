"""Preprocess: exposures become cells of the cube.

Three parts: every exposure is measured on its own detector; each tile gets its
grid and reference stars and each detector its bad pixels; every cell is made.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.errors import AlgorithmError, CellSkipped
from astrid.image import Difference, ExposureInfo, Image
from astrid.imaging.badpixels import bad_pixel_map
from astrid.imaging.preprocess import Measurement, Preprocess
from astrid.imaging.stars import StarList
from astrid.schema import CUBE, N_FIELD_TERMS, MaskBit
from astrid.skygrid import Footprint, Tile, footprint_of, lands_on, sky_tiles
from astrid.stores.cube import CubeLayout, Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import read_json, write_json, write_table
from astrid.surveys import Survey
from astrid.workflow.fetch import read_places
from astrid.workflow.ingest import read_exposures
from astrid.workflow.keys import Cell, CellExposure, ExposureKey, Product
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Settings

logger = logging.getLogger(__name__)

GROUP = "cube"
PROVIDED = "template_provided"
MEASUREMENTS = "measurements"
DEFAULT_CORE = 1024
BORDER_FWHM = 8.0
"""The border is at least this many times the seeing: less changes the core."""


@dataclass(frozen=True)
class Measure:
    """Measure one exposure on its own detector: stars, seeing, background, suspect pixels."""

    survey: Survey
    preprocess: Preprocess

    def __call__(self, key: ExposureKey, ticket: Ticket | None) -> Product:
        """Return the measurement as a row."""
        exposure = self.survey.read_exposure(key.info)
        measurement = self.preprocess.measure(exposure)
        return Product(tables={MEASUREMENTS: measurement_row(key.info.exposure_id, measurement)})


@dataclass(frozen=True)
class MakeCell:
    """Register one exposure to a tile and write the cell."""

    survey: Survey
    preprocess: Preprocess
    folder: Path
    provided: bool

    def __call__(self, key: CellExposure, ticket: Ticket | None) -> Product:
        """Write the cell, and its own template where the survey provides one."""
        if ticket is None:
            raise ValueError("a cell needs a ticket to write with")
        tile = read_tiles(self.folder)[key.cell.tile]
        reference = read_reference(str(self.folder), key.cell.tile, key.cell.band)
        bad = read_bad_pixels(str(self.folder), key.info.detector, key.info.shape)
        exposure = self.survey.read_exposure(key.info)
        cell = self.preprocess.cell(
            exposure, tile, reference, bad_pixels=bad, is_reference=key.is_reference, match_scale=True
        )
        numbers = {GROUP: (key.cell.index, cell_numbers(cell.numbers, key.info))}
        write_image(ticket, GROUP, key.cell, cell.image)
        if self.provided:
            template = self.survey.read_template(key.info)
            if template is None:
                raise CellSkipped(f"no template: {key.info.exposure_id} brings none")
            made = self.preprocess.cell(template, tile, reference, match_scale=True)
            write_image(ticket, PROVIDED, key.cell, made.image)
            numbers[PROVIDED] = (key.cell.index, cell_numbers(made.numbers, template.info))
        return Product(numbers=numbers)


def write_image(ticket: Ticket, group: str, cell: Cell, image: Image | Difference) -> None:
    """Write the pixels of an image or difference as a cell; the terms of a PSF that is not known to vary are zero."""
    pixels = {name: getattr(image, name) for name in ("flux", "variance", "mask", "psf")}
    if isinstance(image, Difference):
        pixels["significance"] = image.significance
    else:
        none = np.zeros((N_FIELD_TERMS, *image.psf.shape), np.float32)
        pixels["psf_terms"] = none if image.psf_terms is None else image.psf_terms
    ticket.write_cell(group, cell.index, pixels)


def cell_numbers(numbers: Mapping[str, Any], info: ExposureInfo) -> dict[str, Any]:
    """Return the per-cell numbers of the cube: what preprocessing measured and what the exposure says."""
    return {**numbers, "mjd": info.mjd, "exposure_time": info.exposure_time, "exposure_id": info.exposure_id}


def measurement_row(exposure_id: str, measurement: Measurement) -> pa.Table:
    """Pack a measurement into one row (it is a table of its own)."""
    sink = pa.BufferOutputStream()
    table = measurement.to_table()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.table(
        {"exposure_id": [exposure_id], "measurement": pa.array([sink.getvalue().to_pybytes()], pa.binary())}
    )


MEASUREMENT_SCHEMA = pa.schema([("exposure_id", pa.string()), ("measurement", pa.binary())])


def read_measurements(journal: Journal) -> dict[str, Measurement]:
    """Return the measurements recorded so far by exposure."""
    table = journal.table(MEASUREMENTS, MEASUREMENT_SCHEMA)
    found = {}
    for row in table.to_pylist():
        with pa.ipc.open_stream(row["measurement"]) as stream:
            found[row["exposure_id"]] = Measurement.from_table(stream.read_all())
    return found


def preprocess(settings: Settings, runner: Runner, journal: Journal) -> None:
    """Fill the cube: measure, define grid and references, make the cells that are missing."""
    folder = settings.cube_folder
    epochs = unify_units(read_exposures(folder / "exposures.parquet"))
    infos = [info for info, _ in epochs]
    measure = Measure(settings.survey, settings.preprocess)
    runner.run("measure", measure, [ExposureKey(info) for info in infos], journal)
    measurements = read_measurements(journal)
    if not measurements:
        reasons = sorted({r["reason"] for r in journal.ledger().to_pylist() if r["step"] == "measure"})
        raise AlgorithmError(f"no exposure could be measured: {'; '.join(reasons)[:300]}")
    usable = [(info, epoch) for info, epoch in epochs if info.exposure_id in measurements]
    if not (folder / "tiles.json").exists():
        define_tiles(settings, [info for info, _ in usable], measurements)
    tiles = read_tiles(folder)
    bands = tuple(read_json(folder / "tiles.json")["bands"])
    write_bad_pixels(folder, [info for info, _ in usable], measurements)
    keys = cells_of(usable, tiles, bands, runner, journal, read_json(folder / "tiles.json").get("places", ()))
    references = write_references(settings, tiles, keys, measurements)
    keys = [replace(key, is_reference=references.get(key.cell.tile) == key.info.exposure_id) for key in keys]
    layout = layout_of(settings, tiles, bands, infos, max(epoch for _, epoch in epochs) + 1)
    store = settings.cube_store
    store.create(GROUP, CUBE, layout)
    if settings.template.provided:
        store.create(PROVIDED, CUBE, layout)
    work = MakeCell(settings.survey, settings.preprocess, folder, settings.template.provided)
    writer = store.writer()
    runner.run("preprocess", work, keys, journal, writer)


def unify_units(epochs: Sequence[tuple[ExposureInfo, int]]) -> list[tuple[ExposureInfo, int]]:
    """Give the cube one flux unit: nJy if each band has an exposure with a zero point, else count/s."""
    bands = {info.band for info, _ in epochs}
    calibrated = {info.band for info, _ in epochs if info.zero_point is not None or info.unit == "nJy"}
    if bands == calibrated:
        return list(epochs)
    return [(replace(info, zero_point=None), epoch) for info, epoch in epochs]


def flux_unit(infos: Sequence[ExposureInfo]) -> str:
    """Return the flux unit of a cube of these exposures."""
    return "nJy" if any(info.zero_point is not None or info.unit == "nJy" for info in infos) else "count/s"


def define_tiles(settings: Settings, infos: Sequence[ExposureInfo], measurements: Mapping[str, Measurement]) -> None:
    """Choose the tiles once, from where the exposures lie, and write ``tiles.json``."""
    widths = [m.seeing_fwhm for m in measurements.values() if np.isfinite(m.seeing_fwhm)]
    border = (
        max(settings.grid.border, int(np.ceil(BORDER_FWHM * np.median(widths)))) if widths else settings.grid.border
    )
    core = settings.grid.core or getattr(settings.survey, "tile_core", None) or DEFAULT_CORE
    bands = sorted({info.band for info in infos})
    seen = {info.extra.get("place") for info in infos}
    places = [place for place in read_places(settings.cube_folder) if place.name in seen]
    if places:  # what was asked for, however large the images that came
        scale = settings.grid.pixel_scale or settings.survey.pixel_scale_arcsec  # type: ignore[attr-defined]
        side = max(round(place.size_arcsec / scale) for place in places)
        tiles = tuple(Tile(i, (side, side), border, p.ra, p.dec, scale) for i, p in enumerate(places))
    elif all(info.wcs_header for info in infos):
        prints = [footprint(info) for info in infos]
        tiles = sky_tiles(prints, core=core, border=border, pixel_scale=settings.grid.pixel_scale)
    else:
        # without a WCS the grid is the detector of the reference exposure
        chosen = settings.preprocess.reference([measurements[info.exposure_id] for info in infos])
        tiles = (Tile(0, infos[chosen].shape, border, frame="pixel"),)
    names = [place.name for place in places]
    values = {"tiles": [asdict(tile) for tile in tiles], "bands": bands, "places": names}
    write_json(settings.cube_folder / "tiles.json", values)


def footprint(info: ExposureInfo) -> Footprint:
    """Return where an exposure with a WCS lies."""
    return footprint_of(WCS(header_of(info)), info.shape)


def header_of(info: ExposureInfo) -> Any:
    """Return the FITS header of an exposure's WCS."""
    from astropy.io.fits import Header

    return Header.fromstring(info.wcs_header or "")


@lru_cache(maxsize=8)
def _tiles(path: str, stamp: float) -> tuple[Tile, ...]:
    rows = read_json(Path(path))["tiles"]
    for row in rows:
        row["core"] = tuple(row["core"])
        row["cd"] = tuple(row["cd"]) if row.get("cd") else None
        row.update({name: np.nan for name in ("ra", "dec", "pixel_scale") if row[name] is None})
    return tuple(Tile(**row) for row in rows)


def read_tiles(folder: Path) -> tuple[Tile, ...]:
    """Return the tiles of a cube."""
    path = folder / "tiles.json"
    return _tiles(str(path), path.stat().st_mtime)


def cells_of(
    epochs: Sequence[tuple[ExposureInfo, int]],
    tiles: Sequence[Tile],
    bands: Sequence[str],
    runner: Runner,
    journal: Journal,
    places: Sequence[str] = (),
) -> list[CellExposure]:
    """Group the exposures by the cell they land on; a second claim is recorded, never merged.

    An exposure that was fetched for a place lands on the tile of that place only.
    """
    taken: dict[Cell, CellExposure] = {}
    recorded = {row["key"] for row in journal.ledger().to_pylist() if row["step"] == "group"}
    for info, epoch in epochs:
        if info.band not in bands:
            there = ", ".join(bands)
            reason = f"band {info.band} was not there when the cube was made ({there}); remove the cube to add a band"
            if info.exposure_id not in recorded:
                runner.record("group", info.exposure_id, "failed", reason, journal)
            continue
        place = info.extra.get("place") if places else None
        asked = [tile for tile in tiles if place is None or places[tile.index] == place]
        lands = [tile for tile in asked if tile.frame == "pixel" or lands_on(footprint(info), tile)]
        if not lands and info.exposure_id not in recorded:
            runner.record("group", info.exposure_id, "skipped", "lands on no tile", journal)
        for tile in lands:
            cell = Cell(tile.index, epoch, list(bands).index(info.band), info.band)
            if cell in taken:
                first = taken[cell].info
                reason = f"{cell} is taken by {first.exposure_id} (same band, same time {first.mjd:.6f}); not merged"
                if f"{info.exposure_id} {cell}" not in recorded:
                    runner.record("group", f"{info.exposure_id} {cell}", "failed", reason, journal)
                continue
            taken[cell] = CellExposure(cell, info)
    return [taken[cell] for cell in sorted(taken)]


def write_references(
    settings: Settings,
    tiles: Sequence[Tile],
    keys: Sequence[CellExposure],
    measurements: Mapping[str, Measurement],
) -> dict[int, str]:
    """Choose the reference exposure of each series once and write its stars in pixels of the tile.

    Fluxes are matched within a band. Positions are those of one exposure per tile, the
    sharpest: the references of the other bands are registered to it.

    Returns
    -------
    dict
        The exposure that the positions of each tile come from.
    """
    folder = settings.cube_folder / "reference"
    chosen: dict[int, str] = {}
    for tile in tiles:
        here = [key for key in keys if key.cell.tile == tile.index]
        best: dict[str, ExposureInfo] = {}
        for band in sorted({key.cell.band for key in here}):
            infos = [key.info for key in here if key.cell.band == band]
            best[band] = infos[settings.preprocess.reference([measurements[info.exposure_id] for info in infos])]
        order = list(best)
        if order:
            first = order.pop(settings.preprocess.reference([measurements[best[band].exposure_id] for band in order]))
            order.insert(0, first)
        shared: StarList | None = None
        for band in order:
            path, note = reference_path(folder, tile.index, band), reference_path(folder, tile.index, band, ".json")
            if not note.exists():
                info = best[band]
                shared = _write_reference(settings, tile, info, measurements[info.exposure_id], shared, path)
                write_json(note, {"exposure_id": info.exposure_id, "aligned_to": first if band != first else ""})
            elif shared is None:
                shared = StarList.from_table(pq.read_table(path))
            if not read_json(note)["aligned_to"]:
                chosen[tile.index] = str(read_json(note)["exposure_id"])
    return chosen


def _write_reference(
    settings: Settings,
    tile: Tile,
    info: ExposureInfo,
    measurement: Measurement,
    shared: StarList | None,
    path: Path,
) -> StarList:
    """Write the reference stars of a series; return the stars that the tile's positions come from."""
    try:
        stars = settings.preprocess.reference_stars(measurement, info, tile, align_to=shared)
    except AlgorithmError as error:
        logger.warning("tile %d, band %s: not aligned with the other bands: %s", tile.index, info.band, error)
        stars = settings.preprocess.reference_stars(measurement, info, tile)
    table = stars.to_table()
    write_table(path, table, table.schema)
    return shared if shared is not None else stars


def reference_path(folder: Path, tile: int, band: str, suffix: str = ".parquet") -> Path:
    """Return where the reference stars of a series are kept."""
    name = "".join(c if c.isalnum() else "_" for c in band)
    return folder / f"t{tile:04d}-{name}{suffix}"


@lru_cache(maxsize=4)
def read_reference(folder: str, tile: int, band: str) -> StarList:
    """Return the reference stars of a series."""
    return StarList.from_table(pq.read_table(reference_path(Path(folder) / "reference", tile, band)))


def write_bad_pixels(folder: Path, infos: Sequence[ExposureInfo], measurements: Mapping[str, Measurement]) -> None:
    """Write the bad-pixel map of each detector, made from its own exposures, once."""
    groups: dict[tuple[str, tuple[int, int]], list[ExposureInfo]] = {}
    for info in infos:
        groups.setdefault((info.detector, info.shape), []).append(info)
    for (detector, shape), members in groups.items():
        path = bad_pixel_path(folder, detector, shape)
        if not path.exists():
            bad = bad_pixel_map([measurements[info.exposure_id].suspects for info in members], shape)
            logger.info("detector %s: %d bad pixels from %d exposures", detector, bad.sum(), len(members))
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".tmp.npy")
            np.save(temporary, np.packbits(bad))
            temporary.replace(path)


def bad_pixel_path(folder: Path, detector: str, shape: tuple[int, int]) -> Path:
    """Return where the bad-pixel map of a detector is kept."""
    name = "".join(c if c.isalnum() else "_" for c in detector) or "detector"
    return folder / "badpixels" / f"{name}-{shape[0]}x{shape[1]}.npy"


@lru_cache(maxsize=4)
def read_bad_pixels(folder: str, detector: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the bad-pixel map of a detector."""
    packed = np.load(bad_pixel_path(Path(folder), detector, shape))
    return np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def layout_of(
    settings: Settings, tiles: Sequence[Tile], bands: tuple[str, ...], infos: Sequence[ExposureInfo], n_epochs: int
) -> CubeLayout:
    """Return the shape and attributes of the cube."""
    size = settings.preprocess.psf_size
    attributes = {
        "survey": settings.survey.name,
        "acknowledgement": settings.survey.acknowledgement,
        "configuration": json.dumps(settings.part("survey", "grid", "preprocess"), default=str),
        "configuration_hash": settings.cube_key,
        "mask_bits": ", ".join(f"{bit.name}={bit.value}" for bit in MaskBit),
    }
    return CubeLayout(tuple(tiles), n_epochs, bands, (size, size), flux_unit(infos), attributes)
