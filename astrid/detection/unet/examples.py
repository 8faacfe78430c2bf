"""Examples on disk: tiles that a network has seen, in files that are read as they are needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.detection.unet.inputs import CHANNELS
from astrid.errors import DataError


@dataclass(frozen=True, eq=False)
class Example:
    """One tile: what the network sees, and the transients in it.

    Attributes
    ----------
    planes : (5, ny, nx) float array
        See `astrid.detection.unet.inputs.inputs_of`.
    y, x, snr : (n,) float arrays
        Transients, in pixels and true S/N.
    fwhm : float
        Of the PSF of the difference, in pixels.
    source : str
        What it was made of: training and validation never share one.
    """

    planes: NDArray[Any]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    snr: NDArray[np.float64]
    fwhm: float
    source: str


def write_shard(path: Path, examples: list[Example]) -> None:
    """Write tiles of one size as a file of half-precision planes and one that describes them; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = [
        {"y": one.y.tolist(), "x": one.x.tolist(), "snr": one.snr.tolist(), "fwhm": one.fwhm, "source": one.source}
        for one in examples
    ]
    planes, partial = path.with_suffix(".npy"), path.with_suffix(".npy.partial")
    with partial.open("wb") as file:
        np.save(file, np.stack([one.planes for one in examples]).astype(np.float16))
    partial.replace(planes)
    text = path.with_suffix(".json.partial")
    text.write_text(json.dumps(described))
    text.replace(path.with_suffix(".json"))  # last: a shard without it is not there


@dataclass(frozen=True)
class Examples:
    """The tiles of some shards, read from disk when they are asked for.

    Attributes
    ----------
    shards : tuple of path
        Without suffix, as given to `write_shard`.
    blank : tuple of str
        Planes that are shown as zeros, to learn what each is worth.
    """

    shards: tuple[Path, ...]
    blank: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        shard, row = self._places[index]
        said = self._described[shard][row]
        return Example(
            blanked(np.asarray(self._planes[shard][row], np.float32), self.blank),
            np.array(said["y"], np.float64),
            np.array(said["x"], np.float64),
            np.array(said["snr"], np.float64),
            float(said["fwhm"]),
            str(said["source"]),
        )

    @cached_property
    def _described(self) -> list[list[dict[str, Any]]]:
        return [_described(shard) for shard in self.shards]

    @cached_property
    def _planes(self) -> list[NDArray[np.float16]]:
        return [_planes(shard, len(said)) for shard, said in zip(self.shards, self._described, strict=True)]

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        return [(number, row) for number, said in enumerate(self._described) for row in range(len(said))]


def blanked(planes: NDArray[np.float32], blank: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the planes, those of some names as zeros."""
    if not blank:
        return planes
    shown = planes.copy()
    shown[[CHANNELS.index(name) for name in blank]] = 0
    return shown


def _described(shard: Path) -> list[dict[str, Any]]:
    path = shard.with_suffix(".json")
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no examples ({error}); delete the file and train again to make them anew") from error
    return found


def _planes(shard: Path, count: int) -> NDArray[np.float16]:
    path = shard.with_suffix(".npy")
    try:
        planes: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no examples ({error}); delete both files of this name and train again") from error
    if planes.ndim != 4 or planes.shape[:2] != (count, len(CHANNELS)):
        raise DataError(
            f"{path} holds an array of {planes.shape}, expected ({count}, {len(CHANNELS)}, ny, nx); "
            "delete both files of this name and train again"
        )
    return planes
