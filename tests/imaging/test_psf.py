import numpy as np
import pytest

from astrid.imaging.photometry import cut_windows, shifted_psfs
from astrid.imaging.psf import fit_fluxes, measure_psf, moffat, psf_fwhm, resized, transformed
from astrid.imaging.stars import find_stars
from astrid.simulation.psf import MoffatPsf

SHAPE = (330, 350)
MASK = np.zeros(SHAPE, np.uint16)
ONE = np.ones(SHAPE, np.float32)


def field(psf: np.ndarray, seed: int, *, n: int = 60, low: float = 3.3, high: float = 4.7) -> np.ndarray:
    """Stars at any sub-pixel place in white noise, with their photon noise."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(0, 1, SHAPE)
    half = psf.shape[0] // 2
    y, x = rng.uniform(half + 1, SHAPE[0] - half - 2, n), rng.uniform(half + 1, SHAPE[1] - half - 2, n)
    for row, column, total, stamp in zip(y, x, 10 ** rng.uniform(low, high, n), shifted_psfs(psf, y, x), strict=True):
        r, c = int(np.rint(row)), int(np.rint(column))
        model = np.maximum(total * stamp, 0)
        flux[r - half : r + half + 1, c - half : c + half + 1] += model + rng.normal(0, 1, model.shape) * np.sqrt(model)
    return flux.astype(np.float32)


@pytest.mark.parametrize(("fwhm", "ellipticity"), [(2.3, 0.0), (3.0, 0.1), (4.0, 0.05)])
def test_the_psf_of_stars_is_the_true_one(fwhm, ellipticity):
    true = MoffatPsf(fwhm, 3.5, ellipticity, 30.0).image((35, 35))
    flux = field(true, 1)
    found = measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=35, fwhm=fwhm)
    assert found.origin.startswith("stars")
    assert found.psf.sum() == pytest.approx(1, abs=1e-5)
    assert found.psf[17, 17] == pytest.approx(true[17, 17], rel=0.03)
    assert np.abs(found.psf - true).max() < 0.03 * true.max()
    assert psf_fwhm(found.psf) == pytest.approx(psf_fwhm(true), rel=0.02)


@pytest.mark.parametrize("seed", [5, 6])
def test_the_wings_of_an_elliptical_psf_are_elliptical(seed):
    true = MoffatPsf(3.0, 3.0, 0.15, 30.0).image((41, 41))
    flux = field(true, seed, low=5.0, high=6.0, n=25)
    found = measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=41, fwhm=3.0).psf
    y, x = np.indices(true.shape) - 20
    ring = (np.hypot(y, x) > 8.5) & (np.hypot(y, x) < 10.5)
    assert true[ring].std() > 0.25 * true[ring].mean()
    assert (found - true)[ring].std() < 0.2 * true[ring].mean()
    assert np.abs((found - true)[ring].mean()) < 0.12 * true[ring].mean()


def test_the_wings_of_a_round_psf_are_round():
    flux = field(moffat(35, 3.0), 7)
    found = measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=35, fwhm=3.0).psf
    y, x = np.indices(found.shape) - 17
    ring = (np.hypot(y, x) > 9.5) & (np.hypot(y, x) < 10.5)
    profile = np.polynomial.Polynomial.fit(np.hypot(y, x)[ring], found[ring], 2)(np.hypot(y, x)[ring])
    assert (found[ring] - profile).std() < 0.1 * profile.mean()


def displacement(psf: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Where a PSF correlates best with the true one: its displacement (y, x)."""
    power = np.fft.fft2(np.fft.ifftshift(psf)) * np.fft.fft2(np.fft.ifftshift(true)).conj()
    ky, kx = (2 * np.pi * np.fft.fftfreq(n) for n in psf.shape)
    at = np.zeros(2)
    for _ in range(5):  # Newton's steps to the peak of the correlation
        wave = (power * np.exp(1j * (ky[:, None] * at[0] + kx * at[1]))).ravel()
        k = np.stack(np.broadcast_arrays(ky[:, None], kx)).reshape(2, -1)
        at = at - np.linalg.solve(-(k * wave.real) @ k.T, -(k * wave.imag).sum(axis=1))
    return at


def test_the_measure_of_displacement_is_right():
    true = MoffatPsf(2.6, 3.5, 0.2, 30.0).image((35, 35))
    moved = shifted_psfs(true, np.array([0.03]), np.array([-0.02]))[0]
    np.testing.assert_allclose(displacement(moved, true), [0.03, -0.02], atol=2e-4)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(("fwhm", "ellipticity", "angle"), [(2.0, 0, 0), (2.6, 0, 0), (3.1, 0.2, 30), (3.1, 0.4, 70)])
def test_the_psf_is_centred_to_a_hundredth_of_a_pixel(seed, fwhm, ellipticity, angle):
    true = MoffatPsf(fwhm, 3.0, ellipticity, angle).image((35, 35))
    flux = field(true, seed, low=3.3, high=4.2, n=40)
    psf = measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=35, fwhm=fwhm).psf
    assert np.abs(displacement(psf, true)).max() < 0.01


def test_the_mean_psf_is_the_same_everywhere():
    flux = field(moffat(25, 2.5), 3)
    found = measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=25, fwhm=2.5)
    np.testing.assert_array_equal(found.at(0, 0), found.at(300, 200))


def test_without_stars_it_is_a_moffat_of_the_given_width():
    flux = np.random.default_rng(4).normal(0, 1, SHAPE).astype(np.float32)
    found = measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=25, fwhm=3.0)
    assert found.origin.startswith("moffat")
    np.testing.assert_array_equal(found.psf, moffat(25, 3.0))


@pytest.mark.parametrize("size", [8, 20, 7])
def test_an_even_or_tiny_side_is_refused(size):
    flux = np.zeros(SHAPE, np.float32)
    with pytest.raises(ValueError, match=str(size)):
        measure_psf(flux, ONE, MASK, find_stars(flux, ONE, MASK), size=size, fwhm=3.0)


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
def test_a_moffat_has_the_width_that_was_asked_for(fwhm):
    psf = moffat(61, fwhm).astype(float)
    y, x = np.indices(psf.shape) - 30
    profile = np.interp(fwhm / 2, np.arange(31), psf[30, 30:])
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    assert profile / psf[30, 30] == pytest.approx(0.5, abs=0.06)  # integrated over pixels, so a little wider
    assert abs((psf * y).sum()) + abs((psf * x).sum()) < 1e-6


def test_fitted_fluxes_leave_nothing_of_the_stars():
    psf = moffat(25, 2.6)
    flux = field(psf, 5, n=12)
    stars = find_stars(flux, ONE, MASK)
    use = stars[stars.is_clean]
    total, residual, model = fit_fluxes(flux, MASK, psf, use)
    left = np.nansum(residual, axis=(1, 2)) / total
    assert np.abs(np.median(left)) < 0.02
    np.testing.assert_allclose(model + residual, cut_windows(flux, use.y, use.x, psf.shape), atol=1e-3)


def test_a_psf_turned_and_turned_back_is_the_same():
    y, x = np.indices((61, 61)) - 30
    long = np.exp(-((x / 4.0) ** 2 + (y / 2.0) ** 2) / 2).astype(np.float32)
    angle = np.radians(40.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = transformed(long, turn, 61)
    moments = np.array([[(turned * a * b).sum() for a in (y, x)] for b in (y, x)])
    # steps of the tile become steps of the detector by `turn`, so the moments of the tile are its inverse's
    np.testing.assert_allclose(moments, turn.T @ np.diag([4.0, 16.0]) @ turn, atol=0.05)
    np.testing.assert_allclose(transformed(turned, turn.T, 61), long / long.sum(), atol=3e-5)


def test_a_psf_on_finer_pixels_is_wider_there():
    psf = moffat(61, 3.0)
    assert psf_fwhm(transformed(psf, np.eye(2) / 2, 121)) == pytest.approx(2 * psf_fwhm(psf), rel=0.02)


def test_a_psf_on_the_same_pixels_is_left_as_it_is():
    psf = moffat(35, 2.0)
    np.testing.assert_array_equal(transformed(psf, np.eye(2) * (1 + 1e-4), 35), psf / psf.sum())
    assert resized(psf, 21).shape == resized(moffat(15, 2.0), 21).shape == (21, 21)
