from dataclasses import replace

import numpy as np
import pytest

from astrid.image import Difference, Image, field_terms
from astrid.imaging.photometry import psf_flux
from astrid.imaging.psf import VaryingPsf, judged, measure_psf, moffat
from astrid.imaging.psffield import carried_terms, shape_changes, with_local_psf
from astrid.imaging.stars import find_stars
from astrid.simulation.psf import MoffatPsf, add_points

SIDE = 512
MASK = np.zeros((SIDE, SIDE), np.uint16)
PLACES = [(y, x) for y in (40.0, 256.0, 470.0) for x in (40.0, 256.0, 470.0)]


def true_psf(y: float, x: float, variation: float) -> MoffatPsf:
    v, u = y / SIDE - 0.5, x / SIDE - 0.5
    return MoffatPsf(2.8 * (1 + variation * (u + 0.4 * v)), 3.0, 0.08 + 0.5 * variation * (v + 0.5), 30.0)


def image(variation: float, seed: int, *, n: int, corner: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Stars in white noise, each with the PSF of its place and its photon noise."""
    rng = np.random.default_rng(seed)
    light = np.zeros((SIDE, SIDE))
    for y, x, flux in zip(*rng.uniform(0, corner * SIDE, (2, n)), 10 ** rng.uniform(3.2, 5, n), strict=True):
        add_points(light, np.array([y]), np.array([x]), np.array([flux]), true_psf(y, x, variation))
    variance = 4.0 + light
    return (light + rng.normal(0, np.sqrt(variance))).astype(np.float32), variance.astype(np.float32)


def measured(flux: np.ndarray, variance: np.ndarray, *, vary: bool = True):
    return measure_psf(
        flux, variance, MASK, find_stars(flux, np.full_like(flux, 2.0), MASK), size=35, fwhm=3.0, vary=vary
    )


def error(psf, variation: float) -> float:
    """Relative error of a PSF over the field."""
    off = []
    for y, x in PLACES:
        true = true_psf(y, x, variation).image((35, 35))
        off.append(((psf.at(y, x) - true) ** 2).sum() / (true**2).sum())
    return float(np.sqrt(np.mean(off)))


@pytest.fixture(scope="module")
def varying():
    return image(0.15, 1, n=150)


def test_a_psf_that_varies_is_followed_over_the_field(varying):
    one, own = measured(*varying, vary=False), measured(*varying)
    assert isinstance(own, VaryingPsf)
    assert "order" in own.origin
    assert error(one, 0.15) > 0.05
    assert error(own, 0.15) < 0.4 * error(one, 0.15)
    for y, x in PLACES:
        assert own.at(y, x).sum() == pytest.approx(1, abs=1e-4)


def test_the_error_it_says_of_itself_is_the_true_one(varying):
    for vary in (False, True):
        found = measured(*varying, vary=vary)
        true = [
            np.sqrt(((found.at(y, x) - t) ** 2).sum() / (t**2).sum())
            for y, x in PLACES
            for t in [true_psf(y, x, 0.15).image((35, 35))]
        ]
        assert found.quality.error == pytest.approx(np.median(true), rel=0.6, abs=0.01)
        assert 0.9 < found.quality.chi2 < 1.6
        assert found.quality.n_stars > 40


@pytest.mark.parametrize("seed", [2, 3])
def test_a_psf_that_does_not_vary_is_left_constant(seed):
    found = measured(*image(0.0, seed, n=150))
    assert "constant" in found.origin
    assert found.terms is None
    assert found.quality.error < 0.02


@pytest.mark.parametrize(("n", "corner"), [(9, 1.0), (150, 0.4)])
def test_few_stars_or_stars_in_one_corner_tell_nothing_of_the_field(n, corner):
    found = measured(*image(0.15, 4, n=n, corner=corner))
    assert found.terms is None
    assert found.origin.startswith(("stars", "moffat"))


def test_a_supplied_psf_is_judged_by_the_stars():
    flux, variance = image(0.0, 5, n=80)
    stars = find_stars(flux, np.full_like(flux, 2.0), MASK)
    right, wrong = (
        judged(psf, flux, variance, MASK, stars, fwhm=3.0)
        for psf in (true_psf(0, 0, 0.0).image((35, 35)), moffat(35, 3.6))
    )
    assert right.error < 0.02
    assert wrong.error > 0.1
    assert wrong.chi2 > 1.5 * right.chi2
    assert np.isnan(judged(moffat(35, 3.0), flux, variance, MASK, stars[:2], fwhm=3.0).error)


def test_changes_of_shape_neither_add_light_nor_move_it():
    psf = MoffatPsf(3.0, 3.0).image((41, 41)).astype(float)
    y, x = np.indices(psf.shape) - 20
    for change in shape_changes(psf):
        assert abs(change.sum()) < 1e-12
        assert abs((change * y).sum()) + abs((change * x).sum()) < 1e-6
    wider = MoffatPsf(3.06, 3.0).image((41, 41)) - psf
    best = np.linalg.lstsq(shape_changes(psf).reshape(6, -1).T, wider.ravel(), rcond=None)[0]
    left = wider - np.tensordot(best, shape_changes(psf), axes=1)
    assert (left**2).sum() < 0.01 * (wider**2).sum()


def test_terms_of_the_place_are_zero_on_average():
    y, x = (np.ravel(part) for part in np.indices((101, 81)))
    assert np.abs(field_terms(y, x, (101, 81)).mean(axis=0)).max() < 0.03


def test_the_flux_of_a_difference_is_right_wherever_the_psf_is_known():
    psf, wide = moffat(35, 3.0), moffat(35, 4.0)
    terms = np.zeros((5, 35, 35), np.float32)
    terms[1] = 3 * shape_changes(psf.astype(float))[0]
    science = Image(np.zeros((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32), MASK, psf, psf_terms=terms)
    # what makes the one PSF the other is a convolution with a narrow kernel, which the light at each place undergoes
    y, x = np.full(3, 250.0), np.array([30.0, 255.5, 480.0])
    local = science.psf_at(y, x)
    np.testing.assert_allclose(local.sum(axis=(1, 2)), 1, atol=1e-3)
    kernel = np.fft.rfft2(np.fft.ifftshift(wide)) / np.fft.rfft2(np.fft.ifftshift(psf))
    flux = np.zeros((SIDE, SIDE), np.float32)
    for row, column, one in zip(y, np.rint(x), local, strict=True):
        stamp = np.fft.fftshift(np.fft.irfft2(np.fft.rfft2(np.fft.ifftshift(one)) * kernel, psf.shape))
        flux[int(row) - 17 : int(row) + 18, int(column) - 17 : int(column) + 18] += 1000 * stamp
    plain = Difference(flux, science.variance, MASK, wide, flux)
    known = with_local_psf(plain, science)
    off, right = (
        psf_flux(flux, science.variance, MASK, d.psf_at(y, np.rint(x)), y, np.rint(x)).flux for d in (plain, known)
    )
    assert np.abs(off / 1000 - 1).max() > 0.03
    np.testing.assert_allclose(right, 1000, rtol=0.005)
    assert with_local_psf(plain, replace(science, psf_terms=None)) is plain
    left = carried_terms(psf, psf, terms) - terms
    assert (left**2).sum() < 0.05**2 * (terms**2).sum()
