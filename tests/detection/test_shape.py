import numpy as np
import pytest
from scipy import signal

from astrid.detection.matched_filter import MatchedFilter
from astrid.detection.shape import fwhm_of_psf, is_point_like, median_ratio
from astrid.image import Difference
from astrid.imaging.photometry import shifted_psfs
from astrid.imaging.psf import moffat

PSF = moffat(25, 2.6)
SIGMA = 3.0


def difference(added: np.ndarray, seed: int = 0) -> Difference:
    rng = np.random.default_rng(seed)
    flux = (added + rng.normal(0, SIGMA, added.shape)).astype(np.float32)
    power = float((PSF.astype(float) ** 2).sum())
    score = signal.fftconvolve(flux, PSF[::-1, ::-1], mode="same") / (SIGMA * np.sqrt(power))
    return Difference(
        flux,
        np.full(flux.shape, SIGMA**2, np.float32),
        np.zeros(flux.shape, np.uint16),
        PSF,
        score.astype(np.float32),
    )


def stars(snr: float, n_side: int = 6, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stars of one S/N on a grid, each somewhere in its pixel."""
    rng = np.random.default_rng(seed)
    image = np.zeros((40 * n_side, 40 * n_side))
    y, x = (v.ravel() + 20 + rng.uniform(-0.5, 0.5, n_side**2) for v in np.mgrid[:n_side, :n_side] * 40.0)
    flux = snr * SIGMA / np.sqrt(float((PSF.astype(float) ** 2).sum()))
    for a, b, stamp in zip(y, x, shifted_psfs(PSF, y, x), strict=True):
        row, column = round(a) - 12, round(b) - 12
        image[row : row + 25, column : column + 25] += flux * stamp
    return image, y, x


@pytest.mark.parametrize(("snr", "share"), [(6, 0.9), (8, 0.9), (15, 0.95), (60, 0.97)])
@pytest.mark.parametrize("sign", [1, -1])
def test_stars_pass(snr, share, sign):
    kept, total = 0, 0
    for seed in range(6):
        image, y, x = stars(snr, seed=seed)
        found = is_point_like(difference(sign * image, seed), y, x, np.full(len(y), sign * snr), max_chi2=1.4)
        kept, total = kept + found.sum(), total + len(found)
    assert kept >= share * total


@pytest.mark.parametrize("height", [45, 60, 600])
def test_hot_pixels_do_not(height):
    image = np.zeros((240, 240))
    image[20::40, 20::40] = height
    assert len(MatchedFilter(max_chi2=None)(difference(image))) >= 30
    assert len(MatchedFilter()(difference(image))) <= 3


def test_tracks_do_not():
    image = np.zeros((240, 240))
    for k in range(-5, 6):
        image[20 + k :: 40, 20 + k :: 40] += 60
    assert len(MatchedFilter(max_chi2=None)(difference(image))) >= 30
    assert len(MatchedFilter()(difference(image))) <= 4


def test_what_is_twice_as_wide_does_not():
    image = np.zeros((240, 240))
    wide = moffat(31, 5.5)
    for row in range(20, 240, 40):
        for column in range(20, 240, 40):
            image[row - 15 : row + 16, column - 15 : column + 16] += 3000 * wide
    assert len(MatchedFilter(max_chi2=None)(difference(image))) >= 30
    assert len(MatchedFilter()(difference(image))) <= 2


def test_the_width_of_a_psf_is_measured_like_that_of_a_star():
    assert fwhm_of_psf(PSF, 2.6) == pytest.approx(2.6, rel=0.15)


@pytest.mark.parametrize("masked", [0.0, 0.3, 0.98])
@pytest.mark.parametrize("odd", ["", "rounded", "one is no number", "uneven"])
def test_the_median_by_a_sample_is_that_of_all(masked, odd):
    rng = np.random.default_rng(3)
    flux = rng.normal(0, 2, (701, 640)).astype(np.float32)
    variance = rng.uniform(0.5, 3, flux.shape).astype(np.float32)
    good = rng.random(flux.shape) >= masked
    if odd == "rounded":
        flux, variance = np.round(flux), np.ones_like(flux)
    elif odd == "one is no number":
        flux[np.nonzero(good)[0][7], np.nonzero(good)[1][7]] = np.nan
    elif odd == "uneven":
        flux[::8, ::8] *= 100  # the sample is no sample of the rest
    expected = np.median(np.abs(flux / np.sqrt(variance))[good])
    np.testing.assert_array_equal(median_ratio(flux, variance, good), float(expected))
