"""Train: examples of harsh tiles and of a survey's own cells, then a network, its calibration and its card."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from astrid.detection.matched_filter import find_peaks
from astrid.detection.unet import weights
from astrid.detection.unet.detector import outputs
from astrid.detection.unet.examples import Examples
from astrid.detection.unet.inputs import CHANNELS
from astrid.detection.unet.network import UNetwork
from astrid.detection.unet.training import FAINTEST, Loop, train
from astrid.errors import UsageError
from astrid.evaluation.matching import match_radius
from astrid.evaluation.ranked import (
    Ranked,
    average_precision,
    calibration_error,
    judged,
    logistic,
    recall_at,
    threshold_at,
)
from astrid.stores.journal import Journal
from astrid.stores.tables import write_json
from astrid.workflow.evaluate import with_exposures
from astrid.workflow.examples import CellShard, HarshShard, ShardKey, shard_path
from astrid.workflow.images import GROUP
from astrid.workflow.pipeline import execute
from astrid.workflow.runner import Outcome, Progress, Runner
from astrid.workflow.settings import Settings
from astrid.workflow.subtract import cells, differences_of

WEIGHTS = "weights.safetensors"
FALSE_ALARMS = 0.1  # per 256 x 256 px, at which the threshold is fixed
LOWEST = 0.02  # output of the network that is looked at


@dataclass(frozen=True)
class Training:
    """What a network is trained on, and how.

    Attributes
    ----------
    architecture : str
        "base" (483 thousand parameters) or "small" (121 thousand).
    source : str
        "harsh": simulated tiles; "cells": those of the survey's cube, with transients put into them; "both".
    harsh_tiles, validation_tiles : int
        Simulated tiles to learn from, and to stop, calibrate and fix the threshold by.
    side : int
        Pixels along either axis of a simulated tile; a multiple of 8.
    shard : int
        Tiles in one file, the unit of work.
    seed : int
        Of the simulated tiles.
    start : str or None
        Weights to go on from, one of the package or a file of ``astrid train``, of the same architecture; None begins
        from nothing. With a tenth of the learning rate, and cells of a survey, it makes a network at home there.
    blank : tuple of str
        Planes that the network is shown as zeros: what each is worth (`astrid.detection.unet.inputs.CHANNELS`).
    loop : Loop
        The training itself.
    device : str
        Of torch; "auto" takes a GPU where there is one.
    """

    architecture: str = "base"
    source: Literal["harsh", "cells", "both"] = "both"
    harsh_tiles: int = 4000
    validation_tiles: int = 400
    side: int = 256
    shard: int = 25
    seed: int = 1
    start: str | None = None
    blank: tuple[str, ...] = ()
    loop: Loop = field(default_factory=Loop)
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.source not in ("harsh", "cells", "both"):
            raise ValueError(f"source must be harsh, cells or both, got {self.source!r}")
        if self.side < 64 or self.side % 8:
            raise ValueError(f"side must be a multiple of 8, 64 at least, got {self.side}")
        object.__setattr__(self, "blank", tuple(self.blank))  # a list where a configuration says it
        if not set(self.blank) < set(CHANNELS):
            raise ValueError(f"blank may name some of {', '.join(CHANNELS)}, got {', '.join(self.blank)}")
        for name in ("harsh_tiles", "validation_tiles", "shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def train_network(settings: Settings, training: Training, progress: Progress) -> int:
    """Make the examples that are missing, train, calibrate; write weights, card and metrics into the run's folder.

    Returns
    -------
    int
        Number of keys that failed.
    """
    folder = settings.run_folder
    start = _start(training)
    failures = execute(settings, "subtract", progress) if training.source != "harsh" else 0
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(settings.yaml)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(folder / "journal" / "examples"))
        runner = Runner(stack.enter_context(settings.cluster.start()), progress)
        parts = _examples(settings, training, runner, journal)
        failures += runner.failures
    device = training.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    loop = training.loop
    progress.start("train", math.ceil(loop.steps / loop.check_every))

    def report(step: int, numbers: dict[str, float]) -> None:
        progress.advance("train", Outcome("train", str(step), "done"))
        progress.note(
            f"step {step} of {loop.steps}: loss {numbers['training_loss']:.4f}, "
            f"on validation {numbers['validation_loss']:.4f}"
        )

    network, history = train(
        training.architecture, parts["training"], parts["validation"], loop, folder / "checkpoint.pt",
        start=start, device=device, report=report,
    )  # fmt: skip
    progress.finish("train")
    card = finished(network.to("cpu"), parts, training, history, folder / WEIGHTS)
    write_json(folder / "training.json", {"history": history, "metrics": card.metrics, "training": card.training})
    progress.note(f"weights: {folder / WEIGHTS}; use them with detection=unet detection.model={folder / WEIGHTS}")
    return failures


def _start(training: Training) -> tuple[UNetwork, str] | None:
    if training.start is None:
        return None
    network, card = weights.checked(weights.path_of(training.start))
    if card.architecture != training.architecture or card.blank != training.blank:
        raise UsageError(
            f"training.start={training.start}: weights of the architecture {card.architecture}, without the planes "
            f"{list(card.blank)}; use training.architecture={card.architecture} and training.blank={list(card.blank)}"
        )
    return network, card.sha256


def _examples(settings: Settings, training: Training, runner: Runner, journal: Journal) -> dict[str, Examples]:
    """Make the shards that are missing; return those of each part."""
    folder = settings.run_folder / "examples"
    shards: dict[str, list[Path]] = {"training": [], "validation": []}
    if training.source != "cells":
        keys = [
            ShardKey(part, number)
            for part, tiles in (("validation", training.validation_tiles), ("training", training.harsh_tiles))
            for number in range(math.ceil(tiles / training.shard))
        ]
        runner.run("harsh tiles", HarshShard(folder, training.seed, training.shard, training.side), keys, journal)
        for key in keys:
            shards[key.part].append(shard_path(folder, key.part, key.number))
    if training.source != "harsh":
        bands = settings.cube_store.layout(GROUP).bands
        work = CellShard(folder, differences_of(settings), settings.survey, settings.evaluation, settings.cube_folder)
        made = with_exposures(settings, cells(settings, bands))
        runner.run("cells", work, made, journal)
        for cell in made:
            path = work.path(cell)
            if path.with_suffix(".json").exists():
                shards[work.part(cell)].append(path)
    for part, found in shards.items():
        if not found:
            raise UsageError(f"no examples for {part}; use training.source=both, or a survey with more exposures")
    return {part: Examples(tuple(found), training.blank) for part, found in shards.items()}


def finished(
    network: UNetwork, parts: dict[str, Examples], training: Training, history: dict[str, Any], path: Path
) -> weights.Card:
    """Calibrate on the validation examples and write weights, card and a page that describes them."""
    unfolded = {name: value.clone() for name, value in network.state_dict().items()}
    ranked = ranked_peaks(network.folded(), parts["validation"])
    outputs_at, probabilities = logistic(ranked.score, ranked.is_true)
    odd = ranked.tile % 2 == 1  # how good such a calibration is: fitted on one half of the tiles, judged on the other
    half = logistic(ranked.score[odd], ranked.is_true[odd])
    error = calibration_error(np.interp(ranked.score[~odd], *half), ranked.is_true[~odd])
    metrics = {
        "tiles": ranked.n_tiles,
        "transients": int(ranked.n_true.sum()),
        "average_precision": average_precision(ranked),
        "recall_at_0.1_false_alarms_per_tile": recall_at(ranked, FALSE_ALARMS),
        "calibration_error": error,
    }
    from astrid.detection.unet.network import build

    trained = build(training.architecture)
    trained.load_state_dict(unfolded)
    card = weights.Card(
        architecture=training.architecture,
        threshold=threshold_at(ranked, FALSE_ALARMS),
        outputs=tuple(outputs_at.tolist()),
        probabilities=tuple(probabilities.tolist()),
        metrics=metrics,
        blank=training.blank,
        training={
            **{k: v for k, v in asdict(training).items() if k != "device"},
            "examples": len(parts["training"]),
            "validation_examples": len(parts["validation"]),
            "best_step": history["step"][int(np.argmin(history["validation_loss"]))],
        },
    )
    card = weights.write(path, trained, card)
    path.with_suffix(".md").write_text(page_of(card))
    return card


def ranked_peaks(network: UNetwork, examples: Examples, lowest: float = LOWEST) -> Ranked:
    """Run a network over examples and judge the peaks of its output.

    Parameters
    ----------
    network : UNetwork
        For use.
    examples : Examples
        With their transients.
    lowest : float
        Output that a peak must reach.
    """
    columns: list[tuple[NDArray[Any], ...]] = []
    n_true = np.zeros(len(examples), np.intp)
    for number in range(len(examples)):
        one = examples[number]
        output = outputs(network, one.planes)
        masked = one.planes[-1] > 0
        output[masked] = 0
        peaks = find_peaks(output, masked, threshold=lowest, radius=max(2, math.ceil(one.fwhm)))
        height, width = output.shape
        pixels = np.clip(np.rint(one.y).astype(int), 0, height - 1), np.clip(np.rint(one.x).astype(int), 0, width - 1)
        counts = (one.snr >= FAINTEST) & ~masked[pixels]
        score = output[tuple(peaks.T)].astype(np.float64)
        hit, ignored = judged(
            peaks[:, 0], peaks[:, 1], score, one.y, one.x, counts, radius=match_radius(one.fwhm)
        )  # fmt: skip
        n_true[number] = counts.sum()
        columns.append((score[~ignored], hit[~ignored], np.full(int(np.sum(~ignored)), number)))
    score, hit, tile = (np.concatenate(part) for part in zip(*columns, strict=True))
    return Ranked(score, hit, tile, n_true)


def page_of(card: weights.Card) -> str:
    """Return the model card as Markdown."""
    metrics = "".join(f"| {name.replace('_', ' ')} | {value:.4g} |\n" for name, value in card.metrics.items())
    said = json.dumps(card.training, indent=1)
    return (
        f"# U-Net `{card.architecture}`\n\n"
        f"Finds transients in differences. It sees {', '.join(card.channels)}, each over its own noise and through "
        "asinh, and gives a probability for each pixel.\n\n"
        f"Threshold {card.threshold:.4f}: {FALSE_ALARMS} false alarms per 256 x 256 px of the validation tiles. "
        f"Calibrated on the same tiles (Platt).\n\n| on validation | |\n| --- | --- |\n{metrics}\n"
        "Not for: sources that fade (set `detection.both_signs=true`), trails, pixels that are masked. Validation "
        "tiles are simulated or of the survey it was trained on; other surveys differ: look at a run's own metrics.\n\n"
        f"sha256 `{card.sha256}`, architecture version {card.version}. Trained with\n\n```json\n{said}\n```\n"
    )
