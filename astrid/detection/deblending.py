"""Close sources are parted, and their fluxes told apart, by joint fits of PSFs: Stetson 1987 (ADS 1987PASP...99..191S).

Two sources closer than about 1.2 FWHM make one peak of the score, and up to some 3 FWHM each raises the other's flux.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from astrid.detection.pairs import CLOSEST, FAINTEST, FARTHEST, Pair, pairs_at
from astrid.image import Difference
from astrid.imaging.photometry import PsfFlux, cut_windows, equivalent_fwhm, shifted_psfs

Floats = NDArray[np.float64]

BLENDED = 1.4  # times the threshold, what two sources together reach at least
REACH = 3.0  # FWHM within which sources raise each other's flux


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

    Tried where the peak's own light, taken from the score, leaves another peak, and the score test (Rao 1948, ADS
    1948PCPS...44...50R) says that a second source may gain enough. A pair counts if both sources reach the
    threshold with one sign, lie 0.6 to 2.5 FWHM apart, the fainter has a tenth of the brighter's flux, each looks
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
    found = pairs_at(difference, y[some], x[some], significance[some], threshold, max_chi2, width)
    for i, pair in zip(some, found, strict=True):
        if gone[i] or pair is None:
            continue
        near = np.hypot(y[:, None] - pair.y, x[:, None] - pair.x).min(axis=1) < CLOSEST * width
        near &= ~gone & (np.sign(significance) == np.sign(significance[i]))
        near[i] = True
        if any(np.hypot(pair.y[:, None] - one.y, pair.x[:, None] - one.x).min() < CLOSEST * width for one in pairs):
            continue
        gone |= near
        pairs.append(pair)
    out = [np.concatenate([values[~gone], *(getattr(pair, name) for pair in pairs)]) for name, values in
           (("y", y), ("x", x), ("significance", significance))]  # fmt: skip
    parted = np.arange(len(out[0])) >= np.count_nonzero(~gone)
    order = np.argsort(-np.abs(out[2]), kind="stable")
    return out[0][order], out[1][order], out[2][order], parted[order]


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
