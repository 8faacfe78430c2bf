"""Fit the ranking models in the package on harsh tiles, and write them with their cards.

python -m benchmarks.default_rankers [--train 600] [--validation 300] [--seed 1] [--out astrid/ranking/models]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from astrid.detection.unet.detector import Unet
from astrid.evaluation.ranked import (
    Ranked,
    average_precision,
    calibration_error,
    isotonic,
    recall_at,
    threshold_at,
)
from astrid.ranking import stored
from astrid.ranking.models import fitted, names_of, raw_score
from benchmarks.harsh import Searched, searched

SHIPPED = ("trees", "combined", "isolation_forest", "one_class_svm")
FALSE_ALARMS = 0.1  # per tile, at which the threshold is fixed


def main() -> None:
    """Fit, judge on validation, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.default_rankers", description=__doc__)
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--validation", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("astrid/ranking/models"))
    options = parser.parse_args()
    network = Unet(model="base")
    parts = {
        part: [searched(f"rankers {part}", options.seed, i, plain=None, network=network) for i in range(count)]
        for part, count in (("training", options.train), ("validation", options.validation))
    }
    for kind in SHIPPED:
        width = len(names_of(kind))
        features, is_real, _ = examples(parts["training"], width)
        model = fitted(kind, features, is_real, options.seed)
        card = judged_card(kind, model, parts["validation"], options)
        card = stored.write(options.out / f"{kind}.skops", model, card)
        print(kind, card.metrics, f"{(options.out / f'{kind}.skops').stat().st_size / 1e3:.0f} kB", flush=True)


def examples(
    tiles: list[Searched], width: int
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.bool_]], list[int]]:
    """Return features, whether real, and the tile of all candidates that count."""
    features, real, number = [], [], []
    for i, one in enumerate(tiles):
        is_true, ignored = one.judge(one.candidates, one.candidates.significance)
        features.append(one.features[~ignored, :width])
        real.append(is_true[~ignored])
        number += [i] * int(np.sum(~ignored))
    return np.concatenate(features), np.concatenate(real), number


def ranked_by(kind: str, model: object, tiles: list[Searched]) -> Ranked:
    """Rank the candidates of tiles by a model: the best of a transient finds it."""
    width = len(names_of(kind))
    scores, true, number = [], [], []
    for i, one in enumerate(tiles):
        score = raw_score(kind, model, one.features[:, :width])
        is_true, ignored = one.judge(one.candidates, score)
        scores.append(score[~ignored])
        true.append(is_true[~ignored])
        number += [i] * int(np.sum(~ignored))
    n_true = np.array([one.counts.sum() for one in tiles])
    return Ranked(np.concatenate(scores), np.concatenate(true), np.array(number), n_true)


def judged_card(kind: str, model: object, tiles: list[Searched], options: argparse.Namespace) -> stored.RankingCard:
    """Calibrate on validation, and say how good it is there."""
    ranked = ranked_by(kind, model, tiles)
    odd = ranked.tile % 2 == 1
    half = isotonic(ranked.score[odd], ranked.is_true[odd])
    scores, probabilities = isotonic(ranked.score, ranked.is_true)
    return stored.RankingCard(
        kind=kind,
        threshold=threshold_at(ranked, FALSE_ALARMS),
        scores=tuple(scores.tolist()),
        probabilities=tuple(probabilities.tolist()),
        metrics={
            "tiles": len(tiles),
            "average_precision": average_precision(ranked),
            "recall_at_0.1_false_alarms_per_tile": recall_at(ranked, FALSE_ALARMS),
            "calibration_error": calibration_error(np.interp(ranked.score[~odd], *half), ranked.is_true[~odd]),
        },
        training={"tiles": options.train, "seed": options.seed},
    )


if __name__ == "__main__":
    main()
