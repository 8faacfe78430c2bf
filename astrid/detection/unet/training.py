"""Training of the U-Net: examples in, weights out, the same however often it was interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astrid.detection.unet.examples import Examples
from astrid.detection.unet.network import UNetwork, build, channels_last
from astrid.errors import DataError

FAINTEST = 5.0  # S/N; what is fainter is neither a transient nor none
TARGET_RADIUS = 0.75  # FWHM of the disk that is to be found
IGNORE_RADIUS = 1.5  # FWHM about what is too faint

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Loop:
    """How a network is trained.

    Attributes
    ----------
    steps : int
        Batches.
    batch : int
        Tiles in each.
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter 2019); the rate rises over the first twentieth and falls like a cosine.
    dice : float
        Weight of the Dice loss beside the cross-entropy.
    seed : int
        Of the weights, of the order of the examples, of their turns.
    check_every : int
        Steps between two looks at the validation examples, each with a checkpoint.
    patience : int
        Looks without a better one after which it stops.
    bfloat16 : bool
        Whether to compute in bfloat16 where torch does: three times as fast where the CPU has matrix units.
    """

    steps: int = 2000
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    dice: float = 1.0
    seed: int = 1
    check_every: int = 250
    patience: int = 8
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.dice < 0 or self.weight_decay < 0:
            raise ValueError(f"dice and weight_decay must not be negative, got {self.dice} and {self.weight_decay}")


def train(
    architecture: str,
    examples: Examples,
    validation: Examples,
    loop: Loop,
    checkpoint: Path,
    *,
    start: tuple[UNetwork, str] | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> tuple[UNetwork, dict[str, Any]]:
    """Train a network and return it as it was when validation liked it best, and its history.

    Each step's examples and turns follow from the seed and the number of the step, so that a run that goes on from its
    checkpoint ends with the same weights as one that was not interrupted.

    Parameters
    ----------
    architecture : str
        Of `astrid.detection.unet.network.BASES`.
    examples, validation : Examples
        To learn from, and to stop by.
    loop : Loop
        How.
    checkpoint : path
        Written at each look at validation; read if there.
    start : UNetwork and str, optional
        As it was trained before, and its checksum; weights are drawn where there is none.
    device : str
        Of torch.
    report : callable, optional
        Gets the step and numbers at each look.

    Raises
    ------
    DataError
        If the checkpoint is of another training, or does not read.
    """
    torch.manual_seed(loop.seed)
    network = build(architecture)
    if start is not None:
        network.load_state_dict(start[0].state_dict())
    network = channels_last(network.to(device))
    identity = _identity(architecture, loop, examples) | ({"start": start[1]} if start else {})
    optimiser = torch.optim.AdamW(network.parameters(), lr=loop.learning_rate, weight_decay=loop.weight_decay)
    history: dict[str, Any] = {"step": [], "training_loss": [], "validation_loss": []}
    best = {name: value.clone() for name, value in network.state_dict().items()}
    first = _resumed(checkpoint, network, optimiser, history, best, identity)
    losses: list[float] = []
    for step in range(first, loop.steps):
        if _is_stalled(history, loop.patience):
            break
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate * rate(step, loop.steps)
        planes, target, weight = (part.to(device) for part in _batch(examples, loop, step))
        network.train()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=loop.bfloat16):
            logits = network(planes.to(memory_format=torch.channels_last))
        loss = loss_of(logits.float(), target, weight, loop.dice)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % loop.check_every == 0 or step + 1 == loop.steps:
            history["step"].append(step + 1)
            history["training_loss"].append(float(np.mean(losses)))
            history["validation_loss"].append(_validated(network, validation, loop, device))
            losses = []
            if history["validation_loss"][-1] == min(history["validation_loss"]):
                best = {name: value.clone() for name, value in network.state_dict().items()}
            _saved(checkpoint, step + 1, network, optimiser, history, best, identity)
            if report is not None:
                report(step + 1, {name: values[-1] for name, values in history.items()})
    network.load_state_dict(best)
    return network, history


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step over the largest."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def loss_of(logits: Tensor, target: Tensor, weight: Tensor, dice: float) -> Tensor:
    """Return the cross-entropy, averaged over pixels, plus the Dice loss (Milletari et al. 2016, eq. 1), weighted.

    Parameters
    ----------
    logits, target, weight : (n, ny, nx) tensors
        The target is one on disks about transients; the weight is zero where nothing is asked.
    dice : float
        Weight of the Dice loss.
    """
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, weight)
    probability = torch.sigmoid(logits) * weight
    overlap = (probability * target).sum()
    total = (probability**2).sum() + (target * weight).sum()
    return entropy + dice * (1 - (2 * overlap + 1) / (total + 1))


def targets_of(
    shape: tuple[int, int], y: NDArray[Any], x: NDArray[Any], snr: NDArray[Any], fwhm: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what is to be found in a tile, and how much each pixel counts; both (ny, nx).

    Disks of 0.75 FWHM about transients of S/N 5 and more; what is fainter is left out with its surroundings.
    """
    target, weight = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    rows, columns = np.indices(shape)
    radius = max(1.5, TARGET_RADIUS * fwhm)
    for at_y, at_x, value in zip(y, x, snr, strict=True):
        distance = np.hypot(rows - at_y, columns - at_x)
        if value >= FAINTEST:
            target[distance <= radius] = 1
        else:
            weight[distance <= IGNORE_RADIUS * fwhm] = 0
    return target, np.maximum(weight, target)


def _batch(examples: Examples, loop: Loop, step: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng([loop.seed, step])
    chosen = rng.integers(len(examples), size=loop.batch)
    made = [_turned(*_with_target(examples, int(i)), int(rng.integers(8))) for i in chosen]
    planes, target, weight = (np.stack(part) for part in zip(*made, strict=True))
    return torch.from_numpy(planes), torch.from_numpy(target), torch.from_numpy(weight)


def _with_target(examples: Examples, i: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    one = examples[i]
    shape = one.planes.shape[1], one.planes.shape[2]
    return one.planes, *targets_of(shape, one.y, one.x, one.snr, one.fwhm)


def _turned(planes: NDArray[Any], target: NDArray[Any], weight: NDArray[Any], turn: int) -> tuple[NDArray[Any], ...]:
    """Return a tile in one of the eight ways to lay a square."""
    made = []
    for part in (planes, target, weight):
        turned = np.rot90(part, turn % 4, axes=(-2, -1))
        made.append(np.ascontiguousarray(turned[..., ::-1] if turn >= 4 else turned, np.float32))
    return tuple(made)


def _validated(network: UNetwork, validation: Examples, loop: Loop, device: str) -> float:
    network.eval()
    losses = []
    with torch.no_grad():
        for some in batches(len(validation), loop.batch):
            made = [_with_target(validation, i) for i in some]
            planes, target, weight = (torch.from_numpy(np.stack(p)).to(device) for p in zip(*made, strict=True))
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=loop.bfloat16):
                logits = network(planes.float().to(memory_format=torch.channels_last))
            losses.append(float(loss_of(logits.float(), target, weight, loop.dice)) * len(some))
    return float(np.sum(losses) / len(validation))


def batches(count: int, size: int) -> Iterator[range]:
    """Return ranges of at most so many numbers."""
    return (range(first, min(first + size, count)) for first in range(0, count, size))


def _is_stalled(history: dict[str, Any], patience: int) -> bool:
    losses = history["validation_loss"]
    return len(losses) > patience and min(losses[-patience:]) > min(losses)


def _identity(architecture: str, loop: Loop, examples: Examples) -> dict[str, Any]:
    return {"architecture": architecture, **vars(loop), "examples": len(examples), "blank": list(examples.blank)}


def _saved(
    path: Path,
    step: int,
    network: UNetwork,
    optimiser: torch.optim.Optimizer,
    history: dict[str, Any],
    best: dict[str, Tensor],
    identity: dict[str, Any],
) -> None:
    state = {
        "step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict(), "history": history,
        "best": best, "identity": identity,
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _resumed(
    path: Path,
    network: UNetwork,
    optimiser: torch.optim.Optimizer,
    history: dict[str, Any],
    best: dict[str, Tensor],
    identity: dict[str, Any],
) -> int:
    """Take up where a checkpoint ends; zero where there is none."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:
        raise DataError(f"{path}: the checkpoint does not read ({error}); delete it to begin anew") from error
    if state["identity"] != identity:
        wrong = sorted(k for k in {*identity, *state["identity"]} if state["identity"].get(k) != identity.get(k))
        raise DataError(f"{path}: the checkpoint is of a training with another {', '.join(wrong)}; use another name=")
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    history.update(state["history"])
    best.update(state["best"])
    return int(state["step"])
