import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.image import Difference
from astrid.imaging.photometry import (
    cut_windows,
    depth_flux,
    equivalent_fwhm,
    flux_limit,
    is_detection,
    limiting_magnitude,
    magnitude,
    psf_flux,
    shifted_psfs,
)

reasonable = st.floats(-1e8, 1e8)


def gaussian(fwhm, side=21, dy=0.0, dx=0.0):
    r = np.arange(side) - side // 2
    psf = np.exp(-((r[:, None] - dy) ** 2 + (r - dx) ** 2) * 4 * np.log(2) / fwhm**2)
    return psf / psf.sum()


def blank(n=64, sigma=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, sigma, (n, n)), np.full((n, n), sigma**2), np.zeros((n, n), np.uint16)


@given(dy=st.floats(-0.5, 0.5), dx=st.floats(-0.5, 0.5))
def test_a_shifted_psf_is_the_psf_of_a_shifted_source(dy, dx):
    shifted = shifted_psfs(gaussian(3.0), np.array([30 + dy]), np.array([12 + dx]))[0]
    sy, sx = (v - np.rint(v) for v in (30 + dy, 12 + dx))
    np.testing.assert_allclose(shifted, gaussian(3.0, dy=sy, dx=sx), atol=1e-5)


@given(y=st.floats(15, 48), x=st.floats(15, 48), flux=reasonable.filter(lambda f: abs(f) > 1))
def test_a_source_without_noise_is_measured_exactly(y, x, flux):
    image = np.zeros((64, 64))
    cy, cx = round(y), round(x)
    image[cy - 10 : cy + 11, cx - 10 : cx + 11] = flux * gaussian(3.0, dy=y - cy, dx=x - cx)
    found = psf_flux(image, np.ones((64, 64)), np.zeros((64, 64), bool), gaussian(3.0), [y], [x])
    assert found.flux[0] == pytest.approx(flux, rel=1e-4)
    assert found.masked_fraction[0] == 0


def test_the_error_is_the_scatter_and_chi2_is_one():
    image, variance, mask = blank(n=400)
    y, x = (g.ravel() for g in np.mgrid[15:385:11.3, 15:385:11.7])
    found = psf_flux(image, variance, mask, gaussian(3.0), y, x)
    assert found.flux.std() / found.error.mean() == pytest.approx(1, abs=0.06)
    assert found.chi2.mean() == pytest.approx(1, abs=0.06)
    assert found.error[0] == pytest.approx(2.0 / np.sqrt((gaussian(3.0) ** 2).sum()), rel=1e-3)


def test_masked_pixels_and_nan_take_no_part():
    image, variance, mask = blank(sigma=0.1)
    image[22:43, 22:43] += 500 * gaussian(3.0)
    clean = psf_flux(image, variance, mask, gaussian(3.0), [32], [32])
    image[32, 33], image[31, 31], variance[33, 32] = 1e9, np.nan, np.nan
    mask[32, 33] = 2
    found = psf_flux(image, variance, mask, gaussian(3.0), [32.0], [32.0])
    assert found.flux[0] == pytest.approx(500, abs=5 * found.error[0])
    assert found.error[0] > clean.error[0]
    assert 0.1 < found.masked_fraction[0] < 0.6


def test_a_position_without_pixels_has_no_flux():
    image, variance, mask = blank()
    mask[:30] = 1
    found = psf_flux(image, variance, mask, gaussian(3.0), [10, 200, -3, 50], [32, 32, 32, 32])
    assert np.isnan(found.flux).tolist() == [True, True, True, False]
    assert np.isnan(found.error).tolist() == [True, True, True, False]
    assert found.masked_fraction[:2].tolist() == [1, 1]


def test_no_positions_give_empty_arrays():
    image, variance, mask = blank()
    assert psf_flux(image, variance, mask, gaussian(3.0), [], []).flux.shape == (0,)


def test_many_positions_come_back_in_order():
    image, variance, mask = blank(n=100)
    y, x = np.random.default_rng(1).uniform(5, 95, (2, 2500))
    together = psf_flux(image, variance, mask, gaussian(3.0), y, x)
    for i in (0, 1023, 1024, 2499):
        assert psf_flux(image, variance, mask, gaussian(3.0), y[i], x[i]).flux[0] == together.flux[i]


def test_arrays_that_do_not_match_are_refused():
    image, variance, mask = blank()
    with pytest.raises(ValueError, match=r"\(64, 64\).*\(63, 64\)"):
        psf_flux(image, variance, mask[1:], gaussian(3.0), [1], [1])
    with pytest.raises(ValueError, match=r"\(2,\).*\(1,\)"):
        psf_flux(image, variance, mask, gaussian(3.0), [1, 2], [1])
    with pytest.raises(ValueError, match="finite"):
        psf_flux(image, variance, mask, gaussian(3.0), [np.nan], [1])


@given(flux=reasonable, error=st.floats(1e-6, 1e8), n_sigma=st.floats(1, 10))
def test_a_limit_never_reads_as_a_detection_and_never_lies_below_the_flux(flux, error, n_sigma):
    limit = flux_limit(flux, error, n_sigma=n_sigma)
    assert np.isnan(limit) == is_detection(flux, error, n_sigma)
    if not np.isnan(limit):
        assert limit >= flux
        assert limit >= n_sigma * error


@pytest.mark.parametrize(("flux", "error"), [(np.nan, 1.0), (1.0, np.nan), (1.0, 0.0), (1.0, -1.0), (1.0, np.inf)])
def test_what_was_not_measured_is_neither_detection_nor_limit(flux, error):
    assert not is_detection(flux, error)
    assert np.isnan(flux_limit(flux, error))


def test_magnitudes_follow_the_zero_point():
    value, error = magnitude([3631e9, 1000.0, -5.0, 0.0], [3631e7, 100.0, 1.0, 1.0], 31.4)
    assert value[0] == pytest.approx(0, abs=1e-3)
    assert value[1] == pytest.approx(23.9)
    assert error[1] == pytest.approx(0.10857, abs=1e-4)
    assert np.isnan(value[2:]).all()
    assert np.isnan(error[2:]).all()
    value, error = magnitude(10.0, 1.0, np.nan)
    assert np.isnan(value)
    assert np.isnan(error)


def test_a_limiting_magnitude_is_the_magnitude_of_the_limit():
    limits = flux_limit([0.0, 1e5], [200.0, 200.0])
    assert limiting_magnitude(limits, 31.4)[0] == pytest.approx(23.9)
    assert np.isnan(limiting_magnitude(limits, 31.4)[1])


def test_depth_is_five_errors_of_a_psf_flux():
    image, variance, mask = (a.astype(t) for a, t in zip(blank(), (np.float32, np.float32, np.uint16), strict=True))
    variance[:20], mask[:20] = 1e9, 1
    difference = Difference(image, variance, mask, gaussian(3.0).astype(np.float32), image)
    expected = psf_flux(image, variance, mask, gaussian(3.0), [42], [32]).error[0]
    assert depth_flux(difference) == pytest.approx(5 * expected, rel=1e-3)
    assert depth_flux(difference, n_sigma=3) == pytest.approx(3 * expected, rel=1e-3)
    mask[:] = 1
    assert np.isnan(depth_flux(difference))


@given(fwhm=st.floats(2, 5))
def test_the_equivalent_fwhm_of_a_gaussian_is_its_fwhm(fwhm):
    assert equivalent_fwhm(gaussian(fwhm, side=41)) == pytest.approx(fwhm, rel=1e-2)


def test_windows_are_filled_outside_the_image():
    image = np.arange(12.0).reshape(3, 4)
    window = cut_windows(image, np.array([0.0]), np.array([3.2]), (3, 3), fill=-1)[0]
    assert window.tolist() == [[-1, -1, -1], [2, 3, -1], [6, 7, -1]]
