"""What the subtraction methods do alike with masked pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.errors import AlgorithmError
from astrid.image import Image
from astrid.schema import MaskBit

Floats = NDArray[np.float32]

SMALLEST_GOOD_FRACTION = 0.01
SMALLEST_CORE = 4  # pixels
CUT_STAR_SNR = 8.0  # stars that leave a residual where the edge of an image cuts them
CUT_REACH = 2.0  # times the FWHM, how far that residual goes
REACH = 3  # pixels from which a masked pixel is filled
STRIP = 64  # rows


def pixel_stencil(half: int) -> Iterator[tuple[int, int]]:
    """Offsets (dy, dx) of a square of pixels."""
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            yield dy, dx


def row_strips(n_rows: int, height: int = STRIP) -> Iterator[slice]:
    """Cut an image into strips of rows that fit into the cache: steps on one of them need no memory of their own."""
    for top in range(0, n_rows, height):
        yield slice(top, min(top + height, n_rows))


def running_maximum(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the largest value (or whether any is true) in a square about each pixel, cut at the edges.

    Parameters
    ----------
    values : (ny, nx) array
        Numbers or bools.
    side : int
        Of the square, odd.
    """
    if side == 1:
        return values.copy()
    least = False if values.dtype == np.bool_ else -np.inf
    out = values
    for axis in (0, 1):
        widths = [(0, 0), (0, 0)]
        widths[axis] = (side // 2, side // 2)
        out = np.pad(out, widths, constant_values=least)
        reach = 1  # pixels whose maximum each one holds, from itself on
        while 2 * reach <= side:
            out = np.maximum(_from(out, axis, 0, reach), _from(out, axis, reach, 0))
            reach *= 2
        if reach < side:
            out = np.maximum(_from(out, axis, 0, side - reach), _from(out, axis, side - reach, 0))
    return out


def convolved(values: NDArray[Any], taps: NDArray[Any], mode: Literal["symmetric", "constant"] = "symmetric") -> Floats:
    """Convolve an image along both axes with a short symmetric line, continued by its mirror or by zero.

    Parameters
    ----------
    values : (ny, nx) array
        Numbers or bools.
    taps : (n,) array
        The line, odd.
    mode : "symmetric" or "constant"
        What is beyond the edges.
    """
    (ny, nx), half, line = values.shape, len(taps) // 2, np.asarray(taps, np.float32)
    if half >= min(ny, nx):
        beyond: Any = "reflect" if mode == "symmetric" else mode
        for axis in (0, 1):
            values = ndimage.correlate1d(values.astype(np.float32, copy=False), line, axis, mode=beyond)
        return values
    out = np.empty((ny, nx), np.float32)
    for rows in row_strips(ny):
        begin, end = max(rows.start - half, 0), min(rows.stop + half, ny)
        widths = ((begin - rows.start + half, rows.stop + half - end), (half, half))
        wide = np.pad(values[begin:end].astype(np.float32, copy=False), widths, mode=mode)
        out[rows] = _along(_along(wide, line, 0), line, 1)
    return out


def _along(values: Floats, taps: Floats, axis: int) -> Floats:
    """Return a symmetric line's convolution where it is complete."""
    half = len(taps) // 2
    out: Floats = _from(values, axis, half, half) * taps[half]
    for step in range(1, half + 1):
        pair = _from(values, axis, half - step, half + step) + _from(values, axis, half + step, half - step)
        pair *= taps[half + step]
        out += pair
    return out


def _from(values: NDArray[Any], axis: int, begin: int, end: int) -> NDArray[Any]:
    """Return all but some values at the beginning and the end of an axis."""
    span = slice(begin, values.shape[axis] - end)
    return values[span] if axis == 0 else values[:, span]


def good_pixels(image: Image, name: str) -> NDArray[np.bool_]:
    """Where an image can be used: unmasked, finite, of positive variance.

    Raises
    ------
    AlgorithmError
        If fewer than one pixel in a hundred is good.
    """
    good: NDArray[np.bool_] = (
        (image.mask == 0) & np.isfinite(image.flux) & np.isfinite(image.variance) & (image.variance > 0)
    )
    n_good = int(np.count_nonzero(good))
    if n_good < max(1, SMALLEST_GOOD_FRACTION * good.size):
        n_masked = int(np.count_nonzero(image.mask))
        raise AlgorithmError(
            f"{name} has {n_good} good of {good.size} pixels ({n_masked} masked), "
            f"at least {SMALLEST_GOOD_FRACTION:.0%} needed"
        )
    return good


def fill_from_neighbours(flux: NDArray[Any], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Replace bad pixels by a weighted mean of the good ones nearby, zero where there are none."""
    out = np.where(good, flux, 0).astype(np.float32, copy=False)
    y, x = np.nonzero(~good)
    if len(y) == 0:
        return out
    ny, nx = flux.shape
    total, weights = np.zeros(len(y)), np.zeros(len(y))
    offsets = range(-REACH, REACH + 1)
    rows, columns = ([np.clip(at + step, 0, n - 1) for step in offsets] for at, n in ((y, ny), (x, nx)))
    inside = [[(at + step >= 0) & (at + step < n) for step in offsets] for at, n in ((y, ny), (x, nx))]
    light, usable = out.ravel(), good.ravel()
    for dy, dx in pixel_stencil(REACH):
        at = rows[dy + REACH] * nx + columns[dx + REACH]
        weight = np.exp(-(dy**2 + dx**2) / 2) * (inside[0][dy + REACH] & inside[1][dx + REACH] & usable[at])
        total += weight * light[at]
        weights += weight
    filled = np.zeros(len(y))
    np.divide(total, weights, out=filled, where=weights > 0)
    out[y, x] = filled
    return out


def fill_star_cores(
    flux: NDArray[np.float32], good: NDArray[np.bool_], psf: NDArray[Any], bright: float
) -> NDArray[np.float32]:
    """Put the PSF into masked cores of stars, scaled to the good pixels that touch them.

    A core is a connected group of four or more bad pixels that fits into half
    the PSF stamp and whose rim has a median above ``bright``; the star is taken
    to sit at the middle of the group. Others keep what they hold.
    """
    if good.all():
        return flux
    labels, _ = ndimage.label(~good, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    out = flux.copy()
    half_y, half_x = psf.shape[0] // 2, psf.shape[1] // 2
    boxes = ndimage.find_objects(labels)
    for label in np.flatnonzero(sizes[1:] >= SMALLEST_CORE) + 1:
        box = boxes[label - 1]
        height, width = (side.stop - side.start for side in box)
        if height > half_y or width > half_x:
            continue
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        core = labels[around] == label
        rim = ndimage.binary_dilation(core, np.ones((3, 3), bool)) & good[around]
        if not rim.any() or np.median(flux[around][rim]) < bright:
            continue
        y, x = np.nonzero(core)
        rows, columns = np.indices(core.shape)
        model = ndimage.map_coordinates(
            psf.astype(np.float64), [rows - y.mean() + half_y, columns - x.mean() + half_x], order=3, mode="constant"
        )
        usable = rim & (model > 1e-6 * psf.max())
        if usable.any():
            scale = float(np.median(flux[around][usable] / model[usable]))
            out[around][core] = scale * model[core]
    return out


def difference_mask(
    science: Image,
    good_science: NDArray[np.bool_],
    good_template: NDArray[np.bool_],
    psf: NDArray[Any],
    neighbour_fraction: float,
) -> NDArray[np.uint16]:
    """Mask of a difference.

    The bits of science, `MaskBit.NO_DATA` where it is not finite though
    unmasked, `MaskBit.TEMPLATE` where the template is bad, and
    `MaskBit.NEIGHBOUR` where more than ``neighbour_fraction`` of the squared
    PSF, taken as round, lies on bad pixels or outside the image.
    """
    mask = science.mask.copy()
    bad = ~(good_science & good_template)
    any_bad = bool(bad.any())
    if any_bad:
        mask |= (~good_science & (mask == 0)) * np.uint16(MaskBit.NO_DATA)
        mask |= ~good_template * np.uint16(MaskBit.TEMPLATE)
    weight = np.asarray(psf, np.float64) ** 2
    offset = np.arange(len(weight)) - len(weight) // 2
    offset_x = np.arange(weight.shape[1]) - weight.shape[1] // 2
    moment = float((weight * (offset[:, None] ** 2 + offset_x**2)).sum() / weight.sum())
    sigma = max(float(np.sqrt(moment / 2)), 0.3)
    inside = [_inside(n, sigma) for n in bad.shape]
    if any_bad:
        line = np.exp(-0.5 * (np.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1) / sigma) ** 2)
        on_bad = convolved(bad, line / line.sum(), "constant")
    for rows in row_strips(len(mask)):
        part = 1 - inside[0][rows, None] * inside[1]
        if any_bad:
            part += on_bad[rows]
        mask[rows] |= (part > neighbour_fraction) * np.uint16(MaskBit.NEIGHBOUR)
    return mask


def _inside(n: int, sigma: float) -> NDArray[np.float32]:
    """Return how much of a Gaussian about each pixel of a line lies on the line."""
    return ndimage.gaussian_filter1d(np.ones(n, np.float32), sigma, mode="constant", truncate=3.0)


def mask_stars_cut_by_edges(mask: NDArray[np.uint16], snr: NDArray[Any], reach: float) -> None:
    """Do what `mask_cut_stars` does where nothing but what lies outside the image is missing."""
    deep = 6 * int(np.ceil(reach))
    for strip in (np.s_[:deep], np.s_[-deep:], np.s_[:, :deep], np.s_[:, -deep:]):
        edge = np.zeros(mask.shape, bool)
        edge[[0, -1]] = edge[:, [0, -1]] = True
        mask_cut_stars(mask[strip], edge[strip], snr[strip], reach)


def mask_cut_stars(mask: NDArray[np.uint16], missing: NDArray[np.bool_], snr: NDArray[Any], reach: float) -> None:
    """Flag, in place, what lies near stars that the edge of an image cuts.

    Half a star cannot be given another PSF: within ``reach`` px of both a ``missing``
    pixel and one whose ``snr`` is a star's, good pixels get `MaskBit.NEIGHBOUR`; within twice
    as far where the star is ten times as bright.
    """
    if not missing.any():
        return
    for times in (1, 2):
        side = 2 * int(np.ceil(times * reach)) + 1
        cut = running_maximum(missing, side)
        cut &= running_maximum((snr > CUT_STAR_SNR * 10 ** (times - 1)) & cut, side)
        mask[cut & (mask == 0)] |= np.uint16(MaskBit.NEIGHBOUR)
