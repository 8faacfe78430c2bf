"""Convolution kernels that vary over the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, linalg, ndimage

from astrid.imaging.photometry import equivalent_fwhm
from astrid.subtraction.field import exponents, scaled, surface, terms_at
from astrid.subtraction.fourier import centre_on, columns_back, rows_back, transform_small

SMALLEST_HALF_WIDTH = 4
LARGEST_HALF_WIDTH = 8
PSF_RIDGE = 1e-5  # of the power of the convolved PSF: keeps what no PSF holds out of a kernel
WINGS = 7  # px by which a kernel that PSFs give reaches beyond what is fitted of it
PRIOR = 0.3  # usual error of a kernel that two PSFs give, of the kernel smoothed by a pixel,
PRIOR_FLOOR = 0.02  # and of its peak, so that no pixel is fixed


@dataclass(frozen=True, eq=False)
class SpatialKernel:
    """What gives one image the point-spread function and the background of another.

    Attributes
    ----------
    stamps : (n_terms, side, side) float64 array
        Weights of the terms of `astrid.subtraction.field.terms_at`; the first is the kernel where they are zero.
    order : int
        Of the polynomials.
    background : (n,) float64 array
        Weights of the background's terms.
    background_order : int
        Of its polynomial.
    shape : (int, int)
        Of the field.
    n_stars : int
        Stars, or regions, that decided.
    """

    stamps: NDArray[np.float64]
    order: int
    background: NDArray[np.float64]
    background_order: int
    shape: tuple[int, int]
    n_stars: int = 0

    def at(self, y: float, x: float) -> NDArray[np.float64]:
        """Return the kernel at a place."""
        v, u = (scaled(np.array([p]), n) for p, n in zip((y, x), self.shape, strict=True))
        kernel: NDArray[np.float64] = np.tensordot(terms_at(v, u, self.order)[0], self.stamps, axes=1)
        return kernel

    def sums(self) -> NDArray[np.float32]:
        """Return the (ny, nx) sums of the kernels: the ratio of fluxes."""
        return surface(self.stamps.sum(axis=(1, 2)), self.order, self.shape)

    def applied(
        self, image_hat: NDArray[np.complex64], grid: tuple[int, int], work: NDArray[np.complex64] | None = None
    ) -> NDArray[np.float32]:
        """Return the (ny, nx) image of a transform, convolved and with the background.

        ``work``, where given, is two arrays like the transform, which are overwritten.
        """
        total = surface(self.background, self.background_order, self.shape)
        v, u = (scaled(np.arange(n), n).astype(np.float32) for n in self.shape)
        powers = exponents(self.order)
        top = (grid[0] - self.shape[0]) // 2
        product, sums = np.empty((2, *image_hat.shape), np.complex64) if work is None else work
        for j in range(self.order + 1):  # powers of y are multiplied between the two halves of the transform
            found = None
            for (i, power), stamp in zip(powers, self.stamps, strict=True):
                if power == j and stamp.any():
                    down = columns_back(_convolved(stamp, image_hat, grid, sums if found is None else product))
                    if i:
                        down[top : top + self.shape[0]] *= v[:, None] ** i
                    if found is None:
                        found = down
                    else:
                        found += down
            if found is not None:
                part = rows_back(found, grid, self.shape)
                if j:
                    part *= u**j
                total += part
        return total


def _convolved(
    stamp: NDArray[np.float64], image_hat: NDArray[np.complex64], grid: tuple[int, int], out: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """Return the transform of an image, convolved with what there is of a stamp."""
    middle = len(stamp) // 2
    half = max(int(np.abs(index - middle).max()) for index in np.nonzero(stamp))
    transform_small(inner(stamp, half), grid, out)
    out *= image_hat
    return out


def usual_half_width(convolved: NDArray[Any], target: NDArray[Any]) -> int:
    """Return the half-width that holds the kernel between two PSFs, in pixels."""
    broader = np.sqrt(abs(equivalent_fwhm(target) ** 2 - equivalent_fwhm(convolved) ** 2))
    return int(np.clip(np.ceil(1.25 * broader + 1.5), SMALLEST_HALF_WIDTH, LARGEST_HALF_WIDTH))


def kernel_between(convolved: NDArray[Any], target: NDArray[Any], half: int) -> NDArray[np.float64]:
    """Return the kernel of sum one that gives one PSF the shape of another.

    It departs no more from a point than it has to: equal PSFs give exactly a point.
    """
    side = max(*convolved.shape, *target.shape)
    n = int(fft.next_fast_len(side + 4 * half + 2, real=True))
    first, second = (
        fft.rfft2(centre_on(psf.astype(np.float64) / psf.sum(dtype=np.float64), (n, n))) for psf in (convolved, target)
    )
    square = fft.irfft2(np.abs(first) ** 2, (n, n))
    right = fft.irfft2(first.conj() * (second - first), (n, n))
    side = 2 * half + 1
    lags = np.arange(-2 * half, 2 * half + 1)
    windows = sliding_window_view(square[lags[:, None], lags], (side, side))[:, :, ::-1, ::-1]
    normal = windows.reshape(side**2, side**2)
    normal[np.diag_indices(side**2)] += PSF_RIDGE * square[0, 0]
    wanted = right[lags[half:-half, None], lags[half:-half]].ravel()
    kernel: NDArray[np.float64] = linalg.solve(normal, wanted, assume_a="pos", overwrite_a=True, check_finite=False)
    kernel = kernel.reshape(side, side)
    kernel[half, half] += 1
    kernel /= kernel.sum()
    return kernel


def inner(kernel: NDArray[Any], half: int) -> NDArray[Any]:
    """Return the middle of a kernel, a view of it."""
    middle = kernel.shape[-1] // 2
    view: NDArray[Any] = kernel[..., middle - half : middle + half + 1, middle - half : middle + half + 1]
    return view


def usual_deviation(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much each pixel of a kernel that PSFs give is usually wrong, or varies over the field."""
    near = ndimage.gaussian_filter(np.abs(kernel), 1.0, mode="constant")
    deviation: NDArray[np.float64] = PRIOR * (near + PRIOR_FLOOR * near.max())
    return deviation
