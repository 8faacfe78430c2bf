"""What detection costs on a map of significance, against sep.extract and source-extractor on the same map.

OMP_NUM_THREADS=1 python -m benchmarks.detection_cost [--side 2048] [--repeats 15] [--seed 1] [--out FILE.json]

Noise filtered by a PSF, point sources of both signs from a few sigma up, masked columns, disks and pixels. `complete`
is `MatchedFilter()` as a run uses it, both signs and the test of shapes with it; `peaks` goes without that test and
`find_peaks` is the search for one sign alone. The others find what exceeds five sigma, of one sign, with no background
or filter of their own, deblending as they do by default; source-extractor as a process, user seconds, its reading of
the map included, without a mask. CPU seconds are the least of several turns, with freed memory kept as workers keep it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from scipy import signal

from astrid.clusters.base import KEEP_ARRAYS
from astrid.detection.matched_filter import MatchedFilter, find_peaks
from astrid.image import Difference
from benchmarks.provenance import provenance

SOURCES = 400  # on 2048 x 2048 pixels
FWHM = 3.0  # px
THRESHOLD = 5.0
NEGATIVE = 0.3  # of the sources
MASKED_DISKS = 60


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection_cost", description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in KEEP_ARRAYS.items()):  # read when a program starts
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.detection_cost", *sys.argv[1:]], os.environ | KEEP_ARRAYS
        )
    difference = make_difference(options.side, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(difference, options.repeats, Path(folder))
    for name, row in rows.items():
        numbers = row.get("absent") or (
            f"{1e3 * row['cpu_s']:8.1f} ms {row['over_sep_extract']:7.3f} of sep.extract, {row['found']} found"
        )
        print(f"{name:18} {numbers}")
    if options.out:
        found = {"side": options.side, "seed": options.seed, "results": rows, "provenance": provenance()}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def make_difference(side: int, seed: int) -> Difference:
    """Return white noise with point sources and masks, and its matched filter."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((35, 35)) - 17
    psf = np.exp(-4 * np.log(2) * (y**2 + x**2) / FWHM**2)
    psf /= psf.sum()
    power = np.sqrt((psf**2).sum())
    flux = rng.normal(0, 1, (side, side))
    for row, column in rng.integers(20, side - 20, (round(SOURCES * (side / 2048) ** 2), 2)):
        brightness = rng.choice([-1, 1], p=[NEGATIVE, 1 - NEGATIVE]) * 10 ** rng.uniform(0.5, 2)
        flux[row - 17 : row + 18, column - 17 : column + 18] += brightness / power * psf
    score = signal.oaconvolve(flux, psf, mode="same") / power
    mask = np.zeros((side, side), np.uint16)
    mask[:, side // 3 : side // 3 + 3] = 1
    mask[rng.random(mask.shape) < 1e-4] |= 4
    for row, column in rng.integers(20, side - 20, (MASKED_DISKS, 2)):
        mask[row - 17 : row + 18, column - 17 : column + 18][y**2 + x**2 < 64] |= 2
    single = np.float32
    return Difference(
        flux.astype(single), np.ones((side, side), single), mask, psf.astype(single), score.astype(single)
    )


def measured(difference: Difference, repeats: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the least CPU seconds of each, taking turns, so that all meet the same noise of the machine."""
    score, masked = difference.significance, difference.mask != 0
    sep.set_extract_pixstack(max(10**6, score.size // 4))
    tasks: dict[str, Callable[[], tuple[float, int]]] = {
        "complete": timed(lambda: MatchedFilter(threshold=THRESHOLD)(difference)),
        "peaks": timed(lambda: MatchedFilter(threshold=THRESHOLD, max_chi2=None)(difference)),
        "find_peaks": timed(lambda: find_peaks(score, masked, threshold=THRESHOLD)),
        "sep_extract": timed(lambda: sep.extract(score, THRESHOLD, mask=masked, filter_kernel=None)),
        "sep_filtered": timed(lambda: sep.extract(score, THRESHOLD, mask=masked)),
    }
    program = shutil.which("source-extractor") or shutil.which("sex")
    if program:
        tasks["source_extractor"] = source_extractor(program, score, folder)
    least: dict[str, tuple[float, int]] = {}
    for _ in range(repeats):
        for name, task in tasks.items():
            least[name] = min(least.get(name, (np.inf, 0)), task())
    reference = least["sep_extract"][0]
    rows: dict[str, dict[str, Any]] = {
        name: {"cpu_s": seconds, "over_sep_extract": seconds / reference, "found": found}
        for name, (seconds, found) in least.items()
    }
    if not program:
        rows["source_extractor"] = {"absent": "source-extractor is not installed here"}
    return rows


def timed(work: Callable[[], Any]) -> Callable[[], tuple[float, int]]:
    """Return a function that does the work and returns its CPU seconds and how many it found."""

    def run() -> tuple[float, int]:
        started = time.process_time()
        found = work()
        return time.process_time() - started, len(found)

    return run


def source_extractor(program: str, score: np.ndarray[Any, Any], folder: Path) -> Callable[[], tuple[float, int]]:
    """Return a function that runs source-extractor on the map as a file."""
    fits.writeto(folder / "score.fits", score)
    (folder / "columns.param").write_text("NUMBER\nX_IMAGE\nY_IMAGE\n")
    options = {
        "CATALOG_NAME": "found.cat", "PARAMETERS_NAME": "columns.param", "FILTER": "N", "BACK_TYPE": "MANUAL",
        "BACK_VALUE": "0", "THRESH_TYPE": "ABSOLUTE", "DETECT_THRESH": f"{THRESHOLD}", "VERBOSE_TYPE": "QUIET",
        "ANALYSIS_THRESH": f"{THRESHOLD}",
    }  # fmt: skip
    command = [program, "score.fits", *(word for key, value in options.items() for word in (f"-{key}", value))]

    def run() -> tuple[float, int]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        lines = (folder / "found.cat").read_text().splitlines()
        return seconds, sum(not line.startswith("#") for line in lines)

    return run


if __name__ == "__main__":
    main()
