"""Numbers that tell real candidates from artefacts, measured on pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.detection.base import Detections
from astrid.detection.deblending import told_apart
from astrid.detection.flags import candidate_flags
from astrid.detection.shape import fwhm_and_elongation
from astrid.detection.sources import Sources, find_sources
from astrid.image import Difference, Image
from astrid.imaging.photometry import cut_windows, equivalent_fwhm, psf_flux, shifted_psfs
from astrid.schema import MaskBit

CANDIDATES_AT_A_TIME = 512


def measure_candidates(
    difference: Difference, science: Image, template: Image, detections: Detections
) -> dict[str, NDArray[Any]]:
    """Measure every detection on the difference and the images it came from.

    D and V are flux and variance of the difference, P its PSF shifted to the
    candidate, s the candidate's sign, W the FWHM of P. Sums run over unmasked
    pixels. Numbers without meaning for a candidate (a shape that cannot be
    measured) take the bound of their range, so that every column is finite;
    fluxes are NaN where their pixels are masked.

    Parameters
    ----------
    difference, science, template : Difference, Image, Image
        On the same pixels.
    detections : Detections
        Positions to measure; may be empty.

    Returns
    -------
    dict of (n,) arrays
        Columns of `astrid.schema.CANDIDATES`, in the order of ``detections``:

        - ``y, x, significance``: of the detection; ``is_negative``: significance below zero
        - ``flux, flux_error, psf_chi2``: `psf_flux` on D at the position, told apart from that of neighbours
          (`astrid.detection.deblending.told_apart`)
        - ``y_error, x_error``: ``flux_error / |flux| * sqrt(sum(P**2) / sum(P_y**2))`` with P_y the
          derivative of P, and the science image's ``astrometric_rms`` in quadrature; at most W
        - ``fwhm, elongation``: of the Gaussian whose second moments, weighted with a Gaussian of FWHM W,
          are those of s D; geometric mean, and ratio of the axes; at most 3 W, and 10
        - ``sharpness``: ``(D_0 - mean of its 8 neighbours) / (flux * the same of P)``: one for a point
          source, more for a single pixel; within +-10
        - ``negative_fraction``: part of ``sum |D|`` over pixels beyond 2 sigma within 1.5 W that has the
          other sign than the candidate
        - ``dipole``: the highest score of the other sign within 2 W, over the candidate's own; at most 10
        - ``flux_ratio_aperture``: ``sum(D) / (flux * sum(P))`` within W: one for a point source; within +-10
        - ``science_flux, template_flux``: `psf_flux` on either image with its own PSF
        - ``distance_to_source``: to the nearest 5 sigma peak of the template; at most 100
        - ``n_masked, mask_bits``: masked pixels within W, and all their bits; those on a streak count as measured
        - ``flags``: `astrid.detection.flags.candidate_flags`
    """
    shapes = {difference.flux.shape, science.flux.shape, template.flux.shape}
    if len(shapes) > 1:
        raise ValueError(
            f"difference is {difference.flux.shape}, science {science.flux.shape} and template {template.flux.shape}"
        )
    y, x = detections.y, detections.x
    sources = find_sources(template) if len(y) else Sources.none()
    psf = difference.psf if difference.psf_terms is None else difference.psf_at(y, x)  # the flux is that of its place
    alone = psf_flux(difference.flux, difference.variance, difference.unusable, psf, y, x)
    fit = told_apart(alone, y, x, difference.psf)
    in_science = psf_flux(science.flux, science.variance, science.mask, science.psf, y, x)
    in_template = psf_flux(template.flux, template.variance, template.mask, template.psf, y, x)
    columns: dict[str, NDArray[Any]] = {
        "y": y,
        "x": x,
        "flux": fit.flux,
        "flux_error": fit.error,
        "significance": detections.significance,
        "is_negative": detections.significance < 0,
        "psf_chi2": np.nan_to_num(fit.chi2, nan=0.0),
        "science_flux": in_science.flux,
        "template_flux": in_template.flux,
        "distance_to_source": sources.distance(y, x),
    }
    blocks = [
        _window_features(
            difference,
            y[first : first + CANDIDATES_AT_A_TIME],
            x[first : first + CANDIDATES_AT_A_TIME],
            detections.significance[first : first + CANDIDATES_AT_A_TIME],
            fit.flux[first : first + CANDIDATES_AT_A_TIME],
            fit.error[first : first + CANDIDATES_AT_A_TIME],
            science.astrometric_rms,
        )
        for first in range(0, max(len(y), 1), CANDIDATES_AT_A_TIME)
    ]
    columns.update({name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]})
    columns["flags"] = candidate_flags(difference, science, template, sources, columns)
    return columns


def _window_features(
    difference: Difference,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    significance: NDArray[np.float64],
    flux: NDArray[np.float64],
    error: NDArray[np.float64],
    astrometric_rms: float,
) -> dict[str, NDArray[Any]]:
    shape = difference.psf.shape
    width = equivalent_fwhm(difference.psf)
    p = shifted_psfs(difference.psf, y, x)
    bits = cut_windows(difference.mask, y, x, shape)
    inside = cut_windows(np.ones(difference.flux.shape, bool), y, x, shape, fill=False)
    unusable = bits & ~np.uint16(MaskBit.STREAK)
    good = inside & (unusable == 0)
    d = np.where(good, cut_windows(difference.flux, y, x, shape), 0).astype(np.float64)
    sigma = np.sqrt(np.where(good, cut_windows(difference.variance, y, x, shape), 1))
    score = np.where(good, cut_windows(difference.significance, y, x, shape), 0)
    sign = np.where(significance < 0, -1.0, 1.0)[:, None, None]

    row = (np.arange(shape[0]) - shape[0] // 2)[None, :, None] - (y - np.rint(y))[:, None, None]
    column = (np.arange(shape[1]) - shape[1] // 2)[None, None, :] - (x - np.rint(x))[:, None, None]
    r2 = row**2 + column**2
    near = inside & (r2 <= width**2)
    columns: dict[str, NDArray[Any]] = {
        "n_masked": (near & (unusable != 0)).sum((1, 2)).astype(np.int32),
        "mask_bits": np.bitwise_or.reduce(np.where(near, bits, 0), axis=(1, 2)).astype(np.int32),
    }
    relative = error / np.maximum(np.abs(flux), 1e-30)
    for name, length in zip(("y_error", "x_error"), _lengths(difference.psf), strict=True):
        statistical = np.nan_to_num(relative * length, nan=width, posinf=width)
        columns[name] = np.hypot(np.minimum(statistical, width), astrometric_rms)
    columns["fwhm"], columns["elongation"] = fwhm_and_elongation(sign * d, row, column, width)
    columns["sharpness"] = _sharpness(d, good, p, flux)

    strong = good & (np.abs(d) > 2 * sigma) & (r2 <= (1.5 * width) ** 2)
    all_light = (np.abs(d) * strong).sum((1, 2))
    other = (np.abs(d) * (strong & (sign * d < 0))).sum((1, 2))
    columns["negative_fraction"] = _ratio(other, all_light, 0.0, 1.0)
    opposite = np.where(r2 <= (2 * width) ** 2, -sign * score, 0).max((1, 2), initial=0.0)
    columns["dipole"] = _ratio(opposite, np.abs(significance), 0.0, 10.0)
    aperture = good & (r2 <= width**2)
    columns["flux_ratio_aperture"] = _ratio((d * aperture).sum((1, 2)), flux * (p * aperture).sum((1, 2)), -10.0, 10.0)
    return columns


def _lengths(psf: NDArray[Any]) -> tuple[float, float]:
    """``sqrt(sum(P**2) / sum(P_y**2))`` and the same along x, the derivatives taken in Fourier space."""
    power = np.abs(np.fft.fft2(psf.astype(np.float64))) ** 2
    fy, fx = (2 * np.pi * np.fft.fftfreq(n) for n in psf.shape)
    slopes = (power * fy[:, None] ** 2).sum(), (power * fx**2).sum()
    return float(np.sqrt(power.sum() / slopes[0])), float(np.sqrt(power.sum() / slopes[1]))


def _ratio(above: NDArray[Any], below: NDArray[Any], lowest: float, highest: float) -> NDArray[np.float64]:
    """Quotient within bounds; zero where the denominator is zero or unknown."""
    known = np.isfinite(below) & (below != 0)
    return np.clip(np.where(known, above, 0) / np.where(known, below, 1), lowest, highest).astype(np.float64)


def _sharpness(
    d: NDArray[np.float64], good: NDArray[np.bool_], p: NDArray[np.float64], flux: NDArray[np.float64]
) -> NDArray[np.float64]:
    cy, cx = p.shape[1] // 2, p.shape[2] // 2
    core = (slice(None), slice(cy - 1, cy + 2), slice(cx - 1, cx + 2))
    ring = good[core].astype(np.float64)
    ring[:, 1, 1] = 0
    count = np.maximum(ring.sum((1, 2)), 1)
    peak = d[:, cy, cx] - (d[core] * ring).sum((1, 2)) / count
    peak_psf = p[:, cy, cx] - (p[core] * ring).sum((1, 2)) / count
    return _ratio(peak, flux * peak_psf, -10.0, 10.0)
