"""Which candidates are one object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

LARGEST_DIAMETER = 2.0  # of an object, in radii
ERRORS_APART = 3.0  # candidates may lie this many combined errors farther apart, in quadrature


def link(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    tile: NDArray[np.int64],
    radius: float,
    position_error: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Group candidates of the same tile that lie at one place.

    Friends of friends within ``radius``, except that no object grows beyond
    two radii across (the diagonal of the box around it): in a longer chain the
    closest pairs are joined first. The result depends on positions only, not
    on their order.

    Parameters
    ----------
    y, x : (n,) float arrays
        Positions, in the unit of ``radius``.
    tile : (n,) int array
        Candidates of different tiles are never joined.
    radius : float
        Largest separation of two candidates of one object.
    position_error : (n,) array, optional
        Standard deviation per axis. The separation allowed becomes
        ``sqrt(radius**2 + 9 * (e_1**2 + e_2**2))``, at most two radii.

    Returns
    -------
    (n,) int64 array
        Labels from zero, numbered by each object's first member in the order
        of (tile, y, x).

    Examples
    --------
    >>> y = np.array([5.0, 40.0, 5.4])
    >>> link(y, y, np.zeros(3, int), radius=1.0).tolist()
    [0, 1, 0]
    """
    if not y.shape == x.shape == tile.shape or y.ndim != 1:
        raise ValueError(f"y, x, tile are {y.shape}, {x.shape}, {tile.shape}")
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise ValueError("y and x must be finite")
    if position_error is not None and position_error.shape != y.shape:
        raise ValueError(f"position_error is {position_error.shape} but y is {y.shape}")
    n = len(y)
    if n == 0:
        return np.zeros(0, np.int64)
    error = np.zeros(n) if position_error is None else np.nan_to_num(position_error, nan=0.0, posinf=radius)
    order = np.lexsort((error, x, y, tile))
    ys, xs, tiles, error = y[order], x[order], tile[order], error[order]
    first, second = _friends(ys, xs, tiles, error, radius)
    group = _components(n, first, second)
    too_long = _diagonal(ys, xs, group)[group] > LARGEST_DIAMETER * radius
    if too_long.any():
        inner = too_long[first]
        split = _join_closest_first(ys, xs, first[inner], second[inner], LARGEST_DIAMETER * radius)
        group = np.where(too_long, n + split, group)
    _, start, inverse = np.unique(group, return_index=True, return_inverse=True)
    number = np.empty(len(start), np.int64)
    number[np.argsort(start)] = np.arange(len(start))
    labels = np.empty(n, np.int64)
    labels[order] = number[inverse]
    return labels


def _friends(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    tile: NDArray[np.int64],
    error: NDArray[np.float64],
    radius: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs near enough, the closest first."""
    pairs = []
    starts = np.flatnonzero(np.r_[True, tile[1:] != tile[:-1]])
    reach = radius if not error.any() else LARGEST_DIAMETER * radius
    for start, stop in zip(starts, np.r_[starts[1:], len(tile)], strict=True):
        tree = cKDTree(np.column_stack([y[start:stop], x[start:stop]]))
        pairs.append(tree.query_pairs(reach, output_type="ndarray") + start)
    first, second = np.concatenate(pairs).astype(np.intp).T
    first, second = np.minimum(first, second), np.maximum(first, second)
    distance = np.hypot(y[first] - y[second], x[first] - x[second])
    allowed = np.hypot(radius, ERRORS_APART * np.hypot(error[first], error[second]))
    near = distance <= np.minimum(allowed, reach)
    first, second, distance = first[near], second[near], distance[near]
    closest_first = np.lexsort((second, first, distance))
    return first[closest_first], second[closest_first]


def _components(n: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, np.int64)


def _diagonal(y: NDArray[np.float64], x: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    sides = []
    for values in (y, x):
        low, high = np.full(group.max() + 1, np.inf), np.full(group.max() + 1, -np.inf)
        np.minimum.at(low, group, values)
        np.maximum.at(high, group, values)
        sides.append(high - low)
    return np.asarray(np.hypot(*sides), np.float64)


def _join_closest_first(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    largest: float,
) -> NDArray[np.int64]:
    """Union-find over pairs in order, refusing unions whose box would be larger than allowed."""
    parent = list(range(len(y)))
    boxes = [(b, b, a, a) for b, a in zip(y.tolist(), x.tolist(), strict=True)]

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        a, b = root(i), root(j)
        if a == b:
            continue
        p, q = boxes[a], boxes[b]
        box = min(p[0], q[0]), max(p[1], q[1]), min(p[2], q[2]), max(p[3], q[3])
        if (box[1] - box[0]) ** 2 + (box[3] - box[2]) ** 2 <= largest**2:
            low, high = min(a, b), max(a, b)
            parent[high] = low
            boxes[low] = box
    return np.array([root(i) for i in range(len(y))], np.int64)
