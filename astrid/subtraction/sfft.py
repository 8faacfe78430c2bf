"""Kernel of free pixels, fitted in Fourier space: Hu et al. 2022 (ADS 2022ApJ...936..157H).

The kernel is a sum of delta functions, one for each of its pixels, times polynomials of the place in the field, and is
found by least squares over all pixels that hold sources. With the polynomials multiplied to the image before it is
displaced, an element of the normal matrix depends only on the difference of two displacements: the correlations of
the weighted image, at small lags and block by block, hold the whole matrix. That is nearly, not quite, the matrix of
the kernel that is applied, and leaves masked pixels in; the right-hand side is exact, and a few steps with it lead to
the exact solution. Sources that vary are left out on the way. In the last step the pixels about bright stars count by
their own noise, not by that of the star's peak: they are added to the matrix one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, linalg

from astrid.subtraction.field import exponents, scaled, terms_at
from astrid.subtraction.kernels import SpatialKernel, inner, usual_deviation
from astrid.subtraction.masks import STRIP, convolved, row_strips, running_maximum
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
SMALLEST_BLOCK, BLOCKS = 16, 16  # px, and how many make up a small field where sources are correlated
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
        self.variance: NDArray[np.float32] = pair.image_variance * np.float32((pair.start**2).sum())
        self.variance += pair.target_variance
        self.variance += (MODEL_ERROR * np.maximum(pair.target, 0)) ** 2
        self.work = np.empty((2, *pair.image_hat.shape), np.complex64)
        self.root = _root_weight(pair, self.variance)
        self.rows, self.columns = (scaled(np.arange(n), n).astype(np.float32) for n in pair.shape)
        self.noise_matrix = pair.noise_matrix()
        self.varies = np.array([i + j <= flux_order for i, j in self.powers])

    def solved(self) -> SpatialKernel:
        pair = self.pair
        full = self.root**2
        matrix = self.matrix()
        seen = self.root * pair.image
        used = pair.good & (full > 0)
        removed = np.zeros_like(pair.good)
        for error in START_ERRORS:
            is_first, is_last = error == START_ERRORS[0], error == START_ERRORS[-1]
            residual = pair.target - self.kernel().applied(pair.image_hat, pair.grid, self.work)
            left_out = _outliers(residual, self.variance, error, pair.target, used)
            left_out |= ~pair.good
            weight = np.where(left_out, np.float32(0), full)
            if not is_first:  # what was left out before need not be taken from the matrix again
                now = left_out & (full > 0)
                self.add(matrix, seen, self.root, now & ~removed, None, -1)
                self.add(matrix, seen, self.root, removed & ~now, None, 1)
                removed = now
            if is_last:
                finer = self.finer(full, left_out)
                self.add(matrix, pair.image, None, finer > 0, finer, 1)
                weight += finer
            residual *= weight
            self.step(matrix if is_last else matrix.copy(), weight, residual, 1 if is_first else self.n_terms)
        return self.kernel()

    def finer(self, full: NDArray[np.float32], left_out: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return what pixels about bright stars weigh by their own noise, beyond their even weight."""
        finer = np.float32(1) / self.variance
        finer -= full
        finer[(finer < FINER * full) | (full <= 0) | left_out | (self.pair.steady < FAINTEST)] = 0
        return finer

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
            factor = linalg.cho_factor(matrix.T, lower=False, overwrite_a=True, check_finite=False)
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
        ground: NDArray[np.float32] | None,
        where: NDArray[np.bool_],
        weight: NDArray[np.float32] | None,
        sign: int,
    ) -> None:
        """Add to the lower half of the normal matrix what single pixels tell of the kernel and of the background."""
        n, side = self.n_pixels, 2 * self.half + 1
        y, x = np.nonzero(where)
        if not len(y):
            return
        number = (y // BLOCK) * where.shape[1] + x // BLOCK
        order = np.argsort(number, kind="stable")
        y, x = y[order], x[order]
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        windows = sliding_window_view(np.pad(image, self.half), (side, side))
        gram = np.empty((len(starts), n, n), np.float32)
        cross = np.empty((len(starts), n + 1))
        places = np.empty((len(starts), 2))
        for i, (start, stop) in enumerate(zip(starts, [*starts[1:], len(y)], strict=True)):
            at = y[start:stop], x[start:stop]
            seen = windows[at].reshape(stop - start, n)  # the displaced images, last displacement first
            of_ground = np.ones(len(seen), np.float32) if ground is None else ground[at]
            if weight is not None:
                root = np.sqrt(weight[at])
                seen *= root[:, None]
                of_ground *= root
            np.matmul(seen.T, seen, out=gram[i])
            cross[i, :n], cross[i, n] = (of_ground @ seen)[::-1], of_ground @ of_ground
            places[i] = self.rows[at[0]].mean(), self.columns[at[1]].mean()
        cross *= sign
        self.add_blocks(matrix, gram.reshape(len(gram), -1), cross, places, sign)

    def add_blocks(
        self,
        matrix: NDArray[np.float64],
        gram: NDArray[np.float32],
        cross: NDArray[np.float64],
        places: NDArray[np.float64],
        sign: int,
    ) -> None:
        """Add what the pixels of blocks tell, whose products are reversed, times the polynomials where they are."""
        n, size = self.n_pixels, self.n_terms * self.n_pixels
        terms = terms_at(places[:, 0], places[:, 1], self.order)
        grounds = terms_at(places[:, 0], places[:, 1], self.background_order)
        for a in range(self.n_terms):
            products = (sign * terms[:, a : a + 1] * terms[:, a:]).astype(np.float32)
            for b, block in enumerate((products.T @ gram).reshape(-1, n, n), start=a):
                matrix[b * n : (b + 1) * n, a * n : (a + 1) * n] += block[::-1, ::-1]
        matrix[size:, :size] += np.einsum("sa,sg,si->gai", terms, grounds, cross[:, :n], optimize=True).reshape(
            -1, size
        )
        matrix[size:, size:] += np.einsum("sg,sh,s->gh", grounds, grounds, cross[:, n], optimize=True)

    def kernel(self) -> SpatialKernel:
        return SpatialKernel(
            self.stamps, self.order, self.background, self.background_order, self.pair.shape, len(self.pair.stars_y)
        )

    def noise(self, weight: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what white noise of the convolved image adds to the matrix where two displacements are the same."""
        power = (weight * self.pair.image_variance)[::2, ::2].astype(np.float64) * 4
        v, u = self.rows[::2].astype(np.float64), self.columns[::2].astype(np.float64)
        total = np.zeros((self.n_terms, self.n_terms))
        for (a, (i, j)), (b, (k, m)) in combinations_with_replacement(enumerate(self.powers), 2):
            total[a, b] = total[b, a] = v ** (i + k) @ power @ u ** (j + m)
        return total

    def matrix(self) -> NDArray[np.float64]:
        """Return the lower half of the normal matrix, as if all pixels were good and polynomials constant in blocks."""
        n, reach = self.n_pixels, 2 * self.half
        light, ground, places = _block_correlations(self.root * self.pair.image, self.root, reach)
        v, u = (2 * places[:, axis] / max(self.pair.shape[axis] - 1, 1) - 1 for axis in (0, 1))
        terms, grounds = terms_at(v, u, self.order), terms_at(v, u, self.background_order)
        size = self.n_terms * n
        total = np.zeros((size + grounds.shape[1],) * 2)
        y, x = (index.ravel() for index in np.mgrid[: 2 * self.half + 1, : 2 * self.half + 1])
        lag = (y[:, None] - y + reach) * (2 * reach + 1) + x[:, None] - x + reach
        for a in range(self.n_terms):
            products = (terms[:, a : a + 1] * terms[:, a:]).T @ light.reshape(len(light), -1)
            for b, lags in enumerate(products, start=a):
                total[b * n : (b + 1) * n, a * n : (a + 1) * n] = lags[lag].T
        of_pixels = inner(ground, self.half).reshape(len(ground), -1)
        total[size:, :size] = np.einsum("sa,sg,si->gai", terms, grounds, of_pixels, optimize=True).reshape(-1, size)
        v2, u2 = self.rows.astype(np.float64), self.columns.astype(np.float64)
        even = (self.root**2).astype(np.float64)
        powers = exponents(self.background_order)
        for g, (i, j) in enumerate(powers):
            for h, (k, m) in enumerate(powers[: g + 1]):
                total[size + g, size + h] = total[size + h, size + g] = v2 ** (i + k) @ even @ u2 ** (j + m)
        return total

    def right(
        self, weighted: NDArray[np.float32], noise: NDArray[np.float64], prior: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how the sum of squares falls with each weight."""
        pair = self.pair
        slopes = np.empty((len(noise), self.n_pixels))
        hat, across = self.work[0], self.work[1][: pair.shape[0]]
        powers = list(enumerate(self.powers[: len(noise)]))
        for j in range(self.order + 1):
            for number, (term, (i, _)) in enumerate([one for one in powers if one[1][1] == j]):
                if not number:
                    self.transform_rows(weighted, j, across)
                self.transform_columns(across, i, hat)
                slopes[term] = _correlation(pair.image_hat, hat, self.half, pair.grid).ravel()
        flat = inner(self.stamps, self.half)[: len(noise)].reshape(len(noise), -1)
        slopes += noise @ flat @ self.noise_matrix
        change = flat.copy()
        change[0] -= self.start.ravel()
        slopes -= np.einsum("aij,aj->ai", prior, change)
        v, u = self.rows.astype(np.float64), self.columns.astype(np.float64)
        ground = [v**i @ (weighted @ u**j) for i, j in exponents(self.background_order)]
        return np.concatenate([slopes.ravel(), ground])

    def transform_rows(self, image: NDArray[np.float32], power: int, out: NDArray[np.complex64]) -> None:
        """Transform the rows, into ``out``, of an image that is zero outside, times a power of x."""
        before = (self.pair.grid[1] - image.shape[1]) // 2
        wide = np.zeros((STRIP, self.pair.grid[1]), np.float32)
        for rows in row_strips(len(image), STRIP):
            part = wide[: rows.stop - rows.start]
            np.multiply(image[rows], self.columns**power, out=part[:, before : before + image.shape[1]])
            out[rows] = fft.rfft(part, axis=1, workers=1)

    def transform_columns(self, rows: NDArray[np.complex64], power: int, out: NDArray[np.complex64]) -> None:
        """Transform the columns, into ``out``, of transformed rows, times a power of y."""
        top = (self.pair.grid[0] - len(rows)) // 2
        out[:top] = out[top + len(rows) :] = 0
        np.multiply(rows, self.rows[:, None] ** power, out=out[top : top + len(rows)])
        fft.fft(out, axis=0, workers=1, overwrite_x=True)


def _block_correlations(
    first: NDArray[np.float32], second: NDArray[np.float32], reach: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of an image times itself, and another, displaced, block by block, and where the blocks are.

    Blocks without light are left out. Sums are of ``first(z) first(z + lag)``, the mean of both signs of the lag, and
    of ``first(z) second(z + lag)`` for z in a block and lags up to ``reach`` along each axis.
    """
    block = min(BLOCK, max(SMALLEST_BLOCK, max(first.shape) // BLOCKS))
    side = block + 2 * reach
    n = int(fft.next_fast_len(side, real=True))
    padded = [np.pad(image, [(reach, reach + -len_ % block) for len_ in image.shape]) for image in (first, second)]
    every, other = (sliding_window_view(image, (side, side))[::block, ::block] for image in padded)
    own = np.s_[:, reach:-reach, reach:-reach]
    light: list[NDArray[np.float64]] = []
    ground: list[NDArray[np.float64]] = []
    places: list[NDArray[np.float64]] = []
    lags = np.arange(-reach, reach + 1)
    at = np.arange(block)
    for row in range(every.shape[0]):
        columns = np.flatnonzero(np.abs(every[row][own]).max(axis=(1, 2)) > 0)
        if not len(columns):
            continue
        around, beside = every[row, columns], other[row, columns]
        middle = np.zeros_like(around)
        middle[own] = around[own]
        hat = fft.rfft2(middle, (n, n), workers=1).conj()
        for windows, found in ((around, light), (beside, ground)):
            sums = fft.irfft2(hat * fft.rfft2(windows, (n, n), workers=1), (n, n), workers=1)
            found.append(sums[:, lags[:, None], lags].astype(np.float64))
        power = middle[own].astype(np.float64) ** 2
        total = power.sum(axis=(1, 2))
        y, x = ((power.sum(axis=axis) @ at) / total for axis in (2, 1))
        places.append(np.stack([row * block + y, columns * block + x], axis=1))
    if not light:
        return (*(np.zeros((0, len(lags), len(lags))),) * 2, np.zeros((0, 2)))
    sums = np.concatenate(light)
    return (sums + sums[:, ::-1, ::-1]) / 2, np.concatenate(ground), np.concatenate(places)


def _correlation(
    first: NDArray[np.complex64], second: NDArray[np.complex64], reach: int, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """Return sums of ``first(z) second(z + lag)`` for lags up to ``reach``; ``second`` is overwritten."""
    for rows in row_strips(grid[0], STRIP):
        second[rows] *= first[rows].conj()
    down = fft.ifft(second, axis=0, workers=1, overwrite_x=True)
    lags = np.arange(-reach, reach + 1)
    sums: NDArray[np.float32] = fft.irfft(down[lags], grid[1], axis=1, workers=1)[:, lags]
    return sums


def _root_weight(pair: Pair, variance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the root of the weight of each pixel: even over a source, zero where neither image holds one.

    Weights that changed within a source would not commute with the displacements of it.
    """
    root = running_maximum(variance, 2 * FLAT + 1)
    np.sqrt(root, out=root)
    np.divide(1, root, out=root)
    root *= running_maximum(pair.steady > SOURCE_SIGMA, 2 * (pair.half + 2) + 1)
    return convolved(root, np.full(SMOOTH, 1 / SMOOTH), "constant")


def _outliers(
    residual: NDArray[np.float32],
    variance: NDArray[np.float32],
    error: float,
    target: NDArray[np.float32],
    there: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Where what is left is far more than is usual, for a kernel with some error."""
    chi2 = np.empty_like(residual)
    for rows in row_strips(len(chi2)):
        noise = (error * np.maximum(target[rows], 0)) ** 2
        noise += variance[rows]
        np.divide(residual[rows] ** 2, noise, out=chi2[rows])
    chi2 = convolved(chi2, np.full(OUTLIER_SIDE, 1 / OUTLIER_SIDE))
    usual = float(np.median(chi2[there][::7])) if there.any() else 1.0
    return running_maximum(there & (chi2 > OUTLIER * max(usual, 1.0)), 2 * OUTLIER_REACH + 1)
