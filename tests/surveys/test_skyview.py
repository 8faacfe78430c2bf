import math

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.wcs import WCS

from astrid.archives import Archive, Fetcher
from astrid.errors import DataError
from astrid.schema import MaskBit
from astrid.surveys.base import ContextSurvey
from astrid.surveys.fetched import FetchedSurvey
from astrid.surveys.skyview import SkyView
from tests.archives.emulator.sky import Sky
from tests.archives.emulator.skyview import LAYERS
from tests.archives.registering import patient, place_of, register
from tests.conftest import REPOSITORY

VALUES = yaml.safe_load((REPOSITORY / "conf" / "survey" / "skyview.yaml").read_text())
VALUES.pop("_target_")


def survey(**changes):
    """As configured, except for what is given."""
    return SkyView(**VALUES | changes)


@pytest.fixture(scope="module")
def pictures(emulator, tmp_path_factory):
    """Five bands of a field of which SkyView has no GALEX, registered: survey, infos by band, folder."""
    folder = tmp_path_factory.mktemp("skyview")
    fetcher = Fetcher(Archive(patient(), cache=str(folder / "cache"), base_url=emulator.url))
    infos = register(survey(), fetcher, folder, place_of(1))
    return survey(), {info.band: info for info in infos}, folder


def test_it_is_a_survey_that_fetches_pictures_without_a_time():
    assert isinstance(survey(), FetchedSurvey)
    assert isinstance(survey(), ContextSurvey)
    assert "never subtracted" in survey().no_epoch


def test_a_plan_has_one_picture_of_each_band_and_asks_nobody(fetcher, emulator):
    before = len(emulator.requests())
    plan = survey(bands=("dss2_red", "wise_w1")).plan(place_of(), fetcher())
    assert len(emulator.requests()) == before
    assert [one.band for one in plan.wanted] == ["dss2_red", "wise_w1"]
    assert all(math.isnan(one.mjd) for one in plan.wanted)
    download = plan.wanted[0].files["science"]
    assert VALUES["services"] == [*(services := ["skyview", "hips2fits", "hips2fits_mirror"]), "own"]
    assert [download.service, *(one.service for one in download.otherwise)] == services  # DSS2 has no archive to ask
    wise = plan.wanted[1].files["science"]
    assert [wise.service, *(one.service for one in wise.otherwise)] == [*services, "irsa"]
    assert dict(download.params)["pixels"] == str(math.ceil(76 / 1.0))
    assert dict(plan.wanted[1].files["science"].params)["pixels"] == str(math.ceil(76 / 1.375))


def test_services_are_asked_in_the_order_given_and_only_where_they_have_a_band(fetcher):
    asked = survey(bands=("dss2_red",), services=("hips2fits", "skyview")).plan(place_of(), fetcher()).wanted[0]
    assert asked.files["science"].service == "hips2fits"
    assert [one.service for one in asked.files["science"].otherwise] == ["skyview"]
    layers = {"dss2_red": {**VALUES["layers"]["dss2_red"], "skyview": None}}
    asked = survey(bands=("dss2_red",), layers=layers).plan(place_of(), fetcher()).wanted[0]
    assert asked.files["science"].service == "hips2fits"


def test_pictures_have_no_time_no_zero_point_and_say_what_they_are(pictures):
    _, infos, _ = pictures
    assert set(infos) == set(VALUES["bands"])
    for info in infos.values():
        assert math.isnan(info.mjd)
        assert math.isnan(info.exposure_time)
        assert info.zero_point is None
        assert info.extra["epoch"] is None
        assert info.extra["photometric"] is False
    assert {band: info.extra["magnitudes"] for band, info in infos.items()} == {
        "dss2_red": "none", "sdss_r": "AB", "galex_nuv": "AB", "2mass_j": "Vega", "wise_w1": "Vega",
    }  # fmt: skip
    assert infos["sdss_r"].extra["unit"] == "nanomaggy"
    assert infos["dss2_red"].extra["answered"]["science"]["pixelunits"].endswith("scaled densities")


def test_each_picture_says_who_sent_it(pictures):
    _, infos, _ = pictures
    sent = {band: info.extra["answered"]["science"]["service"] for band, info in infos.items()}
    assert sent == dict.fromkeys(infos, "skyview") | {"galex_nuv": "hips2fits"}


def test_stars_are_where_the_wcs_says_and_as_bright_as_the_unit_says(pictures):
    ours, infos, _ = pictures
    picture = ours.read_exposure(infos["sdss_r"])
    assert (picture.mask == 0).all()
    stars = Sky().fields[1].stars
    x, y = WCS(fits.Header.fromstring(picture.info.wcs_header)).all_world2pix(stars.ra, stars.dec, 0)
    ny, nx = picture.info.shape
    inside = np.flatnonzero((x > 15) & (x < nx - 16) & (y > 15) & (y < ny - 16))
    brightest = inside[np.argmax(stars.flux[2][inside])]
    row, column = round(float(y[brightest])), round(float(x[brightest]))
    nanomaggies = float(picture.flux[row - 12 : row + 13, column - 12 : column + 13].sum())
    assert nanomaggies * LAYERS["SDSSr"][3] == pytest.approx(stars.flux[2][brightest], rel=0.2)


def test_pictures_are_listed_by_name_for_they_have_no_order_of_time(pictures):
    ours, infos, folder = pictures
    listed = [info.exposure_id for info in ours.list_exposures(folder).exposures]
    assert listed == sorted(info.exposure_id for info in infos.values())


def test_pixels_without_data_are_masked(pictures, tmp_path):
    ours, infos, _ = pictures
    with fits.open(infos["dss2_red"].path) as file:
        file[0].data[3, 4] = np.nan
        file.writeto(tmp_path / "gap.fits")
    picture = ours.read_exposure(
        type(infos["dss2_red"])(**{**infos["dss2_red"].__dict__, "path": str(tmp_path / "gap.fits")})
    )
    assert picture.mask[3, 4] == MaskBit.NO_DATA
    assert np.count_nonzero(picture.mask) == 1


def test_a_picture_without_a_wcs_is_refused(fetcher, tmp_path):
    wanted = survey().plan(place_of(), fetcher()).wanted[0]
    fits.writeto(tmp_path / "plain.fits", np.ones((8, 8), np.float32))
    with pytest.raises(DataError, match=r"plain\.fits: no celestial WCS"):
        survey().register(wanted, {"science": tmp_path / "plain.fits"})


def test_what_to_cite_is_that_of_the_bands_and_services():
    text = survey(bands=("dss2_red", "2mass_j")).acknowledgement
    for part in ("Digitized Sky Surveys", "Two Micron", "SkyView facility", "hips2fits"):
        assert text.count(part) == 1
    assert "Sloan" not in text
    assert "Infrared Science Archive" in text
    assert "Infrared Science Archive" not in survey(bands=("dss2_red",)).acknowledgement
    assert "Mikulski Archive" in survey(bands=("galex_nuv",)).acknowledgement
    assert "SkyView facility" not in survey(services=("hips2fits",)).acknowledgement


LAYER = VALUES["layers"]["dss2_red"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("dss3",)}, r"bands must be of .*dss2_red.* got \['dss3'\]"),
        ({"bands": ()}, "bands must be of"),
        ({"services": ("aladin",)}, "services must be of skyview, hips2fits, hips2fits_mirror, own"),
        ({"largest_arcsec": 5000.0}, "largest_arcsec <= 1069"),
        ({"pixel_scale_arcsec": 0.0}, "pixel_scale_arcsec must be positive"),
        ({"layers": {"a": {**LAYER, "magnitudes": "ST"}}}, "layers.a: magnitudes must be one of AB, Vega, none"),
        ({"layers": {"a": {**LAYER, "pixel_scale_arcsec": 0}}}, "layers.a: pixel_scale_arcsec must be"),
        ({"layers": {"a": {**LAYER, "skyview": None, "hips": None}}}, "layers.a: needs skyview=, hips= or own="),
        ({"layers": {"a": {**LAYER, "own": "dss/red"}}}, r"layers.a: own must be survey/band .* got 'dss/red'"),
        ({"layers": {"a": {**LAYER, "own": "sdss/y"}}}, "layers.a: band must be one of u, g, r, i, z, got 'y'"),
        ({"layers": {"a": {"colour": "red"}}}, "layers.a: .*colour"),
        (
            {"layers": {"a": {**LAYER, "hips": None}}, "bands": ("a",), "services": ("hips2fits",)},
            r"services \['hips2fits'\] have no a",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        survey(**changes)
