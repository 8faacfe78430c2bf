"""Proper image subtraction: Zackay, Ofek & Gal-Yam 2016 (ADS 2016ApJ...830...27Z).

Equation numbers below are of that paper. N is the science image, R the
template, P their point-spread functions, F their flux zero points (one here,
since fluxes are matched before), a hat a Fourier transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.errors import AlgorithmError
from astrid.image import Difference, Image
from astrid.imaging.photometry import equivalent_fwhm
from astrid.schema import MaskBit
from astrid.subtraction.core import proper_parts
from astrid.subtraction.fourier import centre_on, image_of, transform_mirrored, transform_stamp
from astrid.subtraction.masks import (
    CUT_REACH,
    difference_mask,
    fill_from_neighbours,
    fill_star_cores,
    good_pixels,
    mask_cut_stars,
    mask_stars_cut_by_edges,
    pixel_stencil,
    row_strips,
)
from astrid.subtraction.noise import (
    FEWEST_STARS,
    bright_peaks,
    correct_edges,
    fill_variance,
    sky_variance,
)
from astrid.subtraction.residual import fit_residual_kernel
from astrid.subtraction.score import ScoreParts, check_model_error, finished

PSF_FLOOR = 1e-5  # point added to both PSFs: where neither has power, D is the plain difference
PREDICTION_SOFTENING = 1e-3  # Wiener constant of the kernel that predicts masked science pixels
LARGEST_SHIFT = 0.5  # px that the science image is moved at most: a registration that is worse is refused before


@dataclass(frozen=True, eq=False)
class PreparedTemplate:
    """What all subtractions of one template share; made by `Zogy.prepare`.

    Attributes
    ----------
    image : Image
        The template it was made from.
    grid : (int, int)
        Shape of the padded Fourier grid.
    kernel_side : int
        Side of the small grid on which kernels are made.
    flux_hat, psf_hat, variance_hat : complex64 arrays
        Real transforms of the filled, scaled template, of its PSF and of its variance.
    variance : (ny, nx) float32 array
        Variance of the scaled template, noise correlation included.
    good : (ny, nx) bool array
        True where the template can be used.
    sigma : float
        Noise of the template's sky.
    """

    image: Image
    grid: tuple[int, int]
    kernel_side: int
    flux_hat: NDArray[np.complex64]
    psf_hat: NDArray[np.complex64]
    variance_hat: NDArray[np.complex64]
    variance: NDArray[np.float32]
    good: NDArray[np.bool_]
    sigma: float


@dataclass(frozen=True)
class Zogy:
    """Optimal subtraction of background-limited images with known PSFs.

    Attributes
    ----------
    flux_ratio : float
        Template flux times this equals science flux.
    align : bool
        Whether to measure on bright stars by what fraction of a pixel the science image is displaced, and to move it.
    adapt : bool
        Whether to fit what a PSF that varies over the field leaves of bright stars, and to take it away from all
        sources; see `astrid.subtraction.residual`.
    model_error : "measured" or float
        Relative error of the template as a model of constant sources, added to
        the noise of ``significance`` where both images have flux. "measured"
        takes it from the residuals of the bright sources of each image.
    usual_model_error : float
        What is expected where fewer than five bright sources tell; counts as two more.
    max_model_error : float
        A pair whose bright sources leave more than this part of themselves, five or more telling, is refused.
    neighbour_fraction : float
        A pixel gets `MaskBit.NEIGHBOUR` where more than this part of the
        squared PSF around it lies on masked pixels or outside the image.
    """

    flux_ratio: float = 1.0
    align: bool = True
    adapt: bool = True
    model_error: float | Literal["measured"] = "measured"
    usual_model_error: float = 0.007
    max_model_error: float = 0.3
    neighbour_fraction: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.flux_ratio < np.inf:
            raise ValueError(f"flux_ratio must be positive and finite, got {self.flux_ratio}")
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

    def prepare(self, template: Image, science_psf_side: int = 0) -> PreparedTemplate:
        """Transform a template once for all the science images it is subtracted from.

        Parameters
        ----------
        template : Image
            The template.
        science_psf_side : int
            Longest side of the science PSFs, where it exceeds the template's.

        Raises
        ------
        AlgorithmError
            If the template has next to no good pixels.
        """
        side = max(*template.psf.shape, science_psf_side)
        kernel_side = int(fft.next_fast_len(4 * side, real=True))
        ny, nx = (max(n + 2 * side, kernel_side) for n in template.flux.shape)
        grid = int(fft.next_fast_len(ny, real=True)), int(fft.next_fast_len(nx, real=True))
        good = good_pixels(template, "template")
        ratio = np.float32(self.flux_ratio)
        scale = np.float32((self.flux_ratio * template.noise_correlation) ** 2)
        variance = np.where(good, template.variance, 1) * scale
        sky = sky_variance(variance, good)
        flux = fill_from_neighbours(template.flux, good) * ratio
        flux = fill_star_cores(flux, good, template.psf, 20 * np.sqrt(sky))
        variance[~good] = fill_variance(flux[~good], sky)
        return PreparedTemplate(
            image=template,
            grid=grid,
            kernel_side=kernel_side,
            flux_hat=transform_mirrored(flux, grid),
            psf_hat=transform_stamp(template.psf, grid) + np.float32(PSF_FLOOR),
            variance_hat=transform_mirrored(variance, grid),
            variance=variance,
            good=good,
            sigma=float(np.sqrt(sky)),
        )

    def __call__(self, science: Image, template: Image, prepared: PreparedTemplate | None = None) -> Difference:
        """Subtract; see `astrid.subtraction.base.Subtractor`.

        ``prepared`` saves some transforms for a template used more than once;
        the result is the same.

        The PSF of the difference is cut to the longer of the two input stamps
        and divided by its sum; ``flux`` is divided by that sum too, so that a
        new source of flux ``f`` is ``f * psf`` inside the stamp.

        Raises
        ------
        ValueError
            If the images differ in shape, or ``prepared`` is of another template or setting.
        AlgorithmError
            If fewer than one pixel in a hundred is good in both images, or their stars do not subtract.
        """
        return self.finished(self.parts(science, template, prepared))

    def parts(self, science: Image, template: Image, prepared: PreparedTemplate | None = None) -> ScoreParts:
        """Do all that does not depend on how large the noise is; raises what a call does."""
        if science.flux.shape != template.flux.shape:
            raise ValueError(f"science is {science.flux.shape} but template is {template.flux.shape}")
        side = max(*science.psf.shape, *template.psf.shape)
        if prepared is None:
            prepared = self.prepare(template, side)
        elif prepared.image is not template:
            raise ValueError("prepared was made from another template; call prepare(template) again")
        elif 4 * side > prepared.kernel_side:
            raise ValueError(
                f"prepared suits PSFs of at most {prepared.kernel_side // 4} pixels, science has {side}; "
                f"call prepare(template, science_psf_side={side})"
            )
        return _parts(self, science, template, prepared)

    def finished(self, parts: ScoreParts, noise: float = 1.0) -> Difference:
        """Return the difference for a noise so many times larger than that of the images which the parts are of."""
        return finished(parts, noise, self.model_error, self.usual_model_error, self.max_model_error)


def _parts(zogy: Zogy, science: Image, template: Image, ready: PreparedTemplate) -> ScoreParts:
    shape, grid = science.flux.shape, ready.grid
    good_science = good_pixels(science, "science")
    good = good_science & ready.good
    n_good = int(np.count_nonzero(good))
    if n_good < 0.01 * good.size:
        raise AlgorithmError(
            f"{n_good} of {good.size} pixels are good in both science ({np.count_nonzero(good_science)}) and "
            f"template ({np.count_nonzero(ready.good)}); at least one in a hundred is needed"
        )
    sr = ready.sigma
    variance = science.variance if good_science.all() else np.where(good_science, science.variance, np.float32(1))
    if science.noise_correlation != 1:
        variance = variance * np.float32(science.noise_correlation**2)
    sky = sky_variance(variance, good_science)
    sn = float(np.sqrt(sky))

    # in one piece each, for small pages are slow to get; what is returned for long has memory of its own
    hats = np.empty((5, *ready.flux_hat.shape), np.complex64)
    images = np.empty((6, *shape), np.float32)
    pn_hat = transform_stamp(science.psf, grid, out=hats[0])
    pn_hat += np.float32(PSF_FLOOR)
    flux = science.flux
    if n_good < good.size:
        flux, variance = flux.copy(), variance.copy()
        predicted = image_of(_matched(ready.flux_hat, pn_hat, ready.psf_hat), grid, shape)
        bad = ~good
        flux[bad] = predicted[bad]
        variance[bad] = fill_variance(flux[bad], sky)
    n_hat = transform_mirrored(flux, grid, out=hats[1])

    kn, kr, psf_d, psf_sum, unit_score = _kernels(science.psf, template.psf, sn, sr, ready.kernel_side)
    dn_hat, dr_hat, sn_hat, sr_hat = _proper_hats(n_hat, ready, pn_hat, sn, sr, hats[2:4])
    work = hats[4]
    work[:] = sn_hat
    s_n = image_of(work, grid, shape, out=images[0])
    s_r = image_of(sr_hat, grid, shape, out=images[1])
    kn2, kr2 = kn**2, kr**2
    v_hat = transform_mirrored(variance, grid, out=sr_hat)
    v_hat *= transform_stamp(kn2, grid, out=work)
    of_template = transform_stamp(kr2, grid, out=work)
    of_template *= ready.variance_hat
    v_hat += of_template
    v = image_of(v_hat, grid, shape, out=images[2])  # eq 26, 27
    v_sky = sn**2 * kn2.sum() + sr**2 * kr2.sum()
    np.maximum(v, np.float32(0.01 * v_sky), out=v)  # rounding of the transforms beside a bright star
    correct_edges(v, sn * kn, sr * kr)
    steady = np.minimum(s_n, s_r, out=images[3])
    peaks = bright_peaks(steady, v, good) if zogy.align or zogy.adapt else None
    if zogy.align and peaks is not None:
        dy, dx = _residual_shift(s_n, s_r, *peaks)
        if dy or dx:
            back = _phase(grid, dy, dx)
            sn_hat *= back
            dn_hat *= back
            s_n = image_of(sn_hat, grid, shape, out=images[0])
            np.minimum(s_n, s_r, out=steady)
            peaks = bright_peaks(steady, v, good)
    s = np.subtract(s_n, s_r, out=images[4])
    f_d = 1 / np.hypot(sn, sr)  # eq 15
    dn_hat -= dr_hat
    d = image_of(dn_hat, grid, shape)
    if zogy.adapt and peaks is not None:
        if len(peaks[0]):  # what is fitted must be small, or it hides that nothing fits
            error = float(np.median(np.abs(s[peaks]) / steady[peaks]))
            rms = science.astrometric_rms, template.astrometric_rms
            check_model_error(error, len(peaks[0]), zogy.max_model_error, rms)
        left = fit_residual_kernel(s, s_r, v, good, *peaks)
        if left is not None:
            left.take_away((s, s_r), (d, image_of(dr_hat, grid, shape, out=images[5])))
    d *= np.float32(1 / (f_d * psf_sum))
    # The flux a matched filter measures, sum(D P) / sum(P**2), has the variance V(S) / S(unit source)**2;
    # the variance of D is the one that gives this through sum(V P**2) / sum(P**2)**2.
    scale = float((psf_d**2).sum()) / unit_score**2
    d_variance = variance * np.float32(scale * kn2.sum())
    for rows in row_strips(shape[0]):
        d_variance[rows] += ready.variance[rows] * np.float32(scale * kr2.sum())
        np.minimum(np.abs(s_n[rows]), np.abs(s_r[rows]), out=steady[rows])

    mask = difference_mask(science, good_science, ready.good, psf_d, zogy.neighbour_fraction)
    missing = ((science.mask | template.mask) & np.uint16(MaskBit.NO_DATA)) != 0
    reach = CUT_REACH * equivalent_fwhm(psf_d)
    snr = np.sqrt(v, out=images[5])
    np.divide(steady, snr, out=snr)
    if missing.any():
        for flux_of, seen, sigma in (
            (science.flux, good_science, sn), (template.flux, ready.good, sr / zogy.flux_ratio),
        ):  # fmt: skip
            np.maximum(snr, flux_of / np.float32(sigma), out=snr, where=missing & seen)
        missing[[0, -1]] = missing[:, [0, -1]] = True  # so does the frame of the image
        mask_cut_stars(mask, missing, snr, reach)
    else:
        mask_stars_cut_by_edges(mask, snr, reach)
    return ScoreParts(
        flux=d,
        variance=d_variance,
        mask=mask,
        psf=psf_d.astype(np.float32),
        score=s,
        score_variance=v,
        sides=((s_n, kn, sn, science.astrometric_rms), (s_r, kr, sr, template.astrometric_rms)),
        steady=steady,
    )


def _transfer(
    psf_n: NDArray[Any], psf_r: NDArray[Any], sn: float, sr: float, side: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Transform P_n, k_n, k_r (eq 28, 29) and P_D (eq 14) on a small grid, in double precision."""
    n, r = (fft.rfft2(centre_on(p.astype(np.float64), (side, side))) + PSF_FLOOR for p in (psf_n, psf_r))
    d = sn**2 * np.abs(r) ** 2 + sr**2 * np.abs(n) ** 2
    return n, n.conj() * np.abs(r) ** 2 / d, r.conj() * np.abs(n) ** 2 / d, n * r * np.hypot(sn, sr) / np.sqrt(d)


def _kernels(
    psf_n: NDArray[Any], psf_r: NDArray[Any], sn: float, sr: float, side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float, float]:
    """Give k_n and k_r centred on an odd square, P_D cut and normalised, its sum before, and the score of unit flux.

    The last is S at the centre of a new source: F_D**2 times the sum of P_D**2.
    """
    odd = side - 1 + side % 2
    n_hat, kn_hat, *others = _transfer(psf_n, psf_r, sn, sr, side)
    kn, kr, psf_d = (
        fft.fftshift(fft.irfft2(hat, (side, side)))[(side + 1) % 2 :, (side + 1) % 2 :] for hat in (kn_hat, *others)
    )
    unit_score = float(fft.irfft2(kn_hat * (n_hat - PSF_FLOOR), (side, side))[0, 0])
    half = max(*psf_n.shape, *psf_r.shape) // 2
    centre = odd // 2
    cut = psf_d[centre - half : centre + half + 1, centre - half : centre + half + 1]
    total = float(cut.sum())
    return kn, kr, cut / total, total, unit_score


def _proper_hats(
    n_hat: NDArray[Any], ready: PreparedTemplate, pn_hat: NDArray[Any], sn: float, sr: float, out: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return what `proper_parts` does; the transforms of the science image and its PSF are overwritten."""
    made = pn_hat, out[0], n_hat, out[1]
    for rows in row_strips(len(n_hat)):
        parts = proper_parts(n_hat[rows], ready.flux_hat[rows], pn_hat[rows], ready.psf_hat[rows], sn, sr)
        for whole, part in zip(made, parts, strict=True):
            whole[rows] = part
    return made


def _matched(r_hat: NDArray[Any], pn_hat: NDArray[Any], pr_hat: NDArray[Any]) -> NDArray[Any]:
    """Return the transform of a template with the PSF of the science image, softened where it has no power."""
    made = np.empty_like(r_hat)
    for rows in row_strips(len(r_hat)):
        n, r = pn_hat[rows], pr_hat[rows]
        kernel = n * r.conj() / (r.real**2 + r.imag**2 + np.float32(PREDICTION_SOFTENING))
        np.multiply(kernel, r_hat[rows], out=made[rows])
    return made


def _phase(grid: tuple[int, int], dy: float, dx: float) -> NDArray[np.complex64]:
    """Return what moves an image back by a displacement when its real transform is multiplied with it."""
    ky, kx = fft.fftfreq(grid[0])[:, None] * dy, fft.rfftfreq(grid[1])[None, :] * dx
    return np.asarray(np.exp(2j * np.pi * ky) * np.exp(2j * np.pi * kx), np.complex64)


def _residual_shift(
    s_n: NDArray[np.float32], s_r: NDArray[np.float32], y: NDArray[np.intp], x: NDArray[np.intp]
) -> tuple[float, float]:
    """Return by how many pixels (y, x) the science image is displaced against the template; zeros where that is noise.

    About each bright star, at ``y, x``, S is a displacement times the gradient of its science part, and a difference of
    flux times that part itself. The median over the stars counts if it is three times its error and below half a pixel.
    """
    if len(y) < FEWEST_STARS:
        return 0.0, 0.0
    offsets = np.array(list(pixel_stencil(3)))
    rows, columns = y[:, None] + offsets[:, 0], x[:, None] + offsets[:, 1]
    part = s_n[rows, columns].astype(np.float64)
    slope_y = (s_n[rows + 1, columns] - s_n[rows - 1, columns]).astype(np.float64) / 2
    slope_x = (s_n[rows, columns + 1] - s_n[rows, columns - 1]).astype(np.float64) / 2
    left = part - s_r[rows, columns]
    design = np.stack([-slope_y, -slope_x, part], axis=2)
    normal = np.einsum("kij,kil->kjl", design, design)
    found = np.linalg.solve(normal, np.einsum("kij,ki->kj", design, left)[..., None])[:, :2, 0]
    middle = np.median(found, axis=0)
    error = 1.4826 * np.median(np.abs(found - middle), axis=0) * np.sqrt(np.pi / 2 / len(found))
    if np.hypot(*middle) > LARGEST_SHIFT:
        return 0.0, 0.0
    dy, dx = np.where(np.abs(middle) > 3 * error, middle, 0.0)
    return float(dy), float(dx)
