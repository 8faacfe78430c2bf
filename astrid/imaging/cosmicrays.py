"""Cosmic rays: pixels sharper than the PSF allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray
from astrid.imaging.photometry import shifted_psfs

SHARP_SIGMA = 6.0  # significance of the second derivative
GROW_SIGMA = 4.0
SHARE = 0.4  # of the least light that the neighbours of a star's pixel can have; below it is no star
DEFICIT_SIGMA = 3.0  # significance of the missing light
OFFSETS = np.linspace(-0.5, 0.5, 7)
_SQUARE = np.ones((3, 3), bool)


def find_cosmic_rays(
    flux: FloatArray, sigma: FloatArray, mask: NDArray[np.bool_], *, psf: FloatArray
) -> NDArray[np.bool_]:
    """Find pixels hit by cosmic rays by Laplacian edge detection.

    Follows van Dokkum 2001 (PASP 113 1420): the image is doubled in size, its
    Laplacian cut at zero and brought back (eqs 4 to 9), divided by the noise (eq 11),
    and must stand out (eq 12). In place of the fine structure (eq 14), which
    takes the cores of sharp stars for hits, the PSF decides: a pixel is a hit only
    if its four neighbours have less light than any star leaves them.

    Parameters
    ----------
    flux, sigma : (ny, nx) float32 arrays
        Background-subtracted flux and its noise, that of the sources included.
    mask : (ny, nx) bool array
        Pixels known to be bad already; never returned.
    psf : (py, px) array
        Of the image.

    Returns
    -------
    (ny, nx) bool array
    """
    doubled = np.repeat(np.repeat(flux, 2, axis=0), 2, axis=1)
    edges = np.maximum(-ndimage.laplace(doubled) / 4, 0)
    ny, nx = flux.shape
    score = 2 * edges.reshape(ny, 2, nx, 2).mean(axis=(1, 3)) / sigma
    score -= ndimage.median_filter(score, 5)
    too_sharp = sharper_than_stars(flux, sigma, psf)
    hit = (score > SHARP_SIGMA) & too_sharp & ~mask
    near = ndimage.binary_dilation(hit, structure=_SQUARE)
    return np.asarray(hit | (near & too_sharp & (score > GROW_SIGMA) & ~mask), bool)


def sharper_than_stars(excess: FloatArray, sigma: FloatArray, psf: FloatArray) -> NDArray[np.bool_]:
    """Return the pixels whose neighbours are too faint for a star to sit there.

    Parameters
    ----------
    excess, sigma : (ny, nx) arrays
        Flux above the surroundings and the noise of a pixel.
    psf : (py, px) array
        Of the image.

    Returns
    -------
    (ny, nx) bool array
        Where the faintest of the four neighbours, or their sum, is significantly below
        the least that a star at any place within the pixel leaves them.
    """
    faintest_share, sum_share = neighbour_shares(psf)
    edge = np.pad(excess, 1, mode="edge")
    around = [edge[:-2, 1:-1], edge[2:, 1:-1], edge[1:-1, :-2], edge[1:-1, 2:]]
    too_faint = np.zeros(excess.shape, bool)
    for share, light, noise in (
        (faintest_share, np.minimum.reduce(around), 1.0),
        (sum_share, np.sum(around, axis=0), 2.0),
    ):
        least = share * excess
        too_faint |= (light < SHARE * least) & (least - light > DEFICIT_SIGMA * noise * sigma)
    return too_faint


def neighbour_shares(psf: FloatArray) -> tuple[float, float]:
    """Return the least light, relative to a star's brightest pixel, of its faintest neighbour and of all four."""
    dy, dx = (grid.ravel() for grid in np.meshgrid(OFFSETS, OFFSETS))
    half = psf.shape[0] // 2, psf.shape[1] // 2
    moved = shifted_psfs(psf, dy, dx)
    peak = moved[:, half[0], half[1]]
    around = np.stack([moved[:, half[0] + j, half[1] + i] for j, i in ((-1, 0), (1, 0), (0, -1), (0, 1))])
    shares = around / np.maximum(peak, 1e-9)
    return max(float(shares.min()), 0.0), max(float(shares.sum(axis=0).min()), 0.0)
