"""What every detector does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
    score : (n,) float64 array or None
        Probability of being real by a recorded calibration, where the detector has one.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    significance: NDArray[np.float64]
    footprint: tuple[NDArray[np.intp], ...] | None = None
    score: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not self.y.shape == self.x.shape == self.significance.shape:
            raise ValueError(f"y, x, significance are {self.y.shape}, {self.x.shape}, {self.significance.shape}")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def rank(self) -> NDArray[np.float64]:
        """What orders them: the score where there is one, else the absolute significance."""
        return np.abs(self.significance) if self.score is None else self.score

    def chosen(self, keep: NDArray[Any]) -> Detections:
        """Return some of them, by a mask or by numbers."""
        which = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Detections(
            self.y[which],
            self.x[which],
            self.significance[which],
            None if self.footprint is None else tuple(self.footprint[i] for i in which),
            None if self.score is None else self.score[which],
        )


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
