"""Bring an image to the grid of a tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from astropy.units import Quantity
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray, MaskArray
from astrid.schema import MaskBit

Resampling = Literal["spline", "reproject"]
GRID_STEP = 24  # px between the points at which coordinates are computed; between them they are interpolated
MASKED_SHARE = 0.02  # of a pixel's value that masked pixels may hold

Mapping2D = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def coordinate_map(to_native: Mapping2D, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
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
    y, x = to_native(grid[0].ravel(), grid[1].ravel())
    full_y, full_x = np.arange(ny), np.arange(nx)
    return tuple(  # type: ignore[return-value]
        _spline(sparse_y, sparse_x, values.reshape(grid[0].shape), full_y, full_x) for values in (y, x)
    )


def _spline(
    sparse_y: NDArray[np.float64],
    sparse_x: NDArray[np.float64],
    values: NDArray[np.float64],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> NDArray[np.float64]:
    from scipy.interpolate import RectBivariateSpline

    return np.asarray(RectBivariateSpline(sparse_y, sparse_x, values, s=0)(y, x))


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
    that it is conserved. The variance is the white-equivalent one: that of the input
    pixel times the area squared (over the area, for there are as many more or fewer
    pixels), not the scatter of the resampled pixels.

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
    area = pixel_area(y, x)
    places = np.stack([y, x])
    if method == "reproject":
        values = _reprojected(flux, y, x)
    elif method == "spline":
        values = ndimage.map_coordinates(flux, places, output=np.float32, order=3, mode="nearest")
    else:
        raise ValueError(f"resampling must be spline or reproject, got {method!r}")
    ny, nx = flux.shape
    outside = (y < 0) | (y > ny - 1) | (x < 0) | (x > nx - 1)
    new_flux = np.where(outside, 0, values * area).astype(np.float32)
    new_variance = ndimage.map_coordinates(variance, places, output=np.float32, order=1, mode="nearest")
    # n' = n / area pixels hold the noise of n: sum over a PSF of var * area
    new_variance = (new_variance * area).astype(np.float32)
    new_mask = np.zeros(y.shape, np.uint16)
    for bit in MaskBit:
        plane = (mask & bit.value) != 0
        if plane.any():
            share = ndimage.map_coordinates(
                plane.astype(np.float32), places, output=np.float32, order=1, mode="nearest"
            )
            new_mask[share > MASKED_SHARE] |= bit.value
    new_mask[outside] |= MaskBit.NO_DATA.value
    return new_flux, new_variance, new_mask


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
