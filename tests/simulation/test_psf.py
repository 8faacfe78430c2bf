import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.simulation.psf import MoffatPsf, add_points


@given(
    fwhm=st.floats(2.0, 5.0),
    beta=st.sampled_from([2.5, 3.0, 3.3, 4.0]),
    ellipticity=st.floats(0, 0.3),
    dy=st.floats(-0.5, 0.5),
    dx=st.floats(-0.5, 0.5),
)
def test_pixels_hold_the_integral_of_the_profile(fwhm, beta, ellipticity, dy, dx):
    psf = MoffatPsf(fwhm, beta, ellipticity, 30.0)
    stamp = psf.stamps(np.array([dy]), np.array([dx]), 4)[0]
    fine = (np.arange(9 * 15) + 0.5) / 15 - 4.5
    long, short = psf.core_radius / np.sqrt(1 - ellipticity), psf.core_radius * np.sqrt(1 - ellipticity)
    y, x = fine[:, None] - dy, fine[None, :] - dx
    along, across = x * np.cos(np.pi / 6) + y * np.sin(np.pi / 6), y * np.cos(np.pi / 6) - x * np.sin(np.pi / 6)
    profile = (beta - 1) / (np.pi * long * short) * (1 + (along / long) ** 2 + (across / short) ** 2) ** -beta
    expected = profile.reshape(9, 15, 9, 15).mean(axis=(1, 3))
    assert np.abs(stamp - expected).max() < 2e-3 * expected.max()


def test_psf_image_sums_to_one_and_is_centred():
    image = MoffatPsf(3.0, ellipticity=0.1, angle=20).image((25, 31))
    assert image.shape == (25, 31)
    assert image.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.unravel_index(image.argmax(), image.shape) == (12, 15)
    assert np.allclose(image, image[::-1, ::-1], rtol=1e-4)


def test_half_of_the_peak_is_reached_at_half_the_fwhm():
    psf = MoffatPsf(40.0)  # so wide that the pixel does not matter
    stamp = psf.stamps(np.zeros(1), np.zeros(1), 20)[0]
    assert stamp[20, 40] / stamp[20, 20] == pytest.approx(0.5, rel=1e-3)


def test_transfer_function_is_the_transform_of_the_image():
    psf = MoffatPsf(3.0, 3.3, 0.2, 35.0)
    side = 129
    image = psf.stamps(np.zeros(1), np.zeros(1), side // 2)[0]
    measured = np.fft.fft2(np.fft.ifftshift(image)).real
    k = np.fft.fftfreq(side)
    expected = psf.transfer(k[:, None], k[None, :])
    low = (np.abs(k[:, None]) < 0.3) & (np.abs(k[None, :]) < 0.3)  # above, the pixels alias
    assert np.abs(measured - expected)[low].max() < 2e-3


def test_flux_and_position_of_points_are_kept():
    image = np.zeros((61, 61))
    add_points(image, np.array([30.3]), np.array([29.6]), np.array([1e5]), MoffatPsf(2.5))
    rows, columns = np.indices(image.shape)
    assert image.sum() == pytest.approx(1e5, rel=2e-3)
    assert (image * rows).sum() / image.sum() == pytest.approx(30.3, abs=0.01)
    assert (image * columns).sum() / image.sum() == pytest.approx(29.6, abs=0.01)


def test_a_point_over_the_edge_gives_what_falls_inside():
    small, large = np.zeros((20, 20)), np.zeros((60, 60))
    add_points(small, np.array([-1.2]), np.array([19.7]), np.array([1e4]), MoffatPsf(3.0))
    add_points(large, np.array([18.8]), np.array([39.7]), np.array([1e4]), MoffatPsf(3.0))
    assert small.sum() > 0
    assert np.allclose(small, large[20:40, 20:40])


@pytest.mark.parametrize("wrong", [{"fwhm": 0.5}, {"fwhm": 3, "beta": 1.0}, {"fwhm": 3, "ellipticity": 1.0}])
def test_impossible_psf_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        MoffatPsf(**wrong)


def test_even_psf_image_is_refused():
    with pytest.raises(ValueError, match="odd"):
        MoffatPsf(3.0).image((24, 25))
