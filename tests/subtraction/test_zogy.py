from dataclasses import replace

import numpy as np
import pytest

from astrid.errors import AlgorithmError
from astrid.image import Image
from astrid.imaging.photometry import psf_flux, shifted_psfs
from astrid.schema import MaskBit
from astrid.simulation.psf import MoffatPsf
from astrid.subtraction.base import InSteps
from astrid.subtraction.zogy import Zogy


def gaussian(fwhm, side=25):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


def stars(fwhm, sigma, seed, n=300, count=60, gain=2.0, true_fwhm=None, scale=1.0, shift=0.0, brightest=1e5):
    """The same stars in every image, with photon noise that the variance knows."""
    where = np.random.default_rng(9)
    y, x = where.uniform(20, n - 20, (2, count))
    flux = np.minimum(300 * where.pareto(0.7, count) + 300, brightest)
    image = np.zeros((n, n))
    psf = gaussian(true_fwhm or fwhm)
    half = psf.shape[0] // 2
    for f, cy, cx, stamp in zip(flux, y, x, shifted_psfs(psf, y + shift, x + shift), strict=True):
        iy, ix = round(cy + shift), round(cx + shift)
        image[iy - half : iy + half + 1, ix - half : ix + half + 1] += f * stamp
    variance = sigma**2 + image / gain
    noise = np.random.default_rng(seed).normal(0, 1, (n, n)) * np.sqrt(variance)
    full = Image(
        flux=(scale * image + noise).astype(np.float32),
        variance=variance.astype(np.float32),
        mask=np.zeros((n, n), np.uint16),
        psf=gaussian(fwhm),
    )
    return full, y, x, flux


@pytest.mark.parametrize(("fwhm_n", "fwhm_r"), [(3.4, 2.6), (2.4, 3.4), (3.0, 3.0)])
@pytest.mark.parametrize("model_error", ["measured", 0.0])
def test_constant_stars_leave_no_five_sigma_peak_when_psfs_are_right(fwhm_n, fwhm_r, model_error):
    science, *_ = stars(fwhm_n, 10.0, 1)
    template, *_ = stars(fwhm_r, 6.0, 2)
    score = Zogy(model_error=model_error)(science, template).significance
    assert score.std() == pytest.approx(1.0, abs=0.03)
    assert np.abs(score).max() < 5.2


@pytest.mark.parametrize("flaw", [{"true_fwhm": 3.1}, {"scale": 1.03}])
def test_the_measured_model_error_covers_stars_and_leaves_the_sky_alone(flaw):
    science, y, x, _ = stars(3.0, 10.0, 1, **flaw)
    template, *_ = stars(2.6, 6.0, 2)
    trusting = Zogy(adapt=False, model_error=0.0)(science, template).significance
    honest = Zogy(adapt=False)(science, template).significance
    assert np.abs(trusting).max() > 8
    assert np.abs(honest).max() < 5.5
    sky = np.ones(science.flux.shape, bool)
    for cy, cx in zip(y.astype(int), x.astype(int), strict=True):
        sky[max(cy - 9, 0) : cy + 10, max(cx - 9, 0) : cx + 10] = False
    assert honest[sky].std() == pytest.approx(trusting[sky].std(), rel=2e-3)


def test_the_model_error_does_not_absorb_a_transient_in_an_empty_field_nor_one_varying_star():
    science, y, x, flux = stars(3.0, 10.0, 1, scale=1.02)
    template, *_ = stars(2.6, 6.0, 2)
    half = science.psf.shape[0] // 2
    changed = science.flux.copy()
    changed[150 - half : 151 + half, 150 - half : 151 + half] += 2000 * science.psf
    changed = replace(science, flux=changed)
    score, before = Zogy()(changed, template).significance, Zogy()(science, template).significance
    trusting = Zogy(model_error=0.0)(changed, template).significance
    assert score[150, 150] == pytest.approx(trusting[150, 150], rel=0.03)
    brightest = int(np.argmax(flux))
    iy, ix = round(y[brightest]), round(x[brightest])
    varied = science.flux.copy()
    varied[iy - half : iy + half + 1, ix - half : ix + half + 1] += 0.5 * flux[brightest] * science.psf
    after = Zogy()(replace(science, flux=varied), template).significance
    assert abs(before[iy, ix]) < 5
    assert after[iy, ix] > 8


def test_what_is_left_of_a_displacement_is_measured_and_taken_back():
    science, *_ = stars(3.0, 10.0, 1, shift=0.15)
    template, *_ = stars(2.6, 6.0, 2)
    aligned = Zogy(model_error=0.0)(science, template)
    assert np.abs(aligned.significance).max() < 5.2
    assert aligned.significance.std() == pytest.approx(1.0, abs=0.03)
    half = science.psf.shape[0] // 2
    changed = science.flux.copy()
    changed[150 - half : 151 + half, 150 - half : 151 + half] += 3000 * science.psf
    found = Zogy(model_error=0.0)(replace(science, flux=changed), template)
    new = found.flux - aligned.flux  # a source of the science image moves with it
    rows, columns = np.indices(new.shape)[:, 130:171, 130:171]
    light = new[130:171, 130:171] / new[130:171, 130:171].sum()
    assert (light * rows).sum() == pytest.approx(150 - 0.15, abs=0.03)
    assert (light * columns).sum() == pytest.approx(150 - 0.15, abs=0.03)


def test_exact_registration_is_left_alone():
    science, *_ = stars(3.0, 10.0, 1)
    template, *_ = stars(2.6, 6.0, 2)
    plain = Zogy(align=False)(science, template).significance
    assert np.abs(Zogy()(science, template).significance - plain).max() < 0.3


def test_astrometric_noise_covers_a_shift_of_its_size():
    science, *_ = stars(3.0, 10.0, 1, shift=0.15)
    template, *_ = stars(2.6, 6.0, 2)
    zogy = Zogy(adapt=False, model_error=0.0, align=False)
    assert np.abs(zogy(science, template).significance).max() > 8
    covered = zogy(replace(science, astrometric_rms=0.15), template).significance
    assert np.abs(covered).max() < 5.2
    assert covered.std() == pytest.approx(1.0, abs=0.03)


def test_source_noise_enters_the_flux_error():
    results = []
    for seed in range(60):
        science, y, x, flux = stars(3.0, 10.0, 100 + seed, n=80, count=3, gain=0.5)
        template, *_ = stars(2.6, 6.0, 500 + seed, n=80, count=3, gain=0.5)
        d = Zogy()(science, template)
        found = psf_flux(d.flux, d.variance, d.mask, d.psf, y, x)
        results.append(found.flux / found.error)
    assert flux.max() > 1000
    assert np.std(results) == pytest.approx(1.0, abs=0.15)


def test_the_score_at_a_source_is_its_flux_over_its_error():
    rng = np.random.default_rng(0)
    flat = np.full((128, 128), 25.0, np.float32)
    blank = np.zeros((128, 128), np.uint16)
    science = Image(np.zeros_like(flat), flat, blank, gaussian(3.5))
    science.flux[64 - 12 : 65 + 12, 64 - 12 : 65 + 12] = 500 * science.psf
    template = Image(rng.normal(0, 1e-3, flat.shape).astype(np.float32), flat, blank, gaussian(2.5))
    d = Zogy()(science, template)
    found = psf_flux(d.flux, d.variance, d.mask, d.psf, [64], [64])
    assert d.significance[64, 64] == pytest.approx(found.flux[0] / found.error[0], rel=1e-3)


def test_the_difference_is_white():
    science, template = stars(3.4, 10.0, 1, count=0)[0], stars(2.4, 4.0, 2, count=0)[0]
    d = Zogy()(science, template)
    power = np.abs(np.fft.fft2(d.flux / np.sqrt(d.variance))) ** 2 / d.flux.size
    rows = np.abs(np.fft.fftfreq(300))
    radius = np.hypot(rows[:, None], rows)
    for low, high in ((0.0, 0.1), (0.1, 0.25), (0.25, 0.4), (0.4, 0.7)):
        assert power[(radius >= low) & (radius < high)].mean() == pytest.approx(1.0, abs=0.06)


def test_stars_that_do_not_subtract_are_refused_with_the_numbers():
    science, *_ = stars(3.0, 10.0, 1, scale=2.2)
    template = replace(stars(2.6, 6.0, 2)[0], astrometric_rms=0.04)
    with pytest.raises(
        AlgorithmError, match=r"bright sources leave \d+% .* 30% are allowed.* registered to 0.000, 0.040 px"
    ):
        Zogy()(science, template)
    assert Zogy(max_model_error=2.0)(science, template).significance.shape == science.flux.shape


def winged(beta, side=31):
    return MoffatPsf(3.0, beta, 0.0, 0.0).image((side, side)).astype(np.float32)


def with_wings(science_beta, given_beta, seed=3, snr=0.0):
    """A pair with one bright star, whose wings the PSF that is given for the science image does not have."""
    rng = np.random.default_rng(seed)
    images, sigma, n = [], 10.0, 256
    for beta, given in ((science_beta, given_beta), (3.0, 3.0)):
        flux = rng.normal(0, sigma, (n, n))
        light = np.zeros((n, n))
        for y, x in ((128, 128), (60, 60), (60, 200), (200, 60), (200, 200), (40, 128)):
            light[y - 15 : y + 16, x - 15 : x + 16] += 5e5 * winged(beta)
        if snr and not images:
            for y, x in ((128, 140), (100, 220)):  # in the wings of a star, and far from all
                light[y - 15 : y + 16, x - 15 : x + 16] += snr * 40 * winged(beta)
        flux += light + rng.normal(0, 1, (n, n)) * np.sqrt(light)
        variance = (sigma**2 + light).astype(np.float32)
        images.append(Image(flux.astype(np.float32), variance, np.zeros((n, n), np.uint16), winged(given)))
    return images


def test_wings_that_the_psf_does_not_know_are_no_sources():
    science, template = with_wings(science_beta=2.6, given_beta=3.0)
    trusting = Zogy(adapt=False, model_error=0.0)(science, template)
    honest = Zogy(adapt=False)(science, template)
    y, x = np.indices((256, 256))
    far = np.min([np.hypot(y - v, x - u) for v, u in ((128, 128), (60, 60), (200, 200))], axis=0)
    wings = (far > 5) & (far < 13)
    assert np.abs(trusting.significance[wings]).max() > 8
    assert np.abs(honest.significance[wings & (honest.mask == 0)]).max() < 5


def test_a_transient_in_the_wings_of_a_star_is_not_taken_for_them():
    science, template = with_wings(science_beta=3.0, given_beta=3.0, snr=25.0)
    trusting = Zogy(model_error=0.0)(science, template).significance
    honest = Zogy()(science, template).significance
    assert trusting[128, 140] > 8
    assert honest[128, 140] > 0.7 * trusting[128, 140]
    assert honest[100, 220] > 0.95 * trusting[100, 220]


@pytest.mark.parametrize("place", [(1, 150), (150, 298), (299, 80)])
def test_a_star_cut_by_the_frame_leaves_no_peak_that_is_not_flagged(place):
    flux = {}
    for name, fwhm, sigma, seed in (("science", 4.0, 10.0, 1), ("template", 2.6, 6.0, 2)):
        image, *_ = stars(fwhm, sigma, seed)
        half, (y, x) = 12, place
        padded = np.pad(image.flux, half)
        padded[y : y + 25, x : x + 25] += 5e4 * gaussian(fwhm)
        flux[name] = replace(image, flux=padded[half:-half, half:-half].astype(np.float32))
    difference = Zogy()(**flux)
    y, x = place
    around = np.s_[max(y - 30, 0) : y + 31, max(x - 30, 0) : x + 31]
    assert np.abs(difference.significance[around]).max() > 5
    assert np.abs(difference.significance[around][difference.mask[around] == 0]).max() < 5


def test_a_star_cut_by_the_edge_subtracts():
    images = []
    for fwhm, seed in ((3.4, 1), (2.4, 2)):
        rng = np.random.default_rng(seed)
        wide = np.zeros((140, 140), np.float32)
        stamp = 20_000 * gaussian(fwhm)
        wide[22 - 12 : 23 + 12, 70 - 12 : 71 + 12] += stamp
        flux = wide[20:120, 20:120] + rng.normal(0, 10, (100, 100)).astype(np.float32)
        variance = (100 + wide[20:120, 20:120]).astype(np.float32)
        images.append(Image(flux, variance, np.zeros((100, 100), np.uint16), gaussian(fwhm)))
    d = Zogy(model_error=0.0)(*images)
    assert np.abs(d.significance[d.mask == 0][:]).max() < 12  # 2000 sigma star


def test_a_saturated_star_leaves_no_peak_outside_its_mask():
    science, *_ = stars(3.0, 10.0, 1, brightest=1e6)
    template, *_ = stars(2.6, 6.0, 2, brightest=1e6)
    masks = []
    for image in (science, template):
        high = image.flux > 3000
        masks.append(np.where(high, MaskBit.SATURATED, 0).astype(np.uint16))
        image.flux[high] = 3000
    assert np.count_nonzero(masks[0]) > 20
    d = Zogy()(replace(science, mask=masks[0]), replace(template, mask=masks[1]))
    assert np.abs(d.significance[d.mask == 0]).max() < 5.5


def test_a_prepared_template_gives_the_same_difference():
    science, template = stars(3.0, 10.0, 1)[0], stars(2.6, 6.0, 2)[0]
    zogy = Zogy()
    once, prepared = zogy(science, template), zogy(science, template, zogy.prepare(template))
    for name in ("flux", "variance", "mask", "psf", "significance"):
        np.testing.assert_array_equal(getattr(once, name), getattr(prepared, name))
    with pytest.raises(ValueError, match="another template"):
        zogy(science, science, zogy.prepare(template))
    wide = replace(science, psf=gaussian(3.0, side=61))
    with pytest.raises(ValueError, match="science_psf_side=61"):
        zogy(wide, template, zogy.prepare(template))


@pytest.mark.parametrize(
    ("options", "close"),
    [({"adapt": False}, 0.02), ({}, 0.5)],  # the fit is weighted by the noise it was made with
)
def test_a_larger_noise_needs_no_second_subtraction(options, close):
    science, template = (
        replace(stars(fwhm, 10.0, seed)[0], astrometric_rms=0.05) for fwhm, seed in ((3.0, 1), (2.6, 2))
    )
    zogy = Zogy(**options)
    again = zogy(*(replace(image, noise_correlation=1.2) for image in (science, template)))
    finished = zogy.finished(zogy.parts(science, template), 1.2)
    assert isinstance(zogy, InSteps)
    np.testing.assert_array_equal(finished.mask, again.mask)
    assert (np.abs(finished.flux - again.flux) < close * np.sqrt(again.variance)).all()
    np.testing.assert_allclose(finished.variance, again.variance, rtol=1e-4)
    np.testing.assert_allclose(finished.significance, again.significance, atol=close)


@pytest.mark.parametrize(
    "options", [{"model_error": "guess"}, {"model_error": -1.0}, {"max_model_error": 0}, {"neighbour_fraction": 0.0}]
)
def test_senseless_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Zogy(**options)


def test_the_score_has_unit_width_at_the_edge_too():
    zogy = Zogy()
    edges = []
    for seed in range(40):
        d = zogy(stars(3.4, 10.0, seed, n=96, count=0)[0], stars(2.6, 6.0, seed + 900, n=96, count=0)[0])
        edges.append(np.r_[d.significance[:3].ravel(), d.significance[:, -3:].ravel()])
    assert np.std(edges) == pytest.approx(1.0, abs=0.04)
