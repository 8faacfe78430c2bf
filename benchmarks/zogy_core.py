"""CPU seconds of proper subtraction over those of five raw real Fourier transforms of the same size, in one run.

OMP_NUM_THREADS=1 python -m benchmarks.zogy_core [--side 1024] [--rounds 7] [--device cuda] [--out FILE.json]

The five transforms are those that D, S and S_corr need: two forward, three back. `core` has all kernels given,
`own_psf` makes them from the PSF of its science image; what is `prepared` has only what depends on the template;
`complete` is the method as a run uses it, from two images with masks and measured PSFs, with its displacement and a
PSF that varies; `nan` the same with invalid pixels in both. Freed memory is kept as workers keep it; `--given-memory`
leaves that to the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from astrid.clusters.base import KEEP_ARRAYS
from astrid.subtraction.core import core_difference, core_kernels, core_template, fourier_of
from astrid.subtraction.zogy import Zogy
from benchmarks.provenance import provenance
from benchmarks.quality.measures import with_measured_psf
from benchmarks.quality.scenes import VARIANTS, make_scene


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zogy_core", description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", help="of torch, instead of NumPy")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--given-memory", action="store_true", help="keep the allocator's settings as they are")
    options = parser.parse_args()
    settings = {name: os.environ.get(name) for name in KEEP_ARRAYS}
    if not options.given_memory and settings != KEEP_ARRAYS:  # read when a program starts
        command = [sys.executable, "-m", "benchmarks.zogy_core", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | KEEP_ARRAYS)
    scene = make_scene(VARIANTS["base"], 1, options.side)
    found: dict[str, Any] = core_ratio(scene, options.rounds, options.device)
    if options.device is None:
        found |= complete_ratios(scene, options.rounds)
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(
            json.dumps({"side": options.side, "allocator": settings, **found, **provenance()}, indent=1) + "\n"
        )


def core_ratio(scene: Any, rounds: int, device: str | None) -> dict[str, Any]:
    """Compare the core with its transforms, turn by turn."""
    shape = scene.science.flux.shape
    noise = [float(np.sqrt(np.percentile(image.variance, 5))) for image in (scene.science, scene.template)]
    image, variance = scene.science.flux, scene.science.variance
    wait: Callable[[], object] = lambda: None  # noqa: E731
    clock = time.process_time
    reference = scene.template.flux, scene.template.variance
    if device:
        import torch

        def on_device(array: Any) -> Any:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        image, variance, *reference = (on_device(array) for array in (image, variance, *reference))
        clock, wait = time.perf_counter, torch.cuda.synchronize if device != "cpu" else wait
    template = core_template(*reference, scene.template.psf)
    kernels = core_kernels(template, scene.science.psf, *noise)
    ft = fourier_of(image)
    hat = ft.rfft2(image)

    def transforms() -> None:
        for _ in range(2):
            ft.rfft2(image)
        for _ in range(3):
            ft.irfft2(hat, s=shape)
        wait()

    def core() -> None:
        core_difference(image, variance, kernels)
        wait()

    def own_psf() -> None:
        core_difference(image, variance, core_kernels(template, scene.science.psf, *noise))
        wait()

    five, whole, own = least_times([transforms, core, own_psf], rounds, clock)
    seconds = {"five_transforms_s": five, "core_s": whole, "own_psf_s": own}
    return {"device": device or "numpy", **seconds, "core_ratio": whole / five, "own_psf_ratio": own / five}


def complete_ratios(scene: Any, rounds: int) -> dict[str, float]:
    """Compare the whole method with the five transforms of the core, turn by turn."""
    science, template = with_measured_psf(scene.science), with_measured_psf(scene.template)
    zogy, simple = Zogy(), Zogy(align=False, adapt=False)
    prepared, plain = zogy.prepare(template), simple.prepare(template)
    rng = np.random.default_rng(1)
    holes = [with_holes(image, rng) for image in (science, template)]
    tasks: dict[str, Callable[[], object]] = {
        "fixed_psf_prepared": lambda: simple(science, template, plain),
        "complete_prepared": lambda: zogy(science, template, prepared),
        "complete": lambda: zogy(science, template),
        "nan": lambda: zogy(*holes),
    }
    image, hat = scene.science.flux, fft.rfft2(scene.science.flux)

    def transforms() -> None:
        for _ in range(2):
            fft.rfft2(image)
        for _ in range(3):
            fft.irfft2(hat, s=image.shape)

    five, *least = least_times([transforms, *tasks.values()], rounds, time.process_time)
    seconds = dict(zip(tasks, least, strict=True))
    ratios = {f"{name}_ratio": value / five for name, value in seconds.items()}
    ratios["nan_to_complete_ratio"] = seconds["nan"] / seconds["complete"]
    return {f"{name}_s": value for name, value in seconds.items()} | {"five_in_turn_s": five} | ratios


def with_holes(image: Any, rng: np.random.Generator) -> Any:
    """Return an image with a thousandth of its pixels and five columns invalid."""
    flux = image.flux.copy()
    flux[rng.uniform(size=flux.shape) < 1e-3] = np.nan
    flux[:, rng.integers(0, flux.shape[1], 5)] = np.nan
    return replace(image, flux=flux)


def least_times(tasks: list[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Return the least seconds of each task, taking turns, so that all meet the same noise of the machine."""
    least = [np.inf] * len(tasks)
    for _ in range(rounds):
        for number, task in enumerate(tasks):
            started = clock()
            task()
            least[number] = min(least[number], clock() - started)
    return least


if __name__ == "__main__":
    main()
