"""No Dask: every task runs in this process, one after the other, for debugging."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Inline:
    """Work in this process, where a debugger can stop and a traceback is whole."""

    @property
    def name(self) -> str:
        """The word after ``cluster=``."""
        return "inline"

    @contextmanager
    def start(self) -> Iterator[None]:
        """Yield None: there is no client."""
        yield None
