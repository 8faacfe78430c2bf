"""Runs on pictures without a time: they are fetched and brought to the tiles; nothing is subtracted or searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from astrid.errors import CellSkipped
from astrid.image import ExposureInfo
from astrid.imaging.calibration import fill_masked
from astrid.imaging.preprocess import tile_to_wcs
from astrid.imaging.resampling import Resampling, coordinate_map, pixel_area, resample
from astrid.report import ReportData, write_report
from astrid.schema import CANDIDATES, CUBE, INJECTIONS, LIGHT_CURVES, OBJECTS, STREAKS
from astrid.skygrid import Tile
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import read_json, write_json, write_table
from astrid.surveys import ContextSurvey, Survey
from astrid.workflow.images import GROUP, observed
from astrid.workflow.ingest import read_exposures
from astrid.workflow.keys import CellExposure, Product, Series
from astrid.workflow.preprocess import cell_numbers, cells_of, define_tiles, layout_of, read_tiles
from astrid.workflow.reporting import versions
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Settings

AS_SENT = "as_sent"
"""The flux unit of a cube of pictures: that of each band is in its attribute ``band_units``."""
RESULTS = {
    "candidates": CANDIDATES,
    "objects": OBJECTS,
    "streaks": STREAKS,
    "light_curves": LIGHT_CURVES,
    "injections": INJECTIONS,
}


@dataclass(frozen=True)
class MakePicture:
    """Bring one picture to a tile: pixel values as the archive sent them, interpolated, not scaled."""

    survey: Survey
    tiles: tuple[Tile, ...]
    method: Resampling

    def __call__(self, key: CellExposure, ticket: Ticket | None) -> Product:
        """Write flux and mask; variance and PSF of a picture are not known."""
        if ticket is None:
            raise ValueError("a cell needs a ticket to write with")
        tile = self.tiles[key.cell.tile]
        exposure = self.survey.read_exposure(key.info)
        y, x = coordinate_map(tile_to_wcs(key.info, tile), tile.shape)
        filled = fill_masked(np.nan_to_num(exposure.flux), exposure.mask)  # zeros would ring
        flux, _, mask = resample(filled, np.ones_like(filled), exposure.mask, y, x, method=self.method)
        coverage = float(np.mean(mask == 0))
        if coverage == 0:
            raise CellSkipped("no coverage: the picture has no pixel on the tile")
        flux = (flux / pixel_area(y, x)).astype(np.float32)
        ticket.write_cell(GROUP, key.cell.index, {"flux": flux, "mask": mask})
        numbers = cell_numbers({"coverage": coverage, "psf_origin": "none"}, key.info)
        return Product(numbers={GROUP: (key.cell.index, numbers)})


def preprocess_context(settings: Settings, runner: Runner, journal: Journal) -> None:
    """Fill the cube with pictures, one for each band of a tile."""
    folder = settings.cube_folder
    epochs = read_exposures(folder / "exposures.parquet")
    infos = [info for info, _ in epochs]
    if not (folder / "tiles.json").exists():
        define_tiles(settings, infos, {})
    tiles, noted = read_tiles(folder), read_json(folder / "tiles.json")
    bands = tuple(noted["bands"])
    keys = cells_of(epochs, tiles, bands, runner, journal, noted.get("places", ()))
    layout = layout_of(settings, tiles, bands, infos, 1)
    about = {
        "context": no_epoch(settings),
        "band_units": by_band(infos, "unit"),
        "band_magnitudes": by_band(infos, "magnitudes"),
        "band_years": by_band(infos, "years"),
    }
    layout = replace(layout, flux_unit=AS_SENT, attributes={**layout.attributes, **about})
    store = settings.cube_store
    store.create(GROUP, CUBE, layout)
    work = MakePicture(settings.survey, tiles, settings.preprocess.resampling)
    runner.run("preprocess", work, keys, journal, store.writer())


def skip(settings: Settings, runner: Runner, journal: Journal, steps: Sequence[str]) -> None:
    """Record that steps have nothing to do on any series, and why."""
    bands = settings.cube_store.layout(GROUP).bands
    cells = observed(settings.cube_store.reader(), bands)
    for step in steps:
        done = {row["key"] for row in journal.ledger().to_pylist() if row["step"] == step}
        for series in sorted({Series(cell.tile, cell.band_index, cell.band) for cell in cells}):
            if str(series) not in done:
                runner.record(step, str(series), "skipped", no_epoch(settings), journal)


def write_no_results(settings: Settings) -> None:
    """Write tables without rows and metrics that say why, so that what reads the results of a run finds them."""
    for name, schema in RESULTS.items():
        write_table(settings.run_folder / f"{name}.parquet", schema.empty_table(), schema)
    notes = {"threshold": f"nothing was searched: {no_epoch(settings)}"}
    write_json(settings.run_folder / "metrics.json", {"rows": [], "notes": notes, "completeness": {}})


def report_context(settings: Settings, runner: Runner, ledger: pa.Table) -> None:
    """Write a report that says what was fetched, from where, and that nothing was searched."""
    runner.progress.start("report", 1)
    infos = [info for info, _ in read_exposures(settings.cube_folder / "exposures.parquet")]
    data = ReportData(
        name=settings.name,
        survey=settings.survey.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=read_json(settings.run_folder / "metrics.json"),
        ledger=ledger,
        configuration=settings.yaml,
        versions=versions(),
        notes=tuple(describe(info) for info in infos),
        acknowledgement=settings.survey.acknowledgement,
    )
    write_report(data, settings.run_folder / "report.html")
    runner.progress.finish("report")


def describe(info: ExposureInfo) -> str:
    """Say in a sentence what a picture is and who sent it."""
    extra: Mapping[str, Any] = info.extra
    sent = extra.get("answered", {}).get("science", {}).get("service")
    magnitudes = {"none": "no fluxes"}.get(extra["magnitudes"], f"{extra['magnitudes']} magnitudes")
    by = f", sent by {sent}" if sent else ""
    return f"{info.exposure_id}: observed {extra['years']}, {extra['unit']}, {magnitudes}, not photometric{by}."


def by_band(infos: Sequence[ExposureInfo], key: str) -> dict[str, str]:
    """Return what the pictures of each band say of themselves."""
    return {info.band: str(info.extra[key]) for info in infos}


def no_epoch(settings: Settings) -> str:
    """Return why nothing is subtracted."""
    if not isinstance(settings.survey, ContextSurvey):
        raise TypeError(f"survey {settings.survey.name} has times")
    return settings.survey.no_epoch
