"""Times as people and headers write them: dates, MJD, JD, Unix seconds."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal, InvalidOperation

DAY_SECONDS = 86400.0
FINEST = 1.0 / DAY_SECONDS  # time stamps to a second or better count as equally precise
_MJD_EPOCH = datetime.date(1858, 11, 17).toordinal()
YEARS_1900_TO_2100 = (15020.0, 88069.0)  # MJD

CLOCK = r"(?P<h>\d{1,2}):(?P<m>\d{1,2})(?::(?P<s>\d{1,2}(?:\.\d*)?))?"
_REST = rf"(?:[T ]\s*{CLOCK})?\s*(?P<zone>Z|UTC?|GMT|[+-]\d\d(?::?\d\d)?)?(?=$|[\s/(;,])"
_DATES = tuple(
    re.compile(rf"\s*{date}{_REST}", re.IGNORECASE)
    for date in (
        r"(?P<Y>\d{4})[-/.](?P<M>\d{1,2})[-/.](?P<D>\d{1,2})",
        r"(?P<D>\d{1,2})/(?P<M>\d{1,2})/(?P<Y>\d{4}|\d{2})",  # FITS before 1998: DD/MM/YY
        r"(?P<Y>\d{4}|\d{2})(?P<M>\d{2})(?P<D>\d{2})",
    )
)


def parse_date(text: str) -> tuple[float, float, bool]:
    """Read a written date, with or without time of day and UTC offset.

    Returns
    -------
    mjd, precision : float
        MJD (UTC where an offset is given) and its precision in days. A time of exactly
        midnight counts as a date without time.
    has_zone : bool
        Whether the text says its offset from UTC.

    Raises
    ------
    ValueError
        If the text is no date.

    Examples
    --------
    >>> mjd, precision, has_zone = parse_date("2017-12-19T18:33:43.317-0700")
    >>> round(mjd, 6), has_zone
    (58107.065085, True)
    """
    for pattern in _DATES:
        match = pattern.match(text)
        if match:
            break
    else:
        raise ValueError(f"{text!r} is not a date such as 2024-05-06T07:08:09")
    part = match.groupdict()
    year = int(part["Y"])
    if len(part["Y"]) == 2:
        year += 1900 if year >= 50 else 2000
    day = datetime.date(year, int(part["M"]), int(part["D"])).toordinal() - _MJD_EPOCH
    zone = part["zone"]
    if part["h"] is None:
        return float(day), 1.0, zone is not None
    hours, minutes, seconds = int(part["h"]), int(part["m"]), float(part["s"] or 0)
    if hours > 24 or minutes > 60 or seconds >= 62:
        raise ValueError(f"{text!r} holds no time of day")
    clock = hours * 3600 + minutes * 60 + seconds
    precision = 60.0 / DAY_SECONDS if part["s"] is None else FINEST
    if clock == 0:
        precision = 1.0
    return day + (clock - _offset_seconds(zone)) / DAY_SECONDS, precision, zone is not None


def mjd_of_number(text: str) -> tuple[float, float] | None:
    """Read MJD, JD or Unix seconds, told by size, and the precision in days that the digits allow."""
    try:
        number = Decimal(text.strip().replace("D", "E").replace("d", "e"))
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    exponent = number.normalize().as_tuple().exponent
    precision = 10.0 ** min(0, int(exponent))
    if YEARS_1900_TO_2100[0] <= number <= YEARS_1900_TO_2100[1]:
        return float(number), precision
    if Decimal(2400000) < number < Decimal(2500000):
        return float(number - Decimal("2400000.5")), precision
    if Decimal(300_000_000) < number < Decimal(4_200_000_000):  # 1979 to 2103
        return 40587.0 + float(number) / DAY_SECONDS, precision / DAY_SECONDS
    return None


def _offset_seconds(zone: str | None) -> float:
    if zone is None or zone[0] not in "+-":
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
