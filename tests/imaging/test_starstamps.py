import numpy as np
import pytest

from astrid.imaging.psf import measure_psf, psf_fwhm
from astrid.imaging.stars import find_stars
from astrid.imaging.starstamps import centred_on, cut_stars, like_stars, robust_mean, windowed_fwhm
from astrid.simulation.psf import MoffatPsf, add_points

SIDE = 700
MASK = np.zeros((SIDE, SIDE), np.uint16)
ONE = np.ones((SIDE, SIDE), np.float32)
PSF = MoffatPsf(2.6, 3.5)
N_STARS, N_GALAXIES = 22, 55


@pytest.fixture(scope="module")
def crowd():
    """Stars and twice as many galaxies, on a jittered grid: where the stars are, and the image."""
    rng = np.random.default_rng(1)
    cells = rng.permutation(81)[: N_STARS + N_GALAXIES]
    at = 40 + 75.0 * np.stack(np.divmod(cells, 9)) + rng.uniform(-10, 10, (2, len(cells)))
    flux = np.zeros((SIDE, SIDE))
    for i, (y, x) in enumerate(at.T):
        psf = PSF if i < N_STARS else MoffatPsf(rng.uniform(4.5, 9), 3.0)
        add_points(flux, np.array([y]), np.array([x]), 10 ** rng.uniform(3.7, 4.5, 1), psf)
    return at[:, :N_STARS], (flux + rng.normal(0, 1, flux.shape)).astype(np.float32)


def test_the_psf_is_that_of_the_stars_though_galaxies_outnumber_them(crowd):
    places, flux = crowd
    found = find_stars(flux, ONE, MASK)
    typical = float(np.median(found.fwhm))
    assert typical > 1.5 * PSF.fwhm
    seen = cut_stars(flux, ONE, MASK, found, size=35, fwhm=typical)
    distance = np.hypot(seen.y[:, None] - places[0], seen.x[:, None] - places[1]).min(axis=1)
    assert (distance < 0.3).all()
    assert len(seen) > 0.8 * N_STARS
    psf = measure_psf(flux, ONE, MASK, found, size=35, fwhm=typical).psf
    assert psf_fwhm(psf) == pytest.approx(psf_fwhm(PSF.image((35, 35))), rel=0.03)


@pytest.mark.parametrize("window", [2.5, 4.0, 7.0])
def test_the_width_in_a_window_is_the_same_for_faint_and_bright_stars_whatever_the_window(crowd, window):
    places, flux = crowd
    stars = find_stars(flux, ONE, MASK)
    near = np.hypot(stars.y[:, None] - places[0], stars.x[:, None] - places[1]).min(axis=1) < 1
    widths = windowed_fwhm(flux, stars[near], window)
    assert widths.std() < 0.05 * widths.mean()
    assert PSF.fwhm < np.median(widths) < 1.5 * PSF.fwhm  # the wings count for the more, the wider the window


def test_a_width_of_ten_like_ones_is_that_of_stars_and_of_two_nobody_can_tell():
    widths = np.concatenate([np.full(10, 3.0) + 0.01 * np.arange(10), np.linspace(4, 9, 20)])
    assert like_stars(widths).tolist() == [True] * 10 + [False] * 20
    assert like_stars(np.array([3.0, 9.0])).all()
    assert like_stars(np.empty(0)).shape == (0,)
    assert not like_stars(np.array([3.4, 3.5, 8.2, 8.9])).any()  # too few to crowd, and none at the middle


def test_stars_whose_places_are_wrong_are_put_where_the_mean_fits(crowd):
    flux = crowd[1]
    seen = cut_stars(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=35, fwhm=3.0)
    rng = np.random.default_rng(2)
    off = rng.uniform(-0.2, 0.2, (2, len(seen)))
    back = centred_on(robust_mean(seen), seen.moved(*off))
    assert np.abs(off).max() > 0.15
    assert np.median(np.hypot(back.y - seen.y, back.x - seen.x)) < 0.02


def test_one_star_unlike_the_others_does_not_count():
    flux = np.random.default_rng(3).normal(0, 1, (SIDE, SIDE))
    at = np.array([(y, x) for y in (100.0, 300.0, 500.0) for x in (100.0, 300.0, 500.0)]).T
    add_points(flux, *at, np.full(9, 2e4), PSF)
    flux[301:304, 300:303] += 2000.0
    image = flux.astype(np.float32)
    mean = robust_mean(cut_stars(image, ONE, MASK, find_stars(image, ONE, MASK), size=35, fwhm=3.0))
    assert mean.kept.sum() >= 8
    assert mean.psf.max() == pytest.approx(
        PSF.image((35, 35)).max() / PSF.image((35, 35))[12:23, 12:23].sum(), rel=0.03
    )
