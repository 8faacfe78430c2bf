import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from astrid.archives import Archive, Fetcher
from astrid.errors import DataError
from astrid.image import ExposureInfo
from astrid.schema import MaskBit
from astrid.surveys.fetched import FetchedSurvey, Place
from astrid.surveys.fits import read_pixels
from astrid.surveys.ps1 import Ps1, linear
from tests.archives.emulator.ps1 import EDGE_ARCSEC, START_MJD
from tests.archives.emulator.sky import Sky
from tests.archives.registering import patient, place_of, register


@pytest.fixture(scope="module")
def field(emulator, tmp_path_factory):
    """Two warps of one field, registered: survey, fetcher, infos."""
    folder = tmp_path_factory.mktemp("ps1")
    fetcher = Fetcher(Archive(patient(), cache=str(folder / "cache"), base_url=emulator.url))
    survey = Ps1(bands=("r",), reference=True)
    return survey, fetcher, register(survey, fetcher, folder, place_of(), 2)


def copy_of(info, tmp_path, **changes):
    """The exposure with another header: None deletes a key."""
    with fits.open(info.path) as file:
        header, data = file[0].header.copy(), file[0].data.copy()
    for key, value in changes.items():
        key = key.replace("_", "-") if key == "MJD_OBS" else key.replace("__", ".")
        if value is None:
            del header[key]
        else:
            header[f"HIERARCH {key}" if "." in key else key] = value
    path = tmp_path / "warp.fits"
    fits.writeto(path, data, header)
    return path


def test_it_is_a_survey_that_fetches():
    assert isinstance(Ps1(), FetchedSurvey)


def test_a_plan_has_a_warp_for_each_exposure_with_mask_and_variance(fetcher):
    plan = Ps1(bands=("g", "r")).plan(place_of(), fetcher(timeout_s=20.0))
    assert [one.band for one in plan.wanted].count("r") == 8
    assert [one.band for one in plan.wanted].count("g") == 8
    assert plan.rejected == {"flagged as bad by the archive (badflag)": 1}
    assert set(plan.wanted[0].files) == {"science", "mask", "variance"}
    assert [one.mjd for one in plan.wanted] == sorted(one.mjd for one in plan.wanted)
    light = Ps1(bands=("r",), weights=False).plan(place_of(), fetcher(timeout_s=20.0))
    assert set(light.wanted[0].files) == {"science", "mask"}


def test_of_two_skycells_the_one_that_holds_more_is_taken(fetcher):
    """Most of the square lies beyond the edge of the first."""
    name, ra, dec = Sky().centres[0]
    east = ra + (EDGE_ARCSEC + 10) / 3600 / math.cos(math.radians(dec))
    plan = Ps1(bands=("g",)).plan(Place(name, east, dec, 120.0), fetcher(timeout_s=20.0))
    assert len(plan.wanted) == 8
    assert {one.extra["skycell"] for one in plan.wanted} == {"1700.052"}
    assert {one.extra["overlap"] for one in plan.wanted} == {1.0}
    assert plan.rejected["another skycell of the same exposure covers more"] == 8


def test_times_limit_what_is_wanted(fetcher):
    place = place_of(mjd_min=START_MJD + 4, mjd_max=START_MJD + 11)
    plan = Ps1(bands=("g",)).plan(place, fetcher(timeout_s=20.0))
    assert [round((one.mjd - START_MJD) / 5) for one in plan.wanted] == [1, 2]


def test_where_there_is_nothing_the_plan_is_empty(fetcher):
    assert Ps1().plan(Place("south", 10.0, -60.0, 100.0), fetcher(timeout_s=20.0)).wanted == ()


def test_times_are_of_mid_exposure_in_utc(field):
    _, _, infos = field
    start = Time(fits.getheader(infos[0].path)["MJD-OBS"], format="mjd", scale="tai")
    assert infos[0].mjd == pytest.approx(start.utc.mjd + 20 / 86400, abs=1e-8)
    assert (start.mjd - infos[0].mjd) * 86400 == pytest.approx(37 - 20, abs=1e-3)


def test_stars_of_the_sky_have_their_flux_in_the_image(field):
    survey, _, infos = field
    for image in (survey.read_exposure(infos[1]), survey.read_template(infos[1])):
        sky = Sky().fields[0]
        wcs = WCS(fits.Header.fromstring(image.info.wcs_header))
        x, y = wcs.all_world2pix(sky.stars.ra, sky.stars.dec, 0)
        flux = sky.stars.flux[2]
        ny, nx = image.info.shape
        inside = (x > 25) & (x < nx - 26) & (y > 25) & (y < ny - 26)
        brightest = np.flatnonzero(inside)[np.argmax(flux[inside])]
        row, column = round(float(y[brightest])), round(float(x[brightest]))
        counts = float(np.nansum(image.flux[row - 24 : row + 25, column - 24 : column + 25]))
        nanojansky = counts / image.info.exposure_time * 10 ** (-0.4 * (image.info.zero_point - 31.4))
        assert nanojansky == pytest.approx(flux[brightest], rel=0.15)  # the neighbours' light is in it


def test_only_bits_of_flaws_are_masked(field):
    survey, _, infos = field
    info = infos[0]
    exposure = survey.read_exposure(info)
    stored = read_pixels(info.companions["mask"])[0]
    cores = np.nan_to_num(stored) == 4096
    assert cores.any()
    assert (exposure.mask[cores] == 0).all()
    assert (exposure.mask[np.isnan(stored)] == 0).all()  # NaN in the cutout of a mask is 0
    gap = np.nan_to_num(stored) == 8
    assert (exposure.mask[gap] == MaskBit.BAD | MaskBit.NO_DATA).all()


@pytest.mark.parametrize(
    ("bit", "meaning"), [(1, MaskBit.BAD), (32, MaskBit.SATURATED), (64, MaskBit.BAD), (128, 0), (8192, MaskBit.BAD)]
)
def test_each_bit_of_the_mask_means_what_it_should(field, tmp_path, bit, meaning):
    survey, _, infos = field
    info = infos[0]
    bits = np.full(info.shape, np.nan, np.float32)
    bits[50, 70] = bit
    path = tmp_path / "mask.fits"
    fits.writeto(path, bits)
    exposure = survey.read_exposure(ExposureInfo(**{**info.__dict__, "companions": {"mask": str(path)}}))
    assert exposure.mask[50, 70] == meaning


def test_the_variance_is_that_of_the_pixels(field):
    survey, _, infos = field
    exposure = survey.read_exposure(infos[0])
    quiet = (exposure.mask == 0) & (exposure.flux < 60)
    assert np.std(exposure.flux[quiet]) == pytest.approx(np.sqrt(np.median(exposure.variance[quiet])), rel=0.15)


@pytest.mark.parametrize("wrong", [lambda v: 1 / v, lambda v: np.sqrt(v)])
def test_what_is_no_variance_is_refused(field, tmp_path, wrong):
    survey, _, infos = field
    path = tmp_path / "wt.fits"
    fits.writeto(path, wrong(read_pixels(infos[0].companions["variance"])[0]).astype(np.float32))
    info = ExposureInfo(**{**infos[0].__dict__, "companions": {"variance": str(path)}})
    with pytest.raises(DataError, match=r"wt\.fits: is no variance .* survey\.weights=false"):
        survey.read_exposure(info)


def test_asinh_is_undone_where_the_keywords_are_there_and_the_pixels_are_asinh():
    truth = np.random.default_rng(1).normal(0, 30, (64, 64)).astype(np.float32)
    truth[30, 30] = 5e5
    softening, offset = 12.0, 3.0
    header = fits.Header({"BSOFTEN": softening, "BOFFSET": offset})
    stored = (np.arcsinh((truth - offset) / 2 / softening) / 0.4 / math.log(10)).astype(np.float32)
    assert linear(stored, header) == pytest.approx(truth, rel=1e-4, abs=1e-3)
    np.testing.assert_array_equal(linear(truth, header), truth)  # converted already
    np.testing.assert_array_equal(linear(stored, fits.Header()), stored)


@pytest.mark.parametrize("key", ["EXPTIME", "FPA__ZP", "MJD_OBS", "TIMESYS"])
def test_a_missing_key_is_named(field, tmp_path, key):
    survey, fetcher, infos = field
    wanted = survey.plan(place_of(), fetcher).wanted[0]
    path = copy_of(infos[0], tmp_path, **{key: None})
    with pytest.raises(DataError, match=rf"warp\.fits: .*{key.replace('__', '.').replace('_', '-')}"):
        survey.register(wanted, {"science": path})


def test_a_zero_point_that_holds_the_exposure_time_is_refused(field, tmp_path):
    survey, fetcher, infos = field
    wanted = survey.plan(place_of(), fetcher).wanted[0]
    path = copy_of(infos[0], tmp_path, FPA__ZP=28.8)
    with pytest.raises(DataError, match=r"FPA\.ZP = 28\.8 is no zero point of one count per second"):
        survey.register(wanted, {"science": path})


def test_times_in_utc_are_taken_as_they_are(field, tmp_path):
    survey, fetcher, infos = field
    wanted = survey.plan(place_of(), fetcher).wanted[0]
    path = copy_of(infos[0], tmp_path, TIMESYS="UTC")
    started = fits.getheader(path)["MJD-OBS"]
    assert survey.register(wanted, {"science": path}).mjd == pytest.approx(started + 20 / 86400, abs=1e-8)


def test_an_older_list_without_badflag_reads(fetcher, monkeypatch):
    from tests.archives.emulator import ps1 as emulated

    monkeypatch.setattr(emulated, "COLUMNS", emulated.COLUMNS[:-1])
    monkeypatch.setattr(emulated, "FLAGS", False)
    plan = Ps1(bands=("g",)).plan(place_of(3), fetcher(timeout_s=20.0))
    assert len(plan.wanted) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("u",)}, "bands must be of g, r, i, z, y"),
        ({"bands": ()}, "bands must be of g, r, i, z, y"),
        ({"largest_arcsec": 5000.0}, "largest_arcsec <= 1350"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Ps1(**changes)
