"""What all tests share."""

import os

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
