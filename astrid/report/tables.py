"""The tables of a report as rows of text with a value to sort by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from astrid.evaluation.metrics import IGNORED_BELOW_SNR
from astrid.report.summary import metric_rows
from astrid.report.wording import (
    ABSENT,
    LOSSES,
    fixed,
    flag_names,
    interval,
    number,
    number_or_nan,
    per_cent,
    shorten,
    threshold_note,
    truth_name,
)

MAX_ROWS = 30

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is shown, what it sorts by and a smaller second line."""

    text: str
    sort: str = ""
    below: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its heading, unit and whether it holds numbers."""

    title: str
    unit: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """A table ready for the template, and how many rows it leaves out."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_left_out: int = 0


def _numeric(row: Row, key: str, write: Callable[[Any], str]) -> Cell:
    value = number_or_nan(row.get(key))
    return Cell(write(row.get(key)), f"{value:.12g}" if math.isfinite(value) else "")


def _words(value: Any, length: int = 60) -> Cell:
    text = shorten(value, length) if value is not None else ABSENT
    return Cell(text or ABSENT, text)


def _ranked(rows: Sequence[Row], key: str) -> list[Row]:
    def strength(row: Row) -> float:
        value = abs(number_or_nan(row[key]))
        return value if math.isfinite(value) else -1.0

    return sorted(rows, key=lambda row: (-strength(row), str(row.get("object_id")), str(row.get("candidate_id"))))


def tabulate_metrics(metrics: Mapping[str, Any]) -> Table:
    """Tabulate every row of the metrics."""
    columns = (
        Column("Data", is_number=False), Column("Subtraction", is_number=False),
        Column("Detector", "threshold", is_number=False),
        Column("Truth", is_number=False), Column("Precision"), Column("Recall"),
        Column("Localization", "rms of position"),
        Column("False alarms", "per image"), Column("Time", "CPU s"), Column("Recall", "S/N ≥ 8"),
        Column("50 %", "S/N"), Column("Truths", "of images"),
    )  # fmt: skip
    rows = []
    for row in metric_rows(metrics):
        rows.append(
            (
                _words(row.get("dataset")), _words(row.get("subtraction")), _detector(row),
                _words(truth_name(row)),
                _with_interval(row, "precision"), _with_interval(row, "recall"),
                _localization(row),
                _false_alarms(row),
                _numeric(row, "seconds_per_image", lambda v: number(v, 2)), _with_interval(row, "recall_snr8"),
                _numeric(row, "completeness_50_snr", lambda v: fixed(v, 1)),
                _truths(row),
            )
        )  # fmt: skip
    return _without_empty_columns(Table(columns, tuple(rows)))


def _with_interval(row: Row, key: str) -> Cell:
    cell = _numeric(row, key, per_cent)
    return Cell(cell.text, cell.sort, interval(row.get(f"{key}_ci"), 100))


def _detector(row: Row) -> Cell:
    cell = _words(row.get("detector"))
    note = threshold_note(row)
    return Cell(cell.text, cell.sort, "" if note == ABSENT else shorten(note, 200))


def _localization(row: Row) -> Cell:
    cell = _numeric(row, "localization", lambda v: per_cent(number_or_nan(v) / 100))
    rms = fixed(row.get("position_rms_px"), 2)
    return Cell(cell.text, cell.sort, "" if rms == ABSENT else f"{rms} px")


def _truths(row: Row) -> Cell:
    cell = _numeric(row, "n_true", lambda v: fixed(v, 0))
    n_images = fixed(row.get("n_images"), 0)
    return Cell(cell.text, cell.sort, "" if n_images == ABSENT else f"{n_images} images")


def _false_alarms(row: Row) -> Cell:
    cell = _numeric(row, "false_alarms_per_image", lambda v: number(v, 2))
    per_area = number(row.get("false_alarms_per_megapixel"), 2)
    near_stars = number(row.get("false_alarms_near_stars"), 2)
    below = "" if per_area == ABSENT else f"{per_area} per Mpx"
    return Cell(cell.text, cell.sort, below if near_stars == ABSENT else f"{below}, {near_stars} near stars")


def _without_empty_columns(table: Table, keep: int = 9) -> Table:
    """Drop columns past the essential ones where no row has a value."""
    wanted = [
        i for i in range(len(table.columns))
        if 0 < i < keep - 1 or any(row[i].text != ABSENT for row in table.rows)
    ]  # fmt: skip
    return Table(
        tuple(table.columns[i] for i in wanted),
        tuple(tuple(row[i] for i in wanted) for row in table.rows),
        table.n_left_out,
    )


def tabulate_candidates(candidates: pa.Table) -> Table:
    """Tabulate the most significant candidates."""
    rows = candidates.to_pylist()
    unit = next((str(r["flux_unit"]) for r in rows if r["flux_unit"]), "")
    columns = (
        Column("Candidate", is_number=False), Column("Object", is_number=False), Column("S/N"), Column("Score"),
        *_MATCH_COLUMNS, Column("Tile"), Column("Epoch"), Column("Band", is_number=False), Column("MJD", "d"),
        Column("RA", "deg"),
        Column("Dec", "deg"), Column("x", "px"), Column("y", "px"), Column("Flux", unit), Column("± Flux", unit),
        Column("FWHM", "px"), Column("Sign", is_number=False), Column("Flags", is_number=False),
    )  # fmt: skip
    shown = [
        (
            _words(r["candidate_id"], 16), _words(r["object_id"], 16),
            _numeric(r, "significance", lambda v: fixed(v, 1)),
            _numeric(r, "score", lambda v: fixed(v, 2)), *_match(r), _numeric(r, "tile", lambda v: fixed(v, 0)),
            _numeric(r, "epoch", lambda v: fixed(v, 0)), _words(r["band"], 12),
            _numeric(r, "mjd", lambda v: fixed(v, 4).replace(",", "")), _numeric(r, "ra", lambda v: fixed(v, 5)),
            _numeric(r, "dec", lambda v: fixed(v, 5)), _numeric(r, "x", lambda v: fixed(v, 1)),
            _numeric(r, "y", lambda v: fixed(v, 1)), _numeric(r, "flux", number),
            _numeric(r, "flux_error", lambda v: number(v, 2)),
            _numeric(r, "fwhm", lambda v: fixed(v, 1)), _words("−" if r["is_negative"] else "+"),
            _words(flag_names(r["flags"]), 120),
        )
        for r in _ranked(rows, "significance")[:MAX_ROWS]
    ]  # fmt: skip
    return _without_empty_columns(Table(columns, tuple(shown), max(0, len(rows) - MAX_ROWS)), 3)


def tabulate_streaks(streaks: pa.Table) -> Table:
    """Tabulate the most significant streaks."""
    rows = streaks.to_pylist()
    unit = next((str(r["flux_unit"]) for r in rows if r["flux_unit"]), "")
    columns = (
        Column("Streak", is_number=False), Column("S/N"), Column("Of", is_number=False), Column("Tile"),
        Column("Epoch"), Column("Band", is_number=False), Column("MJD", "d"), Column("From", "x, y", is_number=False),
        Column("To", "x, y", is_number=False), Column("Length", "px"), Column("Width", "px"), Column("Angle", "deg"),
        Column("Flux", f"{unit} per px" if unit else "per px"), Column("Peaks on it"),
    )  # fmt: skip
    shown = [
        (
            _words(r["streak_id"], 16), _numeric(r, "significance", lambda v: fixed(v, 1)),
            _words("template" if r["is_negative"] else "science"), _numeric(r, "tile", lambda v: fixed(v, 0)),
            _numeric(r, "epoch", lambda v: fixed(v, 0)), _words(r["band"], 12),
            _numeric(r, "mjd", lambda v: fixed(v, 4).replace(",", "")),
            _words(f"{fixed(r['x_start'], 0)}, {fixed(r['y_start'], 0)}"),
            _words(f"{fixed(r['x_end'], 0)}, {fixed(r['y_end'], 0)}"),
            _numeric(r, "length", lambda v: fixed(v, 0)), _numeric(r, "width", lambda v: fixed(v, 1)),
            _numeric(r, "angle", lambda v: fixed(v, 1)), _numeric(r, "flux_per_length", number),
            _numeric(r, "n_peaks", lambda v: fixed(v, 0)),
        )
        for r in _ranked(rows, "significance")[:MAX_ROWS]
    ]  # fmt: skip
    return _without_empty_columns(Table(columns, tuple(shown), max(0, len(rows) - MAX_ROWS)), 3)


def tabulate_losses(injections: pa.Table) -> Table:
    """Tabulate which step lost how many injections, by detector."""
    rows = [r for r in injections.to_pylist() if r["lost_in"]]
    counts = Counter((str(r["detector"]), r["lost_in"], number_or_nan(r["snr"]) >= IGNORED_BELOW_SNR) for r in rows)
    columns = (
        Column("Detector", is_number=False), Column("Lost in", is_number=False), Column("Because", is_number=False),
        Column("S/N ≥ 5"), Column("Fainter"),
    )  # fmt: skip
    shown = []
    for detector in sorted({key[0] for key in counts}):
        for step, why in LOSSES.items():
            bright, faint = counts[detector, step, True], counts[detector, step, False]
            cells = (Cell(f"{n:,}", str(n)) for n in (bright, faint))
            shown.append((_words(detector), _words(step), Cell(why, why), *cells))
    return Table(columns, tuple(shown))


def tabulate_objects(objects: pa.Table) -> Table:
    """Tabulate the most significant objects."""
    rows = objects.to_pylist()
    unit = next((str(r["flux_unit"]) for r in rows if r["flux_unit"]), "")
    columns = (
        Column("Object", is_number=False), Column("Peak S/N"), Column("Score"), *_MATCH_COLUMNS, Column("Candidates"),
        Column("Epochs"),
        Column("Bands", is_number=False), Column("Tile"), Column("RA", "deg"), Column("Dec", "deg"), Column("x", "px"),
        Column("y", "px"), Column("Position error", "px"), Column("First", "MJD"), Column("Last", "MJD"),
        Column("Peak flux", unit),
    )  # fmt: skip
    shown = [
        (
            _words(r["object_id"], 16), _numeric(r, "peak_significance", lambda v: fixed(v, 1)),
            _numeric(r, "score", lambda v: fixed(v, 2)), *_match(r), _numeric(r, "n_candidates", lambda v: fixed(v, 0)),
            _numeric(r, "n_epochs", lambda v: fixed(v, 0)), _words(r["bands"], 24),
            _numeric(r, "tile", lambda v: fixed(v, 0)), _numeric(r, "ra", lambda v: fixed(v, 5)),
            _numeric(r, "dec", lambda v: fixed(v, 5)), _numeric(r, "x", lambda v: fixed(v, 1)),
            _numeric(r, "y", lambda v: fixed(v, 1)), _numeric(r, "position_error", lambda v: fixed(v, 2)),
            _numeric(r, "first_mjd", lambda v: fixed(v, 3).replace(",", "")),
            _numeric(r, "last_mjd", lambda v: fixed(v, 3).replace(",", "")), _numeric(r, "peak_flux", number),
        )
        for r in _ranked(rows, "peak_significance")[:MAX_ROWS]
    ]  # fmt: skip
    return _without_empty_columns(Table(columns, tuple(shown), max(0, len(rows) - MAX_ROWS)), 3)


_MATCH_COLUMNS = (Column("Origin", is_number=False), Column("Nearest match", is_number=False))
_MATCH_KINDS = {"star": "star", "galaxy": "galaxy", "variable": "variable", "agn": "AGN", "asteroid": "asteroid"}


def _match(row: Row) -> tuple[Cell, Cell]:
    """Return the origin of a candidate or object, and the catalogued source that decides it or else is nearest."""
    origin = row.get("origin")
    found = [kind for kind in _MATCH_KINDS if row.get(f"{kind}_id") is not None]
    if not found:
        return _words(origin), _words(None)
    deciding = {"solar system": ("asteroid",), "star": ("variable", "star")}.get(
        str(origin), ("galaxy", "agn") if str(origin).startswith("galaxy") else ()
    )
    kind = next((one for one in deciding if one in found), "")
    kind = kind or min(found, key=lambda one: number_or_nan(row[f"{one}_separation"]))
    away, sigma = row[f"{kind}_separation"], row[f"{kind}_sigma"]
    text = f"{_MATCH_KINDS[kind]} {row[f'{kind}_id']}, {fixed(away, 1)}″"
    return _words(origin), Cell(text, text, f"{row[f'{kind}_catalogue']}, {fixed(sigma, 1)} σ")


def best_objects(objects: pa.Table, n: int) -> list[Row]:
    """Return the ``n`` objects worth a light curve: the most significant."""
    return _ranked(objects.to_pylist(), "peak_significance")[:n]
