"""Polynomials of the place in the field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def scaled(values: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Return places between -1 and 1."""
    return 2 * np.asarray(values, np.float64) / max(n - 1, 1) - 1


def exponents(order: int) -> list[tuple[int, int]]:
    """Return the powers of (y, x) of each term, the constant first."""
    return [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]


def terms_at(v: NDArray[np.float64], u: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return the (n, n_terms) polynomial terms at places between -1 and 1."""
    return np.stack([v**i * u**j for i, j in exponents(order)], axis=1)


def surface(weights: NDArray[np.float64], order: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the (ny, nx) polynomial whose terms have these weights."""
    down, across = surface_factors(weights, order, shape)
    return down @ across


def surface_factors(
    weights: NDArray[np.float64], order: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two matrices, of ny rows and of nx columns, whose product is the polynomial."""
    v, u = (scaled(np.arange(n), n) for n in shape)
    table = np.zeros((order + 1, order + 1))
    for (i, j), weight in zip(exponents(order), weights, strict=True):
        table[i, j] = weight
    down, across = (np.stack([place**i for i in range(order + 1)]) for place in (v, u))
    return np.ascontiguousarray(down.T, np.float32), (table @ across).astype(np.float32)
