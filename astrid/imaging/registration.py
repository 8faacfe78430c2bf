"""Where the pixels of a tile lie on an exposure: from its WCS or star pattern, refined on stars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import spatial

from astrid.errors import AlgorithmError
from astrid.imaging.stars import StarList

Floats = NDArray[np.float64]
Base = Callable[[Floats, Floats], tuple[Floats, Floats]]

PATTERN_STARS = 60  # brightest stars that a star pattern is made of
VOTE_STARS = 300  # brightest stars that vote for an offset
MIN_MATCHED = 6
FOLDS = 5
HELD_OUT_SNR = 50.0
BETTER = 0.93  # a higher degree must lower the held-out residual to this part


@dataclass(frozen=True, eq=False)
class Registration:
    """Turns positions on a tile into positions on an exposure.

    Attributes
    ----------
    base : callable
        Tile ``(y, x)`` to detector ``(y, x)`` before refinement.
    coefficients : (2, n) array
        Of the polynomial added to it, in normalised tile coordinates.
    degree : int
        Of the polynomial; -1 for none.
    centre, half : float arrays
        Normalisation of the tile coordinates.
    rms : float
        Residual per axis, in pixels, of held-out stars; NaN where too few.
    n_stars : int
        Stars that were used.
    """

    base: Base
    coefficients: Floats
    degree: int
    centre: Floats
    half: float
    rms: float
    n_stars: int

    def __call__(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Return detector ``(y, x)`` of tile positions."""
        base_y, base_x = self.base(y, x)
        if self.degree < 0:
            return base_y, base_x
        terms = design(y, x, self.degree, self.centre, self.half)
        return base_y + terms @ self.coefficients[0], base_x + terms @ self.coefficients[1]


def register(
    stars: StarList,
    reference: StarList,
    base: Base | None,
    *,
    search_pixels: float = 12.0,
    min_stars: int = MIN_MATCHED,
) -> Registration:
    """Register an exposure to the reference stars of a tile.

    Parameters
    ----------
    stars : StarList
        Of the exposure, in pixels of its detector.
    reference : StarList
        Of the tile, in pixels of the tile.
    base : callable or None
        Tile to detector according to the WCS; None to find it from the star pattern.
    search_pixels : float
        How far the WCS may be off.
    min_stars : int
        With fewer matched stars the base is used as it is, with an rms of NaN.

    Returns
    -------
    Registration
        Its ``rms`` is of held-out stars, in pixels per axis.

    Raises
    ------
    AlgorithmError
        If there is no WCS and the star patterns do not match.
    """
    if base is None:
        base = match_pattern(stars, reference)
        search_pixels = 4.0
    expected = np.column_stack(base(reference.y, reference.x))
    offset, votes = vote_offset(stars, expected, search_pixels)
    pairs = np.empty((0, 2), np.intp)
    if votes >= min_stars:
        pairs = match_nearest(stars, expected + offset, radius=2.5)
    if len(pairs) < min_stars:
        none = np.zeros((2, 1))
        return Registration(base, none, -1, np.zeros(2), 1.0, float("nan"), len(pairs))
    return refine(stars, reference, base, expected, pairs, min_stars)


def refine(
    stars: StarList, reference: StarList, base: Base, expected: Floats, pairs: NDArray[np.intp], min_stars: int
) -> Registration:
    """Fit what the base leaves by a polynomial whose degree held-out stars choose."""
    found = np.column_stack([stars.y, stars.x])
    centre = np.array([np.mean(reference.y), np.mean(reference.x)])
    half = float(max(np.ptp(reference.y), np.ptp(reference.x), 1.0) / 2)
    registration = None
    for _ in range(3):
        of, to = pairs[:, 0], pairs[:, 1]
        residual = found[of] - expected[to]
        snr = np.minimum(stars.snr[of], reference.snr[to])
        # centroid error plus a floor, so that a few bright stars do not decide alone
        sigma = np.hypot(0.6 * np.maximum(stars.fwhm[of], 1.5) / np.maximum(snr, 3), 0.03)
        place = (reference.y[to], reference.x[to])
        best: tuple[float, int] | None = None
        for degree in (0, 1, 2, 3):
            n_terms = (degree + 1) * (degree + 2) // 2
            if len(of) < max(min_stars, 4 * n_terms) and degree > 0:
                break
            rms = held_out_rms(place, residual, sigma, degree, centre, half)
            if best is None or rms < BETTER * best[0]:
                best = (rms, degree)
        degree = best[1] if best else 0
        coefficients, keep = robust_fit(place, residual, sigma, degree, centre, half)
        strong = keep & (snr > HELD_OUT_SNR) & stars.is_clean[of] & reference.is_clean[to]
        chosen = strong if strong.sum() >= 10 else keep
        y, x = place[0][chosen], place[1][chosen]
        rms = held_out_rms((y, x), residual[chosen], sigma[chosen], degree, centre, half)
        registration = Registration(base, coefficients, degree, centre, half, rms, int(keep.sum()))
        predicted = np.column_stack(registration(reference.y, reference.x))
        pairs = match_nearest(stars, predicted, radius=1.0)
        if len(pairs) < min_stars:
            break
    if registration is None:
        raise AlgorithmError(f"registration: {len(pairs)} matched stars, {min_stars} needed")
    return registration


def design(y: Floats, x: Floats, degree: int, centre: Floats, half: float) -> Floats:
    """Return the terms of a two-dimensional polynomial at normalised positions, (n, n_terms)."""
    v, u = (np.asarray(y, float) - centre[0]) / half, (np.asarray(x, float) - centre[1]) / half
    return np.stack([v**i * u**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=-1)


def robust_fit(
    place: tuple[Floats, Floats], residual: Floats, sigma: Floats, degree: int, centre: Floats, half: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Weighted least squares with rejection of stars beyond four robust sigma."""
    terms = design(*place, degree, centre, half)
    distance = np.hypot(*(residual - np.median(residual, axis=0)).T)
    keep: NDArray[np.bool_] = distance < max(5 * 1.4826 * float(np.median(distance)), 0.5)
    coefficients: Floats = np.zeros((2, terms.shape[1]))
    for _ in range(5):
        weight = 1 / sigma[keep]
        solved, *_ = np.linalg.lstsq(terms[keep] * weight[:, None], residual[keep] * weight[:, None], rcond=None)
        coefficients = np.asarray(solved.T, np.float64)
        left = (residual - terms @ solved) / sigma[:, None]
        spread = max(1.4826 * float(np.median(np.abs(left[keep]))), 0.3)
        new: NDArray[np.bool_] = np.all(np.abs(left) < 4 * spread, axis=1)
        if new.sum() < terms.shape[1] + 3 or (new == keep).all():
            break
        keep = new
    return coefficients, keep


def held_out_rms(
    place: tuple[Floats, Floats], residual: Floats, sigma: Floats, degree: int, centre: Floats, half: float
) -> float:
    """Return the rms residual per axis of stars that were left out of the fit, five times a fifth of them."""
    n = len(sigma)
    n_terms = (degree + 1) * (degree + 2) // 2
    if n < n_terms + FOLDS:
        return float("nan")
    fold = np.random.default_rng(n).permutation(n) % FOLDS
    left = np.empty_like(residual)
    for k in range(FOLDS):
        out = fold == k
        coefficients, _ = robust_fit(
            (place[0][~out], place[1][~out]), residual[~out], sigma[~out], degree, centre, half
        )
        left[out] = residual[out] - design(place[0][out], place[1][out], degree, centre, half) @ coefficients.T
    inlier = (np.abs(left) < 5 * max(1.4826 * float(np.median(np.abs(left))), 1e-3)).all(axis=1)
    return float(np.sqrt(np.mean(left[inlier] ** 2)))


def vote_offset(stars: StarList, expected: Floats, radius: float) -> tuple[Floats, int]:
    """Return the offset that most pairs of stars agree on, and how many do."""
    found = np.column_stack([stars.y, stars.x])[:VOTE_STARS]
    tree = spatial.cKDTree(expected)
    near = np.asarray(tree.query_ball_point(found, radius), object)
    pairs = [(i, j) for i, js in enumerate(near) for j in js]
    if not pairs:
        return np.zeros(2), 0
    i, j = np.array(pairs).T
    offsets = found[i] - expected[j]
    counts = np.asarray(spatial.cKDTree(offsets).query_ball_point(offsets, 1.0, return_length=True))
    peak = offsets[int(np.argmax(counts))]
    inside = np.hypot(*(offsets - peak).T) < 1.0
    return np.median(offsets[inside], axis=0), int(counts.max())


def match_nearest(stars: StarList, expected: Floats, *, radius: float) -> NDArray[np.intp]:
    """Return pairs (star, reference) that are each other's nearest within a radius."""
    found = np.column_stack([stars.y, stars.x])
    forward, to = spatial.cKDTree(expected).query(found, distance_upper_bound=radius)
    _, back = spatial.cKDTree(found).query(expected, distance_upper_bound=radius)
    near, to, back = np.flatnonzero(np.isfinite(forward)), np.asarray(to), np.asarray(back)
    mutual = near[back[to[near]] == near]
    return np.column_stack([mutual, to[mutual]]).astype(np.intp)


def match_pattern(stars: StarList, reference: StarList) -> Base:
    """Find the similarity that brings the reference stars onto the stars of an exposure.

    A plain offset is tried first (a telescope that drifts), then the asterisms of the
    brightest stars (Beroiz et al. 2020, A&C 32 100384, astroalign).

    Raises
    ------
    AlgorithmError
        If neither matches; the message holds the numbers.
    """
    bright, target = _pattern_stars(stars), _pattern_stars(reference)
    if min(len(bright), len(target)) < 3:
        raise AlgorithmError(f"no star pattern: {len(bright)} stars here, {len(target)} in the reference, 3 needed")
    reach = float(max(np.ptp(reference.y), np.ptp(reference.x))) / 2
    offset, votes = vote_offset(bright, np.column_stack([target.y, target.x]), reach)
    by_chance = len(bright) * len(target) / reach**2  # pairs that agree to a pixel without being the same stars
    if votes >= 8 + 10 * by_chance:
        shift = offset

        def shifted(y: Floats, x: Floats) -> tuple[Floats, Floats]:
            return y + shift[0], x + shift[1]

        return shifted
    import astroalign

    try:
        transform, _ = astroalign.find_transform(
            np.column_stack([target.x, target.y]),
            np.column_stack([bright.x, bright.y]),
            max_control_points=PATTERN_STARS,
        )
    except Exception as error:  # astroalign raises its own kinds of Exception
        raise AlgorithmError(
            f"star patterns do not match: {len(bright)} and {len(target)} stars, {votes} agree on an offset ({error})"
        ) from error
    matrix = np.asarray(transform.params, float)

    def similar(y: Floats, x: Floats) -> tuple[Floats, Floats]:
        return (
            matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
            matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
        )

    return similar


def _pattern_stars(stars: StarList) -> StarList:
    usable = stars[(stars.elongation < 2.0) & (stars.fwhm > 0.6 * np.median(stars.fwhm))] if len(stars) else stars
    return usable[: 2 * PATTERN_STARS]
