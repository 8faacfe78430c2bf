"""How many requests a service gets, and how fast, whoever sends them.

The numbers are shared through small files that every process of a machine, and of a
cluster whose file system has locks, can see. `astrid.workflow.limits` has the one that a
Dask scheduler keeps instead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from astrid.archives.outcomes import Paused
from astrid.archives.settings import Service

LONGEST_WAIT = 60.0  # seconds; a service that asks for more is not waited for ...
LONGEST_PAUSE = 3600.0  # ... but left alone, and for no longer than this
LONGEST_DOWNLOAD = 7200.0  # seconds that the largest file may take
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_POLL = 0.02  # seconds between two looks for a free slot


class Limiter(Protocol):
    """Shares concurrency, rate and bad news of each service among all who ask it."""

    def slot(self, name: str, service: Service) -> AbstractContextManager[None]:
        """Wait until a request may start, and count it as running for the length of a ``with`` block.

        Raises
        ------
        Paused
            If the service failed too often in a row.
        """

    def penalise(self, name: str, seconds: float) -> None:
        """Let nobody start a request for so many seconds."""

    def succeeded(self, name: str) -> None:
        """Note that the service answered."""

    def failed(self, name: str, service: Service) -> None:
        """Note that a request failed with all its attempts."""


@dataclass
class Gate:
    """What is remembered of a service: when the next request may start, and how often it failed in a row."""

    next_start: float = 0.0
    failures: int = 0
    closed_until: float = 0.0
    asked_until: float = 0.0

    def take(self, now: float, service: Service) -> float:
        """Book the next start and return the seconds until then."""
        start = min(max(now, self.next_start), now + LONGEST_WAIT)
        if service.interval_s > 0:
            self.next_start = start + service.interval_s
        return start - now

    def penalise(self, now: float, seconds: float) -> None:
        """Move the next start; close where that is too far away to wait for."""
        if seconds <= LONGEST_WAIT:
            self.next_start = max(self.next_start, now + seconds)
        else:
            self.asked_until = max(self.asked_until, now + min(seconds, LONGEST_PAUSE))

    def fail(self, now: float, service: Service) -> None:
        """Count a failure; close after too many. One trial is let through when the time is over."""
        self.failures += 1
        if self.failures >= service.breaker_failures:
            self.closed_until = max(self.closed_until, now + service.breaker_s)

    def succeed(self) -> None:
        """Forget the failures; a pause that the service asked for holds."""
        self.failures, self.closed_until = 0, 0.0

    def closed_for(self, now: float) -> float:
        """Return for how many seconds the service is still left alone."""
        return max(0.0, min(max(self.closed_until, self.asked_until) - now, LONGEST_PAUSE))


def longest_request(service: Service) -> float:
    """Return the seconds after which no request can still be running: its wait, and the largest file."""
    return max(service.deadline_s, LONGEST_DOWNLOAD) + LONGEST_WAIT


def paused(name: str, service: Service, failures: int, seconds: float) -> Paused:
    """Return the error of a request that is not sent."""
    why = f"{failures} requests in a row failed" if failures else "it asked to be left alone"
    return Paused(name, service.url, f"{why}; the next may start in {seconds:.0f} s", seconds)


@dataclass(frozen=True)
class FileLimiter:
    """Shares the limits among threads and processes through lock files.

    Attributes
    ----------
    folder : str
        Where the files are; one folder per set of services that are asked.
    """

    folder: str

    @contextmanager
    def slot(self, name: str, service: Service) -> Iterator[None]:
        """Wait for one of the service's slots and for the time of the next start."""
        self._check_open(name, service)
        held = self._acquire(name, service)
        try:
            self._check_open(name, service)  # it may have closed while this one waited
            with self._gate(name) as gate:
                wait = gate.take(time.time(), service)
            if wait > 0:
                time.sleep(wait)
            yield
        finally:
            os.close(held)

    def penalise(self, name: str, seconds: float) -> None:
        """Let nobody start a request for so many seconds."""
        with self._gate(name) as gate:
            gate.penalise(time.time(), seconds)

    def succeeded(self, name: str) -> None:
        """Note that the service answered."""
        gate = self._read(name)
        if gate.failures or gate.closed_until:
            with self._gate(name) as gate:
                gate.succeed()

    def failed(self, name: str, service: Service) -> None:
        """Note that a request failed with all its attempts."""
        with self._gate(name) as gate:
            gate.fail(time.time(), service)

    def _check_open(self, name: str, service: Service) -> None:
        gate = self._read(name)
        seconds = gate.closed_for(time.time())
        if seconds > 0:
            raise paused(name, service, gate.failures, seconds)

    def _acquire(self, name: str, service: Service) -> int:
        """Return the open lock file of a free slot; closing it gives the slot back, and so does a kill.

        A process that is suspended keeps its slots, and nobody can tell: after the longest time that a request may
        take, this one gives up.
        """
        end = time.monotonic() + longest_request(service)
        while time.monotonic() < end:
            for number in range(service.concurrency):
                descriptor = _lock(self._path(f"{name}-{number}.lock"), wait=False)
                if descriptor is not None:
                    return descriptor
            time.sleep(_POLL)
        reason = f"all {service.concurrency} slots are held by other processes, none of which ends; is one suspended?"
        raise Paused(name, service.url, reason, 0.0)

    def _path(self, name: str) -> Path:
        return Path(self.folder, name)

    def _read(self, name: str) -> Gate:
        try:
            return Gate(**json.loads(self._path(f"{name}.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return Gate()

    @contextmanager
    def _gate(self, name: str) -> Iterator[Gate]:
        descriptor = _lock(self._path(f"{name}.lock"), wait=True)
        try:
            gate = self._read(name)
            before = asdict(gate)
            yield gate
            if asdict(gate) == before:
                return
            path = self._path(f"{name}.json")
            temporary = path.with_name(f".{path.name}.part")  # one writer at a time: the lock is held
            temporary.write_text(json.dumps(asdict(gate)))
            os.replace(temporary, path)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Return the descriptor of a locked file; None where another holds it and this one does not wait."""
    for place in (path, Path(tempfile.gettempdir(), f"astrid-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.lock")):
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_LOCKS:
                raise  # a file system without locks: the temporary folder, for the processes of this machine
    raise OSError(errno.ENOLCK, "neither the cache nor the temporary folder has a file system with locks", str(path))
