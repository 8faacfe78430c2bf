"""Say which detection belongs to which truth."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import spatial

FloatVector = NDArray[np.float64]


class Verdict(IntEnum):
    """What a detection in a real or simulated image is, as far as is known."""

    FALSE = 0  # nothing known is there
    TRUE = 1  # a known event
    IGNORED = 2  # a catalogued variable, AGN or asteroid, on a streak, or a truth that does not count


@dataclass(frozen=True, eq=False)
class Matches:
    """A one-to-one matching of truths and detections.

    Attributes
    ----------
    detection : (n_truths,) int array
        Index of the detection of each truth, -1 where it was missed.
    truth : (n_detections,) int array
        Index of the truth of each detection, -1 where it has none.
    """

    detection: NDArray[np.intp]
    truth: NDArray[np.intp]

    @property
    def is_recovered(self) -> NDArray[np.bool_]:
        """(n_truths,) whether each truth has a detection."""
        return self.detection >= 0

    @property
    def is_matched(self) -> NDArray[np.bool_]:
        """(n_detections,) whether each detection has a truth."""
        return self.truth >= 0


def match_radius(fwhm: float) -> float:
    """Largest distance of a detection from its truth: the larger of 2 px and 1 FWHM."""
    if not 0 < fwhm < np.inf:
        raise ValueError(f"fwhm must be positive and finite, got {fwhm}")
    return max(2.0, float(fwhm))


def match(
    truth_y: ArrayLike, truth_x: ArrayLike, y: ArrayLike, x: ArrayLike, score: ArrayLike, *, radius: float
) -> Matches:
    """Match detections to truths, one to one and the highest score first.

    Each detection, from the highest score down, takes the nearest truth within
    ``radius`` that is still free. The outcome does not depend on the order of the input.

    Parameters
    ----------
    truth_y, truth_x : (n_truths,) arrays
        True positions, in pixels.
    y, x : (n_detections,) arrays
        Detected positions, in pixels.
    score : (n_detections,) array
        What ranks detections; give the absolute significance where either sign counts.
    radius : float
        Largest distance of a match, in pixels; see `match_radius`.

    Returns
    -------
    Matches
        A second detection of one truth has no truth.
    """
    true_y, true_x = _vectors("truth_y, truth_x", truth_y, truth_x)
    found_y, found_x, ranks = _vectors("y, x, score", y, x, score)
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    detection = np.full(len(true_y), -1, dtype=np.intp)
    truth = np.full(len(found_y), -1, dtype=np.intp)
    if len(true_y) == 0 or len(found_y) == 0:
        return Matches(detection, truth)
    near = spatial.KDTree(np.column_stack([true_y, true_x])).query_ball_point(
        np.column_stack([found_y, found_x]), radius
    )
    for index in np.lexsort((found_x, found_y, -ranks)):
        free = [
            (np.hypot(true_y[i] - found_y[index], true_x[i] - found_x[index]), true_y[i], true_x[i], i)
            for i in near[index]
            if detection[i] < 0
        ]
        if free:
            taken = min(free)[-1]
            detection[taken], truth[index] = index, taken
    return Matches(detection, truth)


def classify(
    y: ArrayLike,
    x: ArrayLike,
    score: ArrayLike,
    *,
    radius: float,
    known: ArrayLike | None = None,
    ignored: ArrayLike | None = None,
    excused: ArrayLike | None = None,
) -> NDArray[np.int8]:
    """Judge the detections of a pass without injections.

    Parameters
    ----------
    y, x, score : (n,) arrays
        Detections, as in `match`.
    radius : float
        Largest distance of a match, in pixels.
    known : (m, 2) array, optional
        Positions ``(y, x)`` of known events: their detections are true, once each.
    ignored : (k, 2) array, optional
        Positions of catalogued variables, AGN and asteroids: whatever is found there is ignored.
    excused : (n,) bool array, optional
        Detections that are ignored wherever they are, unless at a known event: those on streaks.

    Returns
    -------
    (n,) int8 array
        Values of `Verdict`.
    """
    found_y, found_x, ranks = _vectors("y, x, score", y, x, score)
    events, others = _points("known", known), _points("ignored", ignored)
    verdict = np.full(len(found_y), Verdict.FALSE, dtype=np.int8)
    verdict[is_near(found_y, found_x, others, radius=radius)] = Verdict.IGNORED
    if excused is not None:
        verdict[np.asarray(excused, bool)] = Verdict.IGNORED
    verdict[match(events[:, 0], events[:, 1], found_y, found_x, ranks, radius=radius).is_matched] = Verdict.TRUE
    return verdict


def duplicates(
    truth_y: ArrayLike, truth_x: ArrayLike, y: ArrayLike, x: ArrayLike, matches: Matches, *, radius: float
) -> NDArray[np.bool_]:
    """(n_detections,) whether a detection is a second one of a truth that another detection took."""
    true_y, true_x = _vectors("truth_y, truth_x", truth_y, truth_x)
    found_y, found_x = _vectors("y, x", y, x)
    taken = np.column_stack([true_y, true_x])[matches.is_recovered]
    return ~matches.is_matched & is_near(found_y, found_x, taken, radius=radius)


def is_near(y: ArrayLike, x: ArrayLike, points: ArrayLike, *, radius: float) -> NDArray[np.bool_]:
    """(n,) whether each position lies within ``radius`` of one of the points ``(y, x)``."""
    found_y, found_x = _vectors("y, x", y, x)
    places = _points("points", points)
    if len(places) == 0 or len(found_y) == 0:
        return np.zeros(len(found_y), dtype=bool)
    distance, _ = spatial.KDTree(places).query(np.column_stack([found_y, found_x]))
    return np.asarray(distance <= radius, dtype=np.bool_)


def _vectors(names: str, *values: ArrayLike) -> list[FloatVector]:
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        raise ValueError(f"{names} must be vectors of one length, got shapes {[array.shape for array in arrays]}")
    for name, array in zip(names.split(", "), arrays, strict=True):
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds {int(np.sum(~np.isfinite(array)))} values that are not finite")
    return arrays


def _points(name: str, points: ArrayLike | None) -> FloatVector:
    array = np.empty((0, 2)) if points is None else np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must be (n, 2) positions (y, x), got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds positions that are not finite")
    return array
