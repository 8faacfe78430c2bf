"""What a network sees of a difference: the same for training and for use, on every survey."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.image import Difference, Image

CHANNELS = ("science", "template", "difference", "score", "masked")
SAMPLE = 100_000  # pixels that tell level and noise


def inputs_of(difference: Difference) -> NDArray[np.float32]:
    """Return the planes that a network sees.

    Science image and template less their median, and the difference, each over its noise: for the images the scatter of
    their pixels or the square root of their median variance, whichever is larger, for the difference the square root of
    its variance times what its scatter is beyond that. Less scatter than the variance says is not heeded: resampled
    pixels scatter less and are correlated, so that noise over its scatter would look like sources. Then the score. All
    through asinh, zero where masked, which a last plane says.

    Parameters
    ----------
    difference : Difference
        With the images that it was made from.

    Returns
    -------
    (5, ny, nx) float32 array
        Finite everywhere.

    Raises
    ------
    ValueError
        If the difference does not hold its images.
    """
    if difference.science is None or difference.template is None:
        raise ValueError(
            "the U-Net looks at the science image and the template too, and this difference holds none; "
            "make it with astrid.subtract, or give it both: dataclasses.replace(difference, science=..., template=...)"
        )
    good = (difference.unusable == 0) & np.isfinite(difference.flux) & np.isfinite(difference.significance)
    planes = np.zeros((len(CHANNELS), *good.shape), np.float32)
    planes[0] = _over_noise(difference.science, good)
    planes[1] = _over_noise(difference.template, good)
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = difference.flux / np.sqrt(difference.variance)
    planes[2] = pull / max(_scatter(pull, good, 0.0), np.float32(1))
    planes[3] = difference.significance
    planes[:4, ~good] = 0
    np.nan_to_num(planes, copy=False)
    np.arcsinh(planes[:4], out=planes[:4])
    planes[4] = ~good
    return planes


def _over_noise(image: Image, good: NDArray[np.bool_]) -> NDArray[Any]:
    usable = good & (image.mask == 0) & np.isfinite(image.flux)
    level = float(np.median(_sampled(image.flux, usable))) if usable.any() else 0.0
    values: NDArray[Any] = np.where(np.isfinite(image.flux), image.flux - np.float32(level), np.float32(0))
    said = np.sqrt(np.median(_sampled(image.variance, usable))) if usable.any() else 0.0
    values /= max(_scatter(values, usable, 0.0), np.float32(said))
    return values


def _scatter(values: NDArray[Any], good: NDArray[np.bool_], level: float) -> np.float32:
    """Return the robust scatter about a level; one where nothing tells."""
    if not good.any():
        return np.float32(1)
    found = 1.4826 * float(np.median(np.abs(_sampled(values, good) - level)))
    return np.float32(found if np.isfinite(found) and found > 0 else 1)


def _sampled(values: NDArray[Any], good: NDArray[np.bool_]) -> NDArray[Any]:
    step = max(1, int(np.sqrt(good.size / SAMPLE)))
    every = slice(None, None, step), slice(None, None, step)
    some = values[every][good[every]]
    return some if len(some) else values[good]
