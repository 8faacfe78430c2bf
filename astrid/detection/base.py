"""What every detector does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from astrid.image import Difference


@dataclass(frozen=True, eq=False)
class Detections:
    """Candidate positions in one difference, most significant first.

    Attributes
    ----------
    y, x : (n,) float64 arrays
        Sub-pixel positions.
    significance : (n,) float64 array
        Signed detection significance.
    footprint : (n,) sequence of (m, 2) int arrays, or None
        Pixels (y, x) of each detection where the detector makes footprints.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    significance: NDArray[np.float64]
    footprint: tuple[NDArray[np.intp], ...] | None = None

    def __post_init__(self) -> None:
        if not self.y.shape == self.x.shape == self.significance.shape:
            raise ValueError(f"y, x, significance are {self.y.shape}, {self.x.shape}, {self.significance.shape}")

    def __len__(self) -> int:
        return len(self.y)


@runtime_checkable
class Detector(Protocol):
    """A frozen, picklable dataclass that finds candidates in a difference."""

    @property
    def name(self) -> str:
        """The word after ``detection=``."""

    @property
    def threshold(self) -> float:
        """What a detection must reach, in the detector's own score."""

    def __call__(self, difference: Difference) -> Detections:
        """Find candidates."""
