"""What the edges and the saturated stars of a detector spoil."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray
from astrid.imaging.background import dithered

EDGE_FRACTION = 0.05  # of the detector that may be given up on each side
EDGE_SIGMA = 0.3  # of one pixel's noise by which the median of an edge line may differ
HALO_SIGMA = 5.0
TRAIL_SIGMA = 5.0
TRAIL_PIXELS = 30  # how far a trail is followed
HALO_PIXELS = 40  # largest radius of a halo
DARK_SIGMA = 6.0  # below the sky, where no source and hardly any noise reaches
DARK_LIMIT = 2.0  # how far the neighbours of a dark pixel are followed
DARK_BOX = 7  # px of the median that tells a dark column from an oversubtracted background


def bad_edges(flux: FloatArray, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find rows and columns at the edges whose level is off.

    From each edge inwards, lines are bad until two in a row have the median of the
    lines behind them.

    Parameters
    ----------
    flux : (ny, nx) float32 array
        With its background; NaN allowed.
    mask : (ny, nx) bool array
        Pixels that do not count.

    Returns
    -------
    (ny, nx) bool array
    """
    values = np.where(mask, np.nan, dithered(flux, mask))
    bad = np.zeros(flux.shape, bool)
    for axis in (0, 1):
        lines = values if axis == 0 else values.T
        target = bad if axis == 0 else bad.T
        deepest = max(2, int(EDGE_FRACTION * len(lines)))
        if len(lines) < 4 * deepest or deepest < 2:
            continue
        for ordered, place in ((lines, target), (lines[::-1], target[::-1])):
            place[: _bad_lines(ordered, deepest)] = True
    return bad


def _bad_lines(lines: NDArray[np.floating], deepest: int) -> int:
    head = lines[: 3 * deepest]
    known = np.isfinite(head).sum(axis=1) >= 16
    medians = np.full(len(head), np.nan)
    if known.any():
        medians[known] = np.nanmedian(head[known], axis=1)
    inner = medians[deepest:]
    if np.isfinite(inner).sum() < 4:
        return 0
    rest = head[deepest:]
    steps = np.diff(rest, axis=1)
    scatter = 1.4826 * np.nanmedian(np.abs(steps)) / np.sqrt(2)
    level = np.nanmedian(inner)
    # real backgrounds slope: what the inner lines do among themselves is allowed
    allowed = EDGE_SIGMA * scatter + 3 * 1.4826 * np.nanmedian(np.abs(inner - level))
    off = ~(np.abs(medians[:deepest] - level) <= allowed) & np.isfinite(medians[:deepest])
    for i in range(deepest):
        if not off[i : i + 2].any():
            return i
    return deepest


def saturated_haloes(flux: FloatArray, sigma: float, saturated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find what is left of saturated stars around their cores.

    No PSF describes the wings of a star that is not measured itself: around each
    saturated group, rings are given up until their median falls below five sigma,
    and with them the bright pixels that hang together with them: bleeding, trails of charge.

    Parameters
    ----------
    flux : (ny, nx) float32 array
        Background-subtracted.
    sigma : float
        Noise of one pixel.
    saturated : (ny, nx) bool array
        Saturated pixels.

    Returns
    -------
    (ny, nx) bool array
    """
    halo = np.zeros(flux.shape, bool)
    groups, n = ndimage.label(saturated, structure=np.ones((3, 3), bool))
    for i, box in enumerate(ndimage.find_objects(groups, max_label=n), start=1):
        grown = tuple(
            slice(max(0, b.start - HALO_PIXELS), min(size, b.stop + HALO_PIXELS))
            for b, size in zip(box, flux.shape, strict=True)
        )
        group = groups[grown] == i
        distance = ndimage.distance_transform_edt(~group)
        values = flux[grown]
        outer = ~saturated[grown]
        for radius in range(1, HALO_PIXELS):
            ring = (distance > radius - 1) & (distance <= radius) & outer
            if ring.any() and np.median(values[ring]) < HALO_SIGMA * sigma:
                break
        core = distance < radius
        bright = core | ((values > TRAIL_SIGMA * sigma) & (distance < TRAIL_PIXELS))
        parts, _ = ndimage.label(bright)
        trail = np.isin(parts, np.unique(parts[core]))
        halo[grown] |= core | ndimage.binary_dilation(trail, iterations=2)
    return halo


def dark_pixels(flux: FloatArray, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find pixels darker than the sky: dead columns, undershoots of saturated stars, ringing of a resampling.

    Light only adds. A pixel six sigma below the background, and as far below the median of
    its surroundings, was spoilt, and so were the dark ones that hang together with it. The pixels
    below zero tell sigma, which neither sources nor correlated noise falsify.

    Parameters
    ----------
    flux : (ny, nx) array
        Background-subtracted.
    mask : (ny, nx) bool array
        Pixels that do not count.

    Returns
    -------
    (ny, nx) bool array
        The masked pixels are never among them.
    """
    lower = flux[~mask & (flux < 0)]
    if not lower.size:
        return np.zeros(flux.shape, bool)
    sigma = -1.4826 * float(np.median(lower))
    core = (flux < -DARK_SIGMA * sigma) & ~mask
    if not core.any():
        return core
    below = np.where(mask, 0, flux - ndimage.median_filter(flux, DARK_BOX))
    core &= below < -DARK_SIGMA * sigma
    limit = (flux < -DARK_LIMIT * sigma) & (below < -DARK_LIMIT * sigma) & ~mask
    return np.asarray(ndimage.binary_propagation(core, np.ones((3, 3), bool), mask=limit), bool)
