"""Subtraction after one image is convolved with a fitted kernel that gives it the PSF of the other.

What the methods that fit a kernel share: which image is convolved, what is left of masked pixels, the noise of the
difference made white (Reiss & Lupton 2016, DMTN-021), its score and the errors of that.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.errors import AlgorithmError
from astrid.image import Difference, Image
from astrid.imaging.photometry import equivalent_fwhm
from astrid.schema import MaskBit
from astrid.subtraction.autocorrelation import noise_matrix
from astrid.subtraction.fourier import image_of, transform_mirrored, transform_stamp
from astrid.subtraction.kernels import WINGS, SpatialKernel, kernel_between, usual_half_width
from astrid.subtraction.masks import (
    CUT_REACH,
    difference_mask,
    fill_from_neighbours,
    fill_star_cores,
    good_pixels,
    mask_cut_stars,
    mask_stars_cut_by_edges,
    running_maximum,
)
from astrid.subtraction.noise import (
    bright_peaks,
    correct_edges,
    fill_variance,
    sky_variance,
)
from astrid.subtraction.score import ScoreParts, finished
from astrid.subtraction.whitening import whitening

CORE = 20.0  # sigmas of the sky about a masked core of a star
LEAST_MODEL_ERROR = 0.002  # what the median over stars cannot tell from noise
TELLING_SNR = 200.0  # of stars whose residuals tell the error of the model from noise
REJECTED_REACH = 2  # px about what a fit left out
EDGE_REACH = 1.5  # times the FWHM, how far the residual of a star goes that the edge of the image cuts
STARS_PER_ORDER = (5, 20, 60)  # as many are needed for polynomials of order 0, 1, 2
AS_SHARP = 1.15  # ratio of widths up to which a kernel can sharpen the wider image
AS_NOISY = 1.25  # ratio of variances of the sky up to which noise does not decide
SHARED = 0.7  # of their noise, by which images differ at most that share it
SOURCE_SIGMA = 10.0  # of the pixels that a fit uses, in both images
PREDICTION_SOFTENING = 1e-3  # Wiener constant of the kernel that predicts masked science pixels


@dataclass(frozen=True, eq=False)
class Pair:
    """What a kernel is fitted to: a target, and an image that is to become it.

    Attributes
    ----------
    image, target : (ny, nx) float32 arrays
        Flux, masked pixels filled.
    image_variance, target_variance : (ny, nx) float32 arrays
        Of their pixels, without noise correlation.
    good : (ny, nx) bool array
        Pixels of the target that count: good in both images, and none that the kernel brings there is masked.
    steady : (ny, nx) float32 array
        S/N, matched with the PSF, of the sources that both images hold.
    stars_y, stars_x : (n,) int arrays
        Bright stars, brightest first.
    image_hat : complex64 array
        Transform of ``image``.
    grid : (int, int)
        Of the transform.
    start : (side, side) float64 array
        Kernel that the PSFs give.
    half : int
        Half-width of what is fitted of it, in pixels.
    image_psf, target_psf : arrays
        The PSFs.
    shares_noise : bool
        Whether the two images differ by less than their noise: what the noise of ``image`` adds to a fit is then
        not known.
    """

    image: NDArray[np.float32]
    target: NDArray[np.float32]
    image_variance: NDArray[np.float32]
    target_variance: NDArray[np.float32]
    good: NDArray[np.bool_]
    steady: NDArray[np.float32]
    stars_y: NDArray[np.intp]
    stars_x: NDArray[np.intp]
    image_hat: NDArray[np.complex64]
    grid: tuple[int, int]
    start: NDArray[np.float64]
    half: int
    image_psf: NDArray[Any]
    target_psf: NDArray[Any]
    shares_noise: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the images."""
        return self.target.shape[0], self.target.shape[1]

    def noise_matrix(self) -> NDArray[np.float64]:
        """Return how the noise of the image at two pixels of the kernel is correlated: (n, n), n = (2 half + 1)**2."""
        if self.shares_noise:
            return np.zeros(((2 * self.half + 1) ** 2,) * 2)
        return noise_matrix(self.image, self.image_variance, self.good, self.steady, SOURCE_SIGMA, self.half)


@dataclass(frozen=True)
class KernelMatching:
    """What is set for every method that fits a kernel.

    Attributes
    ----------
    flux_ratio : float
        Template flux times this equals science flux; the fit starts from it.
    convolve : "auto", "template" or "science"
        Which image is convolved; "auto" takes the sharper one, of nearly equal ones that with less noise.
    half_width : int or None
        Of the kernel, in pixels; None takes it from the PSFs, 4 to 8.
    order : int
        Of the polynomials by which the kernel varies over the field; lower where stars are few.
    flux_order : int
        Of those by which the ratio of fluxes does.
    background_order : int
        Of the polynomial that is left of the two backgrounds.
    model_error : "measured" or float
        Relative error of the model of constant sources, added to the noise of ``significance`` where both
        images have flux. "measured" takes it from the residuals of the bright sources of each image.
    usual_model_error : float
        What is expected where fewer than five bright sources tell; counts as two more.
    max_model_error : float
        A pair whose bright sources leave more than this part of themselves, five or more telling, is refused.
    neighbour_fraction : float
        A pixel gets `MaskBit.NEIGHBOUR` where more than this part of the
        squared PSF around it lies on masked pixels or outside the image.
    """

    flux_ratio: float = 1.0
    convolve: Literal["auto", "template", "science"] = "auto"
    half_width: int | None = None
    order: int = 2
    flux_order: int = 0
    background_order: int = 0
    model_error: float | Literal["measured"] = "measured"
    usual_model_error: float = 0.007
    max_model_error: float = 0.3
    neighbour_fraction: float = 0.25
    wider: ClassVar[int] = 0  # px by which the usual kernel is wider than what two PSFs need

    def __post_init__(self) -> None:
        if not 0 < self.flux_ratio < np.inf:
            raise ValueError(f"flux_ratio must be positive and finite, got {self.flux_ratio}")
        if self.convolve not in ("auto", "template", "science"):
            raise ValueError(f'convolve must be "auto", "template" or "science", got {self.convolve!r}')
        if self.half_width is not None and not 1 <= self.half_width <= 20:
            raise ValueError(f"half_width must lie in 1 ... 20, got {self.half_width}")
        for name in ("order", "background_order"):
            if not 0 <= getattr(self, name) <= 4:
                raise ValueError(f"{name} must lie in 0 ... 4, got {getattr(self, name)}")
        if not 0 <= self.flux_order <= self.order:
            raise ValueError(f"flux_order must lie in 0 ... order ({self.order}), got {self.flux_order}")
        if isinstance(self.model_error, str):
            if self.model_error != "measured":
                raise ValueError(f'model_error must be "measured" or a number, got {self.model_error!r}')
        elif not 0 <= self.model_error < np.inf:
            raise ValueError(f"model_error must not be negative, got {self.model_error}")
        if not 0 <= self.usual_model_error < np.inf:
            raise ValueError(f"usual_model_error must not be negative, got {self.usual_model_error}")
        if not self.max_model_error > 0:
            raise ValueError(f"max_model_error must be positive, got {self.max_model_error}")
        if not 0 < self.neighbour_fraction <= 1:
            raise ValueError(f"neighbour_fraction must lie in (0, 1], got {self.neighbour_fraction}")

    @abstractmethod
    def fit(self, pair: Pair) -> SpatialKernel:
        """Fit the kernel that makes ``pair.image`` the target."""

    def convolves_template(self, science: Image, template: Image, sky_n: float, sky_r: float) -> bool:
        """Whether it is the template that is convolved, not the science image, whose skies have these variances.

        What is convolved is the sharper image; of two that are equally sharp, as nearly as a kernel can make up for,
        the one with less noise, which a fit takes for light.
        """
        if self.convolve != "auto":
            return self.convolve == "template"
        wider = equivalent_fwhm(template.psf) / equivalent_fwhm(science.psf)
        noisier = sky_r / sky_n
        if max(wider, 1 / wider) < AS_SHARP and max(noisier, 1 / noisier) > AS_NOISY:
            return noisier < 1
        return wider <= 1

    def __call__(self, science: Image, template: Image) -> Difference:
        """Subtract; see `astrid.subtraction.base.Subtractor`.

        The PSF of the difference is cut to the longer of the two input stamps
        and divided by its sum; ``flux`` is divided by that sum too, so that a
        new source of flux ``f`` is ``f * psf`` inside the stamp.

        Raises
        ------
        ValueError
            If the images differ in shape.
        AlgorithmError
            If fewer than one pixel in a hundred is good in both images, or their stars do not subtract.
        """
        return self.finished(self.parts(science, template))

    def parts(self, science: Image, template: Image) -> ScoreParts:
        """Do all that does not depend on how large the noise is; raises what a call does."""
        if science.flux.shape != template.flux.shape:
            raise ValueError(f"science is {science.flux.shape} but template is {template.flux.shape}")
        return _parts(self, science, template)

    def finished(self, parts: ScoreParts, noise: float = 1.0) -> Difference:
        """Return the difference for a noise so many times larger than that of the images which the parts are of."""
        return finished(
            parts, noise, self.model_error, self.usual_model_error, self.max_model_error,
            least_model_error=LEAST_MODEL_ERROR, least_snr=TELLING_SNR,
        )  # fmt: skip


def usable_order(pair: Pair, order: int) -> int:
    """Return the order that as many bright stars allow, -1 with too few for any fit."""
    n = len(pair.stars_y)
    return min(order, sum(n >= fewest for fewest in STARS_PER_ORDER) - 1) if n < STARS_PER_ORDER[-1] else order


def _parts(method: KernelMatching, science: Image, template: Image) -> ScoreParts:
    good_n, good_r = good_pixels(science, "science"), good_pixels(template, "template")
    good = good_n & good_r
    n_good = int(np.count_nonzero(good))
    if n_good < 0.01 * good.size:
        raise AlgorithmError(
            f"{n_good} of {good.size} pixels are good in both science ({np.count_nonzero(good_n)}) and "
            f"template ({np.count_nonzero(good_r)}); at least one in a hundred is needed"
        )
    ratio = np.float32(method.flux_ratio)
    variance_n = np.where(good_n, science.variance, 1).astype(np.float32, copy=False)
    variance_r = np.where(good_r, template.variance, 1).astype(np.float32, copy=False) * ratio**2
    sky_n, sky_r = sky_variance(variance_n, good_n), sky_variance(variance_r, good_r)
    by_template = method.convolves_template(science, template, sky_n, sky_r)
    psfs = (template.psf, science.psf) if by_template else (science.psf, template.psf)
    half = method.half_width or usual_half_width(*psfs) + method.wider
    side = max(*science.psf.shape, *template.psf.shape)
    grid = _grid(science.flux.shape, side + 2 * (half + WINGS))

    flux_r = fill_from_neighbours(template.flux, good_r) * ratio
    flux_r = fill_star_cores(flux_r, good_r, template.psf, CORE * np.sqrt(sky_r))
    variance_r[~good_r] = fill_variance(flux_r[~good_r], sky_r)
    hat_r = transform_mirrored(flux_r, grid)
    flux_n, bad = science.flux, ~good
    if bad.any():
        predicting = _predicting(science.psf, template.psf, grid)
        predicting *= hat_r
        predicted = image_of(predicting, grid, flux_r.shape)
        flux_n = flux_n.copy()
        flux_n[bad] = predicted[bad]
        variance_n[bad] = fill_variance(predicted[bad], sky_n)
    hat_n = transform_mirrored(flux_n, grid)

    first, second = ((flux_r, variance_r), (flux_n, variance_n))
    image_hat, target_hat, image_sky, target_sky = hat_r, hat_n, sky_r, sky_n
    bad_image = ~good_r
    if not by_template:
        first, second = second, first
        image_hat, target_hat, image_sky, target_sky = hat_n, hat_r, sky_n, sky_r
        bad_image = ~good_n
    steady, ratios, shares_noise = _steady(image_hat, target_hat, psfs, image_sky, target_sky, grid, good)
    counted = good
    if bad_image.any():
        counted = good & ~running_maximum(bad_image, 2 * half + 1)
    y, x = bright_peaks(steady, np.ones_like(steady[:1, :1]), counted)
    flux_scale = float(np.median(ratios[y, x])) if len(y) >= STARS_PER_ORDER[0] else 1.0
    pair = Pair(
        image=first[0], target=second[0], image_variance=first[1], target_variance=second[1], good=counted,
        steady=steady, stars_y=y, stars_x=x, image_hat=image_hat, grid=grid, half=half,
        start=flux_scale * kernel_between(*psfs, half + WINGS),
        image_psf=psfs[0], target_psf=psfs[1], shares_noise=shares_noise,
    )  # fmt: skip
    kernel_fit = method.fit(pair)
    model = kernel_fit.applied(image_hat, grid)

    # everything below is in the unit of the target; a convolved science image is divided by the sum of its kernel
    middle = kernel_fit.at((model.shape[0] - 1) / 2, (model.shape[1] - 1) / 2)
    scale: Any = np.float32(1.0) if by_template else np.float32(middle.sum())
    residual = np.subtract(second[0], model, out=model)
    if bad.any():
        residual[bad] = 0
    noise_i = float((template if by_template else science).noise_correlation ** 2)
    noise_t = float((science if by_template else template).noise_correlation ** 2)
    if not by_template and method.flux_order > 0:
        scale = kernel_fit.sums()
    whitened = whitening(psfs[0], psfs[1], middle, image_sky * noise_i, target_sky * noise_t, by_template, side)
    k_t, k_i = whitened.matched, whitened.matched_image
    residual_hat = transform_mirrored(residual, grid)
    kernel_hat, work = transform_stamp(k_t, grid), np.empty_like(residual_hat)
    s = image_of(np.multiply(residual_hat, kernel_hat, out=work), grid, residual.shape)
    s_t = image_of(np.multiply(target_hat, kernel_hat, out=work), grid, residual.shape)
    residual_hat *= transform_stamp(whitened.white, grid, out=work)
    d = image_of(residual_hat, grid, residual.shape)
    s_i = s_t - s
    v_hat = transform_mirrored(second[1], grid, out=residual_hat)
    v_hat *= transform_stamp(noise_t * k_t**2, grid, out=work)
    of_image = transform_mirrored(first[1], grid, out=kernel_hat)
    of_image *= transform_stamp(noise_i * k_i**2, grid, out=work)
    v_hat += of_image
    v = image_of(v_hat, grid, residual.shape)
    sigma_t, sigma_i = float(np.sqrt(target_sky * noise_t)), float(np.sqrt(image_sky * noise_i))
    v_sky = sigma_t**2 * (k_t**2).sum() + sigma_i**2 * (k_i**2).sum()
    np.maximum(v, np.float32(0.01 * v_sky), out=v)  # rounding of the transforms beside a bright star
    correct_edges(v, sigma_t * k_t, sigma_i * k_i)
    rms_i, rms_t = template.astrometric_rms, science.astrometric_rms
    if not by_template:
        rms_i, rms_t = rms_t, rms_i

    mask = difference_mask(science, good_n, good_r, whitened.psf, method.neighbour_fraction)
    steady = np.minimum(np.abs(s_t), np.abs(s_i))
    missing = ((science.mask | template.mask) & np.uint16(MaskBit.NO_DATA)) != 0
    snr = np.sqrt(v)
    np.divide(steady, snr, out=snr)
    if missing.any():
        for flux_of, seen, sky in ((science.flux, good_n, sky_n), (flux_r, good_r, sky_r)):
            np.maximum(snr, flux_of / np.float32(np.sqrt(sky)), out=snr, where=missing & seen)
        mask_cut_stars(mask, missing, snr, CUT_REACH * equivalent_fwhm(whitened.psf))
    # most of the light of a star that the edge cuts may lie beyond: half the S/N is enough
    snr *= 2
    mask_stars_cut_by_edges(mask, snr, EDGE_REACH * equivalent_fwhm(whitened.psf))
    # as for ZOGY: the variance is the one that gives the error of a matched filter's flux
    psf_power = float((whitened.psf**2).sum())
    unit = psf_power / whitened.unit_score**2
    d_variance = second[1] * np.float32(unit * noise_t * (k_t**2).sum())
    d_variance += first[1] * np.float32(unit * noise_i * (k_i**2).sum())
    d *= np.float32(1 / whitened.psf_sum)
    sign = np.float32(1 if by_template else -1)
    return ScoreParts(
        flux=np.multiply(d, sign / scale, out=d),
        variance=np.divide(d_variance, scale**2, out=d_variance),
        mask=mask,
        psf=whitened.psf.astype(np.float32),
        score=np.multiply(s, sign, out=s),
        score_variance=v,
        sides=((s_t, k_t, sigma_t, rms_t), (s_i, k_i, sigma_i, rms_i)),
        steady=steady,
    )


def _grid(shape: tuple[int, ...], margin: int) -> tuple[int, int]:
    least = 5 * margin  # of the filters
    ny, nx = (int(fft.next_fast_len(max(n + margin, least), real=True)) for n in shape)
    return ny, nx


def _predicting(psf_n: NDArray[Any], psf_r: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.complex64]:
    """Kernel that gives a template the PSF of the science image, softened where the template has no power."""
    n, r = transform_stamp(psf_n, grid), transform_stamp(psf_r, grid)
    n *= r.conj()
    n /= r.real**2 + r.imag**2 + np.float32(PREDICTION_SOFTENING)
    return n


def _steady(
    image_hat: NDArray[np.complex64],
    target_hat: NDArray[np.complex64],
    psfs: tuple[NDArray[Any], NDArray[Any]],
    image_sky: float,
    target_sky: float,
    grid: tuple[int, int],
    good: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """Return the S/N of what both images hold, the ratio of target to image, and whether their noise is one.

    Each is smoothed with the PSF of the other.
    Images that share exposures differ by less than their noise.
    """
    parts, sigmas, work = [], [], np.empty_like(image_hat)
    for hat, psf, sky in ((image_hat, psfs[1], image_sky), (target_hat, psfs[0], target_sky)):
        sigma = float(np.sqrt(sky * float((psf.astype(np.float64) ** 2).sum())))
        filtered = transform_stamp(psf, grid, out=work)
        filtered *= hat
        part = image_of(filtered, grid, good.shape)
        part *= np.float32(1 / sigma)
        parts.append(part)
        sigmas.append(sigma)
    steady = np.minimum(parts[0], parts[1])
    sample = np.s_[::3, ::3]
    apart = (parts[1][sample] * sigmas[1] - parts[0][sample] * sigmas[0])[good[sample] & (steady[sample] < 3)]
    shared = bool(len(apart)) and float(np.median(np.abs(apart))) / 0.6745 < SHARED * float(
        np.hypot(sigmas[0], sigmas[1])
    )
    parts[1] *= np.float32(sigmas[1] / sigmas[0])
    ratios = np.divide(parts[1], parts[0], out=np.ones_like(steady), where=steady > SOURCE_SIGMA)
    return steady, ratios, shared
