import numpy as np
import pytest

from astrid.imaging.cosmicrays import find_cosmic_rays, neighbour_shares, sharper_than_stars
from astrid.imaging.psf import moffat
from astrid.simulation.psf import MoffatPsf, add_points

SHAPE = (200, 220)
SIGMA = np.ones(SHAPE, np.float32)
NOTHING = np.zeros(SHAPE, bool)


def field(fwhm: float, seed: int, *, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Stars of S/N 10 to 1000 at any sub-pixel place in white and photon noise, and the PSF."""
    rng = np.random.default_rng(seed)
    psf = MoffatPsf(fwhm, 3.5, 0.0, 0.0)
    flux = np.zeros(SHAPE)
    add_points(flux, rng.uniform(0, SHAPE[0], n), rng.uniform(0, SHAPE[1], n), 10 ** rng.uniform(1.5, 4, n), psf)
    flux += rng.normal(0, 1, SHAPE) * np.sqrt(1 + flux / 20)
    return flux.astype(np.float32), psf.image((25, 25))


def quiet_places(flux: np.ndarray, seed: int, n: int) -> np.ndarray:
    places = np.random.default_rng(seed).integers(15, 185, (400, 2))
    calm = [np.abs(flux[row - 2 : row + 3, column - 2 : column + 3]).max() < 4 for row, column in places]
    return places[calm][:n]


@pytest.mark.parametrize("fwhm", [1.8, 2.2, 3.0])
def test_the_cores_of_sharp_stars_are_no_cosmic_rays(fwhm):
    flux, psf = field(fwhm, 1)
    assert find_cosmic_rays(flux, SIGMA, NOTHING, psf=psf).sum() <= 2


@pytest.mark.parametrize("fwhm", [1.8, 2.2, 3.0])
def test_cosmic_rays_between_stars_are_found(fwhm):
    flux, psf = field(fwhm, 2)
    places = tuple(quiet_places(flux, 3, 40).T)
    flux[places] += 60
    assert np.mean(find_cosmic_rays(flux, SIGMA, NOTHING, psf=psf)[places]) > 0.95


def test_a_track_is_found_whole():
    flux, psf = field(3.0, 4, n=0)
    flux[100, 50:60] += 80
    hit = find_cosmic_rays(flux, SIGMA, NOTHING, psf=psf)
    assert hit[100, 50:60].mean() > 0.8
    assert hit.sum() <= 14


def test_known_pixels_are_not_returned():
    flux, psf = field(2.5, 5, n=0)
    mask = NOTHING.copy()
    flux[50, 50], mask[50, 50] = 500, True
    assert not find_cosmic_rays(flux, SIGMA, mask, psf=psf)[50, 50]


def test_a_wider_psf_leaves_more_light_beside_its_peak():
    sharp, wide = neighbour_shares(moffat(25, 2.0)), neighbour_shares(moffat(25, 4.0))
    assert 0 <= sharp[0] < wide[0] < 1
    assert sharp[1] < wide[1] < 4


def test_a_lone_pixel_is_sharper_than_stars_and_a_star_is_not():
    psf = moffat(25, 2.5)
    flux = np.zeros(SHAPE, np.float32)
    flux[50, 50] = 100
    flux[88:113, 88:113] = 1000 * psf
    sharp = sharper_than_stars(flux, SIGMA, psf)
    assert sharp[50, 50]
    assert not sharp[100, 100]
