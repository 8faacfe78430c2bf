"""Files by request: from the cache, else from the archive, checked and kept."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from astrid.archives.cache import Cache, key_of
from astrid.archives.checks import Check, Content
from astrid.archives.limiter import FileLimiter, Limiter
from astrid.archives.outcomes import ArchiveError, Corrupt, NoCoverage, Permanent, Transient
from astrid.archives.settings import Archive
from astrid.archives.transport import Answer, Transport

WORST_FIRST = (Transient, Corrupt, Permanent, NoCoverage)  # what may answer later is no proof that there is nothing
_FETCHERS: dict[str, Fetcher] = {}


class Way(Protocol):
    """Gets a file by more than one request."""

    def __call__(self, fetcher: Fetcher, download: Download, part: Path) -> Answer:
        """Write the file to ``part``; raises the outcomes of `astrid.archives.outcomes`."""


@dataclass(frozen=True)
class Download:
    """One request that brings one file.

    Attributes
    ----------
    service, path : str
        Service, and what follows its address.
    params : tuple of (str, str)
        Query of the address.
    data : str, tuple of (str, str) or None
        Body of a POST: text, or the fields of a form.
    check : Check
        What must be true of the file before it is kept.
    size : int or None
        Bytes, as far as known before.
    exact : bool
        Whether ``size`` is what the archive says, and no estimate.
    nothing : tuple of int
        Status codes by which the service says that it has nothing there.
    whole : bool
        Whether this is a file that lies at the archive, and no answer made for the request: it can be resumed.
    is_search : bool
        Whether the answer changes with time: it is used again for ``archive.metadata_days`` only.
    optional : bool
        Whether the exposure is of use without it.
    html : bool
        Whether the answer is a web page; the check must then tell it from others.
    way : callable, optional
        Gets the file where that takes more than one request.
    otherwise : tuple of Download
        Other services to ask, in order, where this one does not bring the file, whatever the reason.
    about : mapping
        What the note beside the file says of it: survey, band, mjd, acknowledgement...
    """

    service: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    data: str | tuple[tuple[str, str], ...] | None = None
    check: Check = field(default_factory=Content)
    size: int | None = None
    exact: bool = False
    nothing: tuple[int, ...] = ()
    whole: bool = False
    is_search: bool = False
    optional: bool = False
    html: bool = False
    way: Way | None = None
    otherwise: tuple[Download, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Fetched:
    """A file that is there.

    Attributes
    ----------
    path : Path
        In the cache.
    note : mapping
        What is known of it: url, sha256, bytes, received, checks...
    is_new : bool
        Whether it was fetched just now.
    """

    path: Path
    note: Mapping[str, Any]
    is_new: bool


class Fetcher:
    """Fetches files, each once. Picklable; workers build their own connections.

    Parameters
    ----------
    archive : Archive
        Addresses, limits and the folder of the cache.
    limiter : Limiter, optional
        Shares the limits with all who ask; by default through files beside the cache.
    """

    def __init__(self, archive: Archive, limiter: Limiter | None = None) -> None:
        self.archive = archive
        self.limiter = limiter or default_limiter(archive)
        self.cache = Cache(archive.folder)
        self.transport = Transport(archive, self.limiter)

    def __reduce__(self) -> tuple[Any, tuple[Archive, Limiter]]:
        return shared_fetcher, (self.archive, self.limiter)

    def key(self, download: Download) -> str:
        """Return what a request is found by in the cache; answers of another server are other files."""
        return key_of(self.archive.url(download.service, download.path), download.params, download.data)

    def cached(self, download: Download) -> dict[str, Any] | None:
        """Return the note of a request that needs no fetching, else None; any of those that may answer it will do."""
        notes = [self._cached(one) for one in (download, *download.otherwise)]
        return next((note for note in notes if note and note["outcome"] == "ok"), None if None in notes else notes[0])

    def _cached(self, download: Download) -> dict[str, Any] | None:
        age = self.archive.metadata_days * 86400 if download.is_search else None
        return self.cache.find(download.service, self.key(download), age)

    def fetch(self, download: Download) -> Fetched:
        """Return the file of a request, from the cache where it is there.

        Where the service does not bring it, the requests of ``otherwise`` are tried in order; the note says which
        service answered. A file that any of them brought before is used again.

        Raises
        ------
        Transient, Corrupt, Permanent, NoCoverage
            The outcomes of `astrid.archives.outcomes`; of several services the first of these that any of them ended
            with, naming the reason of each. "No coverage" is remembered, the others are not.
        """
        requests = (download, *download.otherwise)
        known = next((one for one in requests if (self._cached(one) or {}).get("outcome") == "ok"), None)
        if known is not None:
            return self._fetch(known)
        failures: list[ArchiveError] = []
        for one in requests:
            try:
                return self._fetch(one)
            except ArchiveError as error:
                failures.append(error)
        worst = next(error for outcome in WORST_FIRST for error in failures if isinstance(error, outcome))
        others = "; ".join(f"{error.service}: {error.reason}" for error in failures if error is not worst)
        if others:
            reason = f"{worst.reason}; also {others}"
            raise type(worst)(worst.service, worst.url, reason, worst.retry_after) from worst
        raise worst

    def _fetch(self, download: Download) -> Fetched:
        note = self._cached(download)
        if note is not None:
            if note["outcome"] != "ok":
                raise NoCoverage(download.service, note["url"], f"{note['reason']} (asked {note['received_utc']})")
            return Fetched(self.cache.path_of(note["sha256"]), note, False)
        key = self.key(download)
        base: dict[str, Any] = {
            "service": download.service,
            "params": download.params,
            "data": download.data,
            "about": dict(download.about),
            "emulator": self.archive.base_url is not None,
            "versions": dict(_versions()),
        }
        with self._part(download, key) as (part, resume):
            try:
                answer = download.way(self, download, part) if download.way else self._directly(download, part, resume)
            except NoCoverage as error:
                base |= {"url": error.url, "reason": error.reason, "received_utc": _now()}
                ttl = min(self.archive.no_coverage_days, self.archive.metadata_days if download.is_search else 1e9)
                self.cache.add_no_coverage(download.service, key, base, ttl * 86400)
                raise
            base |= {
                "url": answer.url,
                "sha256": answer.sha256,
                "bytes": answer.size,
                "checks": answer.checks,
                "headers": dict(answer.headers),
                "found": dict(answer.found),
                "received_utc": _now(),
            }
            note = self.cache.add(download.service, key, part, base)
        return Fetched(self.cache.path_of(answer.sha256), note, True)

    def _directly(self, download: Download, part: Path, resume: bool) -> Answer:
        return self.transport.fetch(
            download.service,
            download.path,
            part,
            download.check,
            params=download.params,
            data=download.data,
            nothing=download.nothing,
            resume=resume,
            html=download.html,
        )

    def read(self, download: Download) -> bytes:
        """Return the content of a request; see `fetch`."""
        return self.fetch(download).path.read_bytes()

    @contextmanager
    def _part(self, download: Download, key: str) -> Iterator[tuple[Path, bool]]:
        """Yield where to write, and whether what is there may be gone on with; nobody else writes there."""
        if not (download.whole and self.archive.service(download.service).resume):
            yield self.cache.part(), False
            return
        part = self.cache.part(key)
        descriptor = os.open(part.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another fetches it now, or there are no locks: fetch it oneself
                yield self.cache.part(), False
            else:
                yield part, True
        finally:
            os.close(descriptor)


def shared_fetcher(archive: Archive, limiter: Limiter) -> Fetcher:
    """Return this process's fetcher of some settings, so that its tasks share connections."""
    key = key_of(asdict(archive), repr(limiter))
    return _FETCHERS.setdefault(key, Fetcher(archive, limiter))


def default_limiter(archive: Archive) -> FileLimiter:
    """Return the limiter of all processes that share a cache folder and ask the same servers."""
    return FileLimiter(str(archive.folder / "limits" / key_of(archive.base_url)[:12]))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("astropy", "requests")}
