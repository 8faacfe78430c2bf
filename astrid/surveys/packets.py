"""Records of alert packets: from Avro containers, also within tar archives, and from Parquet tables.

Sizes that files declare are checked against what is there before anything is allocated, and whatever
damaged bytes make a decoder raise becomes a `astrid.errors.DataError`: archives of alerts hold packets cut
short, and the rest must go on.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from astrid.errors import DataError

Record = dict[str, Any]

AVRO_MAGIC = b"Obj\x01"
_SYNC = 16
_LONGEST_HEADER = 1 << 22
_LARGEST_BLOCK = 1 << 28
_WINDOW_BYTES = 1 << 24


@dataclass(frozen=True)
class AvroPlace:
    """Where a record is: a container within a file, a block within the container, the record within the block."""

    start: int
    size: int
    block: int
    record: int


@dataclass(frozen=True)
class ParquetPlace:
    """Where a row is: its row group and its number within."""

    group: int
    row: int


Place = AvroPlace | ParquetPlace


def place_to_json(place: Place) -> list[Any]:
    """Return a place as what JSON can hold.

    Examples
    --------
    >>> place_to_json(ParquetPlace(0, 7))
    ['parquet', 0, 7]
    """
    if isinstance(place, AvroPlace):
        return ["avro", place.start, place.size, place.block, place.record]
    return ["parquet", place.group, place.row]


def place_from_json(value: Sequence[Any]) -> Place:
    """Return the place that `place_to_json` wrote."""
    kind, *numbers = value
    return AvroPlace(*numbers) if kind == "avro" else ParquetPlace(*numbers)


@dataclass(frozen=True)
class _Container:
    schema: Any
    codec: str
    sync: bytes
    first_block: int


def iterate_avro(file: IO[bytes], start: int, size: int) -> Iterator[tuple[AvroPlace, Record]]:
    """Decode the records of an Avro container one after the other.

    Parameters
    ----------
    file : binary file, seekable
    start, size : int
        Where the container is in the file, in bytes.

    Raises
    ------
    DataError
        If it is no Avro container, is cut short, or a record does not decode: after the records before it.
    """
    container = _read_container(file, start, size)
    at = container.first_block
    while at < size:
        count, data, at_next = _read_block(file, start, size, at, container)
        stream = io.BytesIO(data)
        for number in range(count):
            yield AvroPlace(start, size, at, number), _decode(stream, container.schema)
        if stream.tell() != len(data):
            raise DataError(f"the block at byte {at} holds more than its records; the file is damaged")
        at = at_next


def read_avro_record(file: IO[bytes], place: AvroPlace) -> Record:
    """Decode one record of an Avro container; DataError as `iterate_avro`."""
    container = _read_container(file, place.start, place.size)
    count, data, _ = _read_block(file, place.start, place.size, place.block, container)
    if place.record >= count:
        raise DataError(f"the block at byte {place.block} holds {count} records, not {place.record + 1}")
    stream = io.BytesIO(data)
    for _ in range(place.record):
        _decode(stream, container.schema)
    return _decode(stream, container.schema)


def _decode(stream: io.BytesIO, schema: Any) -> Record:
    try:
        record = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:
        # the decoder raises whatever it stumbles over in damaged bytes
        raise DataError(f"a record does not decode ({type(error).__name__}: {_short(error)})") from error
    if not isinstance(record, dict):
        raise DataError(f"a record is {type(record).__name__}, not a mapping of fields")
    return record


def _short(error: object) -> str:
    text = str(error)
    return text if len(text) <= 120 else text[:117] + "..."


def _read_container(file: IO[bytes], start: int, size: int) -> _Container:
    file.seek(start)
    head = file.read(min(size, _LONGEST_HEADER))
    if not head.startswith(AVRO_MAGIC):
        what = "is empty" if not head else f"is not an Avro file (it begins with {head[:8]!r})"
        raise DataError(what)
    metadata, at = _read_map(head, len(AVRO_MAGIC))
    if at + _SYNC > len(head):
        raise DataError("cut short within its header; fetch the file again")
    if "avro.schema" not in metadata:
        raise DataError("no avro.schema in its header; the file is damaged")
    codec = metadata.get("avro.codec", b"null").decode("ascii", errors="replace")
    return _Container(_parse_schema(metadata["avro.schema"]), codec, head[at : at + _SYNC], at + _SYNC)


@lru_cache(maxsize=32)
def _parse_schema(text: bytes) -> Any:
    try:
        return fastavro.parse_schema(json.loads(text))
    except Exception as error:
        raise DataError(f"its schema cannot be understood ({_short(error)})") from error


def _read_map(data: bytes, at: int) -> tuple[dict[str, bytes], int]:
    """Decode the header's mapping of names to bytes."""
    found: dict[str, bytes] = {}
    while True:
        count, at = _read_long(data, at)
        if count == 0:
            return found, at
        if count < 0:
            count = -count
            _, at = _read_long(data, at)
        for _ in range(count):
            key, at = _read_bytes(data, at)
            value, at = _read_bytes(data, at)
            found[key.decode("utf-8", errors="replace")] = value


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise DataError("cut short; fetch the file again")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise DataError("a number of more than 64 bits; the file is damaged")


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_long(data, at)
    if not 0 <= length <= len(data) - at:
        raise DataError("cut short within its header, or damaged; fetch the file again")
    return data[at : at + length], at + length


def _read_block(file: IO[bytes], start: int, size: int, at: int, container: _Container) -> tuple[int, bytes, int]:
    """Return the number of records in a block, its data decompressed, and where the next block begins."""
    file.seek(start + at)
    head = file.read(min(20, max(size - at, 0)))
    count, used = _read_long(head, 0)
    length, used = _read_long(head, used)
    left = size - at - used - _SYNC
    if count < 0 or length < 0 or length > _LARGEST_BLOCK:
        raise DataError(f"the block at byte {at} claims {count} records in {length} bytes; the file is damaged")
    file.seek(start + at + used)
    data = file.read(length) if length <= left else b""
    if len(data) < length or length > left:
        raise DataError(f"cut short: a block needs {length} bytes, {max(left, 0)} are there; fetch the file again")
    if file.read(_SYNC) != container.sync:
        raise DataError(f"the block at byte {at} does not end where it should; the file is damaged")
    data = _decompress(data, container.codec)
    if count > len(data):
        raise DataError(f"the block at byte {at} claims {count} records in {len(data)} bytes; the file is damaged")
    return count, data, at + used + length + _SYNC


def _decompress(data: bytes, codec: str) -> bytes:
    if codec == "null":
        return data
    if codec == "deflate":
        inflater = zlib.decompressobj(-15)
        try:
            result = inflater.decompress(data, _LARGEST_BLOCK)
        except zlib.error as error:
            raise DataError(f"a block does not decompress ({error}); the file is damaged") from error
        if not inflater.eof:
            raise DataError("a block does not decompress in full; the file is damaged")
        return result
    if codec == "snappy":
        length, used = _read_varint(data)
        if length > min(_LARGEST_BLOCK, 64 * len(data)) or len(data) < used + 4:
            raise DataError(f"a snappy block of {len(data)} bytes claims to hold {length}; the file is damaged")
        try:
            result = pa.Codec("snappy").decompress(data[:-4], length, asbytes=True)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"a block does not decompress ({_short(error)}); the file is damaged") from error
        if zlib.crc32(result) != int.from_bytes(data[-4:], "big"):
            raise DataError("a block fails its checksum; the file is damaged")
        return bytes(result)
    raise DataError(f"codec {codec!r} is not one of null, deflate, snappy")


def _read_varint(data: bytes) -> tuple[int, int]:
    value = 0
    for used, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * used)
        if byte < 0x80:
            return value, used + 1
    raise DataError("a snappy block without its length; the file is damaged")


def open_parquet(path: str | os.PathLike[str]) -> pq.ParquetFile:
    """Open a Parquet file; DataError where it is none."""
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16, memory_map=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: is not a readable Parquet file ({_short(error)})") from error


def iterate_parquet(path: Path, columns: Sequence[str], rows: int = 64) -> Iterator[tuple[ParquetPlace, Record]]:
    """Yield the rows of a Parquet file, a few in memory at a time; DataError where it cannot be read."""
    with open_parquet(path) as file:
        for group in range(file.num_row_groups):
            for row, record in enumerate(_rows(file, path, group, columns, rows)):
                yield ParquetPlace(group, row), record


def _rows(file: pq.ParquetFile, path: Path, group: int, columns: Sequence[str], rows: int) -> Iterator[Record]:
    try:
        for batch in file.iter_batches(rows, row_groups=[group], columns=list(columns), use_threads=False):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: row group {group} cannot be read ({_short(error)})") from error


def rows_without(path: Path, columns: Sequence[str]) -> dict[ParquetPlace, list[str]]:
    """Return the rows of a Parquet file that lack a value in one of the columns, with their names.

    Columns whose statistics promise that none is missing are not read.
    """
    found: dict[ParquetPlace, list[str]] = {}
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            chunks = (metadata.column(i) for i in range(metadata.num_columns))
            counted = {c.path_in_schema: c.statistics.null_count for c in chunks if c.statistics is not None}
            for name in columns:
                if name not in names or counted.get(name) == 0:
                    continue
                for row, record in enumerate(_rows(file, path, group, [name], 64)):
                    if record[name] is None:
                        found.setdefault(ParquetPlace(group, row), []).append(name)
    return found


def read_parquet_row(path: str, place: ParquetPlace, columns: Sequence[str]) -> Record:
    """Return one row of a Parquet file; DataError where it cannot be read.

    Rows near by are kept in memory (some 16 MB), for they are likely asked for next.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    rows = _window_rows(path, status.st_mtime_ns, place.group, tuple(columns))
    window = _window(path, status.st_mtime_ns, place.group, place.row // rows, rows, tuple(columns))
    if window is None or place.row % rows >= window.num_rows:
        raise DataError(f"{path}: no row {place.row} in row group {place.group}; the file has changed")
    row: Record = window.slice(place.row % rows, 1).to_pylist()[0]
    return row


@lru_cache(maxsize=64)
def _window_rows(path: str, changed: int, group: int, columns: tuple[str, ...]) -> int:
    """Return how many rows of a row group take some 16 MB."""
    with open_parquet(path) as file:
        metadata = file.metadata.row_group(group)
        chunks = (metadata.column(i) for i in range(metadata.num_columns))
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        return int(max(1, min(1024, _WINDOW_BYTES * metadata.num_rows // max(size, 1))))


@lru_cache(maxsize=3)
def _window(
    path: str, changed: int, group: int, number: int, rows: int, columns: tuple[str, ...]
) -> pa.RecordBatch | None:
    with open_parquet(path) as file:
        try:
            batches = file.iter_batches(rows, row_groups=[group], columns=list(columns), use_threads=False)
            for index, batch in enumerate(batches):
                if index == number:
                    return batch
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(f"{path}: row group {group} cannot be read ({_short(error)})") from error
    return None


def forget() -> None:
    """Drop the rows kept in memory."""
    _window.cache_clear()
    _window_rows.cache_clear()
