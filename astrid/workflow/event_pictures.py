"""The events of a run on alerts: which to show, their pictures, their light curves."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.errors import AstridError, DataError
from astrid.image import ExposureInfo
from astrid.imaging.calibration import flux_scale_of
from astrid.report.data import Events, Stamps
from astrid.report.events import event_caption, event_title
from astrid.report.pictures import orientation, upright
from astrid.schema import ALERTS
from astrid.skygrid import Tile
from astrid.stores.tables import read_table, write_table
from astrid.surveys import StampSurvey
from astrid.workflow.alert_curves import (
    ALERT_LIGHT_CURVES,
    CONTEXT,
    alert_light_curves,
    context_of,
    magnitude_agreement,
)
from astrid.workflow.images import GROUP, Differences
from astrid.workflow.ingest import read_exposures
from astrid.workflow.keys import Cell
from astrid.workflow.settings import Settings
from astrid.workflow.stamps import padded_to, with_usual_zero_points

logger = logging.getLogger(__name__)

SHOWN = 60
KEPT_FOR_OTHERS = 12
RADIUS = 24
INDEPENDENT = "catalogue:"

Row = Mapping[str, Any]


class CellPictures(Protocol):
    """Where the layers of a cell come from."""

    tiles: tuple[Tile, ...]
    bands: tuple[str, ...]

    def layers(self, cell: Cell) -> dict[str, NDArray[Any]]:
        """Return science, template, difference, significance and mask."""


def gather_events(settings: Settings, pictures: CellPictures, differences: Differences) -> Events | None:
    """Return what the report shows of alerts and write their light curves; None for other surveys."""
    survey = settings.survey
    if not isinstance(survey, StampSurvey):
        return None
    alerts = read_table(settings.run_folder / "alerts.parquet", ALERTS)
    epochs = read_exposures(settings.cube_folder / "exposures.parquet")
    as_listed = {info.exposure_id: info for info, _ in epochs}
    calibrated = {info.exposure_id: info for info, _ in with_usual_zero_points(epochs)}
    numbers = differences.reader.numbers(GROUP)
    seen = numbers["exposure_id"] != ""
    zero_points = dict(
        zip(
            (str(i) for i in numbers["exposure_id"][seen]), (float(z) for z in numbers["zero_point"][seen]), strict=True
        )
    )
    curves = alert_light_curves(alerts, as_listed, zero_points)
    write_table(settings.run_folder / "alert_light_curves.parquet", curves, ALERT_LIGHT_CURVES)
    shown = choose_events(alerts.to_pylist())
    return Events(
        alerts=alerts,
        stamps=event_stamps(shown, survey, calibrated, pictures),
        n_missed_shown=sum(not row["is_detected"] for row in shown),
        light_curves=curves,
        context=_context(survey, as_listed, curves, zero_points),
        agreement=magnitude_agreement(curves),
    )


def _context(
    survey: StampSurvey, infos: Mapping[str, ExposureInfo], curves: pa.Table, zero_points: Mapping[str, float]
) -> pa.Table:
    """Return what the packets of the objects with a light curve say of earlier nights."""
    history = getattr(survey, "history", None)
    ids = curves["exposure_id"].to_pylist()
    known = [zero_points[name] for name in ids if np.isfinite(zero_points.get(name, np.nan))]
    if history is None or not known:
        return CONTEXT.empty_table()
    return context_of(history([infos[name] for name in ids]), curves, float(np.median(known)))


def choose_events(alerts: Iterable[Row]) -> list[dict[str, Any]]:
    """Choose the alerts to show: those that catalogues know first, in order of significance.

    Every missed one that catalogues know is among them, then the first alerts of different objects; a
    few places are kept for alerts without an independent label, the missed ones before the others.
    """
    rows = sorted((dict(row) for row in alerts), key=lambda row: (-_strength(row), row["exposure_id"]))
    independent = [row for row in rows if is_independent(row)]
    others = [row for row in rows if not is_independent(row)]
    kept = min(KEPT_FOR_OTHERS, len(others))
    first = _by_object(independent, SHOWN - kept)
    second = _by_object(others, SHOWN - len(first))
    return [*first, *second]


def _by_object(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Return n rows, all missed ones before the strongest of each object before the rest; in the order given."""
    seen: set[str] = set()
    rank = []
    for place, row in enumerate(rows):
        rank.append((0 if not row["is_detected"] else 2 if row["object_id"] in seen else 1, place))
        seen.add(row["object_id"])
    return [rows[place] for place in sorted(place for _, place in sorted(rank)[:n])]


def is_independent(row: Row) -> bool:
    """Return whether a label is that of a catalogue rather than of the survey's own classifier."""
    return str(row["label_basis"] or "").startswith(INDEPENDENT)


def _strength(row: Row) -> float:
    value = abs(float(np.nan if row["own_significance"] is None else row["own_significance"]))
    return value if np.isfinite(value) else -1.0


def event_stamps(
    rows: list[dict[str, Any]], survey: StampSurvey, infos: Mapping[str, ExposureInfo], pictures: CellPictures
) -> tuple[Stamps, ...]:
    """Cut the pictures of some alerts, north up; those whose pixels cannot be read are left out with a warning."""
    made: dict[int, Stamps] = {}
    places = sorted(range(len(rows)), key=lambda i: (rows[i]["tile"], rows[i]["band"], rows[i]["epoch"]))
    for place in places:
        row = rows[place]
        info = infos.get(row["exposure_id"])
        try:
            if info is not None:
                made[place] = _stamps(row, survey, info, pictures)
        except AstridError as error:
            logger.warning("no picture of alert %s: %s", row["exposure_id"], error)
    return tuple(made[place] for place in sorted(made))


def _stamps(row: Row, survey: StampSurvey, info: ExposureInfo, pictures: CellPictures) -> Stamps:
    cell = Cell(row["tile"], row["epoch"], pictures.bands.index(row["band"]), row["band"])
    layers = dict(pictures.layers(cell))
    theirs = survey_difference(survey, info, (layers["science"].shape[0], layers["science"].shape[1]))
    if theirs is not None:
        layers["survey_difference"] = theirs
    tile = pictures.tiles[cell.tile]
    cut = {name: upright(cut_out(layer, row["y"], row["x"], RADIUS), tile.cd) for name, layer in layers.items()}
    return Stamps(
        title=event_title(row),
        caption=event_caption(row, info.extra),
        is_false_alarm=False,
        pixel_scale=tile.pixel_scale,
        orientation=orientation(tile.cd),
        **cut,
    )


def survey_difference(survey: StampSurvey, info: ExposureInfo, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return the survey's own difference on the pixels and in the unit of a cell; None where it cannot be read."""
    try:
        theirs = padded_to(survey.read_difference(info), shape).flux * np.float32(flux_scale_of(info)[0])
    except DataError as error:
        logger.warning("alert %s: no difference of the survey: %s", info.exposure_id, error)
        return None
    return theirs.astype(np.float32)


def cut_out(layer: NDArray[Any], y: float, x: float, radius: int) -> NDArray[Any]:
    """Cut a square around a position; outside the image is no data."""
    fill = 1 if layer.dtype == np.uint16 else np.nan
    padded = np.pad(layer, radius, constant_values=fill)
    row, column = round(y), round(x)
    return padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
