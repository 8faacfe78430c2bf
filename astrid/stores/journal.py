"""The journal of a run: what each step did on each key, and the rows it found, safe against crashes.

A batch is a folder that appears in one step, with a ledger and the tables of the keys
in it. What counts for a key is the batch that names it last: done again, its former
rows are forgotten, so that a repeated key never doubles a candidate. Writing is for one
process at a time; reading is for everyone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from astrid.errors import DataError
from astrid.schema import LEDGER
from astrid.stores.lock import acquire
from astrid.stores.tables import conform, sync_to_disk, table_of

_BATCH = re.compile(r"batch-(\d{6,})")
_KEY = (pa.field("_step", pa.string()), pa.field("_key", pa.string()))
_FINISHED = ("done", "skipped")


def keyed(table: pa.Table, step: str, key: str) -> pa.Table:
    """Return a table that says of its rows which step and key they come from."""
    for name, value in zip(_KEY, (step, key), strict=True):
        table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table


class Journal:
    """Batches of ledger rows and tables in a folder.

    The first `append` takes the lock of the folder, `close` or the end of a ``with``
    block lets go of it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock: weakref.finalize[[int], Journal] | None = None

    def __enter__(self) -> Journal:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lock(self) -> None:
        """Become the one that writes; UsageError if another run does."""
        if self._lock is None:
            descriptor = acquire(self.folder / "lock", busy=f"another astrid run is using {self.folder}")
            self._lock = weakref.finalize(self, os.close, descriptor)
            for leftover in self.folder.glob(".writing-*"):
                shutil.rmtree(leftover)
            self._delete_replaced()

    def close(self) -> None:
        """Let another run write."""
        if self._lock is not None:
            self._lock()
            self._lock = None

    def append(self, ledger_rows: Sequence[Mapping[str, Any]], tables: Mapping[str, Sequence[pa.Table]]) -> None:
        """Add one batch, whole or not at all.

        Parameters
        ----------
        ledger_rows : sequence of dict
            Columns of `astrid.schema.LEDGER`, at most one row per step and key.
        tables : mapping
            Tables by name, each made by `keyed` with a step and key of ``ledger_rows``.

        Raises
        ------
        UsageError
            If another run writes to the folder.
        ValueError
            If a step and key comes twice, or rows belong to none of ``ledger_rows``.
        """
        if not ledger_rows:
            if any(len(table) for parts in tables.values() for table in parts):
                raise ValueError("rows without a ledger row of their key")
            return
        ledger = table_of(ledger_rows, LEDGER)
        keys = list(zip(ledger["step"].to_pylist(), ledger["key"].to_pylist(), strict=True))
        if len(set(keys)) < len(keys) or any(None in key for key in keys):
            raise ValueError("ledger rows need a step and a key each, and no two of a batch may be of the same")
        joined = {}
        for name, parts in tables.items():
            for part in parts:
                if not {"_step", "_key"} <= set(part.column_names):
                    raise ValueError(f"table {name} does not say its step and key; make it with keyed()")
                strays = set(_keys_of(part)) - set(keys)
                if strays:
                    raise ValueError(f"table {name} has rows of {sorted(strays)[:3]}, which are not in the batch")
            if parts:
                joined[name] = pa.concat_tables(parts, promote_options="permissive")
        self._write(ledger, joined)

    def done(self, step: str, statuses: Collection[str] = _FINISHED) -> set[str]:
        """Return the keys whose latest row of the step is done or skipped."""
        return {row["key"] for row in self.ledger().to_pylist() if row["step"] == step and row["status"] in statuses}

    def ledger(self) -> pa.Table:
        """Return the latest ledger row of every step and key, in the order in which they came."""
        return conform(self._latest()[0], LEDGER, str(self.folder))

    def table(self, name: str, schema: pa.Schema) -> pa.Table:
        """Return the rows of a table, those of each key from the batch that names it last.

        Raises
        ------
        SchemaError
            If a batch holds other columns than ``schema``.
        """
        rows = self._rows(name, self._latest()[1])
        if rows is None:
            return schema.empty_table()
        return conform(rows.drop_columns(["_step", "_key"]), schema, f"{self.folder}: table {name}")

    def compact(self) -> None:
        """Join all batches into one, forgetting what no longer counts."""
        self.lock()
        batches = self._batches()
        if len(batches) < 2:
            return
        ledger, latest = self._latest()
        names = sorted({path.stem for batch in batches.values() for path in batch.glob("*.parquet")} - {"ledger"})
        found = {name: self._rows(name, latest) for name in names}
        tables = {name: rows for name, rows in found.items() if rows is not None}
        self._write(ledger, tables, replaces_up_to=max(batches))
        self._delete_replaced()

    def _write(self, ledger: pa.Table, tables: Mapping[str, pa.Table], replaces_up_to: int | None = None) -> None:
        self.lock()
        number = max(self._numbers(), default=-1) + 1
        temporary = self.folder / f".writing-{number:06d}"
        temporary.mkdir()
        for name, table in {**tables, "ledger": ledger}.items():
            pq.write_table(table, temporary / f"{name}.parquet", compression="zstd")
        if replaces_up_to is not None:
            (temporary / "replaces.json").write_text(json.dumps({"up_to": replaces_up_to}))
        for path in temporary.iterdir():
            sync_to_disk(path)
        sync_to_disk(temporary)
        temporary.rename(self.folder / f"batch-{number:06d}")
        sync_to_disk(self.folder)

    def _numbers(self) -> Iterator[int]:
        for path in self.folder.glob("batch-*"):
            match = _BATCH.fullmatch(path.name)
            if match:
                yield int(match[1])

    def _batches(self) -> dict[int, Path]:
        """Return the folders that count, oldest first."""
        paths = {number: self.folder / f"batch-{number:06d}" for number in sorted(self._numbers())}
        replaced = -1
        for path in paths.values():
            note = path / "replaces.json"
            if note.is_file():
                replaced = max(replaced, int(json.loads(note.read_text())["up_to"]))
        return {number: path for number, path in paths.items() if number > replaced}

    def _delete_replaced(self) -> None:
        for number in sorted(set(self._numbers()) - set(self._batches())):
            shutil.rmtree(self.folder / f"batch-{number:06d}")

    def _latest(self) -> tuple[pa.Table, dict[tuple[str, str], int]]:
        """Return the latest ledger rows, and which batch each step and key is in."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        latest: dict[tuple[str, str], int] = {}
        for number, path in self._batches().items():
            for row in _read(path / "ledger.parquet").to_pylist():
                key = (row["step"], row["key"])
                rows.pop(key, None)
                rows[key], latest[key] = row, number
        return pa.Table.from_pylist(list(rows.values()), schema=LEDGER), latest

    def _rows(self, name: str, latest: Mapping[tuple[str, str], int]) -> pa.Table | None:
        parts = []
        for number, path in self._batches().items():
            if (path / f"{name}.parquet").is_file():
                part = _read(path / f"{name}.parquet")
                counts = [latest[key] == number for key in _keys_of(part)]
                parts.append(part.filter(pa.array(counts, pa.bool_())))
        return pa.concat_tables(parts, promote_options="permissive") if parts else None


def _keys_of(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["_step"].to_pylist(), table["_key"].to_pylist(), strict=True))


def _read(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: damaged ({error}); delete {path.parent} and run again") from error
