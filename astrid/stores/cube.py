"""Cubes of cells: Zarr v3 in an Icechunk repository, or plain Zarr, through the same code.

Who does what
-------------
The driver makes the metadata first (`CubeStore.create`), takes a ticket per task
(`Writer.ticket`), merges the tickets that come back and commits. A task writes the
pixels of its cells through its ticket. Readers see whole, committed states only
(Icechunk) and are told which (`Reader.snapshot`).

Tickets across commits
----------------------
A ticket is a fork of a clean Icechunk session, about 0.6 kB. What it hands back is a list
of chunks that are already on disk, not a state of the repository: every commit merges
what came back into a *new* session of the newest snapshot, under the lock. So a ticket
taken before a commit may come back after it, and commits need not wait for tasks in flight.

The exception is a ticket from before the epoch axis grew. Icechunk 1.1 cannot rebase
chunks over a resized array; merged into a newer session, they silently drop chunks that
lie beyond the old axis, or are refused when fresh ones are merged too. The chunks of such
a ticket are therefore copied, as the bytes they are, into the new session.

If two tickets wrote the same cell, the one merged last stays, which is harmless as
a task does the same when run twice. A ticket that never comes back leaves chunk files
that nothing refers to; `CubeStore.collect_garbage` removes them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from astrid.errors import DataError, UsageError
from astrid.schema import Variable
from astrid.stores.cells import Cells, Numbers
from astrid.stores.layout import CubeLayout, array_of, check_version, create_group, read_layout
from astrid.stores.lock import locked
from astrid.stores.repository import BRANCH, Engine, cached, commit, engine_of, read_session, repository, storage

__all__ = ["CubeLayout", "CubeStore", "Engine", "Reader", "Ticket", "Writer", "engine_of"]

_LOCK_SECONDS = 120.0
_COORDINATES = ("tile", "epoch", "band", "tile_ra", "tile_dec")


@dataclass(frozen=True)
class CubeStore:
    """A place that holds groups of cells: the cube, its templates and its differences.

    Attributes
    ----------
    path : str
        Folder of the store, on a file system that the workers share.
    engine : "icechunk" or "zarr"
        With "zarr" every write shows at once and there is no snapshot.
    compress : bool
        Whether new arrays are compressed, without loss.
    """

    path: str
    engine: Engine = "icechunk"
    compress: bool = True

    def __post_init__(self) -> None:
        if self.engine not in ("icechunk", "zarr"):
            raise ValueError(f"engine must be 'icechunk' or 'zarr', got {self.engine!r}")
        path = str(self.path).removeprefix("file://")
        if "://" in path:
            raise ValueError(f"path must be a folder, got {self.path!r}")
        object.__setattr__(self, "path", os.path.abspath(path))

    def create(self, group: str, variables: tuple[Variable, ...], layout: CubeLayout) -> None:
        """Make a group without any pixels; if it is there, check it and lengthen its epoch axis if needed.

        Raises
        ------
        SchemaError
            If the group exists with another schema version, tiles, bands, PSF shape or unit.
        """
        found = engine_of(self.path)
        if found not in (None, self.engine):
            raise UsageError(f"{self.path} is a store of {found}, not {self.engine}; use store={found}")
        with self._locked():
            if self.engine == "zarr":
                root = zarr.open_group(LocalStore(self.path), mode="a")
                create_group(root, group, variables, layout, compress=self.compress, where=self.path)
                return
            if found is None:
                icechunk.Repository.create(storage(self.path))
            session = repository(self.path).writable_session(BRANCH)
            root = zarr.open_group(session.store, mode="a")
            create_group(root, group, variables, layout, compress=self.compress, where=self.path)
            if session.has_uncommitted_changes:
                commit(session, f"create {group}", self.path)

    def exists(self, group: str) -> bool:
        """Return whether the group is there and complete."""
        return group in self.groups()

    def groups(self) -> list[str]:
        """Return the names of the complete groups of cells, sorted."""
        if engine_of(self.path) != self.engine:
            return []
        found = zarr.open_group(self._zarr_store(self.snapshot()), mode="r").members(max_depth=None)
        return sorted(name for name, node in found if isinstance(node, zarr.Group) and node.attrs.get("complete"))

    def snapshot(self) -> str | None:
        """Return the name of the newest committed state; None for plain Zarr."""
        if self.engine == "zarr":
            return None
        self._check_there()
        return repository(self.path).lookup_branch(BRANCH)

    def layout(self, group: str = "cube", snapshot: str | None = None) -> CubeLayout:
        """Return the layout that a group was made with."""
        return read_layout(self._group(group, snapshot), self.path)

    def writer(self) -> Writer:
        """Return the driver's side of writing."""
        self._check_there()
        return Writer(self)

    def reader(self, snapshot: str | None = None) -> Reader:
        """Return a reader of one committed state, the newest unless named, to be sent to tasks."""
        return Reader(self, snapshot or self.snapshot())

    def dataset(self, group: str = "cube", snapshot: str | None = None) -> xr.Dataset:
        """Return a group as a lazy Dataset; no pixel is read.

        Parameters
        ----------
        group : str
            Such as "cube", or "differences/zogy" where only one configuration of it is there.
        snapshot : str, optional
            State to read; the newest by default. Its name is the attribute ``snapshot``.
        """
        snapshot = snapshot or self.snapshot()
        opened = self._group(group, snapshot)
        coordinates = {}
        for name in _COORDINATES:
            if name in opened:
                array = array_of(opened, name)
                coordinates[name] = ((name.split("_")[0],), np.asarray(array[:]), dict(array.attrs))
        dataset: xr.Dataset = xr.open_zarr(
            self._zarr_store(snapshot),
            group=opened.path,
            consolidated=False,
            decode_cf=False,
            chunks={},
            drop_variables=list(coordinates),
        ).assign_coords(coordinates)
        dataset = dataset[dataset.attrs["variables"]]  # in the order of the schema
        del dataset.attrs["complete"], dataset.attrs["variables"]
        shape = list(read_layout(opened, self.path).tiles[0].shape)
        dataset.attrs.update(shape=shape, snapshot=snapshot)
        return dataset

    def collect_garbage(self, *, older_than: timedelta = timedelta(days=2)) -> int:
        """Remove chunks that no snapshot refers to and return the number of bytes freed.

        ``older_than`` must exceed the age of any ticket still in flight.
        """
        if self.engine == "zarr":
            return 0
        self._check_there()
        with self._locked():
            before = datetime.now(timezone.utc) - older_than  # noqa: UP017
            return repository(self.path).garbage_collect(before).bytes_deleted

    def _locked(self) -> Any:
        busy = f"{self.path} is being committed to by another run"
        return locked(Path(f"{self.path}.lock"), busy=busy, wait_seconds=_LOCK_SECONDS)

    def _check_there(self) -> None:
        found = engine_of(self.path)
        if found is None:
            raise DataError(f"{self.path}: no cube there; check the path or run `astrid preprocess` to make it")
        if found != self.engine:
            raise UsageError(f"{self.path} is a store of {found}, not {self.engine}; use store={found}")

    def _zarr_store(self, snapshot: str | None) -> Any:
        """Return a read-only Zarr store of one state."""
        if self.engine == "zarr":
            self._check_there()
            return LocalStore(self.path, read_only=True)
        self._check_there()
        return read_session(self.path, snapshot or repository(self.path).lookup_branch(BRANCH)).store

    def _group(self, group: str, snapshot: str | None) -> zarr.Group:
        store = self._zarr_store(snapshot or self.snapshot())
        try:
            opened = zarr.open_group(store, path=group, mode="r")
        except FileNotFoundError:
            there = self.groups()
            meant = [name for name in there if name.startswith(f"{group}-")]
            if len(meant) != 1:
                raise DataError(f"{self.path}: no group {group!r}, there are {there}; name one of them") from None
            opened = zarr.open_group(store, path=meant[0], mode="r")
        check_version(opened, self.path)
        return opened


@dataclass(frozen=True)
class Written:
    """One cell that a ticket wrote, and how long the cell axes were."""

    group: str
    index: tuple[int, ...]
    names: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass
class Ticket:
    """Leave to write cells, given by the driver to one task and handed back by it."""

    store: CubeStore
    number: int
    _fork: bytes | None = field(repr=False)
    written: list[Written] = field(default_factory=list, repr=False)
    _session: icechunk.ForkSession | None = field(default=None, repr=False)
    _groups: dict[str, Cells] = field(default_factory=dict, repr=False)

    def write_cell(self, group: str, index: tuple[int, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the pixels of one cell.

        Parameters
        ----------
        group : str
            Such as "cube".
        index : tuple of int
            Position along the group's cell axes: (tile, epoch, band), or (tile, band) for templates.
        arrays : mapping
            Per-pixel variables by name, each one whole chunk of the stored dtype; the group's
            first variable must be among them.

        Raises
        ------
        SchemaError
            If a name, shape, dtype or the index does not fit the group.
        """
        if group not in self._groups:
            self._groups[group] = Cells(zarr.open_group(self._zarr_store(), path=group, mode="r+"), self.store.path)
        cells = self._groups[group]
        cells.write(index, arrays)
        self.written.append(Written(group, tuple(map(int, index)), tuple(arrays), cells.shape))

    def _zarr_store(self) -> Any:
        if self.store.engine == "zarr":
            return LocalStore(self.store.path)
        return self.session().store

    def session(self) -> icechunk.ForkSession:
        """Return the fork that the cells are written through (Icechunk only)."""
        if self._session is None:
            if self._fork is None:
                raise ValueError("a ticket of a plain Zarr store has no session")
            session: icechunk.ForkSession = pickle.loads(self._fork)
            self._session = session
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        fork = self._fork if self._session is None else pickle.dumps(self._session)
        return self.__dict__ | {"_fork": fork, "_session": None, "_groups": {}}


class Writer:
    """The driver's side of writing: hands out tickets, takes them back and commits.

    Only the process that made it uses it. Several writers of one store, in one process or
    in several, take turns through a lock file beside the store.
    """

    def __init__(self, store: CubeStore) -> None:
        self.store = store
        self._numbers_of_tickets = count()
        self._outstanding: set[int] = set()
        self._returned: list[Ticket] = []
        self._numbers: dict[str, dict[tuple[int, ...], dict[str, float | int | str]]] = {}
        self._base: str | None = None
        self._fork: bytes | None = None

    @property
    def outstanding(self) -> int:
        """How many tickets have not come back; a commit need not wait for them."""
        return len(self._outstanding)

    def ticket(self) -> Ticket:
        """Return a new ticket, based on the newest committed state."""
        newest = self.store.snapshot()
        if newest != self._base:
            self._fork = pickle.dumps(repository(self.store.path).writable_session(BRANCH).fork())
            self._base = newest
        number = next(self._numbers_of_tickets)
        self._outstanding.add(number)
        return Ticket(self.store, number, self._fork)

    def merge(self, ticket: Ticket) -> None:
        """Take back a ticket; what it wrote becomes visible with the next commit."""
        if ticket.store != self.store:
            raise ValueError(f"the ticket is of {ticket.store.path}, the writer of {self.store.path}")
        self._outstanding.discard(ticket.number)
        if self.store.engine == "icechunk" and ticket.written:
            self._returned.append(ticket)

    def forget(self, ticket: Ticket) -> None:
        """Drop a ticket whose task failed; nothing it wrote becomes visible (Icechunk)."""
        self._outstanding.discard(ticket.number)

    def set_numbers(self, group: str, index: tuple[int, ...], numbers: Numbers) -> None:
        """Keep the numbers of one cell for the next commit."""
        self._numbers.setdefault(group, {}).setdefault(tuple(map(int, index)), {}).update(numbers)

    def commit(self, message: str) -> str | None:
        """Make all that was merged and set visible in one step.

        Nothing to commit is no error. If it raises, everything is kept for another try.

        Returns
        -------
        str or None
            Name of the newest snapshot; None for plain Zarr.

        Raises
        ------
        UsageError
            If another process holds the lock, or committed without it.
        SchemaError
            If a number has an unknown name, a wrong type or a cell outside the axes.
        """
        store = self.store
        if not self._returned and not self._numbers:
            return store.snapshot()
        with store._locked():
            if store.engine == "zarr":
                self._write_numbers(LocalStore(store.path))
            else:
                session = repository(store.path).writable_session(BRANCH)
                self._take_over(session)
                self._write_numbers(session.store)
                if session.has_uncommitted_changes:
                    commit(session, message, store.path)
        self._returned, self._numbers = [], {}
        return store.snapshot()

    def _take_over(self, session: icechunk.Session) -> None:
        """Merge the tickets that came back; copy those from before the group grew."""
        names = {written.group for ticket in self._returned for written in ticket.written}
        groups = {
            name: Cells(zarr.open_group(session.store, path=name, mode="r+"), self.store.path) for name in sorted(names)
        }
        for ticket in self._returned:
            if all(cell.shape == groups[cell.group].shape for cell in ticket.written):
                session.merge(ticket.session())
        for ticket in self._returned:
            if any(cell.shape != groups[cell.group].shape for cell in ticket.written):
                for cell in ticket.written:
                    source = zarr.open_group(ticket.session().store, path=cell.group, mode="r")
                    groups[cell.group].copy(Cells(source, self.store.path), cell.index, cell.names)

    def _write_numbers(self, zarr_store: Any) -> None:
        for name, cells in self._numbers.items():
            Cells(zarr.open_group(zarr_store, path=name, mode="r+"), self.store.path).write_numbers(cells)


@dataclass(frozen=True)
class Reader:
    """Reads cells of one state of a store; opened in the worker that uses it.

    Attributes
    ----------
    store : CubeStore
        Where the cells are.
    snapshot : str or None
        The state it reads; None for plain Zarr, which has only the present one.
    """

    store: CubeStore
    snapshot: str | None

    def read_cell(self, group: str, index: tuple[int, ...], names: Sequence[str] | None = None) -> dict[str, Any]:
        """Return one cell: arrays of its per-pixel variables and its numbers.

        Parameters
        ----------
        group : str
            Such as "cube".
        index : tuple of int
            Position along the group's cell axes.
        names : sequence of str, optional
            What to read; everything that was stored for the cell by default.

        Raises
        ------
        CellSkipped
            If the cell was never observed.
        DataError
            If a per-pixel variable that was asked for was not stored.
        """
        return self._arrays(group).read(index, names)

    def has_cell(self, group: str, index: tuple[int, ...]) -> bool:
        """Return whether the cell was written, by looking for its chunk."""
        arrays = self._arrays(group)
        return arrays.has(arrays.pixels[0], arrays.check_index(index))

    def numbers(self, group: str) -> dict[str, NDArray[Any]]:
        """Return every per-cell number of a group as a read-only array over its cell axes.

        A snapshot does not change: it is read once per process.
        """
        if self.snapshot is None:
            return self._read_numbers(group)
        key = ("numbers", os.getpid(), self.store, group, self.snapshot)
        return dict(cached(key, lambda: self._read_numbers(group)))

    def _read_numbers(self, group: str) -> dict[str, NDArray[Any]]:
        arrays = self._arrays(group)
        numbers = {name: np.asarray(arrays.arrays[name][:]) for name in arrays.numbers}
        for values in numbers.values():
            values.flags.writeable = False
        return numbers

    def _arrays(self, group: str) -> Cells:
        if self.store.engine == "zarr":  # the file changes when the group grows
            metadata = Path(self.store.path, group, "zarr.json")
            version: Any = metadata.stat().st_mtime_ns if metadata.exists() else None
        else:
            version = self.snapshot
        key = ("group", os.getpid(), self.store, group, version)
        unchanging = self.store.engine == "icechunk"
        return cached(
            key, lambda: Cells(self.store._group(group, self.snapshot), self.store.path, unchanging=unchanging)
        )
