"""The point-spread function of an image, measured from its stars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.image import FloatArray, MaskArray, psf_at
from astrid.imaging.photometry import cut_windows, equivalent_fwhm, shifted_psfs
from astrid.imaging.psffield import UNKNOWN, PsfQuality, fit_psf_field, judge_psf
from astrid.imaging.stars import StarList
from astrid.imaging.starstamps import MIN_STARS, centred_on, centroid, cut_stars, robust_mean

MOFFAT_BETA = 3.5
SAME_GRID = 0.05  # px by which the edge of a PSF may be displaced without being resampled
WING_ORDERS = (1, 2, 3, 4)  # of the angle, as which wings may vary
FEWEST_WING_PIXELS = 60
ROUNDS = 3
TAPER = 0.85  # of the radius: from here the PSF goes smoothly to zero


@runtime_checkable
class PsfModel(Protocol):
    """A PSF that may vary over the image."""

    @property
    def origin(self) -> str:
        """Where it came from."""

    def at(self, y: float, x: float) -> FloatArray:
        """Return the PSF, odd-sided and summing to one, at a position in pixels."""


@dataclass(frozen=True, eq=False)
class ConstantPsf:
    """One PSF for the whole image.

    Attributes
    ----------
    psf : (py, px) float32 array
        Summing to one.
    origin : str
        "stars (n)", "moffat" or "supplied".
    uncertainty : float
        Relative error of its peak.
    quality : PsfQuality
        On stars it was not made from.
    """

    psf: FloatArray
    origin: str
    uncertainty: float = 0.0
    quality: PsfQuality = UNKNOWN

    @property
    def terms(self) -> None:
        """It does not vary."""

    def at(self, y: float, x: float) -> FloatArray:
        """Return the PSF, which is the same everywhere."""
        return self.psf


@dataclass(frozen=True, eq=False)
class VaryingPsf:
    """A PSF whose shape changes over the image as polynomials of the place; see `astrid.imaging.psffield`.

    Attributes
    ----------
    psf : (py, px) float32 array
        Mean over the image, summing to one.
    terms : (5, py, px) float32 array
        What it changes by with each of `astrid.image.field_terms`, summing to zero.
    shape : (int, int)
        Of the image.
    origin : str
        "stars (n, order m)".
    uncertainty : float
        Relative error of its peak.
    quality : PsfQuality
        On stars it was not made from.
    """

    psf: FloatArray
    terms: FloatArray
    shape: tuple[int, ...]
    origin: str
    uncertainty: float = 0.0
    quality: PsfQuality = UNKNOWN

    def at(self, y: float, x: float) -> FloatArray:
        """Return the PSF at a place; beyond the edges of the image that of the nearest edge."""
        return np.asarray(psf_at(self.psf, self.terms, y, x, self.shape)[0])


def measure_psf(
    flux: FloatArray,
    variance: FloatArray,
    mask: MaskArray,
    stars: StarList,
    *,
    size: int,
    fwhm: float,
    vary: bool = False,
) -> ConstantPsf | VaryingPsf:
    """Measure the PSF from the clean stars of an image.

    Each star's stamp is moved in Fourier space to where the mean fits it best, divided by its flux
    and averaged by inverse variance; pixels and stars far from the mean are
    rejected. In the wings, where one pixel is all noise, the mean over a ring takes
    over, times how the rings vary with the angle. With fewer than three stars it is a Moffat profile of
    the given width.

    Parameters
    ----------
    flux, variance, mask : (ny, nx) arrays
        Image.
    stars : StarList
        Of the image.
    size : int
        Side of the PSF, odd.
    fwhm : float
        Width for the fall-back, in pixels.
    vary : bool
        Whether to let it vary over the image, where held-out stars are then described better.

    Returns
    -------
    ConstantPsf or VaryingPsf
        (size, size), its origin says from how many stars, and if it varies.

    Raises
    ------
    ValueError
        If ``size`` is even or below 9.
    """
    if size % 2 == 0 or size < 9:
        raise ValueError(f"psf_size must be odd and at least 9, got {size}")
    seen = cut_stars(flux, variance, mask, stars, size=size, fwhm=fwhm)
    if len(seen) < MIN_STARS:
        return ConstantPsf(moffat(size, fwhm), f"moffat ({len(seen)} stars)", 0.1)
    seen = centred_on(robust_mean(seen), seen)
    dy, dx = centroid(robust_mean(seen).psf, seen.fwhm)  # their mean is at the place that is theirs by definition
    seen = seen.moved(np.full(len(seen), dy), np.full(len(seen), dx))
    mean, half = robust_mean(seen), size // 2
    psf = _smooth_wings(mean.psf, seen.fwhm)
    n = int(mean.kept.sum())
    scatter = np.std(seen.centred[mean.kept][:, half, half] / mean.flux[mean.kept]) / np.sqrt(n)
    uncertainty = float(scatter / max(mean.psf[half, half], 1e-6))
    field = fit_psf_field(seen, mean, psf.astype(np.float64), flux.shape, vary=vary)
    if field.terms is None:
        origin = f"stars ({n})" if not vary else f"stars ({n}, constant)"
        return ConstantPsf(psf, origin, uncertainty, field.quality)
    whole = np.asarray(field.psf / field.psf.sum(), np.float32)
    return VaryingPsf(whole, field.terms, flux.shape, f"stars ({n}, order {field.order})", uncertainty, field.quality)


def judged(
    psf: FloatArray, flux: FloatArray, variance: FloatArray, mask: MaskArray, stars: StarList, *, fwhm: float
) -> PsfQuality:
    """Return how well a PSF that came with an image describes its stars; with fewer than three nothing is known."""
    seen = cut_stars(flux, variance, mask, stars, size=psf.shape[0], fwhm=fwhm)
    if len(seen) < MIN_STARS:
        return UNKNOWN
    return judge_psf(seen, robust_mean(seen), psf.astype(np.float64))


def moffat(size: int, fwhm: float, beta: float = MOFFAT_BETA) -> FloatArray:
    """Return a round Moffat profile, integrated over pixels and summing to one."""
    over = 5
    y, x = np.indices((size * over, size * over)) - (size * over - 1) / 2
    radius = np.hypot(y, x) / over
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    fine = (1 + (radius / alpha) ** 2) ** -beta
    coarse = fine.reshape(size, over, size, over).sum(axis=(1, 3))
    return np.asarray(coarse / coarse.sum(), np.float32)


def resized(psf: FloatArray, size: int) -> FloatArray:
    """Cut or pad an odd-sided PSF to a side, keeping its centre and the sum of one."""
    out = np.zeros((size, size), np.float32)
    cut = [min(size, n) // 2 for n in psf.shape]
    middle = [n // 2 for n in psf.shape]
    half = size // 2
    out[half - cut[0] : half + cut[0] + 1, half - cut[1] : half + cut[1] + 1] = psf[
        middle[0] - cut[0] : middle[0] + cut[0] + 1, middle[1] - cut[1] : middle[1] + cut[1] + 1
    ]
    return np.asarray(out / out.sum(), np.float32)


def transformed(psf: FloatArray, matrix: NDArray[np.float64], size: int) -> FloatArray:
    """Turn and scale a PSF about its centre: from the grid of a detector to that of a tile.

    Parameters
    ----------
    psf : (py, px) array
        Odd-sided, on the pixels of the detector.
    matrix : (2, 2) array
        Turns a step (dy, dx) on the tile into a step on the detector.
    size : int
        Side of the result, odd.

    Returns
    -------
    (size, size) float32 array
        Summing to one; the PSF as it is, cut or padded, where the two grids differ by less than
        `SAME_GRID` of a pixel at its edge.

    Examples
    --------
    >>> psf = np.zeros((11, 11), np.float32)
    >>> psf[5, 8] = 1.0
    >>> quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> [int(i) for i in np.argwhere(transformed(psf, quarter, 11) > 0.5)[0]]
    [8, 5]
    """
    half = size // 2
    if np.abs(matrix - np.eye(2)).sum(axis=1).max() * half < SAME_GRID:
        return resized(psf, size)
    y, x = np.indices((size, size)) - half
    middle = np.array(psf.shape) // 2
    at = np.tensordot(np.asarray(matrix, float), np.stack([y, x]), axes=1) + middle[:, None, None]
    out = ndimage.map_coordinates(np.asarray(psf, np.float64), at, order=3, mode="constant")
    return np.asarray(out / out.sum(), np.float32)


def psf_fwhm(psf: NDArray[np.floating]) -> float:
    """Return the FWHM, in pixels, of the Gaussian with a PSF's noise-equivalent area."""
    return equivalent_fwhm(psf)


def _smooth_wings(psf: NDArray[np.float64], fwhm: float) -> FloatArray:
    """Blend into ring means outside the core, taper to zero, and make the sum one."""
    half = psf.shape[0] // 2
    y, x = np.indices(psf.shape) - half
    radius = np.hypot(y, x)
    ring = np.minimum(np.rint(radius).astype(int), half)
    rings = [psf[ring == r] for r in range(half + 1)]
    floor = float(np.median(np.concatenate(rings[int(0.8 * half) :])))  # what is left of the background
    level = np.array([np.median(values) - floor for values in rings])
    error = np.array([1.25 * np.std(values) / np.sqrt(len(values)) for values in rings])
    faint = np.flatnonzero((level < 3 * error) & (np.arange(half + 1) > 1.5 * fwhm))
    if len(faint):  # noise from here on: the wing falls as a Moffat profile does
        last = faint[0] - 1
        radii = np.arange(last, half + 1)
        level[last:] = max(level[last], 0) * (radii / last) ** (-2 * MOFFAT_BETA)
    profile = np.interp(radius, np.arange(half + 1), np.minimum.accumulate(np.maximum(level, 0)))
    seen = (radius > fwhm) & (radius < (faint[0] if len(faint) else TAPER * half)) & (profile > 0)
    profile *= _angular_variation(psf - floor, profile, seen, np.arctan2(y, x))
    blend = np.clip((radius - 1.5 * fwhm) / max(fwhm, 1.0), 0, 1)
    smooth = (1 - blend) * (psf - floor) + blend * profile
    smooth = smooth * np.clip((half - radius) / ((1 - TAPER) * half), 0, 1)
    return np.asarray(smooth / smooth.sum(), np.float32)


def _angular_variation(
    psf: NDArray[np.float64], profile: NDArray[np.float64], seen: NDArray[np.bool_], angle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how the wings of a PSF vary with the angle: what stands out of the noise, alike at all radii.

    Wings of an elliptical PSF that fall as a power of the radius are a ring profile times the exponential of a sine.
    """
    if np.count_nonzero(seen) < FEWEST_WING_PIXELS:
        return np.ones_like(profile)
    waves = np.stack([wave(m * angle) for m in WING_ORDERS for wave in (np.cos, np.sin)])
    waves_seen, found = waves[:, seen], np.zeros(len(waves))
    for _ in range(ROUNDS):
        model = profile[seen] * np.exp(np.clip(found @ waves_seen, -1, 1))
        design = (waves_seen * model).T
        inverse = np.linalg.inv(design.T @ design)
        step = inverse @ (design.T @ (psf[seen] - model))
        found += step
    noise = 1.4826 * np.median(np.abs(psf[seen] - model))
    found[np.abs(found) < 3 * noise * np.sqrt(np.diag(inverse))] = 0.0
    factor: NDArray[np.float64] = np.exp(np.clip(np.tensordot(found, waves, axes=1), -1, 1))
    return factor


def fit_fluxes(
    flux: FloatArray, mask: MaskArray, psf: FloatArray, stars: StarList
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return fluxes by PSF fit, the residual stamps and the model stamps of stars."""
    p = shifted_psfs(psf, stars.y, stars.x)
    data = cut_windows(flux, stars.y, stars.x, psf.shape).astype(np.float64)
    good = cut_windows((mask == 0).astype(np.uint8), stars.y, stars.x, psf.shape) > 0
    total = (data * p * good).sum(axis=(1, 2)) / np.maximum((p**2 * good).sum(axis=(1, 2)), 1e-12)
    model = total[:, None, None] * p
    return total, np.where(good, data - model, np.nan), model
