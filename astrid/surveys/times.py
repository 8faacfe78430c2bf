"""When an exposure was taken, from whatever a header says about it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from astropy.time import Time

from astrid.surveys.headers import Headers
from astrid.targets.dates import CLOCK, DAY_SECONDS, FINEST, YEARS_1900_TO_2100, mjd_of_number, parse_date

Anchor = Literal["start", "mid", "end"]

TIME_KEYWORDS = (
    "DATE-AVG", "MJD-AVG", "DATE-MID", "MJD-MID", "DATE-OBS", "DATE-BEG", "DATE_OBS", "UT-OBS",
    "MJD-OBS", "MJD-BEG", "MJD_OBS", "OBSMJD", "MJD", "MJDSTART", "JD", "JD-OBS", "OBSJD", "JD_UTC", "EXPSTART",
)  # fmt: skip
TIME_OF_DAY_KEYWORDS = (
    "TIME-OBS",
    "TIME-BEG",
    "UTSTART",
    "UTC-OBS",
    "UT-OBS",
    "UTC",
    "UT",
    "TIME_OBS",
    "UTOBS",
    "TAIHMS",
)

_SCALES = {"UTC": "utc", "UT": "utc", "UT1": "utc", "GMT": "utc", "TAI": "tai", "TT": "tt", "TDT": "tt", "TDB": "tdb"}
_TIME_OF_DAY = re.compile(rf"\s*{CLOCK}")


@dataclass(frozen=True)
class TimeStamp:
    """One time found in a header.

    Attributes
    ----------
    keyword : str
        Where it was found.
    mjd : float
        MJD (UTC) of what the keyword means.
    precision : float
        Days by which it may be off because of the digits written.
    anchor : "start", "mid" or "end"
        Which moment of the exposure it is.
    """

    keyword: str
    mjd: float
    precision: float
    anchor: Anchor

    def middle(self, exposure_time: float) -> float:
        """Return the MJD of mid-exposure; ``exposure_time`` in seconds."""
        shift = {"start": 0.5, "mid": 0.0, "end": -0.5}[self.anchor]
        return self.mjd + shift * exposure_time / DAY_SECONDS


def find_time(
    headers: Headers,
    exposure_time: float,
    keywords: Sequence[str] | None = None,
    anchor: Anchor | None = None,
) -> tuple[TimeStamp | None, list[str]]:
    """Find the time of an exposure.

    Without ``keywords`` every common one is read and the most precise wins, in the
    order of `TIME_KEYWORDS` among those good to a second: a date to the
    millisecond is taken before an MJD to three decimals. With ``keywords`` the
    first one present wins; ``A+B`` joins a date and a time of day.

    Parameters
    ----------
    headers : Headers
        Of the image and of its file.
    exposure_time : float
        Seconds, to compare starts with middles.
    keywords : sequence of str, optional
        Keywords to use instead of the common ones.
    anchor : "start", "mid" or "end", optional
        What the keyword means; by default mid if its name holds AVG or MID, end if END, else start.

    Returns
    -------
    TimeStamp or None
        None where no keyword holds a time.
    list of str
        Disagreements between keywords larger than their precision.
    """
    found: list[TimeStamp] = []
    for keyword in keywords or TIME_KEYWORDS:
        stamp = _stamp(headers, keyword, anchor)
        if stamp is not None:
            found.append(stamp)
    if not found:
        return None, []
    best = found[0] if keywords else min(found, key=lambda stamp: max(stamp.precision, FINEST))
    if keywords:
        return best, []
    return best, [note for other in found if (note := _disagreement(best, other, exposure_time))]


def _disagreement(best: TimeStamp, other: TimeStamp, exposure_time: float) -> str | None:
    apart = abs(best.middle(exposure_time) - other.middle(exposure_time))
    # a start plus half the exposure misses the true middle by up to the time spent on reading out
    slack = 0.0 if best.anchor == other.anchor else 0.5 * exposure_time / DAY_SECONDS
    if apart <= best.precision + other.precision + slack + 2 * FINEST:
        return None
    return (
        f"{best.keyword} and {other.keyword} disagree by {apart:.6g} days; {best.keyword} is used"
        f" (survey.keywords.time={other.keyword} takes the other)"
    )


def _stamp(headers: Headers, keyword: str, anchor: Anchor | None) -> TimeStamp | None:
    date_keyword, _, clock_keyword = keyword.partition("+")
    text = headers.text(date_keyword)
    if text is None:
        return None
    name = date_keyword.upper()
    guess: Anchor = "mid" if "AVG" in name or "MID" in name else "end" if "END" in name else "start"
    scale = _SCALES.get((headers.text("TIMESYS") or "UTC").strip().upper(), "utc")
    number = mjd_of_number(text)
    try:
        if number is not None:
            mjd, precision = number
            has_zone = False
        else:
            suffix = name[4:] if name.startswith("DATE") else ""
            keywords = [clock_keyword] if clock_keyword else [f"TIME{suffix}", *TIME_OF_DAY_KEYWORDS]
            mjd, precision, has_zone = parse_date(_with_clock(text, headers, keywords))
    except ValueError:
        return None
    if not YEARS_1900_TO_2100[0] <= mjd <= YEARS_1900_TO_2100[1]:
        return None
    return TimeStamp(keyword, mjd if has_zone else _to_utc(mjd, scale), precision, anchor or guess)


def _with_clock(date: str, headers: Headers, keywords: Sequence[str]) -> str:
    """Return a date with the time of day of another keyword where it has none."""
    _, precision, _ = parse_date(date)
    if precision < 1.0:
        return date
    for keyword in keywords:
        clock = headers.text(keyword)
        if clock is not None and _TIME_OF_DAY.match(clock):
            return re.split(r"[T\s/]\s*(?=\d\d:|$|[A-Za-z(/])", date.strip())[0] + "T" + clock.strip()
    return date


def _to_utc(mjd: float, scale: str) -> float:
    if scale == "utc":
        return mjd
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "dubious year": before 1960 and in the future UTC is a guess
        return float(Time(mjd, format="mjd", scale=scale).utc.mjd)
