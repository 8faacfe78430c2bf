"""What holds for every method that fits a kernel."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from astrid.image import Image
from astrid.imaging.photometry import psf_flux
from astrid.schema import MaskBit
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.subtraction.alard_lupton import AlardLupton
from astrid.subtraction.direct import Direct
from astrid.subtraction.sfft import Sfft

SIDE = 320
SKY = 100.0
KERNEL_METHODS = pytest.mark.parametrize("cls", [Sfft, AlardLupton])


def psf_image(fwhm, side=33):
    return MoffatPsf(fwhm, 3.0, 0.0, 0.0).image((side, side)).astype(np.float32)


def field(fwhm, noise, seed, *, n_stars=90, varies=0.0, changed=(), new=(), zero=1.0):
    """The same stars whatever the seed; ``changed`` are (number, factor), ``new`` are (y, x, flux)."""
    stars = np.random.default_rng(5)
    y, x = stars.uniform(-5, SIDE + 5, (2, n_stars))
    flux = 10 ** stars.uniform(3.3, 5.3, n_stars)
    for number, factor in changed:
        flux[number] *= factor
    light = np.zeros((SIDE, SIDE))
    for i in range(n_stars):
        local = MoffatPsf(fwhm * (1 + varies * (x[i] / SIDE - 0.5)), 3.0, 0.0, 0.0)
        add_points(light, y[i : i + 1], x[i : i + 1], zero * flux[i : i + 1], local)
    for row, column, brightness in new:
        add_points(light, np.array([row]), np.array([column]), np.array([brightness]), MoffatPsf(fwhm, 3.0, 0.0, 0.0))
    variance = noise * (SKY + light)
    rng = np.random.default_rng(seed)
    counts = rng.normal(light, np.sqrt(variance)).astype(np.float32)
    image = Image(counts, variance.astype(np.float32), np.zeros(counts.shape, np.uint16), psf_image(fwhm))
    return image, y, x, flux


def off_stars(*images):
    light = np.sum([ndimage.gaussian_filter(image.flux, 1.5) for image in images], axis=0)
    away = ~ndimage.binary_dilation(light > 4 * np.median(np.abs(light)), iterations=7)
    away[:20] = away[-20:] = away[:, :20] = away[:, -20:] = False
    return away


def blank(fwhm):
    return Image(
        np.zeros((40, 40), np.float32), np.ones((40, 40), np.float32), np.zeros((40, 40), np.uint16), psf_image(fwhm)
    )


@KERNEL_METHODS
def test_the_sharper_image_is_convolved_unless_told_otherwise(cls):
    sharp, broad = blank(2.2), blank(3.1)
    assert cls().convolves_template(broad, sharp, 1.0, 1.0)
    assert not cls().convolves_template(sharp, broad, 1.0, 1.0)
    assert cls(convolve="template").convolves_template(sharp, broad, 1.0, 1.0)
    assert not cls(convolve="science").convolves_template(broad, sharp, 1.0, 1.0)


@KERNEL_METHODS
def test_of_two_that_are_about_as_sharp_the_one_with_less_noise_is_convolved(cls):
    sharp, broad = blank(2.2), blank(2.35)
    assert cls().convolves_template(sharp, broad, 4.0, 1.0)
    assert not cls().convolves_template(broad, sharp, 1.0, 4.0)
    assert not cls().convolves_template(sharp, broad, 1.1, 1.0)  # about as noisy: the sharper one


@KERNEL_METHODS
def test_correlated_noise_of_the_convolved_image_does_not_flatten_the_kernel(cls):
    """The ideal kernel between equal PSFs is a point, whatever the noise."""
    images = []
    for seed in (1, 2):
        clean, _, _, _ = field(2.6, 1e-9, seed)
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=clean.flux.shape), 0.9)
        noise *= np.sqrt(SKY) / noise.std()
        images.append(
            replace(clean, flux=(clean.flux + noise).astype(np.float32), variance=np.full_like(clean.flux, SKY))
        )
    kernels = []
    method = cls(convolve="template", order=0)

    class Watched(cls):
        def fit(self, pair):
            kernels.append(super().fit(pair).at(SIDE / 2, SIDE / 2))
            return super().fit(pair)

    difference = Watched(convolve=method.convolve, order=0)(*images)
    middle = len(kernels[0]) // 2
    assert kernels[0].sum() == pytest.approx(1, abs=0.01)
    assert kernels[0][middle, middle] == pytest.approx(1, abs=0.05)
    away = off_stars(*images) & (difference.mask == 0)
    assert away.sum() > 10_000


@KERNEL_METHODS
@pytest.mark.parametrize("fwhms", [(3.1, 2.2), (2.3, 3.0)], ids=["template-convolved", "science-convolved"])
def test_stars_vanish_where_the_psf_varies(cls, fwhms):
    science, y, x, _ = field(fwhms[0], 1.0, 1, varies=0.10)
    template, *_ = field(fwhms[1], 0.2, 2, varies=-0.05)
    difference = cls()(science, template)
    inside = (np.minimum(y, x) > 15) & (np.maximum(y, x) < SIDE - 16)
    score = ndimage.map_coordinates(difference.significance, [y[inside], x[inside]], order=1)
    assert np.median(np.abs(score)) < 1.1
    assert np.percentile(np.abs(score), 95) < 3.5
    assert np.abs(difference.significance[difference.mask == 0]).max() < 6.0
    plain = Direct()(science, template)
    assert np.percentile(np.abs(ndimage.map_coordinates(plain.significance, [y, x], order=1)), 95) > 20


@KERNEL_METHODS
def test_a_template_as_noisy_as_the_image_leaves_white_noise_and_a_score_of_unit_width(cls):
    science, *_ = field(3.2, 1.0, 3)
    template, *_ = field(2.2, 1.0, 4)
    difference = cls()(science, template)
    away = off_stars(science, template)
    assert difference.significance[away].std() == pytest.approx(1.0, abs=0.04)
    noise = np.where(away, difference.flux / np.sqrt(difference.variance), 0)
    power = (noise**2).sum()
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0)):
        both = away & np.roll(away, (dy, dx), (0, 1))
        correlation = (noise * np.roll(noise, (dy, dx), (0, 1)))[both].sum() / power * away.sum() / both.sum()
        assert abs(correlation) < 0.03


@KERNEL_METHODS
def test_a_star_that_varies_is_left_out_of_the_fit_and_found(cls):
    template, y, x, flux = field(2.2, 0.2, 6)
    inside = np.flatnonzero((np.minimum(y, x) > 40) & (np.maximum(y, x) < SIDE - 40))
    brightest = inside[np.argsort(flux[inside])[-3]]
    still, *_ = field(3.1, 1.0, 5)
    varied, *_ = field(3.1, 1.0, 5, changed=[(brightest, 1.15)])
    difference, calm = cls()(varied, template), cls()(still, template)
    found = psf_flux(
        difference.flux, difference.variance, difference.mask, difference.psf, [y[brightest]], [x[brightest]]
    )
    assert found.flux[0] == pytest.approx(0.15 * flux[brightest], rel=0.03, abs=5 * found.error[0])
    others = np.ones((SIDE, SIDE), bool)
    others[int(y[brightest]) - 20 : int(y[brightest]) + 21, int(x[brightest]) - 20 : int(x[brightest]) + 21] = False
    others &= calm.mask == 0
    assert np.abs(difference.significance[others]).max() < np.abs(calm.significance[others]).max() + 1.0


@KERNEL_METHODS
def test_new_sources_are_not_absorbed_by_the_fit(cls):
    template, *_ = field(2.2, 0.2, 8)
    new = [(40.0 + 60 * (i // 5), 35.0 + 60 * (i % 5), 30_000.0) for i in range(25)]
    with_new, *_ = field(3.1, 1.0, 7, new=new)
    difference = cls()(with_new, template)
    y, x, flux = np.array(new).T
    found = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, y, x)
    assert np.median(found.flux / flux) == pytest.approx(1.0, abs=0.01)


@KERNEL_METHODS
@pytest.mark.parametrize("fwhms", [(3.1, 2.2), (2.3, 3.0)], ids=["template-convolved", "science-convolved"])
def test_a_ratio_of_fluxes_is_fitted_and_the_difference_stays_in_the_unit_of_the_science_image(cls, fwhms):
    template, *_ = field(fwhms[1], 0.2, 8)
    science, *_ = field(fwhms[0], 1.0, 7, zero=1.2, new=[(160.0, 30.0, 20_000.0)])
    difference = cls()(science, template)
    found = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, [160.0], [30.0])
    assert found.flux[0] == pytest.approx(20_000, rel=0.02)
    assert np.percentile(np.abs(difference.significance[difference.mask == 0]), 99.9) < 6.0 + 60  # the new source alone


@KERNEL_METHODS
def test_nan_pixels_do_not_spoil_the_fit(cls):
    science, *_ = field(3.1, 1.0, 1)
    template, *_ = field(2.2, 0.2, 2)
    clean = cls()(science, template)
    rng = np.random.default_rng(9)
    hurt = []
    for image in (science, template):
        holes = rng.uniform(size=image.flux.shape) < 1e-3
        holes[:, rng.integers(20, SIDE - 20)] = True
        flux = image.flux.copy()
        flux[holes] = np.nan
        hurt.append(replace(image, flux=flux, mask=np.where(holes, MaskBit.BAD.value, 0).astype(np.uint16)))
    difference = cls()(*hurt)
    for plane in (difference.flux, difference.variance, difference.significance):
        assert np.isfinite(plane).all()
    good = difference.mask == 0
    assert good.mean() > 0.9
    assert np.abs(difference.significance[good]).max() < np.abs(clean.significance).max() + 1.5


@KERNEL_METHODS
def test_registration_errors_lower_the_score_of_stars_alone(cls):
    science, *_ = field(3.1, 1.0, 1)
    template, *_ = field(2.2, 0.2, 2)
    sure = cls()(science, template).significance
    unsure = cls()(replace(science, astrometric_rms=0.2), template).significance
    away = off_stars(science, template)
    assert np.abs(unsure[~away]).std() < 0.9 * np.abs(sure[~away]).std()
    assert (np.abs(unsure[away] - sure[away]) < 0.3).mean() > 0.99


@KERNEL_METHODS
@pytest.mark.parametrize(
    ("field_name", "value"),
    [("convolve", "both"), ("half_width", 0), ("order", 5), ("flux_order", 3), ("background_order", -1),
     ("model_error", -0.1), ("model_error", "guess"), ("usual_model_error", -1.0), ("neighbour_fraction", 0.0)],
)  # fmt: skip
def test_senseless_settings_are_refused(cls, field_name, value):
    with pytest.raises(ValueError, match=field_name):
        cls(**{field_name: value})
