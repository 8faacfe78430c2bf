"""The arithmetic of SFFT on arrays of NumPy or tensors of torch, on a processor or an accelerator.

Hu et al. 2022 (ADS 2022ApJ...936..157H): a kernel of free pixels that varies over the field is fitted in Fourier space
(section 2), and the noise of the difference is made white (Reiss & Lupton 2016, DMTN-021). What the
product does about masks, edges, noise of the convolved image, stars that vary and errors of the model is in
`astrid.subtraction.sfft`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.subtraction.core import fourier_of, stamp_hat
from astrid.subtraction.field import exponents, scaled
from astrid.subtraction.whitening import whitening

RIDGE = 1e-7  # of the mean of the diagonal, added to it: what the images do not tell stays small


@dataclass(frozen=True, eq=False)
class CoreKernel:
    """A kernel that varies over the field, and a background; made by `fit_kernel`.

    Attributes
    ----------
    stamps : (n_terms, side, side) float64 array
        Of NumPy: what is convolved with the image times each term of the polynomial, `exponents` in (y, x).
    background : (n,) float64 array
        Weights of the terms of the background.
    order, background_order : int
        Of the polynomials.
    """

    stamps: NDArray[np.float64]
    background: NDArray[np.float64]
    order: int
    background_order: int

    @property
    def middle(self) -> NDArray[np.float64]:
        """The kernel at the centre of the field: (side, side)."""
        middle: NDArray[np.float64] = self.stamps[0]
        return middle


def fit_kernel(
    image: Any, target: Any, fitted: Any, *, half: int, order: int = 2, background_order: int = 0
) -> CoreKernel:
    """Fit the kernel that makes an image the target, where there are sources (equations 11 to 15).

    Parameters
    ----------
    image, target : (ny, nx) float arrays
        Of one library and device, without background; taken to be periodic.
    fitted : (ny, nx) array
        One where pixels count, zero where they do not.
    half : int
        Half-width of the kernel, in pixels.
    order, background_order : int
        Of the polynomials by which kernel and background vary.
    """
    side, powers, grounds = 2 * half + 1, exponents(order), exponents(background_order)
    n, ft, xp = side**2, fourier_of(image), namespace(image)
    wide = {"dtype": xp.float64}
    seen = xp.asarray(image, **wide) * fitted
    hats = [ft.rfft2(seen * term) for term in field_terms(seen, powers)]
    hats += [ft.rfft2(xp.asarray(fitted, **wide) * term) for term in field_terms(seen, grounds)]
    target_hat = ft.rfft2(xp.asarray(target, **wide) * fitted)
    reach = np.arange(-2 * half, 2 * half + 1)
    sizes = [n] * len(powers) + [1] * len(grounds)
    at = np.cumsum([0, *sizes])
    matrix, right = np.zeros((at[-1],) * 2), np.zeros(at[-1])
    y, x = (index.ravel() - half for index in np.mgrid[:side, :side])
    places = {n: (y, x), 1: (np.zeros(1, int), np.zeros(1, int))}
    for a, b in combinations_with_replacement(range(len(hats)), 2):
        lags = correlation(hats[a], hats[b], reach, image.shape)
        (y_a, x_a), (y_b, x_b) = places[sizes[a]], places[sizes[b]]
        block = lags[y_a[:, None] - y_b + 2 * half, x_a[:, None] - x_b + 2 * half]
        matrix[at[a] : at[a + 1], at[b] : at[b + 1]] = block
        matrix[at[b] : at[b + 1], at[a] : at[a + 1]] = block.T
    for a, hat in enumerate(hats):
        lags = correlation(hat, target_hat, reach, image.shape)
        y_a, x_a = places[sizes[a]]
        right[at[a] : at[a + 1]] = lags[y_a + 2 * half, x_a + 2 * half]
    diagonal = matrix[np.diag_indices(at[-1])]
    matrix[np.diag_indices(at[-1])] += RIDGE * np.concatenate(
        [np.full(size, diagonal[start : start + size].mean()) for start, size in zip(at, sizes, strict=False)]
    )
    found = solved(matrix, right, image)
    ground = at[len(powers)]
    return CoreKernel(found[:ground].reshape(len(powers), side, side), found[ground:], order, background_order)


def core_sfft(
    image: Any,
    target: Any,
    variances: tuple[Any, Any],
    kernel: CoreKernel,
    psfs: tuple[NDArray[np.floating], NDArray[np.floating]],
    skies: tuple[float, float],
) -> tuple[Any, Any, Any]:
    """Return the white difference, its score, and the score over its noise from sky and sources.

    Parameters
    ----------
    image, target : (ny, nx) float arrays
        Template and science image, without invalid pixels; of one library and device.
    variances : two (ny, nx) float arrays
        Of the noise of ``image`` and of ``target``.
    kernel : CoreKernel
        From `fit_kernel`.
    psfs : two (py, px) arrays
        Odd stamps of NumPy, of ``image`` and of ``target``.
    skies : two floats
        Variances of their skies.

    Returns
    -------
    D, S, S_corr : (ny, nx) float arrays
        D has the noise of its sky; S is that of a filter matched to a new source of the target.
    """
    ft, shape = fourier_of(image), (int(image.shape[0]), int(image.shape[1]))
    filters = whitening(*psfs, kernel.middle, *skies, by_template=True, side=max(psfs[0].shape[0], psfs[1].shape[0]))
    hat = ft.rfft2(residual(image, target, kernel))
    d = ft.irfft2(hat * stamp_hat(filters.white, shape, hat), s=shape)
    hat *= stamp_hat(filters.matched, shape, hat)
    s = ft.irfft2(hat, s=shape)
    v_hat = ft.rfft2(variances[0]) * stamp_hat(filters.matched_image**2, shape, hat)
    v_hat += ft.rfft2(variances[1]) * stamp_hat(filters.matched**2, shape, hat)
    return d, s, s * ft.irfft2(v_hat, s=shape) ** -0.5


def residual(image: Any, target: Any, kernel: CoreKernel) -> Any:
    """Return the target minus the convolved image and the background: (ny, nx)."""
    ft, shape = fourier_of(image), (int(image.shape[0]), int(image.shape[1]))
    total: Any = 0
    for stamp, term in zip(kernel.stamps, field_terms(image, exponents(kernel.order)), strict=True):
        hat = ft.rfft2(image * term)
        total = hat * stamp_hat(stamp, shape, hat) + total
    left = target - ft.irfft2(total, s=shape)
    for weight, term in zip(kernel.background, field_terms(image, exponents(kernel.background_order)), strict=True):
        left -= float(weight) * term
    return left


def field_terms(like: Any, powers: list[tuple[int, int]]) -> list[Any]:
    """Return the polynomial terms as images of an array's shape, library and type, one by one: (ny, nx) each."""
    xp = namespace(like)
    where = {} if xp is np else {"device": like.device}
    rows, columns = (xp.asarray(scaled(np.arange(n), n), dtype=like.dtype, **where) for n in like.shape)
    return [rows[:, None] ** i * columns**j for i, j in powers]


def correlation(first: Any, second: Any, reach: NDArray[np.integer], shape: Any) -> NDArray[np.float64]:
    """Return sums of ``first(z) second(z + lag)`` for lags along each axis, from two transforms: an array of NumPy."""
    sums = fourier_of(first).irfft2(first.conj() * second, s=(int(shape[0]), int(shape[1])))
    near = sums[reach[:, None], reach]
    return np.asarray(near if isinstance(near, np.ndarray) else near.cpu())


def solved(matrix: NDArray[np.float64], right: NDArray[np.float64], like: Any) -> NDArray[np.float64]:
    """Solve on the device of an array."""
    xp = namespace(like)
    if xp is np:
        return np.asarray(np.linalg.solve(matrix, right), np.float64)
    on_device = (xp.asarray(array, device=like.device) for array in (matrix, right))
    return np.asarray(xp.linalg.solve(*on_device).cpu())


def namespace(array: Any) -> Any:
    """Return the library of an array."""
    return sys.modules[type(array).__module__.partition(".")[0]]
