"""Subtract: a template for each series, a difference for each cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.detection.trails import Streak
from astrid.errors import CellSkipped
from astrid.imaging.coadd import EpochQuality, TemplateRule, coadd
from astrid.imaging.noise import noise_correlation
from astrid.imaging.photometry import depth_flux
from astrid.imaging.psf import psf_fwhm
from astrid.schema import DIFFERENCE, STREAKS, TEMPLATE
from astrid.skygrid import Tile
from astrid.stores.cube import Reader, Ticket
from astrid.stores.journal import Journal
from astrid.workflow.images import GROUP, PROVIDED, Differences, Templates, epochs_reader, observed
from astrid.workflow.keys import Cell, Product, Series, digest
from astrid.workflow.preprocess import read_tiles, write_image
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Settings

STREAK_TABLE = "streaks"


@dataclass(frozen=True)
class MakeTemplate:
    """Coadd the template of one series."""

    reader: Reader
    rule: TemplateRule
    group: str

    def __call__(self, key: Series, ticket: Ticket | None) -> Product:
        """Write the template of a series."""
        if ticket is None:
            raise ValueError("a template needs a ticket to write with")
        epochs = qualities(self.reader, key)
        if len(epochs) < 2:
            raise CellSkipped(f"no template: {len(epochs)} epoch")
        chosen = self.rule.choose(epochs)
        sums = coadd(epochs_reader(self.reader, key.tile, key.band_index, key.band), chosen)
        image = sums.image
        ticket.write_cell(
            self.group,
            key.index,
            {
                "flux": image.flux,
                "variance": image.variance,
                "mask": image.mask,
                "psf": image.psf,
                "center": sums.center,
                "weight_sum": sums.weight_sum,
                "weight2_variance_sum": sums.weight2_variance_sum,
            },
        )
        numbers = {
            "noise_correlation": noise_correlation(image),
            "astrometric_rms": image.astrometric_rms,
            "seeing_fwhm": psf_fwhm(image.psf),
            "weights": json.dumps(sums.weights),
        }
        return Product(numbers={self.group: (key.index, numbers)})


def qualities(reader: Reader, key: Series) -> list[EpochQuality]:
    """Return what decides which epochs of a series go into its template."""
    numbers = reader.numbers(GROUP)
    names = ("mjd", "seeing_fwhm", "background_rms", "coverage", "astrometric_rms")
    columns = {name: numbers[name][key.tile, :, key.band_index] for name in names}
    seen = np.flatnonzero(numbers["exposure_id"][key.tile, :, key.band_index] != "")
    return [EpochQuality(int(e), *(float(columns[name][e]) for name in names)) for e in seen]


@dataclass(frozen=True)
class Subtract:
    """Make the difference of one cell."""

    differences: Differences
    group: str
    keep: bool
    folder: Path
    flux_unit: str

    def __call__(self, cell: Cell, ticket: Ticket | None) -> Product:
        """Write the difference (where it is kept) and its numbers."""
        science, template, template_id = self.differences.inputs(cell)
        difference, streaks, noise = self.differences.made(science, template)
        if self.keep and ticket is not None:
            write_image(ticket, self.group, cell, difference)
        numbers = {
            "template_id": template_id,
            "score_width": robust_width(difference.significance, difference.mask),
            "noise_correction": noise,
            "depth_flux": depth_flux(difference),
        }
        found = {}
        if streaks:
            mjd = float(self.differences.reader.numbers(GROUP)["mjd"][cell.index])
            tile = read_tiles(self.folder)[cell.tile]
            found[STREAK_TABLE] = streak_rows(streaks, cell, tile, mjd, self.flux_unit)
        return Product(numbers={self.group: (cell.index, numbers)}, tables=found)


def streak_rows(streaks: Sequence[Streak], cell: Cell, tile: Tile, mjd: float, flux_unit: str) -> pa.Table:
    """Return the streaks of a cell that cross the core of its tile, as rows."""
    rows = []
    for one in streaks:
        y, x = (np.linspace(*ends, max(2, int(one.length))) for ends in ((one.y0, one.y1), (one.x0, one.x1)))
        if not tile.in_core(y, x).any():
            continue
        ra, dec = tile.to_sky(np.array([one.y0, one.y1]), np.array([one.x0, one.x1]))
        rows.append(
            {
                "streak_id": digest(str(cell), *(round(v, 1) for v in (one.y0, one.x0, one.y1, one.x1)), length=16),
                "tile": cell.tile,
                "epoch": cell.epoch,
                "band": cell.band,
                "mjd": mjd,
                "y_start": one.y0,
                "x_start": one.x0,
                "y_end": one.y1,
                "x_end": one.x1,
                "ra_start": float(ra[0]),
                "dec_start": float(dec[0]),
                "ra_end": float(ra[1]),
                "dec_end": float(dec[1]),
                "length": one.length,
                "width": one.width,
                "angle": one.angle,
                "flux_per_length": one.flux_per_length,
                "flux_unit": flux_unit,
                "significance": one.significance,
                "is_negative": one.significance < 0,
                "n_peaks": one.n_peaks,
            }
        )
    return pa.Table.from_pylist(rows, schema=STREAKS)


def robust_width(significance: NDArray[np.float32], mask: NDArray[np.uint16]) -> float:
    """Return the robust standard deviation of the unmasked score; NaN where all is masked."""
    values = significance[mask == 0]
    if not len(values):
        return float("nan")
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def template_group(settings: Settings) -> str:
    """Return the group of a run's templates."""
    return PROVIDED if settings.template.provided else f"templates/{settings.template_key}"


def difference_group(settings: Settings) -> str:
    """Return the group of a run's differences."""
    return f"differences/{settings.difference_key}"


def differences_of(settings: Settings) -> Differences:
    """Return where the differences of a run come from, at the newest committed state."""
    reader = settings.cube_store.reader()
    kept = difference_group(settings) if settings.keep == "all" else None
    return Differences(reader, Templates(reader, template_group(settings)), settings.subtraction, kept)


def cells(settings: Settings, bands: Sequence[str]) -> list[Cell]:
    """Return the cells of the cube, a series after the other."""
    found = observed(settings.cube_store.reader(), bands)
    return sorted(found, key=lambda cell: (cell.tile, cell.band_index, cell.epoch))


def subtract(settings: Settings, runner: Runner, templates: Journal, differences: Journal) -> None:
    """Make the templates and differences that are missing."""
    store = settings.cube_store
    layout = store.layout(GROUP)
    if not settings.template.provided:
        group = template_group(settings)
        store.create(group, TEMPLATE, layout)
        work = MakeTemplate(store.reader(), settings.template, group)
        series = sorted({Series(c.tile, c.band_index, c.band) for c in cells(settings, layout.bands)})
        runner.run("template", work, series, templates, store.writer())
    group = difference_group(settings)
    store.create(group, DIFFERENCE, layout)
    make = Subtract(differences_of(settings), group, settings.keep == "all", settings.cube_folder, layout.flux_unit)
    runner.run("subtract", make, cells(settings, layout.bands), differences, store.writer())
