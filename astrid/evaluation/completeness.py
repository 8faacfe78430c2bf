"""Recovered fraction against signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from astrid.evaluation.intervals import wilson

_FINE_BINS = 80  # in log S/N, for the fit
_MIN_EACH = 3  # recovered and missed truths that a fit needs


@dataclass(frozen=True)
class CompletenessBin:
    """Truths of one range of S/N: how many, how many recovered, fraction and its 95 % interval."""

    snr_low: float
    snr_high: float
    n: int
    n_recovered: int
    fraction: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Completeness:
    """Recovered fraction against S/N.

    Attributes
    ----------
    bins : tuple of CompletenessBin
        Measured fractions.
    snr_50, snr_50_error : float or None
        Where the fitted curve crosses one half; None where the truths do not tell.
    plateau, plateau_error : float or None
        Fitted fraction at high S/N.
    width : float or None
        Fitted width of the step, in natural log of S/N.
    """

    bins: tuple[CompletenessBin, ...]
    snr_50: float | None
    snr_50_error: float | None
    plateau: float | None
    plateau_error: float | None
    width: float | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        fit = {name: getattr(self, name) for name in ("snr_50", "snr_50_error", "plateau", "plateau_error", "width")}
        bins = [{**vars(one), "interval": list(one.interval) if one.interval else None} for one in self.bins]
        return {**fit, "bins": bins}

    def curve(self, snr: ArrayLike) -> NDArray[np.float64] | None:
        """Fitted fraction at the given S/N; None without a fit."""
        if self.snr_50 is None or self.plateau is None or self.width is None:
            return None
        return _model(np.log(np.asarray(snr, dtype=np.float64)), np.log(self.snr_50), self.width, self.plateau)


def completeness(snr: ArrayLike, is_recovered: ArrayLike, *, edges: ArrayLike | None = None) -> Completeness:
    """Measure the recovered fraction in bins of S/N and fit a step in log S/N.

    The curve is ``A / (1 + exp(-(ln s - c) / w))``. Its parameters are averaged over
    the likelihood on a grid (flat in the logarithm of the 50 % point and of the width, and in the
    plateau A above one half), which stays defined when the step is sharp.

    Parameters
    ----------
    snr : (n,) array
        True S/N of every truth that counts.
    is_recovered : (n,) bool array
        Which were recovered.
    edges : (m,) array, optional
        Edges of the bins; default 10 bins, equal in log, from the smallest to the largest S/N.

    Returns
    -------
    Completeness
        Without fit where fewer than 3 are recovered or missed, or where the fraction
        does not cross one half within the range of S/N.
    """
    s, found = np.asarray(snr, dtype=np.float64), np.asarray(is_recovered, dtype=bool)
    if s.ndim != 1 or s.shape != found.shape:
        raise ValueError(f"snr and is_recovered must be vectors of one length, got {s.shape} and {found.shape}")
    if not np.all(np.isfinite(s) & (s > 0)):
        raise ValueError("snr must be positive and finite")
    if edges is None:
        bounds = _log_edges(s, 10)
    else:
        bounds = np.asarray(edges, dtype=np.float64)
        if bounds.ndim != 1 or len(bounds) < 2 or not np.all(np.diff(bounds) > 0):
            raise ValueError(f"edges must increase and be at least 2, got {bounds.tolist()}")
    bins = tuple(_bin(s, found, i, bounds) for i in range(len(bounds) - 1))
    fit = _fit(s, found)
    if fit is None:
        return Completeness(bins, None, None, None, None, None)
    return Completeness(bins, *fit)


def _bin(s: NDArray[np.float64], found: NDArray[np.bool_], index: int, edges: NDArray[np.float64]) -> CompletenessBin:
    low, high = float(edges[index]), float(edges[index + 1])
    is_last = index == len(edges) - 2
    inside = (s >= low) & ((s <= high) if is_last else (s < high))
    n, k = int(inside.sum()), int((inside & found).sum())
    return CompletenessBin(low, high, n, k, k / n if n else None, wilson(k, n))


def _log_edges(s: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    if len(s) == 0 or s.min() == s.max():
        return np.empty(0) if len(s) == 0 else np.array([s[0] * 0.9, s[0] * 1.1])
    edges = np.geomspace(s.min(), s.max(), n + 1)
    edges[0], edges[-1] = s.min(), s.max()
    return edges


def _model(
    ln_s: NDArray[np.float64] | float, ln_50: NDArray[np.float64] | float, w: Any, plateau: Any
) -> NDArray[np.float64]:
    """Evaluate the step, with ``c`` expressed through the place where it crosses one half."""
    offset = np.log(2.0 * np.asarray(plateau) - 1.0)
    return np.asarray(plateau * special.expit((ln_s - ln_50) / w - offset), dtype=np.float64)


def _fit(s: NDArray[np.float64], found: NDArray[np.bool_]) -> tuple[float, float, float, float, float] | None:
    if min(int(found.sum()), int((~found).sum())) < _MIN_EACH or s.min() == s.max():
        return None
    ln_s = np.log(s)
    low, high = float(ln_s.min()), float(ln_s.max())
    which = np.minimum(((ln_s - low) / (high - low) * _FINE_BINS).astype(int), _FINE_BINS - 1)
    n = np.bincount(which, minlength=_FINE_BINS).astype(np.float64)
    k = np.bincount(which, weights=found, minlength=_FINE_BINS).astype(np.float64)
    used = n > 0
    centre = np.bincount(which, weights=ln_s, minlength=_FINE_BINS)[used] / n[used]
    n, k = n[used], k[used]

    grids = [np.linspace(low, high, 61), np.linspace(np.log(0.01), np.log(1.0), 15), np.linspace(0.52, 0.999, 17)]
    for _ in range(3):  # zoom in
        mean, spread = _moments(grids, centre, n, k)
        ends = [(low, high), (np.log(0.01), np.log(1.0)), (0.52, 0.999)]
        zoomed = []
        for grid, (least, most), middle, width in zip(grids, ends, mean, spread, strict=True):
            reach = max(4 * width, 1.5 * (grid[1] - grid[0]))
            zoomed.append(np.linspace(max(least, middle - reach), min(most, middle + reach), len(grid)))
        grids = zoomed
    mean, spread = _moments(grids, centre, n, k)
    if mean[0] - 2 * spread[0] <= low or mean[0] + 2 * spread[0] >= high:
        return None
    snr_50 = float(np.exp(mean[0]))
    return snr_50, snr_50 * float(spread[0]), float(mean[2]), float(spread[2]), float(np.exp(mean[1]))


def _moments(
    grids: list[NDArray[np.float64]], centre: NDArray[np.float64], n: NDArray[np.float64], k: NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each parameter under the likelihood on a grid."""
    ln_50, ln_w, plateau = np.meshgrid(*grids, indexing="ij")
    log_likelihood = np.zeros(ln_50.shape)
    for c, total, recovered in zip(centre, n, k, strict=True):
        p = np.clip(_model(c, ln_50, np.exp(ln_w), plateau), 1e-6, 1 - 1e-6)
        log_likelihood += recovered * np.log(p) + (total - recovered) * np.log1p(-p)
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    means = [float(np.sum(weight * value)) for value in (ln_50, ln_w, plateau)]
    spreads = [
        float(np.sqrt(np.sum(weight * (value - mean) ** 2)))
        for value, mean in zip((ln_50, ln_w, plateau), means, strict=True)
    ]
    return means, spreads
