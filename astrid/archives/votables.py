"""VOTables as services send them: whole, with a status of their own, with the columns that are needed."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from astropy.io import votable
from astropy.table import Table

from astrid.archives.checks import Unfit, is_html
from astrid.archives.outcomes import Corrupt, Transient

_INFO = re.compile(rb"<(?:\w+:)?INFO\b([^>]*)>([^<]*)", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"\b(name|value)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)


@dataclass(frozen=True)
class VoTable:
    """A VOTable that parses to its end and says of no error.

    Attributes
    ----------
    columns : tuple of str
        Columns that must be there, if there is a table; a query that found nothing may bring none.
    allow_overflow : bool
        Whether an answer that the service cut at its row limit is as good.
    nothing : str
        What the service says in an error that means no more than "no rows".
    """

    columns: tuple[str, ...] = ()
    allow_overflow: bool = False
    nothing: str = ""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Parse it."""
        return (f"{len(self.read(path.read_bytes()))} rows of a VOTable that is whole",)

    def read(self, raw: bytes) -> Table:
        """Return the table; see `read_votable`."""
        return read_votable(raw, self.columns, allow_overflow=self.allow_overflow, nothing=self.nothing)


def read_votable(
    raw: bytes, columns: tuple[str, ...] = (), *, allow_overflow: bool = False, nothing: str = ""
) -> Table:
    """Return the first table of a VOTable; one without columns where there is none.

    The options are those of `VoTable`.

    Raises
    ------
    Unfit
        If it is none, ends early, reports an error or an overflow, or lacks a column.
    """
    if not raw.strip():
        raise Unfit(Corrupt, "the answer is empty")
    if is_html(raw[:1024]):
        raise Unfit(Transient, "a web page came instead of data")
    said = _said(raw)
    errors = [text for kind, text in said if kind == "error" and text]
    if nothing and any(nothing.lower() in text.lower() for text in errors) and _is_xml(raw):
        return Table()
    if any(kind == "error" for kind, _ in said):
        raise Unfit(Transient, f"the service answered with an error: {'; '.join(dict.fromkeys(errors))[:200]}")
    if any(kind == "overflow" for kind, _ in said) and not allow_overflow:
        raise Unfit(Corrupt, "the service cut the answer at its row limit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = votable.parse(io.BytesIO(raw), verify="ignore")
            tables = [one.to_table(use_names_over_ids=True) for one in found.iter_tables()]
        except Exception as error:  # expat, numpy and votable raise whatever they stumble over
            raise Unfit(Corrupt, f"the VOTable does not read ({type(error).__name__}: {error})") from error
    if not tables:
        return Table()
    missing = [name for name in columns if name not in tables[0].colnames]
    if missing:
        names = ", ".join(tables[0].colnames)[:300]
        raise Unfit(Corrupt, f"column {missing[0]!r} is not in the table; its columns: {names}")
    return tables[0]


def _is_xml(raw: bytes) -> bool:
    try:
        ElementTree.fromstring(raw)
    except ElementTree.ParseError:
        return False
    return True


def _said(raw: bytes) -> list[tuple[str, str]]:
    """Return kind ("error", "overflow") and text of what the INFO elements of an answer say of how it went."""
    found = []
    for attributes, text in _INFO.findall(raw):
        values = {name.lower(): (one or other) for name, one, other in _ATTRIBUTE.findall(attributes)}
        name, value = (values.get(key, b"").decode("utf-8", errors="replace").strip() for key in (b"name", b"value"))
        words = " ".join(text.decode("utf-8", errors="replace").split())
        if name.upper() == "QUERY_STATUS" and value.upper() in ("ERROR", "OVERFLOW"):
            found.append((value.lower(), words))
        elif name.lower() == "error":  # VizieR
            found.append(("error", value or words))
    return found
