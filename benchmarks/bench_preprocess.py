"""Resampling of 1024 x 1024 pixels: the spline against the reproject package."""

import numpy as np
import pytest

from astrid.imaging.resampling import coordinate_map, resample

SIDE = 1024


def shifted(y, x):
    return 0.9999 * y + 0.01 * x + 0.37, 0.9999 * x - 0.01 * y + 5.61


def bench_coordinate_map(benchmark):
    y, _ = benchmark(coordinate_map, shifted, (SIDE, SIDE))
    assert np.allclose(y[100, 200], shifted(100.0, 200.0)[0], atol=1e-3)


@pytest.mark.parametrize("method", ["spline", "reproject"])
def bench_resampling(benchmark, method):
    rng = np.random.default_rng(1)
    flux = rng.normal(0, 3, (SIDE, SIDE)).astype(np.float32)
    variance = np.full_like(flux, 9)
    mask = (rng.random(flux.shape) < 1e-4).astype(np.uint16)
    places = coordinate_map(shifted, (SIDE, SIDE))
    new, _, _ = benchmark(resample, flux, variance, mask, *places, method=method)
    assert np.isfinite(new).all()
