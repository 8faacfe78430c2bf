"""Stamps of the stars of an image, each with its star at the centre, and their robust mean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import spatial

from astrid.image import FloatArray, MaskArray
from astrid.imaging.photometry import cut_windows
from astrid.imaging.stars import FWHM_PER_SIGMA, StarList, stellar_fwhm

Floats = NDArray[np.float64]

MIN_STARS = 3
MAX_STARS = 150
MIN_SNR = 30.0
CANDIDATES = 600  # brightest sources among which stars are told from galaxies
SAME_WIDTH = 0.15  # by which stars may differ in width over a field
CORE_FWHM = 1.5  # radius in which stars are compared with their mean
MODEL_ERROR = 0.05  # of a PSF that varies over the field


@dataclass(frozen=True, eq=False)
class StarStamps:
    """Stars cut out of an image, brightest first.

    Attributes
    ----------
    y, x : (n,) arrays
        Where each star is, in pixels of the image.
    row, column : (n,) arrays
        The pixel at the centre of ``cut``.
    cut : (n, size, size) array
        Pixels of the image.
    noise : (n, size, size) array
        Variance of ``cut``.
    bad : (n, size, size) bool array
        Masked, or near another source.
    centred : (n, size, size) array
        ``cut`` moved so that the star is at the centre of the central pixel.
    fwhm : float
        Typical width, in pixels.
    """

    y: Floats
    x: Floats
    row: Floats
    column: Floats
    cut: Floats
    noise: Floats
    bad: NDArray[np.bool_]
    centred: Floats
    fwhm: float

    def __len__(self) -> int:
        return len(self.y)

    def moved(self, dy: Floats, dx: Floats) -> StarStamps:
        """Return the same stars at places that differ by so much."""
        y, x = self.y + dy, self.x + dx
        return replace(self, y=y, x=x, centred=displaced(self.cut, self.row - y, self.column - x))


@dataclass(frozen=True, eq=False)
class RobustMean:
    """What stars have in common.

    Attributes
    ----------
    psf : (size, size) array
        Mean stamp, its core summing to one.
    flux : (n,) array
        Of each star, in units of ``psf``.
    weight : (n, size, size) array
        With which each pixel of a star, divided by its flux, counts in ``psf``; zero where it was left out.
    kept : (n,) bool array
        Stars that are like the others.
    """

    psf: Floats
    flux: Floats
    weight: Floats
    kept: NDArray[np.bool_]


def cut_stars(
    flux: FloatArray, variance: FloatArray, mask: MaskArray, stars: StarList, *, size: int, fwhm: float
) -> StarStamps:
    """Cut out the clean and bright sources that are as wide as stars: galaxies and blends are wider.

    Parameters
    ----------
    flux, variance, mask : (ny, nx) arrays
        Image.
    stars : StarList
        Of the image.
    size : int
        Side of the stamps, odd.
    fwhm : float
        Typical width of sources, in pixels.
    """
    half = size // 2
    ny, nx = flux.shape
    inside = (stars.y > half) & (stars.y < ny - 1 - half) & (stars.x > half) & (stars.x < nx - 1 - half)
    use = stars[stars.is_clean & inside & (stars.snr > MIN_SNR)][:CANDIDATES]
    widths = windowed_fwhm(flux, use, fwhm)
    stellar = np.flatnonzero(like_stars(widths))[:MAX_STARS]
    use = use[stellar]
    if len(use):
        fwhm = min(fwhm, float(np.median(widths[stellar])))
    bad = cut_windows((mask != 0).astype(np.uint8), use.y, use.x, (size, size)) > 0
    bad |= _neighbours(use, stars, size, radius=1.5 * fwhm)
    whole = np.asarray(~(bad & within(size, CORE_FWHM * fwhm)).any(axis=(1, 2)), bool)
    use, bad = use[whole], bad[whole]
    cut = cut_windows(flux, use.y, use.x, (size, size)).astype(np.float64)
    noise = cut_windows(variance, use.y, use.x, (size, size)).astype(np.float64)
    row, column = np.rint(use.y), np.rint(use.x)
    return StarStamps(use.y, use.x, row, column, cut, noise, bad, displaced(cut, row - use.y, column - use.x), fwhm)


def like_stars(fwhm: Floats) -> NDArray[np.bool_]:
    """Return which of some bright sources are as wide as stars; of fewer than three nobody can tell."""
    if len(fwhm) < MIN_STARS:
        return np.ones(len(fwhm), bool)
    width = stellar_fwhm(fwhm)
    off = np.abs(fwhm - width)
    near = off[off < 2 * SAME_WIDTH * width]
    spread = 1.4826 * float(np.median(near)) if len(near) else 0.0
    return np.asarray(off < np.clip(3 * spread, SAME_WIDTH * width, 2 * SAME_WIDTH * width), bool)


def windowed_fwhm(flux: FloatArray, stars: StarList, fwhm: float) -> Floats:
    """Return the widths of sources, by their second moments in a Gaussian window, that of stars being the same for all.

    The FWHM of the Gaussian that has these moments; what does not end within the window is as wide as ten of them.
    """
    sigma = fwhm / FWHM_PER_SIGMA
    half = int(np.ceil(3 * sigma))
    offsets = np.arange(-half, half + 1)
    light = cut_windows(flux, stars.y, stars.x, (2 * half + 1, 2 * half + 1)).astype(np.float64)
    down, across = (offsets - (at - np.rint(at))[:, None] for at in (stars.y, stars.x))
    r2 = down[:, :, None] ** 2 + across[:, None, :] ** 2
    light *= np.exp(-0.5 * r2 / sigma**2)
    moment = (light * r2).sum(axis=(1, 2)) / (2 * np.maximum(light.sum(axis=(1, 2)), 1e-30))
    inverse = 1 / np.maximum(moment, 1e-3) - 1 / sigma**2
    return np.asarray(FWHM_PER_SIGMA / np.sqrt(np.maximum(inverse, 0.01 / sigma**2)))


def within(size: int, radius: float) -> NDArray[np.bool_]:
    """Return which pixels of a stamp lie within a radius of its centre."""
    offsets = np.arange(size) - size // 2
    return np.asarray(np.hypot(offsets[:, None], offsets[None, :]) <= radius, bool)


def displaced(stamps: Floats, dy: Floats, dx: Floats) -> Floats:
    """Return stamps moved by fractions of a pixel, in Fourier space."""
    shape = stamps.shape[1:]
    ramp_y = np.exp(-2j * np.pi * dy[:, None] * np.fft.fftfreq(shape[0]))
    ramp_x = np.exp(-2j * np.pi * dx[:, None] * np.fft.rfftfreq(shape[1]))
    hat = np.fft.rfft2(stamps) * ramp_y[:, :, None] * ramp_x[:, None, :]
    return np.fft.irfft2(hat, shape)


def slopes(psf: Floats) -> Floats:
    """Return the derivatives of a stamp in y and x, (2, size, size), taken in Fourier space."""
    ky, kx = (2j * np.pi * np.fft.fftfreq(n) for n in psf.shape)
    hat = np.fft.fft2(psf)
    return np.stack([np.fft.ifft2(hat * ky[:, None]).real, np.fft.ifft2(hat * kx).real])


def centroid(psf: Floats, fwhm: float) -> tuple[float, float]:
    """Return where the centre (y, x) of a stamp lies, as `astrid.imaging.stars` finds that of a star.

    It is the centroid in a Gaussian window as wide as a star that is centred on it.
    """
    offsets = np.arange(psf.shape[0]) - psf.shape[0] // 2
    at = np.zeros(2)
    for _ in range(10):
        down, across = (np.exp(-0.5 * ((offsets - middle) * FWHM_PER_SIGMA / fwhm) ** 2) for middle in at)
        light = psf * down[:, None] * across
        total = light.sum()
        at += 2 * np.array([light.sum(axis=1) @ (offsets - at[0]), light.sum(axis=0) @ (offsets - at[1])]) / total
    return float(at[0]), float(at[1])


def centred_on(mean: RobustMean, seen: StarStamps) -> StarStamps:
    """Return stars whose places are those at which their mean fits best, neighbours left out."""
    core = within(mean.psf.shape[0], CORE_FWHM * seen.fwhm)
    parts = np.concatenate([mean.psf[None], slopes(mean.psf)])[:, core]
    weight = np.where(seen.bad, 0, 1 / _softened(seen.noise, mean.flux, mean.psf))[:, core]
    normal = np.einsum("ip,sp,jp->sij", parts, weight, parts, optimize=True)
    right = np.einsum("ip,sp,sp->si", parts, weight, seen.centred[:, core], optimize=True)
    scale, down, across = np.linalg.solve(normal, right[..., None])[..., 0].T
    steps = (np.clip(-part / np.where(scale > 0, scale, np.inf), -0.5, 0.5) for part in (down, across))
    return seen.moved(*steps)


def robust_mean(seen: StarStamps) -> RobustMean:
    """Average stars by inverse variance, without pixels and stars far from the mean; no star counts for many."""
    stamps, noise, core = seen.centred, seen.noise, within(seen.centred.shape[1], CORE_FWHM * seen.fwhm)
    total = stamps[:, core].sum(axis=1)
    psf = np.median(stamps / total[:, None, None], axis=0)
    kept, good = np.ones(len(stamps), bool), ~seen.bad
    for _ in range(4):
        weight = good * np.where(core, psf, 0) / noise
        total = (stamps * weight).sum(axis=(1, 2)) / np.maximum((psf * weight).sum(axis=(1, 2)), 1e-12)
        residual = stamps - total[:, None, None] * psf
        variance = _softened(noise, total, psf)
        good = ~seen.bad & (residual**2 < 25 * variance)
        chi2 = np.where(core, residual**2 / variance, 0).sum(axis=(1, 2)) / core.sum()
        middle = np.median(chi2[kept])
        kept = (total > 0) & (chi2 < max(4 * middle, 2.0))
        if kept.sum() < MIN_STARS:
            kept = total > 0
        weight = total[:, None, None] ** 2 * (kept[:, None, None] & good) / variance
        psf = weighted(stamps, total, weight)
        psf /= psf[core].sum()
    return RobustMean(psf, total, weight, kept)


def weighted(stamps: Floats, flux: Floats, weight: Floats) -> Floats:
    """Return the mean of stamps that are divided by their fluxes."""
    scaled = (stamps / np.where(flux > 0, flux, np.inf)[:, None, None] * weight).sum(axis=0)
    return np.asarray(scaled / np.maximum(weight.sum(axis=0), 1e-30))


def _softened(noise: Floats, flux: Floats, psf: Floats) -> Floats:
    """Return the variance of stamps as realisations of a mean: that varies over the field, by a few per cent."""
    return np.asarray(noise + (MODEL_ERROR * flux[:, None, None] * psf) ** 2)


def _neighbours(use: StarList, stars: StarList, size: int, radius: float) -> NDArray[np.bool_]:
    """Return the pixels of each star's stamp that lie near another source."""
    half = size // 2
    covered = np.zeros((len(use), size, size), bool)
    if not len(use):
        return covered
    offsets = np.arange(size) - half
    tree = spatial.cKDTree(np.column_stack([stars.y, stars.x]))
    near = np.asarray(tree.query_ball_point(np.column_stack([use.y, use.x]), half * 1.5 + radius), object)
    for i, others in enumerate(near):
        row, column = np.rint(use.y[i]), np.rint(use.x[i])
        for j in others:
            dy, dx = stars.y[j] - row, stars.x[j] - column
            if np.hypot(stars.y[j] - use.y[i], stars.x[j] - use.x[i]) > 1.0:
                covered[i] |= np.hypot(offsets[:, None] - dy, offsets[None, :] - dx) < radius
    return covered
