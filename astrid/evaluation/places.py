"""Completeness apart by where a transient lies, and against its magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.evaluation.completeness import completeness
from astrid.imaging.photometry import magnitude

PLACES = ("empty field", "galaxy", "near a bright star")


def place_of(host: ArrayLike, is_near_star: ArrayLike) -> NDArray[np.str_]:
    """Say of transients where they lie, one of `PLACES`: what a bright star is near counts as that, host or not.

    Parameters
    ----------
    host : (n,) array of str
        "galaxy" or "field", as planned.
    is_near_star : (n,) bool array
        See `astrid.detection.sources.Sources.is_near_star`.
    """
    hosted = np.asarray(host, np.str_) == "galaxy"
    return np.where(np.asarray(is_near_star, bool), PLACES[2], np.where(hosted, PLACES[1], PLACES[0])).astype(np.str_)


def completeness_by_place(snr: ArrayLike, is_recovered: ArrayLike, place: ArrayLike) -> dict[str, dict[str, Any]]:
    """Return `completeness` against S/N of each of `PLACES` that has transients, as plain JSON values."""
    s, found, where = np.asarray(snr, float), np.asarray(is_recovered, bool), np.asarray(place, np.str_)
    return {
        name: {"n": int(here.sum()), **completeness(s[here], found[here]).as_dict()}
        for name in PLACES
        if (here := where == name).any()
    }


def completeness_by_magnitude(flux: ArrayLike, zero_point: ArrayLike, is_recovered: ArrayLike) -> dict[str, Any] | None:
    """Return the recovered fraction against magnitude, the fit made in the logarithm of the flux.

    Parameters
    ----------
    flux : (n,) array
        True flux of each transient, positive.
    zero_point : (n,) array
        AB magnitude of one unit of it; NaN where unknown.
    is_recovered : (n,) bool array
        Which were recovered.

    Returns
    -------
    dict or None
        ``magnitude_50, magnitude_50_error, plateau`` of the fit, null where the transients do not tell, and ``bins``
        with ``magnitude_bright, magnitude_faint, n, n_recovered, fraction, interval`` (Wilson, 95 %); None where no
        magnitude is known.
    """
    f, found = np.asarray(flux, np.float64), np.asarray(is_recovered, bool)
    magnitudes, _ = magnitude(f, np.zeros_like(f), zero_point)
    known = np.isfinite(magnitudes)
    if not known.any():
        return None
    middle = float(np.median(magnitudes[known]))
    relative = 10 ** (-0.4 * (magnitudes[known] - middle))  # of the flux of the median magnitude
    measured = completeness(relative, found[known])

    def of(value: float) -> float:
        return middle - 2.5 * float(np.log10(value))

    half, error = measured.snr_50, measured.snr_50_error
    return {
        "magnitude_50": None if half is None else of(half),
        "magnitude_50_error": None if half is None or error is None else 2.5 / np.log(10) * error / half,
        "plateau": measured.plateau,
        "bins": [
            {
                "magnitude_bright": of(one.snr_high),
                "magnitude_faint": of(one.snr_low),
                "n": one.n,
                "n_recovered": one.n_recovered,
                "fraction": one.fraction,
                "interval": list(one.interval) if one.interval else None,
            }
            for one in reversed(measured.bins)
        ],
    }
