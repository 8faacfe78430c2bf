"""Cosmic rays: pixels sharper than the PSF allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray

SHARP_SIGMA = 6.0  # significance of the second derivative
CONTRAST = 3.0  # of the second derivative to the fine structure that stars have, too
GROW_SIGMA = 4.0


def find_cosmic_rays(flux: FloatArray, sigma: FloatArray, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find pixels hit by cosmic rays by Laplacian edge detection.

    Follows van Dokkum 2001 (PASP 113 1420): the image is doubled in size, its
    Laplacian cut at zero and brought back (eqs 4 to 9), divided by the noise (eq 11);
    a hit stands out (eq 12) and, unlike a star, in contrast to the fine structure
    (eq 14) of the image.

    Parameters
    ----------
    flux, sigma : (ny, nx) float32 arrays
        Background-subtracted flux and the noise of the background.
    mask : (ny, nx) bool array
        Pixels known to be bad already; never returned.

    Returns
    -------
    (ny, nx) bool array
    """
    noise = np.sqrt(sigma**2 + np.maximum(ndimage.median_filter(flux, 5), 0) * np.median(sigma))
    doubled = np.repeat(np.repeat(flux, 2, axis=0), 2, axis=1)
    edges = np.maximum(-ndimage.laplace(doubled) / 4, 0)
    ny, nx = flux.shape
    laplacian = edges.reshape(ny, 2, nx, 2).mean(axis=(1, 3)) * 4
    score = laplacian / (2 * noise)
    score -= ndimage.median_filter(score, 5)
    smooth = ndimage.median_filter(flux, 3)
    fine = np.maximum(smooth - ndimage.median_filter(smooth, 7), 0.1 * noise)
    hit = (score > SHARP_SIGMA) & (laplacian > CONTRAST * fine) & ~mask
    near = ndimage.binary_dilation(hit, structure=np.ones((3, 3)))
    return np.asarray(hit | (near & (score > GROW_SIGMA) & (flux > 5 * sigma) & ~mask), bool)
