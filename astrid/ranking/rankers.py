"""`ranking=none|trees|...`: a score for each candidate, and which are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.ranking import stored
from astrid.ranking.features import features_of
from astrid.ranking.models import KINDS, raw_score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NoRanking:
    """Candidates are ranked as their detector ranks them."""

    @property
    def name(self) -> str:
        """The word after ``ranking=``."""
        return "none"


@dataclass(frozen=True)
class Ranker:
    """Rank candidates by a model of what is measured of them.

    Attributes
    ----------
    kind : str
        One of `astrid.ranking.models.KINDS`.
    model : str or None
        Path of a ``.skops`` file; None is the one in the package.
    least : float or None
        Score of the model that a candidate must reach; None takes the one recorded with the model, 0.1 false
        alarms per 256 x 256 px of the validation tiles.
    """

    kind: str = "trees"
    model: str | None = None
    least: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no ranking {self.kind!r}; there are {', '.join(KINDS)}")
        if self.least is not None and not np.isfinite(self.least):
            raise ValueError(f"least must be finite or null, got {self.least}")

    @property
    def name(self) -> str:
        """The word after ``ranking=``."""
        return self.kind

    @property
    def threshold(self) -> float:
        """What a candidate must reach, in the score of the model."""
        return (
            self.least if self.least is not None else stored.read_card(stored.path_of(self.kind, self.model)).threshold
        )

    @property
    def needs_network(self) -> bool:
        """Whether it looks at the output of the U-Net too."""
        return self.kind == "combined"

    def prepare(self) -> None:
        """Read the model, which this process keeps; raises what `score` raises."""
        stored.read(stored.path_of(self.kind, self.model))

    def score(self, columns: Mapping[str, NDArray[Any]], fwhm: float, network: Floats | None = None) -> Floats:
        """Return the score of candidates, higher for likelier ones, not calibrated.

        Parameters
        ----------
        columns : mapping of (n,) arrays
            As `astrid.detection.features.measure_candidates` gives them.
        fwhm : float
            Of the PSF of the difference, in pixels.
        network : (n,) array, optional
            Highest output of the U-Net within 2 px, for a ranker that needs it.

        Raises
        ------
        ValueError
            If the output of the U-Net is missing.
        DataError
            If the model is not what it should be.
        """
        if self.needs_network and network is None:
            raise ValueError("this ranker needs the output of the U-Net at the candidates")
        model = stored.read(stored.path_of(self.kind, self.model))[0]
        return raw_score(self.kind, model, features_of(columns, fwhm, network if self.needs_network else None))

    def probability(self, score: Floats) -> Floats:
        """Return the recorded calibration of a score: the probability of being real."""
        return stored.read_card(stored.path_of(self.kind, self.model)).calibrated(score)
