"""Real transforms of images that are continued by their mirror, in single precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.subtraction.masks import row_strips


def transform(image: NDArray[Any]) -> NDArray[np.complex64]:
    """Return the transform of a real image."""
    hat: Any = fft.rfft2(image.astype(np.float32, copy=False), workers=1)
    return np.asarray(hat, np.complex64)


def transform_stamp(
    stamp: NDArray[Any], grid: tuple[int, int], out: NDArray[np.complex64] | None = None
) -> NDArray[np.complex64]:
    """Return the transform of an odd stamp that is centred on pixel (0, 0) of an empty grid: half the work.

    ``out`` of that shape, where given, is overwritten: memory that is new costs as much as a third of a transform.
    """
    rows = centre_on(stamp.astype(np.float32, copy=False), (stamp.shape[0], grid[1]))
    half = stamp.shape[0] // 2
    hat = np.empty((grid[0], grid[1] // 2 + 1), np.complex64) if out is None else out
    across = np.asarray(fft.rfft(rows, axis=1, workers=1), np.complex64)
    hat[: half + 1] = across[: half + 1]
    hat[half + 1 : grid[0] - half] = 0
    if half:
        hat[-half:] = across[-half:]
    return _down(hat)


def transform_mirrored(
    image: NDArray[Any], grid: tuple[int, int], out: NDArray[np.complex64] | None = None
) -> NDArray[np.complex64]:
    """Return the transform of an image that `pad` continues; ``out`` is overwritten as by `transform_stamp`."""
    (ny, nx), (top, left) = image.shape, ((g - n) // 2 for g, n in zip(grid, image.shape, strict=True))
    bottom = grid[0] - ny - top
    if bottom > ny:  # one mirror is not enough
        return transform(pad(image, grid))
    hat = np.empty((grid[0], grid[1] // 2 + 1), np.complex64) if out is None else out
    columns = ((0, 0), (left, grid[1] - nx - left))
    for rows in row_strips(ny):
        wide = np.pad(image[rows].astype(np.float32, copy=False), columns, mode="symmetric")
        hat[top + rows.start : top + rows.stop] = fft.rfft(wide, axis=1, workers=1)
    hat[:top] = hat[top : 2 * top][::-1]
    hat[top + ny :] = hat[top + ny - bottom : top + ny][::-1]
    return _down(hat)


def _down(hat: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Transform the columns, in place."""
    done: NDArray[np.complex64] = fft.fft(hat, axis=0, workers=1, overwrite_x=True)
    return done


def image_of(
    hat: NDArray[Any], grid: tuple[int, int], shape: tuple[int, ...], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the part without what `pad` adds of the real image of a transform, which is overwritten.

    One axis after the other and in place: an inverse transform of both makes a copy that takes as long as itself.
    """
    return rows_back(columns_back(hat), grid, shape, out)


def columns_back(hat: NDArray[Any]) -> NDArray[np.complex64]:
    """Do the half of `image_of` along y, in place."""
    down: NDArray[np.complex64] = fft.ifft(hat, axis=0, workers=1, overwrite_x=True)
    return down


def rows_back(
    down: NDArray[Any], grid: tuple[int, int], shape: tuple[int, ...], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Do the half of `image_of` along x."""
    top, left = ((g - n) // 2 for g, n in zip(grid, shape, strict=True))
    image = np.empty((shape[0], shape[1]), np.float32) if out is None else out
    for rows in row_strips(shape[0]):
        across = down[top + rows.start : top + rows.stop]
        image[rows] = fft.irfft(across, grid[1], axis=1, workers=1)[:, left : left + shape[1]]
    return image


def pad(image: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Continue the image by its mirror on all sides: a source cut by the edge stays one in both images."""
    before = [(g - n) // 2 for g, n in zip(grid, image.shape, strict=True)]
    after = [g - n - b for g, n, b in zip(grid, image.shape, before, strict=True)]
    return np.pad(image, tuple(zip(before, after, strict=True)), mode="symmetric")


def centre_on(stamp: NDArray[Any], grid: tuple[int, int]) -> NDArray[Any]:
    """Put an odd stamp on a grid with its centre on pixel (0, 0)."""
    out = np.zeros(grid, stamp.dtype)
    out[: stamp.shape[0], : stamp.shape[1]] = stamp
    return np.roll(out, (-(stamp.shape[0] // 2), -(stamp.shape[1] // 2)), axis=(0, 1))


def transform_small(
    stamp: NDArray[Any], grid: tuple[int, int], out: NDArray[np.complex64] | None = None
) -> NDArray[np.complex64]:
    """Return the transform of an odd stamp of a few pixels that is centred on pixel (0, 0) of a grid.

    Two thin products of matrices take a third of the time of a transform of the whole grid.
    """
    (y, x), (ny, nx) = (np.arange(n) - n // 2 for n in stamp.shape), grid
    rows = np.exp(-2j * np.pi / ny * np.outer(np.arange(ny), y)).astype(np.complex64)
    columns = np.exp(-2j * np.pi / nx * np.outer(x, np.arange(nx // 2 + 1))).astype(np.complex64)
    hat: NDArray[np.complex64] = np.matmul(rows, stamp.astype(np.complex64) @ columns, out=out)
    return hat
