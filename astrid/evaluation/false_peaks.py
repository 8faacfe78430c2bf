"""How many peaks pure noise makes, and what a threshold therefore means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from astrid.image import FloatArray

_SAMPLES = 20_000
_MEGAPIXEL = 1e6


def expected_false_peaks(psf: FloatArray, threshold: float, *, both_signs: bool = True) -> float:
    """Peaks per megapixel above a threshold in white noise filtered with a PSF.

    A peak is a pixel above the threshold and above its eight neighbours. The score has
    unit width and the correlation of the PSF with itself, so that given the value
    of a pixel its neighbours are jointly Gaussian; the chance that all are lower is
    integrated over that value.

    Parameters
    ----------
    psf : (py, px) array
        Filter of the score: the PSF of the difference.
    threshold : float
        In standard deviations of the score.
    both_signs : bool
        Whether negative peaks count too.

    Returns
    -------
    float
        Expected number in a megapixel.
    """
    if not 0 < threshold < 30:
        raise ValueError(f"threshold must be between 0 and 30 sigma, got {threshold}")
    offsets = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    to_pixel = np.array([_correlation(psf, dy, dx) for dy, dx in offsets])
    among = np.array([[_correlation(psf, a - c, b - d) for c, d in offsets] for a, b in offsets])
    values, vectors = np.linalg.eigh(among - np.outer(to_pixel, to_pixel))
    rng = np.random.default_rng(20251)
    scatter = rng.standard_normal((_SAMPLES, 8)) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    # a pixel of value z is a peak where scatter < z (1 - r) in all directions, so where z exceeds this:
    needed = np.max(scatter / np.maximum(1.0 - to_pixel, 1e-9), axis=1)
    per_pixel = float(np.mean(special.ndtr(-np.maximum(needed, threshold))))
    return per_pixel * _MEGAPIXEL * (2.0 if both_signs else 1.0)


def threshold_note(
    threshold: float,
    psf: FloatArray,
    *,
    how: str,
    false_alarms_per_megapixel: float | None,
    megapixels: float,
    both_signs: bool = True,
) -> str:
    """Say in plain words how a threshold in sigma was chosen and what it means.

    Parameters
    ----------
    threshold : float
        In standard deviations of the score.
    psf : (py, px) array
        Filter of the score.
    how : str
        How it was chosen, as the end of "It was ...", such as "fixed before the run".
    false_alarms_per_megapixel : float or None
        What was measured; None where it could not be.
    megapixels : float
        Area on which it was measured.
    both_signs : bool
        Whether negative peaks count too.

    Returns
    -------
    str
        Two or three sentences.
    """
    expected = expected_false_peaks(psf, threshold, both_signs=both_signs)
    signs = "of either sign" if both_signs else "of positive sign"
    meaning = (
        f"A detection must reach {threshold:g} standard deviations of the score. It was {how}. "
        f"Pure Gaussian noise with this PSF makes {expected:.2g} such peaks {signs} per megapixel; "
    )
    if false_alarms_per_megapixel is None:
        return meaning + "the false alarms of these images could not be measured."
    return meaning + f"{false_alarms_per_megapixel:.2g} per megapixel were found on {megapixels:.3g} megapixels."


def learned_threshold_note(
    detector: str, threshold: float, *, false_alarms_per_megapixel: float | None, megapixels: float
) -> str:
    """Say in plain words what a threshold in the score of a model means, which no law of noise predicts.

    Parameters
    ----------
    detector : str
        Whose score it is.
    threshold : float
        What a detection must reach.
    false_alarms_per_megapixel : float or None
        What was measured; None where it could not be.
    megapixels : float
        Area on which it was measured.

    Examples
    --------
    >>> learned_threshold_note("unet", 0.45, false_alarms_per_megapixel=1.4, megapixels=8.7)
    'A detection must reach 0.45 in the score of unet. It was fixed before the run, not tuned on it. 1.4 per megapixel \
were found on 8.7 megapixels.'
    """
    meaning = f"A detection must reach {threshold:.3g} in the score of {detector}. It was fixed before the run, "
    meaning += "not tuned on it. "
    if false_alarms_per_megapixel is None:
        return meaning + "The false alarms of these images could not be measured."
    return meaning + f"{false_alarms_per_megapixel:.2g} per megapixel were found on {megapixels:.3g} megapixels."


def _correlation(psf: FloatArray, dy: int, dx: int) -> float:
    """Correlation of a PSF with itself shifted by whole pixels, one without shift."""
    p: NDArray[np.float64] = np.pad(psf.astype(np.float64), 3)
    return float(np.sum(p * np.roll(p, (dy, dx), axis=(0, 1))) / np.sum(p * p))
