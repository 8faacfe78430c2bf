"""Known events from a table of positions: CSV, VOTable or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from astropy import units

from astrid.errors import DataError
from astrid.schema import KNOWN_EVENTS
from astrid.targets.tables import NAMES, Row, read_rows

SYNONYMS: dict[str, tuple[str, ...]] = {
    "time": ("time", "mjd", "jd", "date", "mjdobs", "obsmjd", "obsdate", "dateobs", "discoverymjd", "discoverydate",
             "discoverydateut", "firstmjd", "hjd", "bjd", "epoch"),
    "event_id": NAMES,
    "kind": ("kind", "type", "objtype", "class", "classification", "otype", "label"),
    "band": ("band", "filter", "passband", "filt", "bandname"),
    "flux": ("flux", "fluxnjy", "psfflux"),
    "mag": ("mag", "magnitude", "abmag", "magab", "discoverymag", "peakmag"),
}  # fmt: skip
AB_OF_NJY = 31.4


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
    rows = [_event(row) for row in read_rows(path, SYNONYMS)]
    if not rows:
        raise DataError(f"{path} holds no row; truth=none runs without known events")
    data = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in KNOWN_EVENTS}
    return pa.table(data, schema=KNOWN_EVENTS)


def _event(row: Row) -> dict[str, Any]:
    ra, dec = row.position()
    flux: float | None = None
    if "flux" in row.values:
        flux = row.number_of("flux") * _njy(row)
    elif "mag" in row.values:
        flux = 10 ** (-0.4 * (row.number_of("mag") - AB_OF_NJY))
    return {
        "event_id": row.text("event_id") or f"{row.path.stem}-{row.number}",
        "kind": row.text("kind"),
        "band": row.text("band"),
        "ra": ra,
        "dec": dec,
        "mjd": row.mjd("time") if "time" in row.values else None,
        "flux": flux,
    }


def _njy(row: Row) -> float:
    unit = row.unit("flux")
    if not unit:
        return 1.0
    try:
        return float(units.Unit(unit).to(units.nJy))
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise row.error("flux", "is no unit of flux density; give it in nJy, uJy, mJy or Jy", unit) from error
