import math

import pytest
from astropy.io import fits

from astrid.surveys.headers import Headers
from astrid.surveys.products import recognise

TWO_MASS = {"ORIGIN": "2MASS", "FILTER": "j", "MAGZP": 20.8, "UT_DATE": "000127", "UT": "04:23:47.53"}
WISE = {
    "TELESCOP": "WISE", "BAND": 2, "MAGZP": 19.5,
    "DATEOBS1": "2010-04-15T21:37:11", "MIDOBS": "2010-04-18T12:00:00", "DATEOBS2": "2010-10-27T03:26:20",
}  # fmt: skip
GALEX = {"MPSTYPE": "AIS", "TILENAME": "AIS_205", "BAND": 1, "EXPSTART": 1138871224.0, "EXPEND": 1138871424.0}
PLATE = {"PLTLABEL": "E316", "SURVEY": "POSSI-E", "MAGZP": 22.0}


def look(cards, **changes):
    """What a header of these cards is taken for."""
    return recognise(Headers((fits.Header(cards | changes),)))


@pytest.mark.parametrize("cards", [{}, {"FILTER": "r"}, {"BAND": 1}, {"ORIGIN": "2MASS"}, {"TELESCOP": "WISE"}])
def test_other_headers_are_left_to_their_common_keywords(cards):
    assert look(cards) is None


@pytest.mark.parametrize(("band", "offset"), [("j", 0.894), ("h", 1.374), ("k", 1.840)])
def test_vega_zero_points_of_2mass_become_ab(band, offset):
    found = look(TWO_MASS, FILTER=band)
    assert found.band == band.upper()
    assert found.zero_point == pytest.approx(20.8 + offset, abs=2e-3)
    assert "Vega" in found.notes[0]


@pytest.mark.parametrize(("band", "offset"), [(1, 2.699), (2, 3.339), (3, 5.174), (4, 6.620)])
def test_vega_zero_points_of_wise_become_ab(band, offset):
    """The offsets that are in use depend on a spectrum: they agree to a few hundredths."""
    found = look(WISE, BAND=band)
    assert found.band == f"W{band}"
    assert found.zero_point == pytest.approx(19.5 + offset, abs=0.03)


def test_times_are_read_from_the_keywords_of_each_survey():
    assert look(TWO_MASS).mjd == pytest.approx(51570 + (4 * 3600 + 23 * 60 + 47.53) / 86400, abs=1e-8)
    assert look(WISE).mjd == 55304.5
    assert look(GALEX).mjd == pytest.approx(40587 + 1138871324 / 86400, abs=1e-9)
    assert look(TWO_MASS, UT_DATE="unknown").mjd is None
    assert "a coadd of exposures from 2010-04-15T21:37:11" in look(WISE).notes[1]


def test_galex_maps_without_a_unit_are_taken_for_rates_and_it_is_said():
    found = look(GALEX)
    assert (found.band, found.unit, found.zero_point) == ("NUV", "count/s", 20.08)
    assert any("survey.unit=count" in note for note in found.notes)
    assert look(GALEX, BUNIT="count").unit is None
    assert look(GALEX, BAND=2).zero_point == 18.82
    assert look(GALEX, BAND=3) is None


def test_plates_have_no_zero_point_whatever_the_header_says():
    found = look(PLATE)
    assert found.zero_point is None
    assert not found.is_photometric
    assert found.band == "POSSI-E"
    assert "not proportional to flux" in found.notes[0]


def test_a_missing_zero_point_stays_missing():
    cards = {key: value for key, value in TWO_MASS.items() if key != "MAGZP"}
    assert look(cards).zero_point is None
    assert math.isfinite(look(TWO_MASS).zero_point)
