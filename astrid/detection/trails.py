"""One straight trail: where it lies, and how a rough line is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.image import FloatArray


@dataclass(frozen=True)
class Streak:
    """A straight trail in a difference.

    Attributes
    ----------
    y0, x0, y1, x1 : float
        Its ends, in pixels, from left to right; where it leaves the image or what is known of it, that is an end.
    width : float
        FWHM across, in pixels.
    flux_per_length : float
        Signed flux of one pixel of its length, in the difference's unit: the median along it.
    significance : float
        Signed score of its axis, the median along it, times the root of the number of independent places on it.
    n_peaks : int
        Peaks of five sigma on it, which a search for point sources would find.
    half_width : float
        How far from its axis pixels belong to it.
    """

    y0: float
    x0: float
    y1: float
    x1: float
    width: float = 0.0
    flux_per_length: float = 0.0
    significance: float = 0.0
    n_peaks: int = 0
    half_width: float = 0.0

    @property
    def length(self) -> float:
        """From end to end, in pixels."""
        return float(np.hypot(self.y1 - self.y0, self.x1 - self.x0))

    @property
    def angle(self) -> float:
        """Degrees from the x axis towards the y axis, from 0 to 180."""
        return float(np.degrees(np.arctan2(self.y1 - self.y0, self.x1 - self.x0)) % 180)

    def between(self, start: float, stop: float) -> Streak:
        """Return the part from ``start`` to ``stop`` pixels from the first end; either may lie beyond."""
        dy, dx = (self.y1 - self.y0) / self.length, (self.x1 - self.x0) / self.length
        return replace(
            self,
            y0=self.y0 + start * dy,
            x0=self.x0 + start * dx,
            y1=self.y0 + stop * dy,
            x1=self.x0 + stop * dx,
        )


def pixels_of(streak: Streak, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pixels (y, x) of a streak; some may come twice."""
    rows, columns, inside = _strip(streak.between(-streak.half_width, streak.length + streak.half_width), shape, 0.5)
    return rows[inside], columns[inside]


def _strip(
    line: Streak, shape: tuple[int, ...], step: float = 1.0
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return the pixels of a band about a line, (n along, n across), and whether they are inside the image."""
    length = max(line.length, 1e-9)
    dy, dx = (line.y1 - line.y0) / length, (line.x1 - line.x0) / length
    along = np.arange(0, length + step / 2, step)[:, None]
    n = int(np.ceil(line.half_width / step))
    across = np.arange(-n, n + 1)[None, :] * step
    rows = np.rint(line.y0 + along * dy + across * dx).astype(np.intp)
    columns = np.rint(line.x0 + along * dx - across * dy).astype(np.intp)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return np.clip(rows, 0, shape[0] - 1), np.clip(columns, 0, shape[1] - 1), inside


def band(
    values: NDArray[Any], usable: NDArray[np.bool_], line: Streak, half: float
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the values in a band about a line, and which are known."""
    rows, columns, inside = _strip(replace(line, half_width=half), values.shape)
    return values[rows, columns], inside & usable[rows, columns]


def fitted(score: FloatArray, usable: NDArray[np.bool_], line: Streak, fwhm: float) -> Streak | None:
    """Centre a line on what is bright and follow it to its ends; None where nothing is left of it."""
    reach = line.half_width
    for _ in range(8):
        line = _centred(score, usable, line, reach)
        followed = _followed(score, usable, line, fwhm)
        if followed is None:
            return None
        is_settled = abs(followed.length - line.length) < fwhm
        line, reach = followed, max(2.0, fwhm)
        if is_settled:
            break
    return _ordered(_centred(score, usable, line, reach))


def _ordered(line: Streak) -> Streak:
    if (line.x0, line.y0) <= (line.x1, line.y1):
        return line
    return replace(line, y0=line.y1, x0=line.x1, y1=line.y0, x1=line.x0)


def _centred(score: FloatArray, usable: NDArray[np.bool_], line: Streak, reach: float) -> Streak:
    """Move both ends across, by up to ``reach`` px, to where the sum along the line is largest."""
    n = int(np.ceil(reach)) + 1
    values, known = band(score, usable, line, n)
    parts = np.array_split(np.arange(len(values)), 16)
    profiles = np.array([(values[p] * known[p]).sum(axis=0) for p in parts if len(p)])
    share = (np.arange(len(profiles)) + 0.5) / len(profiles)
    shifts = np.arange(-reach, reach + 0.25, 0.5)
    place = shifts[:, None, None] * (1 - share) + shifts[None, :, None] * share + n
    low = np.clip(np.floor(place).astype(int), 0, profiles.shape[1] - 2)
    part = place - low
    index = np.arange(len(profiles))
    sums = (profiles[index, low] * (1 - part) + profiles[index, low + 1] * part).sum(axis=2)
    best = sums >= sums.max() - 0.02 * abs(sums.max())  # the middle of what is as good
    first, last = (float(shifts[i].mean()) for i in np.nonzero(best))
    length = max(line.length, 1e-9)
    dy, dx = (line.y1 - line.y0) / length, (line.x1 - line.x0) / length
    return replace(
        line,
        y0=line.y0 + first * dx,
        x0=line.x0 - first * dy,
        y1=line.y1 + last * dx,
        x1=line.x1 - last * dy,
    )


def profile(
    score: FloatArray, usable: NDArray[np.bool_], line: Streak, fwhm: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean score on the axis of a line above the larger of its two sides, and where it is known."""
    far = int(np.ceil(6 * fwhm))
    values, known = band(score, usable, line, far)
    offset = np.arange(-far, far + 1)
    masked = values * known

    def mean(part: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray(masked[:, part].sum(axis=1) / np.maximum(known[:, part].sum(axis=1), 1), np.float64)

    axis = np.abs(offset) <= max(1.0, fwhm / 3)
    there = known[:, axis].sum(axis=1) > 0.5 * axis.sum()
    smooth = np.ones(int(4 * fwhm) | 1)
    sides = []
    for side in (offset < -3 * fwhm, offset > 3 * fwhm):
        weight = np.convolve(known[:, side].any(axis=1), smooth, mode="same")
        sides.append(np.convolve(mean(side), smooth, mode="same") / np.maximum(weight, 1))
    return (mean(axis) - np.maximum(np.maximum(*sides), 0)) * there, there


def _followed(score: FloatArray, usable: NDArray[np.bool_], line: Streak, fwhm: float) -> Streak | None:
    """Return the part of a line, prolonged on both sides, in which it is brighter than half its level.

    With p the score along the line and s its level, the ends are where the sum of p - s / 2 between them
    is largest: the likeliest ones of a step up and a step down.
    """
    length = line.length
    longer = line.between(*_inside(line, score.shape, length))
    p, there = profile(score, usable, longer, fwhm)
    start = np.hypot(longer.y0 - line.y0, longer.x0 - line.x0)
    own = np.zeros(len(p), bool)
    own[int(start) : int(start + length) + 1] = True
    if not (own & there).any():
        return None
    level = float(np.median(p[own & there]))
    if level <= 0:
        return None
    excess = np.where(there, np.clip(p, -3, level + 3) - level / 2, 0)
    total = np.concatenate([[0.0], np.cumsum(excess)])
    rise = total - np.minimum.accumulate(total)
    stop = int(rise.argmax())
    first = stop - int(total[stop::-1].argmin())  # the last of equals: nothing is known where it stays flat
    if stop - first < 2 * fwhm:
        return None
    return longer.between(first, stop - 1)


def _inside(line: Streak, shape: tuple[int, ...], reach: float) -> tuple[float, float]:
    """Return from where to where, in px from its first end, a line prolonged by ``reach`` lies in the image."""
    start, stop = -reach, line.length + reach
    for place, end, n in ((line.y0, line.y1, shape[0]), (line.x0, line.x1, shape[1])):
        slope = (end - place) / line.length
        if abs(slope) < 1e-9:
            continue
        low, high = sorted(((0 - place) / slope, (n - 1 - place) / slope))
        start, stop = max(start, low), min(stop, high)
    return (start, stop) if stop - start > 1 else (0.0, line.length)
