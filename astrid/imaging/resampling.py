"""Bring an image to the grid of a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from astropy.units import Quantity
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from astrid.image import FloatArray, MaskArray
from astrid.schema import MaskBit

Resampling = Literal["spline", "reproject"]
GRID_STEP = 24  # px between the points at which coordinates are computed; between them they are interpolated
MASKED_SHARE = 0.02  # of a pixel's value that masked pixels may hold
ROWS = 16  # of the tile done at a time: what is computed for them stays in the cache of a processor
EDGE = 12  # px by which an image is continued at its edges; the memory of a cubic B-spline is 1e-7 after as many
POLE = np.float32(np.sqrt(3.0) - 2.0)  # of the filter that turns pixels into B-spline coefficients

Mapping2D = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def coordinate_map(to_native: Mapping2D, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where each pixel of a tile lies on the detector.

    Computed on a sparse grid and interpolated by cubic splines, as SWarp does: the
    exact coordinates are most of the cost of a resampling.

    Parameters
    ----------
    to_native : callable
        Turns tile ``(y, x)`` into detector ``(y, x)``.
    shape : tuple of int
        (ny, nx) of the tile.

    Returns
    -------
    (y, x) : (ny, nx) arrays
        In pixels of the detector.
    """
    ny, nx = shape
    sparse_y = np.linspace(0, ny - 1, max(6, ny // GRID_STEP + 1))
    sparse_x = np.linspace(0, nx - 1, max(6, nx // GRID_STEP + 1))
    grid = np.meshgrid(sparse_y, sparse_x, indexing="ij")
    y, x = (values.reshape(grid[0].shape) for values in to_native(grid[0].ravel(), grid[1].ravel()))
    # a spline is linear in its values: those that are one at a point each, as matrices
    down, across = _unit_splines(sparse_y, ny), _unit_splines(sparse_x, nx)
    return down @ y @ across.T, down @ x @ across.T


def _unit_splines(sparse: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    return np.asarray(make_interp_spline(sparse, np.eye(len(sparse)), k=3)(np.arange(n)), np.float64)


def pixel_area(y: NDArray[np.floating], x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the area on the detector, in its pixels, of each pixel of a tile."""
    yy, yx = np.gradient(y)
    xy, xx = np.gradient(x)
    return np.asarray(np.abs(yy * xx - yx * xy), np.float64)


def resample(
    flux: FloatArray,
    variance: FloatArray,
    mask: MaskArray,
    y: NDArray[np.floating],
    x: NDArray[np.floating],
    *,
    method: Resampling = "spline",
) -> tuple[FloatArray, FloatArray, MaskArray]:
    """Resample flux, variance and mask to a tile.

    Flux is interpolated by cubic B-splines and multiplied by the area of the pixel, so
    that it is conserved. Of a Lanczos-3 kernel the weights do not sum to one, and putting that
    right makes fluxes depend on where a star lies between pixels (`benchmarks/results/resampling.json`).
    The variance is the white-equivalent one: that of the input pixel times the area squared (over the
    area, for there are as many more or fewer pixels), not the scatter of the resampled pixels.

    Parameters
    ----------
    flux, variance, mask : (my, mx) arrays
        On the detector; finite, masked pixels filled.
    y, x : (ny, nx) arrays
        Detector coordinates of each pixel of the tile.
    method : "spline" or "reproject"
        "reproject" uses the interpolation of the reproject package (bicubic).

    Returns
    -------
    (flux, variance, mask) : (ny, nx) arrays
        Where the detector ends, flux is zero and the mask says `MaskBit.NO_DATA`.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if method not in ("spline", "reproject"):
        raise ValueError(f"resampling must be spline or reproject, got {method!r}")
    new_flux = _reprojected(flux, y, x) if method == "reproject" else np.empty(y.shape, np.float32)
    new_variance = np.empty(y.shape, np.float32)
    new_mask = np.zeros(y.shape, np.uint16)
    coefficients = _spline_coefficients(flux) if method == "spline" else None
    near = _bits_near(mask) if mask.any() else None
    for at in _blocks(y, x, flux.shape):
        if coefficients is not None:
            new_flux[at.rows] = _splines(coefficients, at)
        new_flux[at.rows] *= at.area
        new_flux[at.rows][at.outside] = 0
        new_variance[at.rows] = _linear(variance, at) * at.area  # n / area pixels hold the noise of n
        if near is not None:
            _carry_bits(mask, near, at, new_mask[at.rows])
        new_mask[at.rows][at.outside] |= MaskBit.NO_DATA.value
    return new_flux, new_variance, new_mask


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows of a tile on the detector: the pixel below and left of each place, the rest of the way to it, the area."""

    rows: slice
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    rest_y: FloatArray
    rest_x: FloatArray
    area: FloatArray
    outside: NDArray[np.bool_]


def _blocks(y: NDArray[np.floating], x: NDArray[np.floating], shape: tuple[int, int]) -> Iterator[_Block]:
    ny, nx = shape
    for first in range(0, len(y), ROWS):
        rows = slice(first, min(first + ROWS, len(y)))
        around = slice(max(first - 1, 0), first + ROWS + 1)  # what a gradient needs
        area = pixel_area(y[around], x[around])[first - around.start :][: rows.stop - first]
        row, rest_y, beyond_y = _whole_and_rest(y[rows], ny)
        column, rest_x, beyond_x = _whole_and_rest(x[rows], nx)
        yield _Block(rows, row, column, rest_y, rest_x, area.astype(np.float32), beyond_y | beyond_x)


def _whole_and_rest(at: NDArray[np.floating], n: int) -> tuple[NDArray[np.intp], FloatArray, NDArray[np.bool_]]:
    """Split coordinates; those beyond the first and last of n pixels are taken to be there."""
    inside = np.clip(at, 0, n - 1)
    whole = np.minimum(inside.astype(np.intp), max(n - 2, 0))
    return whole, (inside - whole).astype(np.float32), inside != at


def _spline_coefficients(flux: FloatArray) -> FloatArray:
    """Return the coefficients of the cubic B-splines through the pixels, continued by `EDGE` pixels.

    The recursive filter of Unser, Aldroubi & Eden (1993, IEEE Trans. Signal Process. 41, 834, eq. 2.5). Down the
    columns it takes whole rows at a time, which is several times faster than column by column.
    """
    rows: FloatArray = np.pad(np.asarray(flux, np.float32), EDGE, mode="edge")
    rows = ndimage.spline_filter1d(rows, order=3, axis=1, output=np.float32)
    rows[0] /= 1 - POLE  # as if constant before
    for i in range(1, len(rows)):
        rows[i] += POLE * rows[i - 1]
    rows[-1] *= -POLE / (1 - POLE)
    for i in range(len(rows) - 2, -1, -1):
        rows[i] = POLE * (rows[i + 1] - rows[i])
    rows *= 6
    return rows


def _splines(coefficients: FloatArray, at: _Block) -> FloatArray:
    """Interpolate by cubic B-splines: four coefficients in each of four rows."""
    width = coefficients.shape[1]
    flat = coefficients.ravel()
    corner = (at.row + (EDGE - 1)) * width + (at.column + (EDGE - 1))
    values, one = (np.empty(corner.shape, np.float32) for _ in range(2))
    total: FloatArray = np.zeros(corner.shape, np.float32)
    weights_x = _cubic_weights(at.rest_x)
    for down, weight_y in enumerate(_cubic_weights(at.rest_y)):
        values.fill(0)
        for across, weight_x in enumerate(weights_x):
            np.take(flat[down * width + across :], corner, out=one, mode="clip")  # "raise" would copy
            one *= weight_x
            values += one
        values *= weight_y
        total += values
    return total


def _cubic_weights(rest: FloatArray) -> list[FloatArray]:
    """Return the B-splines of the pixel before, the one at or below the place, and the two after."""
    left = 1 - rest
    half, sixth, most = np.float32(1 / 2), np.float32(1 / 6), np.float32(2 / 3)
    return [
        sixth * left * left * left,  # a power would cost twenty times as much
        most - rest * rest * (1 - half * rest),
        most - left * left * (1 - half * left),
        sixth * rest * rest * rest,
    ]


def _linear(plane: FloatArray, at: _Block) -> FloatArray:
    corner = at.row * plane.shape[1] + at.column
    flat = np.asarray(plane, np.float32).ravel()
    below, above = (
        (1 - at.rest_x) * np.take(flat[start:], corner, mode="clip")
        + at.rest_x * np.take(flat[start + 1 :], corner, mode="clip")
        for start in (0, plane.shape[1])
    )
    values: FloatArray = below + at.rest_y * (above - below)
    return values


def _bits_near(mask: MaskArray) -> MaskArray:
    """Return the bits of each pixel and of the next ones above and to the right, from which places are interpolated."""
    near = mask.astype(np.uint16)
    near[:-1] |= mask[1:]
    near[:, :-1] |= near[:, 1:].copy()
    return near


def _carry_bits(mask: MaskArray, near: MaskArray, at: _Block, into: MaskArray) -> None:
    """Set each bit of which masked pixels hold more than `MASKED_SHARE` of a place; most places have none near."""
    width = mask.shape[1]
    corner = at.row * width + at.column
    bits = np.take(near, corner, mode="clip")
    some = np.flatnonzero(bits != 0)
    if not some.size:
        return
    corner, y, x = corner.ravel()[some], at.rest_y.ravel()[some], at.rest_x.ravel()[some]
    shares = ((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x)
    corners = [np.take(mask, corner + step, mode="clip") for step in (0, 1, width, width + 1)]
    found = np.zeros(len(corner), np.uint16)
    present = int(np.bitwise_or.reduce(bits, axis=None))
    for bit in MaskBit:
        if bit.value & present:
            share = sum(part * ((values & bit.value) != 0) for part, values in zip(shares, corners, strict=True))
            found[share > MASKED_SHARE] |= bit.value
    into.reshape(-1)[some] |= found


_PIXELS = (Quantity, (), {"unit": "pixel"})


class _Places(BaseLowLevelWCS):  # type: ignore[misc] # astropy ships no types
    """A grid whose "world" is where its pixels lie on the detector."""

    pixel_n_dim = world_n_dim = 2
    world_axis_physical_types = (None, None)
    world_axis_units = ("pixel", "pixel")
    world_axis_object_components = (("x", 0, "value"), ("y", 0, "value"))
    world_axis_object_classes: dict[str, Any] = {"x": _PIXELS, "y": _PIXELS}  # noqa: RUF012 # as APE 14 has it

    def __init__(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> None:
        self.y, self.x = y, x

    def pixel_to_world_values(self, *pixel: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        row, column = np.rint(pixel[1]).astype(int), np.rint(pixel[0]).astype(int)
        return self.x[row, column], self.y[row, column]

    def world_to_pixel_values(self, *world: NDArray[np.floating]) -> Any:
        raise NotImplementedError("the way back is not needed")


def _reprojected(flux: FloatArray, y: NDArray[np.floating], x: NDArray[np.floating]) -> FloatArray:
    """Interpolate by the reproject package; zero outside."""
    from reproject import reproject_interp

    detector = WCS(naxis=2)  # pixel coordinates as they are
    detector.wcs.crpix = [1, 1]
    detector.wcs.cunit = ["pixel", "pixel"]
    data = (flux.astype(np.float64), detector)
    values, _ = reproject_interp(data, _Places(y, x), shape_out=y.shape, order="bicubic", roundtrip_coords=False)
    return np.asarray(np.nan_to_num(values), np.float32)
