"""Find the galaxies of an image, to put transients on them."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray

from astrid.image import Image
from astrid.schema import MaskBit

_THRESHOLD = 3.0  # times the noise of a pixel
_MIN_SNR = 15.0  # fainter sources have no reliable size
_SIZE_RATIO = 1.25  # half-light radius over that of the PSF, from which a source is extended


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
    found, segments = sep.extract(flux, _THRESHOLD, err=noise, mask=bad, minarea=6, segmentation_map=True)
    if len(found) == 0:
        return np.empty((0, 5))
    touched = np.zeros(len(found) + 1, dtype=bool)
    near_saturated = _grown((science.mask & (MaskBit.SATURATED | MaskBit.NO_DATA)) != 0)
    touched[np.unique(segments[near_saturated])] = True

    y, x = found["y"].astype(np.float64), found["x"].astype(np.float64)
    a, b = found["a"].astype(np.float64), np.maximum(found["b"].astype(np.float64), 0.1)
    reach = np.clip(6.0 * a, 3.0, 60.0)
    total, total_error, _ = sep.sum_circle(flux, x, y, 2.5 * a, err=noise, mask=bad)
    radius, flags = sep.flux_radius(flux, x, y, reach, 0.5, mask=bad, subpix=5)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(total_error > 0, total / total_error, 0.0)
    keep = (
        np.isfinite(radius)
        & (radius > _SIZE_RATIO * _psf_radius(science))
        & (radius < reach)
        & (snr > _MIN_SNR)
        & (flags & sep.APER_TRUNC == 0)
        & ~touched[1:]
    )
    columns = [y, x, radius, np.clip(b / np.maximum(a, 0.1), 0.1, 1.0), found["theta"].astype(np.float64)]
    return np.asarray(np.stack(columns, axis=1)[keep], dtype=np.float64)


def _psf_radius(science: Image) -> float:
    """Half-light radius of the PSF, measured as the sources' is."""
    psf = np.ascontiguousarray(science.psf, dtype=np.float32)
    centre = (np.array(psf.shape) - 1) / 2
    reach = float(min(centre))
    radius, _ = sep.flux_radius(psf, centre[1:], centre[:1], np.array([reach]), 0.5, subpix=5)
    return float(radius[0])


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the direct neighbours of a mask."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
