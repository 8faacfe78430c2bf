"""One process at a time: advisory locks on a file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astrid.errors import UsageError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def locked(path: Path, *, busy: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` for the length of a ``with`` block.

    The lock ends with the process, however it ends. A file system without locks
    gets a lock file in the temporary folder instead, which protects against
    processes of the same host only.

    Parameters
    ----------
    path : Path
        The lock file; made if absent and never removed.
    busy : str
        Says what is in use, for the message of the error.
    wait_seconds : float
        How long to wait for another process to let go.

    Raises
    ------
    UsageError
        If another process holds the lock; the message names it.
    """
    descriptor = acquire(path, busy=busy, wait_seconds=wait_seconds)
    try:
        yield
    finally:
        os.close(descriptor)


def acquire(path: Path, *, busy: str, wait_seconds: float = 0.0) -> int:
    """Take the lock and return its file descriptor; closing it lets go. See `locked`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + wait_seconds
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                    raise UsageError(f"{busy} ({holder}); wait for it to end or stop it") from None
                time.sleep(0.02)
            except OSError as error:
                fallback = Path(tempfile.gettempdir()) / f"astrid-{_digest(path)}.lock"
                if error.errno not in _NO_LOCKS or fallback == path:
                    raise
                os.close(descriptor)
                path, descriptor = fallback, os.open(fallback, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
