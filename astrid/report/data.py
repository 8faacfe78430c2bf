"""What a report is made of; the workflow fills it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid import schema
from astrid.evaluation.completeness import Completeness


@dataclass(frozen=True, eq=False)
class Stamps:
    """The four pictures of one candidate, or of one wide example.

    Attributes
    ----------
    title, caption : str
        One line above the pictures and one below.
    science, template, difference, significance : (ny, nx) float32 array
        Cut-outs on one pixel grid; a candidate sits at the centre.
    mask : (ny, nx) uint16 array
        Bits named in `astrid.schema.MaskBit`.
    is_false_alarm : bool
        Whether evaluation counted it as a false alarm.
    pixel_scale : float
        Arcseconds per pixel; NaN where there is no sky position.
    survey_difference : (ny, nx) float32 array or None
        The survey's own difference in the unit of ``difference``.
    orientation : str
        Which way is up, where there is a sky position.
    """

    title: str
    caption: str
    science: NDArray[np.float32]
    template: NDArray[np.float32]
    difference: NDArray[np.float32]
    significance: NDArray[np.float32]
    mask: NDArray[np.uint16]
    is_false_alarm: bool
    pixel_scale: float
    survey_difference: NDArray[np.float32] | None = None
    orientation: str = "north up, east left"

    def __post_init__(self) -> None:
        if self.science.ndim != 2 or 0 in self.science.shape:
            raise ValueError(f"science must be a 2-D image with pixels, got shape {self.science.shape}")
        for name in ("template", "difference", "significance", "mask"):
            shape = getattr(self, name).shape
            if shape != self.science.shape:
                raise ValueError(f"{name} is {shape} but science is {self.science.shape}")
        theirs = self.survey_difference
        if theirs is not None and theirs.shape != self.science.shape:
            raise ValueError(f"survey_difference is {theirs.shape} but science is {self.science.shape}")


@dataclass(frozen=True, eq=False)
class Events:
    """What the report of a run on alerts shows of them.

    Attributes
    ----------
    alerts : pa.Table
        `astrid.schema.ALERTS`, all of them.
    stamps : tuple of Stamps
        Those shown, in order.
    n_missed_shown : int
        How many of those shown were missed.
    light_curves, context : pa.Table
        Own forced fluxes of objects of several alerts with the packets' values, and what the packets say of
        earlier nights; ``alert_light_curves.parquet`` describes the columns.
    agreement : sequence of mapping
        Own minus packet magnitudes, a row per object and a last one of all.
    """

    alerts: pa.Table
    stamps: tuple[Stamps, ...]
    n_missed_shown: int
    light_curves: pa.Table
    context: pa.Table
    agreement: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything the report of one run shows.

    Attributes
    ----------
    name, survey, created : str
        Name of the run, its survey and when the report was made.
    metrics : mapping
        The content of ``metrics.json``: ``{"rows": [...], "notes": ...}``, the first row of injections being
        the configured pair. Precision and recall are fractions, localization is a per cent.
    completeness : mapping
        Detector to ``snr, fraction, low, high`` (lists of one length), ``fit_snr50`` and ``fit`` (the fitted curve
        at ``fit_snr`` where that key is given, else at ``snr``).
    candidates, objects, streaks, light_curves, injections, cells, ledger : pa.Table
        As in `astrid.schema`; empty tables are fine.
    best, worst : tuple of Stamps
        Best candidates and most significant false alarms, in the order of showing.
    streak_pictures : tuple of Stamps
        Wide views of the cells with the most significant streaks.
    configuration : str
        The resolved configuration as YAML.
    versions : mapping
        Package to version.
    notes : tuple of str
        What a reader must know before trusting the numbers.
    acknowledgement : str
        What the survey asks users to print.
    example : Stamps or None
        One wide science / template / difference of a cell.
    events : Events or None
        Alerts beside what their survey says; None for surveys of images.
    """

    name: str
    survey: str
    created: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    completeness: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    candidates: pa.Table = field(default_factory=schema.CANDIDATES.empty_table)
    objects: pa.Table = field(default_factory=schema.OBJECTS.empty_table)
    streaks: pa.Table = field(default_factory=schema.STREAKS.empty_table)
    light_curves: pa.Table = field(default_factory=schema.LIGHT_CURVES.empty_table)
    injections: pa.Table = field(default_factory=schema.INJECTIONS.empty_table)
    cells: pa.Table = field(default_factory=schema.CELLS.empty_table)
    ledger: pa.Table = field(default_factory=schema.LEDGER.empty_table)
    best: tuple[Stamps, ...] = ()
    worst: tuple[Stamps, ...] = ()
    streak_pictures: tuple[Stamps, ...] = ()
    configuration: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    acknowledgement: str = ""
    example: Stamps | None = None
    events: Events | None = None


def completeness_curve(measured: Completeness, *, n_fit: int = 60) -> dict[str, Any]:
    """Turn a measured completeness into what `ReportData.completeness` holds for one detector.

    Parameters
    ----------
    measured : Completeness
        Bins and fit.
    n_fit : int
        Number of points of the fitted curve.

    Returns
    -------
    dict
        ``snr`` (geometric centres of the bins that hold truths), ``fraction, low, high, fit_snr50, fit_snr, fit``;
        the fit is empty where there is none.
    """
    filled = [one for one in measured.bins if one.fraction is not None and one.interval is not None]
    grid = np.geomspace(filled[0].snr_low, filled[-1].snr_high, n_fit) if filled else np.empty(0)
    fitted = measured.curve(grid)
    return {
        "snr": [float(np.sqrt(one.snr_low * one.snr_high)) for one in filled],
        "fraction": [one.fraction for one in filled],
        "low": [one.interval[0] for one in filled if one.interval is not None],
        "high": [one.interval[1] for one in filled if one.interval is not None],
        "fit_snr50": measured.snr_50,
        "fit_snr": grid.tolist() if fitted is not None else [],
        "fit": fitted.tolist() if fitted is not None else [],
    }
