import numpy as np
import pytest

from astrid.imaging.background import clipped_std, dithered, find_sources, subtract_background

SHAPE = (320, 384)
SLOPE = np.linspace(0, 0.8, SHAPE[1])
GOOD = np.zeros(SHAPE, bool)


def sky(seed: int, *, sigma: float = 1.2, level: float = 357.0) -> np.ndarray:
    return (level + SLOPE + np.random.default_rng(seed).normal(0, sigma, SHAPE)).astype(np.float32)


def add_stars(flux: np.ndarray, seed: int, *, n: int, peak: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    for row, column in zip(rng.uniform(0, SHAPE[0], n), rng.uniform(0, SHAPE[1], n), strict=True):
        flux = flux + (peak * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.5)).astype(np.float32)
    return flux


def test_a_slope_is_followed():
    found = subtract_background(sky(1), GOOD)
    error = found.level - (357 + SLOPE)
    assert abs(error.mean()) < 0.03
    assert error.std() < 0.1
    assert found.median == pytest.approx(357.4, abs=0.05)


@pytest.mark.parametrize("level", [357.0, 357.3, 357.5])
def test_integers_with_a_noise_of_about_one_have_the_background_of_the_real_numbers(level):
    error = subtract_background(np.rint(sky(1, level=level)), GOOD).level - (level + SLOPE)
    assert abs(error.mean()) < 0.03
    assert error.std() < 0.1  # without dither 0.5


def test_dither_adds_half_a_step_at_most_and_is_always_the_same():
    counts = np.rint(sky(2)) / np.float32(60)
    once, twice = dithered(counts, GOOD), dithered(counts, GOOD)
    np.testing.assert_array_equal(once, twice)
    assert np.max(np.abs(once - counts)) <= 0.5 / 60 + 1e-6
    assert np.std(once - counts) == pytest.approx(1 / 60 / np.sqrt(12), rel=0.05)


def test_real_numbers_are_not_dithered():
    flux = sky(3)
    assert dithered(flux, GOOD) is flux


def test_stars_do_not_raise_the_background_between_them():
    found = subtract_background(add_stars(sky(4), 4, n=80, peak=300), GOOD)
    assert abs(np.median(found.level - (357 + SLOPE))) < 0.1


def test_masked_pixels_do_not_count():
    flux, mask = sky(5), GOOD.copy()
    mask[100:160, 100:200] = True
    flux[mask] = 60000
    assert np.abs(subtract_background(flux, mask).level - (357 + SLOPE)).max() < 0.6


def test_relative_noise_says_where_it_is_larger():
    flux = sky(6)
    flux[:160] = 357 + 2 * (flux[:160] - 357)
    relative = subtract_background(flux, GOOD).relative_rms
    assert relative[40:120].mean() / relative[200:280].mean() == pytest.approx(2, rel=0.1)


def test_sources_of_either_sign_are_found_and_noise_is_not():
    flux = (sky(7) - 357 - SLOPE).astype(np.float32)
    assert find_sources(flux, GOOD).mean() < 0.06  # with the margin around a few peaks of noise
    flux[100:103, 100:103] += 8
    flux[200:203, 200:203] -= 8
    sources = find_sources(flux, GOOD)
    assert sources[101, 101]
    assert sources[201, 201]


def test_one_level_is_that_of_empty_pixels_and_the_same_in_every_exposure_of_a_crowd():
    flat = sky(9) - SLOPE.astype(np.float32)
    assert subtract_background(flat, GOOD, box=None).median == pytest.approx(357.0, abs=0.03)
    crowded = [
        subtract_background(
            add_stars(sky(seed, sigma=0.3) - SLOPE, 4, n=4000, peak=100).astype(np.float32), GOOD, box=None
        )
        for seed in (10, 11, 12)
    ]
    levels = [found.median for found in crowded]
    assert np.ptp(levels) < 0.05
    assert np.ptp(crowded[0].level) == 0


def test_a_mesh_that_is_too_fine_is_refused():
    with pytest.raises(ValueError, match="at least 8 pixels, got 4"):
        subtract_background(sky(8), GOOD, box=4)


def test_clipped_scatter_ignores_outliers():
    values = np.random.default_rng(8).normal(5, 2, 100_000)
    values[:1000] += 500
    assert clipped_std(values) == pytest.approx(2.0, rel=0.02)


def test_clipped_scatter_is_unharmed_by_coarse_integers():
    values = np.rint(np.random.default_rng(9).normal(357.3, 0.7, 100_000))
    assert clipped_std(values) == pytest.approx(np.hypot(0.7, 12**-0.5), rel=0.03)


def test_two_values_have_no_scatter():
    assert np.isnan(clipped_std(np.array([1.0, 2.0])))
