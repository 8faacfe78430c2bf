"""The noise that sources bring, measured where the gain is unknown."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from astrid.image import FloatArray, MaskArray
from astrid.imaging.psf import fit_fluxes
from astrid.imaging.stars import StarList

MIN_PIXELS = 200
BINS = 24


def measure_source_noise(
    flux: FloatArray, variance: FloatArray, mask: MaskArray, stars: StarList, psf: FloatArray
) -> float:
    """Return the variance that one unit of source flux brings, measured on the stars.

    The squared residuals of the stars' pixels after a PSF fit are compared with the
    model: ``r**2 - V = a m + b m**2`` with ``a`` the photon noise that is wanted and ``b`` what
    the PSF model does not fit. Both are kept from being negative.

    Parameters
    ----------
    flux, variance, mask : (ny, nx) arrays
        On the detector; ``variance`` is that of the background.
    stars : StarList
        Of the image.
    psf : (py, px) array
        Of the image.

    Returns
    -------
    float
        Zero where fewer than 200 pixels tell.
    """
    use = stars[stars.is_clean & (stars.snr > 10)]
    if len(use) < 8:
        return 0.0
    _, residual, model = fit_fluxes(flux, mask, psf, use)
    background = float(np.median(variance))
    core = np.isfinite(residual) & (model > 0.5 * np.sqrt(background))
    m, r2 = model[core], residual[core] ** 2
    if len(m) < MIN_PIXELS:
        return 0.0
    edges = np.quantile(m, np.linspace(0, 1, BINS + 1))
    place = np.clip(np.searchsorted(edges, m, side="right") - 1, 0, BINS - 1)
    level = np.array([np.median(m[place == i]) for i in range(BINS)])
    # the median of chi-squared of one degree of freedom is 0.4549
    spread = np.array([np.median(r2[place == i]) / 0.4549 for i in range(BINS)])
    weight = 1 / np.maximum(spread, background)
    terms = np.column_stack([np.ones(BINS), level, level**2]) * weight[:, None]
    solved, _ = optimize.nnls(terms, spread * weight)
    return float(solved[1])
