"""What holds for every subtraction method. A new one joins METHODS."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.errors import AlgorithmError
from astrid.image import Image
from astrid.imaging.photometry import psf_flux, shifted_psfs
from astrid.schema import MaskBit
from astrid.subtraction.alard_lupton import AlardLupton
from astrid.subtraction.base import Subtractor
from astrid.subtraction.direct import Direct
from astrid.subtraction.sfft import Sfft
from astrid.subtraction.zogy import Zogy

EQUAL = (3.0, 3.0)  # FWHM of science and template
METHODS = [
    pytest.param(Zogy(), EQUAL, id="zogy-equal"),
    pytest.param(Zogy(), (3.4, 2.6), id="zogy-template-sharper"),
    pytest.param(Zogy(), (2.4, 3.2), id="zogy-science-sharper"),
    pytest.param(Direct(), EQUAL, id="direct"),
    *(
        pytest.param(cls(), fwhms, id=f"{name}-{case}")
        for cls, name in ((Sfft, "sfft"), (AlardLupton, "alard_lupton"))
        for fwhms, case in ((EQUAL, "equal"), ((3.4, 2.6), "template-sharper"), ((2.4, 3.2), "science-sharper"))
    ),
]
every_method = pytest.mark.parametrize(("method", "fwhms"), METHODS)


def gaussian(fwhm, side=21):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


def add_source(image, y, x, flux):
    """The image with a point source; noise unchanged."""
    out = image.flux.copy()
    half = image.psf.shape[0] // 2
    stamp = flux * shifted_psfs(image.psf, np.array([y]), np.array([x]))[0]
    cy, cx = round(y), round(x)
    out[cy - half : cy + half + 1, cx - half : cx + half + 1] += stamp.astype(np.float32)
    return replace(image, flux=out)


def noise_image(fwhm, sigma, seed, n=160, **fields):
    rng = np.random.default_rng(seed)
    return Image(
        flux=rng.normal(0, sigma, (n, n)).astype(np.float32),
        variance=np.full((n, n), sigma**2, np.float32),
        mask=np.zeros((n, n), np.uint16),
        psf=gaussian(fwhm),
        **fields,
    )


def scene(fwhm, sigma, seed, n=160, margin=20):
    """The same twelve stars in every image, whatever its seed."""
    image = noise_image(fwhm, sigma, seed, n)
    stars = np.random.default_rng(77)
    for _ in range(12):
        y, x = stars.uniform(margin, n - margin, 2)
        image = add_source(image, y, x, stars.uniform(100, 3000) * 5.0)
    return image


@every_method
def test_a_method_is_a_subtractor_that_survives_pickling(method, fwhms):
    assert isinstance(method, Subtractor)
    assert pickle.loads(pickle.dumps(method)) == method


@every_method
def test_an_image_minus_itself_is_zero(method, fwhms):
    image = scene(fwhms[0], 5.0, seed=1)
    difference = method(image, image)
    assert np.abs(difference.flux).max() < 1e-4 * np.abs(image.flux).max()
    assert np.abs(difference.significance).max() < 1e-2


@every_method
@settings(max_examples=10)
@given(
    y=st.floats(40, 120),
    x=st.floats(40, 120),
    flux=st.floats(200, 20_000) | st.floats(-20_000, -200),
    seed=st.integers(0, 1000),
)
def test_an_injected_flux_comes_out_within_its_error(method, fwhms, y, x, flux, seed):
    science, template = noise_image(fwhms[0], 5.0, seed), noise_image(fwhms[1], 3.0, seed + 5000)
    difference = method(add_source(science, y, x, flux), template)
    d = difference
    found = psf_flux(d.flux, d.variance, d.mask, d.psf, [y], [x])
    assert abs(found.flux[0] - flux) < 5 * found.error[0]
    before = method(science, template)
    change = psf_flux(before.flux, d.variance, d.mask, d.psf, [y], [x]).flux[0]
    assert found.flux[0] - change == pytest.approx(flux, rel=2e-3)
    score = d.significance[round(y), round(x)]
    assert np.sign(score - before.significance[round(y), round(x)]) == np.sign(flux)


@every_method
def test_the_score_of_pure_noise_has_unit_width(method, fwhms):
    science, template = noise_image(fwhms[0], 5.0, 3, n=512), noise_image(fwhms[1], 3.0, 4, n=512)
    score = method(science, template).significance[16:-16, 16:-16]
    assert score.std() == pytest.approx(1.0, abs=0.03)
    assert abs(score.mean()) < 0.03


@every_method
def test_the_flux_error_is_the_scatter_of_the_flux(method, fwhms):
    difference = method(noise_image(fwhms[0], 3.0, 3, n=512), noise_image(fwhms[1], 6.0, 4, n=512))
    y, x = (g.ravel().astype(float) for g in np.mgrid[20:490:9, 20:490:9])
    found = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, y, x)
    assert found.flux.std() / found.error.mean() == pytest.approx(1.0, abs=0.05)


@every_method
def test_noise_correlation_lowers_the_score_and_raises_the_error(method, fwhms):
    science, template = noise_image(fwhms[0], 5.0, 3), noise_image(fwhms[1], 5.0, 4)
    plain = method(science, template)
    correlated = method(replace(science, noise_correlation=1.5), replace(template, noise_correlation=1.5))
    np.testing.assert_allclose(correlated.significance * 1.5, plain.significance, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(correlated.variance, plain.variance * 2.25, rtol=1e-4)


@every_method
@pytest.mark.parametrize("side", ["science", "template"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_masked_blocks_do_not_spread(method, fwhms, side, value):
    images = {"science": scene(fwhms[0], 5.0, 1), "template": scene(fwhms[1], 3.0, 2)}
    clean = method(**images)
    hurt = copy.deepcopy(images[side])
    hurt.flux[60:64, 90:95] = value
    hurt.flux[100, 30] = value
    hurt.mask[60:64, 90:95] = MaskBit.SATURATED
    hurt.mask[100, 30] = MaskBit.BAD
    difference = method(**(images | {side: hurt}))
    for plane in (difference.flux, difference.variance, difference.significance):
        assert np.isfinite(plane).all()
    assert (difference.variance > 0).all()
    expected = MaskBit.SATURATED if side == "science" else MaskBit.TEMPLATE
    assert (difference.mask[60:64, 90:95] & expected).all()
    good = difference.mask == 0
    assert good.mean() > 0.9
    assert np.abs(difference.significance[good]).max() < 5.5
    far = np.ones_like(good)
    far[35:90, 65:120] = far[75:126, 5:56] = False
    assert np.abs(difference.significance - clean.significance)[far].max() < 0.1


@every_method
def test_unmasked_nan_is_masked_in_the_difference(method, fwhms):
    science, template = noise_image(fwhms[0], 5.0, 1), noise_image(fwhms[1], 5.0, 2)
    science.flux[50, 60] = np.nan
    difference = method(science, template)
    assert difference.mask[50, 60] & MaskBit.NO_DATA
    assert np.isfinite(difference.significance).all()


@every_method
def test_a_score_resting_on_masked_pixels_is_masked(method, fwhms):
    science, template = noise_image(fwhms[0], 5.0, 1), noise_image(fwhms[1], 5.0, 2)
    science.mask[60:90, 60:90] = MaskBit.BAD
    science.mask[60:90:29, 60:90] = 0
    science.mask[75, 75] = 0
    neighbour = method(science, template).mask & MaskBit.NEIGHBOUR
    assert neighbour[75, 75]
    assert not neighbour[40, 40]


@every_method
def test_shapes_that_differ_are_refused_with_both_shapes(method, fwhms):
    with pytest.raises(ValueError, match=r"\(64, 64\).*\(65, 65\)"):
        method(noise_image(3, 5.0, 1, n=64), noise_image(3, 5.0, 2, n=65))


@every_method
@pytest.mark.parametrize("side", ["science", "template"])
def test_an_image_without_good_pixels_is_an_error_with_numbers(method, fwhms, side):
    images = {"science": noise_image(3, 5.0, 1, n=64), "template": noise_image(3, 5.0, 2, n=64)}
    images[side].mask[:] = MaskBit.NO_DATA
    with pytest.raises(AlgorithmError, match=f"{side} has 0 good of 4096 pixels"):
        method(**images)


@every_method
def test_images_without_a_common_good_pixel_are_an_error(method, fwhms):
    science, template = noise_image(3, 5.0, 1, n=64), noise_image(3, 5.0, 2, n=64)
    science.mask[:32] = MaskBit.NO_DATA
    template.mask[32:] = MaskBit.NO_DATA
    with pytest.raises(AlgorithmError, match="0 of 4096 pixels are good in both"):
        method(science, template)


@every_method
def test_the_inputs_are_not_modified(method, fwhms):
    science, template = scene(fwhms[0], 5.0, 1), scene(fwhms[1], 5.0, 2)
    for image in (science, template):
        image.flux[40, 50] = np.nan
        image.mask[70, 70] = MaskBit.COSMIC_RAY
    before = copy.deepcopy((science, template))
    method(science, template)
    for image, kept in zip((science, template), before, strict=True):
        for name in ("flux", "variance", "mask", "psf"):
            np.testing.assert_array_equal(getattr(image, name), getattr(kept, name))


@every_method
@settings(max_examples=8)
@given(dy=st.integers(-12, 12), dx=st.integers(-12, 12))
def test_moving_both_images_moves_the_difference(method, fwhms, dy, dx):
    science, template = scene(fwhms[0], 5.0, 1, margin=40), scene(fwhms[1], 4.0, 2, margin=40)

    def moved(image):
        return replace(image, flux=np.roll(image.flux, (dy, dx), (0, 1)))

    still, shifted = method(science, template), method(moved(science), moved(template))
    inner = np.s_[40:-40, 40:-40]
    expected = np.roll(still.significance, (dy, dx), (0, 1))
    np.testing.assert_allclose(shifted.significance[inner], expected[inner], atol=2e-2)


@every_method
def test_images_smaller_than_the_psf_give_a_finite_difference(method, fwhms):
    difference = method(noise_image(fwhms[0], 5.0, 1, n=15), noise_image(fwhms[1], 5.0, 2, n=15))
    assert difference.significance.shape == (15, 15)
    assert np.isfinite(difference.significance).all()


@pytest.mark.parametrize("cls", [Zogy, Direct, Sfft, AlardLupton])
@pytest.mark.parametrize("ratio", [0, -1.0, np.nan])
def test_a_senseless_flux_ratio_is_refused(cls, ratio):
    with pytest.raises(ValueError, match="flux_ratio"):
        cls(flux_ratio=ratio)


@pytest.mark.parametrize("cls", [Zogy, Direct, Sfft, AlardLupton])
def test_the_flux_ratio_scales_the_template(cls):
    template = scene(3.0, 0.01, 2)
    science = replace(template, flux=template.flux * 2)
    difference = cls(flux_ratio=2.0)(science, template)
    assert np.abs(difference.flux).max() < 1e-3 * np.abs(science.flux).max()
