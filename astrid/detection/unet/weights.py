"""Weights on disk: safetensors with a card beside them that says what they are; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from astrid.detection.unet.inputs import CHANNELS
from astrid.detection.unet.network import BASES, VERSION, UNetwork, build
from astrid.errors import DataError

REMEDY = "use a model of the package, or weights written by this version's `astrid train`"


@dataclass(frozen=True)
class Card:
    """What is recorded of weights, as ``<name>.json`` beside ``<name>.safetensors``.

    Attributes
    ----------
    architecture : str
        Of `astrid.detection.unet.network.BASES`.
    threshold : float
        Output of the network that a detection must reach: 0.1 false alarms per 256 x 256 pixels on validation.
    outputs, probabilities : tuple of float
        The calibration: what part of the detections of an output are real, on validation; linear between.
    sha256 : str
        Of the weights' file.
    metrics, training : dict
        On validation; how they were made.
    version : int
        Of the architecture.
    channels : tuple of str
        What the network sees.
    blank : tuple of str
        Which of them it is shown as zeros.
    """

    architecture: str
    threshold: float
    outputs: tuple[float, ...]
    probabilities: tuple[float, ...]
    sha256: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION
    channels: tuple[str, ...] = CHANNELS
    blank: tuple[str, ...] = ()

    def calibrated(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of being real."""
        return np.asarray(np.interp(output, self.outputs, self.probabilities), np.float64)


def shipped() -> list[str]:
    """Return the names of the weights in the package."""
    folder = resources.files("astrid.detection.unet") / "models"
    if not folder.is_dir():
        return []
    return sorted(Path(one.name).stem for one in folder.iterdir() if one.name.endswith(".safetensors"))


def path_of(model: str) -> Path:
    """Return the file of a name of the package, or of a path.

    Raises
    ------
    DataError
        If there is none.
    """
    if model in shipped():
        return Path(str(resources.files("astrid.detection.unet") / "models" / f"{model}.safetensors"))
    path = Path(model)
    if not path.exists():
        raise DataError(f"no model {model!r}: neither one of the package ({', '.join(shipped())}) nor a file")
    return path


def read(model: str) -> tuple[UNetwork, Card]:
    """Read weights, once in a process, ready for use on the CPU.

    Raises
    ------
    DataError
        If the file or its card is missing, changed, of another format, architecture or version.
    """
    path = path_of(model)
    return _read(str(path.resolve()), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(name: str, changed: int) -> tuple[UNetwork, Card]:
    network, card = checked(Path(name))
    return network.folded(), card


def checked(path: Path) -> tuple[UNetwork, Card]:
    """Read weights as they were trained, and their card; raises what `read` does."""
    content = path.read_bytes()
    if path.suffix != ".safetensors" or content[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise DataError(
            f"{path}: not a safetensors file; pickled weights could run code when they are read and never are; {REMEDY}"
        )
    card = read_card(path)
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise DataError(
            f"{path}: the file is not the one that its card describes (sha256 {found[:12]}..., expected "
            f"{card.sha256[:12]}...): damaged or changed; {REMEDY}"
        )
    try:
        tensors = load_tensors(content)
    except Exception as error:  # the library has a type of its own for each fault
        raise DataError(f"{path}: not a safetensors file ({error}); {REMEDY}") from error
    network = build(card.architecture)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    if expected != given:
        wrong = sorted(name for name in {*expected, *given} if expected.get(name) != given.get(name))
        raise DataError(
            f"{path}: the weights are not of the architecture {card.architecture!r} ({wrong[0]}: "
            f"{given.get(wrong[0], 'missing')}, expected {expected.get(wrong[0], 'nothing')}); {REMEDY}"
        )
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise DataError(f"{path}: weights that are not finite; {REMEDY}")
    network.load_state_dict(tensors)
    return network.eval(), card


def read_card(path: Path) -> Card:
    """Read the card of weights; raises `DataError` if it is missing, or of another version."""
    beside = path.with_suffix(".json")
    try:
        said = json.loads(beside.read_text())
        lists = {name: tuple(said[name]) for name in ("outputs", "probabilities", "channels")}
        card = Card(**{**said, **lists, "blank": tuple(said.get("blank", ()))})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{beside}: the card of {path.name} is missing or does not read ({error}); {REMEDY}") from error
    if card.version != VERSION or card.architecture not in BASES or card.channels != CHANNELS:
        raise DataError(
            f"{beside}: architecture {card.architecture!r}, version {card.version}, seeing {', '.join(card.channels)}; "
            f"read here are {', '.join(BASES)}, version {VERSION}, seeing {', '.join(CHANNELS)}; {REMEDY}"
        )
    rises = np.all(np.diff(card.outputs) > 0) and np.all(np.diff(card.probabilities) >= 0)
    if len(card.outputs) != len(card.probabilities) or len(card.outputs) < 2 or not rises:
        raise DataError(f"{beside}: the calibration does not rise over two places or more; {REMEDY}")
    return card


def write(path: Path, network: UNetwork, card: Card) -> Card:
    """Write weights and card; return the card with the checksum."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    content = save_tensors(tensors)
    full = Card(**{**vars(card), "sha256": hashlib.sha256(content).hexdigest()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(vars(full), indent=1) + "\n")
    return full
