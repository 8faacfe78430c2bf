import numpy as np
import pytest

from astrid.imaging.photometry import shifted_psfs
from astrid.imaging.psf import moffat
from astrid.imaging.stars import find_stars, stellar_fwhm, typical_fwhm
from astrid.schema import MaskBit

SHAPE = (240, 260)
PLACES = np.array([(y, x) for y in range(30, 220, 36) for x in range(30, 240, 36)], float)


def field(seed: int = 1, fwhm: float = 2.8) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stars on a loose grid, one at a time brighter; flux, sigma, true positions and fluxes."""
    rng = np.random.default_rng(seed)
    places = PLACES + rng.uniform(-0.5, 0.5, PLACES.shape)
    total = np.geomspace(300, 30000, len(places))
    flux = rng.normal(0, 1, SHAPE)
    for (y, x), f, p in zip(places, total, shifted_psfs(moffat(25, fwhm), *places.T), strict=True):
        r, c = int(np.rint(y)), int(np.rint(x))
        flux[r - 12 : r + 13, c - 12 : c + 13] += f * p
    return flux.astype(np.float32), np.ones(SHAPE, np.float32), places, total


def nearest(stars, places: np.ndarray) -> np.ndarray:
    return np.argmin(np.hypot(stars.y[:, None] - places[:, 0], stars.x[:, None] - places[:, 1]), axis=1)


def test_centroids_are_true_within_their_noise():
    flux, sigma, places, total = field()
    stars = find_stars(flux, sigma, np.zeros(SHAPE, np.uint16))
    assert len(stars) == len(places)
    of = nearest(stars, places)
    error = np.column_stack([stars.y, stars.x]) - places[of]
    bright = total[of] > 3000
    assert np.sqrt(np.mean(error[bright] ** 2)) < 0.03
    assert np.abs(error).max() < 0.5


def test_stars_come_brightest_first_and_their_order_is_the_true_one():
    flux, sigma, places, total = field(2)
    stars = find_stars(flux, sigma, np.zeros(SHAPE, np.uint16))
    assert (np.diff(stars.flux[:20]) < 0).all()
    np.testing.assert_array_equal(nearest(stars, places)[:10], np.argsort(-total)[:10])


def test_isolated_round_stars_are_clean_and_pairs_are_not():
    flux, sigma, places, _ = field(3)
    y, x = np.rint(places[-1]).astype(int)
    flux[y - 12 : y + 13, x - 6 : x + 19] += 9000 * moffat(25, 2.8)
    stars = find_stars(flux, sigma, np.zeros(SHAPE, np.uint16))
    near = np.hypot(stars.y - y, stars.x - x) < 9
    assert near.sum() >= 1
    assert not stars.is_clean[near].any()
    assert stars.is_clean[~near].mean() > 0.9


def test_nothing_is_found_on_masked_pixels_and_nothing_clean_beside_saturation():
    flux, sigma, places, _ = field(4)
    mask = np.zeros(SHAPE, np.uint16)
    y, x = np.rint(places[10]).astype(int)
    mask[y - 8 : y + 9, x - 8 : x + 9] = MaskBit.BAD
    v, u = np.rint(places[-1]).astype(int)
    mask[v, u] = MaskBit.SATURATED
    stars = find_stars(flux, sigma, mask)
    assert not (np.hypot(stars.y - y, stars.x - x) < 5).any()
    assert not stars.is_clean[np.hypot(stars.y - v, stars.x - u) < 4].any()


def test_noise_has_no_stars_and_an_empty_list_can_be_used():
    rng = np.random.default_rng(5)
    stars = find_stars(
        rng.normal(0, 1, SHAPE).astype(np.float32), np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.uint16)
    )
    assert len(stars) == 0
    assert len(stars[stars.is_clean]) == 0
    assert type(stars).from_table(stars.to_table()).snr.shape == (0,)


def test_a_table_brings_every_column_back():
    flux, sigma, _, _ = field(6)
    stars = find_stars(flux, sigma, np.zeros(SHAPE, np.uint16))
    back = type(stars).from_table(stars.to_table())
    for name in ("y", "x", "flux", "flux_error", "fwhm", "elongation", "peak", "is_clean"):
        np.testing.assert_array_equal(getattr(back, name), getattr(stars, name))


def test_scaled_stars_keep_their_signal_to_noise():
    flux, sigma, _, _ = field(7)
    stars = find_stars(flux, sigma, np.zeros(SHAPE, np.uint16))
    moved = stars.moved(stars.y + 1, stars.x, scale=3)
    np.testing.assert_allclose(moved.snr, stars.snr)
    np.testing.assert_allclose(moved.flux, 3 * stars.flux)
    np.testing.assert_allclose(moved.y - stars.y, 1)


def test_hot_pixels_do_not_decide_the_typical_width():
    assert typical_fwhm(np.array([0.5] * 30 + [2.4, 2.5, 2.6])) == pytest.approx(2.5)


def test_galaxies_do_not_widen_the_stars():
    rng = np.random.default_rng(5)
    stars = rng.normal(3.0, 0.1, 60)
    galaxies = rng.uniform(3.3, 10.0, 110)
    assert stellar_fwhm(np.concatenate([stars, galaxies, [0.5, 0.9]])) == pytest.approx(3.0, abs=0.1)
    assert stellar_fwhm(np.array([2.0, 3.0, 7.0])) == 3.0  # too few to crowd anywhere
    assert stellar_fwhm(np.empty(0)) == 2.5
