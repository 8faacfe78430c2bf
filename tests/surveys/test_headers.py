import math

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from astrid.errors import DataError
from astrid.surveys.headers import (
    COMMON_KEYWORDS,
    Headers,
    celestial_header,
    keyword_table,
    parse_unit,
    pixel_area_sr,
)

SHAPE = (40, 60)


def tangent(scale_arcsec=1.0, **extra):
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 30.5, "CRPIX2": 20.5,
        "CD1_1": -scale_arcsec / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale_arcsec / 3600,
    }  # fmt: skip
    return Header({**cards, **extra})


@pytest.mark.parametrize(
    ("text", "unit", "factor", "per"),
    [
        (None, "count", 1, ""),
        ("ADU", "count", 1, ""),
        ("DN/s", "count/s", 1, ""),
        ("counts s-1", "count/s", 1, ""),
        ("cps", "count/s", 1, ""),
        ("ELECTRONS/S", "electron/s", 1, ""),
        ("e-", "electron", 1, ""),
        ("electron s**-1", "electron/s", 1, ""),
        ("nJy", "nJy", 1, ""),
        ("mJy", "nJy", 1e6, ""),
        ("Jy/pixel", "nJy", 1e9, ""),
        ("MJy/sr", "nJy", 1e15, "sr"),
        ("uJy/arcsec2", "nJy", 1e3, "arcsec2"),
        ("nanomaggies", "nJy", 3631, ""),
    ],
)
def test_units_are_understood(text, unit, factor, per):
    assert parse_unit(text) == (unit, factor, per)


@pytest.mark.parametrize("text", ["erg/s/cm2/Angstrom", "K", "Jy/beam", "mag", "/s"])
def test_unknown_units_are_refused(text):
    with pytest.raises(ValueError, match="is no unit"):
        parse_unit(text)


def test_the_pixel_area_is_that_of_the_wcs_else_the_header_s():
    wcs = celestial_header(tangent(2.0), SHAPE)
    arcsec2 = math.radians(1 / 3600) ** 2
    assert pixel_area_sr(Headers((Header({"PIXAR_SR": 3e-14}),)), None) == 3e-14
    assert pixel_area_sr(Headers((Header({"PIXAR_A2": 0.5}),)), None) == pytest.approx(0.5 * arcsec2)
    # an image resampled since may still carry the PIXAR_SR of the one it was made from
    assert pixel_area_sr(Headers((Header({"PIXAR_SR": 3e-14}),)), wcs) == pytest.approx(4.0 * arcsec2)
    assert pixel_area_sr(Headers((Header(),)), wcs) == pytest.approx(4.0 * arcsec2)
    with pytest.raises(DataError, match="PIXAR_SR"):
        pixel_area_sr(Headers((Header(),)), None)


@pytest.mark.parametrize(
    "header",
    [
        tangent(),
        tangent(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1e-5, B_0_2=-2e-5),
        tangent(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", PV1_0=1e-5, PV1_1=1.0, PV1_2=1e-4, PV2_1=1.0),
        tangent(EQUINOX=1950.0, RADESYS="FK4"),
        tangent(CTYPE1="GLON-CAR", CTYPE2="GLAT-CAR"),
    ],
    ids=["tan", "sip", "tpv", "fk4", "galactic"],
)
def test_the_kept_wcs_places_pixels_where_the_header_does(header):
    kept = WCS(Header.fromstring(celestial_header(header, SHAPE)))
    x, y = np.array([0.0, 59.0, 30.0]), np.array([0.0, 5.0, 39.0])
    there, here = WCS(header).pixel_to_world(x, y), kept.pixel_to_world(x, y)
    assert here.frame.name == there.frame.name
    assert here.separation(there).arcsec.max() < 1e-6
    assert kept.array_shape == SHAPE


def test_old_keywords_are_renamed_so_that_readers_need_not_warn():
    text = celestial_header(tangent(RADECSYS="FK5", EPOCH=2000.0, CUNIT1="degree", CUNIT2="degrees"), SHAPE)
    kept = WCS(Header.fromstring(text))  # warnings are errors here
    assert (kept.wcs.radesys, kept.wcs.equinox) == ("FK5", 2000.0)


@pytest.mark.parametrize(
    "header",
    [
        Header({"RA": 31.3, "DEC": 46.7}),
        Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 5.0}),
        tangent(scale_arcsec=0.0),
        tangent(CD1_1=1e-4, CD1_2=1e-4, CD2_1=1e-4, CD2_2=1e-4),
        tangent(scale_arcsec=5000.0),
        tangent(scale_arcsec=1e-5),
        tangent(CTYPE1="LINEAR", CTYPE2="LINEAR"),
        tangent(CTYPE1="RA---TAN", CTYPE2="FREQ"),
    ],
    ids=["pointing", "no scale", "zero", "singular", "coarse", "fine", "linear", "spectral"],
)
def test_what_cannot_place_a_pixel_is_no_wcs(header):
    assert celestial_header(header, SHAPE) is None


def test_the_image_header_goes_before_the_primary_one():
    headers = Headers((Header({"FILTER": "r", "GAIN": ""}), Header({"FILTER": "g", "GAIN": 2.0, "EXPTIME": "60.0 s"})))
    assert headers.first_text(COMMON_KEYWORDS["band"]) == "r"
    assert headers.first_number(COMMON_KEYWORDS["gain"]) == ("GAIN", 2.0)
    assert headers.exposure_seconds(COMMON_KEYWORDS["exposure_time"]) == 60.0


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W"),
        ({"FILTER1": "F606W", "FILTER2": "POL0V"}, "F606W+POL0V"),
        ({"FILTER": "Clear"}, "Clear"),
        ({"BAND": 2}, "2"),
        ({"OBJECT": "M31"}, None),
    ],
)
def test_filter_wheels_are_combined(cards, band):
    assert Headers((Header(cards),)).first_text(COMMON_KEYWORDS["band"]) == band


@pytest.mark.parametrize(
    ("value", "comment", "seconds"),
    [
        (50.0, "Observation: Exposure Minutes", 3000.0),
        (500, "[ms] exposure", 0.5),
        (30, "seconds, at least", 30.0),
        (0.0, "", None),
        (-1, "", None),
    ],
)
def test_exposure_times_come_in_seconds(value, comment, seconds):
    header = Header([("EXPOSURE", value, comment)])
    assert Headers((header,)).exposure_seconds(["EXPTIME", "EXPOSURE"]) == seconds


def test_a_damaged_card_is_as_good_as_absent():
    text = "EXPTIME = 1.2.3x".ljust(80) + "EXPOSURE=                 12.0".ljust(80) + "END".ljust(80)
    headers = Headers((Header.fromstring(text),))
    assert headers.exposure_seconds(["EXPTIME", "EXPOSURE"]) == 12.0


def test_an_unknown_meaning_is_refused():
    with pytest.raises(ValueError, match="colour is not one of band, detector"):
        keyword_table({"colour": "X"})
    assert keyword_table({"band": "COLOUR", "gain": None})["band"] == ("COLOUR",)
