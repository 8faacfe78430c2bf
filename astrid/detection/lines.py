"""Sums along straight lines of an image, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALIBRATED_AT = 16  # pixels of the segments whose scatter tells that of all others


@dataclass(frozen=True)
class Segment:
    """A straight piece of an image whose sum stands out.

    Attributes
    ----------
    y0, x0, y1, x1 : float
        Its ends, in pixels.
    z : float
        Signed sum in units of the scatter of such sums.
    """

    y0: float
    x0: float
    y1: float
    x1: float
    z: float


def outstanding_segments(values: NDArray[np.float32], *, shortest: int, threshold: float) -> list[Segment]:
    """Find straight segments whose sum stands out, the most significant first.

    The sums follow the fast Radon transform (Brady 1998, SIAM J. Comput. 27 107; for streaks Nir, Zackay & Ofek
    2018, AJ 156 229, section 3): two sums over neighbouring halves make one over the whole, so that every length
    that is a power of two costs as much as the shortest.

    Parameters
    ----------
    values : (ny, nx) array
        Noise of mean zero with few outliers; zero where nothing is known.
    shortest : int
        Least extent of a segment along its longer axis, in pixels; the power of two from there on is taken.
    threshold : float
        Least absolute ``z``.

    Returns
    -------
    list of Segment
        At most two, one of each sign, for every length and octant of directions.
    """
    found = []
    for is_transposed in (False, True):
        for is_mirrored in (False, True):
            along = values.T if is_transposed else values
            n_across = along.shape[1]
            for segment in _one_octant(along[:, ::-1] if is_mirrored else along, shortest, threshold):
                y0, x0, y1, x1 = segment.y0, segment.x0, segment.y1, segment.x1
                if is_mirrored:
                    x0, x1 = n_across - 1 - x0, n_across - 1 - x1
                if is_transposed:
                    y0, x0, y1, x1 = x0, y0, x1, y1
                found.append(Segment(y0, x0, y1, x1, segment.z))
    return sorted(found, key=lambda segment: -abs(segment.z))


def _one_octant(values: NDArray[np.float32], shortest: int, threshold: float) -> Iterator[Segment]:
    """Yield segments that advance by no more columns than rows, towards larger ones."""
    n_across = values.shape[1]
    scatter = 0.0
    for length, sums in line_sums(values):
        if length == CALIBRATED_AT:
            whole = sums[:, :, length : length + max(1, n_across - length)]
            scatter = 1.4826 * float(np.median(np.abs(whole[whole != 0][::7]))) if whole.any() else 0.0
        if length < max(shortest, CALIBRATED_AT) or scatter == 0:
            continue
        unit = scatter * np.sqrt(length / CALIBRATED_AT)
        for place in {int(sums.argmax()), int(sums.argmin())}:
            block, shift, start = np.unravel_index(place, sums.shape)
            z = float(sums[block, shift, start]) / unit
            if abs(z) >= threshold:
                x0 = float(start) - length
                yield Segment(float(block * length), x0, float((block + 1) * length - 1), x0 + float(shift), z)


def line_sums(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield sums over the segments of each length that is a power of two.

    Yields
    ------
    length : int
        Rows that a segment covers.
    sums : (blocks, length, nx + length) array
        Of block ``b``, shift ``s`` and place ``i``: the sum from pixel ``(b length, i - length)`` to
        ``((b + 1) length - 1, i - length + s)``; zero is added outside the image.

    Examples
    --------
    >>> diagonal = np.eye(4)
    >>> [(length, float(sums.max())) for length, sums in line_sums(diagonal)]
    [(2, 2.0), (4, 4.0)]
    """
    n_across = values.shape[1]
    sums = np.zeros((len(values), 1, n_across + 1), np.float32)
    sums[:, 0, 1:] = values
    length = 1
    while 2 * length <= len(values):
        if len(sums) % 2:
            sums = np.concatenate([sums, np.zeros_like(sums[:1])])
        joined = np.zeros((len(sums) // 2, 2 * length, n_across + 2 * length), np.float32)
        joined[:, 0::2, length:] = sums[0::2]
        joined[:, 1::2, length:] = sums[0::2]
        for shift in range(2 * length):
            first = length - (shift + 1) // 2
            joined[:, shift, first : first + n_across + length] += sums[1::2, shift // 2]
        sums, length = joined, 2 * length
        yield length, sums
