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
HALO = 3  # rows


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
        return self.applied_to_each(image)[0]

    def applied_to_each(self, *images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return what the kernel makes of images of one field; its weights are made once for all of them."""
        totals = [np.empty_like(image) for image in images]
        factors = [surface_factors(weights, self.order, self.shape) for weights in self.weights]
        for rows in row_strips(self.shape[0]):
            begin = max(rows.start - HALO, 0)
            inner = slice(rows.start - begin, rows.stop - begin)
            parts = [derivatives(image[begin : rows.stop + HALO]) for image in images]
            for number, (down, across) in enumerate(factors):
                weight = down[rows] @ across
                for total, part in zip(totals, parts, strict=True):
                    if number:
                        total[rows] += weight * next(part)[inner]
                    else:
                        np.multiply(weight, next(part)[inner], out=total[rows])
        return totals


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
    design = (parts[..., None] * terms[:, None, None, :]).reshape(*parts.shape[:2], -1)
    left = residual[at].astype(np.float64)
    noise = variance[at] + (MODEL_ERROR * image[y, x][:, None]) ** 2
    weight = np.where(usable[at], 1 / noise, 0.0)
    prior = np.diag(np.repeat(1 / np.array(PRIORS) ** 2, terms.shape[1]))
    normal = INDEPENDENT * np.einsum("spi,sp,spj->sij", design, weight, design, optimize=True)
    right = INDEPENDENT * np.einsum("spi,sp,sp->si", design, weight, left, optimize=True)
    keep = np.ones(len(y), bool)
    for _ in range(ROUNDS):
        found = np.linalg.solve(normal[keep].sum(axis=0) + prior, right[keep].sum(axis=0))
        chi2 = (weight * (left - design @ found) ** 2).sum(axis=1) / np.maximum(usable[at].sum(axis=1), 1)
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
