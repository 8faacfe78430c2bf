import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.archives import Corrupt, Fetcher, Permanent
from astrid.errors import DataError
from astrid.image import ExposureInfo
from astrid.schema import MaskBit
from astrid.surveys.fetched import FetchedSurvey, Place, files_of, read_registered
from astrid.surveys.fits import read_pixels
from astrid.surveys.ztf import Ztf, overlap_of
from tests.archives.emulator.irsa import GAIN, SATURATION, SECONDS, START_MJD, quadrants
from tests.archives.emulator.sky import Sky
from tests.archives.registering import patient, place_of, register

ALL = Ztf(bands=("g", "r"), psf=True)


@pytest.fixture(scope="module")
def field(emulator, tmp_path_factory):
    """Everything of one field, registered: survey, fetcher, folder, infos."""
    from astrid.archives import Archive

    folder = tmp_path_factory.mktemp("ztf")
    fetcher = Fetcher(Archive(patient(), cache=str(folder / "cache"), base_url=emulator.url))
    survey = Ztf(bands=("r",), reference=True)
    return survey, fetcher, folder, register(survey, fetcher, folder, place_of())


def at(infos, epoch):
    """The exposure of an epoch of the emulator."""
    mjd = START_MJD + 5 * epoch + 0.02 + SECONDS / 2 / 86400
    return min(infos, key=lambda info: abs(info.mjd - mjd))


def test_it_is_a_survey_that_fetches():
    assert isinstance(ALL, FetchedSurvey)


def test_a_plan_counts_what_it_leaves_out(emulator, fetcher):
    plan = ALL.plan(place_of(size=200.0), fetcher(timeout_s=20.0))
    assert [one.band for one in plan.wanted].count("g") == 8
    assert [one.band for one in plan.wanted].count("r") == 10
    assert plan.rejected == {
        "failed the survey's quality checks (infobits)": 1,
        "not public (ipac_gid)": 1,
        "covers less than 30% of the place": 1,
    }
    assert [one.mjd for one in plan.wanted] == sorted(one.mjd for one in plan.wanted)


def test_of_one_exposure_the_quadrant_that_covers_most_is_taken(fetcher):
    plan = Ztf(bands=("r",), min_overlap=0.01).plan(place_of(size=200.0), fetcher(timeout_s=20.0))
    assert plan.rejected["another quadrant of the same exposure covers more"] == 1
    (one,) = [one for one in plan.wanted if one.exposure_id.endswith("q2")]
    assert 0.75 < one.extra["overlap"] < 0.85
    assert not [one for one in plan.wanted if one.exposure_id.endswith("q3")]


def test_times_are_asked_of_the_archive(emulator, fetcher):
    place = place_of(mjd_min=START_MJD + 4, mjd_max=START_MJD + 11)
    plan = Ztf(bands=("g",)).plan(place, fetcher(timeout_s=20.0))
    assert [round((one.mjd - START_MJD) / 5) for one in plan.wanted] == [1, 2]
    assert sum(plan.rejected.values()) == 0


def test_where_there_is_nothing_the_plan_is_empty(fetcher):
    plan = ALL.plan(Place("nowhere", 10.0, -60.0, 100.0), fetcher(timeout_s=20.0))
    assert plan.wanted == ()


def test_times_are_of_mid_exposure(field):
    _, _, _, infos = field
    expected = START_MJD + 0.02 + SECONDS / 2 / 86400
    assert at(infos, 0).mjd == pytest.approx(expected, abs=1e-6)


def test_counts_become_nanojansky_with_the_zero_point_of_the_header(field):
    """A count/s of the exposure info is a count of the image times its seconds."""
    _, _, _, infos = field
    for info in infos:
        magzp = fits.getheader(info.path)["MAGZP"]
        assert info.zero_point == pytest.approx(magzp - 2.5 * math.log10(SECONDS))
        assert (info.unit, info.gain, info.saturation) == ("count", GAIN, SATURATION)


def test_stars_of_the_sky_have_their_flux_in_the_image(field):
    survey, _, _, infos = field
    info = at(infos, 1)
    exposure = survey.read_exposure(info)
    sky = Sky().fields[0]
    wcs = WCS(fits.Header.fromstring(info.wcs_header))
    x, y = wcs.all_world2pix(sky.stars.ra, sky.stars.dec, 0)
    flux = sky.stars.flux[2]
    ny, nx = info.shape
    inside = (x > 12) & (x < nx - 13) & (y > 12) & (y < ny - 13)
    brightest = np.flatnonzero(inside)[np.argmax(flux[inside])]
    row, column = round(float(y[brightest])), round(float(x[brightest]))
    stamp = exposure.flux[row - 11 : row + 12, column - 11 : column + 12]
    background = np.nanmedian(exposure.flux)
    counts = float(np.nansum(stamp - background))
    measured = counts * 10 ** (-0.4 * (fits.getheader(info.path)["MAGZP"] - 31.4))
    assert measured == pytest.approx(flux[brightest], rel=0.25)  # the neighbours' light is in it


def test_a_clipped_cutout_is_placed_by_its_wcs(field, fetcher, tmp_path):
    """Its centre is not the centre of the square that was asked for."""
    survey = Ztf(bands=("r",))
    place = place_of(size=200.0)
    plan = survey.plan(place, fetcher(timeout_s=20.0))
    (one,) = [one for one in plan.wanted if one.exposure_id.endswith("q2")]
    files = {kind: fetcher(timeout_s=20.0).fetch(download).path for kind, download in one.files.items()}
    info = survey.register(one, files)
    ny, nx = info.shape
    assert nx < ny - 20
    x, y = WCS(fits.Header.fromstring(info.wcs_header)).all_world2pix(place.ra, place.dec, 0)
    assert y == pytest.approx((ny - 1) / 2, abs=2)
    assert abs(float(x) - (nx - 1) / 2) > 10
    exposure = survey.read_exposure(info)
    assert exposure.flux.shape == info.shape


def test_only_bits_of_flaws_are_masked(field):
    survey, _, _, infos = field
    info = infos[0]
    exposure = survey.read_exposure(info)
    bits = read_pixels(files_of(info)[1])[0].astype(int)
    sources = (bits == 1 << 1) & np.isfinite(exposure.flux)
    assert sources.any()
    assert (exposure.mask[sources] == 0).all()
    dead = (bits & (1 << 9)) != 0
    if dead.any():
        assert (exposure.mask[dead] & MaskBit.BAD).all()
    missing = ~np.isfinite(exposure.flux)
    np.testing.assert_array_equal(missing, (exposure.mask & MaskBit.NO_DATA) != 0)


@pytest.mark.parametrize(
    ("bit", "meaning"), [(0, MaskBit.BAD), (8, MaskBit.SATURATED), (12, MaskBit.BAD), (1, 0), (11, 0)]
)
def test_each_bit_of_the_mask_means_what_it_should(field, tmp_path, bit, meaning):
    survey, _, _, infos = field
    info = infos[0]
    bits = np.zeros(info.shape, np.int16)
    bits[5, 7] = 1 << bit
    path = tmp_path / "mask.fits"
    fits.writeto(path, bits)
    exposure = survey.read_exposure(ExposureInfo(**{**info.__dict__, "companions": {"mask": str(path)}}))
    plain = survey.read_exposure(ExposureInfo(**{**info.__dict__, "companions": {}}))
    assert exposure.mask[5, 7] == plain.mask[5, 7] | meaning


def test_the_psf_sums_to_one_and_is_as_wide_as_the_seeing(field):
    survey, _, _, infos = field
    psf = survey.read_exposure(infos[0]).psf
    assert psf.shape == (25, 25)
    assert psf.sum() == pytest.approx(1.0, abs=1e-5)


def test_an_exposure_without_a_psf_file_is_as_good(fetcher, emulator, tmp_path):
    case = fetcher(emulator.fault("404@daopsf", "no-psf"), timeout_s=20.0)
    survey = Ztf(bands=("r",))
    wanted = survey.plan(place_of(), case).wanted[0]
    assert wanted.files["psf"].optional
    with pytest.raises(Permanent):
        case.fetch(wanted.files["psf"])
    files = {kind: case.fetch(wanted.files[kind]).path for kind in ("science", "mask")}
    assert survey.read_exposure(survey.register(wanted, files)).psf is None


def test_the_reference_is_the_template(field):
    survey, _, _, infos = field
    template = survey.read_template(infos[0])
    assert template.flux.shape[0] > 50
    assert template.info.zero_point is not None
    deep, single = (
        float(np.nanmedian(np.abs(np.diff(one.flux)))) for one in (template, survey.read_exposure(infos[0]))
    )
    assert deep < 0.5 * single


def test_the_own_difference_lies_on_the_pixels_of_the_science_image(fetcher):
    survey, one = Ztf(bands=("r",), difference=True, psf=False), fetcher(timeout_s=20.0)
    wanted = survey.plan(place_of(), one).wanted[-1]
    assert wanted.files["difference"].optional
    info = survey.register(wanted, {kind: one.fetch(file).path for kind, file in wanted.files.items()})
    difference = survey.read_difference(info)
    assert difference.flux.shape == info.shape
    (event,) = Sky().fields[0].transients
    x, y = WCS(fits.Header.fromstring(info.wcs_header)).all_world2pix(event.ra, event.dec, 0)
    row, column = round(float(y)), round(float(x))
    stamp = difference.flux[row - 3 : row + 4, column - 3 : column + 4]
    assert np.nansum(stamp) > 20 * np.nanstd(np.diff(difference.flux[:20]))
    with pytest.raises(DataError, match=r"survey\.difference=true"):
        survey.read_difference(ExposureInfo(**{**info.__dict__, "companions": {}}))


def test_references_made_over_the_event_are_not_taken(fetcher):
    late = Ztf(bands=("r",), reference=True, reference_before="2018-06-01")
    assert "template" not in late.plan(place_of(), fetcher(timeout_s=20.0)).wanted[0].files
    early = Ztf(bands=("r",), reference=True, reference_before="2019-01-01")
    assert "template" in early.plan(place_of(), fetcher(timeout_s=20.0)).wanted[0].files
    without = Ztf(bands=("r",))
    assert "template" not in without.plan(place_of(), fetcher(timeout_s=20.0)).wanted[0].files


@pytest.mark.parametrize("key", ["MAGZP", "GAIN"])
def test_a_missing_key_is_named(field, tmp_path, key):
    survey, fetcher, _, infos = field
    with fits.open(infos[0].path) as file:
        header, data = file[0].header.copy(), file[0].data.copy()
    del header[key]
    path = tmp_path / "science.fits"
    fits.writeto(path, data, header)
    wanted = survey.plan(place_of(), fetcher).wanted[0]
    with pytest.raises(DataError, match=rf"science\.fits: no {key} in the header"):
        survey.register(wanted, {"science": path})


def test_a_search_without_a_column_names_it(monkeypatch, fetcher):
    from astrid.archives import ibe

    request = ibe.search_request("sci", *Sky().centres[0][1:], size_deg=0.05, columns=("field",))
    object.__setattr__(request.check, "columns", ("field", "magzp"))
    with pytest.raises(Corrupt, match="column 'magzp' is not in the table; its columns: field"):
        ibe.search(fetcher(timeout_s=20.0), request)


def test_what_was_registered_is_listed(field):
    survey, _, folder, infos = field
    assert {info.exposure_id for info in survey.list_exposures(folder).exposures} == {i.exposure_id for i in infos}
    assert read_registered(folder)[infos[0].exposure_id] == infos[0]


def test_nothing_registered_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"give targets=\.\.\."):
        Ztf().list_exposures(tmp_path)


def test_a_file_that_is_gone_says_how_to_get_it_back(field):
    survey, _, _, infos = field
    gone = ExposureInfo(**{**infos[0].__dict__, "path": infos[0].path + "x"})
    with pytest.raises(DataError, match="astrid ingest"):
        survey.read_exposure(gone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("u",)}, "bands must be of g, r, i"),
        ({"cutout_arcsec": 5000.0}, "cutout_arcsec"),
        ({"min_overlap": 0.0}, "min_overlap"),
        ({"reference_before": "soon"}, "reference_before must be a date"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        Ztf(**changes)


def test_the_overlap_of_a_square_with_itself_is_whole_and_half_with_its_half():
    place = Place("x", 150.0, 60.0, 600.0)
    half = 300 / 3600
    east = half / math.cos(math.radians(60.0))

    def square(west, right):
        return [(150 - west, 60 - half), (150 + right, 60 - half), (150 + right, 60 + half), (150 - west, 60 + half)]

    assert overlap_of(place, square(east, east)) == pytest.approx(1.0, abs=2e-2)
    assert overlap_of(place, square(0, 2 * east)) == pytest.approx(0.5, abs=2e-2)
    assert overlap_of(place, [(ra + 5, dec) for ra, dec in square(east, east)]) == 0.0
    assert overlap_of(place, [(ra + 180, -dec) for ra, dec in square(east, east)]) == 0.0


def test_every_quadrant_of_the_emulator_has_a_name_of_its_own():
    stems = [one.stem for one in quadrants(Sky())]
    assert len(set(stems)) == len(stems)
