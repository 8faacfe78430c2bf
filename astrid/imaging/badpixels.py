"""Bad pixels of a detector, from its own exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from astrid.image import FloatArray

SUSPECT_SIGMA = 5.0
SHARPNESS = 2.5  # excess over the mean of the neighbours, in units of the neighbours' own excess
MIN_EXPOSURES = 3
MIN_FRACTION = 0.5


def find_suspects(flux: FloatArray, sigma: FloatArray, mask: NDArray[np.bool_], *, fwhm: float) -> NDArray[np.int16]:
    """Find single pixels that no star of this seeing can make.

    A star centred on a pixel leaves its four neighbours ``2**(-4 / fwhm**2)`` of its
    peak (Gaussian core); a hot or dead pixel leaves them nothing.

    Parameters
    ----------
    flux, sigma : (ny, nx) float32 arrays
        Background-subtracted flux and noise of the background.
    mask : (ny, nx) bool array
        Pixels already known to be unusable.
    fwhm : float
        Seeing in pixels.

    Returns
    -------
    (n, 2) int16 array
        Pixels ``(y, x)``.
    """
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    around = ndimage.convolve(flux, cross, mode="nearest")
    sky = ndimage.median_filter(flux, 5)
    expected = 2.0 ** (-4.0 / max(fwhm, 1.6) ** 2)  # of the peak, in the neighbours
    excess, neighbours = flux - sky, around - sky
    hot = (excess > SUSPECT_SIGMA * sigma) & (neighbours < 0.5 * expected * excess)
    dead = (excess < -SUSPECT_SIGMA * sigma) & (neighbours > 0.5 * expected * excess)
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
