"""Every way to tell transients from artefacts on the same harsh tiles: average precision, recall, localization, depth.

python -m benchmarks.harsh_set --seed 16 [--tiles 300] [--train 600] [--model base] [--out FILE.json] [--table FILE.md]

Models of rankers are fitted here, on tiles of other seeds; the network is that of the package or a file. All rank the
same candidates, peaks of the score above four sigma; the network finds its own. A transient counts from S/N 5 on
unmasked pixels; intervals are 95 % of samples of the tiles, differences are paired. Depth is the S/N at which half is
found, with 0.1 false alarms per tile, on tiles without sources and artefacts, over that of the matched filter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from astrid.detection.unet.detector import Unet
from astrid.evaluation.completeness import completeness
from astrid.evaluation.localization import localize
from astrid.evaluation.matching import match, match_radius
from astrid.evaluation.ranked import (
    Ranked,
    average_precision,
    bootstrapped,
    calibration_error,
    recall_at,
    threshold_at,
)
from astrid.imaging.photometry import equivalent_fwhm
from astrid.ranking.models import KINDS, fitted, names_of
from astrid.simulation.harsh import harsh_tile
from astrid.simulation.seeds import seed_of
from astrid.workflow.examples import harsh_difference
from benchmarks.default_rankers import examples, ranked_by
from benchmarks.harsh import EVERYTHING, Searched, matched_snr, off_stars, searched
from benchmarks.provenance import provenance

SHOWN = ("average_precision", "recall_at_0.1")
CLEAN_TRANSIENTS = 6  # on each tile without artefacts
REPEATS = 1000


def main() -> None:
    """Simulate, fit, search, judge; print a table, write it and JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harsh_set", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="of the test tiles; one that nothing was chosen on")
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument("--train", type=int, default=600, help="tiles that rankers are fitted on")
    parser.add_argument("--calibration-tiles", type=int, default=1500, help="more of them, for the network alone")
    parser.add_argument("--model", default="base")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    network = Unet(model=options.model, output=0.02)
    learnt = [searched("fitted", 1, i, network=network) for i in range(options.train)]
    tiles = [searched("test", options.seed, i, network=network) for i in range(options.tiles)]
    ranked = rankings(learnt, tiles, network)
    found: dict[str, Any] = {"set": conditions(tiles), "methods": {}}
    samples = {name: bootstrapped(one, np.random.default_rng(1), REPEATS) for name, one in ranked.items()}
    for name, one in ranked.items():
        row = {"average_precision": average_precision(one), "recall_at_0.1": recall_at(one, 0.1)}
        row |= {"recall_at_1": recall_at(one, 1.0)}
        for label, drawn, reference in zip(SHOWN, samples[name], samples["trees"], strict=True):
            row[f"{label}_ci"] = np.quantile(drawn, (0.025, 0.975)).tolist()
            row[f"{label}_over_trees_ci"] = np.quantile(drawn - reference, (0.025, 0.975)).tolist()
        found["methods"][name] = row
    found["network"] = localized(tiles, network, Unet(model=options.model).threshold)
    found["calibration"] = calibration(options.seed, options.calibration_tiles, network)
    found["depth"] = depth(options.seed, network)
    text = table(found)
    print(text)
    print(json.dumps({name: found[name] for name in ("set", "network", "calibration", "depth")}, indent=1))
    if options.out:
        options.out.write_text(json.dumps({**found, **provenance()}, indent=1) + "\n")
    if options.table:
        options.table.write_text(text)


def rankings(learnt: list[Searched], tiles: list[Searched], network: Unet) -> dict[str, Ranked]:
    """Return the detections of every method."""
    n_true = np.array([one.counts.sum() for one in tiles])
    ranked = {
        "matched filter": candidates(tiles, matched_snr, n_true),
        "S_corr, stars masked": candidates(tiles, off_stars, n_true),
    }
    for kind in KINDS:
        width = len(names_of(kind))
        features, is_real, _ = examples(learnt, width)
        ranked[kind] = ranked_by(kind, fitted(kind, features, is_real, 1), tiles)
    rows = []
    for number, one in enumerate(tiles):
        detections = network(one.difference)
        score = np.asarray(detections.score)
        hit, ignored = one.judge(detections, score)
        rows.append((score[~ignored], hit[~ignored], np.full(np.sum(~ignored), number)))
    score, hit, number = (np.concatenate(part) for part in zip(*rows, strict=True))
    ranked["U-Net"] = Ranked(score, hit, number, n_true)
    return ranked


def candidates(tiles: list[Searched], score_of: Any, n_true: np.ndarray[Any, Any]) -> Ranked:
    """Rank candidates by a function of them."""
    rows = []
    for number, one in enumerate(tiles):
        score = score_of(one)
        hit, ignored = one.judge(one.candidates, score)
        rows.append((score[~ignored], hit[~ignored], np.full(np.sum(~ignored), number)))
    score, hit, number = (np.concatenate(part) for part in zip(*rows, strict=True))
    return Ranked(score, hit, number, n_true)


def conditions(tiles: list[Searched]) -> dict[str, float]:
    """Say how harsh the tiles are."""
    n = sum(len(one.candidates) for one in tiles)
    real = sum(int(one.judge(one.candidates, one.candidates.significance)[0].sum()) for one in tiles)
    return {
        "tiles": len(tiles),
        "transients_per_tile": float(np.mean([one.counts.sum() for one in tiles])),
        "candidates_per_tile": n / len(tiles),
        "artefacts": 1 - real / n,
    }


def localized(tiles: list[Searched], network: Unet, threshold: float) -> dict[str, float]:
    """Say how well the detections above the recorded threshold sit, and how honest their score is."""
    iou: list[float] = []
    per_detection: list[float] = []
    offsets: list[float] = []
    score, true = [], []
    false = 0
    strict = Unet(model=network.model, output=threshold)
    for one in tiles:
        found = strict(one.difference)
        matched = match(one.tile.y, one.tile.x, found.y, found.x, found.rank, radius=match_radius(one.fwhm))
        which = matched.detection
        hit = matched.is_recovered & one.counts
        got = localize(one.tile.y[hit], one.tile.x[hit], found.y[which[hit]], found.x[which[hit]], fwhm=one.fwhm)
        iou += [*got.tolist(), *[0.0] * int((one.counts & ~hit).sum())]
        per_detection += got.tolist()
        dy, dx = found.y[which[hit]] - one.tile.y[hit], found.x[which[hit]] - one.tile.x[hit]
        offsets += np.hypot(dy, dx).tolist()
        is_true, ignored = one.judge(found, found.rank)
        false += int((~is_true & ~ignored).sum())
        everything = network(one.difference)
        is_true, ignored = one.judge(everything, everything.rank)
        score += everything.rank[~ignored].tolist()
        true += is_true[~ignored].tolist()
    return {
        "threshold": threshold,
        "false_alarms_per_tile": false / len(tiles),
        "recall": float(np.mean([value > 0 for value in iou])),
        "iou_per_truth": float(np.mean(iou)),
        "iou_per_detection": float(np.sum(per_detection) / max(len(per_detection) + false, 1)),
        "position_rms_px": float(np.sqrt(np.mean(np.square(offsets)))),
        "calibration_error": calibration_error(np.array(score), np.array(true, bool)),
    }


def calibration(seed: int, tiles: int, network: Unet) -> dict[str, float]:
    """Say how honest the probabilities of the network are, beside what perfect ones would show."""
    probability, real = [], []
    for number in range(tiles):
        one = searched("calibration", seed, number, measured=False)
        found = network(one.difference)
        is_true, ignored = one.judge(found, found.rank)
        probability += found.rank[~ignored].tolist()
        real += is_true[~ignored].tolist()
    said, is_real = np.array(probability), np.array(real, bool)
    rng = np.random.default_rng(1)
    perfect = [calibration_error(said, rng.random(len(said)) < said) for _ in range(200)]
    return {
        "tiles": tiles,
        "detections": len(said),
        "calibration_error": calibration_error(said, is_real),
        "of_perfect_probabilities": float(np.mean(perfect)),
    }


def depth(seed: int, network: Unet, tiles: int = 60) -> dict[str, float]:
    """Compare the S/N at which half is found on tiles of noise alone."""
    scored: dict[str, list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]]] = {
        "U-Net": [],
        "matched filter": [],
    }
    made = []
    for number in range(tiles):
        tile = harsh_tile(
            seed_of(seed, "clean", number), transients=CLEAN_TRANSIENTS, artefacts=False, sources=False
        )  # fmt: skip
        difference = harsh_difference(tile)
        radius = match_radius(equivalent_fwhm(difference.psf))
        made.append((tile, difference))
        for name, found in (("U-Net", network(difference)), ("matched filter", EVERYTHING(difference))):
            rank = found.rank
            matched = match(tile.y, tile.x, found.y, found.x, rank, radius=radius)
            best = np.full(len(tile.y), -np.inf)
            best[matched.is_recovered] = rank[matched.detection[matched.is_recovered]]
            scored[name].append((best, rank[matched.truth < 0], len(tile.y)))
    snr = np.concatenate([tile.snr for tile, _ in made])
    halves = {}
    for name, rows in scored.items():
        best, false = np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])
        empty = Ranked(false, np.zeros(len(false), bool), np.zeros(len(false), int), np.zeros(tiles, int))
        least = max(threshold_at(empty, 0.1), 0.0) if len(false) > 0.1 * tiles else 0.0
        if np.isinf(least):
            least = float(np.sort(false)[-int(0.1 * tiles) - 1])
        halves[name] = completeness(snr, best > least).snr_50 or float("nan")
    return {**halves, "ratio": halves["U-Net"] / halves["matched filter"]}


def table(found: dict[str, Any]) -> str:
    """Return Markdown."""
    lines = [
        "| method | average precision (95 %) | recall at 0.1 false a tile (95 %) | at 1 | over the trees (95 %) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in found["methods"].items():
        ap, r, over = (row[k] for k in ("average_precision_ci", "recall_at_0.1_ci", "average_precision_over_trees_ci"))
        lines.append(
            f"| {name} | {row['average_precision']:.3f} ({ap[0]:.3f} to {ap[1]:.3f}) | {row['recall_at_0.1']:.3f} "
            f"({r[0]:.3f} to {r[1]:.3f}) | {row['recall_at_1']:.3f} | {over[0]:+.3f} to {over[1]:+.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
