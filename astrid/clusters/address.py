"""A Dask scheduler that already runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from distributed import Client

from astrid.errors import UsageError


@dataclass(frozen=True)
class Address:
    """Connect to a running scheduler; its workers must see the same files.

    Attributes
    ----------
    scheduler : str
        For example "tcp://127.0.0.1:8786".
    timeout_seconds : float
        How long to wait for an answer.
    """

    scheduler: str = ""
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.timeout_seconds <= 0:
            raise ValueError(f"cluster.timeout_seconds must be positive, got {self.timeout_seconds}")

    @property
    def name(self) -> str:
        """The word after ``cluster=``."""
        return "address"

    @contextmanager
    def start(self) -> Iterator[Client]:
        """Yield a client of the scheduler, which goes on when the run ends."""
        if not self.scheduler:
            raise UsageError("cluster=address needs cluster.scheduler=tcp://HOST:PORT of a running Dask scheduler")
        try:
            client = Client(self.scheduler, timeout=self.timeout_seconds)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {self.scheduler} within {self.timeout_seconds:g} s; "
                "check the address, or use cluster=local"
            ) from error
        with client:
            yield client
