"""Read-out stripes: offsets of whole rows or columns of a detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray
from astrid.imaging.background import clipped_std

EXCESS = 1.5  # offsets must scatter this much more, in variance, than the noise of the pixels makes them
MIN_PIXELS = 24  # of a line, for its offset to be measured
CLIP_SIGMA = 3.0
SMOOTH_LINES = 31  # what changes more slowly than this is background


def stripes(flux: FloatArray, exclude: NDArray[np.bool_]) -> FloatArray:
    """Measure the offsets of rows, then of columns.

    An amplifier that drifts adds the same to a whole line; to a filter as long as a
    star that is correlated noise. The offsets of an axis are used only where they
    scatter more than the noise of the pixels explains.

    Parameters
    ----------
    flux : (ny, nx) float32 array
        Background-subtracted.
    exclude : (ny, nx) bool array
        Sources and masked pixels.

    Returns
    -------
    (ny, nx) float32 array
        What to subtract; zero where there are no stripes.
    """
    rows = _offsets(flux, exclude)
    columns = _offsets((flux - rows[:, None]).T, exclude.T)
    return (rows[:, None] + columns[None, :]).astype(np.float32)


def _offsets(flux: FloatArray, exclude: NDArray[np.bool_]) -> FloatArray:
    """Offset of each line along the first axis."""
    none = np.zeros(len(flux), np.float32)
    if exclude.all():
        return none
    sigma = clipped_std(flux[~exclude])
    good = ~exclude
    mean, n = np.zeros(len(flux)), good.sum(axis=1)
    for _ in range(3):
        mean = np.where(n >= MIN_PIXELS, np.where(good, flux, 0).sum(axis=1) / np.maximum(n, 1), 0.0)
        good = ~exclude & (np.abs(flux - mean[:, None]) < CLIP_SIGMA * sigma)
        n = good.sum(axis=1)
    known = n >= MIN_PIXELS
    if known.sum() < SMOOTH_LINES:
        return none
    fast = mean - ndimage.median_filter(mean, SMOOTH_LINES, mode="nearest")
    spread = clipped_std(fast[known]) ** 2
    noise = float(np.median(sigma**2 / n[known]))
    if not spread > EXCESS * noise:
        return none
    return np.where(known, fast * (1 - noise / spread), 0).astype(np.float32)
