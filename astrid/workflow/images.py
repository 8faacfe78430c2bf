"""Read images, templates and differences back from a cube."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from astrid.detection.streaks import flag_streaks
from astrid.detection.trails import Streak
from astrid.errors import CellSkipped
from astrid.image import Difference, Image
from astrid.imaging.coadd import CoaddSums, without
from astrid.imaging.psffield import with_local_psf
from astrid.stores.cube import Reader
from astrid.subtraction import Subtractor
from astrid.subtraction.calibration import subtract_calibrated
from astrid.workflow.keys import Cell
from astrid.workflow.prepared import with_prepared

GROUP = "cube"
PROVIDED = "template_provided"
PIXELS = ("flux", "variance", "mask", "psf", "psf_terms", "noise_correlation", "astrometric_rms")


def read_image(reader: Reader, cell: Cell, group: str = GROUP) -> Image:
    """Return a cell as an image.

    Raises
    ------
    CellSkipped
        If it was never observed, or could not be prepared.
    """
    return _image(reader.read_cell(group, cell.index, PIXELS))


def _image(values: dict[str, Any]) -> Image:
    correlation, rms = float(values["noise_correlation"]), float(values["astrometric_rms"])
    terms = values.get("psf_terms")  # templates have none
    return Image(
        values["flux"],
        values["variance"],
        values["mask"],
        values["psf"],
        noise_correlation=correlation if correlation > 0 else 1.0,
        astrometric_rms=rms if rms >= 0 else 0.0,
        psf_terms=terms if terms is not None and terms.any() else None,
    )


@dataclass(frozen=True)
class Templates:
    """Gives each cell its template: provided, the series' coadd, or the coadd without itself.

    Attributes
    ----------
    reader : Reader
        Of the cube, at a committed snapshot.
    group : str
        Of the templates; `PROVIDED` where each cell brings its own.
    """

    reader: Reader
    group: str

    def of(self, cell: Cell, science: Image) -> tuple[Image, str]:
        """Return the template of a cell and its id.

        Raises
        ------
        CellSkipped
            If there is none; the message says why.
        """
        if self.group == PROVIDED:
            try:
                return read_image(self.reader, cell, PROVIDED), f"provided/{cell}"
            except CellSkipped as error:
                raise CellSkipped(f"no template: none came with {cell}") from error
        sums = _sums(self.reader, self.group, (cell.tile, cell.band_index))
        name = f"{self.group.rpartition('/')[2]}/t{cell.tile:04d}/{cell.band}"
        if cell.epoch not in sums.weights:
            return sums.image, name
        if len(sums.weights) > 1:
            return without(sums, cell.epoch, science), f"{name}/without-e{cell.epoch:04d}"
        return self._other(cell, name)

    def _other(self, cell: Cell, name: str) -> tuple[Image, str]:
        """Return another epoch of the series for the only epoch of its template."""
        numbers = self.reader.numbers(GROUP)
        seeing = numbers["seeing_fwhm"][cell.tile, :, cell.band_index]
        seen = numbers["exposure_id"][cell.tile, :, cell.band_index] != ""
        others = [e for e in range(len(seeing)) if e != cell.epoch and seen[e]]
        if not others:
            raise CellSkipped("no template: 1 epoch")
        best = min(others, key=lambda e: (float(seeing[e]), e))
        return read_image(self.reader, Cell(cell.tile, best, cell.band_index, cell.band)), f"{name}/e{best:04d}"


@lru_cache(maxsize=2)
def _sums(reader: Reader, group: str, index: tuple[int, int]) -> CoaddSums:
    """Template of a series; the epochs of a series follow each other, so two are enough."""
    try:
        values = reader.read_cell(group, index)
    except CellSkipped as error:
        raise CellSkipped("no template: the series has none (1 epoch, or none usable)") from error
    return CoaddSums(
        _image(values),
        values["weight_sum"],
        values["weight2_variance_sum"],
        values["center"],
        {int(epoch): float(weight) for epoch, weight in json.loads(values["weights"]).items()},
    )


class Made(NamedTuple):
    """A difference that was just made, its streaks and its measured noise correlation."""

    difference: Difference
    streaks: tuple[Streak, ...]
    noise: float


@dataclass(frozen=True)
class Differences:
    """Gives each cell its difference: stored, or made again where it is not kept.

    Attributes
    ----------
    reader : Reader
        Of the cube, at a committed snapshot.
    templates : Templates
        What is subtracted.
    subtraction : callable
        How.
    group : str or None
        Where the differences are stored; None where they are not kept.
    """

    reader: Reader
    templates: Templates
    subtraction: Subtractor
    group: str | None

    def inputs(self, cell: Cell) -> tuple[Image, Image, str]:
        """Return science, template and the template's id."""
        science = read_image(self.reader, cell)
        template, template_id = self.templates.of(cell, science)
        return science, template, template_id

    def made(self, science: Image, template: Image) -> Made:
        """Subtract, and flag the streaks."""
        difference, noise = subtract_calibrated(with_prepared(self.subtraction), science, template)
        difference, streaks = flag_streaks(difference, science, template)
        difference = replace(with_local_psf(difference, science), science=science, template=template)
        return Made(difference, streaks, noise)

    def of(self, cell: Cell, science: Image, template: Image) -> Difference:
        """Return the difference of a cell."""
        if self.group is None:
            return self.made(science, template).difference
        values = self.reader.read_cell(self.group, cell.index, ("flux", "variance", "mask", "psf", "significance"))
        return with_local_psf(Difference(**values, science=science, template=template), science)


def epochs_reader(reader: Reader, tile: int, band_index: int, band: str) -> Callable[[int], Image]:
    """Return a function that reads an epoch of a series."""

    def read(epoch: int) -> Image:
        return read_image(reader, Cell(tile, epoch, band_index, band))

    return read


def observed(reader: Reader, bands: Sequence[str], group: str = GROUP) -> list[Cell]:
    """Return the cells that a cube holds, in order."""
    ids = reader.numbers(group)["exposure_id"]
    return [Cell(int(t), int(e), int(b), bands[int(b)]) for t, e, b in zip(*(ids != "").nonzero(), strict=True)]
