"""What is measured of a difference of which everything is known."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.detection.matched_filter import find_peaks
from astrid.image import Difference, Image
from astrid.imaging.background import clipped_std
from astrid.imaging.photometry import equivalent_fwhm, psf_flux
from astrid.imaging.psf import measure_psf
from astrid.imaging.psffield import with_local_psf
from astrid.imaging.stars import find_stars
from astrid.subtraction import Subtractor
from astrid.subtraction.calibration import subtract_calibrated
from benchmarks.quality.scenes import PSF_SIDE, Scene

STAR_SNR = 100.0  # of bright stars
NEAR = 4.0  # px within which a peak is a transient
MATCH = 3.0
AWAY = 8  # px from a source


@dataclass(frozen=True)
class Quality:
    """Figures of one difference.

    Attributes
    ----------
    width : float
        Robust standard deviation of the score away from sources.
    efficiency, efficiency_on_galaxies : float
        Median S/N of transients over that of the best statistic, of those above 8.
    completeness : float
        Of those the best statistic sees at 5 and more.
    false_positive, false_negative : float
        Peaks of 5 sigma that are no transient, per megapixel of unmasked pixels, by sign.
    near_stars : float
        The part of both within 10 px of a bright star, per megapixel.
    star_median, star_95 : float
        Absolute score at bright stars; 0.674 and 1.96 for noise alone.
    n_stars : int
        How many of these.
    flux_bias : float
        Median of measured over true flux of transients above 8, less one.
    masked : float
        Share of the pixels that are masked in the difference and in neither image.
    cpu_s : float
        Of the subtraction.
    """

    width: float
    efficiency: float
    efficiency_on_galaxies: float
    completeness: float
    false_positive: float
    false_negative: float
    near_stars: float
    star_median: float
    star_95: float
    n_stars: int
    flux_bias: float
    masked: float
    cpu_s: float

    def as_dict(self) -> dict[str, float]:
        """Return plain values."""
        return {name: float(value) for name, value in asdict(self).items()}


def with_measured_psf(image: Image) -> Image:
    """Return an image with the PSF that its own stars give."""
    sky = float(np.percentile(image.variance[image.mask == 0], 5))
    filled = np.nan_to_num(image.flux)
    stars = find_stars(filled, np.full_like(filled, np.sqrt(sky)), image.mask)
    seen = stars.fwhm[stars.is_clean & (stars.snr > 30)]
    width = float(np.median(seen))
    measured = measure_psf(filled, image.variance, image.mask, stars, size=PSF_SIDE, fwhm=width, vary=True)
    return replace(image, psf=measured.psf, psf_terms=measured.terms)


def measure(scene: Scene, method: Subtractor) -> Quality:
    """Subtract a scene with the PSFs that its stars give, and compare with what is there."""
    science, template = with_measured_psf(scene.science), with_measured_psf(scene.template)
    started = time.process_time()
    difference, _ = subtract_calibrated(method, science, template)
    return judge(scene, with_local_psf(difference, science), time.process_time() - started)


def judge(scene: Scene, difference: Difference, cpu_s: float) -> Quality:
    """Compare a difference with what is there."""
    score, good = difference.significance, difference.mask == 0
    free = good & ~_near_sources(scene, good.shape)
    pixels = np.rint(scene.y).astype(int), np.rint(scene.x).astype(int)
    seen = good[pixels]
    at = ndimage.map_coordinates(score, [scene.y, scene.x], order=3)
    strong = seen & (scene.best_snr > 8)
    ratio = at / scene.best_snr
    peaks = {sign: find_peaks(sign * score, ~good, threshold=5.0) for sign in (1.0, -1.0)}
    megapixels = float(good.sum()) / 1e6
    false = {sign: found[~_is_near(found, scene.y, scene.x, NEAR)] for sign, found in peaks.items()}
    wanted = seen & (scene.best_snr >= 5)
    found_at = peaks[1.0]
    recovered = _is_near(np.column_stack([scene.y, scene.x]), found_at[:, 0], found_at[:, 1], MATCH)
    bright, star_y, star_x = _bright_stars(scene, good)
    residual = np.abs(ndimage.map_coordinates(score, [star_y, star_x], order=3))
    psfs = difference.psf_at(scene.y, scene.x)
    fit = psf_flux(difference.flux, difference.variance, difference.mask, psfs, scene.y, scene.x)
    all_false = np.concatenate([false[1.0], false[-1.0]])
    inputs = (scene.science.mask | scene.template.mask) == 0
    return Quality(
        width=float(clipped_std(score[free])),
        efficiency=float(np.median(ratio[strong])),
        efficiency_on_galaxies=float(np.median(ratio[strong & scene.on_galaxy])),
        completeness=float(recovered[wanted].mean()),
        false_positive=len(false[1.0]) / megapixels,
        false_negative=len(false[-1.0]) / megapixels,
        near_stars=float(_is_near(all_false, scene.star_y[bright], scene.star_x[bright], 10.0).sum()) / megapixels,
        star_median=float(np.median(residual)),
        star_95=float(np.percentile(residual, 95)),
        n_stars=len(residual),
        flux_bias=float(np.median(fit.flux[strong] / scene.flux[strong]) - 1),
        masked=float((inputs & ~good).mean()),
        cpu_s=cpu_s,
    )


def _bright_stars(
    scene: Scene, good: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return which stars are bright, and the places of those on unmasked pixels away from transients."""
    area = 4 * np.pi * (equivalent_fwhm(scene.science.psf) / 2.355) ** 2
    sky = float(np.percentile(scene.science.variance, 5))
    bright = scene.star_flux / np.sqrt(sky * area + scene.star_flux) > STAR_SNR
    ny, nx = good.shape
    inside = (scene.star_y > 20) & (scene.star_y < ny - 21) & (scene.star_x > 20) & (scene.star_x < nx - 21)
    y, x = scene.star_y[bright & inside], scene.star_x[bright & inside]
    keep = good[np.rint(y).astype(int), np.rint(x).astype(int)]
    keep &= ~_is_near(np.column_stack([y, x]), scene.y, scene.x, 12.0)
    return bright, y[keep], x[keep]


def _near_sources(scene: Scene, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels near what is above the noise of the template, or a transient."""
    light = ndimage.gaussian_filter(np.nan_to_num(scene.template.flux), 1.0)
    sky = float(np.percentile(scene.template.variance, 5))
    source = light > 1.0 * np.sqrt(sky)
    source[scene.template.mask != 0] = True
    for y, x in zip(np.rint(scene.y).astype(int), np.rint(scene.x).astype(int), strict=True):
        source[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = True
    return ndimage.binary_dilation(source, iterations=AWAY) if source.mean() < 0.2 else source


def _is_near(
    points: NDArray[np.floating] | NDArray[np.intp], y: NDArray[np.float64], x: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    if not len(points) or not len(y):
        return np.zeros(len(points), bool)
    return np.asarray(np.hypot(points[:, :1] - y, points[:, 1:] - x).min(axis=1) <= radius, bool)
