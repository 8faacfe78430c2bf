"""Memory of a run must not grow with its length: what users of pipelines complain of most."""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest

SMALL = (
    "survey.height=160",
    "survey.width=160",
    "survey.bands=[g]",
    "survey.n_transients=1",
    "survey.stars_per_megapixel=7000",
    "grid.core=192",
    "cluster=local",
    "cluster.n_workers=1",
    "cluster.dashboard=''",
)


def peak_mb(folder, n_epochs: int) -> float:
    """Return the largest memory that a worker had while it made and searched differences."""
    folder.mkdir()
    command = [sys.executable, "-m", "astrid.cli", "detect", "name=run", f"survey.n_epochs={n_epochs}", *SMALL]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=500)
    ledger = pq.read_table(folder / "runs" / "run" / "ledger.parquet").to_pylist()
    return max(row["peak_memory_mb"] for row in ledger if row["step"] in ("preprocess", "subtract", "detect"))


@pytest.mark.slow
def test_four_times_as_many_cells_need_no_more_memory(tmp_path):
    short, long = (peak_mb(tmp_path / str(n), n) for n in (6, 24))
    assert long < 1.1 * short + 20, f"{short:.0f} MB for 6 cells, {long:.0f} MB for 24"
