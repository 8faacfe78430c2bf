"""Numbers and counts as a reader wants to see them."""

from __future__ import annotations

import math
from typing import Any

from astrid.schema import CandidateFlag

FLAGS = {
    CandidateFlag.STREAK: "on a streak",
    CandidateFlag.COSMIC_RAY: "beside a cosmic ray",
    CandidateFlag.BAD_PIXEL: "beside a bad pixel",
    CandidateFlag.HALO: "in the halo of a bright star",
    CandidateFlag.EDGE: "at an edge",
    CandidateFlag.TEMPLATE_HOLE: "template incomplete",
    CandidateFlag.DIPOLE: "dipole",
    CandidateFlag.FADING: "fading",
    CandidateFlag.SATURATED: "beside saturated pixels",
    CandidateFlag.GHOST: "on a ghost of a bright star",
    CandidateFlag.GLINT: "in a row like glints of a satellite",
}
LOSSES = {
    "masked": "on masked pixels or on a streak",
    "subtraction": "score below the threshold",
    "detection": "score high enough, but not the shape of a point source",
    "matching": "detected, but counted for another injection",
}
ABSENT = "–"  # the dash of an empty table cell


def number_or_nan(value: Any) -> float:
    """Return ``value`` as a float, NaN for None, text and everything that is not a number."""
    if value is None or isinstance(value, bool | str):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def number(value: Any, digits: int = 3) -> str:
    """Write a number with ``digits`` significant digits, thousands separated.

    Examples
    --------
    >>> number(12345.678), number(0.012345), number(3.0), number(None)
    ('12,346', '0.0123', '3.00', '–')
    """
    x = number_or_nan(value)
    if not math.isfinite(x):
        return ABSENT
    if x == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(x)))
    if magnitude < -4 or magnitude >= 9:
        return f"{x:.{digits - 1}e}"
    return f"{x:,.{max(0, digits - 1 - magnitude)}f}"


def fixed(value: Any, decimals: int) -> str:
    """Write a number with a fixed count of decimals, a dash where there is none."""
    x = number_or_nan(value)
    return f"{x:,.{decimals}f}" if math.isfinite(x) else ABSENT


def per_cent(fraction: Any, decimals: int = 1) -> str:
    """Write a fraction as a per cent.

    Examples
    --------
    >>> per_cent(0.9312)
    '93.1 %'
    """
    x = number_or_nan(fraction)
    return f"{100 * x:.{decimals}f} %" if math.isfinite(x) else ABSENT


def interval(bounds: Any, factor: float = 1.0, decimals: int = 1) -> str:
    """Write a confidence interval ``(low, high)`` times ``factor``; empty where there is none.

    Examples
    --------
    >>> interval((0.9, 0.955), 100)
    '90.0 to 95.5'
    """
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return ""
    low, high = (number_or_nan(b) for b in bounds)
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{low * factor:.{decimals}f} to {high * factor:.{decimals}f}"


def count(n: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> count(1, "image"), count(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def flag_names(flags: Any) -> str:
    """Say in words what may make a candidate an artefact; a dash where nothing does.

    Examples
    --------
    >>> flag_names(1 | 128), flag_names(0)
    ('on a streak, fading', '–')
    """
    bits = int(flags or 0)
    return ", ".join(words for flag, words in FLAGS.items() if bits & flag) or ABSENT


def shorten(text: Any, length: int = 160) -> str:
    """Cut a text to one line of at most ``length`` characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= length else line[: length - 1] + "…"


def threshold_note(row: Any) -> str:
    """Say in words which threshold a row of metrics was made with, and how it was chosen."""
    note = row.get("threshold_note")
    value = row.get("threshold")
    if isinstance(value, dict):
        text = ", ".join(f"{key} {number(v) if math.isfinite(number_or_nan(v)) else v}" for key, v in value.items())
    elif math.isfinite(number_or_nan(value)):
        text = f"{'S/N ' if row.get('detector') == 'matched_filter' else ''}≥\u00a0{number_or_nan(value):g}"
    else:
        text = str(value or "")
    return "; ".join(part for part in (text, str(note or "")) if part) or ABSENT


def truth_name(row: Any) -> str:
    """Name in words what a row of metrics was measured against."""
    truth = str(row.get("truth") or "")
    return {"injections": "injections", "known_events": "known events"}.get(truth, truth.replace("_", " ") or ABSENT)
