from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from astrid.errors import AlgorithmError
from astrid.image import Image
from astrid.imaging.photometry import psf_flux
from astrid.imaging.psf import moffat
from astrid.schema import MaskBit
from astrid.subtraction.calibration import source_free, subtract_calibrated
from astrid.subtraction.zogy import Zogy

SIDE = 200
PSF = moffat(25, 2.8)


def image(seed: int, *, stars: float = 0.0, smooth: float = 0.0, side: int = SIDE, level: float = 0.0) -> Image:
    """White or correlated noise whose pixels scatter by one, with or without the same 25 stars."""
    noise = np.random.default_rng(seed).normal(0, 1, (side, side))
    if smooth:
        noise = ndimage.gaussian_filter(noise, smooth)
        noise /= noise.std()
    flux = noise + level
    if stars:
        for y, x in np.random.default_rng(99).integers(15, side - 15, (25, 2)):
            flux[y - 12 : y + 13, x - 12 : x + 13] += stars * PSF
    variance = np.ones((side, side), np.float32)
    return Image(flux.astype(np.float32), variance, np.zeros((side, side), np.uint16), PSF)


def width(significance: np.ndarray) -> float:
    return float(np.std(significance[20:-20, 20:-20]))


def test_white_noise_keeps_its_unit_width():
    difference, correlation = subtract_calibrated(Zogy(), image(1), image(2))
    assert correlation == pytest.approx(1, abs=0.05)
    assert width(difference.significance) == pytest.approx(1, abs=0.04)


def test_correlated_noise_is_measured_and_its_score_has_unit_width():
    difference, correlation = subtract_calibrated(Zogy(), image(3, smooth=0.8), image(4, smooth=0.8))
    assert correlation > 1.4
    assert width(difference.significance) == pytest.approx(1, abs=0.05)


def test_the_error_of_a_flux_is_its_scatter_where_noise_is_correlated():
    difference, _ = subtract_calibrated(Zogy(), image(5, smooth=0.8), image(6, smooth=0.8))
    y, x = (g.ravel().astype(float) for g in np.meshgrid(np.arange(20, 180, 8), np.arange(20, 180, 8)))
    fit = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, y, x)
    assert np.std(fit.flux / fit.error) == pytest.approx(1, abs=0.1)


def test_a_new_source_keeps_its_flux():
    science = image(7)
    science.flux[88:113, 88:113] += 300 * PSF
    difference, _ = subtract_calibrated(Zogy(), science, image(8))
    at = [100.0]
    fit = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, at, at)
    assert fit.flux[0] == pytest.approx(300, abs=4 * fit.error[0])
    assert fit.error[0] < 20


def test_new_sources_raise_no_level_that_would_lower_their_flux():
    places = np.arange(20, 181, 16)
    y, x = (g.ravel().astype(float) for g in np.meshgrid(places, places))
    fluxes = []
    for new in (0.0, 200.0):
        science = image(11)
        for row, column in zip(y.astype(int), x.astype(int), strict=True):
            science.flux[row - 12 : row + 13, column - 12 : column + 13] += new * PSF
        difference, _ = subtract_calibrated(Zogy(), science, image(12))
        fluxes.append(psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, y, x).flux)
    assert np.mean(fluxes[1] - fluxes[0]) == pytest.approx(200, rel=0.005)


def test_what_two_backgrounds_leave_is_taken_out():
    flat, _ = subtract_calibrated(Zogy(), image(9), image(10))
    tilted, _ = subtract_calibrated(Zogy(), image(9, level=0.4), image(10))
    assert abs(np.median(tilted.flux)) < 0.1
    assert np.abs(tilted.significance - flat.significance)[30:-30, 30:-30].max() < 0.5


def test_few_source_free_pixels_leave_the_stated_correlation():
    science = replace(image(11, side=30), noise_correlation=1.7)
    template = replace(image(12, side=30), noise_correlation=1.7)
    difference, correlation = subtract_calibrated(Zogy(), science, template)
    assert correlation == 1.7
    np.testing.assert_array_equal(difference.significance, Zogy()(science, template).significance)


def test_sources_and_masked_pixels_are_not_source_free():
    template = image(13, stars=3000)
    template.mask[5:9, 5:9] = 1
    difference = Zogy()(image(14, stars=3000), template)
    free = source_free(difference, template)
    for y, x in np.random.default_rng(99).integers(15, SIDE - 15, (25, 2)):
        assert not free[y, x]
    assert not free[5:9, 5:9].any()
    assert 0.3 < free.mean() < 0.95


def test_a_stamp_in_an_empty_grid_is_subtracted_like_the_stamp_alone():
    rng = np.random.default_rng(8)
    side, border = 60, 30
    images = []
    for noise in (1.0, 0.3):
        flux = rng.normal(0, noise, (side, side)).astype(np.float32)
        images.append(Image(flux, np.full(flux.shape, noise**2, np.float32), np.zeros(flux.shape, np.uint16), PSF))
    alone, width = subtract_calibrated(Zogy(), *images)
    grown = [
        Image(
            np.pad(image.flux, border),
            np.pad(image.variance, border, constant_values=1),
            np.pad(image.mask, border, constant_values=MaskBit.NO_DATA.value),
            PSF,
        )
        for image in images
    ]
    inside, same = subtract_calibrated(Zogy(), *grown)
    box = np.s_[border : border + side, border : border + side]
    assert same == width
    np.testing.assert_array_equal(inside.significance[box], alone.significance)
    assert (inside.mask != 0).sum() == inside.mask.size - side * side + (alone.mask != 0).sum()


def test_at_the_edge_of_the_data_stars_are_masked_and_new_sources_are_not():
    science, template = image(1), image(2)
    for one in (science, template):
        one.mask[:, :30] = MaskBit.NO_DATA
        one.flux[48:73, 30:46] += 400 * PSF[:, 9:]  # a star whose centre is 3 px from the edge
    science.flux[128:153, 30:46] += 100 * PSF[:, 9:]  # and a new source
    for one in (science, template):
        one.flux[:, :30] = 0
    difference, _ = subtract_calibrated(Zogy(), science, template)
    assert difference.mask[60, 33] == MaskBit.NEIGHBOUR
    assert difference.mask[140, 33] == 0
    assert difference.significance[140, 33] > 10


def test_variances_that_are_far_from_the_noise_are_refused_with_the_numbers():
    science, template = image(1), image(2)
    wrong = [replace(one, variance=one.variance * 400) for one in (science, template)]
    with pytest.raises(AlgorithmError, match=r"has 0\.0\d+ times the noise .* pixels between the sources"):
        subtract_calibrated(Zogy(), *wrong)
