import numpy as np
import pytest
from scipy.signal import fftconvolve

from astrid.detection.deblending import autocorrelation, told_apart
from astrid.detection.features import measure_candidates
from astrid.detection.matched_filter import MatchedFilter
from astrid.image import Difference, Image
from astrid.imaging.photometry import psf_flux
from astrid.simulation.psf import MoffatPsf, add_points

SIDE, FWHM = 120, 3.0
PSF = MoffatPsf(FWHM, 3.5, 0.1, 0.4).image((31, 31))
UNIT = 1 / np.sqrt(float((PSF.astype(float) ** 2).sum()))  # flux of a source of S/N 1


def difference(sources, seed=1, wider=0.0):
    """White noise with (y, x, S/N) sources, whose PSF may be wider than is said, and its score."""
    flux = np.zeros((SIDE, SIDE))
    for y, x, snr in sources:
        psf = MoffatPsf(FWHM * (1 + wider), 3.5, 0.1, 0.4)
        add_points(flux, np.array([y]), np.array([x]), np.array([snr * UNIT]), psf)
    flux += np.random.default_rng(seed).normal(size=flux.shape)
    score = fftconvolve(flux, PSF[::-1, ::-1], mode="same") * UNIT
    mask = np.zeros(flux.shape, np.uint16)
    return Difference(flux.astype(np.float32), np.ones_like(flux, np.float32), mask, PSF, score.astype(np.float32))


def pair(separation, first, second, seed):
    """Two sources so many FWHM apart, in a direction and at a place within a pixel that chance decides."""
    rng = np.random.default_rng(seed)
    angle, (y, x) = rng.uniform(0, 2 * np.pi), 60 + rng.uniform(-0.5, 0.5, 2)
    there = separation * FWHM
    return (y, x, first), (y + there * np.sin(angle), x + there * np.cos(angle), second)


def nearest(found, source):
    distance = np.hypot(found.y - source[0], found.x - source[1])
    return int(distance.argmin()) if distance.min() < 1.5 else None


@pytest.mark.parametrize("separation", [0.9, 1.2, 1.6, 2.2])
@pytest.mark.parametrize("snrs", [(15, 15), (100, 60), (40, 12)])
def test_two_close_sources_are_two_detections_with_fluxes_of_their_own(separation, snrs):
    bias, n_found = [], 0
    for seed in range(8):
        sources = pair(separation, *snrs, seed)
        image = difference(sources, seed)
        found = MatchedFilter()(image)
        places = [nearest(found, one) for one in sources]
        if None in places or places[0] == places[1]:
            continue
        n_found += 1
        fit = psf_flux(image.flux, image.variance, image.mask, image.psf, found.y, found.x)
        flux = told_apart(fit, found.y, found.x, image.psf).flux
        bias.append([flux[place] / (snr * UNIT) - 1 for place, snr in zip(places, snrs, strict=True)])
    assert n_found >= 7
    for mean, snr in zip(np.mean(bias, axis=0), snrs, strict=True):
        assert abs(mean) < 0.03 + 4 / snr / np.sqrt(len(bias))


def test_without_it_a_close_pair_is_one_detection_or_none():
    image = difference(pair(1.0, 30, 30, 1))
    assert len(MatchedFilter(deblend=False)(image)) < 2
    assert len(MatchedFilter()(image)) == 2


@pytest.mark.parametrize("snr", [6, 30, 300, 1000])
@pytest.mark.parametrize("wider", [0.0, 0.01, 0.03])
def test_a_single_source_stays_one_even_with_a_wrong_psf(snr, wider):
    for seed in range(4):
        image = difference([(60.3, 59.8, snr)], seed, wider)
        assert len(MatchedFilter(max_chi2=None, radius=8)(image)) <= 1


def test_noise_holds_no_pairs():
    deep = [len(MatchedFilter(threshold=3.0, max_chi2=None)(difference([], seed))) for seed in range(5)]
    plain = [len(MatchedFilter(threshold=3.0, max_chi2=None, deblend=False)(difference([], seed))) for seed in range(5)]
    assert sum(plain) > 20
    assert deep == plain


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.5])
def test_the_halves_of_a_dipole_are_not_parted(shift):
    image = difference([(60, 60, 800), (60, 60 + shift, -800)])
    plain, parted = MatchedFilter(max_chi2=None, deblend=False)(image), MatchedFilter(max_chi2=None)(image)
    assert len(plain) >= 2
    assert len(parted) == len(plain)


def test_faded_sources_are_parted_too():
    sources = [(y, x, -snr) for y, x, snr in pair(1.1, 40, 30, 3)]
    found = MatchedFilter()(difference(sources))
    assert len(found) == 2
    assert (found.significance < 0).all()


def test_fluxes_of_groups_are_those_of_a_joint_fit():
    sources = [(60, 60, 50), (60, 65, 30), (66, 60, 20), (20, 20, 40)]
    image = difference(sources, 5)
    y, x = np.array([s[:2] for s in sources], float).T
    fit = psf_flux(image.flux, image.variance, image.mask, image.psf, y, x)
    apart = told_apart(fit, y, x, image.psf)
    truth = UNIT * np.array([s[2] for s in sources])
    assert (fit.flux[:3] - truth[:3] > 2 * fit.error[:3]).all()
    assert (np.abs(apart.flux - truth) < 3.5 * apart.error).all()
    assert apart.flux[3] == fit.flux[3]
    assert (apart.error[:3] > fit.error[:3]).all()


def test_what_is_not_known_and_what_has_the_other_sign_changes_nothing():
    image = difference([(60, 60, 50), (60, 64, -50)])
    image.mask[80:, 80:] = 1
    y, x = np.array([60.0, 60.0, 100.0, 100.0]), np.array([60.0, 64.0, 100.0, 104.0])
    fit = psf_flux(image.flux, image.variance, image.mask, image.psf, y, x)
    apart = told_apart(fit, y, x, image.psf)
    np.testing.assert_array_equal(apart.flux, fit.flux)
    assert np.isnan(apart.flux[2:]).all()


def test_candidates_have_the_fluxes_told_apart():
    sources = pair(1.3, 60, 60, 2)
    image = difference(sources)
    found = MatchedFilter()(image)
    plain = Image(np.zeros_like(image.flux), np.ones_like(image.flux), image.mask, PSF)
    columns = measure_candidates(image, plain, plain, found)
    assert columns["flux"] == pytest.approx([60 * UNIT] * 2, rel=0.08)


def test_the_response_to_a_source_is_one_at_its_place_and_falls():
    response = autocorrelation(PSF)
    assert response.shape == (61, 61)
    assert response[30, 30] == pytest.approx(1)
    assert response[30, 30 + 6] < 0.2
