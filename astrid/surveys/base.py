"""What every survey does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.image import Exposure, ExposureInfo


@dataclass(frozen=True)
class Problem:
    """A file that could not be used, and why; the others go on."""

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """All exposures of a survey, in order of time, and the files left out."""

    exposures: tuple[ExposureInfo, ...]
    problems: tuple[Problem, ...] = field(default=())


@runtime_checkable
class Survey(Protocol):
    """A source of exposures. Implementations are frozen, picklable dataclasses.

    ``name`` is the survey's word; ``folder`` is where a survey that makes or
    fetches files keeps them (ignored by those that only read).
    """

    @property
    def name(self) -> str:
        """The word after ``survey=``."""

    @property
    def acknowledgement(self) -> str:
        """What users must cite; empty where nothing."""

    def list_exposures(self, folder: Path) -> Listing:
        """List the exposures without reading pixels.

        Raises
        ------
        DataError
            If there is nothing to list: the message names the place and the remedy.
        """

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one exposure.

        Raises
        ------
        DataError
            If the file cannot be read in full or holds no finite pixel.
        """

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Read the template that comes with an exposure, None where none does."""

    def known_events(self, folder: Path) -> pa.Table | None:
        """Return known transients (`astrid.schema.KNOWN_EVENTS`), None where unknown."""

    def true_psf(self, info: ExposureInfo, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Return the true PSF on the detector's pixel scale (simulated skies), else None."""


@runtime_checkable
class ContextSurvey(Survey, Protocol):
    """A survey of pictures without a time: they lie on no time axis, and nothing is subtracted."""

    @property
    def no_epoch(self) -> str:
        """Why nothing is subtracted, for the summary and the report."""


@runtime_checkable
class StampSurvey(Survey, Protocol):
    """A survey of alert packets: stamps of an event, registered and scaled, each with its template.

    What its exposures carry in ``extra``: "object_id", "y", "x" (the event in the stamp), "is_negative",
    "pixel_scale", and what the survey says of it.
    """

    stamps: bool

    def read_difference(self, info: ExposureInfo) -> Exposure:
        """Read the survey's own difference, as science minus template.

        Raises
        ------
        DataError
            If it cannot be read.
        """

    def kind_of(self, info: ExposureInfo) -> str | None:
        """Return what independent catalogues say the event is, None where they say nothing."""
