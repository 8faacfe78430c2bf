"""Fluxes of point sources at known places, and the limits where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from astrid.image import Difference

Floats = NDArray[np.float64]

LARGEST_MASKED_FRACTION = 0.99
CHI2_CORE = 0.02  # chi2 is taken where the PSF exceeds this part of its peak
POSITIONS_AT_A_TIME = 1024
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True, eq=False)
class PsfFlux:
    """PSF photometry of n positions.

    Attributes
    ----------
    flux, error : (n,) float64 arrays
        Flux of a point source and its standard deviation; NaN where more than
        99 % of the squared PSF is masked or outside the image.
    chi2 : (n,) float64 array
        Reduced chi-squared of the fit in the core of the PSF; NaN like ``flux``.
    masked_fraction : (n,) float64 array
        Part of the squared PSF that is masked or outside the image.
    """

    flux: Floats
    error: Floats
    chi2: Floats
    masked_fraction: Floats


def psf_flux(
    flux: NDArray[Any], variance: NDArray[Any], mask: NDArray[Any], psf: NDArray[Any], y: ArrayLike, x: ArrayLike
) -> PsfFlux:
    """Measure point sources at given positions.

    The flux is ``sum(D P) / sum(P**2)`` over unmasked pixels, with P the PSF
    shifted to the position, and its variance ``sum(V P**2) / sum(P**2)**2``.
    Uniform weights keep the flux unbiased where V follows the source itself.

    Parameters
    ----------
    flux, variance, mask : (ny, nx) arrays
        Image, its white-equivalent variance, and where it must not be used
        (any value but zero).
    psf : (py, px) or (n, py, px) array
        Point-spread function, odd-sided, summing to one; or the one at each position.
    y, x : (n,) arrays
        Positions in pixels.

    Returns
    -------
    PsfFlux
        One entry per position, in order.
    """
    if not flux.shape == variance.shape == mask.shape:
        raise ValueError(f"flux is {flux.shape}, variance {variance.shape} and mask {mask.shape}")
    ys, xs = np.atleast_1d(np.asarray(y, np.float64)), np.atleast_1d(np.asarray(x, np.float64))
    if ys.shape != xs.shape or ys.ndim != 1:
        raise ValueError(f"y is {ys.shape} but x is {xs.shape}")
    if not (np.isfinite(ys).all() and np.isfinite(xs).all()):
        raise ValueError("y and x must be finite")
    if psf.ndim == 3 and len(psf) != len(ys):
        raise ValueError(f"there are {len(psf)} PSFs for {len(ys)} positions")
    out = np.full((4, len(ys)), np.nan)
    for first in range(0, len(ys), POSITIONS_AT_A_TIME):
        at = slice(first, first + POSITIONS_AT_A_TIME)
        p = shifted_psfs(psf[at] if psf.ndim == 3 else psf, ys[at], xs[at])
        d, v = (cut_windows(plane, ys[at], xs[at], p.shape[1:]) for plane in (flux, variance))
        w = cut_windows(mask, ys[at], xs[at], p.shape[1:], fill=1) == 0
        w &= np.isfinite(d) & np.isfinite(v) & (v > 0)
        d, v = np.where(w, d, 0).astype(np.float64), np.where(w, v, 1).astype(np.float64)
        out[:, at] = _fit(d, v, w, p)
    return PsfFlux(*out)


def _fit(d: Floats, v: Floats, w: NDArray[np.bool_], p: Floats) -> Floats:
    axes = (1, 2)
    pw = p * w
    power, total = np.einsum("nyx,nyx->n", pw, p), np.einsum("nyx,nyx->n", p, p)
    masked = 1 - power / total
    lost = masked > LARGEST_MASKED_FRACTION
    power[lost] = np.nan
    f = np.einsum("nyx,nyx->n", d, pw) / power
    error = np.sqrt(np.einsum("nyx,nyx,nyx->n", v, pw, pw)) / power
    core = w & (p > CHI2_CORE * p.max(axes, keepdims=True))
    number, row, column = np.nonzero(core)
    each = (d[number, row, column] - f[number] * p[number, row, column]) ** 2 / v[number, row, column]
    n = np.bincount(number, minlength=len(d))
    chi2 = np.bincount(number, each, minlength=len(d)) / np.maximum(n - 1, 1)
    chi2[lost] = np.nan
    return np.stack([f, error, chi2, np.clip(masked, 0, 1)])


def shifted_psfs(psf: NDArray[Any], y: Floats, x: Floats) -> Floats:
    """PSF stamps moved by the sub-pixel part of each position, shape (n, py, px); one PSF for all or one for each.

    Moved in Fourier space, which is exact for a PSF sampled well enough.
    """
    dy, dx = y - np.rint(y), x - np.rint(x)
    ramp_y = np.exp(-2j * np.pi * dy[:, None] * np.fft.fftfreq(psf.shape[-2]))
    ramp_x = np.exp(-2j * np.pi * dx[:, None] * np.fft.rfftfreq(psf.shape[-1]))
    hat = np.fft.rfft2(psf.astype(np.float64)) * ramp_y[:, :, None] * ramp_x[:, None, :]
    return np.fft.irfft2(hat, psf.shape[-2:])


def cut_windows(image: NDArray[Any], y: Floats, x: Floats, shape: tuple[int, ...], *, fill: Any = 0) -> NDArray[Any]:
    """Windows of an odd shape around the pixels nearest to positions, (n, *shape), ``fill`` outside the image."""
    (ny, nx), (height, width) = image.shape, shape
    row = np.rint(y).astype(np.intp) - height // 2
    column = np.rint(x).astype(np.intp) - width // 2
    whole = (row >= 0) & (column >= 0) & (row <= ny - height) & (column <= nx - width)
    windows = np.empty((len(row), height, width), image.dtype)
    if whole.any():
        windows[whole] = sliding_window_view(image, (height, width))[row[whole], column[whole]]
    if not whole.all():
        rows = row[~whole, None] + np.arange(height)
        columns = column[~whole, None] + np.arange(width)
        inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
        values = image[np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]]
        windows[~whole] = np.where(inside, values, np.asarray(fill, image.dtype))
    return windows


def equivalent_fwhm(psf: NDArray[Any]) -> float:
    """FWHM of the Gaussian with the noise-equivalent area ``1 / sum(P**2)`` of a PSF, in pixels."""
    power = float((psf.astype(np.float64) ** 2).sum())
    return float(FWHM_PER_SIGMA / np.sqrt(4 * np.pi * power))


def is_detection(flux: ArrayLike, error: ArrayLike, n_sigma: float = 5.0) -> NDArray[np.bool_]:
    """Whether fluxes of either sign reach ``n_sigma``; never where the error is not a positive number."""
    f, e = np.asarray(flux, np.float64), np.asarray(error, np.float64)
    known = np.isfinite(f) & np.isfinite(e) & (e > 0)
    return known & (np.abs(f) >= n_sigma * e)


def flux_limit(flux: ArrayLike, error: ArrayLike, *, n_sigma: float = 5.0) -> Floats:
    """Upper limit on the flux of what was not detected. The only function that makes limits.

    ``max(flux, 0) + n_sigma * error``: above any flux that was measured and
    never a number that `is_detection` could have passed. NaN where the flux is
    a detection of either sign, or was not measured.

    Parameters
    ----------
    flux, error : arrays
        Measured fluxes and their standard deviations.
    n_sigma : float
        Threshold of `is_detection`.

    Examples
    --------
    >>> flux_limit([-3.0, 2.0, 60.0], [10.0, 10.0, 10.0]).tolist()
    [50.0, 52.0, nan]
    """
    f, e = np.asarray(flux, np.float64), np.asarray(error, np.float64)
    known = np.isfinite(f) & np.isfinite(e) & (e > 0)
    return np.where(known & ~is_detection(f, e, n_sigma), np.maximum(f, 0) + n_sigma * e, np.nan)


def magnitude(flux: ArrayLike, error: ArrayLike, zero_point: ArrayLike) -> tuple[Floats, Floats]:
    """AB magnitudes and their errors; NaN where the flux is not positive or the zero point unknown.

    ``zero_point`` is the magnitude of one flux unit (31.4 for nJy).
    """
    f, e, zero = (np.asarray(a, np.float64) for a in (flux, error, zero_point))
    positive = np.where(f > 0, f, np.nan)
    value = zero - 2.5 * np.log10(positive)
    return value, 2.5 / np.log(10) * e / positive + 0 * value


def limiting_magnitude(limit: ArrayLike, zero_point: ArrayLike) -> Floats:
    """AB magnitude of a flux from `flux_limit` or `depth_flux`; NaN where there is none."""
    return magnitude(limit, 0.0, zero_point)[0]


def depth_flux(difference: Difference, n_sigma: float = 5.0) -> float:
    """Flux of a point source at ``n_sigma``, median over unmasked pixels; NaN if there are none."""
    good = difference.mask == 0
    if not good.any():
        return float("nan")
    power = float((difference.psf.astype(np.float64) ** 2).sum())
    return float(n_sigma * np.sqrt(float(np.median(difference.variance[good])) / power))
