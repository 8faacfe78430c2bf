"""The arithmetic of proper subtraction on arrays of NumPy or tensors of torch, on a processor or an accelerator.

Equation numbers are those of Zackay, Ofek & Gal-Yam 2016 (ADS 2016ApJ...830...27Z).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.subtraction.fourier import centre_on, image_of, transform_stamp


@dataclass(frozen=True, eq=False)
class CoreTemplate:
    """What all subtractions of one template share; made by `core_template`.

    Attributes
    ----------
    shape : (int, int)
        Of the images, which are taken to be periodic.
    psf : (py, px) array
        Of the template, an odd stamp of NumPy.
    hat, psf_hat, variance_hat : complex arrays
        Transforms of the template, its PSF and the variance of its noise.
    """

    shape: tuple[int, int]
    psf: NDArray[np.floating]
    hat: Any
    psf_hat: Any
    variance_hat: Any


@dataclass(frozen=True, eq=False)
class CoreKernels:
    """What science images of one PSF and noise share on one template; made by `core_kernels`.

    Attributes
    ----------
    shape : (int, int)
        Of the images.
    d_n, s_n, v_n : complex arrays
        Transforms of what the science image is convolved with in D and S, and its variance in V(S).
    d_r, s_r, v_r : complex arrays
        Transforms of the template's part of D, S and V(S).
    """

    shape: tuple[int, int]
    d_n: Any
    s_n: Any
    v_n: Any
    d_r: Any
    s_r: Any
    v_r: Any


def core_template(template: Any, variance: Any, psf: NDArray[np.floating]) -> CoreTemplate:
    """Transform a template.

    Parameters
    ----------
    template, variance : (ny, nx) float arrays
        Reference image and the variance of its noise, of any library and device: the rest is made there.
    psf : (py, px) array
        Odd stamp of NumPy, summing to one.
    """
    ft, shape = fourier_of(template), (int(template.shape[0]), int(template.shape[1]))
    return CoreTemplate(shape, psf, ft.rfft2(template), stamp_hat(psf, shape, template), ft.rfft2(variance))


def core_kernels(template: CoreTemplate, psf: NDArray[np.floating], sn: float, sr: float) -> CoreKernels:
    """Return the kernels for science images of a PSF.

    Parameters
    ----------
    template : CoreTemplate
        Its arrays decide the library and the device.
    psf : (py, px) array
        Odd stamp of NumPy, summing to one.
    sn, sr : float
        Noise of the sky in science image and template.
    """
    pn_hat, pr_hat = stamp_hat(psf, template.shape, template.hat), template.psf_hat
    power_n = pn_hat.real**2 + pn_hat.imag**2
    power_r = pr_hat.real**2 + pr_hat.imag**2
    inverse = 1 / (sn**2 * power_r + sr**2 * power_n)
    root = inverse**0.5
    power_r *= inverse
    power_n *= inverse
    d_n, d_r = pr_hat * root, pn_hat * template.hat
    d_r *= root
    s_n, s_r = pn_hat.conj() * power_r, pr_hat.conj() * template.hat
    s_r *= power_n
    kn, kr = score_kernels(psf, template.psf, sn, sr)
    v_n, v_r = (stamp_hat(kernel**2, template.shape, template.hat) for kernel in (kn, kr))  # eq 26, 27
    v_r *= template.variance_hat
    return CoreKernels(template.shape, d_n, s_n, v_n, d_r, s_r, v_r)


def core_difference(image: Any, variance: Any, kernels: CoreKernels) -> tuple[Any, Any, Any]:
    """Return D (eq 13), with unit noise, S (eq 12) and S over its noise from sky and sources (eq 25).

    Five transforms and a few products; what the product does about masks, edges, registration and errors of PSFs is in
    `astrid.subtraction.zogy`.

    Parameters
    ----------
    image, variance : (ny, nx) float arrays
        Science image without invalid pixels, and the variance of its noise.
    kernels : CoreKernels
        Of the same array library and device.

    Returns
    -------
    D, S, S_corr : (ny, nx) float arrays
    """
    ft = fourier_of(image)
    n_hat = ft.rfft2(image)
    d_hat = kernels.d_n * n_hat
    d_hat -= kernels.d_r
    d = _image_of(d_hat, kernels.shape)
    n_hat *= kernels.s_n
    n_hat -= kernels.s_r
    s = _image_of(n_hat, kernels.shape)
    v_hat = ft.rfft2(variance)
    v_hat *= kernels.v_n
    v_hat += kernels.v_r
    v = _image_of(v_hat, kernels.shape)
    v **= 0.5
    return d, s, s / v


def score_kernels(
    psf_n: NDArray[np.floating], psf_r: NDArray[np.floating], sn: float, sr: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return k_n and k_r (eq 28, 29) as odd stamps of four times the side of the PSFs."""
    side = int(fft.next_fast_len(4 * max(*psf_n.shape, *psf_r.shape), real=True))
    n, r = (fft.rfft2(centre_on(psf.astype(np.float64), (side, side))) for psf in (psf_n, psf_r))
    power = sn**2 * np.abs(r) ** 2 + sr**2 * np.abs(n) ** 2
    odd = (side + 1) % 2
    kn, kr = (
        fft.fftshift(fft.irfft2(hat / power, (side, side)))[odd:, odd:]
        for hat in (n.conj() * np.abs(r) ** 2, r.conj() * np.abs(n) ** 2)
    )
    return kn, kr


def stamp_hat(stamp: NDArray[np.floating], shape: tuple[int, int], like: Any) -> Any:
    """Return the transform of a stamp about pixel (0, 0), of the library and on the device of another array."""
    hat = transform_stamp(inner_part(stamp, shape), shape)
    library = type(like).__module__.partition(".")[0]
    return hat if library == "numpy" else sys.modules[library].as_tensor(hat, device=like.device)


def inner_part(stamp: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.floating]:
    """Cut an odd stamp to one that is no larger than a grid."""
    cut = tuple(
        slice(max(0, (n - (limit - 1 + limit % 2)) // 2), n - max(0, (n - (limit - 1 + limit % 2)) // 2))
        for n, limit in zip(stamp.shape, shape, strict=True)
    )
    return stamp[cut]


def proper_parts(n_hat: Any, r_hat: Any, pn_hat: Any, pr_hat: Any, sn: float, sr: float) -> tuple[Any, Any, Any, Any]:
    """Return the transforms of what science image and template are in D = D_n - D_r (eq 13) and S = S_n - S_r (eq 12).

    Parameters
    ----------
    n_hat, r_hat, pn_hat, pr_hat : complex arrays of one shape
        Transforms of science, template and their PSFs.
    sn, sr : float
        Noise of the sky in either image.

    Returns
    -------
    four complex arrays
        D_n, D_r, S_n and S_r (eq 17, 31, 33) in Fourier space; D has unit variance.
    """
    power_n = pn_hat.real**2 + pn_hat.imag**2
    power_r = pr_hat.real**2 + pr_hat.imag**2
    inverse = 1 / (sn**2 * power_r + sr**2 * power_n)
    root = inverse**0.5
    power_r *= inverse
    power_n *= inverse
    d_n, d_r = pr_hat * n_hat, pn_hat * r_hat
    d_n *= root
    d_r *= root
    s_n, s_r = pn_hat.conj(), pr_hat.conj()
    s_n = s_n * n_hat
    s_r = s_r * r_hat
    s_n *= power_r
    s_r *= power_n
    return d_n, d_r, s_n, s_r


def _image_of(hat: Any, shape: tuple[int, int]) -> Any:
    """Return the real image of a transform, which may be overwritten."""
    ft = fourier_of(hat)
    return image_of(hat, shape, shape) if ft is fft else ft.irfft2(hat, s=shape)


def fourier_of(array: Any) -> Any:
    """Return the module with the Fourier transforms of an array's library: SciPy's for NumPy, else its own."""
    library = type(array).__module__.partition(".")[0]
    return fft if library == "numpy" else sys.modules[library].fft
