import numpy as np
import pytest

from astrid.imaging.sourcenoise import measure_source_noise
from astrid.imaging.stars import find_stars
from astrid.simulation.psf import MoffatPsf, add_points

SHAPE = (420, 440)
PSF = MoffatPsf(3.0, 3.5, 0.0, 0.0)
MASK = np.zeros(SHAPE, np.uint16)
ONE = np.ones(SHAPE, np.float32)


def measured(slope: float, seed: int, n: int = 80) -> float:
    rng = np.random.default_rng(seed)
    flux = np.zeros(SHAPE)
    y, x = rng.uniform(20, SHAPE[0] - 20, n), rng.uniform(20, SHAPE[1] - 20, n)
    add_points(flux, y, x, 10 ** rng.uniform(2.5, 4.3, n), PSF)
    flux = (flux + rng.normal(0, 1, SHAPE) * np.sqrt(1 + slope * flux)).astype(np.float32)
    return measure_source_noise(flux, ONE, MASK, find_stars(flux, ONE, MASK), PSF.image((25, 25)))


@pytest.mark.parametrize("slope", [0.3, 1.0])
def test_photon_noise_of_stars_is_found_without_knowing_the_gain(slope):
    values = [measured(slope, seed) for seed in range(6)]
    assert np.median(values) == pytest.approx(slope, rel=0.3)


def test_stars_without_photon_noise_bring_little():
    assert np.median([measured(0.0, seed) for seed in range(4)]) < 0.08


def test_with_few_stars_nothing_is_claimed():
    assert measured(1.0, 3, n=3) == 0
