"""ZOGY on 1024 x 1024 pixels, and how many plain Fourier transforms it costs."""

import time

import numpy as np
import pytest
from scipy import fft

from astrid.image import Image
from astrid.subtraction.direct import Direct
from astrid.subtraction.zogy import Zogy

SIDE = 1024


def made(seed: int, fwhm: float) -> Image:
    rng = np.random.default_rng(seed)
    y, x = np.indices((35, 35)) - 17
    psf = np.exp(-4 * np.log(2) * (y**2 + x**2) / fwhm**2)
    psf /= psf.sum()
    flux = rng.normal(0, 3, (SIDE, SIDE)).astype(np.float32)
    for row, column in rng.integers(40, SIDE - 40, (100, 2)):
        flux[row - 17 : row + 18, column - 17 : column + 18] += 3000 * psf
    variance = np.full_like(flux, 9) + np.maximum(flux, 0)
    return Image(flux, variance, np.zeros(flux.shape, np.uint16), psf.astype(np.float32))


@pytest.fixture(scope="module")
def pair():
    return made(1, 3.2), made(2, 2.6)


def cpu(work) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize("method", [Zogy(), Direct()], ids=["zogy", "direct"])
def bench_subtraction(benchmark, pair, method):
    difference = benchmark(method, *pair)
    assert np.isfinite(difference.significance).all()


def bench_zogy_with_a_prepared_template(benchmark, pair):
    science, template = pair
    zogy = Zogy()
    ready = zogy.prepare(template)
    difference = benchmark(zogy, science, template, ready)
    assert np.isfinite(difference.significance).all()


def bench_zogy_against_five_transforms(benchmark, pair):
    """The ratio of CPU seconds travels between machines; it is kept with the measurement."""
    science, template = pair
    zogy = Zogy()

    def transforms():
        for _ in range(5):
            fft.rfft2(science.flux, workers=1)

    rounds = 5 if benchmark.enabled else 1
    pairs = [(cpu(lambda: zogy(science, template)), cpu(transforms)) for _ in range(rounds)]
    whole, plain = np.median(pairs, axis=0)
    benchmark.extra_info.update(
        zogy_cpu_seconds=float(whole), five_transforms_cpu_seconds=float(plain), ratio=float(whole / plain)
    )
    print(f"\nZOGY {whole:.3f} s, five real FFTs {plain:.3f} s (CPU), ratio {whole / plain:.1f}")
    benchmark(transforms)
