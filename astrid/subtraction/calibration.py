"""Make five sigma mean five sigma: measure level and noise of a difference between the sources."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from astrid.errors import AlgorithmError
from astrid.image import Difference, FloatArray, Image
from astrid.imaging.background import clipped_std
from astrid.imaging.photometry import equivalent_fwhm
from astrid.schema import MaskBit
from astrid.subtraction.base import InSteps, Subtractor
from astrid.subtraction.masks import CUT_REACH, convolved, mask_cut_stars, row_strips, running_maximum

ENOUGH = 1000  # source-free pixels that level and width are measured on, and at least
ENOUGH_BEAMS = 30  # of the squared FWHM of the difference, so that the width is good to some 13 %
MOST_OF_GRID = 0.9  # of its area; a box that is larger is not cut out
SOURCE_SIGMA = 3.0
SOURCE_MARGIN = 4  # px around the sources, or
SOURCE_MARGIN_FWHM = 1.5  # of the FWHM of the difference where that is more
LEAST_KEPT = 8  # a star that the border of a box cuts costs no more than this part of the box
LARGEST_WIDTH = 10.0
SMALL = 0.01  # a width this close to one needs no second pass
MUCH = 0.1  # one this far off changes which stars tell of shift and residual: all is done again
LEVEL_SIGMA = 32.0  # px over which the level is averaged
NEW_SIGMA = 4.0  # score of what may be a source of one image alone: its light,
NEW_FWHM = 2.0  # within so many FWHM of the difference, is no level
BLOCK = 8  # px
SMOOTHING = (
    np.exp(-(np.arange(-4, 5) ** 2) / 2) / np.exp(-(np.arange(-4, 5) ** 2) / 2).sum()
)  # of the template's S/N, where its sources are looked for
SAMPLE = 150_000  # pixels that tell a width: neighbours in a difference tell the same, each fourth is enough
CUT_SAMPLE = 40_000  # and those that tell only where to cut


def source_free(difference: Difference, template: Image) -> NDArray[np.bool_]:
    """Return the unmasked pixels of a difference away from the sources of the template.

    Parameters
    ----------
    difference : Difference
        For its mask.
    template : Image
        The deeper of the two images.
    """
    good = template.mask == 0
    if not good.any():
        return np.zeros(good.shape, bool)
    smooth = convolved(template.flux / np.sqrt(template.variance), SMOOTHING)
    source = smooth > SOURCE_SIGMA * clipped_std(_sample(smooth, good, SAMPLE))
    margin = max(SOURCE_MARGIN, int(SOURCE_MARGIN_FWHM * equivalent_fwhm(difference.psf)))
    near = ndimage.binary_dilation(source, iterations=margin)
    return np.asarray(~near & (difference.mask == 0), bool)


def subtract_calibrated(method: Subtractor, science: Image, template: Image) -> tuple[Difference, float]:
    """Subtract what two images share of their grid, with calibrated noise; see `subtract_whole`.

    Where less than nine tenths of the grid lies in the box that both have data in (stamps smaller than their
    tile, a corner of an exposure), the rest is cut off first: an edge of data is mirrored like that of an image.
    """
    box = shared_box(science, template)
    if box is None:
        return subtract_whole(method, science, template)
    small = _cut(science, box), _cut(template, box)
    part, width = subtract_whole(method, *small)
    # what was cut off is missing: stars across its border are cut
    border = np.zeros(science.mask.shape, bool)
    border[box] = True
    border = ndimage.binary_dilation(~border)[box]
    reach = min(CUT_REACH * equivalent_fwhm(part.psf), min(border.shape) / LEAST_KEPT)
    mask_cut_stars(part.mask, border, _of_both(_matched(small[0]), _matched(small[1])), reach)
    mask = np.full(science.mask.shape, MaskBit.NO_DATA.value, np.uint16)
    mask |= science.mask
    flux, significance = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
    variance = np.ones(mask.shape, np.float32)
    mask[box], flux[box], variance[box], significance[box] = part.mask, part.flux, part.variance, part.significance
    return Difference(flux, variance, mask, part.psf, significance), width


def _matched(image: Image) -> FloatArray:
    """Return the S/N of a source at each pixel, matched with the PSF; the noise of sources is the sky's."""
    seen = image.mask == 0
    noise = fftconvolve(np.where(seen, image.variance, 0), image.psf**2, mode="same")
    flux = fftconvolve(np.where(seen, image.flux, 0), image.psf, mode="same")
    least = np.median(noise[seen]) if seen.any() else 1.0
    return np.asarray(flux / np.sqrt(np.maximum(noise, 0.01 * least)) * seen, np.float32)


def _of_both(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the smaller S/N, for a star is in both images and what is new is not; where one is masked, the other's."""
    return np.where((first != 0) & (second != 0), np.minimum(first, second), np.maximum(first, second))


def shared_box(science: Image, template: Image) -> tuple[slice, slice] | None:
    """Return the box that holds all pixels with data in both images, None where it is most of the grid or empty."""
    there = ((science.mask | template.mask) & np.uint16(MaskBit.NO_DATA)) == 0
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return None
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    if there[box].size > MOST_OF_GRID * there.size:
        return None
    return box


def _cut(image: Image, box: tuple[slice, slice]) -> Image:
    return replace(image, flux=image.flux[box], variance=image.variance[box], mask=image.mask[box])


def subtract_whole(method: Subtractor, science: Image, template: Image) -> tuple[Difference, float]:
    """Subtract with the noise correlation measured where it can be: on the difference, between the sources.

    A single image cannot tell correlated noise from unresolved sources and an uneven
    background; in the difference they are gone. The method runs with white noise, the
    width of its score off sources is the noise correlation, and the method runs again with it.
    What two backgrounds leave, averaged over some 32 px, is subtracted.

    Parameters
    ----------
    method : Subtractor
        How to subtract.
    science, template : Image
        Their own ``noise_correlation`` is used only where too few pixels are free of sources
        (alert stamps): fewer than 1000, or than 30 times the squared FWHM.

    Returns
    -------
    (Difference, noise_correlation)
        The score has unit width off sources.

    Raises
    ------
    AlgorithmError
        As the method does, or if the noise is not what the variances say by more than a factor of ten.
    """
    white_images = replace(science, noise_correlation=1.0), replace(template, noise_correlation=1.0)
    in_steps = method if isinstance(method, InSteps) else None
    parts = in_steps.parts(*white_images) if in_steps else None
    white = in_steps.finished(parts, 1.0) if in_steps else method(*white_images)
    free = source_free(white, template)
    if free.sum() < max(ENOUGH, ENOUGH_BEAMS * equivalent_fwhm(white.psf) ** 2):
        return method(science, template), science.noise_correlation
    width, level = _width(white, free)
    if not width > 0:
        return white, 1.0
    if not 1 / LARGEST_WIDTH < width < LARGEST_WIDTH:
        raise AlgorithmError(
            f"the difference has {width:.3g} times the noise that its variances say, measured on {int(free.sum())} "
            f"pixels between the sources; up to {LARGEST_WIDTH:g} times more or less is corrected: "
            "are the variances right?"
        )
    left = width
    if abs(width - 1) > SMALL:
        if in_steps and abs(width - 1) < MUCH:
            white = in_steps.finished(parts, width)
        else:
            white = method(replace(science, noise_correlation=width), replace(template, noise_correlation=width))
        left, level = _width(white, free)
    scale = np.float32(left)
    quiet = free & ~_near_new(white, left)
    if quiet.sum() >= ENOUGH:
        free, level = quiet, _level(white.significance, quiet)
    significance = white.significance - level
    significance /= scale
    changed = replace(
        white,
        flux=white.flux - _level(white.flux, free),
        significance=significance,
        variance=white.variance * scale**2,
    )
    return changed, width


def _near_new(difference: Difference, width: float) -> NDArray[np.bool_]:
    """Return the pixels about peaks of the score, of either sign: a level that they raised would lower their flux."""
    margin = max(SOURCE_MARGIN, int(NEW_FWHM * equivalent_fwhm(difference.psf)))
    return running_maximum(np.abs(difference.significance) > np.float32(NEW_SIGMA * width), 2 * margin + 1)


def _width(difference: Difference, free: NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """Return the width of the score off sources, and the level that it has there."""
    level = _level(difference.significance, free)
    return clipped_std(_sample(difference.significance, free, SAMPLE, level)), level


def _sample(values: FloatArray, where: NDArray[np.bool_], enough: int, less: FloatArray | None = None) -> FloatArray:
    """Return some of the values, less others, every so many pixels along both axes, so that still enough are left."""
    step = max(1, int(np.sqrt(float(np.count_nonzero(where)) / enough)))
    every = slice(None, None, step), slice(None, None, step)
    seen = where[every]
    if np.count_nonzero(seen) < min(enough, ENOUGH):
        every, seen = (slice(None), slice(None)), where
    return values[every][seen] if less is None else values[every][seen] - less[every][seen]


def _level(values: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    """Return the mean of the free pixels around each one; it is made of blocks, far smaller than it is smooth."""
    sample = _sample(values, free, CUT_SAMPLE)
    spread, middle = np.float32(clipped_std(sample)), np.float32(np.median(sample))
    weight, total = (np.empty([-(-n // BLOCK) for n in values.shape], np.float32) for _ in range(2))
    for rows in row_strips(len(values)):
        blocks = slice(rows.start // BLOCK, -(-rows.stop // BLOCK))
        off = values[rows] - middle
        used = np.abs(off) < 4 * spread
        used &= free[rows]
        weight[blocks] = _blocks(used)
        total[blocks] = _blocks(np.where(used, off, 0))
    sigma = LEVEL_SIGMA / BLOCK
    weight, total = (ndimage.gaussian_filter(part, sigma, truncate=3.0) for part in (weight, total))
    rows_of, columns_of = (_between_blocks(n) for n in values.shape)
    level: FloatArray = rows_of @ (total / (weight + np.float32(0.02))) @ columns_of.T
    level += middle
    return level


def _blocks(values: NDArray[Any]) -> FloatArray:
    """Return the means of square blocks; those at the far edges may reach beyond, where it is zero."""
    ny, nx = (-(-n // BLOCK) * BLOCK for n in values.shape)
    whole = np.zeros((ny, nx), np.float32)
    whole[: values.shape[0], : values.shape[1]] = values
    rows = whole.reshape(ny // BLOCK, BLOCK, nx).sum(axis=1)
    means: FloatArray = rows.reshape(ny // BLOCK, nx // BLOCK, BLOCK).sum(axis=2)
    means *= np.float32(1 / BLOCK**2)
    return means


def _between_blocks(n: int) -> FloatArray:
    """Return the (n, blocks) weights that interpolate between the middles of blocks."""
    count = -(-n // BLOCK)
    at = np.clip((np.arange(n) + 0.5) / BLOCK - 0.5, 0, count - 1)
    weights: FloatArray = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count))).astype(np.float32)
    return weights
