import json
import math
from itertools import chain

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.archives import Archive, Fetcher, mast
from astrid.errors import CellSkipped, DataError
from astrid.schema import MaskBit
from astrid.surveys.directory import Directory
from astrid.surveys.fetched import FetchedSurvey, Place, Wanted
from astrid.surveys.hst import Hst, band_of, products_requests
from tests.archives.emulator.mast import HST_SECONDS, HST_START_MJD, HST_ZERO_POINT
from tests.archives.emulator.sky import Sky
from tests.archives.registering import patient, place_of, register

PLACE = place_of(size=30.0, margin=1.6)


@pytest.fixture(scope="module")
def field(emulator, tmp_path_factory):
    """The images of one field, registered: survey, fetcher, infos."""
    folder = tmp_path_factory.mktemp("hst")
    fetcher = Fetcher(Archive(patient(), cache=str(folder / "cache"), base_url=emulator.url))
    survey = Hst(cutout_arcsec=30.0)
    return survey, fetcher, register(survey, fetcher, folder, PLACE)


def test_it_is_a_survey_that_fetches():
    assert isinstance(Hst(), FetchedSurvey)


def test_a_plan_has_the_drizzled_image_of_each_observation_with_its_size(fetcher):
    plan = Hst().plan(PLACE, fetcher(timeout_s=20.0))
    assert [one.exposure_id.rpartition("_")[2] for one in plan.wanted] == ["drc"] * 3
    assert {one.band for one in plan.wanted} == {"f606w"}
    for one in plan.wanted:
        file = one.files["science"]
        assert (file.exact, file.whole) == (True, True)
        assert file.size > 1e6
        assert dict(file.params)["uri"].startswith("mast:HST/product/")


def test_filters_instruments_dates_and_sizes_limit_what_is_wanted(fetcher):
    one = fetcher(timeout_s=20.0)
    assert Hst(bands=("F814W",)).plan(PLACE, one).wanted == ()
    assert Hst(instruments=("WFC3/UVIS",)).plan(PLACE, one).wanted == ()
    assert len(Hst(instruments=("ACS/WFC",)).plan(PLACE, one).wanted) == 3
    later = place_of(size=30.0, mjd_min=HST_START_MJD + 5, mjd_max=HST_START_MJD + 15)
    assert len(Hst().plan(later, one).wanted) == 1
    assert Hst(max_gb=0.001).plan(PLACE, one).rejected == {"larger than survey.max_gb": 3}
    assert Hst().plan(Place("south", 10.0, -60.0, 30.0), one).wanted == ()


def test_times_units_and_ab_zero_point_come_from_the_header(field):
    _, _, infos = field
    for number, info in enumerate(sorted(infos, key=lambda info: info.mjd)):
        assert info.mjd == pytest.approx(HST_START_MJD + 10 * number + HST_SECONDS / 2 / 86400, abs=1e-8)
        assert info.unit == "electron/s"
        assert info.zero_point == pytest.approx(HST_ZERO_POINT, abs=2e-3)
        assert info.exposure_time == HST_SECONDS


def test_the_part_around_the_place_is_read_where_its_wcs_says(field):
    survey, _, infos = field
    exposure = survey.read_exposure(infos[0])
    ny, nx = exposure.info.shape
    assert 800 < ny < 1000
    wcs = WCS(fits.Header.fromstring(exposure.info.wcs_header))
    x, y = wcs.all_world2pix(PLACE.ra, PLACE.dec, 0)
    assert (float(x), float(y)) == pytest.approx(((nx - 1) / 2, (ny - 1) / 2), abs=2)
    stars = Sky().fields[0].stars
    x, y = wcs.all_world2pix(stars.ra, stars.dec, 0)
    inside = (x > 30) & (x < nx - 31) & (y > 30) & (y < ny - 31)
    brightest = np.flatnonzero(inside)[np.argmax(stars.flux[2][inside])]
    row, column = round(float(y[brightest])), round(float(x[brightest]))
    stamp = exposure.flux[row - 20 : row + 21, column - 20 : column + 21]
    flux = float(np.sum(stamp - np.median(exposure.flux))) * 10 ** (0.4 * (31.4 - exposure.info.zero_point))
    assert flux == pytest.approx(stars.flux[2][brightest], rel=0.1)


def test_pixels_without_weight_are_no_data(field, tmp_path):
    survey, fetcher, _ = field
    name, ra, dec = Sky().centres[0]
    place = Place(name, ra + 16 / 3600 / math.cos(math.radians(dec)), dec, 20.0)
    wanted = survey.plan(place, fetcher).wanted[0]
    info = survey.register(wanted, {"science": fetcher.fetch(wanted.files["science"]).path})
    exposure = survey.read_exposure(info)
    blank = (exposure.mask & MaskBit.NO_DATA) != 0
    assert blank.any()
    assert not blank.all()
    np.testing.assert_array_equal(blank, np.isnan(exposure.flux))


def test_a_place_off_the_image_is_skipped(field):
    survey, fetcher, _ = field
    name, ra, dec = Sky().centres[0]
    wanted = survey.plan(Place(name, ra, dec + 60 / 3600, 20.0), fetcher).wanted[0]
    with pytest.raises(CellSkipped, match="not on the image"):
        survey.register(wanted, {"science": fetcher.fetch(wanted.files["science"]).path})


@pytest.mark.parametrize("key", ["BUNIT", "PHOTFLAM", "PHOTPLAM", "EXPSTART", "EXPEND", "EXPTIME"])
def test_a_missing_key_is_named(field, tmp_path, key):
    survey, fetcher, infos = field
    wanted = survey.plan(PLACE, fetcher).wanted[0]
    path = tmp_path / "image.fits"
    with fits.open(infos[0].path) as file:
        for hdu in file[:2]:
            hdu.header.remove(key, ignore_missing=True)
        file.writeto(path)
    with pytest.raises(DataError, match=rf"image\.fits: no {key} in the header"):
        survey.register(wanted, {"science": path})


def test_real_cutouts_of_hubble_have_their_time_and_wcs(real_data, tmp_path):
    """Cut from a drizzled image by hand: without calibration keys `hst` refuses them, `directory` takes them."""
    path = real_data("hst_hsc_cosmos") / "Cut_HST.fits"
    ra, dec = WCS(fits.getheader(path)).all_pix2world(124.5, 124.5, 0)
    extra = {"ra": float(ra), "dec": float(dec), "side": 10.0}
    wanted = Wanted("a/b", "a", "f814w", 53077.0, 1.0, {}, extra=extra)
    with pytest.raises(DataError, match="no EXPSTART in the header"):
        Hst().register(wanted, {"science": path})
    (tmp_path / "cut.fits").write_bytes(path.read_bytes())
    survey = Directory(path=str(tmp_path), band="f814w", exposure_time=2028.0, zero_point=25.937)
    (info,) = survey.list_exposures(tmp_path).exposures
    assert info.mjd == pytest.approx(53077.0, abs=0.02)
    assert info.zero_point == pytest.approx(25.937 - 2.5 * math.log10(2028.0))  # of one count per second
    wcs = WCS(fits.Header.fromstring(info.wcs_header))
    scale = 3600 * np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
    assert scale == pytest.approx(0.03, rel=0.01) or scale == pytest.approx(0.05, rel=0.01)
    assert survey.read_exposure(info).flux.shape == info.shape == (250, 250)


@pytest.mark.parametrize(("name", "n"), [("caom.json", 19), ("products.json", 22)])
def test_recorded_answers_are_read(real_data, name, n):
    raw = real_data(f"../recorded/mast/{name}").read_bytes()
    columns = ("obsid", "filters", "t_min") if name == "caom.json" else ("dataURI", "productSubGroupDescription")
    rows = mast.read_rows(raw, "data", columns)
    assert len(rows) == n
    if name == "caom.json":
        assert any(band_of(row["filters"]) == "f814w" for row in rows)


def test_recorded_sectors_are_read(real_data):
    rows = mast.read_rows(real_data("../recorded/mast/tess_sector.json").read_bytes(), "results", ("sector",))
    assert int(rows[0]["sector"]) == 1


def test_several_observations_are_one_request():
    (request,) = products_requests(["1", "2"])
    assert '"obsid": "1,2"' in dict(request.data)["request"]


def test_very_many_observations_are_several_requests():
    requests = products_requests([str(number) for number in range(450)])
    asked = [json.loads(dict(request.data)["request"])["params"]["obsid"].split(",") for request in requests]
    assert [len(one) for one in asked] == [200, 200, 50]
    assert list(chain.from_iterable(asked)) == [str(number) for number in range(450)]


@pytest.mark.parametrize(
    ("text", "band"), [("F606W", "f606w"), ("CLEAR1L;F814W", "f814w"), ("F606W;F814W", None), ("detection", None)]
)
def test_the_filter_of_an_observation_is_the_only_one(text, band):
    assert band_of(text) == band


@pytest.mark.parametrize(
    ("changes", "message"), [({"bands": ("r",)}, "f606w"), ({"cutout_arcsec": 900.0}, "cutout_arcsec")]
)
def test_a_wrong_setting_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Hst(**changes)
