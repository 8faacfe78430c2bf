"""Kernel of free pixels, fitted in Fourier space: Hu et al. 2022 (ADS 2022ApJ...936..157H).

The kernel is a sum of delta functions, one for each of its pixels, times polynomials of the place in the field, and is
found by least squares over all pixels that hold sources. With the polynomials multiplied to the image before it is
displaced, an element of the normal matrix depends only on the difference of two displacements: the correlations of
the few weighted images, at small lags, hold the whole matrix. That is nearly, not quite, the matrix of the kernel
that is applied, and leaves masked pixels in; the right-hand side is exact, and a few steps with it lead to the exact
solution. Sources that vary are left out on the way. In the last step the pixels about bright stars count by their own
noise, not by that of the star's peak: they are added to the matrix one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import linalg, ndimage

from astrid.subtraction.field import exponents, scaled, surface, terms_at
from astrid.subtraction.fourier import transform
from astrid.subtraction.kernels import SpatialKernel, inner, usual_deviation
from astrid.subtraction.matching import SOURCE_SIGMA, KernelMatching, Pair, usable_order

FLAT = 7  # px about a bright pixel that share its weight
SMOOTH = 7  # px over which weights are averaged
MODEL_ERROR = 0.003  # of a source, beyond what the fit can describe: no single star decides
FINER = 3.0  # times its even weight, what a pixel is worth that in the end counts by its own,
FAINTEST = 2.0  # where its S/N is above this
START_ERRORS = (0.05, 0.02, 0.0)  # of the kernel before each step, beyond that; the first fits one for the whole field
OUTLIER = 3.0  # times the usual chi-squared: a source that varies
OUTLIER_SIDE = 5  # px over which it is averaged
OUTLIER_REACH = 4  # px about it that are left out
BLOCK = 64  # px within which the polynomials are taken as constant, where single pixels count
STIFF = 1e4  # how much more a sum that may not vary weighs than the data


@dataclass(frozen=True)
class Sfft(KernelMatching):
    """Subtract after a kernel of free pixels, which varies over the field, is fitted to all sources.

    The settings are those of `astrid.subtraction.matching.KernelMatching`.
    """

    def fit(self, pair: Pair) -> SpatialKernel:
        """Fit the kernel; with fewer than five bright stars it is the one that the PSFs give."""
        order = usable_order(pair, self.order)
        if order < 0:
            return SpatialKernel(pair.start[None], 0, np.zeros(1), 0, pair.shape)
        return _Fit(pair, order, min(self.flux_order, order), self.background_order).solved()


class _Fit:
    """Least squares by steps: an approximate matrix, made once, and exact right-hand sides."""

    def __init__(self, pair: Pair, order: int, flux_order: int, background_order: int) -> None:
        self.pair = pair
        self.order = order
        self.background_order = background_order
        self.half = pair.half
        self.powers = exponents(order)
        self.start = inner(pair.start, self.half)
        self.n_terms, self.n_pixels = len(self.powers), self.start.size
        self.stamps = np.zeros((self.n_terms, *pair.start.shape))
        self.stamps[0] = pair.start
        self.background = np.zeros(len(exponents(background_order)))
        self.variance = pair.target_variance + pair.image_variance * np.float32((pair.start**2).sum())
        self.variance += (MODEL_ERROR * np.maximum(pair.target, 0)) ** 2
        self.root = _root_weight(pair, self.variance)
        self.rows, self.columns = (scaled(np.arange(n), n).astype(np.float32) for n in pair.shape)
        self.varies = np.array([i + j <= flux_order for i, j in self.powers])

    def solved(self) -> SpatialKernel:
        pair = self.pair
        full = self.root**2
        matrix = self.matrix()
        finer = np.maximum(np.where(full > 0, 1 / self.variance, 0) - full, 0)
        finer[(finer < FINER * full) | (pair.steady < FAINTEST)] = 0
        for error in START_ERRORS:
            is_first, is_last = error == START_ERRORS[0], error == START_ERRORS[-1]
            residual = pair.target - self.kernel().applied(pair.image_hat, pair.grid)
            variance = self.variance
            if error:
                variance = variance + (error * np.maximum(pair.target, 0)) ** 2
            left_out = ~pair.good | _outliers(residual, variance, pair.good & (full > 0))
            weight = np.where(left_out, np.float32(0), full)
            current = matrix.copy()
            if not is_first:
                self.add(current, self.root * pair.image, self.root, -(left_out & (full > 0)).astype(np.float32))
            if is_last:
                finer[left_out] = 0
                self.add(current, pair.image, np.ones_like(finer), finer)
                weight += finer
            self.step(current, weight, residual * weight, 1 if is_first else self.n_terms)
        return self.kernel()

    def step(
        self, matrix: NDArray[np.float64], weight: NDArray[np.float32], weighted: NDArray[np.float32], n_terms: int
    ) -> None:
        """Change the weights of the first terms, and of the background; the matrix is overwritten."""
        n, n_ground = self.n_pixels, len(self.background)
        size = n_terms * n
        prior = np.stack([np.diag(1 / usual_deviation(self.start).ravel() ** 2)] * n_terms)
        prior[~self.varies[:n_terms]] += STIFF * float(np.trace(matrix[:n, :n])) / n**2
        for a in range(n_terms):
            matrix[a * n : (a + 1) * n, a * n : (a + 1) * n] += prior[a]
        matrix[-n_ground:, -n_ground:] += 1e-6 * np.trace(matrix[-n_ground:, -n_ground:]) * np.eye(n_ground)
        if n_terms < self.n_terms:
            used = np.r_[:size, len(matrix) - n_ground : len(matrix)]
            matrix = matrix[np.ix_(used, used)]
        try:
            factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError:  # so much was left out that nothing tells
            return
        right = self.right(weighted, self.noise(weight)[:n_terms, :n_terms], prior)
        change = linalg.cho_solve(factor, right, check_finite=False)
        inner(self.stamps, self.half)[:n_terms] += change[:size].reshape(n_terms, *self.start.shape)
        self.background += change[size:]

    def add(
        self,
        matrix: NDArray[np.float64],
        image: NDArray[np.float32],
        ground: NDArray[np.float32],
        weight: NDArray[np.float32],
    ) -> None:
        """Add to the normal matrix, in place, what single pixels tell of the kernel and of the background."""
        n, side = self.n_pixels, 2 * self.half + 1
        y, x = np.nonzero(weight)
        if not len(y):
            return
        number = (y // BLOCK) * weight.shape[1] + x // BLOCK
        order = np.argsort(number, kind="stable")
        y, x = y[order], x[order]
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        windows = sliding_window_view(np.pad(image, self.half), (side, side))[:, :, ::-1, ::-1]
        gram = np.empty((len(starts), n + 1, n + 1), np.float32)
        places = np.empty((len(starts), 2))
        for i, (start, stop) in enumerate(zip(starts, [*starts[1:], len(y)], strict=True)):
            at = y[start:stop], x[start:stop]
            seen = np.empty((stop - start, n + 1), np.float32)
            seen[:, :n] = windows[at].reshape(stop - start, n)
            seen[:, n] = ground[at]
            np.matmul(seen.T * weight[at], seen, out=gram[i])
            places[i] = self.rows[at[0]].mean(), self.columns[at[1]].mean()
        terms, grounds = (
            terms_at(places[:, 0], places[:, 1], self.order),
            terms_at(places[:, 0], places[:, 1], self.background_order),
        )
        size = self.n_terms * n
        of_pixels = np.ascontiguousarray(gram[:, :n, :n]).reshape(len(gram), -1)
        for a in range(self.n_terms):
            products = (terms[:, a : a + 1] * terms[:, a:]).astype(np.float32)
            for b, block in enumerate((products.T @ of_pixels).reshape(-1, n, n), start=a):
                matrix[a * n : (a + 1) * n, b * n : (b + 1) * n] += block
                if b > a:
                    matrix[b * n : (b + 1) * n, a * n : (a + 1) * n] += block
        cross = np.einsum("sa,sg,si->aig", terms, grounds, gram[:, :n, n], optimize=True).reshape(size, -1)
        matrix[:size, size:] += cross
        matrix[size:, :size] += cross.T
        matrix[size:, size:] += np.einsum("sg,sh,s->gh", grounds, grounds, gram[:, n, n], optimize=True)

    def kernel(self) -> SpatialKernel:
        return SpatialKernel(
            self.stamps, self.order, self.background, self.background_order, self.pair.shape, len(self.pair.stars_y)
        )

    def times_term(self, image: NDArray[np.float32], powers: tuple[int, int]) -> NDArray[np.float32]:
        i, j = powers
        return image * (self.rows[:, None] ** i * self.columns**j)

    def noise(self, weight: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the noise of the convolved image adds to the matrix, where two displacements are the same."""
        power = (weight * self.pair.image_variance)[::2, ::2].astype(np.float64) * 4
        v, u = self.rows[::2].astype(np.float64), self.columns[::2].astype(np.float64)
        total = np.zeros((self.n_terms, self.n_terms))
        if self.pair.shares_noise:
            return total
        for (a, (i, j)), (b, (k, m)) in combinations_with_replacement(enumerate(self.powers), 2):
            total[a, b] = total[b, a] = v ** (i + k) @ power @ u ** (j + m)
        return total

    def matrix(self) -> NDArray[np.float64]:
        """Return the normal matrix as if all pixels were good."""
        pair, n = self.pair, self.n_pixels
        seen = self.root * pair.image
        hats = [self.hat(self.times_term(seen, powers)) for powers in self.powers]
        grounds = [
            self.hat(self.root * surface(unit, self.background_order, pair.shape))
            for unit in np.eye(len(self.background))
        ]
        size = self.n_terms * n
        total = np.zeros((size + len(grounds),) * 2)
        y, x = (index.ravel() for index in np.mgrid[: 2 * self.half + 1, : 2 * self.half + 1])
        lag_y, lag_x = y[:, None] - y + 2 * self.half, x[:, None] - x + 2 * self.half
        for a, b in combinations_with_replacement(range(self.n_terms), 2):
            lags = _correlation(hats[a], hats[b], 2 * self.half, pair.grid)
            block = lags[lag_y, lag_x]
            total[a * n : (a + 1) * n, b * n : (b + 1) * n] = block
            total[b * n : (b + 1) * n, a * n : (a + 1) * n] = block.T
        for g, ground in enumerate(grounds):
            for a in range(self.n_terms):
                column = _correlation(hats[a], ground, self.half, pair.grid).ravel()
                total[a * n : (a + 1) * n, size + g] = total[size + g, a * n : (a + 1) * n] = column
            for g2, other in enumerate(grounds[: g + 1]):
                total[size + g, size + g2] = total[size + g2, size + g] = _correlation(ground, other, 0, pair.grid)[
                    0, 0
                ]
        return total

    def right(
        self, weighted: NDArray[np.float32], noise: NDArray[np.float64], prior: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how the sum of squares falls with each weight."""
        pair = self.pair
        slopes = np.stack(
            [
                _correlation(pair.image_hat, self.hat(self.times_term(weighted, powers)), self.half, pair.grid).ravel()
                for powers in self.powers[: len(noise)]
            ]
        )
        flat = inner(self.stamps, self.half)[: len(noise)].reshape(len(noise), -1)
        slopes += noise @ flat
        change = flat.copy()
        change[0] -= self.start.ravel()
        slopes -= np.einsum("aij,aj->ai", prior, change)
        v, u = self.rows.astype(np.float64), self.columns.astype(np.float64)
        ground = [v**i @ (weighted @ u**j) for i, j in exponents(self.background_order)]
        return np.concatenate([slopes.ravel(), ground])

    def hat(self, image: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Transform an image that is zero outside."""
        grid = self.pair.grid
        before = [(g - n) // 2 for g, n in zip(grid, image.shape, strict=True)]
        padded = np.zeros(grid, np.float32)
        padded[before[0] : before[0] + image.shape[0], before[1] : before[1] + image.shape[1]] = image
        return transform(padded)


def _correlation(
    first: NDArray[np.complex64], second: NDArray[np.complex64], reach: int, grid: tuple[int, int]
) -> NDArray[np.float64]:
    """Return sums of ``first(z) second(z + lag)`` for lags up to ``reach`` along each axis."""
    ny, nx = grid
    lags = np.arange(-reach, reach + 1)
    rows = np.exp(2j * np.pi * np.outer(lags, np.arange(ny)) / ny).astype(np.complex64)
    half = np.arange(nx // 2 + 1)
    twice = np.full(len(half), 2.0)
    twice[0] = 1
    if nx % 2 == 0:
        twice[-1] = 1
    columns = (np.exp(2j * np.pi * np.outer(half, lags) / nx) * twice[:, None]).astype(np.complex64)
    product = first.conj()
    product *= second
    return np.asarray(((rows @ product) @ columns).real, np.float64) / (ny * nx)


def _root_weight(pair: Pair, variance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the root of the weight of each pixel: even over a source, zero where neither image holds one.

    Weights that changed within a source would not commute with the displacements of it.
    """
    root = 1 / np.sqrt(ndimage.maximum_filter(variance, size=2 * FLAT + 1))
    source = ndimage.maximum_filter(pair.steady > SOURCE_SIGMA, size=2 * pair.half + 5)
    root[~source] = 0
    smooth: NDArray[np.float32] = np.maximum(ndimage.uniform_filter(root, SMOOTH, mode="constant"), 0)
    return smooth


def _outliers(
    residual: NDArray[np.float32], variance: NDArray[np.float32], there: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Where what is left is far more than is usual."""
    chi2 = ndimage.uniform_filter(residual**2 / variance, OUTLIER_SIDE)
    usual = float(np.median(chi2[there][::7])) if there.any() else 1.0
    found: NDArray[np.bool_] = ndimage.maximum_filter(
        there & (chi2 > OUTLIER * max(usual, 1.0)), size=2 * OUTLIER_REACH + 1
    )
    return found
