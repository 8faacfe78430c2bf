"""Values of alert packets: checked where they must be right, None where they are missing."""

from __future__ import annotations

import math

from astrid.errors import DataError
from astrid.surveys.packets import Record

_NANOJANSKY_MAGNITUDE = 31.4  # AB magnitude of one nJy
_FILLERS = (-999.0, -9999.0, -99999.0)


def number(record: Record, field: str) -> float | None:
    """Return a number of a packet; None where it is missing, not finite or a filler (-999)."""
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    value = float(value)
    return value if math.isfinite(value) and value not in _FILLERS else None


def within(record: Record, field: str, low: float, high: float) -> float:
    """Return a number that must be there and within limits.

    Raises
    ------
    DataError
        Naming the field, the value and the limits.
    """
    value = number(record, field)
    if value is None or not low <= value <= high:
        raise DataError(f"{field} = {record.get(field)!r} is not within {low:g} and {high:g}; the packet is damaged")
    return value


def identity(record: Record, field: str) -> str:
    """Return a name that must be there and be of letters, digits and the like; DataError elsewise."""
    value = record.get(field)
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not text or len(text) > 64 or not text.isascii() or not text.isprintable():
        raise DataError(f"{field} = {value!r} is no name; the packet is damaged")
    return text


def is_negative(value: object) -> bool:
    """Return the sign that ``isdiffpos`` gives: t, 1 and true are positive, f, 0 and false negative.

    Examples
    --------
    >>> is_negative("t"), is_negative("0"), is_negative(False)
    (False, True, True)
    """
    text = str(value).strip().lower()
    if text in ("t", "1", "true"):
        return False
    if text in ("f", "0", "false"):
        return True
    raise DataError(f"isdiffpos = {value!r} is none of t, f, 1, 0; the packet is damaged")


def nanojansky(magnitude: float | None, negative: bool) -> float | None:
    """Return the signed flux of an AB magnitude; None where there is none or it is no magnitude."""
    if magnitude is None or not -10.0 < magnitude < 50.0:
        return None
    flux = math.pow(10.0, 0.4 * (_NANOJANSKY_MAGNITUDE - magnitude))
    return -flux if negative else flux


def magnitude_of(flux: float | None) -> float | None:
    """Return the AB magnitude of a flux in nJy, of its absolute value where it is negative."""
    if flux is None or flux == 0:
        return None
    return _NANOJANSKY_MAGNITUDE - 2.5 * math.log10(abs(flux))


def tangent_header(
    shape: tuple[int, int],
    ra: float,
    dec: float,
    crpix: tuple[float, float],
    cd: tuple[float, float, float, float],
) -> str:
    """Return a TAN header.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    ra, dec : float
        Sky position of the reference pixel, degrees.
    crpix : tuple of float
        (x, y) of the reference pixel, counted from one.
    cd : tuple of float
        CD1_1, CD1_2, CD2_1, CD2_2 in degrees per pixel.
    """
    cards: list[tuple[str, str]] = [
        ("NAXIS", "2"), ("NAXIS1", str(shape[1])), ("NAXIS2", str(shape[0])),
        ("WCSAXES", "2"), ("CTYPE1", "'RA---TAN'"), ("CTYPE2", "'DEC--TAN'"),
        ("CUNIT1", "'deg     '"), ("CUNIT2", "'deg     '"),
        ("CRPIX1", f"{crpix[0]:.9f}"), ("CRPIX2", f"{crpix[1]:.9f}"),
        ("CRVAL1", f"{ra:.12f}"), ("CRVAL2", f"{dec:.12f}"),
        *((f"CD{i}_{j}", f"{value:.12E}") for (i, j), value in zip(((1, 1), (1, 2), (2, 1), (2, 2)), cd, strict=True)),
        ("RADESYS", "'ICRS    '"),
    ]  # fmt: skip
    lines = [f"{key:<8}= {value:<20}" if value[0] == "'" else f"{key:<8}= {value:>20}" for key, value in cards]
    return "".join(line.ljust(80) for line in (*lines, "END"))
