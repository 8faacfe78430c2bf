"""The arithmetic of proper subtraction on arrays of NumPy or tensors of torch, on a processor or an accelerator.

Equation numbers are those of Zackay, Ofek & Gal-Yam 2016 (ADS 2016ApJ...830...27Z).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from scipy import fft


@dataclass(frozen=True, eq=False)
class CoreKernels:
    """What science images of one PSF and noise share on one template; made by `core_kernels`.

    Attributes
    ----------
    shape : (int, int)
        Of the images, which are taken to be periodic.
    d_n, s_n, v_n : complex arrays
        Transforms of what the science image is convolved with in D and S, and its variance in V(S).
    d_r, s_r : complex arrays
        Transforms of the template's part of D and S.
    v_r : array
        Variance of S from the template's noise.
    """

    shape: tuple[int, int]
    d_n: Any
    s_n: Any
    v_n: Any
    d_r: Any
    s_r: Any
    v_r: Any

    def mapped(self, convert: Callable[[Any], Any]) -> CoreKernels:
        """Return the kernels with each array converted, as to tensors on a device."""
        arrays = {one.name: convert(getattr(self, one.name)) for one in fields(self) if one.name != "shape"}
        return CoreKernels(self.shape, **arrays)


def core_kernels(
    template: Any, template_variance: Any, science_psf: Any, template_psf: Any, sn: float, sr: float
) -> CoreKernels:
    """Return the kernels of a pair.

    Parameters
    ----------
    template, template_variance : (ny, nx) float arrays
        Reference image and the variance of its noise.
    science_psf, template_psf : (ny, nx) float arrays
        Centred on pixel (0, 0), summing to one.
    sn, sr : float
        Noise of the sky in science image and template.
    """
    ft, shape = fourier_of(template), tuple(template.shape)
    r_hat, pn_hat, pr_hat = (ft.rfft2(one) for one in (template, science_psf, template_psf))
    power_n = pn_hat.real**2 + pn_hat.imag**2
    power_r = pr_hat.real**2 + pr_hat.imag**2
    noise = sn**2 * power_r + sr**2 * power_n
    root = noise**-0.5
    s_n, s_r = pn_hat.conj() * power_r / noise, pr_hat.conj() * power_n / noise
    kn2, kr2 = (ft.irfft2(one, s=shape) ** 2 for one in (s_n, s_r))  # eq 26 to 29
    v_r = ft.irfft2(ft.rfft2(template_variance) * ft.rfft2(kr2), s=shape)
    return CoreKernels((shape[0], shape[1]), pr_hat * root, s_n, ft.rfft2(kn2), pn_hat * r_hat * root, s_r * r_hat, v_r)


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
    d = ft.irfft2(d_hat, s=kernels.shape)
    n_hat *= kernels.s_n
    n_hat -= kernels.s_r
    s = ft.irfft2(n_hat, s=kernels.shape)
    v_hat = ft.rfft2(variance)
    v_hat *= kernels.v_n
    v = ft.irfft2(v_hat, s=kernels.shape)
    v += kernels.v_r
    v **= -0.5
    v *= s
    return d, s, v


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


def fourier_of(array: Any) -> Any:
    """Return the module with the Fourier transforms of an array's library: SciPy's for NumPy, else its own."""
    library = type(array).__module__.partition(".")[0]
    return fft if library == "numpy" else sys.modules[library].fft
