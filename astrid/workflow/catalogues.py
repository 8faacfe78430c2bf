"""Where the rows of reference catalogues come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from astrid.detection.reference import CATALOGUES, Sources, read_sources
from astrid.errors import DataError
from astrid.workflow.keys import digest


@dataclass(frozen=True)
class Request:
    """The part of a catalogue that one tile needs.

    Attributes
    ----------
    catalogue : str
        One of `astrid.detection.reference.CATALOGUES`.
    ra, dec, radius : float
        Cone in degrees; it reaches beyond the tile by what the density needs.
    mjds : tuple of float
        Times of the candidates: asteroids are asked for at each.
    places : tuple of (float, float)
        The candidates and objects, ICRS degrees, for who asks about these only ...
    around_arcsec : float
        ... and how far around each rows are needed.
    """

    catalogue: str
    ra: float
    dec: float
    radius: float
    mjds: tuple[float, ...]
    places: tuple[tuple[float, float], ...] = ()
    around_arcsec: float = 120.0


@runtime_checkable
class CatalogueSource(Protocol):
    """Where rows of catalogues come from; picklable, and safe to ask from many workers."""

    @property
    def names(self) -> tuple[str, ...]:
        """The catalogues to ask, of `astrid.detection.reference.CATALOGUES`; none turns the step off."""

    @property
    def version(self) -> str:
        """What changes when the same request would give other rows; matches made with another are made again."""

    def rows(self, request: Request) -> Path:
        """Return a Parquet file with the rows of a catalogue, units in the metadata of its columns.

        It may hold more than asked for, and no row at all where the catalogue has nothing there.

        Raises
        ------
        DataError
            If the catalogue could not be asked; the match status then is "failed".
        """


@dataclass(frozen=True)
class NoCatalogues:
    """Asks nobody."""

    @property
    def names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def version(self) -> str:
        """Never changes."""
        return ""

    def rows(self, request: Request) -> Path:
        """Refuse."""
        raise DataError(f"no catalogue {request.catalogue} was asked for; set catalogues=local or another source")


@dataclass(frozen=True)
class LocalCatalogues:
    """Catalogues as Parquet files in a folder, named after them: ``gaia.parquet``, ``ps1.parquet``.

    Attributes
    ----------
    path : str
        The folder.
    catalogues : sequence of str
        Which to use; by default those whose file is there.
    """

    path: str
    catalogues: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "catalogues", tuple(self.catalogues))
        object.__setattr__(self, "path", str(Path(self.path).expanduser().resolve()))  # workers may be elsewhere
        unknown = [name for name in self.catalogues if name not in CATALOGUES]
        if unknown:
            raise ValueError(f"catalogues.catalogues: no catalogue {unknown[0]!r}; there are {', '.join(CATALOGUES)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Those chosen, or those there; DataError where there is none."""
        there = tuple(self.catalogues) or tuple(name for name in CATALOGUES if self._file(name).is_file())
        if not there:
            raise DataError(
                f"catalogues.path={self.path} holds none of {', '.join(f'{name}.parquet' for name in CATALOGUES)}"
            )
        return there

    @property
    def version(self) -> str:
        """Sizes and times of the files."""
        found = {name: self._file(name) for name in self.names}
        known = {name: path.stat() for name, path in found.items() if path.is_file()}
        return digest({name: (stat.st_size, stat.st_mtime_ns) for name, stat in known.items()})

    def rows(self, request: Request) -> Path:
        """Return the file of a catalogue."""
        path = self._file(request.catalogue)
        if not path.is_file():
            raise DataError(f"{path} is not a file; put the rows of {CATALOGUES[request.catalogue].title} there")
        return path

    def _file(self, name: str) -> Path:
        return Path(self.path) / f"{name}.parquet"


def read_parquet(path: Path, catalogue: str) -> Sources:
    """Read a Parquet file of catalogue rows; the units of columns are in their metadata.

    Raises
    ------
    DataError
        If it cannot be read or is not of this catalogue.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    unit_of = {field.name: unit.decode() for field in table.schema if (unit := (field.metadata or {}).get(b"unit"))}
    columns = {name: table[name].to_pylist() for name in table.column_names}
    try:
        return read_sources(CATALOGUES[catalogue], columns, unit_of)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
