"""The smooth background of an exposure, measured between its sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from astrid.image import FloatArray

sep.set_extract_pixstack(2_000_000)

SOURCE_SIGMA = 2.5  # a filtered pixel above this belongs to a source
DARK = 20.0  # per cent of the pixels that hold no source even in a crowd
SOURCE_MARGIN = 3  # px around a source that are not background
COARSE_LEVELS = 80  # fewer distinct values than this in the central 96 % of the pixels: medians and modes lock on them


@dataclass(frozen=True, eq=False)
class Background:
    """What `subtract_background` found.

    Attributes
    ----------
    level : (ny, nx) float32 array
        Background per pixel.
    relative_rms : (ny, nx) float32 array
        Noise relative to its median over the image.
    sources : (ny, nx) bool array
        Where sources are, with a margin.
    median : float
        Median background.
    """

    level: FloatArray
    relative_rms: FloatArray
    sources: NDArray[np.bool_]
    median: float


def subtract_background(flux: FloatArray, mask: NDArray[np.bool_], *, box: int | None = 64) -> Background:
    """Measure the background twice: with everything, then without the sources found above it.

    Without a mesh it is one level: in a crowd of stars a mesh follows them, and differently in each exposure.

    Parameters
    ----------
    flux : (ny, nx) float32 array
        Finite everywhere.
    mask : (ny, nx) bool array
        True where a pixel must not be used.
    box : int or None
        Side of the mesh in pixels (Bertin and Arnouts 1996, A&AS 117 393); None: one level for the whole image.

    Returns
    -------
    Background
        In the unit of ``flux``.

    Raises
    ------
    ValueError
        If the mesh is finer than 8 pixels.
    """
    if box is not None and box < 8:
        raise ValueError(f"background_box must be at least 8 pixels, got {box}")
    data = dithered(np.ascontiguousarray(flux, np.float32), mask)
    if box is None:
        return _one_level(data, mask)
    side = max(8, min(box, min(data.shape) // 2))
    first = sep.Background(data, mask=mask, bw=side, bh=side, fw=3, fh=3)
    sources = find_sources(data - first.back(), mask)
    both = mask | sources
    if both.mean() > 0.9:  # nothing but sources: the first estimate is the better one
        both = mask
    second = sep.Background(data, mask=both, bw=side, bh=side, fw=3, fh=3)
    rms = second.rms().astype(np.float32)
    typical = np.median(rms)
    relative = rms / typical if typical > 0 else np.ones_like(rms)
    level = second.back().astype(np.float32)
    return Background(level, np.clip(relative, 0.25, 4.0), sources, float(np.median(level)))


def _one_level(data: FloatArray, mask: NDArray[np.bool_]) -> Background:
    """Return the level of the darkest pixels, which noise alone sets apart."""
    good = data[~mask]
    if not len(good):
        return Background(np.zeros_like(data), np.ones_like(data), np.zeros(data.shape, bool), 0.0)
    # a fifth of the pixels are dark even in a crowd; unlike a mode, this is the same in every exposure of its stars
    beside = (data - ndimage.uniform_filter(data, 3))[~mask]
    level = float(np.percentile(good, DARK) - ndtri(DARK / 100) * min(clipped_std(beside) * 1.06, clipped_std(good)))
    sources = find_sources(data - np.float32(level), mask)
    return Background(np.full_like(data, level), np.ones_like(data), sources, level)


def dithered(flux: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Return coarsely digitised pixels with up to half a step of noise added, all others as they are.

    The median or mode of integers with a noise of about one is itself an integer, so that a
    mesh of them is wrong by half a step; the noise is always the same.

    Parameters
    ----------
    flux : (ny, nx) float32 array
        With its background; NaN allowed.
    mask : (ny, nx) bool array
        Pixels that do not count.
    """
    values = flux[~mask & np.isfinite(flux)]
    values = values[:: max(1, len(values) // 20_000)]
    if not len(values):
        return flux
    low, high = np.percentile(values, [2, 98])
    levels = np.unique(values[(values >= low) & (values <= high)])
    if not 1 < len(levels) < COARSE_LEVELS:
        return flux
    step = float(np.median(np.diff(levels)))
    noise = np.random.default_rng(0).random(flux.shape, np.float32) - np.float32(0.5)
    return np.asarray(flux + noise * np.float32(step), np.float32)


def find_sources(flux: FloatArray, mask: NDArray[np.bool_], *, sigma: float = SOURCE_SIGMA) -> NDArray[np.bool_]:
    """Return where sources of either sign are, with a margin.

    A pixel belongs to a source when the image smoothed by 1.2 px stands out by
    ``sigma`` times its own robust scatter in a group of pixels.
    """
    clean = np.where(mask, 0, flux)
    smooth = ndimage.gaussian_filter(clean, 1.2)
    good = smooth[~mask]
    if not len(good):
        return np.zeros(flux.shape, bool)
    scatter = clipped_std(good)
    above = np.abs(smooth - np.median(good)) > sigma * scatter
    groups = ndimage.binary_opening(above, structure=np.ones((2, 2), bool))
    strong = np.abs(smooth - np.median(good)) > 4 * scatter
    return np.asarray(ndimage.binary_dilation(groups | strong, iterations=SOURCE_MARGIN), bool)


CLIP = 3.0
CLIP_FACTOR = 0.98660  # standard deviation of a Gaussian that is cut at three sigma


def clipped_std(values: NDArray[np.floating]) -> float:
    """Return the standard deviation of the Gaussian core of some values.

    Clipped at three sigma until nothing changes and corrected for the cut; unlike
    the median absolute deviation it is unharmed by coarse integers.
    """
    kept = np.asarray(values, np.float64).ravel()
    if len(kept) < 3:
        return float("nan")
    centre = float(np.median(kept))
    spread = 1.4826 * float(np.median(np.abs(kept - centre))) or float(np.std(kept))
    for _ in range(12):
        inside = kept[np.abs(kept - centre) <= CLIP * spread]
        if len(inside) < 3:
            break
        centre, new = float(inside.mean()), float(inside.std()) / CLIP_FACTOR
        if abs(new - spread) <= 1e-4 * spread:
            spread = new
            break
        spread = new
    return spread
