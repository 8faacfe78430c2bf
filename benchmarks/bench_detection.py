"""The matched filter and the measurement of candidates on 1024 x 1024 pixels."""

import numpy as np
import pytest

from astrid.detection.features import measure_candidates
from astrid.detection.matched_filter import MatchedFilter
from astrid.image import Difference, Image

SIDE = 1024


@pytest.fixture(scope="module")
def difference():
    rng = np.random.default_rng(1)
    y, x = np.indices((35, 35)) - 17
    psf = np.exp(-4 * np.log(2) * (y**2 + x**2) / 3.0**2)
    psf = (psf / psf.sum()).astype(np.float32)
    flux = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    score = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    for row, column in rng.integers(40, SIDE - 40, (50, 2)):
        window = np.s_[row - 17 : row + 18, column - 17 : column + 18]
        flux[window] += 100 * psf
        score[window] += 20 * psf / psf.max()
    return Difference(flux, np.ones_like(flux), np.zeros(flux.shape, np.uint16), psf, score)


def bench_matched_filter(benchmark, difference):
    assert len(benchmark(MatchedFilter(), difference)) >= 40


def bench_measurement_of_candidates(benchmark, difference):
    found = MatchedFilter()(difference)
    image = Image(difference.flux, difference.variance, difference.mask, difference.psf)
    columns = benchmark(measure_candidates, difference, image, image, found)
    assert len(columns["y"]) == len(found)
