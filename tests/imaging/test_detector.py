import numpy as np
import pytest
from scipy import ndimage

from astrid.imaging.detector import bad_edges, dark_pixels, saturated_haloes
from astrid.imaging.psf import moffat
from astrid.imaging.stripes import stripes

SHAPE = (320, 384)
GOOD = np.zeros(SHAPE, bool)


def sky(seed: int, *, level: float = 357.0, sigma: float = 1.2) -> np.ndarray:
    return (level + np.random.default_rng(seed).normal(0, sigma, SHAPE)).astype(np.float32)


@pytest.mark.parametrize("digitised", [False, True])
def test_edges_of_a_flat_image_are_good(digitised):
    flux = sky(5, level=357.1)
    assert not bad_edges(np.rint(flux) if digitised else flux, GOOD).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_dark_lines_at_an_edge_are_bad_and_no_others(axis):
    flux = np.rint(sky(6))
    np.moveaxis(flux, axis, 0)[:4] -= np.array([60, 30, 15, 8])[:, None]
    bad = np.moveaxis(bad_edges(flux, GOOD), axis, 0)
    assert bad[:4].all()
    assert not bad[5:].any()


def test_a_background_that_slopes_to_the_edge_is_no_bad_edge():
    flux = sky(7) + np.linspace(0, 12, SHAPE[0], dtype=np.float32)[:, None]
    assert not bad_edges(flux, GOOD).any()


def test_pixels_without_data_at_the_edge_do_no_harm():
    flux = sky(8)
    flux[:6] = np.nan
    assert not bad_edges(flux, ~np.isfinite(flux))[6:].any()


def test_the_halo_of_a_saturated_star_is_given_up_as_far_as_it_shines():
    psf = moffat(121, 3.0)
    flux = sky(9, level=0, sigma=1)
    flux[100:221, 120:241] += 3e5 * psf
    saturated = flux > 5000
    halo = saturated_haloes(flux, 1.0, saturated)
    y, x = np.indices(SHAPE)
    distance = np.hypot(y - 160, x - 180)
    bright = (3e5 * np.interp(distance, np.arange(61), psf[60, 60:], right=0) > 8) & (distance < 39)
    assert halo[bright].all()
    assert not halo[distance > 45].any()


def test_a_bleeding_trail_goes_with_its_star():
    flux = sky(10, level=0, sigma=1)
    flux[150:170, 200:204] = 60000
    flux[135:185, 201] += 400
    halo = saturated_haloes(flux, 1.0, flux > 50000)
    assert halo[135:185, 201].all()
    assert halo.mean() < 0.01


def test_without_saturation_there_is_no_halo():
    assert not saturated_haloes(sky(11, level=0), 1.2, GOOD).any()


def test_stripes_are_measured_and_white_noise_has_none():
    rng = np.random.default_rng(12)
    noise = sky(12, level=0)
    assert (stripes(noise, GOOD) == 0).all()
    rows = rng.normal(0, 0.5, SHAPE[0]).astype(np.float32)
    found = stripes(noise + rows[:, None], GOOD)
    assert np.corrcoef(found[:, 0], rows)[0, 1] > 0.97
    left = noise + rows[:, None] - found
    assert left.mean(axis=1).std() < 0.3 * 0.5


def test_a_masked_image_has_no_stripes():
    assert (stripes(sky(13, level=0), ~GOOD) == 0).all()


def test_a_dead_column_is_dark_with_its_dim_neighbour_and_the_sky_is_not():
    rng = np.random.default_rng(4)
    flux = rng.normal(0, 1, (63, 63)).astype(np.float32)
    flux[:, 16] -= 8.5
    flux[:, 15] -= 4.5
    found = dark_pixels(flux, np.zeros(flux.shape, bool))
    assert found[:, 16].mean() > 0.95
    assert found[:, 15].mean() > 0.8
    assert not found[:, 20:].any()
    assert not found[:, :14].any()


def test_a_background_taken_too_high_is_not_dark():
    y, x = np.mgrid[:128, :128]
    noise = np.random.default_rng(5).normal(0, 1, (128, 128))
    flux = (noise - 12 * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / (2 * 20**2))).astype(np.float32)
    assert not dark_pixels(flux, np.zeros(flux.shape, bool)).any()


def test_correlated_noise_is_not_dark():
    white = np.random.default_rng(6).normal(0, 1, (512, 512))
    flux = ndimage.gaussian_filter(white, 0.8).astype(np.float32)
    assert not dark_pixels(flux, np.zeros(flux.shape, bool)).any()
