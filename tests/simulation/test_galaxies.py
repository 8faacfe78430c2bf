import numpy as np
import pytest
from scipy import signal

from astrid.simulation.galaxies import Galaxies, add_galaxies, mixture
from astrid.simulation.psf import MoffatPsf


def one_galaxy(radius=3.0, axis_ratio=1.0, angle=0.0, is_bulge=False):
    one = [np.array([value]) for value in (0.0, 0.0)]
    return Galaxies(
        *one, np.ones((1, 1)), np.array([radius]), np.array([axis_ratio]), np.array([angle]), np.array([is_bulge])
    )


def draw(galaxies, psf, y=40.0, x=40.0, flux=1.0, side=81):
    image = np.zeros((side, side))
    add_galaxies(image, np.array([y]), np.array([x]), np.array([flux]), galaxies, psf)
    return image


def second_moments(image):
    rows, columns = np.indices(image.shape)
    total = image.sum()
    y, x = (image * rows).sum() / total, (image * columns).sum() / total
    return y, x, (image * (rows - y) ** 2).sum() / total, (image * (columns - x) ** 2).sum() / total


@pytest.mark.parametrize("is_bulge", [False, True])
def test_half_of_the_light_is_within_the_half_light_radius(is_bulge):
    flux, variance = mixture(is_bulge)
    assert (flux * (1 - np.exp(-0.5 / variance))).sum() == pytest.approx(0.5, abs=0.03)  # truncated at 8 radii


def convolve_on_fine_grid(profile_of, psf, *, over=7, half=20):
    """Convolve a profile of the distance from (20.3, 19.8) in real space and add it up over pixels."""
    side = (2 * half + 1) * over
    fine = (np.arange(side) - (side - 1) / 2) / over
    profile = profile_of(np.hypot(fine[:, None] - 0.3, fine[None, :] + 0.2))
    beam = MoffatPsf(psf.fwhm * over, psf.beta, psf.ellipticity, psf.angle).image((301, 301))
    smooth = signal.fftconvolve(profile, beam, mode="same")
    return smooth.reshape(2 * half + 1, over, 2 * half + 1, over).mean(axis=(1, 3))


def test_a_galaxy_is_the_convolution_of_profile_psf_and_pixel():
    psf, radius = MoffatPsf(2.6, ellipticity=0.1, angle=30), 3.0
    flux, variance = mixture(False)

    def gaussians(r):
        width = variance * radius**2
        return (flux / (2 * np.pi * width) * np.exp(-0.5 * r[..., None] ** 2 / width)).sum(axis=-1)

    expected = convolve_on_fine_grid(gaussians, psf)
    image = draw(one_galaxy(radius), psf, 20.3, 19.8, side=41)
    assert np.abs(image - expected).max() < 3e-3 * expected.max()


def test_a_disk_is_exponential():
    psf, scale = MoffatPsf(2.6), 3.0 / 1.678
    expected = convolve_on_fine_grid(lambda r: np.exp(-r / scale) / (2 * np.pi * scale**2), psf)
    image = draw(one_galaxy(3.0), psf, 20.3, 19.8, side=41)
    assert np.abs(image - expected).max() < 0.02 * expected.max()


@pytest.mark.parametrize("is_bulge", [False, True])
def test_galaxies_are_at_least_as_wide_as_the_psf(is_bulge):
    psf = MoffatPsf(3.0)
    star = psf.image((81, 81)).max()
    for radius in (0.05, 1.0, 3.0):
        peak = draw(one_galaxy(radius, is_bulge=is_bulge), psf).max()
        assert peak < star * 1.001
    assert draw(one_galaxy(0.02), psf).max() == pytest.approx(star, rel=0.01)  # a very small one is a star


def test_flux_and_position_of_a_galaxy_are_kept():
    image = draw(one_galaxy(2.0, 0.5, 40.0), MoffatPsf(2.5), 40.3, 39.6, flux=1e4)
    y, x, _, _ = second_moments(image)
    assert image.sum() == pytest.approx(1e4, rel=3e-3)
    assert (y, x) == pytest.approx((40.3, 39.6), abs=5e-3)


def test_a_galaxy_is_long_along_its_angle():
    psf = MoffatPsf(2.5)
    _, _, yy, xx = second_moments(draw(one_galaxy(3.0, 0.4, 0.0), psf))
    assert xx > 1.5 * yy
    _, _, yy, xx = second_moments(draw(one_galaxy(3.0, 0.4, 90.0), psf))
    assert yy > 1.5 * xx


def test_jacobian_turns_galaxies():
    psf, image = MoffatPsf(2.5), np.zeros((81, 81))
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    centre = np.array([40.0])
    add_galaxies(image, centre, centre, np.ones(1), one_galaxy(3.0, 0.4, 20.0), psf, jacobian=quarter)
    assert np.allclose(image, draw(one_galaxy(3.0, 0.4, 110.0), psf), atol=1e-9)


def test_a_galaxy_over_the_edge_gives_what_falls_inside():
    small = draw(one_galaxy(), MoffatPsf(2.5), -2.4, 10.0, side=30)
    large = draw(one_galaxy(), MoffatPsf(2.5), 27.6, 40.0, side=90)
    assert small.sum() > 0
    assert np.allclose(small, large[30:60, 30:60], atol=1e-9)
