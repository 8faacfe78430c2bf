import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from reproject import reproject_adaptive, reproject_interp
from scipy import ndimage, signal

from astrid.imaging.psf import moffat
from astrid.imaging.resampling import MASKED_SHARE, coordinate_map, pixel_area, resample
from astrid.schema import MaskBit

SHAPE = (96, 110)


def star(y: float, x: float, sigma: float = 1.2, flux: float = 1000.0) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    profile = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
    return (flux * profile / (2 * np.pi * sigma**2)).astype(np.float32)


def plain(flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return flux, np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.uint16)


def wcs_pair(*, angle: float, scale: float) -> tuple[WCS, WCS]:
    """A tile and a turned detector of smaller pixels, tangent at one place of the sky."""
    pair = []
    for turn, size in ((0.0, 1.0), (angle, 1 / scale)):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [150.0, 2.0]
        wcs.wcs.crpix = [56.3, 48.8]
        cosine, sine, step = np.cos(turn), np.sin(turn), size * 0.4 / 3600
        wcs.wcs.cd = np.array([[-cosine, sine], [sine, cosine]]) * step
        wcs.wcs.set()
        pair.append(wcs)
    return pair[0], pair[1]


@given(dy=st.floats(-3, 3), dx=st.floats(-3, 3), angle=st.floats(-0.02, 0.02), scale=st.floats(0.9, 1.1))
def test_flux_is_conserved_whatever_the_map(dy, dx, angle, scale):
    def to_native(y, x):
        v, u = y - 48, x - 55
        turned = v * np.cos(angle) - u * np.sin(angle), v * np.sin(angle) + u * np.cos(angle)
        return 48 + dy + scale * turned[0], 55 + dx + scale * turned[1]

    flux, _, _ = resample(*plain(star(48.3, 55.2, 1.6)), *coordinate_map(to_native, SHAPE))
    assert flux.sum(dtype=float) == pytest.approx(1000, rel=5e-4)


@pytest.mark.parametrize(("dy", "dx"), [(0.5, 0.5), (0.25, -0.4), (0.0, 0.5)])
def test_shifts_conserve_flux_to_tens_of_ppm(dy, dx):
    y, x = coordinate_map(lambda y, x: (y + dy, x + dx), SHAPE)
    flux, _, _ = resample(*plain(star(48.3, 55.2)), y, x)
    assert flux.sum(dtype=float) == pytest.approx(1000, rel=3e-5)


@pytest.mark.parametrize(("reference", "tolerance"), [("interp", 1e-4), ("adaptive", 0.02)])
def test_splines_agree_with_reproject_on_smooth_images(reference, tolerance):
    grid, detector = wcs_pair(angle=0.02, scale=1.05)
    smooth = star(48, 55, 6.0)
    there, _ = (
        reproject_interp((smooth.astype(float), detector), grid, shape_out=SHAPE, order="bicubic")
        if reference == "interp"  # the adaptive kernel smooths a little by itself
        else reproject_adaptive((smooth.astype(float), detector), grid, shape_out=SHAPE, kernel="gaussian")
    )

    def to_native(y, x):
        px, py = detector.world_to_pixel(grid.pixel_to_world(x, y))
        return py, px

    places = coordinate_map(to_native, SHAPE)
    surface = resample(*plain(smooth), *places)[0] / pixel_area(*places)
    inner = np.s_[8:-8, 8:-8]
    assert np.nanmax(np.abs(surface - there)[inner]) < tolerance * np.nanmax(there)


def turned(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 1.04 * y - 0.05 * x + 0.37, 0.05 * y + 0.97 * x - 1.41


def test_the_splines_and_the_variance_are_those_of_scipy_up_to_the_edges():
    rng = np.random.default_rng(1)
    flux, variance = rng.normal(0, 10, SHAPE).astype(np.float32), rng.uniform(1, 9, SHAPE).astype(np.float32)
    places = coordinate_map(turned, (90, 101))
    area = pixel_area(*places)
    new, new_variance, mask = resample(flux, variance, np.zeros(SHAPE, np.uint16), *places)
    inside = mask == 0
    assert 0.9 < inside.mean() < 1
    exact = ndimage.map_coordinates(flux.astype(float), places, order=3, mode="nearest") * area
    np.testing.assert_allclose(new[inside], exact[inside], atol=2e-5)
    exact = ndimage.map_coordinates(variance.astype(float), places, order=1, mode="nearest") * area
    np.testing.assert_allclose(new_variance, exact, rtol=2e-6)


def test_every_bit_goes_where_masked_pixels_hold_more_than_its_share():
    rng = np.random.default_rng(1)
    mask = np.zeros(SHAPE, np.uint16)
    mask[rng.random(SHAPE) < 0.02] |= MaskBit.BAD.value
    mask[rng.random(SHAPE) < 0.05] |= MaskBit.SATURATED.value
    mask[40:60, 70:] |= MaskBit.BAD.value
    places = coordinate_map(turned, (90, 101))
    _, _, new = resample(np.ones(SHAPE, np.float32), np.ones(SHAPE, np.float32), mask, *places)
    for bit in (MaskBit.BAD.value, MaskBit.SATURATED.value):
        share = ndimage.map_coordinates(((mask & bit) != 0).astype(float), places, order=1, mode="nearest")
        clear = np.abs(share - MASKED_SHARE) > 1e-6
        assert (((new & bit) != 0) == (share > MASKED_SHARE))[clear].all()


def test_both_methods_agree_on_a_sharp_star_and_conserve_its_flux():
    y, x = coordinate_map(lambda y, x: (y + 0.37, x - 0.41), SHAPE)
    fast, reference = (resample(*plain(star(48, 55)), y, x, method=method)[0] for method in ("spline", "reproject"))
    assert np.abs(fast - reference).max() < 1e-3 * reference.max()
    assert reference.sum(dtype=float) == pytest.approx(1000, rel=3e-5)


@pytest.mark.parametrize("scale", [1.0, 0.9, 1.15])
def test_the_scatter_that_the_psf_sees_is_what_the_variance_predicts(scale):
    shape = (640, 660)
    noise = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    tile = (int(620 / scale), int(640 / scale))
    y, x = coordinate_map(lambda y, x: (scale * y + 5.5, scale * x + 5.5), tile)
    flux, variance, _ = resample(noise, np.ones(shape, np.float32), np.zeros(shape, np.uint16), y, x)
    psf = moffat(25, 3.2 / scale).astype(float)
    filtered = signal.oaconvolve(flux, psf, mode="valid")
    predicted = np.sqrt(np.median(variance) * np.sum(psf**2))
    assert filtered.std() == pytest.approx(predicted, rel=0.02)


def test_the_fast_map_agrees_with_the_exact_coordinates():
    def to_native(y, x):  # distortion of 1e-5 per pixel, larger than that of survey cameras
        return y + 0.3 + 1e-5 * (x - 50) ** 2, x - 0.2 + 1e-5 * (y - 50) * (x - 50)

    y, x = coordinate_map(to_native, SHAPE)
    exact_y, exact_x = to_native(*np.indices(SHAPE).astype(float))
    assert max(np.abs(y - exact_y).max(), np.abs(x - exact_x).max()) < 1e-6


def test_variance_is_that_of_the_input_pixels_times_the_area():
    y, x = coordinate_map(lambda y, x: (1.2 * y - 8, 0.9 * x + 4), SHAPE)
    _, variance, mask = resample(*plain(star(48, 55)), y, x)
    np.testing.assert_allclose(variance[mask == 0], 1.2 * 0.9, rtol=1e-4)
    np.testing.assert_allclose(pixel_area(y, x), 1.2 * 0.9, rtol=1e-6)


@pytest.mark.parametrize("method", ["spline", "reproject"])
def test_what_lies_outside_is_marked_and_zero(method):
    y, x = coordinate_map(lambda y, x: (y - 10.5, x + 0.5), SHAPE)
    flux, variance, mask = resample(*plain(np.full(SHAPE, 7, np.float32)), y, x, method=method)
    assert ((mask[:10] & MaskBit.NO_DATA) != 0).all()
    assert (flux[:10] == 0).all()
    assert (mask[11:-2, 2:-2] == 0).all()
    np.testing.assert_allclose(flux[11:-2, 2:-2], 7, rtol=1e-5)
    assert (variance > 0).all()


def test_a_masked_pixel_marks_those_that_it_reaches_and_not_the_rest():
    flux, variance, mask = plain(star(48, 55))
    mask[30, 40] = MaskBit.BAD
    y, x = coordinate_map(lambda y, x: (y + 0.5, x + 0.5), SHAPE)
    _, _, new = resample(flux, variance, mask, y, x)
    assert ((new[29:31, 39:41] & MaskBit.BAD) != 0).all()
    reached = np.argwhere((new & MaskBit.BAD) != 0)
    assert np.abs(reached - [29.5, 39.5]).max() <= 2.5


def test_an_unknown_method_is_refused_by_name():
    y, x = coordinate_map(lambda y, x: (y, x), SHAPE)
    with pytest.raises(ValueError, match="nearest"):
        resample(*plain(star(48, 55)), y, x, method="nearest")
