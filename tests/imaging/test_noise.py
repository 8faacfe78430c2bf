import numpy as np
import pytest
from scipy import ndimage

from astrid.image import Image
from astrid.imaging.noise import noise_correlation, white_noise
from astrid.imaging.psf import moffat

SHAPE = (256, 280)
GOOD = np.zeros(SHAPE, bool)


def noise(seed: int, sigma: float = 1.3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, SHAPE).astype(np.float32)


def image(flux: np.ndarray, sigma: float, fwhm: float = 2.5) -> Image:
    variance = np.full(SHAPE, sigma**2, np.float32)
    return Image(flux.astype(np.float32), variance, np.zeros(SHAPE, np.uint16), moffat(21, fwhm))


@pytest.mark.parametrize("digitised", [False, True])
def test_white_noise_is_what_was_put_in(digitised):
    flux, expected = noise(1), 1.3
    if digitised:
        flux, expected = np.rint(flux + 0.37), np.hypot(1.3, 12**-0.5)
    assert white_noise(flux.astype(np.float32), GOOD) == pytest.approx(expected, rel=0.02)


def test_a_curved_background_does_not_add_to_the_noise():
    y, x = np.indices(SHAPE)
    slope = (0.05 * x + 1e-3 * (y - 128) ** 2).astype(np.float32)
    assert white_noise(noise(2) + slope, GOOD) == pytest.approx(1.3, rel=0.02)


def test_excluded_pixels_do_not_count():
    flux, exclude = noise(3), GOOD.copy()
    exclude[50:150, 50:150] = True
    flux[exclude] *= 20
    assert white_noise(flux, exclude) == pytest.approx(1.3, rel=0.02)


@pytest.mark.parametrize("fwhm", [2.0, 4.0])
def test_white_noise_of_the_stated_variance_has_no_correlation(fwhm):
    assert noise_correlation(image(noise(4), 1.3, fwhm)) == pytest.approx(1, abs=0.06)


def test_understated_noise_shows():
    assert noise_correlation(image(noise(5, 2.6), 1.3)) == pytest.approx(2, rel=0.06)


def test_smoothed_noise_is_judged_by_what_the_psf_sees():
    psf = moffat(21, 2.5)
    white = noise(6, 1.0)
    smooth = ndimage.gaussian_filter(white, 0.8)
    scatter = float(smooth.std())
    kernel = np.zeros(SHAPE)
    kernel[118:139, 130:151] = psf
    expected = np.sqrt(np.sum(ndimage.gaussian_filter(kernel, 0.8) ** 2) / np.sum(psf.astype(float) ** 2)) / scatter
    assert expected > 1.5
    assert noise_correlation(image(smooth, scatter)) == pytest.approx(expected, rel=0.08)


def test_stars_do_not_make_noise_correlated():
    flux, rng = noise(7), np.random.default_rng(7)
    for y, x in rng.integers(15, 240, (60, 2)):
        flux[y - 10 : y + 11, x - 10 : x + 11] += 2000 * moffat(21, 2.5)
    assert noise_correlation(image(flux, 1.3)) == pytest.approx(1, abs=0.08)


def test_nothing_is_claimed_where_all_is_masked():
    masked = image(noise(8), 1.3)
    masked.mask[:] = 1
    assert noise_correlation(masked) == 1
