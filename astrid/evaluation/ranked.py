"""How good a ranking is: precision and recall at every threshold, false alarms, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from astrid.evaluation.matching import match

LEAST_OUTPUT = 1e-7  # and one less it the greatest: log-odds stay finite

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ranked:
    """Detections of many tiles with what they turned out to be.

    Attributes
    ----------
    score : (n,) float64 array
        What ranks them; higher is likelier.
    is_true : (n,) bool array
        Whether each found a transient, each transient by one detection at most.
    tile : (n,) int array
        Which tile each is of.
    n_true : (n_tiles,) int array
        Transients that count, in each tile.
    """

    score: Floats
    is_true: Bools
    tile: NDArray[np.intp]
    n_true: NDArray[np.intp]

    @property
    def n_tiles(self) -> int:
        """Tiles, those without detections too."""
        return len(self.n_true)

    def of_tiles(self, tiles: NDArray[np.intp]) -> Ranked:
        """Return some of the tiles, each as often as it is named: a bootstrap sample."""
        order = np.argsort(self.tile, kind="stable")
        edges = np.searchsorted(self.tile[order], np.arange(self.n_tiles + 1))
        rows = [order[edges[t] : edges[t + 1]] for t in tiles]
        which = np.concatenate(rows) if rows else np.zeros(0, np.intp)
        number = np.repeat(np.arange(len(tiles)), [len(r) for r in rows])
        return Ranked(self.score[which], self.is_true[which], number, self.n_true[tiles])


def judged(
    y: ArrayLike,
    x: ArrayLike,
    score: ArrayLike,
    truth_y: ArrayLike,
    truth_x: ArrayLike,
    counts: ArrayLike,
    *,
    radius: float,
) -> tuple[Bools, Bools]:
    """Say of the detections of one tile which found a transient, and which do not count.

    Parameters
    ----------
    y, x, score : (n,) arrays
        Detections, in pixels; the best is matched first, to the nearest free transient.
    truth_y, truth_x, counts : (m,) arrays
        Transients; one that does not count (too faint, masked) makes neither a true nor a false detection.
    radius : float
        Largest distance, in pixels.

    Returns
    -------
    (is_true, is_ignored) : two (n,) bool arrays
    """
    counted = np.asarray(counts, bool)
    found = match(truth_y, truth_x, y, x, score, radius=radius).truth
    is_matched = found >= 0
    good = np.zeros(len(found), bool)
    good[is_matched] = counted[found[is_matched]]
    away = np.hypot(
        np.asarray(y, float)[:, None] - np.asarray(truth_y, float)[~counted],
        np.asarray(x, float)[:, None] - np.asarray(truth_x, float)[~counted],
    )
    ignored = ~good & ((is_matched & ~good) | (away <= radius).any(axis=1))
    return good, ignored


def precision_recall(ranked: Ranked) -> tuple[Floats, Floats, Floats]:
    """Return score, precision and recall at each distinct score, the highest first."""
    order = np.argsort(-ranked.score, kind="stable")
    score, hit = ranked.score[order], ranked.is_true[order]
    last = np.r_[score[1:] != score[:-1], True] if len(score) else np.zeros(0, bool)
    true = np.cumsum(hit)[last]
    found = (np.arange(len(score)) + 1)[last]
    total = max(int(ranked.n_true.sum()), 1)
    return score[last], true / np.maximum(found, 1), true / total


def average_precision(ranked: Ranked) -> float:
    """Return the area under precision against recall, as a sum of steps; transients never found lower it."""
    _, precision, recall = precision_recall(ranked)
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def threshold_at(ranked: Ranked, false_alarms: float) -> float:
    """Return the lowest score at which there are no more than so many false alarms per tile; infinity if none does."""
    order = np.argsort(-ranked.score, kind="stable")
    score, false = ranked.score[order], np.cumsum(~ranked.is_true[order])
    last = np.r_[score[1:] != score[:-1], True] if len(score) else np.zeros(0, bool)
    fine = last & (false <= false_alarms * ranked.n_tiles)
    return float(score[fine][-1]) if fine.any() else float("inf")


def recall_at(ranked: Ranked, false_alarms: float) -> float:
    """Return the part of the transients found with so many false alarms per tile."""
    hit = ranked.is_true & (ranked.score >= threshold_at(ranked, false_alarms))
    return float(hit.sum() / max(int(ranked.n_true.sum()), 1))


def logistic(score: Floats, is_true: Bools) -> tuple[Floats, Floats]:
    """Fit the probability of being real as a logistic function of the log-odds of an output (Platt 1999).

    Two numbers are fitted, so that it errs less than `isotonic` where there are only some thousand detections; for
    outputs that are nearly probabilities.

    Parameters
    ----------
    score : (n,) float array
        Outputs between 0 and 1.
    is_true : (n,) bool array
        Which are real.

    Returns
    -------
    (score, probability) : two (65,) arrays
        Places evenly spaced in log-odds over the outputs given, strictly rising.

    Raises
    ------
    ValueError
        If all or none are real.
    """
    if len(score) < 2 or is_true.all() or not is_true.any():
        raise ValueError(f"a calibration needs true and false detections, got {is_true.sum()} and {(~is_true).sum()}")
    odds = special.logit(np.clip(score, LEAST_OUTPUT, 1 - LEAST_OUTPUT))
    fit = LogisticRegression(C=np.inf).fit(odds[:, None], is_true)
    places = np.linspace(odds.min(), odds.max(), 65)
    values = special.expit(fit.intercept_[0] + max(float(fit.coef_[0, 0]), 0.0) * places)
    return special.expit(places), values


def isotonic(score: Floats, is_true: Bools) -> tuple[Floats, Floats]:
    """Fit the probability of being real as a function that never falls (Zadrozny & Elkan 2002).

    Returns
    -------
    (score, probability) : two (k,) arrays
        The middle of each step, strictly rising in score; linear between, so that different scores stay different.
    """
    if len(score) < 2 or is_true.all() or not is_true.any():
        raise ValueError(f"a calibration needs true and false detections, got {is_true.sum()} and {(~is_true).sum()}")
    level = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit_transform(score, is_true.astype(float))
    places, values = [], []
    for value in np.unique(level):
        places.append(float(np.mean(score[level == value])))
        values.append(float(value))
    return np.array(places), np.array(values)


def reliability(probability: Floats, is_true: Bools, bins: int = 10) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return mean probability, part that is real and number in bins of equal width; NaN where a bin is empty."""
    which = np.clip((probability * bins).astype(int), 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which, probability, bins) / count
        real = np.bincount(which, is_true.astype(float), bins) / count
    return mean, real, count


def calibration_error(probability: Floats, is_true: Bools, bins: int = 10) -> float:
    """Return the expected calibration error: |probability - part that is real|, weighted by bin (Naeini 2015)."""
    mean, real, count = reliability(probability, is_true, bins)
    some = count > 0
    return float(np.sum(count[some] * np.abs(mean[some] - real[some])) / max(count.sum(), 1))


def bootstrapped(ranked: Ranked, rng: np.random.Generator, repeats: int = 1000) -> tuple[Floats, Floats]:
    """Return average precision and recall at 0.1 false alarms per tile of samples of the tiles, (repeats,) each."""
    found = np.empty((2, repeats))
    for i in range(repeats):
        sample = ranked.of_tiles(rng.integers(ranked.n_tiles, size=ranked.n_tiles))
        found[:, i] = average_precision(sample), recall_at(sample, 0.1)
    return found[0], found[1]
