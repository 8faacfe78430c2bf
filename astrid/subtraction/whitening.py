"""Noise of a difference made white, and its best filter.

Convolution correlates the noise of one of two images; the filter that undoes it (Reiss & Lupton 2016, DMTN-021) makes
of the difference what proper subtraction (ADS 2016ApJ...830...27Z) gives, with the fitted kernel for the ratio of PSFs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.subtraction.fourier import centre_on


@dataclass(frozen=True, eq=False)
class Whitening:
    """Filters of a difference, odd stamps, at the centre of the field.

    Attributes
    ----------
    white : (side, side) float64 array
        Makes its noise white.
    matched, matched_image : (side, side) float64 arrays
        What makes it the score, and what that is for the convolved image: it comes after the fitted kernel.
    psf : (py, px) float64 array
        Of the white difference, summing to one.
    psf_sum : float
        Its sum before.
    unit_score : float
        Score of a source of unit flux.
    """

    white: NDArray[np.float64]
    matched: NDArray[np.float64]
    matched_image: NDArray[np.float64]
    psf: NDArray[np.float64]
    psf_sum: float
    unit_score: float


def whitening(
    image_psf: NDArray[Any],
    target_psf: NDArray[Any],
    kernel: NDArray[np.float64],
    image_sky: float,
    target_sky: float,
    by_template: bool,
    side: int,
) -> Whitening:
    """Make the filters of ``target - kernel * image``.

    Parameters
    ----------
    image_psf, target_psf : arrays
        Of the convolved image and of the other.
    kernel : (side, side) array
        At the centre of the field.
    image_sky, target_sky : float
        Variances of the sky.
    by_template : bool
        Whether it is the template that is convolved: new sources are in the other image.
    side : int
        Of the PSF of the difference, odd.
    """
    n = int(fft.next_fast_len(4 * side + len(kernel), real=True))
    odd = n - 1 + n % 2
    k_hat = fft.rfft2(centre_on(kernel, (n, n)))
    psf = target_psf if by_template else image_psf
    psf_hat = fft.rfft2(centre_on(psf.astype(np.float64), (n, n)))
    if not by_template:
        psf_hat = psf_hat * k_hat / kernel.sum()
    noise = target_sky + image_sky * np.abs(k_hat) ** 2
    white_hat = np.sqrt((target_sky + image_sky * kernel.sum() ** 2) / noise)
    matched_hat = psf_hat.conj() / noise

    def stamp(hat: NDArray[Any]) -> NDArray[np.float64]:
        image: NDArray[np.float64] = fft.fftshift(fft.irfft2(hat, (n, n)))[(n + 1) % 2 :, (n + 1) % 2 :]
        return image

    middle, half = odd // 2, side // 2
    cut = stamp(psf_hat * white_hat)[middle - half : middle + half + 1, middle - half : middle + half + 1]
    total = float(cut.sum())
    return Whitening(
        white=stamp(white_hat),
        matched=stamp(matched_hat),
        matched_image=stamp(matched_hat * k_hat),
        psf=cut / total,
        psf_sum=total,
        unit_score=float(fft.irfft2(matched_hat * psf_hat, (n, n))[0, 0]),
    )
