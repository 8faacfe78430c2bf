"""From the score of a difference to its significance: what its noise is made of, how large that is being left open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from astrid.errors import AlgorithmError
from astrid.image import Difference
from astrid.subtraction.masks import row_strips, running_maximum
from astrid.subtraction.noise import (
    FEWEST_STARS,
    STAR_SNR,
    astrometric_variance,
    bright_peaks,
    joined,
    measure_model_error,
    saturated_cores,
    wing_variance,
)

MODEL_REACH = 2  # px about a star over which its model error counts

Side = tuple[NDArray[np.float32], NDArray[np.float64], float, float]


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """A subtraction but for the noise, which may turn out to be larger; see `finished`.

    Attributes
    ----------
    flux, variance, mask, psf : arrays
        As in `astrid.image.Difference`.
    score, score_variance : (ny, nx) float32 arrays
        S and its variance from the noise of the pixels.
    sides : tuple
        Of science and template: part of S, its kernel, noise of the sky, registration error.
    steady : (ny, nx) float32 array
        Size of the part of S that is in both images.
    """

    flux: NDArray[np.float32]
    variance: NDArray[np.float32]
    mask: NDArray[np.uint16]
    psf: NDArray[np.float32]
    score: NDArray[np.float32]
    score_variance: NDArray[np.float32]
    sides: tuple[Side, Side]
    steady: NDArray[np.float32]


def finished(
    parts: ScoreParts,
    noise: float,
    model_error: float | Literal["measured"],
    usual_model_error: float,
    max_model_error: float,
    *,
    least_model_error: float = 0.0,
    least_snr: float = STAR_SNR,
) -> Difference:
    """Return the difference for a noise so many times larger than that of the images which the parts are of.

    Parameters
    ----------
    parts : ScoreParts
        Of a subtraction.
    noise : float
        By how much larger the noise is.
    model_error, usual_model_error, max_model_error : float
        As of `astrid.subtraction.zogy.Zogy`.
    least_model_error : float
        What a measured error is at least.
    least_snr : float
        Of sources whose residuals tell the error.

    Raises
    ------
    AlgorithmError
        If bright sources leave more than ``max_model_error`` of themselves.
    """
    s, steady, usable = parts.score, parts.steady, parts.mask == 0
    denominator = parts.score_variance * np.float32(noise**2)
    for part, kernel, sigma, rms in parts.sides:
        if rms > 0:
            denominator += astrometric_variance(part, kernel, noise * sigma, rms)
    if model_error != 0:
        # a PSF that is not quite right leaves rings about a star, not only a residual on it
        around = running_maximum(steady, 2 * MODEL_REACH + 1)
        if model_error == "measured":
            peaks = bright_peaks(steady, denominator, usable, least_snr)
            eps = measure_model_error(s, around, denominator, usable, peaks, usual_model_error)
            check_model_error(eps, len(peaks[0]), max_model_error, [side[3] for side in parts.sides])
            eps = max(eps, least_model_error)
        else:
            eps = float(model_error)
        centres = joined(bright_peaks(steady, denominator), saturated_cores(parts.mask))
        denominator += wing_variance(s, around, denominator, usable, centres)
        for rows in row_strips(len(around)):
            light = around[rows] ** 2
            light -= parts.score_variance[rows] * np.float32(noise**2)
            np.maximum(light, 0, out=light)
            light *= np.float32(eps**2)
            denominator[rows] += light
    np.sqrt(denominator, out=denominator)
    return Difference(
        flux=parts.flux,
        variance=parts.variance * np.float32(noise**2),
        mask=parts.mask,
        psf=parts.psf,
        significance=np.divide(s, denominator, out=denominator),
    )


def check_model_error(error: float, n_stars: int, largest: float, registration: Sequence[float]) -> None:
    """Refuse a pair whose bright sources do not subtract, with the numbers; fewer than five tell nothing.

    Raises
    ------
    AlgorithmError
        If they leave more than ``largest`` of themselves.
    """
    if error > largest and n_stars >= FEWEST_STARS:
        raise AlgorithmError(
            f"{n_stars} bright sources leave {error:.0%} of themselves, {largest:.0%} are allowed "
            f"(subtraction.max_model_error); registered to {', '.join(f'{rms:.3f}' for rms in registration)} px; "
            "do PSFs and fluxes fit?"
        )
