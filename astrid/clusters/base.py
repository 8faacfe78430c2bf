"""What every cluster does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from distributed import Client

# Kernels use one thread each, on every cluster: Dask has the parallelism, and
# results do not depend on how a library splits its sums.
PINNED_THREADS = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "BLOSC_NTHREADS",
    )
}

# Memory freed by one image serves the next. Given back to the system each time
# (Dask's default), every array costs page faults: a third of the CPU time.
KEEP_ARRAYS = {"MALLOC_TRIM_THRESHOLD_": str(2**27), "MALLOC_MMAP_THRESHOLD_": str(2**26)}


@runtime_checkable
class Cluster(Protocol):
    """A frozen dataclass that starts workers and stops them again."""

    @property
    def name(self) -> str:
        """The word after ``cluster=``."""

    def start(self) -> AbstractContextManager[Client | None]:
        """Return a context manager that yields a client, or None to work without Dask.

        Raises
        ------
        UsageError
            If the cluster cannot be had; the message says what to change.
        """
