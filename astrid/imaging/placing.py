"""A PSF at places between pixels, with its slopes, in windows of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NO_SHIFT = 1e-5  # px, below which the kernel is its limit


def placed(psf: NDArray[Any], y: Floats, x: Floats, half: int) -> Floats:
    """Return a PSF at each place of a window, and by what it changes with the place.

    Moved by Dirichlet's kernel along either axis, which is what a Fourier transform does to a PSF padded with zeros,
    exact for one sampled well enough: two small products of matrices instead of transforms.

    Parameters
    ----------
    psf : (py, px) or (n, py, px) array
        Odd-sided; one for all places or one for each.
    y, x : (n,) arrays
        Places from the middle of the window, in pixels.
    half : int
        Half the side of the window, in pixels.

    Returns
    -------
    (n, 3, 2 half + 1, 2 half + 1) array
        The PSF, and its derivatives by ``y`` and by ``x``, per pixel.

    Examples
    --------
    >>> psf = np.zeros((5, 5))
    >>> psf[2, 2] = 1
    >>> np.argwhere(placed(psf, np.array([1.0]), np.array([-1.0]), 1)[0, 0] > 0.5).tolist()
    [[2, 0]]
    """
    n, side = len(y), 2 * half + 1
    height, width = psf.shape[-2:]
    to_y, by_y = _kernels(y, half, height)
    to_x, by_x = (kernel.transpose(0, 2, 1) for kernel in _kernels(x, half, width))
    images = np.empty((n, 3, side, side))
    if psf.ndim == 2:
        rows = (np.stack([to_y, by_y], axis=1).reshape(-1, height) @ psf).reshape(n, 2, side, width)
    else:
        rows = np.stack([to_y, by_y], axis=1) @ psf[:, None]
    images[:, :2] = rows @ to_x[:, None]
    images[:, 2] = rows[:, 0] @ by_x
    return images


def _kernels(shift: Floats, half: int, length: int) -> tuple[Floats, Floats]:
    """Matrices (n, window, stamp) that move a row of a stamp, and their derivatives by the shift."""
    middle = length // 2
    reach = half + middle
    period = 2 * (reach + int(np.ceil(np.abs(shift).max(initial=0)))) + 1
    steps = np.arange(-reach, reach + 1)
    t = steps - shift[:, None]
    sign = np.where(steps % 2, -1.0, 1.0)
    sine, cosine = -sign * np.sin(np.pi * shift)[:, None], sign * np.cos(np.pi * shift)[:, None]
    angle = np.pi / period * t
    low, high = np.sin(angle), np.cos(angle)
    at = np.abs(t) < NO_SHIFT
    low[at] = 1
    value = np.where(at, 1.0, sine / (period * low))
    slope = np.where(at, 0.0, -np.pi * (cosine - value * high) / (period * low))
    where = np.arange(2 * half + 1)[:, None] - np.arange(length) + 2 * middle
    return value[:, where], slope[:, where]
