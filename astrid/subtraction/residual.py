"""What is left of stars because the PSF varies over the field, and because it was measured: modelled and taken away.

To first order another PSF, position or flux of all sources is a sum of derivatives of the image, whose weights vary
slowly over the field: the image itself (flux), its slopes (position) and its curvatures (width and shape). The weights
are polynomials, fitted to the residuals of bright stars; what varies is left out. This is the kernel of Alard and
Lupton (1998, ApJ 503, 325; 2000, A&AS 144, 363) where it is nearly a point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.subtraction.field import scaled, surface_factors, terms_at
from astrid.subtraction.masks import pixel_stencil, row_strips

Floats = NDArray[np.floating]

REACH = 4  # px about a star in which its residual is fitted
PRIORS = (0.02, 0.1, 0.1, 0.2, 0.2, 0.2, 0.3)  # usual size of a weight: pixels to the order of its derivative
STARS_PER_ORDER = (5, 20, 60)  # as many are needed for polynomials of order 0, 1, 2
MODEL_ERROR = 0.003  # of a star, beyond what the fit can describe: no single star decides
INDEPENDENT = 0.15  # independent values of the score per pixel
OUTLIER = 9.0  # times the median chi-squared: a star that varies
LEAST_CHI2 = 0.5
ROUNDS = 4
STRIP, HALO = 64, 3  # rows
# What the image, differences along y and x, sums of the neighbours along y and x, the difference of differences, and
# the sums of both about the sum of curvatures count for, where `derivatives` have some weights.
OF_SUMS = np.array(
    [
        [1, 0, 0, -4, 0, 0, 16],
        [0, 0.5, 0, 0, 0, 0, 0],
        [0, 0, 0.5, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, -4],
        [0, 0, 0, 1, -1, 0, -4],
        [0, 0, 0, 0, 0, 0.25, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]
)


@dataclass(frozen=True, eq=False)
class ResidualKernel:
    """Weights of derivatives, as polynomials over the field.

    Attributes
    ----------
    weights : (n_derivatives, n_terms) array
        Of the terms of `astrid.subtraction.field.terms_at`.
    order : int
        Of the polynomials.
    shape : (int, int)
        Of the field.
    n_stars : int
        Stars that decided.
    """

    weights: NDArray[np.float64]
    order: int
    shape: tuple[int, int]
    n_stars: int

    def applied(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the kernel makes of an image: its sources' residuals."""
        left = np.zeros_like(image)
        self.take_away((left, image))
        return np.negative(left, out=left)

    def take_away(self, *pairs: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
        """Subtract from the first of each pair, in place, what the kernel makes of the second; the field is one."""
        factors = [surface_factors(weights, self.order, self.shape) for weights in OF_SUMS @ self.weights]
        made = np.empty((len(factors), STRIP + 2 * HALO, self.shape[1]), np.float32)
        product = np.empty((STRIP, self.shape[1]), np.float32)
        for rows in row_strips(self.shape[0], STRIP):
            begin = max(rows.start - HALO, 0)
            inner = slice(rows.start - begin, rows.stop - begin)
            weights = [down[rows] @ across for down, across in factors]
            for left, image in pairs:
                wide = image[begin : rows.stop + HALO]
                _sums(wide, made[:, : len(wide)])
                for weight, part in zip(weights, (wide, *made[1:]), strict=True):
                    left[rows] -= np.multiply(weight, part[inner], out=product[: len(weight)])


def _sums(image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Put sums and differences of neighbours in place of `derivatives`, which are made of them as `OF_SUMS` says.

    The first is the image, which is not copied; at the edges, a neighbour that is missing is the pixel itself, and all
    that has to do with it is zero as for the derivatives.
    """
    four, *_ = parts = out[:, : len(image)]
    _, slope_y, slope_x, sum_y, sum_x, mixed, both = parts
    np.subtract(image[2:], image[:-2], out=slope_y[1:-1])
    np.subtract(image[:, 2:], image[:, :-2], out=slope_x[:, 1:-1])
    slope_y[[0, -1]], slope_x[:, [0, -1]] = 0, 0
    _add_neighbours(image, sum_y, sum_x)
    np.subtract(slope_y[:, 2:], slope_y[:, :-2], out=mixed[:, 1:-1])
    mixed[:, [0, -1]] = 0
    np.multiply(image, np.float32(-4), out=four)
    four += sum_y
    four += sum_x
    _add_neighbours(four, both, mixed_x := np.empty_like(four))
    both += mixed_x


def _add_neighbours(image: NDArray[np.float32], along_y: NDArray[np.float32], along_x: NDArray[np.float32]) -> None:
    np.add(image[2:], image[:-2], out=along_y[1:-1])
    np.add(image[:, 2:], image[:, :-2], out=along_x[:, 1:-1])
    for row in (0, -1):
        np.add(image[row], image[row], out=along_y[row])
        np.add(image[:, row], image[:, row], out=along_x[:, row])


def fit_residual_kernel(
    residual: NDArray[np.float32],
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> ResidualKernel | None:
    """Fit the residuals of stars; None with fewer than five.

    Parameters
    ----------
    residual, image, variance : (ny, nx) float32 arrays
        What is left of the sources, the sources themselves, and the variance of ``residual``.
    usable : (ny, nx) bool array
        Pixels that count.
    y, x : (n,) int arrays
        Stars, at least 6 px from the edges.
    """
    order = sum(len(y) >= n for n in STARS_PER_ORDER) - 1
    if order < 0:
        return None
    offsets = np.array(list(pixel_stencil(REACH)))
    at = y[:, None] + offsets[:, 0], x[:, None] + offsets[:, 1]
    terms = terms_at(scaled(y, residual.shape[0]), scaled(x, residual.shape[1]), order)
    parts = _derivatives_about(image, y, x).astype(np.float64)
    left = residual[at].astype(np.float64)
    noise = variance[at] + (MODEL_ERROR * image[y, x][:, None]) ** 2
    used = usable[at]
    weight = np.where(used, 1 / noise, 0.0)
    prior = np.diag(np.repeat(1 / np.array(PRIORS) ** 2, terms.shape[1]))
    # the weights of a star's derivatives are those of the terms, times the terms where it is
    weighted = (parts * weight[:, :, None]).transpose(0, 2, 1)
    normal = INDEPENDENT * np.matmul(weighted, parts)
    right = INDEPENDENT * np.matmul(weighted, left[:, :, None])[:, :, 0]
    n_used = np.maximum(used.sum(axis=1), 1)
    keep = np.ones(len(y), bool)
    for _ in range(ROUNDS):
        total = np.einsum("sde,sa,sb->daeb", normal[keep], terms[keep], terms[keep], optimize=True)
        found = np.linalg.solve(total.reshape(len(prior), -1) + prior, (right[keep].T @ terms[keep]).ravel())
        of_stars = terms @ found.reshape(len(PRIORS), -1).T
        chi2 = (weight * (left - np.matmul(parts, of_stars[:, :, None])[:, :, 0]) ** 2).sum(axis=1) / n_used
        before, keep = keep, chi2 < OUTLIER * max(float(np.median(chi2)), LEAST_CHI2)
        if (before == keep).all():
            break
    return ResidualKernel(
        found.reshape(len(PRIORS), -1), order, (residual.shape[0], residual.shape[1]), int(keep.sum())
    )


def _derivatives_about(image: NDArray[np.float32], y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the (n, pixels, derivatives) about some places."""
    reach = REACH + HALO
    side = 2 * reach + 1
    offsets = np.arange(-reach, reach + 1)
    rows = np.clip(y[:, None] + offsets, 0, image.shape[0] - 1)
    columns = np.clip(x[:, None] + offsets, 0, image.shape[1] - 1)
    stacked = image[rows[:, :, None], columns[:, None, :]].reshape(-1, side)  # one window below the other
    inner = slice(HALO, side - HALO)
    cut = [part.reshape(len(y), side, side)[:, inner, inner].reshape(len(y), -1) for part in derivatives(stacked)]
    return np.stack(cut, axis=2)


def derivatives(image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Give an image, its slopes in y and x, three curvatures (round, along the axes, diagonal) and the curvature's."""
    yield image
    for axis in (0, 1):
        yield _difference(image, axis)
    yy, xx = _second(image, 0), _second(image, 1)
    round_ = yy + xx
    yield round_
    yield yy - xx
    yield _difference(_difference(image, 0), 1)
    yield _second(round_, 0) + _second(round_, 1)


def _difference(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    out = np.empty_like(image)
    inner, after, before = _neighbours(axis)
    np.subtract(image[after], image[before], out=out[inner])
    out[inner] *= np.float32(0.5)
    return _without_edges(out, axis)


def _second(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    out = np.empty_like(image)
    inner, after, before = _neighbours(axis)
    np.multiply(image, np.float32(-2), out=out)
    out[inner] += image[after]
    out[inner] += image[before]
    return _without_edges(out, axis)


def _neighbours(axis: int) -> tuple[Any, Any, Any]:
    """Index the inner pixels along an axis, those after and those before them."""
    return (np.s_[1:-1], np.s_[2:], np.s_[:-2]) if axis == 0 else (np.s_[:, 1:-1], np.s_[:, 2:], np.s_[:, :-2])


def _without_edges(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Set the first and the last pixels along an axis to zero, in place."""
    ends = image if axis == 0 else image.T
    ends[[0, -1]] = 0
    return image
