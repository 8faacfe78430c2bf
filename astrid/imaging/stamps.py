"""Cells from alert stamps: registered and scaled already, too small for stars of their own.

What a stamp does not tell by itself, it tells together with its template: whatever is
constant, stars and galaxies alike, must vanish from the proper difference of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, optimize

from astrid.errors import AlgorithmError
from astrid.image import Exposure, FloatArray, Image
from astrid.imaging.calibration import AB_OF_NJY, flux_scale_of
from astrid.imaging.detector import dark_pixels
from astrid.imaging.preprocess import Cell
from astrid.imaging.psf import psf_fwhm
from astrid.schema import MaskBit

Floats = NDArray[np.float64]

MIN_GOOD = 200  # pixels good in both stamps
EDGE = 4  # px along edges and holes that do not judge a PSF
CLIP = 3.0  # sigmas from which a residual counts linearly
SOURCE_ERROR = 0.02  # of the flux of what is constant, that no Moffat profile describes
LEAST_TEMPLATE_NOISE = 0.05  # of the science stamp's
SKY_PERCENTILE = 25.0  # of a variance plane: the sky even where half the pixels hold sources
MOST_SMOOTHED = 0.8  # px, widest Gaussian that a resampling is taken for
MOST_EVALUATIONS = 8
N_PARAMETERS = 10
REGISTRATION_RMS = 0.05  # px per axis left after the centre of the PSF was fitted
NODES = ((-np.sqrt(0.15), 5 / 18), (0.0, 8 / 18), (np.sqrt(0.15), 5 / 18))  # Gauss-Legendre over a pixel
HIGH_PASS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6  # white noise keeps its variance


@dataclass(frozen=True)
class StampPsfPrior:
    """What is known of the PSFs of a survey's stamps before looking at them.

    Attributes
    ----------
    science_fwhm, template_fwhm : float
        Usual widths, in pixels.
    science_spread, template_spread : float
        Scatter of the logarithm of the width.
    ellipticity, template_ellipticity : float
        Scatter of either component.
    offset : float
        Scatter of the science PSF's centre on the template's, in pixels per axis.
    beta, beta_spread : float
        Exponent of the Moffat profile, and the scatter of its logarithm in science.
    template_beta_spread : float
        The same scatter in templates.
    """

    science_fwhm: float = 2.1
    science_spread: float = 0.25
    template_fwhm: float = 2.07
    template_spread: float = 0.08
    ellipticity: float = 0.08
    template_ellipticity: float = 0.05
    offset: float = 0.1
    beta: float = 3.0
    beta_spread: float = 0.2
    template_beta_spread: float = 0.2


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two background-subtracted stamps and what is good in both."""

    science: Floats
    template: Floats
    good: NDArray[np.bool_]
    science_sigma: float
    template_sigma: float
    template_noise: float
    background: float


def stamp_cells(
    science: Exposure,
    template: Exposure,
    *,
    psf_size: int,
    prior: StampPsfPrior | None = None,
) -> tuple[Cell, Cell]:
    """Make the cells of a science stamp and of the template that came with it.

    Nothing is registered or scaled again. Supplied PSFs and variances are used as
    they are, and then no background is fitted either; without PSFs both are fitted together
    (`fit_psfs`), without variances the noise is that of the highest frequencies, which no background
    structure reaches. A template was resampled before, so that the variance of its pixels is less than
    that of their sums: what the highest frequencies lack says how much (`resampled_correlation`).

    Parameters
    ----------
    science, template : Exposure
        Of one shape, the event at the centre; their unit is the cube's.
    psf_size : int
        Side of the PSF, odd.
    prior : StampPsfPrior, optional
        Of the survey.

    Returns
    -------
    (Cell, Cell)
        Science and template.

    Raises
    ------
    AlgorithmError
        If fewer than 200 pixels are good in both.
    """
    if science.flux.shape != template.flux.shape:
        raise AlgorithmError(f"science stamp is {science.flux.shape} but its template is {template.flux.shape}")
    science, template = _without_dark(science), _without_dark(template)
    planes = science.psf, template.psf, science.variance, template.variance
    is_calibrated = all(plane is not None for plane in planes)
    pair = _pair(science, template, has_background=not is_calibrated)
    rms = 0.0
    if science.psf is not None and template.psf is not None:
        psfs, origin = (_cut(science.psf, psf_size), _cut(template.psf, psf_size)), "supplied"
    else:
        found = fit_psfs(pair, science.info.gain, psf_size, prior or StampPsfPrior())
        psfs, origin, rms = found, "fitted with the template", REGISTRATION_RMS
    scale, _ = flux_scale_of(science.info)
    cells = []
    # what is left of the registration counts once, with the science stamp
    for exposure, flux, sigma, psf, floor, error, correlation in (
        (science, pair.science, pair.science_sigma, psfs[0], pair.background, rms, 1.0),
        (template, pair.template, pair.template_sigma, psfs[1], 0.0, 0.0, _template_correlation(template, pair)),
    ):
        variance = _variance(exposure, flux, sigma, pair, science.info.gain)
        mask = exposure.mask.copy()
        mask[~np.isfinite(exposure.flux)] |= np.uint16(MaskBit.NO_DATA)
        image = Image(
            np.where(mask == 0, flux * scale, 0).astype(np.float32),
            np.where(mask == 0, variance * scale**2, 1).astype(np.float32),
            mask,
            psf,
            noise_correlation=correlation,
            astrometric_rms=error,
        )
        cells.append(Cell(image, _numbers(exposure, image, sigma * scale, floor * scale, origin)))
    return cells[0], cells[1]


def _without_dark(stamp: Exposure) -> Exposure:
    good = (stamp.mask == 0) & np.isfinite(stamp.flux)
    if not good.any():
        return stamp
    flux = np.where(good, stamp.flux - np.median(stamp.flux[good]), 0).astype(np.float32)
    dark = dark_pixels(flux, ~good)
    if not dark.any():
        return stamp
    mask = stamp.mask.copy()
    mask[dark] |= np.uint16(MaskBit.BAD)
    return replace(stamp, mask=mask)


def _pair(science: Exposure, template: Exposure, *, has_background: bool) -> _Pair:
    masks = science.mask | template.mask
    good = (masks == 0) & np.isfinite(science.flux) & np.isfinite(template.flux)
    n_good = int(good.sum())
    if n_good < MIN_GOOD:
        raise AlgorithmError(f"{n_good} of {good.size} pixels are good in both stamps, at least {MIN_GOOD} needed")
    t = template.flux.astype(np.float64)
    s = science.flux.astype(np.float64)
    background = 0.0
    if has_background:
        t = t - np.median(t[good])
        background = float(np.median((s - t)[good]))
    sigma, noise = high_frequency_noise(s, good), high_frequency_noise(t, good)
    return _Pair(
        np.where(good, s - background, 0),
        np.where(good, t, 0),
        good,
        sigma,
        max(noise, LEAST_TEMPLATE_NOISE * sigma),
        noise,
        background,
    )


def high_frequency_noise(flux: NDArray[Any], good: NDArray[np.bool_]) -> float:
    """Return the noise of a pixel as the highest frequencies have it; background and faint sources do not count.

    Parameters
    ----------
    flux : (ny, nx) array
        Any unit.
    good : (ny, nx) bool array
        Pixels to use.

    Raises
    ------
    AlgorithmError
        If there is no noise: a constant image.
    """
    passed = ndimage.convolve(np.where(good, flux, 0).astype(np.float64), HIGH_PASS)
    inside = ~ndimage.binary_dilation(~good, np.ones((3, 3), bool))
    values = passed[inside] if inside.any() else passed[good]
    noise = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    if not noise > 0:
        raise AlgorithmError(f"a stamp of {flux.shape} pixels holds no noise: its values are constant")
    return noise


def resampled_correlation(ratio: float) -> float:
    """Return the noise correlation of resampled white noise from what it lacks at the highest frequencies.

    Resampling is taken for a convolution with a Gaussian k: the noise of a pixel falls by the root of
    sum(k**2), that of wide sums by nothing. How far that of the highest frequencies falls tells k.

    Parameters
    ----------
    ratio : float
        Noise of the highest frequencies (`high_frequency_noise`) over that of a pixel, one for white noise.

    Examples
    --------
    >>> resampled_correlation(1.0)
    1.0
    >>> round(resampled_correlation(0.55), 2)
    1.76
    """
    ratios, correlations = _smoothed_noise()
    return float(np.interp(-ratio, -ratios, correlations))


@lru_cache(maxsize=1)
def _smoothed_noise() -> tuple[Floats, Floats]:
    """Return, for Gaussians of growing width, the ratio of `resampled_correlation` and the correlation."""
    ratios, correlations = [1.0], [1.0]
    y = np.arange(-15, 16)
    for sigma in np.linspace(0.2, MOST_SMOOTHED, 60):
        k = np.exp(-(y**2) / (2 * sigma**2))
        kernel = np.outer(k, k) / k.sum() ** 2
        pixel = np.sqrt((kernel**2).sum())
        ratios.append(float(np.sqrt((ndimage.convolve(kernel, HIGH_PASS, mode="constant") ** 2).sum()) / pixel))
        correlations.append(float(1 / pixel))
    return np.array(ratios), np.array(correlations)


def _template_correlation(template: Exposure, pair: _Pair) -> float:
    """Return the noise correlation of a template whose variance is supplied; one where it is not."""
    if template.variance is None:
        return 1.0
    usable = pair.good & np.isfinite(template.variance) & (template.variance > 0)
    sky = float(np.percentile(template.variance[usable], SKY_PERCENTILE)) if usable.any() else 0.0
    return resampled_correlation(pair.template_noise / np.sqrt(sky)) if sky > 0 else 1.0


def moffat_stamp(size: int, fwhm: float, beta: float, e1: float = 0.0, e2: float = 0.0) -> Floats:
    """Return an elliptical Moffat profile integrated over pixels, (size, size), summing to one."""
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    core = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    norm = np.sqrt(1 - e1 * e1 - e2 * e2) * core**2
    total = np.zeros((size, size))
    for dy, wy in NODES:
        for dx, wx in NODES:
            v, u = y + dy, x + dx
            total += wy * wx * (1 + ((1 - e1) * u * u + (1 + e1) * v * v - 2 * e2 * u * v) / norm) ** -beta
    return np.asarray(total / total.sum(), float)


def fit_psfs(pair: _Pair, gain: float | None, size: int, prior: StampPsfPrior) -> tuple[FloatArray, FloatArray]:
    """Fit Moffat PSFs to science and template so that the proper difference of the two is noise.

    The proper difference (Zackay, Ofek & Gal-Yam 2016, eq 13) is white for any PSFs, so
    its chi-squared can be compared between them. The event at the centre is taken out of it
    with a free flux and place for each trial, and what lies far from zero, as another variable
    would, counts linearly only. No isolated star is needed.

    Parameters
    ----------
    pair : _Pair
        The stamps.
    gain : float or None
        Electrons per unit; None leaves out the sources' own noise.
    size : int
        Side of the PSFs.
    prior : StampPsfPrior
        Pulls the parameters where the stamps say little.

    Returns
    -------
    two (size, size) float32 arrays
        Of science and template, each summing to one.
    """
    shape = pair.science.shape
    grid = tuple(fft.next_fast_len(n + size - 3, real=True) for n in shape)
    sn, sr, good = pair.science_sigma, pair.template_sigma, pair.good
    bright = np.maximum(np.maximum(pair.science, pair.template), 0)
    steady = np.minimum(np.abs(pair.science), np.abs(pair.template))
    own = ndimage.gaussian_filter(bright / gain / sn**2, 1.0) if gain else 0.0
    variance = 1 + own + (SOURCE_ERROR * steady / sn) ** 2
    inner = good & ~ndimage.binary_dilation(~good, iterations=EDGE)
    inner[:EDGE] = inner[-EDGE:] = False
    inner[:, :EDGE] = inner[:, -EDGE:] = False
    if not inner.any():
        inner = good
    weight = 1 / np.sqrt(variance[inner])
    n_hat, r_hat = (fft.rfft2(_mirrored(flux, grid)) for flux in (pair.science, pair.template))
    top, left = ((g - n) // 2 for g, n in zip(grid, shape, strict=True))
    window = np.s_[top : top + shape[0], left : left + shape[1]]
    middle = np.s_[grid[0] // 2 - shape[0] // 2 :, grid[1] // 2 - shape[1] // 2 :]
    ky, kx = fft.fftfreq(grid[0])[:, None], fft.rfftfreq(grid[1])[None]

    def residuals(u: Floats) -> Floats:
        p = _parameters(u, prior)
        pn = _hat(moffat_stamp(size, p.fwhm, p.beta, p.e1, p.e2), grid)
        pn = pn * np.exp(-2j * np.pi * (ky * p.dy + kx * p.dx))
        pr = _hat(moffat_stamp(size, p.template_fwhm, p.template_beta, p.t1, p.t2), grid)
        norm = 1 / np.sqrt(sn**2 * np.abs(pr) ** 2 + sr**2 * np.abs(pn) ** 2 + 1e-9 * sn**2)
        d = fft.irfft2((pr * n_hat - pn * r_hat) * norm, grid)[window]
        event = fft.fftshift(fft.irfft2(pn * pr * norm, grid))[middle][: shape[0], : shape[1]]
        model = np.stack([event, *np.gradient(event)], -1)[inner] * weight[:, None]
        observed = d[inner] * weight
        left_over = observed - model @ np.linalg.lstsq(model, observed, rcond=None)[0]
        size_of = np.abs(left_over)
        linear = np.sign(left_over) * np.sqrt(np.maximum(2 * CLIP * size_of - CLIP**2, 0))
        return np.concatenate([np.where(size_of < CLIP, left_over, linear) / np.sqrt(1.5), u])

    best = optimize.least_squares(
        residuals,
        np.zeros(N_PARAMETERS),
        diff_step=np.full(N_PARAMETERS, 0.05),
        max_nfev=MOST_EVALUATIONS,
        xtol=1e-2,
        ftol=1e-3,
    )
    p = _parameters(best.x, prior)
    science = _shifted(moffat_stamp(size, p.fwhm, p.beta, p.e1, p.e2), p.dy, p.dx)
    template = moffat_stamp(size, p.template_fwhm, p.template_beta, p.t1, p.t2)
    return science.astype(np.float32), template.astype(np.float32)


@dataclass(frozen=True)
class _Parameters:
    fwhm: float
    template_fwhm: float
    e1: float
    e2: float
    dy: float
    dx: float
    t1: float
    t2: float
    beta: float
    template_beta: float


def _parameters(u: Floats, prior: StampPsfPrior) -> _Parameters:
    """Return the parameters at ``u`` sigmas of the prior, within bounds."""
    e1, e2 = np.clip(u[2:4] * prior.ellipticity, -0.4, 0.4)
    t1, t2 = np.clip(u[6:8] * prior.template_ellipticity, -0.3, 0.3)
    dy, dx = u[4:6] * prior.offset
    beta = prior.beta * float(np.exp(np.clip(u[9] * prior.template_beta_spread, -0.6, 1.0)))
    return _Parameters(
        fwhm=prior.science_fwhm * float(np.exp(np.clip(u[0] * prior.science_spread, -0.8, 1.3))),
        template_fwhm=prior.template_fwhm * float(np.exp(np.clip(u[1] * prior.template_spread, -0.4, 0.9))),
        e1=float(e1),
        e2=float(e2),
        dy=float(dy),
        dx=float(dx),
        t1=float(t1),
        t2=float(t2),
        beta=prior.beta * float(np.exp(np.clip(u[8] * prior.beta_spread, -0.6, 1.0))),
        template_beta=beta,
    )


def _mirrored(flux: Floats, grid: tuple[int, ...]) -> Floats:
    pads = [((g - n) // 2, g - n - (g - n) // 2) for g, n in zip(grid, flux.shape, strict=True)]
    return np.pad(flux, pads, mode="symmetric")


def _hat(psf: Floats, grid: tuple[int, ...]) -> NDArray[np.complex128]:
    out = np.zeros(grid)
    out[: psf.shape[0], : psf.shape[1]] = psf
    return np.asarray(fft.rfft2(np.roll(out, (-(psf.shape[0] // 2), -(psf.shape[1] // 2)), axis=(0, 1))))


def _shifted(psf: Floats, dy: float, dx: float) -> Floats:
    moved = ndimage.fourier_shift(fft.fft2(psf), (dy, dx))
    out = np.maximum(fft.ifft2(moved).real, 0)
    return np.asarray(out / out.sum(), float)


def _cut(psf: FloatArray, size: int) -> FloatArray:
    """Cut or pad a PSF to a side, keeping its centre and the sum of one."""
    out = np.zeros((size, size), np.float32)
    half = size // 2
    keep_y, keep_x = (min(size, n) // 2 for n in psf.shape)
    y, x = (n // 2 for n in psf.shape)
    out[half - keep_y : half + keep_y + 1, half - keep_x : half + keep_x + 1] = psf[
        y - keep_y : y + keep_y + 1, x - keep_x : x + keep_x + 1
    ]
    return np.asarray(out / out.sum(), np.float32)


def _variance(exposure: Exposure, flux: Floats, sigma: float, pair: _Pair, gain: float | None) -> Floats:
    if exposure.variance is not None:
        usable = np.isfinite(exposure.variance) & (exposure.variance > 0)
        return np.where(usable, exposure.variance, sigma**2).astype(np.float64)
    own = np.maximum(flux, 0) / gain * (sigma / pair.science_sigma) ** 2 if gain else 0.0
    return np.asarray(sigma**2 + own, float)


def _numbers(exposure: Exposure, image: Image, sigma: float, background: float, origin: str) -> Mapping[str, Any]:
    info = exposure.info
    return {
        "seeing_fwhm": psf_fwhm(image.psf),
        "background": background,
        "background_rms": sigma,
        "noise_correlation": image.noise_correlation,
        "astrometric_rms": image.astrometric_rms,
        "flux_scale": 1.0,
        "flux_scale_error": 0.0,
        "coverage": float(np.mean(image.mask == 0)),
        "n_stars": 0,
        "psf_origin": origin,
        "zero_point": AB_OF_NJY if info.zero_point is not None or info.unit == "nJy" else float("nan"),
    }
