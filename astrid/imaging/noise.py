"""The noise of images: of one pixel, and of what a PSF-shaped filter sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from astrid.image import FloatArray, Image
from astrid.imaging.background import clipped_std, find_sources

# a second difference along both axes: blind to background and to slopes of galaxies (Immerkaer 1996)
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
ENOUGH = 2000


def white_noise(flux: FloatArray, exclude: NDArray[np.bool_]) -> float:
    """Return the standard deviation of one pixel from its differences to the neighbours.

    Parameters
    ----------
    flux : (ny, nx) float32 array
        Background-subtracted, on the detector.
    exclude : (ny, nx) bool array
        Sources and masked pixels.

    Returns
    -------
    float
        In the unit of ``flux``; NaN for fewer than three pixels.
    """
    touched = ndimage.binary_dilation(exclude, structure=np.ones((3, 3), bool))
    if np.sum(~touched) < ENOUGH:
        touched = np.zeros_like(touched)
    high: FloatArray = np.asarray(signal.convolve2d(flux, _LAPLACIAN, mode="same", boundary="symm"), np.float32)
    return clipped_std(high[~touched])


def noise_correlation(image: Image) -> float:
    """Return the ratio of PSF-filtered noise to what white noise of ``variance`` gives.

    Measured between sources, on the lower half of the distribution: faint sources
    below the threshold of any mask add to the upper half only.

    Parameters
    ----------
    image : Image
        Its ``noise_correlation`` is not used.

    Returns
    -------
    float
        1 for white noise; 1 where fewer than 2000 pixels are free of sources.
    """
    normal = np.where(image.mask == 0, image.flux / np.sqrt(image.variance), 0).astype(np.float32)
    sources = find_sources(normal, image.mask != 0)
    filtered = signal.oaconvolve(normal, image.psf[::-1, ::-1], mode="same")
    edge = np.zeros(sources.shape, bool)
    ry, rx = image.psf.shape[0] // 2, image.psf.shape[1] // 2
    edge[:ry], edge[-ry:], edge[:, :rx], edge[:, -rx:] = True, True, True, True
    near = ndimage.binary_dilation(sources | (image.mask != 0), iterations=2)
    values = filtered[~near & ~edge]
    if len(values) < ENOUGH:
        return 1.0
    predicted = float(np.sqrt(np.sum(image.psf.astype(np.float64) ** 2)))
    low, middle = np.percentile(values, [15.865, 50.0])
    return float((middle - low) / predicted)
