"""CPU seconds and memory of each subtraction method, against five plain Fourier transforms of the same size.

python -m benchmarks.subtraction_cost --out cost.json       # every method, 1024 x 1024 pixels, one thread
python -m benchmarks.subtraction_cost --peers               # and packages of others, where they are installed
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
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

from astrid.image import Image
from benchmarks.provenance import provenance
from benchmarks.quality.__main__ import METHODS
from benchmarks.quality.scenes import VARIANTS, make_scene

OURS = ("zogy", "sfft", "alard_lupton", "direct")
PEERS = {"sfft-peer": "sfft", "stdpipe-peer": "stdpipe"}
HALF_WIDTH, ORDER = 6, 2  # of the kernels that peers fit
GAIN = 1.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    """Measure each in a process of its own, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subtraction_cost", description=__doc__)
    parser.add_argument("--methods", nargs="*", choices=OURS, default=list(OURS))
    parser.add_argument("--peers", action="store_true", help="also sfft and stdpipe from PyPI, where installed")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "PAIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one[0], Path(options.one[1]), options.repeats)))
        return
    rows: dict[str, dict[str, Any]] = {}
    print(f"{'method':14} {'CPU s':>8} {'5 FFTs s':>9} {'ratio':>7} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.npz"
        scene = make_scene(VARIANTS["base"], 1, options.side)
        planes = {
            f"{name}_{plane}": getattr(image, plane)
            for name, image in (("science", scene.science), ("template", scene.template))
            for plane in ("flux", "variance", "mask", "psf")
        }
        np.savez(pair, **planes)
        for name in (*options.methods, *(PEERS if options.peers else ())):
            package = PEERS.get(name)
            if package and importlib.util.find_spec(package) is None:
                rows[name] = {"absent": f"{package} is not installed here"}
                print(f"{name:14} {rows[name]['absent']}", flush=True)
                continue
            command = [sys.executable, "-m", "benchmarks.subtraction_cost", "--one", name, str(pair)]
            done = subprocess.run(
                [*command, "--repeats", str(options.repeats)],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | ONE_THREAD,
            )
            if done.returncode:
                rows[name] = {"failed": done.stderr.strip().splitlines()[-1:]}
                print(f"{name:14} failed: {' '.join(rows[name]['failed'])}", flush=True)
                continue
            row = rows[name] = json.loads(done.stdout.strip().splitlines()[-1])
            print(
                f"{name:14} {row['cpu_s']:8.3f} {row['five_transforms_s']:9.4f} {row['ratio']:7.1f} "
                f"{row['peak_mb']:8.0f}",
                flush=True,
            )
    if options.out:
        options.out.write_text(
            json.dumps({"provenance": provenance(), "side": options.side, "results": rows}, indent=1) + "\n"
        )


def measured(name: str, pair: Path, repeats: int) -> dict[str, float]:
    """Return CPU seconds, their ratio to five transforms at the same time, and the peak above the loaded process."""
    with np.load(pair) as planes:
        science, template = (
            Image(*(planes[f"{which}_{plane}"] for plane in ("flux", "variance", "mask", "psf")))
            for which in ("science", "template")
        )
    work = _work(name, science, template)
    process = psutil.Process()
    before = process.memory_info().rss
    with _Peak(process) as peak:
        first, _ = _cpu(work)
    times, transforms = [first], [_five_transforms(science.flux)]
    for _ in range(repeats - 1):
        transforms.append(_five_transforms(science.flux))
        times.append(_cpu(work)[0])
    return {
        "cpu_s": float(np.median(times)),
        "five_transforms_s": float(np.median(transforms)),
        "ratio": float(np.median(np.array(times) / np.array(transforms))),
        "peak_mb": (peak.highest - before) / 2**20,
    }


def _cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def _five_transforms(flux: np.ndarray[Any, Any]) -> float:
    """CPU seconds of three real transforms and two back, in single precision."""

    def work() -> None:
        for _ in range(3):
            hat = fft.rfft2(flux, workers=1)
        for _ in range(2):
            fft.irfft2(hat, flux.shape, workers=1)

    return min(_cpu(work)[0] for _ in range(3))


def _work(name: str, science: Image, template: Image) -> Callable[[], Any]:
    if name == "sfft-peer":
        from sfft.CustomizedPacket import Customized_Packet

        folder = Path(tempfile.mkdtemp())
        paths = {which: str(folder / f"{which}.fits") for which in ("science", "template", "difference")}
        _write(paths["science"], science)
        _write(paths["template"], template)
        return lambda: Customized_Packet.CP(
            FITS_REF=paths["template"], FITS_SCI=paths["science"], FITS_mREF=paths["template"],
            FITS_mSCI=paths["science"], FITS_DIFF=paths["difference"], ForceConv="REF", KerHW=HALF_WIDTH,
            KerSpType="Polynomial", KerSpDegree=ORDER, SEPARATE_SCALING=True, ScaSpType="Polynomial", ScaSpDegree=0,
            BkgSpType="Polynomial", BkgSpDegree=0, BACKEND_4SUBTRACT="Numpy", NUM_CPU_THREADS_4SUBTRACT=1,
        )  # fmt: skip
    if name == "stdpipe-peer":
        from stdpipe import subtraction

        return lambda: subtraction.run_hotpants(
            science.flux, template.flux, mask=science.mask != 0, template_mask=template.mask != 0,
            image_gain=GAIN, template_gain=GAIN, extra={"ko": ORDER, "bgo": 0},
        )  # fmt: skip
    return lambda: METHODS[name](science, template)


def _write(path: str, image: Image) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(image.flux.T.astype(np.float64)).writeto(path)


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
