"""Local maxima of a significance image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrid.detection.base import Detections
from astrid.detection.centring import centred
from astrid.detection.deblending import part
from astrid.detection.shape import is_point_like
from astrid.image import Difference
from astrid.imaging.photometry import cut_windows, equivalent_fwhm
from astrid.schema import MaskBit

CROWDED = 0.02  # above this part of the pixels, filtering the whole image is the faster way
SQUARES_AT_A_TIME = 8192  # pixels whose surroundings are looked at together
SMOOTH_PEAK = 0.1  # neighbours below this part of a peak are not on a Gaussian
STREAK_WINDOW = 41  # px, side of the square that tells how bright a streak is where a peak is on it
STREAK_PERCENTILE = 90.0  # of the score of its pixels: about that of its axis
STREAK_RIPPLE = 0.2  # of its brightness, by which it may vary by itself
MASKED_SLOPE = 1.3  # a masked neighbour higher than this factor: the peak is the flank of what is masked


@dataclass(frozen=True)
class MatchedFilter:
    """Find the peaks of the significance of a difference.

    Attributes
    ----------
    threshold : float
        Smallest absolute significance of a detection.
    both_signs : bool
        Whether to find sources that are fainter than in the template too.
    radius : int or None
        A detection is the highest pixel within this many pixels along each
        axis; None takes the FWHM of the difference.
    max_chi2 : float or None
        Largest reduced chi-squared of a point source at the peak, for a faint one; it
        may grow with the square of the significance, for no PSF is exact, and the width must
        be that of the PSF (see `astrid.detection.shape`): cosmic rays, hot pixels and rings
        about bright stars are not. None takes every peak.
    deblend : bool
        Whether to look for two sources where one peak is not described by one; see `astrid.detection.deblending`.
    """

    threshold: float = 5.0
    both_signs: bool = True
    radius: int | None = None
    max_chi2: float | None = 1.4
    deblend: bool = True

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"threshold must be positive, got {self.threshold}")
        if self.radius is not None and self.radius < 1:
            raise ValueError(f"radius must be at least one pixel or null, got {self.radius}")
        if self.max_chi2 is not None and not self.max_chi2 > 0:
            raise ValueError(f"max_chi2 must be positive or null, got {self.max_chi2}")

    @property
    def name(self) -> str:
        """The word after ``detection=``."""
        return "matched_filter"

    def __call__(self, difference: Difference) -> Detections:
        """Find candidates in unmasked pixels, most significant first.

        On a streak (`MaskBit.STREAK`), what counts is by how much a peak exceeds the streak around it.
        """
        streak = np.zeros(difference.mask.shape, bool)
        if np.bitwise_or.reduce(difference.mask, axis=None) & MaskBit.STREAK:
            streak = (difference.mask & np.uint16(MaskBit.STREAK)) != 0
        difference = replace(difference, mask=difference.unusable)
        score = difference.significance
        radius = self.radius or max(1, int(np.ceil(equivalent_fwhm(difference.psf))))
        masked = difference.mask != 0
        signs = (1, -1) if self.both_signs else (1,)
        peaks = np.concatenate([self._peaks(score, masked, streak, radius, sign) for sign in signs])
        significance = score[tuple(peaks.T)].astype(np.float64)
        order = np.argsort(-np.abs(significance), kind="stable")
        peaks, significance = peaks[order], significance[order]
        y, x = refine_peaks(score, peaks)
        keep = np.zeros(len(y), bool)
        if self.deblend:
            clear = ~streak[tuple(peaks.T)]
            y, x, significance, keep = part(difference, y, x, significance, threshold=self.threshold, tried=clear)
        parted = keep.copy()
        single = np.flatnonzero(~keep)
        if self.max_chi2 is None:
            keep[:] = True
        else:
            of = y[single], x[single], significance[single]
            keep[single] = is_point_like(difference, *of, max_chi2=self.max_chi2)
        y, x, significance, alone = y[keep], x[keep], significance[keep], ~parted[keep]
        alone &= ~cut_windows(streak, y, x, (1, 1), fill=False)[:, 0, 0]  # it would pull them
        at = y.copy(), x.copy()
        at[0][alone], at[1][alone] = centred(difference, y[alone], x[alone])
        apart = ~_closer(*at, radius)
        return Detections(y=np.where(apart, at[0], y), x=np.where(apart, at[1], x), significance=significance)

    def _peaks(
        self, score: NDArray[Any], mask: NDArray[np.bool_], streak: NDArray[np.bool_], radius: int, sign: int
    ) -> NDArray[np.intp]:
        peaks = _peaks_of_sign(score, mask, self.threshold, radius, sign)
        y, x = (p.astype(np.float64) for p in peaks.T)
        around = (sign * cut_windows(score, y, x, (3, 3))).max(axis=(1, 2), initial=-np.inf)
        fair: NDArray[np.bool_] = around <= MASKED_SLOPE * sign * score[tuple(peaks.T)]
        on_streak = streak[tuple(peaks.T)]
        if on_streak.any():
            level = streak_level(sign * score, streak & ~mask, y[on_streak], x[on_streak])
            above = sign * score[tuple(peaks[on_streak].T)] - level
            fair[on_streak] &= above >= np.maximum(self.threshold, STREAK_RIPPLE * level)
        return peaks[fair]


def _closer(y: NDArray[np.float64], x: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Whether another position lies within a radius along both axes."""
    closer = np.zeros(len(y), bool)
    if len(y) > 1:
        closer[cKDTree(np.column_stack([y, x])).query_pairs(radius, p=np.inf, output_type="ndarray").ravel()] = True
    return closer


def streak_level(
    score: NDArray[Any], streak: NDArray[np.bool_], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how bright the streak around each position is: the score that nine tenths of its pixels stay below."""
    side = (STREAK_WINDOW, STREAK_WINDOW)
    near = np.where(cut_windows(streak, y, x, side, fill=False), cut_windows(score, y, x, side), np.nan)
    level: NDArray[np.float64] = np.nanpercentile(near, STREAK_PERCENTILE, axis=(1, 2))
    return np.maximum(level, 0)


def find_peaks(
    significance: NDArray[np.float32],
    mask: NDArray[np.bool_],
    *,
    threshold: float = 5.0,
    radius: int = 3,
) -> NDArray[np.intp]:
    """Find the local maxima of a significance image.

    A pixel is a peak when it is unmasked, at or above the threshold, and the
    largest within ``radius`` pixels along each axis; of equal ones, the first.

    Parameters
    ----------
    significance : (ny, nx) array
        Detection significance, in units of its own standard deviation.
    mask : (ny, nx) bool array
        True where a pixel must not be used.
    threshold : float
        Smallest significance of a peak.
    radius : int
        Half the side of the square in which a peak must be the maximum, in pixels.

    Returns
    -------
    (n, 2) array
        Pixel positions ``(y, x)``, most significant first.

    Examples
    --------
    >>> image = np.zeros((9, 9), np.float32)
    >>> image[4, 6] = 8.0
    >>> find_peaks(image, mask=image < 0).tolist()
    [[4, 6]]
    """
    if significance.shape != mask.shape:
        raise ValueError(f"significance is {significance.shape} but mask is {mask.shape}")
    return _peaks_of_sign(significance, mask, threshold, radius, 1)


def _peaks_of_sign(
    score: NDArray[Any], mask: NDArray[np.bool_], threshold: float, radius: int, sign: int
) -> NDArray[np.intp]:
    """Peaks of a score, or of its negative without a copy of it."""
    pixels = np.flatnonzero(score >= threshold if sign > 0 else score <= -threshold)
    pixels = pixels[~mask.ravel()[pixels] & np.isfinite(score.ravel()[pixels])]
    if len(pixels) > CROWDED * score.size:
        usable = np.full(score.shape, -np.inf, score.dtype)
        usable.flat[pixels] = sign * score.ravel()[pixels]
        highest = ndimage.maximum_filter(usable, size=2 * radius + 1)
        pixels = pixels[(usable == highest).ravel()[pixels]]
    values = sign * score.ravel()[pixels]
    pixels = pixels[np.argsort(-values, kind="stable")]
    peaks = np.stack(np.divmod(pixels, score.shape[1]), axis=1)
    for half in (1, radius):  # the nearest pixels leave few to be compared with the rest
        peaks = peaks[_are_highest(score, mask, peaks, threshold, half, sign)]
    return peaks


def _are_highest(
    score: NDArray[Any], mask: NDArray[np.bool_], pixels: NDArray[np.intp], threshold: float, half: int, sign: int
) -> NDArray[np.bool_]:
    """Whether each pixel exceeds the usable ones of the square around it, and equals none that comes first."""
    side = (2 * half + 1, 2 * half + 1)
    comes_first = np.arange(side[0] * side[1]).reshape(side) < side[0] * side[1] // 2
    highest = np.empty(len(pixels), bool)
    for start in range(0, len(pixels), SQUARES_AT_A_TIME):
        some = slice(start, start + SQUARES_AT_A_TIME)
        y, x = (p.astype(np.float64) for p in pixels[some].T)
        near = sign * cut_windows(score, y, x, side)
        own = near[:, half, half][:, None, None]
        rival = (near > own) | ((near == own) & comes_first)
        rival &= (near < np.inf) & ~cut_windows(mask, y, x, side, fill=True)
        highest[some] = ~(rival & (near >= threshold)).any(axis=(1, 2))
    return highest


def refine_peaks(score: NDArray[Any], peaks: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sub-pixel positions from a quadratic through each peak and its neighbours along either axis."""
    y, x = (p.astype(np.float64) for p in peaks.T)
    near = cut_windows(score, y, x, (3, 3), fill=np.nan).astype(np.float64)
    return y + _vertex(near[:, 0, 1], near[:, 1, 1], near[:, 2, 1]), x + _vertex(
        near[:, 1, 0], near[:, 1, 1], near[:, 1, 2]
    )


def _vertex(before: NDArray[Any], at: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float64]:
    """Offset of the extremum: a parabola through the logarithms, exact for a Gaussian, where all share a sign."""
    least = np.minimum(before / at, after / at)
    smooth = least > SMOOTH_PEAK
    b, a = (np.where(smooth, np.log(np.where(smooth, side / at, 1)), side / at - 1) for side in (before, after))
    fine = np.isfinite(b + a) & (b + a < 0)
    offset = (b - a) / np.where(fine, 2 * (b + a), 1)
    return np.where(fine, np.clip(offset, -0.7, 0.7), 0.0)
