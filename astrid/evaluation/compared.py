"""Rankings beside each other: curves, intervals of their numbers, and what one gains over another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.evaluation.ranked import Ranked, calibration_error, precision_recall, reliability

Floats = NDArray[np.float64]

PIXELS = 256**2  # of the image that false alarms are stated for
FALSE_ALARMS = 0.1  # of so many pixels, at which recall is stated
CONFIDENCE = 0.95
REPEATS = 1000
POINTS = 200  # of a curve, at most


@dataclass(frozen=True)
class Measured:
    """A number with its 95 % interval, None where too few tiles tell."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, samples: Floats) -> Measured:
        """Take the interval from bootstrap samples of the number; there may be none."""
        if not len(samples):
            return cls(float(value))
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(samples, [tail, 100 - tail])
        return cls(float(value), float(low), float(high))

    def as_dict(self) -> dict[str, float | None]:
        """As plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def resampled(n_tiles: int, rng: np.random.Generator, repeats: int = REPEATS) -> NDArray[np.int64]:
    """Return how often each tile is in each bootstrap sample, (repeats, n_tiles)."""
    if n_tiles < 1:
        raise ValueError(f"a bootstrap needs tiles, got {n_tiles}")
    return rng.multinomial(n_tiles, np.full(n_tiles, 1 / n_tiles), size=repeats)


def weighted(ranked: Ranked, megapixels: ArrayLike, weights: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return average precision and recall at 0.1 false alarms per 256 x 256 px, for tiles that count several times.

    Parameters
    ----------
    ranked : Ranked
        Detections of the tiles.
    megapixels : (n_tiles,) array
        Area of each that was searched.
    weights : (repeats, n_tiles) int array
        See `resampled`; all one for the tiles as they are.

    Returns
    -------
    (average precision, recall) : two (repeats,) arrays
        Zero where there is no transient.
    """
    area = np.asarray(megapixels, np.float64)
    if area.shape != (ranked.n_tiles,) or weights.shape[1:] != area.shape:
        raise ValueError(f"{ranked.n_tiles} tiles, but megapixels of {area.shape} and weights of {weights.shape}")
    order = np.argsort(-ranked.score, kind="stable")
    score, hit, tile = ranked.score[order], ranked.is_true[order], ranked.tile[order]
    last = np.r_[score[1:] != score[:-1], True] if len(score) else np.zeros(0, bool)
    precision_, recall_ = np.zeros(len(weights)), np.zeros(len(weights))
    for number, weight in enumerate(weights):
        each = weight[tile]
        true, found = np.cumsum(each * hit)[last], np.cumsum(each)[last]
        total = max(float(weight @ ranked.n_true), 1.0)
        steps = np.diff(true, prepend=0) / total
        precision_[number] = np.sum(steps * true / np.maximum(found, 1))
        allowed = FALSE_ALARMS * float(weight @ area) * 1e6 / PIXELS
        few = np.flatnonzero(found - true <= allowed)
        recall_[number] = true[few[-1]] / total if len(few) else 0.0
    return precision_, recall_


def measured(ranked: Ranked, megapixels: ArrayLike, weights: NDArray[np.integer]) -> tuple[Measured, Measured]:
    """Return average precision and recall at 0.1 false alarms per 256 x 256 px with their intervals."""
    samples = weighted(ranked, megapixels, weights)
    plain = weighted(ranked, megapixels, np.ones((1, ranked.n_tiles), np.int64))
    precision, recall = (Measured.of(one[0], many) for one, many in zip(plain, samples, strict=True))
    return precision, recall


def paired(
    one: Ranked, other: Ranked, megapixels: ArrayLike, weights: NDArray[np.integer]
) -> tuple[Measured, Measured]:
    """Return by how much one exceeds the other on the same tiles, in the same two numbers.

    Both are measured on each sample, so that what makes a sample hard or easy drops out.
    """
    if one.n_tiles != other.n_tiles:
        raise ValueError(f"the tiles must be the same, got {one.n_tiles} and {other.n_tiles}")
    same = np.ones((1, one.n_tiles), np.int64)
    plain = [weighted(ranked, megapixels, same) for ranked in (one, other)]
    samples = [weighted(ranked, megapixels, weights) for ranked in (one, other)]
    precision, recall = (Measured.of(plain[0][k][0] - plain[1][k][0], samples[0][k] - samples[1][k]) for k in (0, 1))
    return precision, recall


def froc(ranked: Ranked, megapixels: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return score, false alarms per megapixel and recall at each score, the highest first (FROC; Chakraborty 1989)."""
    order = np.argsort(-ranked.score, kind="stable")
    score, hit = ranked.score[order], ranked.is_true[order]
    last = np.r_[score[1:] != score[:-1], True] if len(score) else np.zeros(0, bool)
    area, total = max(float(np.sum(megapixels)), 1e-30), max(int(ranked.n_true.sum()), 1)
    return score[last], np.cumsum(~hit)[last] / area, np.cumsum(hit)[last] / total


def curves(
    ranked: Ranked, megapixels: ArrayLike, weights: NDArray[np.integer], probability: Floats | None = None
) -> dict[str, Any]:
    """Return all that is said of one ranking, as plain JSON values.

    Parameters
    ----------
    ranked, megapixels, weights
        As of `weighted`.
    probability : (n,) array, optional
        Calibrated probability of each detection being real.

    Returns
    -------
    dict
        ``average_precision`` and ``recall_at_false_alarms`` with intervals; ``score, precision, recall`` and
        ``false_alarms_per_megapixel`` of at most 200 scores; ``reliability`` (mean probability, part that is real and
        number in ten bins, where there are any) and ``calibration_error``, null without probability.
    """
    precision_, recall_ = measured(ranked, megapixels, weights)
    score, precision, recall = precision_recall(ranked)
    _, false, _ = froc(ranked, megapixels)
    shown = np.unique(np.linspace(0, len(score) - 1, min(len(score), POINTS)).round().astype(int))
    said: dict[str, Any] = {
        "average_precision": precision_.as_dict(),
        "recall_at_false_alarms": recall_.as_dict(),
        "false_alarms_per_256_px_square": FALSE_ALARMS,
        "n_tiles": ranked.n_tiles,
        **{name: values[shown].tolist() for name, values in
           (("score", score), ("precision", precision), ("recall", recall), ("false_alarms_per_megapixel", false))},
        "reliability": None,
        "calibration_error": None,
    }  # fmt: skip
    if probability is not None and len(probability):
        mean, real, count = reliability(probability, ranked.is_true)
        some = count > 0
        said["reliability"] = {
            "probability": mean[some].tolist(), "real": real[some].tolist(), "n": count[some].tolist()
        }  # fmt: skip
        said["calibration_error"] = calibration_error(probability, ranked.is_true)
    return said
