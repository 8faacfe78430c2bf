"""What a detector and its surroundings add to a simulated sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Defects:
    """Flaws fixed on the detector.

    Attributes
    ----------
    sensitivity : (ny, nx) float array
        Fraction of the light that is recorded; one where all is well.
    dark : (ny, nx) float array
        Expected electrons per exposure without light; zero where all is well.
    """

    sensitivity: NDArray[np.float64]
    dark: NDArray[np.float64]


def make_defects(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    bad_columns: int,
    hot_pixels: int,
) -> Defects:
    """Draw the flaws of a detector.

    Bad columns run from a random row to the top; every other one is dead (at most
    60 % sensitive) and the rest are bright. Hot pixels have 300 to 30 000 electrons.
    """
    columns_rng, pixels_rng = rng.spawn(2)
    sensitivity, dark = np.ones(shape), np.zeros(shape)
    columns = columns_rng.choice(shape[1], size=min(bad_columns, shape[1]), replace=False)
    for number, column in enumerate(columns):
        first = int(columns_rng.integers(0, shape[0] // 2 + 1))
        value = columns_rng.uniform(0, 0.6)
        if number % 2 == 0:
            sensitivity[first:, column] = value
        else:
            dark[first:, column] += 300 + 3000 * value
    pixels = pixels_rng.choice(shape[0] * shape[1], size=min(hot_pixels, shape[0] * shape[1]), replace=False)
    dark.flat[pixels] += 10 ** pixels_rng.uniform(2.5, 4.5, size=pixels.size)
    return Defects(sensitivity, dark)


def cosmic_rays(rng: np.random.Generator, shape: tuple[int, int], *, count: float) -> NDArray[np.float64]:
    """Return the electrons that cosmic rays leave: straight tracks, not blurred by the PSF.

    ``count`` is the expected number; lengths are exponential with a mean of 5
    pixels, charges log-uniform from 300 to 6000 electrons per pixel of track.
    """
    image = np.zeros(shape)
    for _ in range(int(rng.poisson(count))):
        y, x = rng.uniform(-0.5, np.array(shape) - 0.5)
        angle, length = rng.uniform(0, math.pi), 1 + rng.exponential(4.0)
        charge = 10 ** rng.uniform(2.5, 3.8)
        steps = np.linspace(0, length, max(2, math.ceil(8 * length)))
        row = np.rint(y + steps * math.sin(angle)).astype(int)
        column = np.rint(x + steps * math.cos(angle)).astype(int)
        inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        np.add.at(image, (row[inside], column[inside]), charge * length / steps.size)
    return image


def satellite_trail(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    fwhm: float,
    brightness: float,
) -> NDArray[np.float64]:
    """Return the expected electrons of one trail through the image.

    ``fwhm`` is its width in pixels; ``brightness`` its electrons per pixel on the axis.
    """
    ny, nx = shape
    y, x = rng.uniform(0.1, 0.9) * ny, rng.uniform(0.1, 0.9) * nx
    angle = rng.uniform(0, math.pi)
    sigma = math.hypot(fwhm / 2.3548, 0.5)
    rows, columns = np.arange(ny)[:, None] - y, np.arange(nx)[None, :] - x
    distance = math.cos(angle) * rows - math.sin(angle) * columns
    return np.asarray(brightness * np.exp(-0.5 * np.minimum((distance / sigma) ** 2, 1400.0)))


def bleed(electrons: NDArray[np.float64], full_well: float) -> NDArray[np.float64]:
    """Return the image with no pixel above the full well, the excess spread along the column.

    Half of what a pixel cannot hold goes up and half down, filling one pixel after
    the other; what reaches the edge is lost.
    """
    result = electrons.copy()
    for column in np.flatnonzero((electrons > full_well).any(axis=0)):
        charge = result[:, column]
        excess = np.maximum(charge - full_well, 0.0)
        np.minimum(charge, full_well, out=charge)
        for step in (1, -1):
            rows = np.flatnonzero(excess)[::step]
            _spread(charge, excess / 2, full_well, int(rows[0]), step)
    return result


def _spread(charge: NDArray[np.float64], excess: NDArray[np.float64], full_well: float, start: int, step: int) -> None:
    """Carry the excess of every row along ``step``, filling what room there is, in place."""
    last = int(np.flatnonzero(excess)[::step][-1])
    carried, row = 0.0, start
    while 0 <= row < charge.size and (carried > 0 or (last - row) * step >= 0):
        carried += float(excess[row])
        taken = min(carried, full_well - float(charge[row]))
        charge[row] += taken
        carried -= taken
        row += step
