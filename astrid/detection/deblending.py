"""Close sources are parted, and their fluxes told apart, by joint fits of PSFs: Stetson 1987 (ADS 1987PASP...99..191S).

Two sources closer than about 1.2 FWHM make one peak of the score, and up to some 3 FWHM each raises the other's flux.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from astrid.detection.shape import is_point_like
from astrid.image import Difference
from astrid.imaging.photometry import PsfFlux, cut_windows, equivalent_fwhm, shifted_psfs

Floats = NDArray[np.float64]

BLENDED = 1.4  # times the threshold, what two sources together reach at least
CLOSEST, FARTHEST = 0.6, 2.5  # FWHM between the sources of a pair
FAINTEST = 0.1  # of the brighter, below which what is left may be an error of its PSF
GAIN = 30.0  # of chi-squared by the second source, which has three parameters
EXPLAINED = 0.5  # of the excess of chi-squared, at least, by it
ROUNDS = 12
LONGEST_STEP = 0.5  # px in one round
SETTLED = 0.01  # px
REACH = 3.0  # FWHM within which sources raise each other's flux


@dataclass(frozen=True, eq=False)
class Pair:
    """Two sources where one peak or two were: arrays of two.

    Attributes
    ----------
    y, x : (2,) float64 arrays
        Positions in pixels.
    significance : (2,) float64 array
        Signed.
    """

    y: Floats
    x: Floats
    significance: Floats


def part(
    difference: Difference,
    y: Floats,
    x: Floats,
    significance: Floats,
    *,
    threshold: float,
    tried: NDArray[np.bool_] | None = None,
    max_chi2: float = 1.4,
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Replace peaks by pairs of sources, where two describe the pixels and one does not.

    Tried where the peak's own light, taken from the score, leaves another peak. A pair counts if both sources reach
    the threshold with one sign, lie 0.6 to 2.5 FWHM apart, the fainter has a tenth of the brighter's flux, each looks
    like a point source when the other is taken away, and the second takes away most of what the first leaves of
    chi-squared: an imperfect PSF of a bright star makes no pair.

    Parameters
    ----------
    difference : Difference
        Where the peaks are.
    y, x, significance : (n,) arrays
        Of the peaks, the most significant first.
    threshold : float
        Of a detection.
    tried : (n,) bool array or None
        Peaks that may be parted; None is all.
    max_chi2 : float
        Of a faint source, the other taken away: each must look like a point source (`is_point_like`).

    Returns
    -------
    (y, x, significance, is_parted) : arrays
        Of sources, pairs in the place of their peaks; other peaks as they were.
    """
    width = equivalent_fwhm(difference.psf)
    bright = np.abs(significance) >= BLENDED * threshold
    some = np.flatnonzero(bright if tried is None else bright & tried)
    some = some[_leaves_a_peak(difference, y[some], x[some], significance[some], threshold, width)]
    gone = np.zeros(len(y), bool)
    pairs: list[Pair] = []
    for i in some:
        if gone[i]:
            continue
        pair = _pair_at(difference, y[i], x[i], significance[i], threshold, max_chi2, width)
        if pair is None:
            continue
        near = np.hypot(y[:, None] - pair.y, x[:, None] - pair.x).min(axis=1) < CLOSEST * width
        near &= ~gone & (np.sign(significance) == np.sign(significance[i]))
        near[i] = True
        if any(np.hypot(pair.y[:, None] - one.y, pair.x[:, None] - one.x).min() < CLOSEST * width for one in pairs):
            continue
        gone |= near
        pairs.append(pair)
    found = [np.concatenate([values[~gone], *(getattr(pair, name) for pair in pairs)]) for name, values in
             (("y", y), ("x", x), ("significance", significance))]  # fmt: skip
    parted = np.arange(len(found[0])) >= np.count_nonzero(~gone)
    order = np.argsort(-np.abs(found[2]), kind="stable")
    return found[0][order], found[1][order], found[2][order], parted[order]


def autocorrelation(psf: NDArray[Any]) -> Floats:
    """Return the score of a source, over that at its centre, by the distance: (2 py - 1, 2 px - 1)."""
    shape = tuple(2 * n - 1 for n in psf.shape)
    hat = np.fft.rfft2(psf.astype(np.float64), shape)
    found = np.fft.fftshift(np.fft.irfft2(np.abs(hat) ** 2, shape))
    return np.asarray(found / found[shape[0] // 2, shape[1] // 2])


def _leaves_a_peak(
    difference: Difference, y: Floats, x: Floats, significance: Floats, threshold: float, width: float
) -> NDArray[np.bool_]:
    """Whether the score around each peak, less that of the peak, still reaches the threshold."""
    half = int(np.ceil(FARTHEST * width))
    side = (2 * half + 1, 2 * half + 1)
    response = autocorrelation(difference.psf)
    short = max(0, half - min(response.shape) // 2)
    response = np.pad(response, short)
    middle = [n // 2 for n in response.shape]
    response = response[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1]
    if len(y) == 0:
        return np.zeros(0, bool)
    row, column = np.mgrid[-half : half + 1, -half : half + 1]
    around = np.hypot(row, column)
    sign = np.sign(significance)[:, None, None]
    left = sign * cut_windows(difference.significance, y, x, side)
    left -= np.abs(significance)[:, None, None] * shifted_psfs(response, y, x)
    left[cut_windows(difference.mask != 0, y, x, side, fill=True)] = 0
    left[:, (around < CLOSEST * width) | (around > half)] = 0
    best = left.max(axis=(1, 2))
    return np.asarray(best >= np.maximum(threshold / 2, FAINTEST * np.abs(significance)), bool)


def _pair_at(
    difference: Difference, y: float, x: float, significance: float, threshold: float, max_chi2: float, width: float
) -> Pair | None:
    """Return the two sources that describe what is around a peak, None where one does or none do."""
    half = int(np.ceil((FARTHEST + 2) * width))
    side = (2 * half + 1, 2 * half + 1)
    at = np.array([y]), np.array([x])
    sign = float(np.sign(significance))
    good = ~cut_windows(difference.mask != 0, *at, side, fill=True)[0]
    data = np.where(good, sign * cut_windows(difference.flux, *at, side)[0], 0).astype(np.float64)
    weight = np.where(good, 1 / cut_windows(difference.variance, *at, side, fill=1)[0], 0).astype(np.float64)
    origin = np.rint(y) - half, np.rint(x) - half
    psf = _sized(difference.psf, side)
    one = _fitted(data, weight, psf, np.array([y - origin[0]]), np.array([x - origin[1]]))
    left = ndimage.correlate(one.residual * weight, psf[half - 3 : half + 4, half - 3 : half + 4], mode="constant")
    row, column = np.indices(side)
    apart = np.hypot(row - (y - origin[0]), column - (x - origin[1]))
    left[(apart < CLOSEST * width) | (apart > FARTHEST * width)] = -np.inf
    second = np.unravel_index(int(left.argmax()), side)
    two = _fitted(
        data, weight, psf, np.array([y - origin[0], second[0]], float), np.array([x - origin[1], second[1]], float)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        raw = one.flux[0] / one.error[0]
        damped = min(1.0, float((significance / raw) ** 2)) if raw > 0 else 0.0
        own = two.flux / two.error * np.sqrt(damped)
    n = np.count_nonzero(good)
    before, after = damped * one.chi2, damped * two.chi2
    distance = float(np.hypot(two.y[0] - two.y[1], two.x[0] - two.x[1]))
    counts = (
        bool(np.isfinite(own).all())
        and own.min() >= threshold
        and two.flux.min() >= FAINTEST * two.flux.max()
        and CLOSEST * width <= distance <= FARTHEST * width
        and before - after >= GAIN
        and after - n <= EXPLAINED * (before - n)
        and _are_point_like(data, weight, difference.psf, two, own, max_chi2)
    )
    return Pair(two.y + origin[0], two.x + origin[1], sign * own) if counts else None


def _are_point_like(
    data: Floats, weight: Floats, psf: NDArray[Any], two: _Fit, significance: Floats, max_chi2: float
) -> bool:
    """Whether each source of a pair looks like one when the other is taken away."""
    variance = np.where(weight > 0, 1 / np.where(weight > 0, weight, 1), 1).astype(np.float32)
    mask = (weight == 0).astype(np.uint16)
    for number in (0, 1):
        left = two.residual + two.flux[number] * two.shapes[number]
        alone = Difference(left.astype(np.float32), variance, mask, psf.astype(np.float32), left.astype(np.float32))
        at = two.y[number : number + 1], two.x[number : number + 1]
        if not is_point_like(alone, *at, significance[number : number + 1], max_chi2=max_chi2).all():
            return False
    return True


@dataclass(frozen=True, eq=False)
class _Fit:
    y: Floats
    x: Floats
    flux: Floats
    error: Floats
    chi2: float
    residual: Floats
    shapes: Floats


def _fitted(data: Floats, weight: Floats, psf: Floats, y: Floats, x: Floats) -> _Fit:
    """Fit fluxes and positions of point sources, Gauss-Newton by short steps."""
    flux = np.zeros(len(y))
    for _ in range(ROUNDS):
        shapes = _placed(psf, y, x)
        flux = _fluxes(shapes, data, weight)[0]
        step = 0.05
        slopes = [(_placed(psf, y + dy, x + dx) - _placed(psf, y - dy, x - dx)) / (2 * step)
                  for dy, dx in ((step, 0.0), (0.0, step))]  # fmt: skip
        design = np.concatenate([shapes, flux[:, None, None] * slopes[0], flux[:, None, None] * slopes[1]])
        residual = data - np.tensordot(flux, shapes, axes=1)
        columns = design.reshape(len(design), -1)
        normal = (columns * weight.ravel()) @ columns.T
        normal[np.diag_indices(len(normal))] *= 1.001
        wanted = columns @ (weight * residual).ravel()
        change = np.linalg.lstsq(normal, wanted, rcond=1e-10)[0][len(y) :].reshape(2, -1)
        change = np.clip(change, -LONGEST_STEP, LONGEST_STEP)
        limit = np.array(data.shape)[:, None] - 1.0
        y, x = np.clip(np.stack([y, x]) + change, 0, limit)
        if np.abs(change).max() < SETTLED:
            break
    shapes = _placed(psf, y, x)
    flux, error = _fluxes(shapes, data, weight)
    residual = data - np.tensordot(flux, shapes, axes=1)
    return _Fit(y, x, flux, error, float((weight * residual**2).sum()), residual, shapes)


def _fluxes(shapes: Floats, data: Floats, weight: Floats) -> tuple[Floats, Floats]:
    columns = shapes.reshape(len(shapes), -1)
    normal = (columns * weight.ravel()) @ columns.T
    normal[np.diag_indices(len(normal))] += 1e-12 * max(float(np.trace(normal)), 1e-300)
    inverse = np.linalg.pinv(normal)
    return inverse @ (columns @ (weight * data).ravel()), np.sqrt(np.diag(inverse))


def _placed(psf: Floats, y: Floats, x: Floats) -> Floats:
    """Return a PSF as large as the window, at each position in it: (n, side, side)."""
    half = psf.shape[0] // 2
    ramp_y = np.exp(-2j * np.pi * (y - half)[:, None] * np.fft.fftfreq(2 * psf.shape[0]))
    ramp_x = np.exp(-2j * np.pi * (x - half)[:, None] * np.fft.rfftfreq(2 * psf.shape[1]))
    shape = 2 * psf.shape[0], 2 * psf.shape[1]
    hat = np.fft.rfft2(psf, shape) * ramp_y[:, :, None] * ramp_x[:, None, :]
    return np.fft.irfft2(hat, shape)[:, : psf.shape[0], : psf.shape[1]]


def _sized(psf: NDArray[Any], side: tuple[int, int]) -> Floats:
    """Cut or pad an odd stamp."""
    out = np.zeros(side)
    half = [min(n, m) // 2 for n, m in zip(psf.shape, side, strict=True)]
    into, of = [n // 2 for n in side], [n // 2 for n in psf.shape]
    out[into[0] - half[0] : into[0] + half[0] + 1, into[1] - half[1] : into[1] + half[1] + 1] = psf[
        of[0] - half[0] : of[0] + half[0] + 1, of[1] - half[1] : of[1] + half[1] + 1
    ]
    return out


def told_apart(fit: PsfFlux, y: Floats, x: Floats, psf: NDArray[Any]) -> PsfFlux:
    """Take from the flux of each source what the sources beside it add to it.

    The flux at a position is that of all sources, each times the autocorrelation of the PSF at its distance; a few
    linear equations per group give them back. Sources of the other sign are left as they are: the halves of
    a dipole are no two sources.

    Parameters
    ----------
    fit : PsfFlux
        Of n positions, each as if alone.
    y, x : (n,) arrays
        Positions in pixels.
    psf : (py, px) array
        Of the difference.

    Returns
    -------
    PsfFlux
        ``flux`` and ``error`` changed where sources of one sign lie within 3 FWHM.
    """
    known = np.flatnonzero(np.isfinite(fit.flux) & np.isfinite(fit.error))
    flux, error = fit.flux.copy(), fit.error.copy()
    for sign in (1, -1):
        some = known[np.sign(fit.flux[known]) == sign]
        if len(some) < 2:
            continue
        places = np.column_stack([y[some], x[some]])
        close = cKDTree(places).sparse_distance_matrix(cKDTree(places), REACH * equivalent_fwhm(psf))
        n_groups, group = connected_components(close + close.T, directed=False)
        if n_groups == len(some):
            continue
        response = autocorrelation(psf)
        middle = np.array(response.shape) // 2
        for number in np.flatnonzero(np.bincount(group) > 1):
            of = some[group == number]
            apart = np.stack([y[of][:, None] - y[of], x[of][:, None] - x[of]])
            raised = ndimage.map_coordinates(response, apart + middle[:, None, None], order=3)
            inverse = np.linalg.pinv(raised, rcond=1e-3)
            flux[of] = inverse @ fit.flux[of]
            error[of] = fit.error[of] * np.sqrt(np.maximum(np.diag(inverse), 1))
    return replace(fit, flux=flux, error=error)
