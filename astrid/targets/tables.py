"""Tables of sky positions: CSV, VOTable or Parquet, columns found by their usual names."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy import units
from astropy.coordinates import Angle

from astrid.errors import DataError
from astrid.targets.dates import mjd_of_number, parse_date

POSITION: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "raj2000", "radeg", "raicrs", "rightascension", "meanra", "ramean", "rad", "alpha"),
    "dec": ("dec", "dej2000", "decj2000", "dedeg", "decdeg", "deicrs", "decicrs", "declination", "decl", "decmean",
            "meandec", "decd", "delta"),
}  # fmt: skip
NAMES = ("eventid", "id", "name", "objectid", "oid", "objid", "objname", "objectname", "iauname", "mainid",
         "diaobjectid", "event", "target", "field")  # fmt: skip
UCDS = {"ra": "pos.eq.ra;meta.main", "dec": "pos.eq.dec;meta.main"}
SEXAGESIMAL = re.compile(r"[+-]?\s*\d+\s*[:h d]\s*\d+")
_Columns = tuple[list[str], dict[str, list[Any]], dict[str, str], dict[str, str]]
_MISSING = {"", "-", "--", "nan", "none", "null", "n/a", "masked"}


@dataclass(frozen=True)
class Row:
    """One row of a table, and where it stands, for what is said of it.

    Attributes
    ----------
    path : Path
        The table.
    number : int
        From one.
    values : dict
        ``meaning -> value`` of what is there.
    columns : dict
        ``meaning -> name`` of the column in the file.
    units : dict
        ``name -> unit`` where the file says it.
    """

    path: Path
    number: int
    values: Mapping[str, Any]
    columns: Mapping[str, str]
    units: Mapping[str, str]

    def error(self, meaning: str, remedy: str, value: object = None) -> DataError:
        """Return the error that names file, row, column and value."""
        value = self.values.get(meaning, "") if value is None else value
        return DataError(f"{self.path}, row {self.number}, column {self.columns.get(meaning)}: {value!r} {remedy}")

    def unit(self, meaning: str) -> str:
        """Return the unit of a column, empty where the file says none."""
        return self.units.get(self.columns.get(meaning, ""), "")

    def text(self, meaning: str) -> str | None:
        """Return a text, None where there is none."""
        return str(self.values[meaning]).strip() if meaning in self.values else None

    def number_of(self, meaning: str) -> float:
        """Return a finite number; DataError where it is none."""
        try:
            number = float(self.values[meaning])
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error(meaning, "is no number; leave it empty where it is unknown")
        return number

    def mjd(self, meaning: str) -> float:
        """Return the MJD of a number (MJD, JD or Unix seconds, told by size) or of a written date."""
        try:
            return mjd_of(self.values[meaning])
        except ValueError as error:
            remedy = "is no time between 1900 and 2100; write MJD 60083.73, JD 2460084.23 or 2023-05-19T17:30:00"
            raise self.error(meaning, remedy) from error

    def position(self) -> tuple[float, float]:
        """Return (ra, dec) in ICRS degrees; DataError where there is none."""
        for meaning in ("ra", "dec"):
            if meaning not in self.values:
                raise self.error(meaning, "is empty; every row needs a position: fill it or remove the row")
        ra, dec = (self._angle(meaning) for meaning in ("ra", "dec"))
        if not -180 <= ra <= 360:
            raise self.error("ra", "must lie between 0 and 360 degrees")
        if not -90 <= dec <= 90:
            raise self.error("dec", "must lie between -90 and 90 degrees")
        return ra % 360, dec

    def _angle(self, meaning: str) -> float:
        try:
            return angle_of(self.values[meaning], is_ra=meaning == "ra", unit=self.unit(meaning))
        except ValueError as error:
            example = "210.91083 or 14:03:38.6" if meaning == "ra" else "54.31169 or +54:18:42"
            raise self.error(meaning, f"is no angle; write it like {example}") from error


def read_rows(path: Path, synonyms: Mapping[str, Sequence[str]]) -> list[Row]:
    """Read a table of positions.

    Parameters
    ----------
    path : Path
        CSV (or any text with commas, tabs or semicolons), VOTable or Parquet; what it is is told by its first bytes.
    synonyms : mapping
        ``meaning -> names`` of columns besides those of `POSITION`, in lower case without punctuation; the first
        that the file has counts.

    Returns
    -------
    list of Row
        Without the values that are missing; may be empty.

    Raises
    ------
    DataError
        If the file cannot be read or lacks a position.
    """
    names, columns, unit_of, ucds = _read(path)
    found = _columns_of(path, names, ucds, {**POSITION, **synonyms})
    rows: list[Row] = []
    for number in range(len(columns[names[0]])):
        cells = {meaning: columns[name][number] for meaning, name in found.items()}
        values = {meaning: value for meaning, value in cells.items() if not _is_missing(value)}
        rows.append(Row(path, number + 1, values, found, unit_of))
    return rows


def angle_of(value: object, *, is_ra: bool, unit: str = "") -> float:
    """Return degrees of a number in degrees (or in ``unit``) or of a sexagesimal text.

    Raises
    ------
    ValueError
        If it is no angle, or not finite.

    Examples
    --------
    >>> angle_of("-00:30:00", is_ra=False), angle_of("10.5", is_ra=True)
    (-0.5, 10.5)
    """
    text = str(value).strip()
    unit = unit.lower()
    sexagesimal = SEXAGESIMAL.match(text)
    in_hours = unit in ("h", "hourangle", "hour", "hours") or (sexagesimal is not None and "d" not in text)
    hours = is_ra and in_hours
    if sexagesimal:
        degrees = float(Angle(text, units.hourangle if hours else units.deg).deg)
    else:
        degrees = float(text) * (15.0 if hours else math.degrees(1) if unit == "rad" else 1.0)
    if not math.isfinite(degrees):
        raise ValueError(f"{text!r} is not finite")
    return degrees


def mjd_of(value: object) -> float:
    """Return the MJD of a number (MJD, JD or Unix seconds, told by size), a time object or a written date.

    Raises
    ------
    ValueError
        If it is no time between 1900 and 2100.
    """
    if isinstance(value, np.datetime64) or hasattr(value, "isoformat"):
        value = str(np.datetime64(value, "ms"))  # type: ignore[call-overload]
    text = str(value).strip()
    number = mjd_of_number(text)
    return number[0] if number is not None else parse_date(text)[0]


def _is_missing(value: Any) -> bool:
    if value is None or value is np.ma.masked:
        return True
    return str(value).strip().lower() in _MISSING


def _columns_of(
    path: Path, names: Sequence[str], ucds: Mapping[str, str], synonyms: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Find which column means what."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found: dict[str, str] = {}
    for meaning, known in synonyms.items():
        name = next((plain[word] for word in known if word in plain), None)
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
