"""What the surveys' own archives send: which image is chosen, how it is cut, and that they are the last asked."""

import bz2
import gzip
import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.wcs import WCS

from astrid.archives import Archive, Corrupt, Fetcher, NoCoverage, Permanent, Transient, galex, sdss, sia
from astrid.archives.checks import FitsImage, Unfit
from astrid.archives.footprints import share_covered
from astrid.archives.frames import cut
from astrid.simulation.psf import MoffatPsf
from astrid.surveys.fetched import with_answers
from astrid.surveys.skyview import SkyView
from tests.archives.emulator import Sky
from tests.archives.emulator.own import MJD, SLANTED
from tests.archives.emulator.skyview import LAYERS, NOISE
from tests.archives.registering import patient, place_of
from tests.conftest import REPOSITORY

VALUES = yaml.safe_load((REPOSITORY / "conf" / "survey" / "skyview.yaml").read_text())
VALUES.pop("_target_")
_, RA, DEC = Sky().centres[0]
SIDE = 76 / 3600
DOWNLOADS = {
    "2mass": lambda ra, dec, side=SIDE: sia.cutout("twomass_allsky", "J", ra, dec, side),
    "wise": lambda ra, dec, side=SIDE: sia.cutout("wise_allwise", "W1", ra, dec, side),
    "sdss": lambda ra, dec, side=SIDE: sdss.cutout("r", ra, dec, side),
    "galex": lambda ra, dec, side=SIDE: galex.cutout("NUV", ra, dec, side),
}
WITHOUT_SKYVIEW = "503@current|hips2fits"  # "current" is in the address of every page of SkyView


@pytest.fixture(scope="module")
def ours(emulator, tmp_path_factory):
    """A fetcher with time, whose SkyView and hips2fits are down."""
    folder = tmp_path_factory.mktemp("own")
    services = {name: replace(one, attempts=1) for name, one in patient().items()}
    return Fetcher(Archive(services, cache=str(folder), base_url=emulator.fault(WITHOUT_SKYVIEW, "own")))


@pytest.fixture(scope="module")
def pictures(ours):
    """A picture of each survey that has an archive, of a field of which SkyView and hips2fits have it too."""
    survey = SkyView(**VALUES | {"bands": ("sdss_r", "galex_nuv", "2mass_j", "wise_w1")})
    found = {}
    for wanted in survey.plan(place_of(1), ours).wanted:
        fetched = ours.fetch(wanted.files["science"])
        info = survey.register(with_answers(wanted, {"science": fetched}), {"science": fetched.path})
        found[wanted.band] = survey.read_exposure(info)
    return found


SENT_BY = {"sdss_r": "sdss", "galex_nuv": "mast", "2mass_j": "irsa", "wise_w1": "irsa"}


@pytest.mark.parametrize("band", SENT_BY)
def test_where_skyview_and_hips2fits_are_down_the_own_archive_sends_the_picture(band, pictures):
    answered = pictures[band].info.extra["answered"]["science"]
    assert answered["service"] == SENT_BY[band]
    assert ".fits" in answered["file"]


@pytest.mark.parametrize("band", SENT_BY)
def test_each_pixel_has_the_light_of_the_sky_at_its_position(band, pictures):
    picture = pictures[band]
    wcs = WCS(fits.Header.fromstring(picture.info.wcs_header))
    _, sky_band, fwhm, unit, level = LAYERS[VALUES["layers"][band]["skyview"]]
    scale = VALUES["layers"][band]["pixel_scale_arcsec"]
    psf = MoffatPsf(fwhm / scale, 3.0, 0.0, 0.0)
    sky = Sky()
    expected = sky.light(sky.fields[1], wcs, picture.flux.shape, sky_band, MJD, psf, scale) / unit + level
    noise = NOISE.get(VALUES["layers"][band]["skyview"][:4], 0.6)
    assert (picture.mask == 0).all()
    assert np.ptp(expected) > 20 * noise  # there is something to see
    assert np.std(picture.flux - expected) < 1.1 * noise
    assert np.abs(picture.flux - expected).max() < 7 * noise + 1e-4 * expected.max()


@pytest.mark.parametrize("band", SENT_BY)
def test_the_brightest_star_is_where_its_coordinates_say(band, pictures):
    picture, stars = pictures[band], Sky().fields[1].stars
    x, y = WCS(fits.Header.fromstring(picture.info.wcs_header)).all_world2pix(stars.ra, stars.dec, 0)
    ny, nx = picture.flux.shape
    inside = np.flatnonzero((x > 5) & (x < nx - 6) & (y > 5) & (y < ny - 6))
    star = inside[np.argmax(stars.flux[2][inside])]
    row, column = round(float(y[star])), round(float(x[star]))
    around = picture.flux[row - 4 : row + 5, column - 4 : column + 5]
    peak = np.unravel_index(np.argmax(around), around.shape)
    assert np.hypot(peak[0] - 4 + row - y[star], peak[1] - 4 + column - x[star]) < 1.0


@pytest.mark.parametrize("band", SENT_BY)
def test_the_picture_is_the_square_that_was_asked_for_and_not_the_frame(band, pictures):
    picture, place = pictures[band], place_of(1)
    wcs = WCS(fits.Header.fromstring(picture.info.wcs_header))
    corners = wcs.calc_footprint(axes=picture.flux.shape[::-1], center=False)
    assert (
        share_covered(corners.tolist(), place.ra, place.dec, place.fetched_arcsec / 3600) > 0.98
    )  # IRSA cuts whole pixels
    assert share_covered(corners.tolist(), place.ra, place.dec, 5 * place.fetched_arcsec / 3600) < 0.1


def test_what_the_header_says_of_its_pixels_is_recorded_and_nothing_else(pictures):
    said = {band: picture.info.extra["header"] for band, picture in pictures.items()}
    assert said == {
        "sdss_r": {"zero_point": "unknown", "unit": "nanomaggy", "observed": "2001-02-20"},
        "galex_nuv": {"zero_point": "unknown", "unit": "unknown", "observed": "unknown"},
        "2mass_j": {"zero_point": 20.9, "unit": "unknown", "observed": "1998-04-27"},
        "wise_w1": {"zero_point": 20.5, "unit": "unknown", "observed": "2010-05-01"},
    }
    for picture in pictures.values():
        assert picture.info.zero_point is None
        assert np.isnan(picture.info.mjd)
        assert picture.info.extra["epoch"] is None


@pytest.mark.parametrize(("survey", "file"), [("2mass", "s001/image/ji0010056"), ("wise", "0101p000_ac51-w1-int-3")])
def test_of_several_images_the_one_is_cut_that_covers_most(survey, file, ours):
    _, ra, dec = Sky().centres[1]
    found = ours.fetch(DOWNLOADS[survey](ra, dec, 90 / 3600)).note["found"]
    assert file in found["file"]
    assert found["covered"] == "1.000"


def test_near_the_edge_of_one_image_of_2mass_the_next_is_cut(ours):
    found = ours.fetch(DOWNLOADS["2mass"](RA + 240 / 3600 / np.cos(np.radians(DEC)), DEC)).note["found"]
    assert "s000/" in found["file"]


def test_of_galex_the_longest_exposure_is_cut_that_holds_the_place_well_inside(ours):
    found = ours.fetch(DOWNLOADS["galex"](RA, DEC)).note["found"]
    assert (found["obs_id"], found["exposure_seconds"]) == ("galex_0_1", "1500.0")


def test_a_place_beside_the_nearest_frame_of_sdss_is_cut_from_the_next(ours, emulator):
    _, ra, dec = Sky().centres[SLANTED]
    found = ours.fetch(DOWNLOADS["sdss"](ra, dec)).note["found"]
    asked = [one.path.rpartition("-")[2] for one in emulator.requests("sdss", f"{1000 + SLANTED}/")]
    assert asked == ["0101.fits.bz2", "0100.fits.bz2"]
    assert found["file"].endswith("0100.fits.bz2")


def test_a_frame_is_fetched_once_for_all_squares_on_it(ours, emulator):
    _, ra, dec = Sky().centres[3]
    ours.fetch(DOWNLOADS["sdss"](ra, dec))
    before = len(emulator.requests("sdss"))
    ours.fetch(DOWNLOADS["sdss"](ra, dec + 20 / 3600))
    assert len(emulator.requests("sdss")) == before


@pytest.mark.parametrize("survey", DOWNLOADS)
def test_where_the_archive_has_no_image_there_is_no_coverage(survey, ours):
    with pytest.raises(NoCoverage):
        ours.fetch(DOWNLOADS[survey](RA + 5, DEC))


@pytest.mark.parametrize("survey", DOWNLOADS)
def test_what_is_asked_travels_to_workers_and_differs_by_square(survey, ours):
    one = DOWNLOADS[survey](RA, DEC)
    assert pickle.loads(pickle.dumps(one)) == one
    others = [DOWNLOADS[survey](RA, DEC, 2 * SIDE), DOWNLOADS[survey](RA, DEC + 0.001)]
    assert len({ours.key(download) for download in (one, *others)}) == 3


def test_bands_are_other_files():
    pairs = [
        (sia.cutout("twomass_allsky", band, RA, DEC, SIDE) for band in "JH"),
        (sdss.cutout(band, RA, DEC, SIDE) for band in "gr"),
        (galex.cutout(band, RA, DEC, SIDE) for band in ("NUV", "FUV")),
    ]
    for one, other in pairs:
        assert one.params != other.params


def test_an_image_at_another_host_is_refused(ours, monkeypatch):
    row = {
        "s_ra": str(RA), "s_dec": str(DEC), "s_region": "", "energy_bandpassname": "J", "obs_id": "x",
        "dataproduct_subtype": "science", "access_url": "https://elsewhere.example.org/ibe/data/a.fits",
    }  # fmt: skip
    monkeypatch.setattr(sia, "search", lambda *_: [row])
    with pytest.raises(Permanent, match="another host: https://elsewhere"):
        ours.fetch(sia.cutout("twomass_allsky", "J", RA, DEC, 0.011))


def test_the_query_for_frames_reaches_over_the_meridian():
    assert "f.ra >= 359.85" in (query := dict(sdss.search_request(0.001, 0.0).params)["cmd"])
    assert "OR f.ra <= 0.15" in query
    assert " OR " not in dict(sdss.search_request(10.0, 0.0).params)["cmd"]
    limits = {"dec": 0.0, "decMin": -0.1, "decMax": 0.1}
    over = {**limits, "ra": 359.99, "raMin": 0.0, "raMax": 359.999}
    beside = {**limits, "ra": 0.2, "raMin": 0.1, "raMax": 0.3}
    assert sdss.by_nearness([beside, over], 0.001, 0.0) == [over]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b'[{"TableName": "Table1", "Rows": [{"run": 1}]}]', Corrupt),
        (b'[{"TableName": "Table1", "Rows": [', Corrupt),
        (b"", Corrupt),
        (b'{"ErrorMessage": "busy"}', Transient),
        (b"[]", Transient),
    ],
)
def test_an_answer_of_skyserver_that_is_no_table_is_told(answer, outcome):
    with pytest.raises(Unfit) as caught:
        sdss.read_rows(answer)
    assert caught.value.outcome is outcome


def test_unknown_bands_and_collections_are_refused():
    with pytest.raises(ValueError, match="collection must be one of twomass_allsky, wise_allwise, got 'iras'"):
        sia.cutout("iras", "J", RA, DEC, SIDE)
    with pytest.raises(ValueError, match="band must be one of u, g, r, i, z, got 'y'"):
        sdss.cutout("y", RA, DEC, SIDE)
    with pytest.raises(ValueError, match="band must be one of NUV, FUV, got 'nuv'"):
        galex.cutout("nuv", RA, DEC, SIDE)


def frame(shape=(60, 80), angle=30.0):
    """A frame whose pixels are their own numbers, after an empty HDU: as a file and as WCS."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---SIN", "DEC--SIN"], [10.0, -5.0], [40.5, 30.5]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[-c, s], [s, c]]) / 3600
    wcs.wcs.set()
    header = wcs.to_header()
    header["MAGZP"], header["CHECKSUM"] = 20.5, "of the whole"
    stream = io.BytesIO()
    pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, header=header)]).writeto(stream)
    return stream.getvalue(), wcs


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_a_square_keeps_pixels_positions_and_header_of_its_frame(pack):
    raw, wcs = frame()
    square, where = cut(pack(raw), 10.0, -5.0, 20 / 3600)
    with fits.open(io.BytesIO(square)) as file:
        pixels, header = file[0].data, file[0].header
        number = int(pixels[3, 4])
        ra, dec = WCS(header).all_pix2world(4, 3, 0)
    assert np.allclose(wcs.all_pix2world(number % 80, number // 80, 0), (ra, dec), atol=1e-8)
    assert header["MAGZP"] == 20.5
    assert "CHECKSUM" not in header
    assert pixels.shape == (28, 28)  # the upright square is slanted on the frame
    assert where == "rows 16:44 of 60, columns 26:54 of 80"


def test_a_square_is_clipped_at_the_edge_of_its_frame_and_none_is_beside_it():
    raw, wcs = frame(angle=0.0)
    ra, dec = (float(value) for value in wcs.all_pix2world(75, 30, 0))
    square, _ = cut(raw, ra, dec, 20 / 3600)
    assert fits.getdata(io.BytesIO(square)).shape == (21, 15)
    for other in (float(wcs.all_pix2world(85, 30, 0)[0]), 190.0):
        with pytest.raises(Unfit, match="not on the frame") as caught:
            cut(raw, other, dec, 20 / 3600)
        assert caught.value.outcome is NoCoverage


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_that_is_cut_short_is_corrupt(pack, tmp_path):
    packed = pack(frame()[0])
    path = tmp_path / "frame"
    path.write_bytes(packed)
    assert FitsImage()(path)[0] == "FITS of full length"
    path.write_bytes(packed[: len(packed) // 2])
    for read in (lambda: FitsImage()(path), lambda: cut(path.read_bytes(), 10.0, -5.0, 0.01)):
        with pytest.raises(Unfit, match="do not decompress") as caught:
            read()
        assert caught.value.outcome is Corrupt
