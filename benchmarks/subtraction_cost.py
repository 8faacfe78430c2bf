"""CPU seconds and memory of each subtraction method, against five plain Fourier transforms of the same size.

python -m benchmarks.subtraction_cost --out cost.json       # every method, 1024 x 1024 pixels, one thread
python -m benchmarks.subtraction_cost --peers               # and packages of others, where they are installed

Each runs in a process of its own, once before it is timed: what is compiled or planned at first is not counted. What a
method starts counts with it; freed memory is kept, as workers keep it. The difference is judged as in
`benchmarks.quality`, with the PSFs of the middle of the field given; those of peers by the PSF of the science image, in
units of their own scatter (`benchmarks.peers`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy import fft

from astrid.clusters.base import KEEP_ARRAYS
from astrid.image import Difference, Image
from benchmarks.peers import PEERS, as_difference, missing, work_of
from benchmarks.provenance import provenance
from benchmarks.quality.__main__ import METHODS
from benchmarks.quality.measures import judge
from benchmarks.quality.scenes import VARIANTS, Scene, make_scene

OURS = ("zogy", "sfft", "alard_lupton", "direct")
JUDGED = ("efficiency", "completeness", "false_positive", "false_negative", "star_median", "star_95", "flux_bias")
PLANES = ("flux", "variance", "mask", "psf")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
SETTINGS = ONE_THREAD | KEEP_ARRAYS  # as workers have them, for every method


def main() -> None:
    """Measure each in a process of its own, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subtraction_cost", description=__doc__)
    parser.add_argument("--methods", nargs="*", choices=OURS, default=list(OURS))
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), help="also packages of others, where installed; all if none is named"
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which a method is given up")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], Path(options.one[1]), options.repeats)))
        return
    peers = [] if options.peers is None else options.peers or list(PEERS)
    scene = make_scene(VARIANTS["base"], options.seed, options.side)
    rows: dict[str, dict[str, Any]] = {}
    print(
        f"{'method':17} {'CPU s':>8} {'5 FFTs s':>9} {'ratio':>7} {'peak MB':>8} "
        + " ".join(f"{n:>14}" for n in JUDGED)
    )
    with tempfile.TemporaryDirectory() as folder:
        pair = {
            f"{name}_{plane}": getattr(image, plane)
            for name, image in (("science", scene.science), ("template", scene.template))
            for plane in PLANES
        }
        np.savez(Path(folder) / "pair.npz", **pair)
        for name in (*options.methods, *peers):
            rows[name] = row = _row(name, Path(folder), scene, options.repeats, options.limit)
            print(f"{name:17} {_words(row)}", flush=True)
    if options.out:
        found = {"provenance": provenance(), "side": options.side, "seed": options.seed, "results": rows}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _row(name: str, folder: Path, scene: Scene, repeats: int, limit: float) -> dict[str, Any]:
    """Return the numbers of a method, or in words why there are none."""
    reason = missing(name) if name in PEERS else None
    if reason:
        return {"absent": reason}
    command = [sys.executable, "-m", "benchmarks.subtraction_cost", "--one", name, str(folder)]
    try:
        done = subprocess.run(
            [*command, "--repeats", str(repeats)],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
            env=os.environ | SETTINGS,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished after {limit:g} s (--limit)"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return {"failed": " ".join(last) or f"ended with code {done.returncode}"}
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    with np.load(folder / f"{name}.npz") as planes:
        quality = judge(scene, Difference(**planes), row["cpu_s"]).as_dict()
    return row | {"quality": {key: quality[key] for key in JUDGED}}


def _words(row: dict[str, Any]) -> str:
    if "cpu_s" not in row:
        return row.get("absent") or f"failed: {row['failed']}"
    cost = f"{row['cpu_s']:8.3f} {row['five_transforms_s']:9.4f} {row['ratio']:7.1f} {row['peak_mb']:8.0f} "
    return cost + " ".join(f"{row['quality'][name]:14.3f}" for name in JUDGED)


def measured(name: str, folder: Path, repeats: int) -> dict[str, float]:
    """Return CPU seconds, their ratio to five transforms at the same time, and the peak above the loaded process."""
    with np.load(folder / "pair.npz") as planes:
        science, template = (
            Image(*(planes[f"{which}_{plane}"] for plane in PLANES)) for which in ("science", "template")
        )
    if name in PEERS:
        work: Callable[[], Any] = work_of(name, science, template, folder)
    else:
        work = lambda: METHODS[name](science, template)  # noqa: E731
    process = psutil.Process()
    before = process.memory_info().rss
    with _Peak(process) as peak:
        difference = work()
    times, transforms = [], []
    for _ in range(repeats):
        transforms.append(_five_transforms(science.flux))
        times.append(_cpu(work))
    if name in PEERS:
        difference = as_difference(difference, science, template)
    np.savez(folder / f"{name}.npz", **{plane: getattr(difference, plane) for plane in (*PLANES, "significance")})
    return {
        "cpu_s": float(np.median(times)),
        "five_transforms_s": float(np.median(transforms)),
        "ratio": float(np.median(np.array(times) / np.array(transforms))),
        "peak_mb": (peak.highest - before) / 2**20,
    }


def _cpu(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of some work and of the processes that it starts."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    started = used()
    work()
    return used() - started


def _five_transforms(flux: np.ndarray[Any, Any]) -> float:
    """CPU seconds of three real transforms and two back, in single precision."""

    def work() -> None:
        for _ in range(3):
            hat = fft.rfft2(flux, workers=1)
        for _ in range(2):
            fft.irfft2(hat, flux.shape, workers=1)

    return min(_cpu(work) for _ in range(3))


class _Peak:
    """Watches the resident memory of a process from a thread."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.highest = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.highest = max(self.highest, self.process.memory_info().rss)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


if __name__ == "__main__":
    main()
