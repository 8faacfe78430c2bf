"""Folders of cubes on disk: which engine, the open Icechunk repository and its states."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import icechunk

from astrid.errors import DataError, UsageError

Engine = Literal["icechunk", "zarr"]
Made = TypeVar("Made")

BRANCH = "main"
icechunk.set_logs_filter("error")  # it warns that commits on a local disk need the lock we hold


def engine_of(path: str | Path) -> Engine | None:
    """Return which kind of store a folder holds, None if it holds none."""
    folder = Path(path)
    if (folder / "zarr.json").is_file():
        return "zarr"
    if (folder / "refs").is_dir() and (folder / "snapshots").is_dir():
        return "icechunk"
    return None


def storage(path: str) -> icechunk.Storage:
    """Return where Icechunk keeps a repository."""
    return icechunk.local_filesystem_storage(path)


def repository(path: str) -> icechunk.Repository:
    """Return the open repository of a folder, one per process."""
    return cached(("repository", os.getpid(), path), lambda: icechunk.Repository.open(storage(path)))


def read_session(path: str, snapshot: str) -> icechunk.Session:
    """Return a read-only session of one state; DataError if there is no such snapshot."""

    def open_it() -> icechunk.Session:
        try:
            return repository(path).readonly_session(snapshot_id=snapshot)
        except (icechunk.IcechunkError, ValueError) as error:
            reason = _first_line(error)
            raise DataError(f"{path}: cannot open snapshot {snapshot}: {reason}; check its name") from error

    return cached(("session", os.getpid(), path, snapshot), open_it)


def commit(session: icechunk.Session, message: str, path: str) -> None:
    """Commit a session; UsageError if someone else did since it was opened.

    An open repository keeps the index of every state that it saw, 350 bytes for each chunk: it is opened again.
    """
    try:
        session.commit(message)
        with _CACHE_LOCK:
            _CACHE.pop(("repository", os.getpid(), path), None)
    except icechunk.ConflictError as error:
        raise UsageError(
            f"{path}: another process committed without AstrID's lock ({_first_line(error)}); "
            "let only AstrID write there and run the command again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


_CACHE: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_CACHE_LOCK = threading.Lock()
_CACHE_SIZE = 32


def cached(key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
    """Return what was made for the key in this process, dropping what was used longest ago."""
    with _CACHE_LOCK:
        if key in _CACHE:
            _CACHE.move_to_end(key)
            known: Made = _CACHE[key]
            return known
    value = make()
    with _CACHE_LOCK:
        _CACHE[key] = value
        while len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return value
