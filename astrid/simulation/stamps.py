"""PSFs of injected transients: shifted, placed and perturbed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray

_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))

Float64Array = NDArray[np.float64]


def perturb_psf(psf: FloatArray, uncertainty: float, rng: np.random.Generator, *, noise: float = 0.0) -> FloatArray:
    """Draw a PSF as different from the measured one as the true one may be.

    Parameters
    ----------
    psf : (py, px) array
        Measured PSF, summing to one.
    uncertainty : float
        Relative 1-sigma error of its width; the draw is cut at 3 sigma.
    rng : numpy.random.Generator
        Source of the draw.
    noise : float
        Standard deviation of noise added to each pixel, as a fraction of the peak.

    Returns
    -------
    (py, px) float32 array
        Summing to one.
    """
    if not 0 <= uncertainty < 0.3:
        raise ValueError(f"uncertainty must be in [0, 0.3), got {uncertainty}")
    if not noise >= 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    scale = 1.0 + uncertainty * float(np.clip(rng.standard_normal(), -3.0, 3.0))
    grain = noise * float(psf.max()) * rng.standard_normal(psf.shape)
    centre = (np.array(psf.shape) - 1) / 2
    stretched = psf.astype(np.float64)
    if scale != 1.0:
        offset = centre - centre / scale
        stretched = ndimage.affine_transform(stretched, np.full(2, 1 / scale), offset=offset, order=3)
    stretched = stretched + grain
    return np.asarray(stretched / stretched.sum(), dtype=np.float32)


def psf_fwhm(psf: FloatArray) -> float:
    """Full width at half maximum, in pixels, of the Gaussian with the PSF's noise area ``1 / sum(P^2)``."""
    noise_area = float(np.sum(psf, dtype=np.float64) ** 2 / np.sum(psf.astype(np.float64) ** 2))
    return float(_FWHM_PER_SIGMA * np.sqrt(noise_area / (4 * np.pi)))


def psf_flux_error(
    variance: FloatArray, psf: FloatArray, y: float, x: float, *, mask: NDArray[np.integer] | None = None
) -> float:
    """Error of PSF flux ``sum(D P) / sum(P^2)`` at a position: ``sqrt(sum(V P^2)) / sum(P^2)``.

    Parameters
    ----------
    variance : (ny, nx) array
        Of the difference, from science and template noise.
    psf : (py, px) array
        Of the difference.
    y, x : float
        Position, in pixels.
    mask : (ny, nx) int array, optional
        Pixels that are not zero are left out, unless they hold more than half of ``sum(P^2)``.

    Returns
    -------
    float
        In the flux unit of the image.
    """
    stamp, place, inside = stamp_at(psf, y, x, variance.shape)
    weight = stamp[inside] ** 2
    if mask is not None:
        good = np.where(mask[place] == 0, weight, 0.0)
        weight = good if good.sum() >= 0.5 * weight.sum() else weight
    return float(np.sqrt(np.sum(variance[place].astype(np.float64) * weight)) / np.sum(weight))


def shift_psf(psf: FloatArray, dy: float, dx: float, *, pad: int = 4) -> Float64Array:
    """Shift a PSF by a fraction of a pixel with a quintic spline.

    Sum and centroid are exact. The PSF flux of the shifted PSF is within 0.1 % for a
    FWHM of 2.5 px or more and within 0.2 % at 2 px, where a Fourier shift would ring and move
    the centroid by 0.03 px.

    Returns
    -------
    (py + 2 pad, px + 2 pad) float64 array
    """
    padded = np.pad(psf.astype(np.float64), pad)
    return np.asarray(ndimage.shift(padded, (dy, dx), order=5), dtype=np.float64)


def stamp_at(
    psf: FloatArray, y: float, x: float, shape: tuple[int, ...]
) -> tuple[Float64Array, tuple[slice, slice], tuple[slice, slice]]:
    """Place a PSF at a sub-pixel position: the stamp, where it lies in the image, and which part of it does."""
    row, column = int(np.rint(y)), int(np.rint(x))
    stamp = shift_psf(psf, y - row, x - column)
    top, left = row - stamp.shape[0] // 2, column - stamp.shape[1] // 2
    rows = slice(max(top, 0), max(min(top + stamp.shape[0], shape[0]), 0))
    columns = slice(max(left, 0), max(min(left + stamp.shape[1], shape[1]), 0))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        raise ValueError(f"position ({y}, {x}) is outside the image of shape {shape}")
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    return stamp, (rows, columns), inside
