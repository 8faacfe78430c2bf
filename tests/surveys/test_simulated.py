import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.errors import DataError
from astrid.image import ExposureInfo
from astrid.schema import KNOWN_EVENTS, MaskBit
from astrid.skygrid import footprint_of, sky_tiles
from astrid.surveys.base import Survey
from astrid.surveys.simulated import Simulated

SMALL = Simulated(seed=3, n_epochs=2, height=150, width=170, n_transients=3, dither_pixels=4.0)
BARE = dataclasses.replace(
    SMALL,
    stars_per_megapixel=0,
    galaxies_per_megapixel=0,
    transients_on=False,
    cosmic_rays=0,
    bad_columns=0,
    hot_pixels=0,
    satellite_trail_probability=0,
    sky_gradient=0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated")
    SMALL.list_exposures(path)
    return path


def wcs_of(info: ExposureInfo) -> WCS:
    return WCS(fits.Header.fromstring(info.wcs_header))


def test_it_is_a_survey():
    assert isinstance(SMALL, Survey)
    assert SMALL.name == "simulated"
    assert pickle.loads(pickle.dumps(SMALL)) == SMALL


def test_exposures_are_listed_in_order_of_time_with_all_that_is_known(folder):
    listing = SMALL.list_exposures(folder)
    assert len(listing.exposures) == 4
    assert not listing.problems
    assert [info.band for info in listing.exposures] == ["g", "r", "g", "r"]
    times = [info.mjd for info in listing.exposures]
    assert times == sorted(times)
    for info in listing.exposures:
        assert (folder / info.exposure_id) == Path(info.path)
        assert (info.unit, info.gain, info.saturation, info.shape) == ("count", 1.5, 50000.0, (150, 170))
        assert info.zero_point == pytest.approx(25.38, abs=0.16)  # transparency 0.8 to 1
        assert info.detector


def test_mjd_is_the_middle_of_the_exposure(folder):
    info = SMALL.list_exposures(folder).exposures[0]
    header = fits.getheader(info.path)
    assert info.mjd - header["MJD-OBS"] == pytest.approx(30 / 86400, abs=1e-9)
    assert info.mjd == SMALL.conditions(0, 0).mjd


def test_same_seed_gives_the_same_pixels(folder, tmp_path):
    first, again = SMALL.list_exposures(folder), dataclasses.replace(SMALL).list_exposures(tmp_path)
    for a, b in zip(first.exposures, again.exposures, strict=True):
        assert Path(a.path).read_bytes() == Path(b.path).read_bytes()
    assert (dataclasses.replace(SMALL, seed=4).render(0, 0) != SMALL.render(0, 0)).mean() > 0.9


def test_files_are_kept_and_only_broken_ones_are_made_again(tmp_path):
    paths = [Path(info.path) for info in BARE.list_exposures(tmp_path).exposures]
    whole = paths[1].read_bytes()
    untouched = paths[0].stat().st_mtime_ns
    paths[1].write_bytes(whole[:20000])
    paths[2].write_text("not a FITS file")
    (paths[3].with_name(".left.fits.part")).write_bytes(b"half")
    listing = BARE.list_exposures(tmp_path)
    assert len(listing.exposures) == 4
    assert paths[0].stat().st_mtime_ns == untouched
    assert paths[1].read_bytes() == whole
    assert BARE.read_exposure(listing.exposures[2]).flux.shape == (150, 170)


def test_another_configuration_has_files_of_its_own(tmp_path):
    other = dataclasses.replace(BARE, gain=2.0)
    first, second = BARE.list_exposures(tmp_path), other.list_exposures(tmp_path)
    assert not {info.path for info in first.exposures} & {info.path for info in second.exposures}


def test_header_wcs_places_stars_where_they_are_when_the_pointing_is_exact(tmp_path):
    survey = dataclasses.replace(
        BARE, n_epochs=1, bands=["g"], noise=False, pointing_error_pixels=0, rotation_degrees=2
    )
    dark = survey.render(0, 0).astype(float)
    lit = dataclasses.replace(survey, stars_per_megapixel=60, star_magnitudes=(17, 18), star_slope=0.3)
    image = lit.render(0, 0).astype(float) - dark
    info = lit.list_exposures(tmp_path).exposures[0]
    stars = lit.stars()
    x, y = wcs_of(info).world_to_pixel_values(stars.ra, stars.dec)
    alone = [
        i
        for i in range(len(x))
        if 12 < x[i] < 157 and 12 < y[i] < 137 and np.sort(np.hypot(x - x[i], y - y[i]))[1] > 25
    ]
    assert alone
    for i in alone:
        row, column = round(float(y[i])), round(float(x[i]))
        cut = image[row - 8 : row + 9, column - 8 : column + 9]
        offset = np.arange(-8, 9)
        assert row + (cut.sum(axis=1) * offset).sum() / cut.sum() == pytest.approx(y[i], abs=0.02)
        assert column + (cut.sum(axis=0) * offset).sum() / cut.sum() == pytest.approx(x[i], abs=0.02)


def test_header_wcs_is_off_by_the_pointing_error():
    errors = [SMALL.conditions(epoch, 0).pointing_error for epoch in range(200)]
    assert np.std(errors) == pytest.approx(0.2, rel=0.15)
    wcs = SMALL.conditions(0, 0)
    header = SMALL._header(wcs, 0, 0)
    x, y = WCS(header).world_to_pixel_values(wcs.ra, wcs.dec)
    assert y - 74.5 == pytest.approx(wcs.pointing_error[0], abs=1e-6)
    assert x - 84.5 == pytest.approx(wcs.pointing_error[1], abs=1e-6)


def test_noise_is_that_of_gain_read_noise_and_sky():
    image = BARE.render(0, 0).astype(float)
    level = BARE.conditions(0, 0).sky
    assert image.mean() == pytest.approx(level, rel=2e-3)
    assert image.var() == pytest.approx(level / 1.5 + (6 / 1.5) ** 2, rel=0.04)


@pytest.mark.parametrize(
    "switch", [{"cosmic_rays": 20.0}, {"bad_columns": 2}, {"hot_pixels": 10}, {"satellite_trail_probability": 1.0}]
)
def test_each_artefact_has_its_switch(switch):
    plain = BARE.render(0, 1)
    assert plain.max() < np.median(plain) + 7 * plain.std()
    changed = dataclasses.replace(BARE, **switch).render(0, 1) != plain
    assert 0 < changed.mean() < 0.3


def test_bad_pixels_stay_on_the_detector():
    survey = dataclasses.replace(BARE, hot_pixels=10)
    hot = [survey.render(epoch, 0) > BARE.render(epoch, 0) + 100 for epoch in range(2)]
    assert hot[0].sum() >= 8
    assert (hot[0] == hot[1]).all()


def test_transients_are_all_that_their_switch_changes(tmp_path):
    lit = dataclasses.replace(SMALL, n_epochs=4, n_transients=3, transient_magnitudes=(18, 18.5))
    dark = dataclasses.replace(lit, transients_on=False)
    assert dark.known_events(tmp_path).num_rows == 0
    difference = lit.render(2, 0).astype(float) - dark.render(2, 0)
    conditions = lit.conditions(2, 0)
    expected = sum(event.flux_at(conditions.mjd, 0) for event in lit.transients())
    counts = lit.camera.electrons(np.array(expected), conditions.transparency) / lit.gain
    assert difference.sum() == pytest.approx(float(counts), abs=5 * np.sqrt(float(counts) / 1.5) + 0.01 * float(counts))
    assert (difference != 0).mean() < 0.2


def test_truth_has_one_row_per_event_and_exposure(folder):
    table = SMALL.known_events(folder)
    assert table.schema.equals(KNOWN_EVENTS)
    assert table.num_rows == 3 * 4
    info = SMALL.list_exposures(folder).exposures[0]
    assert info.mjd in table["mjd"].to_pylist()
    assert pq.read_table(Path(info.path).with_name("truth.parquet")).equals(table)


def test_saturated_stars_are_masked(tmp_path):
    survey = dataclasses.replace(
        BARE, n_epochs=1, bands=["g"], stars_per_megapixel=300, star_magnitudes=(12, 13), star_slope=0.3
    )
    exposure = survey.read_exposure(survey.list_exposures(tmp_path).exposures[0])
    saturated = (exposure.mask & MaskBit.SATURATED) > 0
    assert saturated.sum() > 20
    assert (saturated == (exposure.flux >= survey.saturation)).all()


def test_true_psf_is_that_of_the_pixels(tmp_path):
    survey = dataclasses.replace(
        BARE, n_epochs=1, bands=["g"], noise=False, stars_per_megapixel=60, star_magnitudes=(17, 17.5), ellipticity=0.3
    )
    info = survey.list_exposures(tmp_path).exposures[0]
    psf = survey.true_psf(info, (31, 31))
    assert psf.shape == (31, 31)
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    conditions = survey.conditions(0, 0)
    assert (psf == conditions.psf.image((31, 31))).all()


def test_the_default_field_fills_two_cores_of_512(tmp_path):
    survey = Simulated()
    prints = []
    for epoch in range(survey.n_epochs):
        for band in range(2):
            header = survey._header(survey.conditions(epoch, band), epoch, band)
            prints.append(footprint_of(WCS(header), (survey.height, survey.width)))
    assert len(sky_tiles(prints, core=512)) == 2


def test_a_missing_or_broken_file_is_named(tmp_path):
    info = BARE.list_exposures(tmp_path).exposures[0]
    Path(info.path).write_bytes(Path(info.path).read_bytes()[:20000])
    with pytest.raises(DataError, match=r"sim_0000_g\.fits"):
        BARE.read_exposure(info)
    with pytest.raises(DataError, match="nowhere"):
        BARE.read_exposure(dataclasses.replace(info, path=str(tmp_path / "nowhere.fits")))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bands": []}, "bands"),
        ({"bands": ["g", "g"]}, "bands"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"gain": 0.0}, "gain"),
        ({"seeing_pixels": [4.0, 2.0]}, "seeing_pixels"),
        ({"seeing_pixels": [0.5, 2.0]}, "seeing_pixels"),
        ({"satellite_trail_probability": 2.0}, "satellite_trail_probability"),
        ({"saturation": 100.0}, "saturation"),
        ({"moffat_beta": 1.0}, "moffat_beta"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Simulated(**wrong)
