"""What a network learns from: tiles of a harsh sky, and cells of a cube with transients put into them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrid.detection.unet.detector import TILE
from astrid.detection.unet.examples import Example, write_shard
from astrid.detection.unet.inputs import inputs_of
from astrid.detection.unet.network import MULTIPLE
from astrid.errors import AlgorithmError
from astrid.image import Difference
from astrid.imaging.photometry import equivalent_fwhm
from astrid.simulation.harsh import HarshTile, harsh_tile
from astrid.simulation.injections import InjectionRecipe, Injections, plan_injections
from astrid.simulation.seeds import seed_of
from astrid.stores.cube import Ticket
from astrid.subtraction.calibration import subtract_calibrated
from astrid.subtraction.zogy import Zogy
from astrid.surveys import Survey
from astrid.workflow.evaluate import injected
from astrid.workflow.images import GROUP, Differences
from astrid.workflow.keys import CellExposure, Product, digest

PLAIN = Zogy(align=False, adapt=False, model_error=0.0)  # leaves all that is wrong with a pair in its difference
AS_IT_IS = 0.6  # part of the harsh tiles that are subtracted plainly


def harsh_difference(tile: HarshTile, *, plain: bool = True) -> Difference:
    """Subtract a harsh tile, plainly or with all that a run does for its differences.

    A pair that a run would refuse is subtracted plainly.
    """
    difference = None
    if not plain:
        try:
            difference = subtract_calibrated(Zogy(), tile.science, tile.template)[0]
        except AlgorithmError:
            difference = None
    if difference is None:
        difference = PLAIN(tile.science, tile.template)
    return Difference(
        difference.flux, difference.variance, difference.mask, difference.psf, difference.significance,
        science=tile.science, template=tile.template,
    )  # fmt: skip


@dataclass(frozen=True)
class ShardKey:
    """Which shard: a part ("training" or "validation", seeds of their own) and a number."""

    part: str
    number: int

    def __str__(self) -> str:
        return f"{self.part} {self.number}"


@dataclass(frozen=True)
class HarshShard:
    """Makes one shard of harsh tiles.

    Attributes
    ----------
    folder : path
        Of the shards.
    seed : int
        Of all of them.
    tiles : int
        In a shard.
    side : int
        Of a tile, in pixels.
    """

    folder: Path
    seed: int
    tiles: int
    side: int = 256

    def __call__(self, key: ShardKey, ticket: Ticket | None = None) -> Product:
        """Make and write a shard, unless it is there."""
        path = shard_path(self.folder, key.part, key.number)
        if not path.with_suffix(".json").exists():
            write_shard(path, [self._example(key.part, key.number * self.tiles + i) for i in range(self.tiles)])
        return Product()

    def _example(self, part: str, number: int) -> Example:
        seed = seed_of(self.seed, "harsh", part, number)
        tile = harsh_tile(seed, side=self.side)
        plain = np.random.default_rng([seed, 1]).random() < AS_IT_IS
        difference = harsh_difference(tile, plain=bool(plain))
        fwhm = equivalent_fwhm(difference.psf)
        return Example(inputs_of(difference), tile.y, tile.x, tile.snr, fwhm, f"harsh {seed}")


@dataclass(frozen=True)
class CellShard:
    """Makes one shard of a cell: its own pixels with transients put into them, cut into tiles.

    What is in the difference besides the transients, its artefacts, are the negatives.

    Attributes
    ----------
    folder : path
        Of the shards.
    differences : Differences
        Of the run.
    survey : Survey
        Whose exposures they are.
    recipe : InjectionRecipe
        How many transients, how bright.
    cube_folder : path
        Of the run's cube.
    """

    folder: Path
    differences: Differences
    survey: Survey
    recipe: InjectionRecipe
    cube_folder: Path

    def path(self, key: CellExposure) -> Path:
        """Return where the shard of a cell is, without suffix."""
        return self.folder / f"cell-{digest(str(key.cell), key.info.exposure_id, length=16)}"

    def part(self, key: CellExposure) -> str:
        """Say what a cell is for: a fifth of the exposures, whole ones, are for validation."""
        return "validation" if seed_of(self.recipe.seed, "part", key.info.exposure_id) % 5 == 0 else "training"

    def __call__(self, key: CellExposure, ticket: Ticket | None = None) -> Product:
        """Make and write a shard, unless it is there."""
        if self.path(key).with_suffix(".json").exists():
            return Product()
        science, template, _ = self.differences.inputs(key.cell)
        difference = self.differences.of(key.cell, science, template)
        seed = seed_of(self.recipe.seed, "training", key.info.exposure_id, str(key.cell))
        truths = plan_injections(science, difference, seed=seed, recipe=self.recipe)
        scale = float(self.differences.reader.numbers(GROUP)["flux_scale"][key.cell.index])
        made = self.differences.made(
            injected(key, science, truths, self.recipe, self.survey, scale), template
        ).difference  # fmt: skip
        planes, fwhm = inputs_of(made), equivalent_fwhm(made.psf)
        found = []
        for rows, columns in tiles_of(made.flux.shape):
            here = inside(truths, rows, columns)
            y, x = truths.y[here] - rows.start, truths.x[here] - columns.start
            found.append(Example(planes[:, rows, columns], y, x, truths.snr[here], fwhm, str(key.cell)))
        write_shard(self.path(key), found)
        return Product()


def tiles_of(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Divide an image into squares of 256 px, the last of each row and column over the one before; smaller ones whole.

    Sides are multiples of 8.
    """
    side = [min(TILE, n - n % MULTIPLE) for n in shape]
    firsts = [[*range(0, n - s, s), n - s] if n > s else [0] for n, s in zip(shape, side, strict=True)]
    return [(slice(y, y + side[0]), slice(x, x + side[1])) for y in firsts[0] for x in firsts[1]]


def inside(truths: Injections, rows: slice, columns: slice) -> NDArray[np.bool_]:
    """Return which transients lie in a square."""
    in_rows = (truths.y > rows.start - 0.5) & (truths.y < rows.stop - 0.5)
    return np.asarray(in_rows & (truths.x > columns.start - 0.5) & (truths.x < columns.stop - 0.5), bool)


def shard_path(folder: Path, part: str, number: int) -> Path:
    """Return where a shard of harsh tiles is, without suffix."""
    return folder / f"{part}-{number:05d}"
