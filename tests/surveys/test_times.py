import datetime

import pytest
from astropy.io.fits import Header
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from astrid.surveys.headers import Headers
from astrid.surveys.times import find_time, parse_date

EXACT = 58107.06508468750  # 2017-12-20T01:33:43.317 UTC


def header(*cards, text=None):
    """A header as it is read from a file, numbers as written."""
    if text is None:
        return Headers((Header(list(cards)),))
    return Headers((Header.fromstring("".join(line.ljust(80) for line in text) + "END".ljust(80)),))


@pytest.mark.parametrize(
    "text",
    [
        "2017-12-19T18:33:43.317-0700",
        "2017-12-19T18:33:43.317-07:00",
        "2017-12-20T07:03:43.317+05:30",
        "2017-12-20T01:33:43.317Z",
        "2017-12-20T01:33:43.317",
        "2017-12-20 01:33:43.317 UTC",
        "2017/12/20T01:33:43.317 / start of exposure",
        "20/12/17T01:33:43.317",
        "20/12/2017 01:33:43.317",
    ],
)
def test_dates_of_all_kinds_are_one_moment(text):
    mjd, precision, _ = parse_date(text)
    assert mjd == pytest.approx(EXACT, abs=1e-9)
    assert precision < 1e-4


@given(
    moment=st.datetimes(datetime.datetime(1970, 1, 1, 0, 0, 1), datetime.datetime(2070, 1, 1)),
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_a_utc_offset_does_not_move_the_moment(moment, minutes):
    zone = datetime.timezone(datetime.timedelta(minutes=minutes))
    there = moment.replace(tzinfo=datetime.UTC).astimezone(zone)
    expected = (moment - datetime.datetime(1858, 11, 17)) / datetime.timedelta(days=1)
    if there.time() == datetime.time(0):
        return  # a midnight is a date without time
    assert parse_date(there.isoformat())[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("text", ["yesterday", "2017-13-01", "2017-12-20T31:00:00", "", "58107.065"])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match=r"date|month|time"):
        parse_date(text)


def test_a_coarse_mjd_loses_to_a_precise_date():
    cards = header(text=["DATE-OBS= '2017-12-19T18:33:43.317-0700' / LT", "MJD-OBS =            58107.065"])
    stamp, notes = find_time(cards, 60.0)
    assert stamp.keyword == "DATE-OBS"
    assert stamp.middle(60.0) == pytest.approx(EXACT + 30 / 86400, abs=1e-9)
    assert notes == []


def test_a_precise_mjd_beats_a_date_without_time():
    stamp, notes = find_time(header(text=["DATE-OBS= '2017-12-20'", "MJD-OBS =   58107.0650846875"]), 0.0)
    assert stamp.keyword == "MJD-OBS"
    assert stamp.mjd == pytest.approx(EXACT, abs=1e-9)
    assert notes == []


def test_trailing_zeros_make_no_mjd_precise():
    stamp, _ = find_time(header(text=["MJD-AVG =  58107.0000000000", "DATE-OBS= '2017-12-20T01:33:43'"]), 0.0)
    assert stamp.keyword == "DATE-OBS"


def test_keywords_that_disagree_are_reported():
    cards = header(("DATE-OBS", "2017-12-20T01:33:43.317"), ("MJD-OBS", 58107.3567))
    _, notes = find_time(cards, 60.0)
    assert len(notes) == 1
    assert "DATE-OBS and MJD-OBS disagree by 0.29" in notes[0]


@pytest.mark.parametrize(
    ("keyword", "shift"), [("DATE-OBS", 0.5), ("DATE-BEG", 0.5), ("DATE-AVG", 0.0), ("MJD-MID", 0.0)]
)
def test_the_middle_is_half_an_exposure_after_a_start_only(keyword, shift):
    value = EXACT if keyword.startswith("MJD") else "2017-12-20T01:33:43.317"
    stamp, _ = find_time(header((keyword, value)), 100.0)
    assert stamp.middle(100.0) == pytest.approx(EXACT + shift * 100 / 86400, abs=1e-9)


def test_what_a_keyword_means_can_be_said():
    cards = header(("MJD-OBS", EXACT))
    for anchor, shift in (("start", 0.5), ("mid", 0.0), ("end", -0.5)):
        stamp, _ = find_time(cards, 100.0, ["MJD-OBS"], anchor)
        assert stamp.middle(100.0) == pytest.approx(EXACT + shift * 100 / 86400, abs=1e-9)


@pytest.mark.parametrize(
    "cards",
    [
        [("DATE-OBS", "2017-12-20"), ("TIME-OBS", "01:33:43.317")],
        [("DATE-OBS", "2017-12-20"), ("UT", "01:33:43.317 / UT")],
        [("DATE-OBS", "20/12/17"), ("UTSTART", "01:33:43.317")],
        [("DATE-OBS", "2017-12-20T00:00:00"), ("TIME-OBS", "01:33:43.317")],
        [("DATE-OBS", "2017-12-20"), ("UT-OBS", "2017-12-20T01:33:43.317-0000")],
        [("JD", 2458107.5650846875)],
        [("EXPSTART", EXACT)],
        [("EXPSTART", (EXACT - 40587) * 86400)],
        [("MJD-OBS", "58107.0650846875")],
    ],
)
def test_times_are_found_however_they_are_spread(cards):
    stamp, _ = find_time(header(*cards), 0.0)
    assert stamp.mjd == pytest.approx(EXACT, abs=1e-8)


def test_a_date_and_a_time_of_day_can_be_named():
    cards = header(("UT_DATE", "171220"), ("SHUTTER", "01:33:43.317"))
    assert find_time(cards, 0.0)[0] is None
    stamp, _ = find_time(cards, 0.0, ["UT_DATE+SHUTTER"])
    assert stamp.mjd == pytest.approx(EXACT, abs=1e-9)


@pytest.mark.parametrize("scale", ["TAI", "TT", "UTC", "TDB"])
def test_the_time_scale_of_the_header_is_respected(scale):
    text = "2017-12-20T01:33:43.317"
    stamp, _ = find_time(header(("TIMESYS", scale), ("DATE-OBS", text)), 0.0)
    assert stamp.mjd == pytest.approx(float(Time(text, scale=scale.lower()).utc.mjd), abs=1e-9)


@pytest.mark.parametrize(
    "cards", [[], [("MJD-OBS", 0.0)], [("DATE-OBS", "unknown")], [("MJD", "nan")], [("DATE", "2017-12-20")]]
)
def test_no_time_is_made_up(cards):
    assert find_time(header(*cards), 0.0) == (None, [])
