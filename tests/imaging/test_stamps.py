from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from astrid.errors import AlgorithmError
from astrid.image import Exposure, ExposureInfo
from astrid.imaging.psf import psf_fwhm
from astrid.imaging.stamps import (
    StampPsfPrior,
    high_frequency_noise,
    moffat_stamp,
    resampled_correlation,
    stamp_cells,
)
from astrid.schema import MaskBit

SIDE = 63
INFO = ExposureInfo(
    exposure_id="1", path="", band="r", mjd=58000.0, exposure_time=30.0, shape=(SIDE, SIDE), zero_point=22.6, gain=6.2
)


def sky(fwhm, sources, *, noise, seed, beta=3.0, background=0.0):
    image = np.random.default_rng(seed).normal(background, noise, (SIDE + 80, SIDE + 80))
    for y, x, flux in sources:
        stamp = moffat_stamp(41, fwhm, beta)
        image[y + 20 : y + 61, x + 20 : x + 61] += flux * stamp
    return image[40 : 40 + SIDE, 40 : 40 + SIDE].astype(np.float32)


def exposure(flux, **changes):
    return Exposure(replace(INFO, **changes), flux, np.zeros(flux.shape, np.uint16))


def width_of(fwhm):
    return psf_fwhm(moffat_stamp(31, fwhm, 3.0))


STARS = [(20, 20, 3000.0), (48, 15, 5000.0), (12, 50, 2000.0), (40, 47, 900.0)]


def pair(*, event=0.0, seed=1, science_fwhm=2.8, template_fwhm=2.0):
    science = sky(science_fwhm, [*STARS, (31, 31, event)], noise=5.0, seed=seed, background=120.0)
    return exposure(science), exposure(sky(template_fwhm, STARS, noise=1.5, seed=seed + 1))


@pytest.mark.parametrize(("science_fwhm", "template_fwhm"), [(2.8, 2.0), (1.7, 2.2)])
def test_both_psfs_follow_from_what_must_vanish(science_fwhm, template_fwhm):
    made = stamp_cells(*pair(event=600.0, science_fwhm=science_fwhm, template_fwhm=template_fwhm), psf_size=31)
    found = [cell.numbers["seeing_fwhm"] for cell in made]
    true = [width_of(science_fwhm), width_of(template_fwhm)]
    assert found == pytest.approx(true, rel=0.15)
    assert found[0] / found[1] == pytest.approx(true[0] / true[1], rel=0.06)  # what the difference is made of
    for cell in made:
        assert cell.numbers["psf_origin"] == "fitted with the template"
        assert cell.image.psf.sum() == pytest.approx(1, abs=1e-5)


def test_the_event_does_not_decide_the_psf():
    widths = [stamp_cells(*pair(event=flux), psf_size=31)[0].numbers["seeing_fwhm"] for flux in (0.0, 4000.0)]
    assert widths[0] == pytest.approx(widths[1], rel=0.05)


def test_a_stamp_without_sources_gets_the_usual_psf():
    empty = [exposure(sky(2.0, [], noise=noise, seed=seed)) for noise, seed in ((5.0, 3), (1.5, 4))]
    science, template = stamp_cells(*empty, psf_size=31)
    prior = StampPsfPrior()
    assert science.numbers["seeing_fwhm"] == pytest.approx(width_of(prior.science_fwhm), rel=0.2)
    assert template.numbers["seeing_fwhm"] == pytest.approx(width_of(prior.template_fwhm), rel=0.2)


def test_supplied_psfs_and_variances_are_used_as_they_are():
    science, template = pair()
    psf = moffat_stamp(41, 2.5, 4.0).astype(np.float32)
    variance = np.full((SIDE, SIDE), 36.0, np.float32)
    made, _ = stamp_cells(replace(science, psf=psf, variance=variance), replace(template, psf=psf), psf_size=31)
    assert made.numbers["psf_origin"] == "supplied"
    np.testing.assert_allclose(made.image.psf, psf[5:-5, 5:-5] / psf[5:-5, 5:-5].sum(), rtol=1e-5)
    scale = 10 ** (0.4 * (31.4 - 22.6)) / 30
    np.testing.assert_allclose(made.image.variance, 36 * scale**2, rtol=1e-5)


def test_no_background_is_fitted_to_stamps_with_planes_of_their_own():
    science, template = (replace(e, psf=moffat_stamp(31, 2.5, 3.0).astype(np.float32)) for e in pair())
    planes = [replace(e, variance=np.full((SIDE, SIDE), 25.0, np.float32)) for e in (science, template)]
    assert stamp_cells(*planes, psf_size=31)[0].numbers["background"] == 0.0
    scale = 10 ** (0.4 * (31.4 - 22.6)) / 30
    assert stamp_cells(science, template, psf_size=31)[0].numbers["background"] == pytest.approx(120 * scale, rel=0.05)


@pytest.mark.parametrize("sigma", [0.0, 0.45, 0.6])
def test_the_noise_correlation_of_a_resampled_template_is_measured(sigma):
    rng = np.random.default_rng(9)
    science, template = pair()
    noise = rng.normal(0, 6.0, (2 * SIDE, 2 * SIDE))
    smoothed = ndimage.gaussian_filter(noise, sigma) if sigma else noise
    template = replace(template, flux=smoothed[:SIDE, :SIDE].astype(np.float32))
    template = replace(template, variance=np.full((SIDE, SIDE), smoothed.var(), np.float32))
    _, made = stamp_cells(science, template, psf_size=31)
    # the noise that wide sums have is that before smoothing
    assert made.numbers["noise_correlation"] == pytest.approx(noise.std() / smoothed.std(), rel=0.08)
    assert resampled_correlation(2.0) == 1.0


def test_fluxes_are_in_njy_and_what_is_missing_is_masked():
    science, template = pair()
    science.flux[:, :9] = np.nan
    cell, other = stamp_cells(science, template, psf_size=31)
    assert (cell.image.mask[:, :9] == MaskBit.NO_DATA).all()
    assert (cell.image.mask[:, 9:] == 0).all()
    assert np.isfinite(cell.image.flux).all()
    scale = 10 ** (0.4 * (31.4 - 22.6)) / 30
    box = np.s_[40:57, 10:24]
    assert other.image.flux[box].sum() == pytest.approx(5000 * scale, rel=0.05)


def test_high_frequencies_tell_the_noise_on_a_gradient_with_stars():
    y, x = np.indices((SIDE, SIDE))
    flux = sky(2.5, STARS, noise=5.0, seed=7) + 3.0 * y + 0.05 * x**2
    assert high_frequency_noise(flux, np.ones(flux.shape, bool)) == pytest.approx(5.0, rel=0.08)


def test_too_little_data_and_constant_stamps_are_errors():
    science, template = pair()
    hole = science.flux.copy()
    hole[4:] = np.nan
    hole[:, 40:] = np.nan
    with pytest.raises(AlgorithmError, match=r"160 of 3969 pixels are good in both stamps, at least 200"):
        stamp_cells(exposure(hole), template, psf_size=31)
    with pytest.raises(AlgorithmError, match="no noise"):
        stamp_cells(exposure(np.ones((SIDE, SIDE), np.float32)), template, psf_size=31)
    with pytest.raises(AlgorithmError, match=r"\(63, 63\) but its template is \(60, 63\)"):
        stamp_cells(science, exposure(template.flux[:60]), psf_size=31)
