"""Make five sigma mean five sigma: measure level and noise of a difference between the sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import Difference, FloatArray, Image
from astrid.imaging.background import clipped_std

ENOUGH = 5000  # source-free pixels that level and width are measured on
SOURCE_SIGMA = 3.0
SOURCE_MARGIN = 4
LEVEL_SIGMA = 32.0  # px over which the level is averaged


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
    smooth = ndimage.gaussian_filter(template.flux / np.sqrt(template.variance), 1.0)
    source = smooth > SOURCE_SIGMA * clipped_std(smooth[good])
    near = ndimage.binary_dilation(source, iterations=SOURCE_MARGIN)
    return np.asarray(~near & (difference.mask == 0), bool)


def calibrated(difference: Difference, template: Image) -> tuple[Difference, float]:
    """Take the level out of a difference, and divide its score by its measured width.

    What two backgrounds leave, averaged over some 32 px between the sources, is
    subtracted. What is left of correlated noise (read-out patterns, resampling before us,
    unresolved sources that a single image cannot tell from noise) is measured in the
    score, where the sources are gone, and the variance is scaled to match.

    Parameters
    ----------
    difference : Difference
        As a method made it.
    template : Image
        What was subtracted.

    Returns
    -------
    (Difference, width)
        The width that was divided by; 1, and nothing changed, where fewer than 5000
        pixels are free of sources.
    """
    free = source_free(difference, template)
    if free.sum() < ENOUGH:
        return difference, 1.0
    significance = difference.significance - _level(difference.significance, free)
    width = clipped_std(significance[free])
    if not width > 0:
        return difference, 1.0
    scale = np.float32(width)
    changed = replace(
        difference,
        flux=difference.flux - _level(difference.flux, free),
        significance=significance / scale,
        variance=difference.variance * scale**2,
    )
    return changed, width


def _level(values: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    spread = clipped_std(values[free])
    middle = np.float32(np.median(values[free]))
    used = free & (np.abs(values - middle) < 4 * spread)
    weight = ndimage.gaussian_filter(used.astype(np.float32), LEVEL_SIGMA, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(used, values - middle, 0).astype(np.float32), LEVEL_SIGMA, truncate=3.0)
    return np.asarray(middle + total / (weight + np.float32(0.02)), np.float32)
