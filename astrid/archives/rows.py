"""Rows of catalogues, kept as Parquet beside the files that were fetched."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from astrid.archives.cache import key_of
from astrid.archives.fetch import Fetcher
from astrid.archives.outcomes import NoCoverage

UNIT = b"unit"


def kept_rows(
    fetcher: Fetcher,
    service: str,
    request: Mapping[str, Any],
    ask: Callable[[], pa.Table],
    *,
    columns: Sequence[str],
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Return the Parquet file of a request's rows: from the cache, else as the service answers.

    Rows are kept for good; that there are none is believed for ``archive.no_coverage_days``, and is an empty file.

    Parameters
    ----------
    fetcher : Fetcher
        Whose cache it is.
    service : str
        As in ``conf/archive/public.yaml``.
    request : mapping
        What is asked for; the file is found again by it.
    ask : callable
        Asks the service, and raises one of the four outcomes.
    columns : sequence of str
        Columns of the file where there is no row.
    about : mapping, optional
        What the note beside the file says of it.
    """
    url = fetcher.archive.url(service)
    key = key_of(url, dict(request))
    note = fetcher.cache.find(service, key)
    if note is None:
        try:
            table = ask()
        except NoCoverage:
            table = pa.table({})
        if not len(table):
            table = pa.table({name: pa.array([], pa.float64()) for name in columns})
        part = fetcher.cache.part()
        try:
            pq.write_table(table, part)
            with open(part, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            note = {
                "service": service,
                "url": url,
                "params": dict(request),
                "about": dict(about or {}),
                "emulator": fetcher.archive.base_url is not None,
                "sha256": digest,
                "bytes": part.stat().st_size,
                "rows": len(table),
                "checks": ("the table is whole and without error",),
                "received_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            if not len(table):
                note["ttl_s"] = fetcher.archive.no_coverage_days * 86400
            note = fetcher.cache.add(service, key, part, note)
        finally:
            part.unlink(missing_ok=True)
    return fetcher.cache.path_of(note["sha256"])


def arrow_of(table: Table) -> pa.Table:
    """Return the columns of a VOTable; units go into the metadata of the fields, what is masked becomes null."""
    fields, arrays = [], []
    for name in table.colnames:
        column = table[name]
        values = np.ma.asarray(column)
        plain = values.filled(b"" if values.dtype.kind == "S" else "") if values.dtype.kind in "SU" else values
        array = pa.array([_plain(value) for value in plain.tolist()])
        unit = "" if column.unit is None else str(column.unit)
        fields.append(pa.field(name, array.type, metadata={UNIT: unit.encode()} if unit else None))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _plain(value: Any) -> Any:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
