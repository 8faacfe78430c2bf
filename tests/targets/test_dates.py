import pytest

from astrid.targets.dates import mjd_of_number, parse_date


@pytest.mark.parametrize("text", ["60083.5", "2460084.0", "1684497600"])
def test_a_number_is_mjd_jd_or_unix_seconds_by_its_size(text):
    assert mjd_of_number(text)[0] == pytest.approx(60083.5)


def test_a_written_offset_from_utc_is_taken_off():
    assert parse_date("2023-05-19T17:00:00+05:00")[0] == pytest.approx(60083.5)
