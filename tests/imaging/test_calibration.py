from dataclasses import replace

import numpy as np
import pytest

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.imaging.calibration import calibrate, fill_masked, flux_per_electron, flux_scale_of, mask_cosmic_rays
from astrid.imaging.psf import moffat
from astrid.schema import MaskBit

SHAPE = (220, 240)
INFO = ExposureInfo("a", "a.fits", "r", 60000.0, 30.0, SHAPE, unit="count", gain=2.0, saturation=50000.0)


def exposure(
    info: ExposureInfo = INFO, *, seed: int = 1, level: float = 400.0, sigma: float = 15.0, **rest
) -> Exposure:
    flux = np.random.default_rng(seed).normal(level, sigma, SHAPE).astype(np.float32)
    return Exposure(info, flux, np.zeros(SHAPE, np.uint16), **rest)


@pytest.mark.parametrize(
    ("unit", "zero_point", "scale", "name"),
    [
        ("count", None, 1 / 30, "count/s"),
        ("electron", None, 1 / 30, "count/s"),
        ("count/s", None, 1.0, "count/s"),
        ("count", 31.4, 1 / 30, "nJy"),
        ("count/s", 28.9, 10.0, "nJy"),
        ("nJy", None, 1.0, "nJy"),
        ("nJy", 25.0, 1.0, "nJy"),
    ],
)
def test_pixels_go_to_nanojansky_where_the_zero_point_is_known(unit, zero_point, scale, name):
    found = flux_scale_of(replace(INFO, unit=unit, zero_point=zero_point))
    assert found == (pytest.approx(scale), name)


@pytest.mark.parametrize("zero_point", [None, 27.3])
@pytest.mark.parametrize(
    ("unit", "gain", "electrons_per_count"),
    [("count", 2.0, 2.0), ("count/s", 2.0, 60.0), ("electron", None, 1.0), ("electron/s", None, 30.0)],
)
def test_one_electron_is_one_electron_in_any_unit(unit, gain, electrons_per_count, zero_point):
    info = replace(INFO, unit=unit, gain=gain, zero_point=zero_point)
    assert flux_per_electron(info) * electrons_per_count == pytest.approx(flux_scale_of(info)[0])


def test_the_electron_of_an_unknown_gain_is_unknown():
    assert flux_per_electron(replace(INFO, gain=None)) is None


def test_photon_noise_follows_from_the_electron():
    electrons = np.random.default_rng(2).poisson(10_000, 200_000)
    flux = electrons * flux_per_electron(INFO)
    assert flux.var() / flux.mean() == pytest.approx(flux_per_electron(INFO), rel=0.02)


def test_background_and_noise_come_out_in_the_units_of_the_cube():
    found = calibrate(exposure(replace(INFO, zero_point=28.9)))  # one count/s is 10 nJy
    assert found.unit == "nJy"
    assert found.background == pytest.approx(400 / 3, rel=0.01)
    assert found.background_rms == pytest.approx(5, rel=0.02)
    assert np.median(found.variance) == pytest.approx(25, rel=0.05)
    assert abs(np.mean(found.flux)) < 0.2
    assert found.variance_per_flux == pytest.approx(10 / 60)


def test_a_supplied_variance_is_kept_and_has_the_sources_already():
    supplied = np.full(SHAPE, 300.0, np.float32)
    supplied[5, 5] = np.nan
    found = calibrate(exposure(variance=supplied))
    np.testing.assert_allclose(found.variance, 300 / 30**2, rtol=1e-5)
    assert found.variance_per_flux == 0


def test_saturated_pixels_are_masked_with_a_margin_and_filled():
    given = exposure()
    given.flux[100, 100] = 60000
    found = calibrate(given)
    saturated = (found.mask & MaskBit.SATURATED) != 0
    assert saturated[98:103, 100].all()
    assert saturated[100, 98:103].all()
    assert saturated.sum() < 400
    assert np.isfinite(found.flux).all()
    assert np.abs(found.flux[95:106, 95:106]).max() < 10 * found.background_rms


def test_dark_edges_and_pixels_without_data_are_masked():
    given = exposure()
    given.flux[:3] -= 300
    given.flux[50:60, 50:60] = np.nan
    found = calibrate(given)
    assert ((found.mask[:3] & MaskBit.BAD) != 0).all()
    assert ((found.mask[50:60, 50:60] & MaskBit.NO_DATA) != 0).all()
    assert np.mean(found.mask != 0) < 0.03
    assert np.isfinite(found.flux).all()


def test_the_input_is_not_changed():
    given = exposure()
    given.flux[7, 7] = 60000
    before = given.flux.copy()
    calibrate(given, bad_pixels=np.eye(*SHAPE, dtype=bool))
    np.testing.assert_array_equal(given.flux, before)
    assert (given.mask == 0).all()


def test_bad_pixels_of_the_detector_are_masked():
    bad = np.zeros(SHAPE, bool)
    bad[30, 40] = True
    assert calibrate(exposure(), bad_pixels=bad).mask[30, 40] & MaskBit.BAD


def test_an_image_without_usable_pixels_is_refused_by_name():
    given = exposure()
    given.flux[:] = np.nan
    with pytest.raises(DataError, match=r"a\.fits: only 0\.0% of the pixels"):
        calibrate(given)


def test_a_constant_image_is_refused_by_name():
    given = exposure()
    given.flux[:] = 400
    with pytest.raises(DataError, match=r"a\.fits.*constant"):
        calibrate(given)


def test_a_cosmic_ray_is_masked_and_filled():
    given = exposure()
    given.flux[100, 120] += 3000
    found = calibrate(given)
    clean = mask_cosmic_rays(found, found.variance, moffat(25, 3.0))
    assert clean.mask[100, 120] & MaskBit.COSMIC_RAY
    assert abs(clean.flux[100, 120]) < 5 * found.background_rms
    assert not found.mask[100, 120]


def test_filling_takes_what_is_around_and_leaves_good_pixels_alone():
    flux = np.tile(np.arange(40, dtype=np.float32), (40, 1))
    mask = np.zeros(flux.shape, np.uint16)
    mask[20, 20] = 1
    spoilt = flux.copy()
    spoilt[20, 20] = 1e6
    np.testing.assert_allclose(fill_masked(spoilt, mask), flux, atol=1e-3)
