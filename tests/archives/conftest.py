"""The emulator, and settings that point at it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from astrid.archives import Archive, Fetcher
from tests.archives.emulator import SERVICES, Emulator, Sky

CONF = Path(__file__).resolve().parents[2] / "conf" / "archive" / "public.yaml"
QUICK = {"interval_s": 0.0, "timeout_s": 0.5, "deadline_s": 5.0, "attempts": 2, "backoff_s": 0.01, "breaker_s": 0.5}


def public() -> Archive:
    """The public archives, as the configuration has them."""
    values = {key: value for key, value in yaml.safe_load(CONF.read_text()).items() if not key.startswith("_")}
    return Archive(**values)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """One server for all tests of a process; each test has a case, and thus an address, of its own."""
    with Emulator(SERVICES, Sky()) as server:
        yield server


@pytest.fixture
def archive(tmp_path: Path, emulator: Emulator) -> Callable[..., Archive]:
    """Settings that point at the emulator, or at a fault of it, with short times."""

    def make(base_url: str | None = None, *, forget: bool = False, **changes: Any) -> Archive:
        services = {name: replace(service, **(QUICK | changes)) for name, service in public().services.items()}
        memory = {"metadata_days": 0.0, "no_coverage_days": 0.0} if forget else {}
        return Archive(services, cache=str(tmp_path / "cache"), base_url=base_url or emulator.url, **memory)

    return make


@pytest.fixture
def fetcher(archive: Callable[..., Archive]) -> Callable[..., Fetcher]:
    """A fetcher with such settings."""
    return lambda *args, **changes: Fetcher(archive(*args, **changes))
