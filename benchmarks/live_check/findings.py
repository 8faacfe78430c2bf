"""What a check of a live archive finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from astrid.archives import Fetcher


@dataclass(frozen=True)
class Finding:
    """One fact that was looked at, and whether it is as AstrID takes it."""

    fact: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Target:
    """Where and when to look."""

    ra: float
    dec: float
    mjd_min: float
    mjd_max: float


Check = Callable[[Fetcher, Target], Iterator[Finding]]


def attempt(fact: str, look: Callable[[], tuple[bool, str]]) -> Finding:
    """Look at a fact; whatever goes wrong is what was seen."""
    try:
        holds, seen = look()
        return Finding(fact, holds, seen)
    except Exception as error:  # the report goes on: the next fact may hold
        return Finding(fact, False, f"{type(error).__name__}: {error}")
