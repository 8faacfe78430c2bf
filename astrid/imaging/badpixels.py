"""Bad pixels of a detector, from its own exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from astrid.image import FloatArray
from astrid.imaging.cosmicrays import sharper_than_stars

SUSPECT_SIGMA = 5.0
MIN_EXPOSURES = 3
MIN_FRACTION = 0.5


def find_suspects(
    flux: FloatArray, sigma: FloatArray, mask: NDArray[np.bool_], *, psf: FloatArray
) -> NDArray[np.int16]:
    """Find single pixels, hot or dead, that no star can make.

    Parameters
    ----------
    flux, sigma : (ny, nx) float32 arrays
        Background-subtracted flux and its noise, that of the sources included.
    mask : (ny, nx) bool array
        Pixels already known to be unusable.
    psf : (py, px) array
        Of the image.

    Returns
    -------
    (n, 2) int16 array
        Pixels ``(y, x)``.
    """
    excess = flux - ndimage.median_filter(flux, 5)
    # on the flank of a star the median differs from the star: a hot pixel is also sharp without it,
    hot = (excess > SUSPECT_SIGMA * sigma) & sharper_than_stars(excess, sigma, psf)
    hot &= sharper_than_stars(flux, sigma, psf)
    # and a dead one is below zero, or below its neighbours on both sides
    dead = (excess < -SUSPECT_SIGMA * sigma) & sharper_than_stars(-excess, sigma, psf)
    edge = np.pad(flux, 1, mode="edge")
    beside, above = np.minimum(edge[1:-1, :-2], edge[1:-1, 2:]), np.minimum(edge[:-2, 1:-1], edge[2:, 1:-1])
    depth = np.maximum(beside, above) - flux
    dead &= (depth > SUSPECT_SIGMA * ndimage.maximum_filter(sigma, 3)) | (flux < -SUSPECT_SIGMA * sigma)
    return np.argwhere((hot | dead) & ~mask).astype(np.int16)


def bad_pixel_map(suspects: Sequence[NDArray[np.int16]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Combine the suspects of a detector's exposures into a map of bad pixels.

    A pixel is bad when it is suspect in at least half of the exposures, or more often
    than chance (cosmic rays, noise) would make any pixel of the detector.

    Parameters
    ----------
    suspects : sequence of (n, 2) int arrays
        From `find_suspects`, one per exposure.
    shape : tuple of int
        (ny, nx) of the detector.

    Returns
    -------
    (ny, nx) bool array
        All False with fewer than three exposures.
    """
    n = len(suspects)
    counts = np.zeros(shape, np.int32)
    for places in suspects:
        counts[places[:, 0], places[:, 1]] += 1
    if n < MIN_EXPOSURES:
        return np.zeros(shape, bool)
    chance = max(float(np.median([len(places) for places in suspects])) / counts.size, 1e-9)
    needed = int(stats.binom.isf(1e-3 / counts.size, n, min(chance, 0.5))) + 1
    return np.asarray(counts >= max(2, min(max(needed, math.ceil(0.2 * n)), math.ceil(MIN_FRACTION * n))), bool)
