"""What was fetched, kept by content, with a note beside it that says where it came from.

    objects/ab/cd/<sha256>     the bytes as they came, never changed
    index/<service>/ab/<key>.json   the note ("sidecar") of a request; where it exists, the file is complete
    partial/                   what is being fetched
    limits/                    see `astrid.archives.limiter`

Every file appears in one step, so that any number of processes can share the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STALE_SECONDS = 86400.0  # from then on, what nothing refers to is what a kill left behind


@dataclass(frozen=True)
class Sizes:
    """What a cache holds."""

    files: int
    size_bytes: int
    by_service: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    no_coverage: int = 0
    partial_bytes: int = 0


@dataclass(frozen=True)
class Cache:
    """A folder of what was fetched. Picklable."""

    folder: Path

    def path_of(self, sha256: str) -> Path:
        """Return where content is kept."""
        return self.folder / "objects" / sha256[:2] / sha256[2:4] / sha256

    def part(self, name: str | None = None) -> Path:
        """Return a path to write to before a file is complete: one's own, unless it has a name."""
        folder = self.folder / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name or uuid.uuid4().hex}.part"

    def find(self, service: str, key: str, max_age_s: float | None = None) -> dict[str, Any] | None:
        """Return the note of a request; None where it was never answered, too long ago, or its file is gone."""
        note = read_note(self._note(service, key))
        if note is None:
            return None
        age = time.time() - float(note["received"])
        allowed = note.get("ttl_s") if max_age_s is None else max_age_s
        if allowed is not None and not 0 <= age <= allowed:
            return None
        if note["outcome"] != "ok":
            return note
        try:
            complete = self.path_of(note["sha256"]).stat().st_size == note["bytes"]
        except FileNotFoundError:
            complete = False
        return note if complete else None

    def add(self, service: str, key: str, part: Path, note: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a file that passed its checks; ``note`` holds its "sha256" and "bytes". The part is moved."""
        place = self.path_of(note["sha256"])
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, place)
        whole = {"outcome": "ok", "received": time.time(), **note}
        self._write(self._note(service, key), whole)
        return whole

    def add_no_coverage(self, service: str, key: str, note: Mapping[str, Any], ttl_s: float) -> None:
        """Note that a service has nothing there."""
        whole = {"outcome": "no coverage", "received": time.time(), "ttl_s": ttl_s, **note}
        self._write(self._note(service, key), whole)

    def sizes(self) -> Sizes:
        """Count what is there."""
        objects = {path.name: path.stat().st_size for path in self._objects()}
        files, volume, nothing = Counter[str](), Counter[str](), 0
        for path, note in self._notes():
            service = path.parents[1].name
            if note["outcome"] == "ok":
                files[service] += 1
                volume[service] += int(note["bytes"])
            else:
                nothing += 1
        by_service = {name: (files[name], volume[name]) for name in sorted(files)}
        partial = sum(path.stat().st_size for path in (self.folder / "partial").glob("*.part"))
        return Sizes(len(objects), sum(objects.values()), by_service, nothing, partial)

    def prune(self, *, older_than_days: float | None = None, service: str | None = None) -> tuple[int, int]:
        """Delete notes by age and service, then files without a note and what is left of killed downloads.

        Returns
        -------
        files, bytes : int
            Files deleted from ``objects`` and ``partial``.
        """
        now = time.time()
        chosen = older_than_days is not None or service is not None
        used: set[str] = set()
        forgotten: set[str] = set()
        for path, note in self._notes():
            age = now - float(note["received"])
            old = older_than_days is None or age >= older_than_days * 86400
            expired = note["outcome"] != "ok" and age > float(note["ttl_s"])
            goes = (chosen and old and service in (None, path.parents[1].name)) or expired
            if goes:
                path.unlink(missing_ok=True)
            if note["outcome"] == "ok":
                (forgotten if goes else used).add(note["sha256"])
        count = size = 0
        for path in [*self._objects(), *(self.folder / "partial").glob("*")]:
            try:
                status = path.stat()
                # the note of a new file may be about to be written
                if path.name in used or (path.name not in forgotten and now - status.st_mtime < STALE_SECONDS):
                    continue
                path.unlink()
            except FileNotFoundError:
                continue
            count, size = count + 1, size + status.st_size
        return count, size

    def _note(self, service: str, key: str) -> Path:
        return self.folder / "index" / service / key[:2] / f"{key}.json"

    def _notes(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted((self.folder / "index").glob("*/*/*.json")):
            note = read_note(path)
            if note is not None:
                yield path, note

    def _objects(self) -> Iterator[Path]:
        return (self.folder / "objects").glob("??/??/*")

    def _write(self, path: Path, note: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            # not forced to the disk: a note that a power cut damages counts for nothing, its file is fetched again
            temporary.write_text(json.dumps(note, indent=1, sort_keys=True, default=str), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def key_of(*parts: object) -> str:
    """Return what a request is found by."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def read_note(path: Path) -> dict[str, Any] | None:
    """Read a note; None where there is none, or it is damaged (then the file is fetched again)."""
    try:
        note = json.loads(path.read_bytes())
        return note if {"outcome", "received"} <= note.keys() else None
    except (FileNotFoundError, ValueError, AttributeError):
        return None
