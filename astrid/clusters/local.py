"""Workers on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dask
import psutil
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from astrid.clusters.base import KEEP_ARRAYS, PINNED_THREADS
from astrid.errors import UsageError


@dataclass(frozen=True)
class Local:
    """One single-threaded process per core.

    Attributes
    ----------
    n_workers : int, optional
        Processes; by default one per core that has ``memory_per_worker`` to itself.
    memory_per_worker : str
        What a worker should have, for example "2GB"; decides the default number.
    memory_limit : str, optional
        Where a worker is restarted; by default an equal share of 90 % of the
        machine's memory.
    dashboard : str
        Address of the dashboard; "127.0.0.1:0" takes any free port, "" too.
    """

    n_workers: int | None = None
    memory_per_worker: str = "2GB"
    memory_limit: str | None = None
    dashboard: str = "127.0.0.1:8787"

    def __post_init__(self) -> None:
        if self.n_workers is not None and self.n_workers < 1:
            raise ValueError(f"cluster.n_workers must be at least 1, got {self.n_workers}")
        for name in ("memory_per_worker", "memory_limit"):
            text = getattr(self, name)
            try:
                parse_bytes(text or "1GB")
            except ValueError as error:
                raise ValueError(f"cluster.{name}={text!r} is not a size like 2GB") from error

    @property
    def name(self) -> str:
        """The word after ``cluster=``."""
        return "local"

    def size(self) -> tuple[int, int]:
        """Return the number of workers and the memory limit of each, in bytes."""
        usable = 0.9 * min(MEMORY_LIMIT, psutil.virtual_memory().total)
        affordable = max(1, int(usable // parse_bytes(self.memory_per_worker)))
        n_workers = self.n_workers or min(CPU_COUNT, affordable)
        limit = parse_bytes(self.memory_limit) if self.memory_limit else int(usable / n_workers)
        return n_workers, limit

    @contextmanager
    def start(self) -> Iterator[Client]:
        """Start the workers, yield a client, stop them."""
        n_workers, limit = self.size()
        logging.getLogger("distributed").setLevel(logging.WARNING)
        logging.getLogger("distributed.http.proxy").setLevel(logging.ERROR)
        settings = {
            "distributed.nanny.pre-spawn-environ": {**PINNED_THREADS, **KEEP_ARRAYS},
            "distributed.scheduler.allowed-failures": 3,
            "distributed.logging.distributed": "warning",
        }
        with dask.config.set(settings):
            try:
                cluster = LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    memory_limit=limit,
                    host="127.0.0.1",
                    dashboard_address=self.dashboard or "127.0.0.1:0",
                    silence_logs=logging.ERROR,
                )
            except (OSError, RuntimeError) as error:
                raise UsageError(
                    f"cannot start {n_workers} local workers: {error}; try cluster.n_workers=1 or cluster=inline"
                ) from error
            with cluster, Client(cluster) as client:
                yield client
