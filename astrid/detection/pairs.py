"""Two sources where there may be one: joint fits of PSFs, many places at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from astrid.detection.shape import is_point_like
from astrid.image import Difference
from astrid.imaging.photometry import cut_windows
from astrid.imaging.placing import placed

Floats = NDArray[np.float64]

CLOSEST, FARTHEST = 0.6, 2.5  # FWHM between the sources of a pair
FAINTEST = 0.1  # of the brighter, below which what is left may be an error of its PSF
GAIN = 30.0  # of chi-squared by the second source, which has three parameters
PROMISING = 0.5  # of that gain, by the score test, for which a fit is worth its time
EXPLAINED = 0.5  # of the excess of chi-squared, at least, by it
ROUNDS = 12
LONGEST_STEP = 0.5  # px in one round
SETTLED = 0.01  # px


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


def pairs_at(
    difference: Difference,
    y: Floats,
    x: Floats,
    significance: Floats,
    threshold: float,
    max_chi2: float,
    width: float,
) -> list[Pair | None]:
    """Return the two sources that describe what is around each peak, None where one does or none do.

    Parameters
    ----------
    difference : Difference
        Where the peaks are.
    y, x, significance : (n,) arrays
        Of the peaks, in pixels and signed.
    threshold : float
        What each source must reach.
    max_chi2 : float
        Of a faint source, the other taken away; see `astrid.detection.shape.is_point_like`.
    width : float
        FWHM of the PSF in pixels.
    """
    found: list[Pair | None] = [None] * len(y)
    if not len(y):
        return found
    half = int(np.ceil((FARTHEST + 2) * width))
    side = (2 * half + 1, 2 * half + 1)
    sign = np.sign(significance)
    good = cut_windows(difference.mask, y, x, side, fill=1) == 0
    data = np.where(good, sign[:, None, None] * cut_windows(difference.flux, y, x, side), 0).astype(np.float64)
    weight = np.where(good, 1 / cut_windows(difference.variance, y, x, side, fill=1), 0).astype(np.float64)
    psf = difference.psf.astype(np.float64)
    row, column = np.rint(y), np.rint(x)
    first = np.stack([y - row, x - column], axis=-1)
    gain, second = _second(data, weight, psf, first, width)
    some = np.flatnonzero(gain >= PROMISING * GAIN)
    if not len(some):
        return found
    one = fit(data[some], weight[some], psf, first[some, None])
    two = fit(data[some], weight[some], psf, np.stack([one.place[:, 0], second[some]], axis=1))
    for number, i in enumerate(some):
        part = slice(number, number + 1)
        of = one.of(part), two.of(part), weight[i]
        own = _counted(*of, difference.psf, abs(significance[i]), threshold, max_chi2, width)
        if own is not None:
            there = two.place[number] + (row[i], column[i])
            found[i] = Pair(there[:, 0], there[:, 1], sign[i] * own)
    return found


@dataclass(frozen=True, eq=False)
class Fit:
    """Point sources fitted to n windows, k in each: places are (y, x) from the middle of the window.

    Attributes
    ----------
    place : (n, k, 2) array
        In pixels.
    flux, error : (n, k) arrays
        In the unit of the data.
    chi2 : (n,) array
        Over all pixels of positive weight.
    residual : (n, side, side) array
        Data less sources.
    images : (n, k, 3, side, side) array
        The PSF at each place and its derivatives.
    """

    place: Floats
    flux: Floats
    error: Floats
    chi2: Floats
    residual: Floats
    images: Floats

    def of(self, part: slice) -> Fit:
        """Return the fit of some of the windows."""
        return Fit(*(getattr(self, name)[part] for name in ("place", "flux", "error", "chi2", "residual", "images")))


def fit(data: Floats, weight: Floats, psf: Floats, place: Floats) -> Fit:
    """Fit fluxes and positions of point sources, Gauss-Newton by short steps.

    Parameters
    ----------
    data, weight : (n, side, side) arrays
        Flux and inverse variance; zero where it must not be used.
    psf : (py, px) array
        Of every source.
    place : (n, k, 2) array
        Where to start, (y, x) from the middle of the window in pixels.
    """
    half = data.shape[-1] // 2
    place, n_sources = place.copy(), place.shape[1]
    moving = np.arange(len(data))
    for _ in range(ROUNDS):
        images = _images(psf, place[moving], half)
        d, w = data[moving], weight[moving]
        flux = _fluxes(images[:, :, 0], d, w)[0]
        slopes = flux[:, :, None, None, None] * images[:, :, 1:]
        columns = np.concatenate([images[:, :, 0], slopes[:, :, 0], slopes[:, :, 1]], axis=1)
        columns = columns.reshape(len(moving), 3 * n_sources, -1)
        residual = (d - np.einsum("nk,nkyx->nyx", flux, images[:, :, 0])).reshape(len(moving), -1)
        weighted = columns * w.reshape(len(moving), 1, -1)
        normal = weighted @ columns.transpose(0, 2, 1)
        diagonal = np.arange(3 * n_sources)
        normal[:, diagonal, diagonal] *= 1.001
        change = np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ (weighted @ residual[..., None])
        step = change[:, n_sources:, 0].reshape(len(moving), 2, n_sources).transpose(0, 2, 1)
        step = np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        place[moving] = np.clip(place[moving] + step, -half, half)
        moving = moving[np.abs(step).max(axis=(1, 2)) >= SETTLED]
        if not len(moving):
            break
    images = _images(psf, place, half)
    flux, error = _fluxes(images[:, :, 0], data, weight)
    residual = data - np.einsum("nk,nkyx->nyx", flux, images[:, :, 0])
    return Fit(place, flux, error, (weight * residual**2).sum(axis=(1, 2)), residual, images)


def _images(psf: Floats, place: Floats, half: int) -> Floats:
    n, k, _ = place.shape
    flat = placed(psf, place[..., 0].ravel(), place[..., 1].ravel(), half)
    return flat.reshape(n, k, *flat.shape[1:])


def _fluxes(shapes: Floats, data: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Fluxes (n, k) of sources of given shapes (n, k, side, side), and their errors."""
    n, k = shapes.shape[:2]
    columns = shapes.reshape(n, k, -1)
    weighted = columns * weight.reshape(n, 1, -1)
    normal = weighted @ columns.transpose(0, 2, 1)
    each = np.arange(k)
    normal[:, each, each] += 1e-12 * np.maximum(np.trace(normal, axis1=1, axis2=2), 1e-300)[:, None]
    inverse = np.linalg.pinv(normal, hermitian=True)
    return (inverse @ (weighted @ data.reshape(n, -1, 1)))[..., 0], np.sqrt(inverse[:, each, each])


def _second(data: Floats, weight: Floats, psf: Floats, first: Floats, width: float) -> tuple[Floats, Floats]:
    """Return by how much a second source would lessen chi-squared, to first order, and at which pixel, for each window.

    With d the data, t the PSF at a pixel and D the source at the first place and its slopes, the gain is
    ``(t' d - c D' d)^2 / (t' t - c D' t)`` with ``c = t' D (D' D)^-1``, products weighted: what D can take over of the
    second source's light is no gain.
    """
    n, half = len(data), int(np.ceil((FARTHEST + 1) * width))
    inner = slice(data.shape[-1] // 2 - half, data.shape[-1] // 2 + half + 1)  # what a second source lights
    data, weight = data[:, inner, inner], weight[:, inner, inner]
    reach = int(np.floor(FARTHEST * width)) + 1
    places = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    places = places[np.hypot(*places.T) <= FARTHEST * width + 1]
    shapes = _at_pixels(psf, places, half).reshape(len(places), -1)
    w = weight.reshape(n, 1, -1)
    source = placed(psf, first[:, 0], first[:, 1], half).reshape(n, 3, -1)
    columns = np.concatenate([source, data.reshape(n, 1, -1)], axis=1) * w
    products = columns @ shapes.T  # (n, 4, places)
    own = w[:, 0] @ (shapes**2).T
    normal = columns[:, :3] @ source.transpose(0, 2, 1)
    share = np.linalg.pinv(normal, hermitian=True) @ products[:, :3]
    without = own - (share * products[:, :3]).sum(axis=1)
    left = products[:, 3] - np.einsum("nkp,nk->np", share, np.einsum("nkj,nj->nk", source, columns[:, 3]))
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.maximum(left, 0) ** 2 / np.maximum(without, 1e-6 * own)
    apart = np.hypot(places[:, 0] - first[:, :1], places[:, 1] - first[:, 1:])
    gain[~np.isfinite(gain) | (apart < CLOSEST * width) | (apart > FARTHEST * width)] = 0
    best = gain.argmax(axis=1)
    return gain[np.arange(n), best], places[best].astype(np.float64)


def _at_pixels(psf: Floats, places: NDArray[np.intp], half: int) -> Floats:
    """Return a PSF centred on whole pixels of a window, (n, side, side)."""
    reach = half + np.abs(places).max()
    around = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows, columns = (min(n // 2, reach) for n in psf.shape)
    middle = psf.shape[0] // 2, psf.shape[1] // 2
    around[reach - rows : reach + rows + 1, reach - columns : reach + columns + 1] = psf[
        middle[0] - rows : middle[0] + rows + 1, middle[1] - columns : middle[1] + columns + 1
    ]
    windows = sliding_window_view(around, (2 * half + 1, 2 * half + 1))
    at: Floats = windows[reach - half - places[:, 0], reach - half - places[:, 1]]
    return at


def _counted(
    one: Fit,
    two: Fit,
    weight: Floats,
    psf: NDArray[Any],
    significance: float,
    threshold: float,
    max_chi2: float,
    width: float,
) -> Floats | None:
    """Return the significance of each source of a pair, None if it is none."""
    flux, (first, second) = two.flux[0], two.place[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        raw = one.flux[0, 0] / one.error[0, 0]
        damped = min(1.0, float((significance / raw) ** 2)) if raw > 0 else 0.0
        own = flux / two.error[0] * np.sqrt(damped)
    n = np.count_nonzero(weight)
    before, after = damped * float(one.chi2[0]), damped * float(two.chi2[0])
    counts = (
        bool(np.isfinite(own).all())
        and own.min() >= threshold
        and flux.min() >= FAINTEST * flux.max()
        and CLOSEST * width <= float(np.hypot(*(first - second))) <= FARTHEST * width
        and before - after >= GAIN
        and after - n <= EXPLAINED * (before - n)
        and _are_point_like(two, weight, psf, own, max_chi2)
    )
    return own if counts else None


def _are_point_like(two: Fit, weight: Floats, psf: NDArray[Any], significance: Floats, max_chi2: float) -> bool:
    """Whether each source of a pair looks like one when the other is taken away."""
    variance = np.where(weight > 0, 1 / np.where(weight > 0, weight, 1), 1).astype(np.float32)
    mask = (weight == 0).astype(np.uint16)
    half = len(weight) // 2
    for number in (0, 1):
        left = (two.residual[0] + two.flux[0, number] * two.images[0, number, 0]).astype(np.float32)
        alone = Difference(left, variance, mask, psf.astype(np.float32), left)
        y, x = two.place[0, number : number + 1].T + half
        if not is_point_like(alone, y, x, significance[number : number + 1], max_chi2=max_chi2).all():
            return False
    return True
