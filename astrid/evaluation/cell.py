"""What became of the true transients of one cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.evaluation.localization import localize
from astrid.evaluation.matching import Matches, duplicates, match, match_radius
from astrid.evaluation.metrics import Truths


@dataclass(frozen=True, eq=False)
class Recovery:
    """The truths of one cell, their detections and the detections too many.

    Attributes
    ----------
    truths : Truths
        In the order given.
    matches : Matches
        Which detection found which truth.
    is_duplicate : (n_detections,) bool array
        Further detections of truths that count: found twice, or with a negative beside it.
    """

    truths: Truths
    matches: Matches
    is_duplicate: NDArray[np.bool_]

    @property
    def n_duplicates(self) -> int:
        """How many are further detections."""
        return int(self.is_duplicate.sum())


def recover(
    truth_y: ArrayLike,
    truth_x: ArrayLike,
    snr: ArrayLike,
    mask_bits: ArrayLike,
    y: ArrayLike,
    x: ArrayLike,
    significance: ArrayLike,
    *,
    fwhm: float,
    footprints: tuple[NDArray[np.intp], ...] | None = None,
    score: ArrayLike | None = None,
) -> Recovery:
    """Match the detections of one cell to its positive truths and measure how well they sit.

    Parameters
    ----------
    truth_y, truth_x, snr, mask_bits : (n,) arrays
        True positions in pixels, true S/N (NaN where unknown) and mask bits there.
    y, x, significance : (m,) arrays
        Detections; a negative one recovers nothing.
    fwhm : float
        Of the PSF of the difference, in pixels.
    footprints : tuple of (k, 2) int arrays, optional
        Pixels of each detection.
    score : (m,) array, optional
        What ranks the detections; default the significance.

    Returns
    -------
    Recovery
    """
    true_y, true_x = np.asarray(truth_y, dtype=np.float64), np.asarray(truth_x, dtype=np.float64)
    found_y, found_x = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    rank = np.asarray(significance if score is None else score, dtype=np.float64)
    positive = np.flatnonzero(np.asarray(significance) > 0)
    radius = match_radius(fwhm)

    among = match(true_y, true_x, found_y[positive], found_x[positive], rank[positive], radius=radius)
    truth = np.full(len(found_y), -1, dtype=np.intp)
    truth[positive] = among.truth
    detection = np.full(len(true_y), -1, dtype=np.intp)
    detection[among.is_recovered] = positive[among.detection[among.is_recovered]]
    matches = Matches(detection, truth)

    hit = matches.is_recovered
    taken = detection[hit]
    iou, dy, dx = (np.full(len(true_y), np.nan) for _ in range(3))
    pixels = None if footprints is None else tuple(footprints[index] for index in taken)
    iou[hit] = localize(true_y[hit], true_x[hit], found_y[taken], found_x[taken], fwhm=fwhm, footprints=pixels)
    dy[hit], dx[hit] = found_y[taken] - true_y[hit], found_x[taken] - true_x[hit]
    truths = Truths(np.asarray(snr, dtype=np.float64), np.asarray(mask_bits), hit, iou, dy, dx)

    counted = truths.is_counted
    kept = Matches(detection[counted], truth)
    twice = duplicates(true_y[counted], true_x[counted], found_y, found_x, kept, radius=radius)
    return Recovery(truths, matches, twice)
