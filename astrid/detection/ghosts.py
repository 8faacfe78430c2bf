"""Ghosts: broad patches of light that reflections inside the telescope leave.

A bright star's light that is reflected between filter, window and detector comes back out of focus: a disc or a ring,
many PSFs across, even, and elsewhere when the telescope points elsewhere, so that the template lacks it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import Difference, Image
from astrid.imaging.photometry import equivalent_fwhm

BIN_FWHM = 2.0  # side of the squares whose mean score is looked at
LEAST_LEVEL = 1.0  # of the score: what raises noise to detections
LEVEL_SIGMA = 5.0  # of the scatter of the median of nine such means, from where a patch counts;
MEDIAN_OF_NINE = 0.42  # that scatter over the scatter of one of them
FEWEST_BINS = 12  # of a patch, holes included: 8 FWHM across
LARGEST_PART = 0.1  # of the image; what is larger is its background
LONGEST = 3.0  # times the shorter axis: what is longer is a streak or a spike
EVEN = 0.5  # median over ninth tenth of the levels of a patch: wings of a star and galaxies fall off
FIXED = 0.3  # of a patch's contrast in the difference, beyond which the other image has it too
STANDS_OUT = (5.0, 0.5)  # score above the level, and part of it, from which a candidate is more than the patch

Levels = NDArray[np.float32]


def is_on_ghost(
    difference: Difference,
    science: Image,
    template: Image,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    significance: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether each candidate is a piece of a ghost.

    One that stands out of it by 5, and by half of the ghost's own score there, is not.

    Parameters
    ----------
    difference, science, template : Difference, Image, Image
        Where the candidates were found.
    y, x, significance : (n,) arrays
        Of the candidates; the sign tells which image the ghost would be in.

    Returns
    -------
    (n,) bool array
    """
    is_on = np.zeros(len(y), bool)
    if len(y) == 0:
        return is_on
    size = max(2, round(BIN_FWHM * equivalent_fwhm(difference.psf)))
    means = _means(np.where(difference.mask == 0, difference.significance, np.float32(0)), size)
    scatter = 1.4826 * float(np.median(np.abs(means[means != 0]))) if means.any() else 0.0
    threshold = max(LEAST_LEVEL, LEVEL_SIGMA * MEDIAN_OF_NINE * scatter)
    if not any(_most_of_nine(sign * means > threshold) >= FEWEST_BINS / 2 for sign in (1, -1)):
        return is_on
    means = ndimage.median_filter(means, 3, mode="nearest")  # sources are smaller than half of nine squares
    row, column = (
        np.clip(np.rint(place).astype(int) // size, 0, n - 1) for place, n in zip((y, x), means.shape, strict=True)
    )
    for sign, other in ((1.0, template), (-1.0, science)):
        levels = _patches(difference, other, means * np.float32(sign), threshold, size, sign)
        level = ndimage.maximum_filter(levels, 3)[row, column]
        above = sign * significance - level
        least, part = STANDS_OUT
        is_on |= (level > 0) & (sign * significance > 0) & (above < np.maximum(least, part * level))
    return is_on


def _means(values: NDArray[Any], size: int) -> Levels:
    """Means of squares; those that the end of the image cuts are left out."""
    ny, nx = (n // size for n in values.shape)
    rows = values[: ny * size, : nx * size].reshape(ny, size, nx * size).sum(axis=1)
    columns = np.ascontiguousarray(rows.T).reshape(nx, size, ny).sum(axis=1)
    return np.asarray(columns.T / np.float32(size**2), np.float32)


def _most_of_nine(is_high: NDArray[np.bool_]) -> int:
    """Count the squares about which five of nine are high."""
    count = np.pad(is_high, 1).astype(np.int8)
    count = count[:-2] + count[1:-1] + count[2:]
    count = count[:, :-2] + count[:, 1:-1] + count[:, 2:]
    return int(np.count_nonzero(count >= 5))


def _patches(difference: Difference, other: Image, means: Levels, threshold: float, size: int, sign: float) -> Levels:
    """Return the level of each square that is part of a ghost, zero elsewhere."""
    levels = np.zeros_like(means)
    labels, _ = ndimage.label(means > threshold, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if (box[0].stop - box[0].start) * (box[1].stop - box[1].start) < FEWEST_BINS:
            continue
        wide = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
        inside = labels[wide] == number
        if _is_disc(inside, means[wide], means.size) and not _is_in(difference, other, inside, wide, size, sign):
            levels[wide] = np.where(inside, means[wide], levels[wide])
    return levels


def _is_disc(inside: NDArray[np.bool_], means: Levels, n_bins: int) -> bool:
    """Whether a patch is large, compact and even, its holes counted as its own."""
    whole = ndimage.binary_fill_holes(inside)
    n = int(whole.sum())
    if not FEWEST_BINS <= n <= LARGEST_PART * n_bins:
        return False
    short, long = np.linalg.eigvalsh(np.cov(np.argwhere(whole).T))
    middle, high = np.percentile(means[inside], (50, 90))
    return bool(long <= LONGEST**2 * short and middle >= EVEN * high)


def _is_in(
    difference: Difference, other: Image, inside: NDArray[np.bool_], box: tuple[slice, ...], size: int, sign: float
) -> bool:
    """Whether another image is brighter there than around, too: a galaxy, a nebula, the halo of a star."""
    pixels = tuple(slice(part.start * size, (part.start + n) * size) for part, n in zip(box, inside.shape, strict=True))
    around = ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_dilation(inside)
    contrast = []
    for image, factor in ((difference, sign), (other, 1.0)):
        flux = np.where(image.mask[pixels] == 0, image.flux[pixels], np.nan)
        here, there = (np.kron(part, np.ones((size, size), bool)) for part in (inside, around))
        here, there = (flux[part[: flux.shape[0], : flux.shape[1]]] for part in (here, there))
        if np.isnan(here).all() or np.isnan(there).all():
            return True
        contrast.append(factor * float(np.nanmedian(here) - np.nanmedian(there)))
    return contrast[1] > FIXED * abs(contrast[0])
