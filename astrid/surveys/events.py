"""Known events from a table of positions: CSV, VOTable or Parquet."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.coordinates import Angle

from astrid.errors import DataError
from astrid.schema import KNOWN_EVENTS
from astrid.surveys.times import mjd_of_number, parse_date

SYNONYMS: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "raj2000", "radeg", "raicrs", "rightascension", "meanra", "ramean", "rad", "alpha"),
    "dec": ("dec", "dej2000", "decj2000", "dedeg", "decdeg", "deicrs", "decicrs", "declination", "decl", "decmean",
            "meandec", "decd", "delta"),
    "time": ("time", "mjd", "jd", "date", "mjdobs", "obsmjd", "obsdate", "dateobs", "discoverymjd", "discoverydate",
             "discoverydateut", "firstmjd", "hjd", "bjd", "epoch"),
    "event_id": ("eventid", "id", "name", "objectid", "oid", "objid", "objname", "objectname", "iauname", "mainid",
                 "diaobjectid", "event"),
    "kind": ("kind", "type", "objtype", "class", "classification", "otype", "label"),
    "band": ("band", "filter", "passband", "filt", "bandname"),
    "flux": ("flux", "fluxnjy", "psfflux"),
    "mag": ("mag", "magnitude", "abmag", "magab", "discoverymag", "peakmag"),
}  # fmt: skip
UCDS = {"ra": "pos.eq.ra;meta.main", "dec": "pos.eq.dec;meta.main"}
AB_OF_NJY = 31.4
_Columns = tuple[list[str], dict[str, list[Any]], dict[str, str], dict[str, str]]
_MISSING = {"", "-", "--", "nan", "none", "null", "n/a", "masked"}
_SEXAGESIMAL = re.compile(r"[+-]?\s*\d+\s*[:h d]\s*\d+")


def read_events(path: str | Path) -> pa.Table:
    """Read known events from a table of positions.

    Columns are found by name, whatever its case: ``ra`` and ``dec`` (degrees, or sexagesimal with
    the right ascension in hours), and where there are any a time (MJD, JD or ISO date), a name, a kind,
    a band and a flux (nJy, or as the unit of a VOTable says) or AB magnitude; common synonyms count.

    Parameters
    ----------
    path : str or Path
        CSV (or any text with commas, tabs or semicolons), VOTable (.xml, .vot, .votable) or Parquet.

    Returns
    -------
    pa.Table
        Rows of `astrid.schema.KNOWN_EVENTS`, null where the table does not say; an event without a name gets
        that of the file and the number of its row.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or a value in it makes no sense; the message names file,
        row, column and remedy.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path} is not a file; truth= is known_events, none, or a CSV, VOTable or Parquet table")
    names, columns, unit_of, ucds = _read(path)
    found = _columns_of(path, names, ucds)
    rows: list[dict[str, Any]] = []
    for number in range(len(columns[names[0]])):
        cells = {meaning: columns[name][number] for meaning, name in found.items()}
        values = {meaning: value for meaning, value in cells.items() if not _is_missing(value)}
        rows.append(_row(_Place(path, number + 1, found, unit_of), values))
    if not rows:
        raise DataError(f"{path} holds no row; truth=none runs without known events")
    data = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in KNOWN_EVENTS}
    return pa.table(data, schema=KNOWN_EVENTS)


class _Place:
    """Where a value stands, for what is said of it."""

    def __init__(self, path: Path, row: int, columns: Mapping[str, str], unit_of: Mapping[str, str]) -> None:
        self.path, self.row, self.columns, self.unit_of = path, row, columns, unit_of

    def error(self, meaning: str, value: object, remedy: str) -> DataError:
        return DataError(f"{self.path}, row {self.row}, column {self.columns.get(meaning)}: {value!r} {remedy}")

    def unit(self, meaning: str) -> str:
        return self.unit_of.get(self.columns.get(meaning, ""), "")


def _row(place: _Place, values: Mapping[str, Any]) -> dict[str, Any]:
    for meaning in ("ra", "dec"):
        if meaning not in values:
            raise place.error(meaning, "", "is empty; every event needs a position: fill it or remove the row")
    ra, dec = _angle(place, "ra", values["ra"]), _angle(place, "dec", values["dec"])
    if not -180 <= ra <= 360:
        raise place.error("ra", values["ra"], "must lie between 0 and 360 degrees")
    if not -90 <= dec <= 90:
        raise place.error("dec", values["dec"], "must lie between -90 and 90 degrees")
    flux: float | None = None
    if "flux" in values:
        flux = _number(place, "flux", values["flux"]) * _njy(place)
    elif "mag" in values:
        flux = 10 ** (-0.4 * (_number(place, "mag", values["mag"]) - AB_OF_NJY))
    text = {name: str(values[name]).strip() if name in values else None for name in ("event_id", "kind", "band")}
    return {
        **text,
        "event_id": text["event_id"] or f"{place.path.stem}-{place.row}",
        "ra": ra % 360,
        "dec": dec,
        "mjd": _mjd(place, values["time"]) if "time" in values else None,
        "flux": flux,
    }


def _angle(place: _Place, meaning: str, value: Any) -> float:
    """Return degrees of a number in degrees (or in the column's unit) or of a sexagesimal text."""
    text = str(value).strip()
    sexagesimal = _SEXAGESIMAL.match(text)
    unit = place.unit(meaning).lower()
    in_hours = unit in ("h", "hourangle", "hour", "hours") or (sexagesimal is not None and "d" not in text)
    hours = meaning == "ra" and in_hours
    try:
        if sexagesimal:
            degrees = float(Angle(text, units.hourangle if hours else units.deg).deg)
        else:
            degrees = float(text) * (15.0 if hours else math.degrees(1) if unit == "rad" else 1.0)
    except ValueError as error:
        example = "210.91083 or 14:03:38.6" if meaning == "ra" else "54.31169 or +54:18:42"
        raise place.error(meaning, value, f"is no angle; write it like {example}") from error
    if not math.isfinite(degrees):
        raise place.error(meaning, value, "is not finite")
    return degrees


def _number(place: _Place, meaning: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise place.error(meaning, value, "is no number; leave it empty where it is unknown")
    return number


def _njy(place: _Place) -> float:
    unit = place.unit("flux")
    if not unit:
        return 1.0
    try:
        return float(units.Unit(unit).to(units.nJy))
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise place.error("flux", unit, "is no unit of flux density; give it in nJy, uJy, mJy or Jy") from error


def _mjd(place: _Place, value: Any) -> float:
    """Return the MJD of a number (MJD, JD or Unix seconds, told by size) or of a written date."""
    if isinstance(value, np.datetime64) or hasattr(value, "isoformat"):
        value = str(np.datetime64(value, "ms"))
    text = str(value).strip()
    number = mjd_of_number(text)
    if number is not None:
        return number[0]
    try:
        return parse_date(text)[0]
    except ValueError as error:
        remedy = "is no time between 1900 and 2100; write MJD 60083.73, JD 2460084.23 or 2023-05-19T17:30:00"
        raise place.error("time", value, remedy) from error


def _is_missing(value: Any) -> bool:
    if value is None or value is np.ma.masked:
        return True
    return str(value).strip().lower() in _MISSING


def _columns_of(path: Path, names: Sequence[str], ucds: Mapping[str, str]) -> dict[str, str]:
    """Find which column means what."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found: dict[str, str] = {}
    for meaning, synonyms in SYNONYMS.items():
        name = next((plain[word] for word in synonyms if word in plain), None)
        if name is None and meaning in UCDS:
            name = next((name for name, ucd in ucds.items() if ucd.lower() == UCDS[meaning]), None)
        if name is not None:
            found[meaning] = name
    for meaning in ("ra", "dec"):
        if meaning not in found:
            raise DataError(f"{path}: no column {meaning}; it has {', '.join(names)}: name one of them {meaning}")
    return found


def _read(path: Path) -> _Columns:
    """Return names, columns, units and UCDs of a table; what it is is told by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    try:
        if head.startswith(b"PAR1"):
            return _read_parquet(path)
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            return _read_votable(path)
        return _read_csv(path)
    except DataError:
        raise
    except Exception as error:  # the readers of three formats refuse damaged files in many ways
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as CSV, VOTable or Parquet: {reason}") from error


def _read_csv(path: Path) -> _Columns:
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DataError(f"{path} is empty; it must start with the names of its columns, like name,ra,dec,mjd")
    separator = max(",\t;|", key=lines[0].count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    names = rows[0]
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise DataError(
                f"{path}, row {number}: {len(row)} values for {len(names)} columns; quote values that hold a comma"
            )
    return names, {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}, {}, {}


def _read_votable(path: Path) -> _Columns:
    from astropy.io.votable import parse_single_table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # most VOTables break some rule of the standard
        table = parse_single_table(str(path))
    fields = list(table.fields)
    names = [str(field.name or field.ID) for field in fields]
    columns = {name: list(table.array[field.ID]) for name, field in zip(names, fields, strict=True)}
    unit_of = {name: str(field.unit) for name, field in zip(names, fields, strict=True) if field.unit is not None}
    ucds = {name: str(field.ucd) for name, field in zip(names, fields, strict=True) if field.ucd}
    return names, columns, unit_of, ucds


def _read_parquet(path: Path) -> _Columns:
    table = pq.ParquetFile(path).read()
    unit_of = {field.name: unit.decode() for field in table.schema if (unit := (field.metadata or {}).get(b"unit"))}
    return table.column_names, {name: table[name].to_pylist() for name in table.column_names}, unit_of, {}
