"""Which share of a square of sky an image covers, from the corners of the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence


def share_covered(corners: Sequence[tuple[float, float]], ra: float, dec: float, size_deg: float) -> float:
    """Return which share of a square an image covers.

    Parameters
    ----------
    corners : sequence of (ra, dec)
        Of the image, in order around it, degrees.
    ra, dec, size_deg : float
        Centre and side of the square, which is upright, degrees.

    Examples
    --------
    >>> corners = [(10.0, -1.0), (10.0, 1.0), (12.0, 1.0), (12.0, -1.0)]
    >>> [round(share_covered(corners, ra, 0.0, 0.1), 3) for ra in (10.0, 11.0, 13.0)]
    [0.5, 1.0, 0.0]
    """
    half = size_deg / 2
    a0, d0 = math.radians(ra), math.radians(dec)
    polygon = []
    for one_ra, one_dec in corners:
        a, d = math.radians(one_ra) - a0, math.radians(one_dec)
        cosine = math.sin(d0) * math.sin(d) + math.cos(d0) * math.cos(d) * math.cos(a)
        if cosine <= 0.1:
            return 0.0
        east = math.cos(d) * math.sin(a) / cosine
        north = (math.cos(d0) * math.sin(d) - math.sin(d0) * math.cos(d) * math.cos(a)) / cosine
        polygon.append((math.degrees(east), math.degrees(north)))
    for axis in (0, 1):  # Sutherland and Hodgman (1974): clip by one side of the square after the other
        for sign in (1.0, -1.0):
            polygon = list(_clipped(polygon, axis, sign, half))
    area = 0.0
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        area += x1 * y2 - x2 * y1
    return abs(area) / 2 / (2 * half) ** 2


def degrees_apart(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Return the angle between two places, degrees.

    Examples
    --------
    >>> round(degrees_apart(359.5, 0.0, 0.5, 0.0), 6)
    1.0
    """
    d1, d2, a = math.radians(dec), math.radians(other_dec), math.radians(ra - other_ra)
    haversine = math.sin((d1 - d2) / 2) ** 2 + math.cos(d1) * math.cos(d2) * math.sin(a / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(haversine))))


def _clipped(
    polygon: Sequence[tuple[float, float]], axis: int, sign: float, half: float
) -> Iterator[tuple[float, float]]:
    """Yield the corners of the part of a polygon where ``sign * coordinate <= half``."""
    for one, other in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        a, b = half - sign * one[axis], half - sign * other[axis]
        if a >= 0:
            yield one
        if (a >= 0) != (b >= 0):
            share = a / (a - b)
            yield one[0] + share * (other[0] - one[0]), one[1] + share * (other[1] - one[1])
