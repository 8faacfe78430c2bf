from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from astrid.errors import AlgorithmError
from astrid.image import Exposure
from astrid.imaging.badpixels import bad_pixel_map
from astrid.imaging.preprocess import Measurement, Preprocess, flux_scale
from astrid.skygrid import Tile, footprint_of, sky_tiles
from astrid.surveys.directory import Directory
from astrid.surveys.simulated import Simulated

FIELD = Simulated(
    seed=5,
    n_epochs=3,
    height=330,
    width=350,
    stars_per_megapixel=6000.0,
    star_magnitudes=(15.5, 23.0),
    galaxies_per_megapixel=100.0,
    transients_on=False,
    seeing_pixels=(2.4, 3.4),
    dither_pixels=6.0,
    satellite_trail_probability=0.0,
)
PREPROCESS = Preprocess()


class Night:
    """A simulated field, measured once: exposures by (epoch, band), measurements and tile."""

    def __init__(self, folder: Path) -> None:
        infos = FIELD.list_exposures(folder).exposures
        self.exposures = {
            (i // 2, info.band): FIELD.read_exposure(replace(info, zero_point=None)) for i, info in enumerate(infos)
        }
        self.measured = {key: PREPROCESS.measure(exposure) for key, exposure in self.exposures.items()}
        prints = [footprint_of(WCS(Header.fromstring(info.wcs_header)), info.shape) for info in infos]
        self.tile = sky_tiles(prints, border=16)[0]
        self.reference = PREPROCESS.reference_stars(self.measured[0, "r"], self.exposures[0, "r"].info, self.tile)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return Night(tmp_path_factory.mktemp("night"))


def without_wcs(exposure: Exposure) -> Exposure:
    return replace(exposure, info=replace(exposure.info, wcs_header=None))


def test_exposures_register_to_a_twentieth_of_a_pixel(night):
    for epoch in (1, 2):
        cell = PREPROCESS.cell(night.exposures[epoch, "r"], night.tile, night.reference)
        assert cell.numbers["astrometric_rms"] < 0.05
        assert cell.numbers["n_stars"] > 50
        assert cell.image.astrometric_rms == cell.numbers["astrometric_rms"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_without_a_wcs_the_star_pattern_registers_as_well(night, epoch):
    tile = Tile(0, (330, 350), 16, frame="pixel")
    first, other = (without_wcs(night.exposures[e, "r"]) for e in (0, epoch))
    reference = PREPROCESS.reference_stars(night.measured[0, "r"], first.info, tile)
    cell = PREPROCESS.cell(other, tile, reference)
    assert cell.numbers["astrometric_rms"] < 0.05
    own = PREPROCESS.cell(first, tile, reference, is_reference=True)
    stars = [m.flux[100:250, 100:250] for m in (own.image, cell.image)]
    assert np.corrcoef(stars[0].ravel(), stars[1].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_flux_scale_is_the_ratio_of_transparencies_within_two_per_cent(night, epoch):
    cell = PREPROCESS.cell(night.exposures[epoch, "r"], night.tile, night.reference)
    expected = FIELD.conditions(0, 1).transparency / FIELD.conditions(epoch, 1).transparency
    # a PSF of some twenty stars loses up to 1 % of its wings to their noise, in each image another part
    assert cell.numbers["flux_scale"] == pytest.approx(expected, rel=0.02)
    assert 0 < cell.numbers["flux_scale_error"] < 0.005


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_the_psf_is_the_true_one_smoothed_by_the_resampling(night, epoch):
    exposure = night.exposures[epoch, "r"]
    cell = PREPROCESS.cell(exposure, night.tile, night.reference, is_reference=epoch == 0)
    true = FIELD.true_psf(exposure.info, (35, 35))
    assert cell.image.psf.shape == (35, 35)
    assert cell.image.psf.sum() == pytest.approx(1, abs=1e-4)
    assert cell.image.psf.max() == pytest.approx(true.max(), rel=0.06)
    assert cell.numbers["psf_origin"].startswith("stars")


def turned(exposure: Exposure, psf: np.ndarray) -> Exposure:
    """A quarter turn of the camera, its PSF with it."""
    wcs = WCS(Header.fromstring(exposure.info.wcs_header))
    nx = exposure.flux.shape[1]
    other = WCS(naxis=2)
    other.wcs.ctype, other.wcs.crval = wcs.wcs.ctype, wcs.wcs.crval
    other.wcs.crpix = [wcs.wcs.crpix[1], nx + 1 - wcs.wcs.crpix[0]]
    other.wcs.cd = np.column_stack([wcs.pixel_scale_matrix[:, 1], -wcs.pixel_scale_matrix[:, 0]])
    flux, mask = (np.ascontiguousarray(np.rot90(a)) for a in (exposure.flux, exposure.mask))
    info = replace(exposure.info, wcs_header=other.to_header().tostring(), shape=flux.shape)
    return replace(exposure, info=info, flux=flux, mask=mask, psf=np.ascontiguousarray(np.rot90(psf)))


def test_a_supplied_psf_turns_with_the_camera(night):
    exposure = night.exposures[1, "r"]
    psf = np.zeros((35, 35), np.float32)
    psf[10:30, 15:19] = FIELD.true_psf(exposure.info, (35, 35))[10:30, 15:19]  # long, and longer at one end
    psf /= psf.sum()
    upright = PREPROCESS.cell(replace(exposure, psf=psf), night.tile, night.reference)
    cell = PREPROCESS.cell(turned(exposure, psf), night.tile, night.reference)
    assert cell.numbers["psf_origin"] == upright.numbers["psf_origin"] == "supplied"
    np.testing.assert_allclose(cell.image.psf, upright.image.psf, atol=1e-3)
    np.testing.assert_allclose(cell.image.psf, psf, atol=1e-2)


def test_fluxes_of_a_supplied_psf_are_compared_with_its_own(night):
    wide = FIELD.true_psf(night.exposures[0, "r"].info, (35, 35))
    wide = np.cumsum(wide, axis=0) * (wide > 0)  # nothing like the stars
    exposure = replace(night.exposures[0, "r"], psf=wide / wide.sum())
    stars = PREPROCESS.reference_stars(PREPROCESS.measure(exposure), exposure.info, night.tile)
    assert PREPROCESS.cell(exposure, night.tile, stars).numbers["flux_scale"] == pytest.approx(1.0, abs=0.02)


def test_a_cell_is_finite_and_says_what_it_covers(night):
    cell = PREPROCESS.cell(night.exposures[2, "r"], night.tile, night.reference)
    assert cell.image.flux.shape == night.tile.shape
    assert np.isfinite(cell.image.flux).all()
    assert (cell.image.variance > 0).all()
    assert cell.numbers["coverage"] == pytest.approx(np.mean(cell.image.mask == 0))
    assert 0.5 < cell.numbers["coverage"] < 1


def test_the_second_band_lands_on_the_stars_of_the_first(night):
    info = night.exposures[1, "g"].info
    wrong = replace(info, wcs_header=None)
    tile = Tile(0, (330, 350), 16, frame="pixel")
    first = PREPROCESS.reference_stars(night.measured[0, "r"], without_wcs(night.exposures[0, "r"]).info, tile)
    aligned = PREPROCESS.reference_stars(night.measured[1, "g"], wrong, tile, align_to=first)
    bright = aligned[aligned.is_clean & (aligned.snr > 100)]
    distance = np.hypot(bright.y[:, None] - first.y, bright.x[:, None] - first.x).min(axis=1)
    near = distance[distance < 1]
    assert len(near) > 0.8 * len(bright)
    assert np.median(near) < 0.06  # blends differ between bands


def test_an_aligned_band_keeps_to_the_first_although_its_wcs_is_off(night):
    aligned = PREPROCESS.reference_stars(
        night.measured[1, "g"], night.exposures[1, "g"].info, night.tile, align_to=night.reference
    )
    bright = aligned[aligned.is_clean & (aligned.snr > 100)]
    distance = np.hypot(bright.y[:, None] - night.reference.y, bright.x[:, None] - night.reference.x).min(axis=1)
    assert np.median(distance) < 0.06


def test_a_measurement_survives_being_written(night):
    measured = night.measured[0, "g"]
    back = Measurement.from_table(measured.to_table())
    assert (back.seeing_fwhm, back.background, back.background_rms) == (
        measured.seeing_fwhm,
        measured.background,
        measured.background_rms,
    )
    np.testing.assert_array_equal(back.suspects, measured.suspects)
    assert back.suspects.dtype == np.int16
    np.testing.assert_array_equal(back.stars.flux, measured.stars.flux)
    np.testing.assert_array_equal(back.stars.is_clean, measured.stars.is_clean)


def test_a_measurement_without_suspects_survives_being_written(night):
    none = replace(night.measured[0, "g"], suspects=np.empty((0, 2), np.int16))
    assert Measurement.from_table(none.to_table()).suspects.shape == (0, 2)


def test_the_background_of_an_exposure_is_the_one_put_in(night):
    for (epoch, band), measured in night.measured.items():
        sky = FIELD.conditions(epoch, ("g", "r").index(band)).sky
        assert measured.background == pytest.approx(sky / FIELD.exposure_seconds, rel=0.05)


def test_the_reference_is_the_sharp_and_deep_one(night):
    measured = [night.measured[epoch, "r"] for epoch in range(3)]
    chosen = PREPROCESS.reference(measured)
    blurred = [replace(m, seeing_fwhm=m.seeing_fwhm * (1 if i == 1 else 10)) for i, m in enumerate(measured)]
    assert 0 <= chosen < 3
    assert PREPROCESS.reference(blurred) == 1


def test_another_field_is_refused_with_the_numbers(night, tmp_path):
    other = replace(FIELD, seed=6, n_epochs=1)
    exposure = without_wcs(other.read_exposure(other.list_exposures(tmp_path).exposures[0]))
    with pytest.raises(AlgorithmError, match=r"\d+"):
        PREPROCESS.cell(exposure, Tile(0, (330, 350), 16, frame="pixel"), night.reference)


def test_a_worse_registration_than_allowed_is_refused(night):
    strict = replace(PREPROCESS, max_astrometric_rms=1e-4)
    with pytest.raises(AlgorithmError, match="max_astrometric_rms"):
        strict.cell(night.exposures[1, "r"], night.tile, night.reference)


def test_a_scale_of_no_stars_is_one_and_claims_nothing(night):
    scale, error = flux_scale(night.reference[:0], night.reference)
    assert scale == 1
    assert np.isnan(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [("background_box", 4), ("resampling", "nearest"), ("psf_size", 20), ("search_pixels", 0.0)],
)
def test_a_bad_setting_is_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        Preprocess(**{name: value})


@pytest.mark.data
def test_real_frames_without_wcs_register_to_a_seventh_of_a_pixel(real_data, tmp_path):
    survey = Directory(path=str(real_data("hatp32_series")))
    exposures = [survey.read_exposure(info) for info in survey.list_exposures(tmp_path).exposures[:6]]
    suspects = [PREPROCESS.measure(exposure).suspects for exposure in exposures]
    bad = bad_pixel_map(suspects, exposures[0].info.shape)
    assert bad.sum() > 100
    measured = [PREPROCESS.measure(exposure, bad) for exposure in exposures]
    first = PREPROCESS.reference(measured)
    tile = Tile(0, exposures[first].info.shape, 32, frame="pixel")
    reference = PREPROCESS.reference_stars(measured[first], exposures[first].info, tile)
    for i, exposure in enumerate(exposures):
        if i != first:
            cell = PREPROCESS.cell(exposure, tile, reference, bad_pixels=bad)
            assert cell.numbers["astrometric_rms"] <= 0.15
            assert cell.numbers["n_stars"] >= 100
