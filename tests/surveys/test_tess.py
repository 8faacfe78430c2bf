import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from astrid.archives import Archive, Fetcher
from astrid.errors import CellSkipped, DataError
from astrid.surveys.fetched import FetchedSurvey, Place, Wanted
from astrid.surveys.tess import Tess
from astrid.surveys.tpf import read_target_pixels
from tests.archives.emulator.mast import BACKGROUND, CADENCE_DAYS, SECTOR, TESS_START_MJD
from tests.archives.emulator.sky import Sky
from tests.archives.registering import patient, place_of

PLACE = place_of(size=420.0, margin=0.0)


@pytest.fixture(scope="module")
def sector(emulator, tmp_path_factory):
    """One sector of one field: survey, plan, and the file of all its exposures."""
    folder = tmp_path_factory.mktemp("tess")
    fetcher = Fetcher(Archive(patient(), cache=str(folder / "cache"), base_url=emulator.url))
    survey = Tess(cutout_arcsec=420.0, bin_hours=24.0)
    plan = survey.plan(PLACE, fetcher)
    return survey, plan, {"science": fetcher.fetch(plan.wanted[0].files["science"]).path}


def registers(survey, wanted, files):
    """The exposure, None where it is skipped."""
    try:
        return survey.register(wanted, files)
    except CellSkipped:
        return None


def test_it_is_a_survey_that_fetches():
    assert isinstance(Tess(), FetchedSurvey)


def test_all_exposures_of_a_sector_come_from_one_file(sector):
    _, plan, _ = sector
    assert len(plan.wanted) == 28
    assert len({one.files["science"] for one in plan.wanted}) == 1
    assert {one.extra["sector"] for one in plan.wanted} == {SECTOR}


def test_exposures_are_means_of_good_cadences_in_utc_at_the_spacecraft(sector):
    survey, plan, files = sector
    info = survey.register(plan.wanted[0], files)
    begin, end = info.extra["begin"], info.extra["end"]
    assert begin == 0
    assert end in (48, 49)
    good = [k for k in range(end) if k not in (10, 11, 12)]  # three are flagged
    assert info.mjd == pytest.approx(TESS_START_MJD + CADENCE_DAYS * np.mean(good), abs=1e-6)
    assert info.exposure_time == pytest.approx(len(good) * 900 * 1.98)
    pixels = read_target_pixels(files["science"])
    exposure = survey.read_exposure(info)
    np.testing.assert_allclose(exposure.flux, pixels.flux[good].mean(axis=0), rtol=1e-5)
    scatter = np.std(pixels.flux[good], axis=0) / np.sqrt(len(good))
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(np.median(scatter), rel=0.25)
    assert np.median(exposure.flux) > BACKGROUND


def test_a_gap_is_skipped_with_the_reason(sector):
    survey, plan, files = sector
    there = [one for one in plan.wanted if registers(survey, one, files)]
    assert [one.extra["bin"] for one in there] == list(range(14))  # half a sector was observed
    with pytest.raises(CellSkipped, match=r"0 good cadences, 3 needed \(survey\.min_cadences\)"):
        survey.register(plan.wanted[20], files)
    short = Tess(cutout_arcsec=420.0, bin_hours=12.0, min_cadences=10)
    wanted = [short.plan(PLACE, _Sectors()).wanted[k] for k in (12, 13)]
    with pytest.raises(CellSkipped, match="good cadences, 10 needed"):
        short.register(wanted[1], files)


class _Sectors:
    """Answers that one sector is there."""

    def read(self, download):
        return b'{"results": [{"sector": "%d", "camera": "2", "ccd": "4"}]}' % SECTOR


def test_the_dates_of_the_selection_hold_for_the_true_times(emulator, tmp_path, sector):
    survey, _, files = sector
    place = place_of(size=420.0, margin=0.0, mjd_min=TESS_START_MJD + 3, mjd_max=TESS_START_MJD + 5)
    plan = survey.plan(place, _Sectors())
    kept = [info.mjd for one in plan.wanted if (info := registers(survey, one, files))]
    assert len(kept) == 2
    assert min(kept) > place.mjd_min
    assert max(kept) < place.mjd_max
    assert survey.plan(place_of(mjd_min=60000.0), _Sectors()).wanted == ()


def test_sectors_can_be_chosen():
    plan = Tess(sectors=(3,)).plan(PLACE, _Sectors())
    assert plan.wanted == ()
    assert plan.rejected == {"not in survey.sectors": 1}


def test_where_tess_never_looked_the_plan_is_empty(fetcher):
    assert Tess().plan(Place("south", 10.0, -60.0, 600.0), fetcher(timeout_s=20.0)).wanted == ()


def test_stars_are_where_the_wcs_says(sector):
    survey, plan, files = sector
    exposure = survey.read_exposure(survey.register(plan.wanted[0], files))
    stars = Sky().fields[0].stars
    x, y = WCS(fits.Header.fromstring(exposure.info.wcs_header)).all_world2pix(stars.ra, stars.dec, 0)
    ny, nx = exposure.info.shape
    inside = (x > 0) & (x < nx - 1) & (y > 0) & (y < ny - 1)
    bright = np.flatnonzero(inside)[np.argmax(stars.flux[3][inside])]
    row, column = np.unravel_index(np.argmax(exposure.flux), exposure.flux.shape)
    assert np.hypot(row - y[bright], column - x[bright]) < 1.0


@pytest.mark.parametrize("name", ["tess25155310-s01-first-cadences.fits.gz", "asteroid_test.fits", "tpf_test_00.fits"])
def test_real_target_pixel_files_have_their_units_times_and_wcs(real_data, name):
    path = real_data("tpf") / name
    pixels = read_target_pixels(path)
    with fits.open(path) as file:
        primary, table = file[0].header, file[1]
        assert table.columns["FLUX"].unit == "e-/s"
        np.testing.assert_array_equal(pixels.flux, table.data["FLUX"])
        place = primary["RA_OBJ"], primary["DEC_OBJ"]
        if primary["TELESCOP"] == "TESS" and len(table.data) > 1:
            # DATE-OBS is the start of the first cadence, UTC at the spacecraft
            start = Time(primary["DATE-OBS"].rstrip("Z"), scale="utc").mjd
            assert (pixels.mjd[0] - start) * 86400 == pytest.approx(60, abs=3)
    wcs = WCS(fits.Header.fromstring(pixels.wcs_header))
    x, y = wcs.all_world2pix(*place, 0)
    ny, nx = pixels.flux.shape[1:]
    assert -0.5 < x < nx - 0.5
    assert -0.5 < y < ny - 0.5
    scale = 3600 * np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
    assert scale == pytest.approx(21.0 if "tpf_test" not in name else 3.98, rel=0.05)


def test_a_recorded_cutout_is_read(real_data, tmp_path):
    path = real_data("../recorded/mast/astrocut_107.27_-70.0_5x5.zip")
    pixels = read_target_pixels(path)
    assert pixels.flux.shape == (1282, 5, 5)
    assert np.diff(pixels.mjd[np.isfinite(pixels.mjd)]).min() * 24 == pytest.approx(0.5, abs=0.01)
    assert pixels.place == (107.27, -70.0)
    # the WCS of the cutouts of that year is off by the rows above the cutout
    assert not pixels.holds_its_place()
    wanted = Wanted("a", "a", "tess", 58330.0, 1.0, {}, extra={"sector": 1, "bin": 0})
    with pytest.raises(DataError, match="outside the image"):
        Tess().register(wanted, {"science": path})


def test_what_is_no_target_pixel_file_is_named(tmp_path):
    fits.writeto(tmp_path / "image.fits", np.zeros((5, 5)))
    with pytest.raises(DataError, match=r"image\.fits: no target pixel file"):
        read_target_pixels(tmp_path / "image.fits")
    (tmp_path / "text.fits").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"text\.fits: the target pixel file does not read"):
        read_target_pixels(tmp_path / "text.fits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("r",)}, r"bands must be \[tess\]"),
        ({"bin_hours": 0.0}, "bin_hours"),
        ({"min_cadences": 0}, "min_cadences"),
        ({"cutout_arcsec": 3000.0}, "cutout_arcsec"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Tess(**changes)
