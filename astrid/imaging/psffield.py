"""How the point-spread function varies over an image, and how well it describes stars it was not made from.

The PSF at a place is the mean one plus a few changes of its shape, whose amounts are polynomials of the place. The
changes are those that optics and atmosphere make to first order: a stretch or a shear of the PSF (focus, distortion),
and a convolution with a narrow kernel (seeing, tracking: its second derivatives, cf. Alard & Lupton 1998, ApJ 503,
325). On simulated fields these six describe a varying Moffat up to twice as well as as many principal components of
the stars or a polynomial in each pixel: they bring no noise, and change the wings as they change the core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from astrid.image import Difference, FloatArray, Image, field_terms
from astrid.imaging.starstamps import CORE_FWHM, RobustMean, StarStamps, slopes, weighted, within

Floats = NDArray[np.float64]

REACH_FWHM = 2.0  # radius in which stars tell of the shape of the PSF
N_TERMS = (1, 3, 6)  # of polynomials of order 0, 1 and 2
LARGEST_LEVERAGE = 1.0  # of the stars on a corner of the field: it is known as well as from a star of its own
PRIOR = 0.2  # usual relative change of the width
MODEL_ERROR = 0.01  # of a star, beyond what six changes describe: no single star decides
OUTLIER = 9.0  # times the median chi-squared
FOLDS = 5
CONVINCING = 2.0  # standard errors by which held-out stars must fit better
LARGEST_VOICE = 25.0  # of chi-squared that one star may gain or lose


@dataclass(frozen=True)
class PsfQuality:
    """How well a PSF describes stars that it was not made from.

    Attributes
    ----------
    error : float
        Root mean square of what the PSF leaves of a star beyond the noise, over that of the star itself, within two
        FWHM; of the median star among the brighter half. Zero where it is below the noise, NaN without stars.
    chi2 : float
        Median reduced chi-squared of the stars.
    n_stars : int
        How many there were.
    """

    error: float = float("nan")
    chi2: float = float("nan")
    n_stars: int = 0


UNKNOWN = PsfQuality()


@dataclass(frozen=True, eq=False)
class PsfField:
    """What stars say of a PSF over an image.

    Attributes
    ----------
    psf : (size, size) array
        Its mean over the image.
    terms : (5, size, size) float32 array or None
        What changes with each of `astrid.image.field_terms`; None for one and the same PSF.
    order : int
        Of the polynomials, 0 to 2.
    quality : PsfQuality
        On held-out stars.
    """

    psf: Floats
    terms: FloatArray | None
    order: int
    quality: PsfQuality


def fit_psf_field(
    seen: StarStamps, mean: RobustMean, psf: Floats, shape: tuple[int, ...], *, vary: bool = True
) -> PsfField:
    """Fit how a PSF varies, to the highest order that held-out stars support.

    Each order is fitted to four fifths of the stars and compared with the last fifth, five times. It is taken if these
    fit better than with the order before by three standard errors, and only where every corner of the field is
    known as well as from a star of its own.

    Parameters
    ----------
    seen : StarStamps
        Stars of the image, centred.
    mean : RobustMean
        Of the stars.
    psf : (size, size) array
        The mean PSF as it will be used: with smooth wings, summing to one.
    shape : (int, int)
        Of the image.
    vary : bool
        Whether to look for variation at all.
    """
    kept = np.flatnonzero(mean.kept)
    fold = np.zeros(len(seen), int)
    fold[kept] = np.arange(len(kept)) % FOLDS
    places = np.column_stack([np.ones(len(seen)), field_terms(seen.y, seen.x, shape)])
    orders = [0, *(order for order in (1, 2) if vary and _is_supported(places[kept], order))]
    folds = range(min(FOLDS, len(kept)))
    changes = shape_changes(psf)
    without = [_Stars(seen, mean, _without(psf, mean, seen, fold == k), changes) for k in folds]
    best, best_chi2, amounts = 0, np.full(len(seen), np.nan), np.zeros((len(seen), len(changes)))
    for order in orders:
        of_star = np.zeros_like(amounts)
        chi2 = np.full(len(seen), np.nan)
        for k, stars in enumerate(without):
            if order:
                found = stars.fitted(places[:, : N_TERMS[order]], mean.kept & (fold != k))
                of_star[fold == k] = (places[:, : N_TERMS[order]] @ found.T)[fold == k]
            chi2[fold == k] = stars.chi2(of_star)[fold == k]
        if order == 0 or _is_better(chi2[kept], best_chi2[kept]):
            best, best_chi2, amounts = order, chi2, of_star
    parts = [stars.excess(amounts) for stars in without]
    excess, reduced = (np.choose(fold, [part[i] for part in parts]) for i in (0, 1))
    quality = _quality(excess[kept], reduced[kept])
    if best == 0:
        return PsfField(psf, None, 0, quality)
    found = _Stars(seen, mean, psf, changes).fitted(places[:, : N_TERMS[best]], mean.kept)
    by_term = np.tensordot(found.T, changes, axes=1)
    terms = np.zeros((N_TERMS[2] - 1, *psf.shape), np.float32)
    terms[: len(by_term) - 1] = by_term[1:]
    return PsfField(psf + by_term[0], terms, best, quality)


def judge_psf(seen: StarStamps, mean: RobustMean, psf: Floats) -> PsfQuality:
    """Compare stars with a PSF that was not made from them."""
    excess, reduced = _Stars(seen, mean, psf, shape_changes(psf)).excess(None)
    return _quality(excess[mean.kept], reduced[mean.kept])


def shape_changes(psf: Floats) -> Floats:
    """Return six first-order changes of the shape of a PSF, (6, size, size), each summing to zero.

    Its curvatures (round, along the axes, diagonal), times the squared FWHM over 8 ln 2, and stretches by a
    common factor, by opposite ones along the axes, and along the diagonals. Each is cut off smoothly at the edge.
    """
    half = psf.shape[0] // 2
    y, x = np.indices(psf.shape) - half
    down, across = slopes(psf)
    (yy, yx), (_, xx) = slopes(down), slopes(across)
    width2 = 1 / (4 * np.pi * (psf**2).sum())  # squared sigma of the Gaussian with the same noise-equivalent area
    curved = width2 * np.stack([yy + xx, yy - xx, 2 * yx])
    stretched = np.stack([2 * psf + y * down + x * across, y * down - x * across, y * across + x * down])
    changes = np.concatenate([curved, stretched]) * np.clip((half - np.hypot(y, x)) / (0.15 * half), 0, 1)
    return np.asarray(changes - changes.sum(axis=(1, 2))[:, None, None] * psf)


def with_local_psf(difference: Difference, science: Image) -> Difference:
    """Return a difference whose PSF varies as that of its science image."""
    if science.psf_terms is None:
        return difference
    return replace(difference, psf_terms=carried_terms(difference.psf, science.psf, science.psf_terms))


def carried_terms(psf_difference: FloatArray, psf: FloatArray, terms: FloatArray) -> FloatArray:
    """Return how the PSF of a difference varies because that of its science image does.

    What makes the one of the other, a convolution, makes the terms of the one of those of the other. A template
    is matched to the science image wherever its PSF varies, so that it is the same for what has faded.

    Parameters
    ----------
    psf_difference : (qy, qx) array
        Mean PSF of the difference.
    psf : (py, px) array
        Mean PSF of the science image.
    terms : (5, py, px) array
        Of the science image.
    """
    side = 2 * max(*psf_difference.shape, *psf.shape)
    of_psf = np.fft.rfft2(_wrapped(psf[None], side))
    of_difference = np.fft.rfft2(_wrapped(psf_difference[None], side))
    change = of_difference * of_psf.conj() / (np.abs(of_psf) ** 2 + 1e-6)
    made = np.fft.irfft2(np.fft.rfft2(_wrapped(terms, side)) * change, (side, side))
    ny, nx = psf_difference.shape
    made = np.roll(made, (ny // 2, nx // 2), axis=(1, 2))[:, :ny, :nx]
    return np.asarray(made - made.sum(axis=(1, 2))[:, None, None] * psf_difference, np.float32)


def _wrapped(stamps: NDArray[np.floating], side: int) -> Floats:
    """Return stamps on a larger grid whose first pixel is their centre."""
    out = np.zeros((len(stamps), side, side))
    out[:, : stamps.shape[1], : stamps.shape[2]] = stamps
    return np.roll(out, (-(stamps.shape[1] // 2), -(stamps.shape[2] // 2)), axis=(1, 2))


class _Stars:
    """Stars as sums of a PSF, its displacements and changes of its shape: one small linear system for each star."""

    def __init__(self, seen: StarStamps, mean: RobustMean, psf: Floats, changes: Floats) -> None:
        reach = within(len(psf), REACH_FWHM * seen.fwhm)
        core = (psf / psf.sum())[reach]
        self.flux = np.maximum(mean.flux, 1e-12) * psf.sum() / psf[within(len(psf), CORE_FWHM * seen.fwhm)].sum()
        self.parts = np.concatenate([psf[None], slopes(psf), changes])[:, reach]
        self.noise, self.good = seen.noise[:, reach], ~seen.bad[:, reach]
        self.data = seen.centred[:, reach] / self.flux[:, None]
        variance = self.noise / self.flux[:, None] ** 2 + (MODEL_ERROR * core) ** 2
        self.weight = self.good / variance
        left = self.data - self.parts[0]
        normal = np.einsum("ip,sp,jp->sij", self.parts, self.weight, self.parts, optimize=True)
        right = np.einsum("ip,sp,sp->si", self.parts, self.weight, left, optimize=True)
        # flux and place of each star are its own: they are solved for and taken out
        own, both = normal[:, :3, :3], np.concatenate([normal[:, :3, 3:], right[:, :3, None]], axis=2)
        solved = np.linalg.solve(own, both)
        self.normal = normal[:, 3:, 3:] - np.einsum("sij,sik->sjk", normal[:, :3, 3:], solved[..., :-1])
        self.right = right[:, 3:] - np.einsum("sij,si->sj", normal[:, :3, 3:], solved[..., -1])
        self.left = np.einsum("sp,sp,sp->s", left, self.weight, left) - (right[:, :3] * solved[..., -1]).sum(axis=1)

    def chi2(self, amounts: Floats) -> Floats:
        """Return the chi-squared of each star with amounts (n, 6) of the changes."""
        total = self.left - 2 * (amounts * self.right).sum(axis=1)
        total += np.einsum("si,sij,sj->s", amounts, self.normal, amounts)
        return np.asarray(total)

    def fitted(self, places: Floats, use: NDArray[np.bool_]) -> Floats:
        """Return the (6, terms) coefficients that describe stars best, outliers left out."""
        n, n_terms = self.right.shape[1], places.shape[1]
        prior = np.eye(n * n_terms) / PRIOR**2
        normals = np.einsum("sij,sk,sl->sikjl", self.normal, places, places, optimize=True)
        rights = np.einsum("si,sk->sik", self.right, places)
        keep, found = use, np.zeros((n, n_terms))
        for _ in range(4):
            matrix = normals[keep].sum(axis=0).reshape(n * n_terms, -1) + prior
            found = np.linalg.solve(matrix, rights[keep].sum(axis=0).ravel()).reshape(n, n_terms)
            chi2 = self.chi2(places @ found.T)
            before, keep = keep, use & (chi2 < OUTLIER * float(np.median(chi2[use])))
            if (before == keep).all():
                break
        return found

    def excess(self, amounts: Floats | None) -> tuple[Floats, Floats]:
        """Return for each star the power left beyond the noise over its own, and the reduced chi-squared."""
        model = np.zeros_like(self.data) if amounts is None else amounts @ self.parts[3:]
        left = self.data - model
        own = np.einsum("ip,sp,jp->sij", self.parts[:3], self.weight, self.parts[:3], optimize=True)
        right = np.einsum("ip,sp,sp->si", self.parts[:3], self.weight, left, optimize=True)
        left = left - np.linalg.solve(own, right[..., None])[..., 0] @ self.parts[:3]
        leverage = self.weight * np.einsum("ip,sij,jp->sp", self.parts[:3], np.linalg.inv(own), self.parts[:3])
        noise = self.noise / self.flux[:, None] ** 2
        power = (self.good * self.parts[0] ** 2).sum(axis=1)
        excess = (self.good * (left**2 - noise * (1 - leverage))).sum(axis=1) / power
        return excess, (self.good * left**2 / noise).sum(axis=1) / np.maximum(self.good.sum(axis=1) - 3, 1)


def _without(psf: Floats, mean: RobustMean, seen: StarStamps, out: NDArray[np.bool_]) -> Floats:
    """Return the mean PSF made without some stars."""
    core = within(len(psf), CORE_FWHM * seen.fwhm)
    other = weighted(seen.centred[~out], mean.flux[~out], mean.weight[~out])
    return np.asarray(psf + (other / other[core].sum() - mean.psf) * psf[core].sum())


def _is_supported(places: Floats, order: int) -> bool:
    """Return whether the stars tell of every corner of the field."""
    n = N_TERMS[order]
    if len(places) < 2 * n:
        return False
    corners = np.array([[1, v, u, v * u, 1, 1] for v in (-1, 1) for u in (-1, 1)], float)[:, :n]
    normal = places[:, :n].T @ places[:, :n]
    if np.linalg.cond(normal) > 1e8:
        return False
    return bool(np.einsum("ci,ij,cj->c", corners, np.linalg.inv(normal), corners).max() <= LARGEST_LEVERAGE)


def _is_better(chi2: Floats, before: Floats) -> bool:
    """Return whether stars fit better, and not only a few of them."""
    gain = np.clip(before - chi2, -LARGEST_VOICE, LARGEST_VOICE)
    return bool(gain.mean() > CONVINCING * gain.std() / np.sqrt(len(gain)))


def _quality(excess: Floats, reduced: Floats) -> PsfQuality:
    """Sum up stars that are sorted by brightness."""
    if not len(excess):
        return UNKNOWN
    middle = float(np.median(excess[: (len(excess) + 1) // 2]))
    return PsfQuality(float(np.sqrt(max(middle, 0.0))), float(np.median(reduced)), len(excess))
