"""Find the galaxies of an image, to put transients on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray

from astrid.image import Image
from astrid.schema import MaskBit

_THRESHOLD = 3.0  # times the noise of a pixel
_MOST_PIXELS = 200_000  # above the threshold, which rises in fields of nebulae: sep holds 300 000
_INNER, _OUTER = 1.0, 2.5  # apertures, in half-light radii of the PSF: small, to keep neighbours out
_EXCESS = 1.3  # flux ratio of the apertures over that of the PSF, from which a source is extended
_EXCESS_SIGMA = 5.0  # and how sure that must be


def find_galaxies(science: Image) -> NDArray[np.float64]:
    """Find sources larger than the PSF.

    Parameters
    ----------
    science : Image
        Background-subtracted image.

    Returns
    -------
    (n, 5) float64 array
        ``y, x``, half-light radius in pixels, axis ratio, angle from x to y in radians.
    """
    noise = np.sqrt(np.ascontiguousarray(science.variance, dtype=np.float32))
    flux = np.ascontiguousarray(science.flux, dtype=np.float32)
    bad = np.ascontiguousarray(science.mask != 0)
    found, segments = _extract(flux, noise, bad)
    if len(found) == 0:
        return np.empty((0, 5))
    touched = np.zeros(len(found) + 1, dtype=bool)
    near_saturated = _grown((science.mask & (MaskBit.SATURATED | MaskBit.NO_DATA)) != 0)
    touched[np.unique(segments[near_saturated])] = True

    y, x = found["y"].astype(np.float64), found["x"].astype(np.float64)
    a, b = np.maximum(found["a"].astype(np.float64), 0.1), np.maximum(found["b"].astype(np.float64), 0.1)
    unit, expected = _psf_size(science)
    inner, inner_error, _ = sep.sum_circle(flux, x, y, _INNER * unit, err=noise, mask=bad)
    outer, outer_error, flags = sep.sum_circle(flux, x, y, _OUTER * unit, err=noise, mask=bad)
    excess = outer - _EXCESS * expected * inner
    excess_error = np.hypot(outer_error, _EXCESS * expected * inner_error)
    reach = np.clip(6.0 * a, 3.0, 60.0)
    radius, _ = sep.flux_radius(flux, x, y, reach, 0.5, mask=bad, subpix=5)
    is_extended = (inner > 0) & (excess > _EXCESS_SIGMA * excess_error) & (radius > unit) & (radius < reach)
    keep = is_extended & (flags & sep.APER_TRUNC == 0) & ~touched[1:]
    columns = [y, x, radius, np.clip(b / a, 0.1, 1.0), found["theta"].astype(np.float64)]
    return np.asarray(np.stack(columns, axis=1)[keep], dtype=np.float64)


def _extract(
    flux: NDArray[np.float32], noise: NDArray[np.float32], bad: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Find sources, with a threshold that leaves the extractor room."""
    ratio = np.where(bad, 0.0, flux / noise).ravel()
    threshold = _THRESHOLD
    if ratio.size > _MOST_PIXELS:
        threshold = max(threshold, float(-np.partition(-ratio, _MOST_PIXELS)[_MOST_PIXELS]))
    options = {"err": noise, "mask": bad, "minarea": 6, "segmentation_map": True, "filter_kernel": None}
    try:
        found, segments = sep.extract(flux, threshold, **options)
    except Exception as error:  # sep raises nothing narrower
        if "deblending overflow" not in str(error):
            raise
        found, segments = sep.extract(flux, threshold, deblend_nthresh=1, **options)
    return found, segments


def _psf_size(science: Image) -> tuple[float, float]:
    """Measure the half-light radius of the PSF and the flux ratio of the two apertures, as the sources' are."""
    psf = np.ascontiguousarray(science.psf, dtype=np.float32)
    y, x = ((np.array([side]) - 1) / 2 for side in psf.shape)
    radius, _ = sep.flux_radius(psf, x, y, np.array([min(psf.shape) / 2]), 0.5, subpix=5)
    inner, _, _ = sep.sum_circle(psf, x, y, _INNER * radius)
    outer, _, _ = sep.sum_circle(psf, x, y, _OUTER * radius)
    return float(radius[0]), float(outer[0] / inner[0])


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the direct neighbours of a mask."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
