"""A small simulated night, and the command line that runs it in a folder of its own."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from astrid.cli import run_command
from astrid.stores.tables import read_json

REPOSITORY = Path(__file__).resolve().parents[2]

NIGHT = (
    "survey.height=200",
    "survey.width=200",
    "survey.n_epochs=4",
    "survey.bands=[g]",
    "survey.stars_per_megapixel=7000",  # on so small a field the PSF needs them
    "survey.n_transients=4",
    "survey.transient_magnitudes=[18.0,19.5]",
    "survey.cadence_days=4",
    "survey.seed=3",
    "grid.core=256",
)
IDS = {"candidates": ("candidate_id",), "objects": ("object_id",), "injections": ("injection_id", "detector")}
TIMES = ("seconds_per_image", "seconds_per_megapixel")
FEW_CELLS_A_COMMIT = "import astrid.workflow.runner as runner; runner.COMMIT_CELLS = 2; "


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A folder to run commands in."""

    folder: Path

    def __call__(self, *words: str) -> Ended:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(list(words))
        return Ended(code, out.getvalue(), err.getvalue())

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, which commits after every other cell."""
        return subprocess.Popen(
            [sys.executable, "-c", FEW_CELLS_A_COMMIT + "from astrid.cli import main; main()", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / name


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and all of its group, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def night(name: str, *words: str, cluster: str = "inline") -> tuple[str, ...]:
    """Return the options of a run of the small night."""
    return (*NIGHT, f"cluster={cluster}", f"name={name}", *words)


def sorted_table(path: Path, by: Sequence[str]) -> pa.Table:
    """Read a table and sort it by its ids."""
    import pyarrow.parquet as pq

    return pq.read_table(path).sort_by([(name, "ascending") for name in by])


def assert_same_table(one: pa.Table, other: pa.Table, ignore: Sequence[str] = ()) -> None:
    """Compare two tables: floats within 1e-5 of each other, all else equal."""
    assert one.schema.equals(other.schema)
    assert len(one) == len(other)
    for name in one.column_names:
        if name in ignore:
            continue
        if pa.types.is_floating(one[name].type):
            a, b = (t[name].to_numpy(zero_copy_only=False).astype(float) for t in (one, other))
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=0, err_msg=name)
        else:
            assert one[name].to_pylist() == other[name].to_pylist(), name


def assert_same_numbers(one: object, other: object, where: str = "") -> None:
    """Compare two JSON values, times excepted."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys(), where
        for key in one.keys() - set(TIMES):
            assert_same_numbers(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert isinstance(other, list)
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_numbers(a, b, f"{where}[{number}]")
    elif isinstance(one, float):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=0, err_msg=where)
    else:
        assert one == other, where


def assert_same_results(one: Path, other: Path) -> None:
    """Compare two run folders: candidates, objects, injections and metrics."""
    for name, ids in IDS.items():
        assert_same_table(*(sorted_table(folder / f"{name}.parquet", ids) for folder in (one, other)))
    order = ("object_id", "tile", "epoch", "band")
    assert_same_table(*(sorted_table(folder / "light_curves.parquet", order) for folder in (one, other)))
    assert_same_numbers(*(read_json(folder / "metrics.json") for folder in (one, other)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty folder to run commands in."""
    return Place(tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The small night, done once by `astrid run` with the name "night"; for reading only."""
    place = Place(tmp_path_factory.mktemp("night"))
    ended = place("run", *night("night", "debug=true"))
    assert ended.code == 0, ended.out + ended.err
    (place.folder / "said.json").write_text(json.dumps(ended.out))
    return place


@pytest.fixture
def done_before(undisturbed: Place, tmp_path: Path) -> Place:
    """A copy of the small night, to go on with."""
    shutil.copytree(undisturbed.folder, tmp_path / "copy")
    return Place(tmp_path / "copy")


@pytest.fixture(scope="session")
def images(undisturbed: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], list[Path]]:
    """The exposures of the small night: plain FITS files."""
    return lambda: sorted((undisturbed.folder / "exposures").rglob("*.fits"))
