"""What all tests share."""

import os
import socket

# Before NumPy is imported: results and timings must not depend on how many threads a library starts.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[variable] = "1"

from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("local", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """Refuse every connection that leaves this machine: no test asks a real archive."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Callable[..., object]) -> Callable[..., object]:
    def guarded(self: socket.socket, address: object) -> object:
        # Dask finds the address of this machine with a datagram socket, which sends nothing
        if self.family in (socket.AF_INET, socket.AF_INET6) and self.type & socket.SOCK_STREAM:
            host = address[0] if isinstance(address, tuple) else address
            if host not in ("127.0.0.1", "localhost", "::1"):
                raise AssertionError(f"a test connects to {host}; only this machine may be asked")
        return connect(self, address)

    return guarded


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return the path of real data by name, or skip with the reason.

    It is looked for in the folder that ASTRID_DATA names, else beside the repository.
    """
    folder = Path(os.environ.get("ASTRID_DATA") or REPOSITORY.parent / "shared" / "data" / "real")

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no real data: {name} is not in {folder}; point ASTRID_DATA at the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Client]:
    """A Dask client whose worker lives in this process."""
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as client,
    ):
        yield client
