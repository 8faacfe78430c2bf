"""Is it a point source? What the shape of a detection says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.image import Difference
from astrid.imaging.photometry import FWHM_PER_SIGMA, cut_windows, equivalent_fwhm, psf_flux

LARGEST_ELONGATION = 10.0
SHAPE_ERROR = 0.15  # relative error of a PSF, per pixel of its core, that is no reason to doubt a source
SHARP_SIGMA = 2.5  # of a pixel, by which the brightest pixel may exceed that of a star
WIDTH_ERROR = 0.2  # of the logarithm of the width, beyond its noise, that is no reason to doubt a source
WIDTH_NOISE = 1.2  # noise of the logarithm of a measured width, times the significance
ENOUGH = 2**20  # pixels, rows apart, that tell the scatter to a thousandth
SAMPLE_STEP, SAMPLE_ROWS = 8, 16  # px: every eighth of both axes for a sample of a median, rows looked at together
SAMPLE_LEAST = 4096  # pixels of a sample
SAMPLE_MARGIN = 0.02  # by which the rank of a median in a sample may be off
TOO_NARROW, TOO_WIDE = 2.0, 2.5  # in units of that noise


def is_point_like(
    difference: Difference,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    significance: NDArray[np.float64],
    *,
    max_chi2: float,
) -> NDArray[np.bool_]:
    """Whether a point source describes what is at each position.

    Three tests, each of which a point source passes: the reduced chi-squared of a PSF fit
    does not exceed ``max_chi2 + (SHAPE_ERROR * significance)**2``; the brightest pixel
    stands out no more than the centre of a star of that flux, give or take its noise (a hot pixel
    does); the FWHM of its light is that of the PSF within its noise (a cosmic ray is sharper).
    Where the score is damped beside a bright star, the chi-squared counts that much less.

    Parameters
    ----------
    difference : Difference
        Where the positions are.
    y, x, significance : (n,) arrays
        Of the detections.
    max_chi2 : float
        For a faint source.

    Returns
    -------
    (n,) bool array
        True too where a fit was not possible.
    """
    if len(y) == 0:
        return np.ones(0, bool)
    good = difference.mask == 0
    some = slice(None, None, max(1, good.size // ENOUGH))
    level = (difference.flux[some], difference.variance[some], good[some])
    scatter = 1.4826 * median_ratio(*level) if level[2].any() else 1.0
    fit = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, y, x)
    with np.errstate(invalid="ignore", divide="ignore"):
        damped = np.minimum(1.0, (significance * fit.error / fit.flux) ** 2)
        wrong = fit.chi2 * damped / scatter**2 > max_chi2 + (SHAPE_ERROR * significance) ** 2
    sigma = np.sqrt(cut_windows(difference.variance, y, x, (3, 3), fill=1))
    brightest = np.abs(cut_windows(difference.flux, y, x, (3, 3)) / sigma).max(axis=(1, 2)) / scatter
    noise = sigma[:, 1, 1] * scatter
    centre = np.abs(np.nan_to_num(fit.flux)) * float(difference.psf.max()) / noise
    too_sharp = brightest > centre + SHARP_SIGMA + SHAPE_ERROR * np.abs(significance)
    width = equivalent_fwhm(difference.psf)
    side = (2 * int(np.ceil(2 * width)) + 1,) * 2
    sign = np.where(significance < 0, -1.0, 1.0)[:, None, None]
    light = sign * np.where(cut_windows(good, y, x, side), cut_windows(difference.flux, y, x, side), 0)
    row = (np.arange(side[0]) - side[0] // 2)[None, :, None] - (y - np.rint(y))[:, None, None]
    column = (np.arange(side[1]) - side[1] // 2)[None, None, :] - (x - np.rint(x))[:, None, None]
    fwhm, _ = fwhm_and_elongation(light.astype(np.float64), row, column, width)
    own = fwhm_of_psf(difference.psf, width)
    noise_of_width = WIDTH_NOISE / np.abs(significance)
    log_width = np.log(fwhm / own)
    as_wide = (log_width > -np.maximum(TOO_NARROW * noise_of_width, WIDTH_ERROR)) & (
        log_width < np.maximum(TOO_WIDE * noise_of_width, 2 * WIDTH_ERROR)
    )
    return np.asarray(~wrong & ~too_sharp & as_wide, bool)


def median_ratio(flux: NDArray[Any], variance: NDArray[Any], good: NDArray[np.bool_]) -> float:
    """Return the median of ``|flux| / sqrt(variance)`` over good pixels.

    It is that of `numpy.median`, at a third of the cost: a sample tells between which values it must lie, only what
    is between them is sorted, and the rest counted, some rows at a time.
    """

    def ratio(rows: slice, step: int = 1) -> NDArray[Any]:
        values: NDArray[Any] = np.abs(flux[rows, ::step] / np.sqrt(variance[rows, ::step]))
        values[~good[rows, ::step]] = np.inf
        return values

    sample = ratio(slice(None, None, SAMPLE_STEP), SAMPLE_STEP)
    sample = np.sort(sample[np.isfinite(sample)])
    if len(sample) < SAMPLE_LEAST:
        return float(np.median(ratio(slice(None))[good]))
    low, high = np.quantile(sample, (0.5 - SAMPLE_MARGIN, 0.5 + SAMPLE_MARGIN)).tolist()
    below, parts = 0, []
    for first in range(0, len(flux), SAMPLE_ROWS):
        values = ratio(slice(first, first + SAMPLE_ROWS))
        is_below = values < low
        below += int(np.count_nonzero(is_below))
        parts.append(values[~(is_below | (values > high))])  # what is not a number, too
    between = np.sort(np.concatenate(parts))
    n = np.count_nonzero(good)
    ranks = np.array([(n - 1) // 2, n // 2]) - below
    if ranks[0] < 0 or ranks[1] >= len(between) or np.isnan(between[-1]):
        return float(np.median(ratio(slice(None))[good]))
    return float(np.mean(between[ranks]))


def fwhm_of_psf(psf: NDArray[Any], width: float) -> float:
    """Return the FWHM of a PSF the way `fwhm_and_elongation` measures that of a detection."""
    half_y, half_x = psf.shape[0] // 2, psf.shape[1] // 2
    row, column = np.mgrid[-half_y : half_y + 1, -half_x : half_x + 1][:, None].astype(np.float64)
    return float(fwhm_and_elongation(psf[None].astype(np.float64), row, column, width)[0][0])


def fwhm_and_elongation(
    light: NDArray[np.float64], row: NDArray[np.float64], column: NDArray[np.float64], width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FWHM and elongation from moments under a Gaussian weight, the weight taken out again.

    With weight covariance w I and measured covariance M, a Gaussian source has
    covariance inverse(inverse(M) - I / w).
    """
    w = (width / FWHM_PER_SIGMA) ** 2
    weighted = light * np.exp(-(row**2 + column**2) / (2 * w))
    total = weighted.sum((1, 2))
    fine = total > 0
    total = np.where(fine, total, 1)
    my, mx = (weighted * row).sum((1, 2)) / total, (weighted * column).sum((1, 2)) / total
    yy = (weighted * row**2).sum((1, 2)) / total - my**2
    xx = (weighted * column**2).sum((1, 2)) / total - mx**2
    yx = (weighted * row * column).sum((1, 2)) / total - my * mx
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    largest = (3 * width / FWHM_PER_SIGMA) ** 2
    smallest = largest / LARGEST_ELONGATION**4
    axes = []
    for value in (middle + spread, middle - spread):
        inverse = 1 / np.maximum(value, 1e-6 * w) - 1 / w
        axes.append(np.clip(1 / np.maximum(inverse, 1 / largest), smallest, largest))
    fwhm = FWHM_PER_SIGMA * (axes[0] * axes[1]) ** 0.25
    elongation = np.clip(np.sqrt(axes[0] / axes[1]), 1, LARGEST_ELONGATION)
    return np.where(fine, fwhm, 3 * width), np.where(fine, elongation, LARGEST_ELONGATION)
