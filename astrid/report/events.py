"""The section on alerts: counts per label, words under pictures, light curves beside the packets'."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from astrid.report.charts import SHAPES, Figure, Row
from astrid.report.data import Events
from astrid.report.svg import N_COLOURS, Chart, padded_range
from astrid.report.tables import Cell, Column, Table
from astrid.report.wording import ABSENT, count, fixed, interval, number, number_or_nan, per_cent

MAX_CURVES = 24
CURVE_SHARE = 0.05
HIGHEST_LIMIT = 1.2  # of the highest flux: a limit above it would only squeeze the chart

_AB_OF_NJY = 31.4
_FIRST_DAY = datetime(1858, 11, 17)


def tabulate_counts(rows: Any) -> Table:
    """Tabulate the counts of alerts per kind of label (``alerts`` of ``metrics.json``)."""
    columns = (
        Column("Label", is_number=False), Column("Kind", is_number=False), Column("Alerts", "objects"),
        Column("Detected", "95 %"), Column("By object"), Column("Off-centre", "peaks per stamp"),
        Column("Score width", "0.8 to 1.2"), Column("Correlation"), Column("Noise", "over the survey's"),
        Column("Stars", "over the survey's"), Column("Flux", "over the survey's"), Column("S/N", "over the survey's"),
    )  # fmt: skip
    out = []
    for row in rows if isinstance(rows, list | tuple) else ():
        width = per_cent(row.get("share_of_widths_0p8_to_1p2_by_object"))
        name = str(row.get("label_basis") or "")
        out.append(
            (
                Cell("all alerts" if name == "all" else "no label" if name == "none" else name or ABSENT),
                Cell(str(row.get("kind") or "")),
                Cell(fixed(row.get("n"), 0), below=fixed(row.get("n_objects"), 0)),
                Cell(per_cent(row.get("detected")), below=interval(row.get("detected_ci"), 100)),
                Cell(per_cent(row.get("detected_by_object"))),
                Cell(fixed(row.get("off_centre_per_stamp"), 2)),
                Cell(fixed(row.get("score_width"), 3), below="" if width == ABSENT else width),
                Cell(fixed(row.get("correlation"), 3)),
                Cell(fixed(row.get("noise_ratio"), 3)),
                Cell(fixed(row.get("star_residual"), 2)),
                Cell(fixed(row.get("flux_ratio"), 3)),
                Cell(fixed(row.get("significance_ratio"), 3)),
            )
        )
    return Table(columns, tuple(out))


def event_title(row: Row) -> str:
    """Name an alert: object, band, date, what it is said to be, and whether it was found."""
    what = str(row["kind"] or row["label"] or "no label")
    if not str(row["label_basis"] or "").startswith("catalogue:") and row["label_basis"]:
        what = f"{what} ({row['label_basis']})" if row["label"] or row["kind"] else str(row["label_basis"])
    found = "detected" if row["is_detected"] else "MISSED"
    return f"{row['object_id']} · {row['band']} · {date_of(row['mjd'])} · {what} · {found}"


def event_caption(row: Row, said: Mapping[str, Any]) -> str:
    """Write the numbers of an alert beside the survey's.

    Parameters
    ----------
    row : mapping
        Of `astrid.schema.ALERTS`.
    said : mapping
        ``extra`` of its exposure.
    """
    parts = [f"S/N {_signed(row['own_significance'], 1)}, survey {_signed(row['survey_significance'], 1)}"]
    theirs = number_or_nan(said.get("survey_magnitude"))
    if not math.isfinite(theirs):
        theirs = nanojansky_to_magnitude(row["survey_flux"])
    own_flux = number_or_nan(row["own_flux"])
    if row["flux_unit"] == "nJy":
        own = f"{_mark(own_flux)}{fixed(nanojansky_to_magnitude(own_flux), 2)}"
        parts.append(f"{own} mag, survey {_mark(row['survey_flux'])}{fixed(theirs, 2)} mag")
    else:
        parts.append(f"{number(own_flux)} {row['flux_unit']}, survey {fixed(theirs, 2)} mag")
    if math.isfinite(number_or_nan(row["survey_score"])):
        parts.append(f"the survey's score {fixed(row['survey_score'], 2)}")
    if row["mask_bits"]:
        parts.append(f"masked (bits {row['mask_bits']})")
    return " · ".join(parts)


def _mark(flux: Any) -> str:
    """Return what tells that a source faded."""
    return "fading, " if number_or_nan(flux) < 0 else ""


def _signed(value: Any, decimals: int) -> str:
    x = number_or_nan(value)
    return f"{x:+,.{decimals}f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(x) else ABSENT


def nanojansky_to_magnitude(flux: Any) -> float:
    """Return the AB magnitude of a flux's absolute value; NaN where there is none."""
    x = abs(number_or_nan(flux))
    return _AB_OF_NJY - 2.5 * math.log10(x) if x > 0 and math.isfinite(x) else math.nan


def date_of(mjd: Any) -> str:
    """Return the calendar date of an MJD.

    Examples
    --------
    >>> date_of(58849.5)
    '2020-01-01'
    """
    day = number_or_nan(mjd)
    return (_FIRST_DAY + timedelta(days=day)).strftime("%Y-%m-%d") if 0 < day < 1e6 else ABSENT


def left_out(events: Events) -> str:
    """Say how many alerts are not shown."""
    n = events.alerts.num_rows - len(events.stamps)
    if n <= 0:
        return "All are shown."
    missed = sum(not found for found in events.alerts["is_detected"].to_pylist()) - events.n_missed_shown
    which = f", {count(missed, 'missed one')} among them" if missed > 0 else ", none of them missed"
    return f"{count(n, 'further alert')} not shown{which}; all are in alerts.parquet."


def tabulate_agreement(rows: Sequence[Row]) -> Table:
    """Tabulate own minus packet magnitudes per object."""
    columns = (
        Column("Object", is_number=False), Column("Alerts"), Column("Compared", "S/N > 8"),
        Column("Median", "mag"), Column("Robust rms", "mag"), Column("Plain rms", "mag"),
        Column("Without zero point", "of those compared"),
    )  # fmt: skip
    out = [
        (
            Cell("all" if row["object_id"] == "all" else str(row["object_id"])),
            Cell(fixed(row["n_alerts"], 0)),
            Cell(fixed(row["n"], 0)),
            Cell(_signed(row["median"], 3)),
            Cell(fixed(row["robust_rms"], 3)),
            Cell(fixed(row["rms"], 3)),
            Cell(fixed(row["n_without_zero_point"], 0)),
        )
        for row in rows
    ]
    return Table(columns, tuple(out))


def write_agreement(rows: Sequence[Row]) -> str:
    """Say how well own magnitudes agree with the packets'."""
    if not rows or not rows[-1]["n"]:
        return ""
    every = rows[-1]
    return (
        f"Where S/N exceeds 8, own minus packet magnitudes scatter by {fixed(every['rms'], 3)} mag (rms about zero;"
        f" robust about the median {fixed(every['robust_rms'], 3)}, median {_signed(every['median'], 3)};"
        f" {count(every['n'], 'point')} of {count(sum(1 for r in rows[:-1] if r['n']), 'object')})."
    )


def draw_curves(events: Events, bands: Mapping[str, int]) -> tuple[list[Figure], int]:
    """Draw one chart per object, those of most alerts first; return them and how many are left out."""
    points: dict[str, list[Row]] = {}
    earlier: dict[str, list[Row]] = {}
    for row in events.light_curves.to_pylist():
        points.setdefault(str(row["object_id"]), []).append(row)
    for row in events.context.to_pylist():
        earlier.setdefault(str(row["object_id"]), []).append(row)
    order = sorted(points, key=lambda name: (-len(points[name]), name))
    agreement = {row["object_id"]: row for row in events.agreement}
    drawn = [
        draw_curve(name, points[name], earlier.get(name, []), bands, agreement.get(name)) for name in order[:MAX_CURVES]
    ]
    return [figure for figure in drawn if figure is not None], max(0, len(order) - MAX_CURVES)


def draw_curve(
    name: str, points: Sequence[Row], earlier: Sequence[Row], bands: Mapping[str, int], agreement: Row | None = None
) -> Figure | None:
    """Draw own fluxes filled with errors, the packet's hollow, its history small, its limits as arrows down."""
    points = [r for r in points if math.isfinite(number_or_nan(r["flux"]))]
    if not points:
        return None
    unit = next((str(r["flux_unit"]) for r in points if r["flux_unit"]), "")
    heights = [0.0]
    for r in points:
        error = number_or_nan(r["flux_error"])
        heights += [r["flux"] - error, r["flux"] + error, number_or_nan(r["survey_flux"])]
    heights += [number_or_nan(r["survey_flux"]) for r in earlier]
    largest = max(abs(h) for h in heights if math.isfinite(h))
    limits = [number_or_nan(r["survey_limit"]) for r in earlier]
    heights += [limit for limit in limits if limit <= HIGHEST_LIMIT * largest]
    n_shallow = sum(limit > HIGHEST_LIMIT * largest for limit in limits)
    factor, unit = (1e-3, "µJy") if unit == "nJy" and largest >= 2e4 else (1.0, unit)
    days = [r["mjd"] for r in (*points, *earlier)]
    chart = Chart(
        padded_range(days, CURVE_SHARE, 1e-3), padded_range([h * factor for h in heights]), "MJD (UTC)",
        f"difference flux ({unit})" if unit else "difference flux", f"light curve of {name}", plain_x=True,
    )  # fmt: skip
    chart.horizontal(0.0, "zero")
    for r in earlier:
        colour, _ = _style(r, bands)
        flux, error, limit = (
            number_or_nan(r[k]) * factor for k in ("survey_flux", "survey_flux_error", "survey_limit")
        )
        when = f"{r['band']}, MJD {r['mjd']:.3f}, of the packet's history"
        if math.isfinite(flux):
            if math.isfinite(error):
                chart.bar(r["mjd"], flux - error, flux + error, f"error faint {colour}")
            chart.mark(r["mjd"], flux, f"hollow {colour}", "circle", 2.2, f"{when}: {number(flux)} {unit}")
        elif limit <= HIGHEST_LIMIT * largest * factor:
            chart.mark(r["mjd"], limit, f"hollow faint {colour}", "down", 2.8, f"{when}: below {number(limit)} {unit}")
    for r in points:
        colour, shape = _style(r, bands)
        flux, error, theirs = (number_or_nan(r[k]) * factor for k in ("flux", "flux_error", "survey_flux"))
        when = f"{r['band']}, MJD {r['mjd']:.3f}"
        if math.isfinite(error):
            chart.bar(r["mjd"], flux - error, flux + error, f"error {colour}")
        chart.mark(r["mjd"], flux, f"fill {colour}", shape, 3.2, f"{when}: {number(flux)} ± {number(error)} {unit}")
        if math.isfinite(theirs):
            magnitude = fixed(r["survey_magnitude"], 2)
            tip = f"{when}, packet: {number(theirs)} {unit} ({magnitude} ± {fixed(r['survey_magnitude_error'], 2)} mag)"
            chart.mark(r["mjd"], theirs, f"hollow {colour}", shape, 5, tip)
    caption = f"{count(len(points), 'alert')}"
    if n_shallow:
        caption += f"; {count(n_shallow, 'shallow limit')} above the chart"
    if agreement is not None and agreement["n"]:
        caption += (
            f"; own minus packet {_signed(agreement['median'], 3)} mag in the median, rms {fixed(agreement['rms'], 3)}"
            f" (robust {fixed(agreement['robust_rms'], 3)}) of {count(agreement['n'], 'point')} above S/N 8"
        )
    return Figure(name[:24], chart.render(), f"{caption}.")


def _style(row: Row, bands: Mapping[str, int]) -> tuple[str, str]:
    i = bands.get(str(row["band"]), 0)
    return f"c{i % N_COLOURS}", SHAPES[i % 3]
