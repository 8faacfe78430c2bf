"""Light curves of alert objects: own fluxes beside the magnitudes that the packets bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from astrid.image import ExposureInfo
from astrid.imaging.photometry import magnitude
from astrid.stores.tables import table_of

FEWEST_ALERTS = 3
SAME_TIME_DAYS = 1e-3
COMPARED_SNR = 8.0
SIGMA_PER_MAD = 1.4826

ALERT_LIGHT_CURVES = pa.schema(
    [
        ("object_id", pa.string()),
        ("exposure_id", pa.string()),
        ("mjd", pa.float64()),
        ("band", pa.string()),
        *((name, pa.float64()) for name in ("flux", "flux_error")),
        ("flux_unit", pa.string()),
        *((name, pa.float64()) for name in ("magnitude", "magnitude_error")),
        *((name, pa.float64()) for name in ("survey_magnitude", "survey_magnitude_error", "survey_flux")),
        ("significance", pa.float64()),
        ("has_zero_point", pa.bool_()),
    ]
)
"""Signed fluxes; magnitudes are of their absolute value. ``survey_flux`` is in the unit of ``flux``.

``has_zero_point`` is false where the packet brings none and that of its band stands in.
"""

CONTEXT = pa.schema(
    [
        ("object_id", pa.string()),
        ("mjd", pa.float64()),
        ("band", pa.string()),
        *((name, pa.float64()) for name in ("survey_flux", "survey_flux_error", "survey_limit")),
    ]
)
"""What packets say of earlier nights, in the unit of the run: a signed flux, or a limit alone."""


def alert_light_curves(
    alerts: pa.Table, infos: Mapping[str, ExposureInfo], zero_points: Mapping[str, float]
) -> pa.Table:
    """Return the light curves of objects with three alerts or more (`ALERT_LIGHT_CURVES`).

    Parameters
    ----------
    alerts : table
        `astrid.schema.ALERTS`: ``own_flux`` is forced PSF photometry of the own difference at the event.
    infos : mapping
        The exposures as listed, by id.
    zero_points : mapping
        AB magnitude of one flux unit of each exposure's cell; NaN where it is unknown.
    """
    columns = {name: alerts[name].to_pylist() for name in alerts.column_names}
    often = {name for name, n in Counter(columns["object_id"]).items() if n >= FEWEST_ALERTS}
    rows = []
    for i, (object_id, exposure_id) in enumerate(zip(columns["object_id"], columns["exposure_id"], strict=True)):
        if object_id not in often or exposure_id not in infos:
            continue
        info = infos[exposure_id]
        zero_point = zero_points.get(exposure_id, np.nan)
        flux, error = (_number(columns[name][i]) for name in ("own_flux", "own_flux_error"))
        own, own_error = (float(v) for v in magnitude(abs(flux), error, zero_point))
        theirs = _number(info.extra.get("survey_magnitude"))
        sign = -1.0 if info.extra.get("is_negative") else 1.0
        rows.append(
            {
                "object_id": object_id,
                "exposure_id": exposure_id,
                "mjd": info.mjd,
                "band": info.band,
                "flux": flux,
                "flux_error": error,
                "flux_unit": columns["flux_unit"][i],
                "magnitude": own,
                "magnitude_error": own_error,
                "survey_magnitude": theirs,
                "survey_magnitude_error": _number(info.extra.get("survey_magnitude_error")),
                "survey_flux": sign * flux_of(theirs, zero_point),
                "significance": flux / error if error > 0 else np.nan,
                "has_zero_point": info.zero_point is not None or info.unit == "nJy",
            }
        )
    table = table_of([{name: _or_none(v) for name, v in row.items()} for row in rows], ALERT_LIGHT_CURVES)
    return table.sort_by([("object_id", "ascending"), ("mjd", "ascending"), ("band", "ascending")])


def context_of(history: pa.Table, curves: pa.Table, zero_point: float) -> pa.Table:
    """Return earlier detections and limits as fluxes (`CONTEXT`), less the nights that ``curves`` hold themselves.

    Parameters
    ----------
    history : table
        `astrid.surveys.alerts.HISTORY`.
    curves : table
        `ALERT_LIGHT_CURVES`.
    zero_point : float
        AB magnitude of one flux unit of the run; without one there is no context.
    """
    times: dict[tuple[str, str], list[float]] = {}
    for row in curves.select(["object_id", "band", "mjd"]).to_pylist():
        times.setdefault((row["object_id"], row["band"]), []).append(row["mjd"])
    rows = []
    for row in history.to_pylist() if np.isfinite(zero_point) else ():
        known = times.get((row["object_id"], row["band"]), ())
        if any(abs(row["mjd"] - mjd) < SAME_TIME_DAYS for mjd in known):
            continue
        flux = (-1.0 if row["is_negative"] else 1.0) * flux_of(_number(row["magnitude"]), zero_point)
        error = abs(flux) * _number(row["magnitude_error"]) * np.log(10) / 2.5
        limit = flux_of(_number(row["limiting_magnitude"]), zero_point) if not np.isfinite(flux) else np.nan
        if np.isfinite(flux) or np.isfinite(limit):
            values = {"survey_flux": flux, "survey_flux_error": error, "survey_limit": limit}
            place = {name: row[name] for name in ("object_id", "mjd", "band")}
            rows.append({**place, **{name: _or_none(float(v)) for name, v in values.items()}})
    return table_of(rows, CONTEXT)


def magnitude_agreement(curves: pa.Table, *, least_snr: float = COMPARED_SNR) -> list[dict[str, Any]]:
    """Compare own magnitudes with the packets' where both have one sign and the own S/N exceeds a least one.

    Returns
    -------
    list of dict
        One row per object and a last one of all: ``object_id`` ("all" in the last), ``n_alerts`` (of the
        object), ``n`` (compared), ``median`` (own minus the packet's), ``rms`` (plain, about zero),
        ``robust_rms`` (scaled median absolute deviation about the median) and ``n_without_zero_point`` (of
        those compared); numbers are None without a point.
    """
    rows = curves.to_pylist()
    compared: dict[str, list[float]] = {}
    lacking: Counter[str] = Counter()
    for row in rows:
        snr, own, theirs = (_number(row[name]) for name in ("significance", "magnitude", "survey_magnitude"))
        same = np.isfinite(own - theirs) and row["flux"] * _number(row["survey_flux"]) > 0
        if same and abs(snr) > least_snr:
            compared.setdefault(row["object_id"], []).append(own - theirs)
            lacking[row["object_id"]] += not row["has_zero_point"]
    count = Counter(row["object_id"] for row in rows)
    found = [_agreement(name, n, compared.get(name, []), lacking[name]) for name, n in sorted(count.items())]
    if found:
        every = [value for values in compared.values() for value in values]
        found.append(_agreement("all", len(rows), every, sum(lacking.values())))
    return found


def _agreement(name: str, n_alerts: int, values: Sequence[float], n_lacking: int) -> dict[str, Any]:
    d = np.array(values, float)
    middle = float(np.median(d)) if len(d) else None
    return {
        "object_id": name,
        "n_alerts": n_alerts,
        "n": len(d),
        "median": middle,
        "rms": float(np.sqrt(np.mean(d**2))) if len(d) else None,
        "robust_rms": float(SIGMA_PER_MAD * np.median(np.abs(d - middle))) if len(d) else None,
        "n_without_zero_point": n_lacking,
    }


def flux_of(ab_magnitude: float, zero_point: float) -> float:
    """Return the flux of a magnitude; NaN where either is unknown or the magnitude is none."""
    return float(10 ** (-0.4 * (ab_magnitude - zero_point))) if -10 < ab_magnitude < 50 else float("nan")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
