"""What the surveys of alert packets share: one alert is one exposure, its stamps are the pixels."""

from __future__ import annotations

import dataclasses
import gzip
import logging
import os
import shutil
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.schema import KNOWN_EVENTS
from astrid.surveys import packets
from astrid.surveys.base import Listing, Problem
from astrid.surveys.packets import ParquetPlace, Record
from astrid.surveys.stamps import Stamp, read_stamp

logger = logging.getLogger(__name__)

StampKind = Literal["science", "template", "difference"]

HISTORY = pa.schema(
    [
        ("object_id", pa.string()),
        ("mjd", pa.float64()),
        ("band", pa.string()),
        ("magnitude", pa.float64()),
        ("magnitude_error", pa.float64()),
        ("limiting_magnitude", pa.float64()),
        ("is_negative", pa.bool_()),
    ]
)
"""What packets say of earlier nights: detections have a magnitude, limits a limiting magnitude alone."""

_SAME_TIME = 1e-5  # days


@dataclass(frozen=True)
class PastPoint:
    """One line of `HISTORY`, without the object."""

    mjd: float
    band: str
    magnitude: float | None
    magnitude_error: float | None
    limiting_magnitude: float | None
    is_negative: bool | None


@dataclass(frozen=True)
class AlertSurvey(ABC):
    """Alert packets: Avro files, tar archives of them, Parquet tables; one, or a folder that is searched.

    Attributes
    ----------
    path : str
        A file or a folder.
    objects : sequence of str
        Names of the objects to keep; all by default.
    """

    path: str
    objects: Sequence[str] = ()

    stamps: ClassVar[bool] = True
    """One tile per object; science and template are registered and scaled already."""
    stamp_fields: ClassVar[dict[StampKind, str]]
    """Where a packet keeps its stamps."""
    required: ClassVar[tuple[str, ...]]
    """Fields without which an alert is of no use."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Fields that are used where they exist."""
    history_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is empty; give an Avro, tar or Parquet file of alerts, or a folder of them")
        if isinstance(self.objects, str):
            raise ValueError(f"objects must be a list of names, got {self.objects!r}; write [{self.objects}]")

    @abstractmethod
    def describe(self, record: Record, path: str) -> ExposureInfo:
        """Say what a packet holds; ``extra`` without its place. DataError names the field that is wrong."""

    @abstractmethod
    def past(self, record: Record) -> Iterator[PastPoint]:
        """Yield what a packet says of earlier nights."""

    @abstractmethod
    def exposure(self, info: ExposureInfo, stamp: Stamp, kind: StampKind) -> Exposure:
        """Make an exposure of a decoded stamp."""

    def kind_of(self, info: ExposureInfo) -> str | None:
        """Return what independent catalogues say an alert is; None where they say nothing."""
        basis = info.extra.get("label_basis") or ""
        return basis.removeprefix("catalogue:") if basis.startswith("catalogue:") else None

    def list_exposures(self, folder: Path) -> Listing:
        """List one exposure per alert, in order of time; packets that cannot be used are problems."""
        found: dict[str, ExposureInfo] = {}
        moments: dict[tuple[str, str, int], ExposureInfo] = {}
        problems: list[Problem] = []
        for item in self._descriptions(folder):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            if self.objects and item.extra["object_id"] not in self.objects:
                continue
            twin = found.get(item.exposure_id)
            if twin is not None:
                problems.append(Problem(item.path, f"alert {item.exposure_id} is a duplicate of one in {twin.path}"))
                continue
            moment = (item.extra["object_id"], item.band, round(item.mjd / _SAME_TIME))
            twin = moments.get(moment)
            if twin is not None:
                problems.append(
                    Problem(
                        item.path,
                        f"alert {item.exposure_id} is of the same object, band and time as {twin.exposure_id}"
                        f" in {twin.path}; the first is kept",
                    )
                )
                continue
            found[item.exposure_id] = moments[moment] = item
        if not found:
            raise DataError(self._nothing(problems))
        return Listing(tuple(sorted(found.values(), key=lambda e: (e.mjd, e.exposure_id))), tuple(problems))

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read the science stamp; DataError if it cannot be read in full or holds no finite pixel."""
        return self._read(info, "science")

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Read the template stamp, on the pixels and in the unit of the science stamp."""
        return self._read(info, "template")

    def read_difference(self, info: ExposureInfo) -> Exposure:
        """Read the survey's own difference stamp, as science minus template."""
        return self._read(info, "difference")

    def history(self, infos: Iterable[ExposureInfo]) -> pa.Table:
        """Return earlier detections and limits of the packets of ``infos`` (`HISTORY`), each once.

        Packets that cannot be read any more are left out with a warning.
        """
        merged: dict[tuple[str, str, int], PastPoint] = {}
        for info in infos:
            object_id = str(info.extra["object_id"])
            try:
                points = list(self.past(self._record(info, (self._id_field, *self.history_fields))))
            except DataError as error:
                logger.warning("no history of alert %s: %s", info.exposure_id, error)
                continue
            for point in points:
                key = (object_id, point.band, round(point.mjd / _SAME_TIME))
                known = merged.get(key)
                if known is None or (known.magnitude is None and point.magnitude is not None):
                    merged[key] = point
        rows = [
            {"object_id": key[0], **dataclasses.asdict(point)}
            for key, point in sorted(merged.items(), key=lambda item: (item[0][0], item[1].mjd, item[1].band))
        ]
        return pa.Table.from_pylist(rows, schema=HISTORY)

    def known_events(self, folder: Path) -> pa.Table | None:
        """Return the alerts that independent catalogues know, None where there is none.

        The kind is the catalogues' own: transient, variable, agn or solar-system. Scores of a survey's
        classifier are no truth and give no row.
        """
        rows = []
        for info in self.list_exposures(folder).exposures:
            kind = self.kind_of(info)
            if kind is not None:
                extra = info.extra
                rows.append(
                    {
                        "event_id": extra["object_id"], "kind": kind, "ra": extra["ra"], "dec": extra["dec"],
                        "band": info.band, "mjd": info.mjd, "flux": extra["survey_flux"],
                    }
                )  # fmt: skip
        return pa.Table.from_pylist(rows, schema=KNOWN_EVENTS) if rows else None

    def true_psf(self, info: ExposureInfo, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Return None: nobody knows the true PSF of a real image."""
        return None

    @property
    def _id_field(self) -> str:
        return self.required[0]

    @property
    def _root(self) -> Path:
        return Path(os.path.abspath(os.path.expanduser(self.path)))

    def _descriptions(self, folder: Path) -> Iterator[ExposureInfo | Problem]:
        for path in self._files():
            try:
                yield from self._describe_file(path, folder)
            except DataError as error:
                yield _problem(str(path), error)
            except OSError as error:
                yield Problem(str(path), f"cannot be read ({error.strerror or error})")

    def _files(self) -> list[Path]:
        if self._root.is_file():
            return [self._root]
        if not self._root.is_dir():
            raise DataError(f"{self._root} does not exist; survey.path must be a file of alerts or a folder of them")
        found: list[Path] = []
        for parent, subfolders, names in os.walk(self._root):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            found += [
                Path(parent, name) for name in sorted(names) if not name.startswith(".") and _is_packet_name(name)
            ]
        if not found:
            raise DataError(f"{self._root}: no alert packet in it; names must end in {', '.join(_SUFFIXES)}")
        return found

    def _nothing(self, problems: Sequence[Problem]) -> str:
        if problems:
            first = problems[0]
            return f"{self._root}: none of its {len(problems)} alert packets can be used; the first: {first.path}:" + (
                f" {first.reason}"
            )
        wanted = f" of {', '.join(list(self.objects)[:5])} (survey.objects)" if self.objects else ""
        return f"{self._root}: no alert{wanted} in it; check survey.path"

    def _describe_file(self, path: Path, folder: Path) -> Iterator[ExposureInfo | Problem]:
        with open(path, "rb") as file:
            magic = file.read(4)
            if magic == packets.AVRO_MAGIC:
                yield from self._describe_avro(file, str(path), 0, path.stat().st_size, str(path))
                return
        if magic == b"PAR1":
            yield from self._describe_parquet(path)
        elif path.name.lower().endswith((".tar.gz", ".tgz")) or magic[:2] == b"\x1f\x8b":
            unpacked, problem = _unpack(path, folder)
            yield from self._describe_tar(unpacked, path)
            if problem is not None:
                yield problem
        elif path.name.lower().endswith(".tar"):
            yield from self._describe_tar(path, path)
        else:
            what = "is empty" if not magic else f"is no alert packet: neither Avro, Parquet nor tar (begins {magic!r})"
            yield Problem(str(path), what)

    def _describe_avro(
        self, file: Any, path: str, start: int, size: int, label: str
    ) -> Iterator[ExposureInfo | Problem]:
        try:
            for place, record in packets.iterate_avro(file, start, size):
                try:
                    flat = self.flatten(record)
                    self._check(flat, need_stamps=True)
                    yield self._placed(self.describe(flat, path), packets.place_to_json(place))
                except DataError as error:
                    yield _problem(label, error)
        except DataError as error:
            yield _problem(label, error)

    def _describe_tar(self, path: Path, label: Path) -> Iterator[ExposureInfo | Problem]:
        members: list[tuple[str, int, int]] = []
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isreg() and not os.path.basename(member.name).startswith("."):
                        members.append((member.name, member.offset_data, member.size))
        except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
            yield Problem(str(label), f"the tar archive is cut short or damaged ({error}); fetch it again")
        length = path.stat().st_size
        with open(path, "rb") as file:
            for name, start, size in members:
                if not name.lower().endswith(".avro"):
                    continue
                yield from self._describe_avro(file, str(path), start, min(size, length - start), f"{label}/{name}")

    def _describe_parquet(self, path: Path) -> Iterator[ExposureInfo | Problem]:
        with packets.open_parquet(path) as file:
            present = set(file.schema_arrow.names)
        missing = [name for name in (*self.required, *self.stamp_fields.values()) if name not in present]
        if missing:
            yield Problem(str(path), f"no column {', '.join(missing)}; is it the right survey?")
            return
        columns = [name for name in (*self.required, *self.optional) if name in present]
        empty = packets.rows_without(path, tuple(self.stamp_fields.values()))
        for place, record in packets.iterate_parquet(path, columns):
            try:
                absent = empty.get(place, [])
                if absent:
                    raise DataError(f"alert {record.get(self._id_field)}: no {', '.join(absent)}")
                self._check(record, need_stamps=False)
                yield self._placed(self.describe(record, str(path)), packets.place_to_json(place))
            except DataError as error:
                yield Problem(str(path), f"row {place.row} of row group {place.group}: {error}")

    def flatten(self, record: Record) -> Record:
        """Put the fields of an Avro record on one level, stamps as bytes."""
        candidate = record.get("candidate")
        if not isinstance(candidate, dict):
            raise DataError(f"no field candidate (schema {record.get('schemavsn')}); is it the right survey?")
        flat = {**candidate, **{key: value for key, value in record.items() if key != "candidate"}}
        for field in self.stamp_fields.values():
            if isinstance(flat.get(field), dict):
                flat[field] = flat[field].get("stampData")
        return flat

    def _check(self, record: Record, *, need_stamps: bool) -> None:
        missing = [name for name in self.required if record.get(name) is None]
        if missing:
            which = f"alert {record[self._id_field]}: " if record.get(self._id_field) is not None else ""
            raise DataError(
                f"{which}no field {', '.join(missing)} (schema {record.get('schemavsn')}); is it the right survey?"
            )
        if need_stamps:
            absent = [name for name in self.stamp_fields.values() if not record.get(name)]
            if absent:
                raise DataError(f"alert {record[self._id_field]}: no {', '.join(absent)}")

    def _placed(self, info: ExposureInfo, place: list[Any]) -> ExposureInfo:
        return dataclasses.replace(info, extra={**info.extra, "place": place})

    def _record(self, info: ExposureInfo, columns: Sequence[str]) -> Record:
        """Read the packet of an exposure again."""
        place = packets.place_from_json(info.extra["place"])
        if isinstance(place, ParquetPlace):
            with packets.open_parquet(info.path) as file:
                present = set(file.schema_arrow.names)
            wanted = [name for name in columns if name in present]
            record = packets.read_parquet_row(info.path, place, wanted)
        else:
            try:
                with open(info.path, "rb") as stream:
                    record = self.flatten(packets.read_avro_record(stream, place))
            except OSError as error:
                raise DataError(f"{info.path}: cannot be read ({error.strerror or error})") from error
            except DataError as error:
                raise DataError(f"{info.path}: {error}") from error
        if str(record.get(self._id_field)) != info.exposure_id:
            raise DataError(f"{info.path}: alert {info.exposure_id} is not where it was; list the survey again")
        return record

    def _read(self, info: ExposureInfo, kind: StampKind) -> Exposure:
        field = self.stamp_fields[kind]
        data = self._record(info, (self._id_field, *self.stamp_fields.values())).get(field)
        where = f"{info.path}: {field} of alert {info.exposure_id}"
        if not isinstance(data, bytes) or not data:
            raise DataError(f"{where} is missing")
        try:
            stamp = read_stamp(data)
            if stamp.is_salvaged:
                logger.warning("%s fails its checksum; the pixels before the damage are used", where)
                info = dataclasses.replace(info, extra={**info.extra, "salvaged": True})
            exposure = self.exposure(info, stamp, kind)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        if not np.isfinite(exposure.flux).any():
            raise DataError(f"{where} holds no finite pixel")
        return exposure


_SUFFIXES = (".avro", ".parquet", ".tar", ".tar.gz", ".tgz")


def _is_packet_name(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _problem(path: str, error: DataError) -> Problem:
    return Problem(path, str(error).removeprefix(f"{path}: "))


def _unpack(path: Path, folder: Path) -> tuple[Path, Problem | None]:
    """Decompress an archive into ``folder`` once: packets within it are then read without reading those before.

    What could be decompressed of a damaged one is kept, with a problem.
    """
    stem = path.name.lower().removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    status = path.stat()
    tag = zlib.crc32(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
    target = Path(folder) / "unpacked" / f"{stem}-{tag:08x}.tar"
    damaged = target.with_suffix(".damaged")
    if target.exists():
        return target, Problem(str(path), damaged.read_text()) if damaged.exists() else None
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.part")
    reason = None
    with open(partial, "wb") as output:
        try:
            with gzip.open(path) as archive:
                shutil.copyfileobj(archive, output, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            reason = f"cannot be decompressed in full ({error}); fetch it again"
    if reason is not None:
        damaged.write_text(reason)
    os.replace(partial, target)
    return target, Problem(str(path), reason) if reason is not None else None
