"""Convolution kernels that vary over the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from astrid.imaging.photometry import equivalent_fwhm
from astrid.subtraction.field import scaled, surface, terms_at
from astrid.subtraction.fourier import centre_on, image_of, transform_small

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

    def applied(self, image_hat: NDArray[np.complex64], grid: tuple[int, int]) -> NDArray[np.float32]:
        """Return the (ny, nx) image of a transform, convolved and with the background."""
        total = surface(self.background, self.background_order, self.shape)
        for i, stamp in enumerate(self.stamps):
            y, x = np.nonzero(stamp)
            if not len(y):
                continue
            middle = len(stamp) // 2
            product = transform_small(inner(stamp, int(np.abs([y - middle, x - middle]).max())), grid)
            product *= image_hat
            part = image_of(product, grid, self.shape)
            if i:
                part *= surface(np.eye(len(self.stamps))[i], self.order, self.shape)
            total += part
        return total


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
    y, x = (index.ravel() for index in np.mgrid[-half : half + 1, -half : half + 1])
    normal = square[y[:, None] - y, x[:, None] - x] + PSF_RIDGE * square[0, 0] * np.eye(len(y))
    kernel: NDArray[np.float64] = np.linalg.solve(normal, right[y, x]).reshape(2 * half + 1, -1)
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
