"""Which step lost a truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.evaluation.matching import is_near

STEPS = ("masked", "subtraction", "detection", "matching")
"""Where a truth can be lost, in the order of the steps.

masked: its pixel is masked, or on a streak. subtraction: the score within the match radius stays below the
threshold, because the truth is faint or the difference spoilt. detection: the score is high enough, but no
detection is there: the shape was not that of a point source, or a brighter peak beside it took its place.
matching: a detection is there, but counts for another truth.
"""


def lost_in(
    truth_y: ArrayLike,
    truth_x: ArrayLike,
    mask_bits: ArrayLike,
    is_recovered: ArrayLike,
    score: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: ArrayLike,
    x: ArrayLike,
    *,
    threshold: float,
    radius: float,
) -> list[str]:
    """Say which step lost each positive truth of one cell, "" where it was recovered.

    Parameters
    ----------
    truth_y, truth_x, mask_bits, is_recovered : (n,) arrays
        True positions in pixels, mask bits there, and whether a detection was matched.
    score, usable : (ny, nx) arrays
        Of the difference with the truths in it; where the score may be used.
    y, x : (m,) arrays
        All positive detections, those that another tile owns too.
    threshold : float
        Score that a detection must reach.
    radius : float
        Largest distance of a match, in pixels.

    Returns
    -------
    list of str
        "" or one of `STEPS`.
    """
    true_y, true_x = np.asarray(truth_y, np.float64), np.asarray(truth_x, np.float64)
    there = np.column_stack([np.asarray(y, np.float64), np.asarray(x, np.float64)])
    has_detection = is_near(true_y, true_x, there, radius=radius)
    steps = []
    for i, (is_hit, bits) in enumerate(zip(np.asarray(is_recovered, bool), np.asarray(mask_bits), strict=True)):
        if is_hit:
            steps.append("")
        elif bits != 0:
            steps.append("masked")
        elif has_detection[i]:
            steps.append("matching")
        elif highest_score(score, usable, true_y[i], true_x[i], radius) >= threshold:
            steps.append("detection")
        else:
            steps.append("subtraction")
    return steps


def highest_score(score: NDArray[np.float32], usable: NDArray[np.bool_], y: float, x: float, radius: float) -> float:
    """Return the highest usable score within a radius of a position, minus infinity where there is none."""
    rows, columns = (
        np.arange(max(0, int(np.ceil(place - radius))), min(size - 1, int(np.floor(place + radius))) + 1)
        for place, size in zip((y, x), score.shape, strict=True)
    )
    box = np.ix_(rows, columns)
    near = (rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2 <= radius**2
    values = score[box][near & usable[box]]
    return float(values.max()) if values.size else -np.inf
