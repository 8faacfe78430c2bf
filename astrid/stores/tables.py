"""Parquet tables and JSON files, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrid.errors import DataError, SchemaError
from astrid.schema import SCHEMA_VERSION, is_optional


def table_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table; a column that a row lacks is null there.

    Raises
    ------
    SchemaError
        If a row has an unknown column or a value of the wrong type.
    """
    rows = list(rows)
    unknown = sorted({name for row in rows for name in row} - set(schema.names))
    if unknown:
        raise SchemaError(f"no column {', '.join(unknown)}; there are {', '.join(schema.names)}")
    columns = []
    for column in schema:
        values = [_plain(row.get(column.name)) for row in rows]
        try:
            columns.append(pa.array(values, column.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SchemaError(f"column {column.name} must be {column.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Return a table with the order, types, units and metadata of a schema; optional columns it lacks are null.

    Raises
    ------
    SchemaError
        If columns are missing or unknown, or a value does not fit its type.
    """
    for column in schema:
        if is_optional(column) and column.name not in table.column_names:
            table = table.append_column(column.name, pa.nulls(len(table), column.type))
    missing = [name for name in schema.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in schema.names]
    if missing or unknown or len(table.column_names) != len(schema.names):
        raise SchemaError(f"{where}: columns missing: {missing}, unknown: {unknown}; write it with this AstrID")
    columns = []
    for column in schema:
        try:
            columns.append(table.column(column.name).cast(column.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaError(f"{where}: column {column.name} must be {column.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def write_table(path: str | Path, table: pa.Table, schema: pa.Schema) -> None:
    """Write a Parquet file in one step, checked against its schema; see `conform`."""
    checked = conform(table, schema, str(path))
    with replacing(path) as temporary:
        pq.write_table(checked, temporary, compression="zstd")


def read_table(path: str | Path, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file and check it against its schema.

    Raises
    ------
    DataError
        If the file is absent or is no Parquet file.
    SchemaError
        If it has another schema version or other columns.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such table; run the step that writes it")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    found = (table.schema.metadata or {}).get(b"schema_version", b"none").decode()
    if found != str(SCHEMA_VERSION):
        raise SchemaError(
            f"{path}: schema version {found}, expected {SCHEMA_VERSION}; run the step that writes it again"
        )
    return conform(table, schema, str(path))


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file in one step; NaN and infinity become null, NumPy values plain ones."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; DataError if it is absent or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the step that writes it") from None
    except ValueError as error:
        raise DataError(f"{path}: not a readable JSON file ({error}); delete it and run again") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that takes the place of ``path`` at the end, unless the block raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files that only their owner can read
        sync_to_disk(temporary)
        temporary.replace(path)
        sync_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Wait until a file or folder is safely on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, pa.Scalar)):
        return _plain(value.item() if isinstance(value, np.generic) else value.as_py())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
