"""Confidence intervals of fractions and counts."""

from __future__ import annotations

import math

from scipy import stats

CONFIDENCE = 0.95


def wilson(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Wilson score interval of a fraction (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Parameters
    ----------
    successes, trials : int
        Counts.
    confidence : float
        Two-sided coverage.

    Returns
    -------
    (float, float) or None
        Lower and upper bound; None without trials.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(9, 10)]
    [0.596, 0.982]
    """
    _check_confidence(confidence)
    if not 0 <= successes <= trials:
        raise ValueError(f"0 <= successes <= trials is needed, got {successes} and {trials}")
    if trials == 0:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    fraction = successes / trials
    scale = 1 + z**2 / trials
    middle = (fraction + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(fraction * (1 - fraction) / trials + z**2 / (4 * trials**2))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


def poisson(count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of the mean of a Poisson count (Garwood 1936).

    Parameters
    ----------
    count : int
        What was counted.
    confidence : float
        Two-sided coverage.

    Returns
    -------
    (float, float)
        Lower and upper bound of the expected count.
    """
    _check_confidence(confidence)
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(stats.chi2.ppf(tail, 2 * count)) / 2
    return low, float(stats.chi2.ppf(1 - tail, 2 * count + 2)) / 2


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
