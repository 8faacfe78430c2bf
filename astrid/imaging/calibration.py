"""From the pixels of an exposure to calibrated flux, variance and mask on its own detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo, FloatArray, MaskArray
from astrid.imaging.background import subtract_background
from astrid.imaging.cosmicrays import find_cosmic_rays
from astrid.imaging.detector import bad_edges, dark_pixels, saturated_haloes
from astrid.imaging.noise import white_noise
from astrid.imaging.stripes import stripes
from astrid.schema import MaskBit

AB_OF_NJY = 31.4  # AB magnitude of one nJy
SATURATION_MARGIN = 2  # px around saturated pixels that are not linear either


@dataclass(frozen=True, eq=False)
class Calibrated:
    """An exposure on its own detector in the unit of the cube.

    Attributes
    ----------
    flux, variance : (ny, nx) float32 arrays
        Background-subtracted flux (nJy or count/s) and its variance without the
        sources' own noise, unless the survey supplied one that has it.
    mask : (ny, nx) uint16 array
        Bits of `astrid.schema.MaskBit`.
    background, background_rms : float
        Median background and the white noise of one pixel of it.
    variance_per_flux : float or None
        Variance that one unit of flux brings, from the gain; None where unknown,
        0 where ``variance`` has it already.
    unit : str
        "nJy" or "count/s".
    """

    flux: FloatArray
    variance: FloatArray
    mask: MaskArray
    background: float
    background_rms: float
    variance_per_flux: float | None
    unit: str


def flux_scale_of(info: ExposureInfo) -> tuple[float, str]:
    """Return the factor from stored pixels to the cube's unit, and that unit.

    nJy where the zero point is known (AB magnitude of one unit per second), else
    count/s.
    """
    if info.unit == "nJy":
        return 1.0, "nJy"
    per_second = 1.0 if info.unit.endswith("/s") else 1.0 / info.exposure_time
    if info.zero_point is None:
        return per_second, "count/s"
    return per_second * 10 ** (-0.4 * (info.zero_point - AB_OF_NJY)), "nJy"


def flux_per_electron(info: ExposureInfo) -> float | None:
    """Return the flux, in the cube's unit, of one electron; None where the gain is unknown.

    It is also the variance that one unit of flux brings.
    """
    gain = info.gain if info.gain is not None else (1.0 if info.unit.startswith("electron") else None)
    if gain is None:
        return None
    stored = 1.0 / gain if not info.unit.endswith("/s") else 1.0 / (gain * info.exposure_time)
    return stored * flux_scale_of(info)[0]


def calibrate(
    exposure: Exposure,
    *,
    bad_pixels: NDArray[np.bool_] | None = None,
    background_box: int | None = 64,
) -> Calibrated:
    """Mask, subtract the background, measure the noise, and go to the cube's unit.

    Without a supplied variance the noise is measured from the pixels; it is never
    computed from the level.

    Parameters
    ----------
    exposure : Exposure
        As the survey gave it.
    bad_pixels : (ny, nx) bool array, optional
        Of the detector.
    background_box : int or None
        Side of the mesh of the background, in pixels.

    Raises
    ------
    DataError
        If too few pixels are usable.
    """
    info = exposure.info
    scale, unit = flux_scale_of(info)
    mask = exposure.mask.copy()
    mask[~np.isfinite(exposure.flux)] |= MaskBit.NO_DATA.value
    if bad_pixels is not None:
        mask[bad_pixels] |= MaskBit.BAD.value
    saturated = (mask & MaskBit.SATURATED.value) != 0
    if info.saturation is not None:
        saturated |= np.nan_to_num(exposure.flux) >= info.saturation
    grown = ndimage.binary_dilation(saturated, iterations=SATURATION_MARGIN) if saturated.any() else saturated
    mask[grown] |= MaskBit.SATURATED.value
    mask[bad_edges(exposure.flux, mask != 0)] |= MaskBit.BAD.value
    usable = float(np.mean(mask == 0))
    if usable < 0.02:
        raise DataError(f"{info.path}: only {100 * usable:.1f}% of the pixels are usable, 2% needed")
    flux = fill_masked(
        np.where(np.isfinite(exposure.flux), exposure.flux, 0).astype(np.float32) * np.float32(scale), mask
    )
    found = subtract_background(flux, mask != 0, box=background_box)
    flux = flux - found.level
    flux = flux - stripes(flux, found.sources | (mask != 0))
    sigma = white_noise(flux, found.sources | (mask != 0))
    if not sigma > 0:
        raise DataError(f"{info.path}: the noise of the background is {sigma}; the image is constant")
    halo = saturated_haloes(flux, sigma, (mask & MaskBit.SATURATED.value) != 0)
    if halo.any():
        mask[halo] |= MaskBit.SATURATED.value
    dark = dark_pixels(flux, mask != 0)
    if dark.any():
        mask[dark] |= MaskBit.BAD.value
    if halo.any() or dark.any():
        flux = fill_masked(flux, mask)
    if exposure.variance is None:
        variance = (found.relative_rms * np.float32(sigma)) ** 2
        slope = flux_per_electron(info)
    else:
        good = (mask == 0) & np.isfinite(exposure.variance) & (exposure.variance > 0)
        typical = float(np.median(exposure.variance[good])) if good.any() else sigma**2 / scale**2
        variance = np.where(good, exposure.variance, typical).astype(np.float32) * np.float32(scale**2)
        slope = 0.0
    return Calibrated(flux, variance, mask, found.median, sigma, slope, unit)


def mask_cosmic_rays(calibrated: Calibrated, variance: FloatArray, psf: FloatArray) -> Calibrated:
    """Mask and fill pixels sharper than the PSF allows; ``variance`` has the sources' own noise."""
    sigma = np.sqrt(variance).astype(np.float32)
    hit = find_cosmic_rays(calibrated.flux, sigma, calibrated.mask != 0, psf=psf)
    if not hit.any():
        return calibrated
    mask = calibrated.mask.copy()
    mask[hit] |= MaskBit.COSMIC_RAY.value
    return replace(calibrated, mask=mask, flux=fill_masked(calibrated.flux, mask))


def fill_masked(flux: FloatArray, mask: MaskArray) -> FloatArray:
    """Replace masked pixels by the mean of the good ones around, so that resampling does not ring."""
    bad = mask != 0
    if not bad.any():
        return flux
    total = ndimage.gaussian_filter(np.where(bad, 0, flux), 1.0, truncate=3.0)
    weight = ndimage.gaussian_filter((~bad).astype(np.float32), 1.0, truncate=3.0)
    typical = np.float32(np.median(flux[~bad])) if (~bad).any() else np.float32(0)
    local = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), typical)
    return np.where(bad, local, flux).astype(np.float32)
