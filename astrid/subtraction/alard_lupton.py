"""Kernel of Gaussians times polynomials, fitted to stars.

Alard & Lupton 1998 (ADS 1998ApJ...503..325A); varying over the field by Alard 2000 (ADS 2000A&AS..144..363A).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import linalg, ndimage

from astrid.imaging.photometry import FWHM_PER_SIGMA, equivalent_fwhm
from astrid.subtraction.field import exponents, scaled, terms_at
from astrid.subtraction.kernels import SpatialKernel, inner, usual_deviation
from astrid.subtraction.matching import KernelMatching, Pair, usable_order

STAMP_HALF = 7  # px about a star in which it is fitted
FAINTEST = 2.0  # S/N of its pixels that count: the rest adds noise alone
NARROWEST = 0.6  # px, of a Gaussian
MODEL_ERROR = 0.003  # of a star, beyond what the fit can describe: no single star decides
OUTLIER = 2.5  # times the median of the largest chi-squared: a star that varies, or hosts something that does
OUTLIER_SIDE = 5  # px over which it is averaged
LEAST_CHI2 = 0.5
ROUNDS = 5
STIFF = 1e4  # how much more a sum that may not vary weighs than the data


@dataclass(frozen=True)
class AlardLupton(KernelMatching):
    """Subtract after a kernel of a few smooth functions, which varies over the field, is fitted to bright stars.

    Attributes
    ----------
    widths : tuple of float
        Of the Gaussians, in units of the one that broadens the sharper PSF to the other.
    degrees : tuple of int
        Of the polynomials that each Gaussian is multiplied with.

    The other settings are those of `astrid.subtraction.matching.KernelMatching`.
    """

    widths: tuple[float, ...] = (0.5, 1.0, 2.0)
    degrees: tuple[int, ...] = (4, 3, 2)
    wider: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        # a configuration file holds lists
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "degrees", tuple(self.degrees))
        if not self.widths or len(self.widths) != len(self.degrees):
            raise ValueError(f"widths {self.widths} and degrees {self.degrees} must be of one length, at least one")
        if min(self.widths) <= 0 or min(self.degrees) < 0:
            raise ValueError(f"widths must be positive and degrees not negative, got {self.widths}, {self.degrees}")

    def fit(self, pair: Pair) -> SpatialKernel:
        """Fit what the kernel is beside the one that the PSFs give; that alone with fewer than five bright stars."""
        order = usable_order(pair, self.order)
        if order < 0:
            return SpatialKernel(pair.start[None], 0, np.zeros(1), 0, pair.shape)
        sigma = _matching_sigma(pair.image_psf, pair.target_psf)
        basis = gaussian_basis(
            pair.half, tuple(max(width * sigma, NARROWEST * (1 + i / 2)) for i, width in enumerate(self.widths)),
            self.degrees,
        )  # fmt: skip
        return _fit(pair, basis, order, min(self.flux_order, order), self.background_order)


def gaussian_basis(half: int, sigmas: tuple[float, ...], degrees: tuple[int, ...]) -> NDArray[np.float64]:
    """Return (n, side, side) orthonormal functions that span Gaussians times polynomials.

    Parameters
    ----------
    half : int
        Half-width of the functions, in pixels.
    sigmas : tuple of float
        Of the Gaussians, in pixels.
    degrees : tuple of int
        Of the polynomials that each is multiplied with.

    Examples
    --------
    >>> gaussian_basis(4, (1.0,), (2,)).shape
    (6, 9, 9)
    """
    place = np.arange(-half, half + 1) / half
    made = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        profile = np.exp(-((place * half) ** 2) / (2 * sigma**2))
        made += [np.outer(profile * place**i, profile * place**j).ravel() for i, j in exponents(degree)]
    columns = np.stack(made, axis=1)
    columns /= np.linalg.norm(columns, axis=0)
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    kept = left[:, size > 1e-6 * size[0]]
    return np.ascontiguousarray(kept.T).reshape(-1, 2 * half + 1, 2 * half + 1)


def _matching_sigma(image_psf: NDArray[np.float32], target_psf: NDArray[np.float32]) -> float:
    return float(np.sqrt(abs(equivalent_fwhm(target_psf) ** 2 - equivalent_fwhm(image_psf) ** 2)) / FWHM_PER_SIGMA)


def _fit(pair: Pair, basis: NDArray[np.float64], order: int, flux_order: int, background_order: int) -> SpatialKernel:
    half, n = pair.half, len(basis)
    ny, nx = pair.shape
    reach = STAMP_HALF + len(pair.start) // 2
    inside = (pair.stars_y >= reach) & (pair.stars_y < ny - reach) & (pair.stars_x >= reach)
    inside &= pair.stars_x < nx - reach
    y, x = pair.stars_y[inside], pair.stars_x[inside]
    terms = terms_at(scaled(y, ny), scaled(x, nx), order)
    grounds = terms_at(scaled(y, ny), scaled(x, nx), background_order)
    flat = basis.reshape(n, -1)

    rows, columns = (at[:, None] + np.arange(-STAMP_HALF, STAMP_HALF + 1) for at in (y, x))
    stamps = rows[:, :, None], columns[:, None, :]
    start = SpatialKernel(pair.start[None], 0, np.zeros(1), 0, pair.shape).applied(pair.image_hat, pair.grid)
    target = pair.target[stamps]
    left = (target - start[stamps]).reshape(len(y), -1).astype(np.float64)
    noise = pair.image_variance[stamps] + pair.target_variance[stamps] + (MODEL_ERROR * np.maximum(target, 0)) ** 2
    used = pair.good[stamps] & (pair.steady[stamps] > FAINTEST)
    weight = np.where(used, 1 / noise, 0).reshape(len(y), -1).astype(np.float64)
    noises = (weight * pair.image_variance[stamps].reshape(len(y), -1)).sum(axis=1)
    design = _design(pair.image, flat, half, y, x)
    weighted = design * weight[..., None].astype(np.float32)
    normal = np.matmul(weighted.transpose(0, 2, 1), design).astype(np.float64)
    right = np.matmul(weighted.transpose(0, 2, 1), left[..., None].astype(np.float32))[..., 0].astype(np.float64)
    # the noise of the convolved image is no light
    of_noise = flat @ pair.noise_matrix()
    normal[:, :n, :n] -= noises[:, None, None] * (of_noise @ flat.T)
    right[:, :n] += noises[:, None] * (of_noise @ inner(pair.start, half).ravel())
    prior = _prior(pair, flat, order, flux_order, normal)

    keep = np.ones(len(y), bool)
    for _ in range(ROUNDS):
        found, ground = _solution(normal[keep], right[keep], terms[keep], grounds[keep], prior)
        of_star = np.concatenate([terms @ found, (grounds @ ground)[:, None]], axis=1)
        model = np.matmul(design, of_star[..., None].astype(np.float32))[..., 0]
        square = (weight * (left - model) ** 2).reshape(-1, 2 * STAMP_HALF + 1, 2 * STAMP_HALF + 1)
        chi2 = ndimage.uniform_filter(square, (0, OUTLIER_SIDE, OUTLIER_SIDE), mode="constant").max(axis=(1, 2))
        before, keep = keep, chi2 < OUTLIER * max(float(np.median(chi2)), LEAST_CHI2)
        if (before == keep).all():
            break
    kernels = np.zeros((terms.shape[1], *pair.start.shape))
    kernels[0] = pair.start
    inner(kernels, half)[:] += (found @ flat).reshape(-1, 2 * half + 1, 2 * half + 1)
    return SpatialKernel(kernels, order, ground, background_order, pair.shape, int(keep.sum()))


def _design(
    image: NDArray[np.float32], flat: NDArray[np.float64], half: int, y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the (stars, pixels, functions + 1) images of stars, convolved with each function, and a constant."""
    side, reach = 2 * half + 1, STAMP_HALF + half
    windows = sliding_window_view(image, (side, side))
    functions = np.ascontiguousarray(flat[:, ::-1].T, np.float32)
    design = np.ones((len(y), (2 * STAMP_HALF + 1) ** 2, len(flat) + 1), np.float32)
    for star, (row, column) in enumerate(zip(y - reach, x - reach, strict=True)):
        around = windows[row : row + 2 * STAMP_HALF + 1, column : column + 2 * STAMP_HALF + 1]
        np.matmul(around.reshape(-1, side * side), functions, out=design[star, :, :-1])
    return design


def _prior(
    pair: Pair, flat: NDArray[np.float64], order: int, flux_order: int, normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (n_terms, n, n) precision of what is known of the weights beforehand."""
    n = len(flat)
    usual = (flat / usual_deviation(inner(pair.start, pair.half)).ravel() ** 2) @ flat.T
    sums = flat.sum(axis=1)
    stiffness = STIFF * float(np.trace(normal[:, :n, :n].sum(axis=0))) / n / float(sums @ sums)
    return np.stack(
        [usual + (stiffness * np.outer(sums, sums) if i + j > flux_order else 0) for i, j in exponents(order)]
    )


def _solution(
    normal: NDArray[np.float64],
    right: NDArray[np.float64],
    terms: NDArray[np.float64],
    grounds: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (n_terms, n) weights of the functions, and those of the background."""
    n_terms, n = terms.shape[1], normal.shape[1] - 1
    size = n_terms * n
    total = np.zeros((size + grounds.shape[1],) * 2)
    products = np.einsum("sa,sb->sab", terms, terms).reshape(len(terms), -1)
    blocks = (products.T @ normal[:, :n, :n].reshape(len(terms), -1)).reshape(n_terms, n_terms, n, n)
    total[:size, :size] = blocks.transpose(0, 2, 1, 3).reshape(size, size)
    cross = np.einsum("sa,sg,si->aig", terms, grounds, normal[:, :n, n], optimize=True).reshape(size, -1)
    total[:size, size:], total[size:, :size] = cross, cross.T
    total[size:, size:] = np.einsum("sg,sh,s->gh", grounds, grounds, normal[:, n, n], optimize=True)
    total[size:, size:] += 1e-6 * np.trace(total[size:, size:]) * np.eye(grounds.shape[1])
    for a in range(n_terms):
        total[a * n : (a + 1) * n, a * n : (a + 1) * n] += prior[a]
    wanted = np.concatenate([np.einsum("sa,si->ai", terms, right[:, :n]).ravel(), grounds.T @ right[:, n]])
    found: NDArray[np.float64] = linalg.solve(total, wanted, assume_a="sym")
    return found[:size].reshape(n_terms, n), found[size:]
