"""Streaks: the straight trails that satellites and aircraft leave in a difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.detection.lines import Segment, outstanding_segments
from astrid.detection.matched_filter import find_peaks
from astrid.detection.trails import Streak, band, fitted, pixels_of, profile
from astrid.image import Difference, FloatArray, Image
from astrid.imaging.photometry import FWHM_PER_SIGMA, equivalent_fwhm
from astrid.schema import MaskBit

CLIP = 5.0  # sigma that one pixel of the score can add to a sum
LARGEST_BINNED_SIDE = 280
LARGEST_BIN = 8
LEVEL_BINS = 9  # side of the square whose mean is the level of a binned pixel
SEGMENT_SIGMA = 6.5  # of a binned segment that is looked at more closely
SHORTEST_FWHM = 20.0  # of the difference, and at least
SHORTEST_PSF_AXES = 6.0  # of the longer axis of the PSF: trailed stars are no streaks,
TRAILED, TRAILED_DEGREES = 1.5, 15.0  # nor are rows of them, along a PSF of this elongation
SMALLEST_IMAGE = 128  # px of the longer side; on a stamp a streak cannot be told from a galaxy
STREAK_SIGMA = 6.0  # of the sum along a streak without its best quarter
FILLED = 0.7  # of its parts must have more than half of its level
EVEN = 0.25  # its weaker parts over its brightest: spikes and bleeding fall off from their star
FEWEST_PARTS = 5
PART_FWHM = 4.0
PART_SIGMA = 4.0
SHARPEST = 0.7  # FWHM: what is narrower is a row or column of the detector
FIXED = 0.3  # of its brightness in the other image too: it does not move
FAMILY, FAMILY_DEGREES, FAMILY_LENGTH = 4, 3.0, 0.25  # as many short parallel ones are trailed stars
MOST_STREAKS = 24
MOST_VAIN = 3  # searches in a row without a streak
BEAMS = 1.5  # FWHM of the PSF over which the score along a line is correlated
EDGE_SIGMA = 0.7  # of the score, down to which a streak is masked
MASKED_FWHM = 1.0, 6.0  # least and largest half width that is masked


def flag_streaks(difference: Difference, science: Image, template: Image) -> tuple[Difference, tuple[Streak, ...]]:
    """Find the streaks of a difference and set `MaskBit.STREAK` on their pixels.

    Parameters
    ----------
    difference, science, template : Difference, Image, Image
        On the same pixels.

    Returns
    -------
    (Difference, streaks)
        The same difference where there is none.
    """
    streaks = find_streaks(difference, science=science, template=template)
    if not streaks:
        return difference, ()
    mask = difference.mask.copy()
    for streak in streaks:
        mask[pixels_of(streak, mask.shape)] |= np.uint16(MaskBit.STREAK)
    return replace(difference, mask=mask), streaks


def find_streaks(
    difference: Difference, *, science: Image | None = None, template: Image | None = None
) -> tuple[Streak, ...]:
    """Find straight trails in the score of a difference, the most significant first.

    The score, cut at five sigma so that no star decides, is averaged in bins of about a FWHM; segments whose
    sum stands out become lines, centred and extended on the full pixels. A line is a streak when it is longer
    than 20 FWHM and 6 times the longer axis of the PSF, when its sum is significant without its best quarter,
    when 70 % of its parts exceed both sides by half of its level, and when its weaker parts are not far below
    its brightest. What is narrower than a star is of the detector; what the other image shows at that place too
    does not move. Lines along an elongated PSF, or four and more short parallel ones, are stars of an exposure that
    was not tracked.

    Parameters
    ----------
    difference : Difference
        Pixels with any bit but `MaskBit.STREAK` are not used.
    science, template : Image, optional
        What it was made of.

    Returns
    -------
    tuple of Streak
        Empty for images below 128 px.
    """
    shape = difference.significance.shape
    fwhm = equivalent_fwhm(difference.psf)
    long_axis, elongation, direction = _axes(difference.psf)
    shortest = max(SHORTEST_FWHM * fwhm, SHORTEST_PSF_AXES * long_axis)
    if max(shape) < max(SMALLEST_IMAGE, shortest):
        return ()
    usable = difference.unusable == 0
    score = np.where(usable, np.clip(difference.significance, -CLIP, CLIP), 0).astype(np.float32, copy=False)
    size = min(LARGEST_BIN, max(2, round(fwhm), -(-max(shape) // LARGEST_BINNED_SIDE)))
    found: list[Streak] = []
    n_vain = 0  # rounds that found nothing
    while n_vain < MOST_VAIN and len(found) < MOST_STREAKS:
        n_before, is_new = len(found), False
        segments = outstanding_segments(
            _binned(score, size), shortest=int(shortest / size / 2), threshold=SEGMENT_SIGMA
        )
        for segment in segments:
            sign = 1.0 if segment.z > 0 else -1.0
            line = _unbinned(segment, size)
            if not score[pixels_of(line, shape)].any():
                continue  # seen already
            is_new = True
            signed = score * np.float32(sign)
            track = fitted(signed, usable, line, fwhm)
            score[pixels_of(line, shape)] = 0
            if track is None or track.length < shortest:
                continue
            if not _is_streak(difference, signed, usable, track, sign):
                # what falls off from a star goes on where it is fainter
                around = replace(track.between(-track.length, 2 * track.length), half_width=2 * fwhm)
                score[pixels_of(around, shape)] = 0
                continue
            streak = _measured(difference, usable, track, sign)
            score[pixels_of(streak, shape)] = 0
            is_trailed = elongation > TRAILED and _between(streak.angle, direction) < TRAILED_DEGREES
            is_sharp = streak.width < SHARPEST * fwhm
            other = template if sign > 0 else science
            if not is_trailed and not is_sharp and (other is None or not _is_fixed(difference, other, usable, streak)):
                found.append(streak)
                break
        if not is_new:
            break
        n_vain = 0 if len(found) > n_before else n_vain + 1
    found = _without_families(found, max(shape))
    return tuple(sorted(found, key=lambda one: -abs(one.significance)))


def _axes(psf: NDArray[Any]) -> tuple[float, float, float]:
    """Return FWHM of a PSF along its longer axis, the ratio of its axes, and the angle of the longer one."""
    y, x = np.indices(psf.shape) - np.array(psf.shape)[:, None, None] // 2
    weight = np.maximum(psf, 0) * (psf > 0.02 * psf.max())
    weight = weight / weight.sum()
    yy, xx, yx = (weight * y * y).sum(), (weight * x * x).sum(), (weight * y * x).sum()
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    ratio = np.sqrt((middle + spread) / max(middle - spread, 1e-3 * middle))
    angle = np.degrees(np.arctan2(2 * yx, xx - yy)) / 2 % 180
    return float(FWHM_PER_SIGMA * np.sqrt(middle + spread)), float(ratio), float(angle)


def _between(one: float, other: float) -> float:
    """Return the degrees between two directions without sense."""
    return abs((one - other + 90) % 180 - 90)


def _binned(score: FloatArray, size: int) -> FloatArray:
    """Return the means of square blocks, less the mean of their surroundings."""
    ny, nx = (-(-n // size) for n in score.shape)
    whole = np.zeros((ny * size, nx * size), np.float32)
    whole[: score.shape[0], : score.shape[1]] = score
    means = whole.reshape(ny, size, nx, size).sum(axis=3).sum(axis=1) / np.float32(size**2)
    level = np.pad(means, LEVEL_BINS // 2, mode="edge")
    for axis in (0, 1):
        total = np.cumsum(level, axis=axis, dtype=np.float64)
        ends = np.moveaxis(total, axis, 0)
        part = ends[LEVEL_BINS - 1 :].copy()
        part[1:] -= ends[:-LEVEL_BINS]
        level = np.moveaxis(part, 0, axis) / LEVEL_BINS
    flat = np.where(means != 0, means - level, 0)
    return np.asarray(flat, np.float32)


def _unbinned(segment: Segment, size: int) -> Streak:
    y0, x0, y1, x1 = ((value + 0.5) * size - 0.5 for value in (segment.y0, segment.x0, segment.y1, segment.x1))
    return Streak(y0, x0, y1, x1, half_width=1.5 * size)


def _is_streak(
    difference: Difference, signed: FloatArray, usable: NDArray[np.bool_], line: Streak, sign: float
) -> bool:
    """Whether a line is bright on most of its length, and evenly."""
    fwhm = equivalent_fwhm(difference.psf)
    p, there = profile(signed, usable, line, fwhm)
    if there.sum() < 0.5 * len(there):
        return False
    beam = BEAMS * fwhm
    level = float(np.median(p[there]))
    if level <= 0:
        return False
    size = max(PART_FWHM * fwhm, (PART_SIGMA / level) ** 2 * beam)
    n_parts = int(len(p) / size)
    if n_parts < FEWEST_PARTS:
        return False
    parts = [part for part in np.array_split(np.arange(len(p)), n_parts) if there[part].mean() > 0.3]
    means = np.sort([float(p[part].sum() / there[part].sum()) for part in parts])
    if len(means) < FEWEST_PARTS:
        return False
    kept = means[: max(1, int(0.75 * len(means)))]
    significance = kept.mean() * np.sqrt(there.sum() * len(kept) / len(means) / beam)
    filled = float(np.mean(means > level / 2))
    values, known = band(difference.significance, usable, line, 1)
    bright = [sign * float(np.median(values[part][known[part]])) for part in parts]
    even = float(np.percentile(bright, 25) / np.percentile(bright, 90))
    return bool(significance > STREAK_SIGMA and filled >= FILLED and even >= EVEN)


def _measured(difference: Difference, usable: NDArray[np.bool_], line: Streak, sign: float) -> Streak:
    """Measure brightness, width and what is to be masked."""
    fwhm = equivalent_fwhm(difference.psf)
    far = int(np.ceil((MASKED_FWHM[1] + 2) * fwhm))
    offset = np.arange(-far, far + 1)
    flux = sign * _across(difference.flux, usable, line, far)
    score = sign * _across(difference.significance, usable, line, far)
    outer = np.abs(offset) > MASKED_FWHM[1] * fwhm
    flux, score = flux - np.median(flux[outer]), score - np.median(score[outer])
    both = np.maximum(score[far:], score[far::-1])
    low = np.flatnonzero(both < EDGE_SIGMA)
    least, most = (limit * fwhm for limit in MASKED_FWHM)
    half = min(max(float(low[0]) if len(low) else most, least), most)
    core = np.abs(offset) <= half
    values, known = band(difference.significance, usable, line, 1)
    axis = float(np.median(sign * values[known])) if known.any() else 0.0
    streak = replace(line, half_width=half)
    pixels = np.zeros(difference.mask.shape, bool)
    pixels[pixels_of(streak, pixels.shape)] = True
    peaks = find_peaks(
        np.asarray(difference.significance * np.float32(sign)), ~(pixels & usable), radius=max(1, int(np.ceil(fwhm)))
    )
    return replace(
        streak,
        width=_full_width(flux[core]),
        flux_per_length=sign * float(flux[core].sum()),
        significance=sign * axis * float(np.sqrt(max(line.length / (BEAMS * fwhm), 1))),
        n_peaks=len(peaks),
    )


def _across(values: NDArray[Any], usable: NDArray[np.bool_], line: Streak, half: int) -> NDArray[np.float64]:
    """Return the median along a line for each distance from it; zero where nothing is known."""
    near, known = band(values, usable, line, half)
    middle = np.zeros(near.shape[1])
    for column in np.flatnonzero(known.any(axis=0)):
        middle[column] = np.median(near[known[:, column], column])
    return middle


def _full_width(profile: NDArray[np.float64]) -> float:
    """Return the full width at half of the largest value, interpolated."""
    top = int(profile.argmax())
    half = profile[top] / 2
    if half <= 0:
        return float("nan")
    width = 0.0
    for side in (profile[top:], profile[top::-1]):
        below = np.flatnonzero(side < half)
        if len(below) == 0:
            width += len(side) - 0.5
        else:
            i = int(below[0])
            width += i - 1 + (side[i - 1] - half) / (side[i - 1] - side[i])
    return float(width)


def _is_fixed(difference: Difference, other: Image, usable: NDArray[np.bool_], streak: Streak) -> bool:
    """Whether the other image shows the same line: a spike, a bleeding column, the arm of a galaxy."""
    half = max(2, int(np.ceil(streak.half_width)))
    far = 2 * half
    ours, theirs = (_across(image.flux, usable, streak, far) for image in (difference, other))
    near, outer = slice(far - half // 2, far + half // 2 + 1), np.abs(np.arange(-far, far + 1)) > half
    contrast = [float(one[near].mean() - np.median(one[outer])) for one in (ours, theirs)]
    return contrast[1] > FIXED * abs(contrast[0])


def _without_families(found: list[Streak], side: int) -> list[Streak]:
    """Drop short streaks of one direction where there are many: the stars of an exposure that was not tracked."""
    short = [one for one in found if one.length < FAMILY_LENGTH * side]

    def relatives(one: Streak) -> int:
        return sum(_between(other.angle, one.angle) < FAMILY_DEGREES for other in short)

    return [one for one in found if one not in short or relatives(one) < FAMILY]
