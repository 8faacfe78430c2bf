"""What tasks are named after: the thing that each one writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from astrid.image import ExposureInfo


@dataclass(frozen=True, order=True)
class Cell:
    """One (tile, epoch, band): indices on the axes of the cube and the band's name."""

    tile: int
    epoch: int
    band_index: int
    band: str

    @property
    def index(self) -> tuple[int, int, int]:
        """Position in arrays with dimensions (tile, epoch, band)."""
        return self.tile, self.epoch, self.band_index

    def __str__(self) -> str:
        return f"t{self.tile:04d}/e{self.epoch:04d}/{self.band}"


@dataclass(frozen=True, order=True)
class Series:
    """One (tile, band)."""

    tile: int
    band_index: int
    band: str

    @property
    def index(self) -> tuple[int, int]:
        """Position in arrays with dimensions (tile, band)."""
        return self.tile, self.band_index

    def __str__(self) -> str:
        return f"t{self.tile:04d}/{self.band}"


@dataclass(frozen=True)
class ExposureKey:
    """One exposure on its own detector."""

    info: ExposureInfo

    def __str__(self) -> str:
        return self.info.exposure_id


@dataclass(frozen=True)
class CellExposure:
    """A cell and the exposure that fills it."""

    cell: Cell
    info: ExposureInfo
    is_reference: bool = False

    def __str__(self) -> str:
        return str(self.cell)


@dataclass(frozen=True)
class Product:
    """What a task hands back besides the chunks it wrote: small numbers and rows.

    Attributes
    ----------
    numbers : dict
        ``group -> (index, {name: value})`` of the per-cell numbers of a store.
    tables : dict
        ``table name -> rows``.
    """

    numbers: Mapping[str, tuple[tuple[int, ...], Mapping[str, Any]]] = field(default_factory=dict)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)


def digest(*parts: object, length: int = 8) -> str:
    """Return a short, stable hash of configuration values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]
