"""Galaxies, convolved with the PSF and the pixel exactly.

Exponential and de Vaucouleurs profiles are sums of Gaussians (Hogg & Lang 2013,
https://ui.adsabs.harvard.edu/abs/2013PASP..125..719H, as used by the Tractor),
so that their Fourier transform is known in closed form; a galaxy is the inverse
transform of its profile times the transfer function of PSF and pixel, with its
sub-pixel position in the phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.simulation.psf import MoffatPsf, add_stamp

# Flux and variance (in half-light radii squared) of each Gaussian.
_EXPONENTIAL = (
    (2.34853813e-03, 3.07995260e-02, 2.23364214e-01, 1.17949102e00, 4.33873750e00, 5.99820770e00),
    (1.20078965e-03, 8.84526493e-03, 3.91463084e-02, 1.39976817e-01, 4.60962500e-01, 1.50159566e00),
)
_DE_VAUCOULEURS = (
    (4.26347652e-02, 2.40127183e-01, 6.85907632e-01, 1.51937350, 2.83627243, 4.46467501, 5.72440830, 5.60989349),
    (
        2.23759216e-04,
        1.00220099e-03,
        4.18731126e-03,
        1.69432589e-02,
        6.84850479e-02,
        2.87207080e-01,
        1.33320254,
        8.40215071,
    ),
)
_SIZES = (32, 48, 64, 96, 128, 192, 256)
_OVERSAMPLING = 2


@dataclass(frozen=True, eq=False)
class Galaxies:
    """Galaxies of a field; all arrays have one element per galaxy.

    Attributes
    ----------
    ra, dec : (n,) arrays
        ICRS degrees.
    flux : (n_bands, n) array
        Total flux in nJy.
    radius : (n,) array
        Half-light radius along the long axis, in pixels.
    axis_ratio : (n,) array
        Short over long axis.
    angle : (n,) array
        Direction of the long axis, degrees from +x towards +y of the field's plane.
    is_bulge : (n,) bool array
        De Vaucouleurs where true, exponential where false.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    flux: NDArray[np.float64]
    radius: NDArray[np.float64]
    axis_ratio: NDArray[np.float64]
    angle: NDArray[np.float64]
    is_bulge: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ra)


def mixture(is_bulge: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the fluxes (summing to one) and variances (half-light radii squared) of a profile."""
    flux, variance = _DE_VAUCOULEURS if is_bulge else _EXPONENTIAL
    return np.array(flux) / sum(flux), np.array(variance)


def add_galaxies(
    image: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    flux: NDArray[np.float64],
    galaxies: Galaxies,
    psf: MoffatPsf,
    *,
    jacobian: NDArray[np.float64] | None = None,
) -> None:
    """Add PSF-convolved galaxies to an image, in place.

    Parameters
    ----------
    image : (ny, nx) array
        Changed in place.
    y, x, flux : (n,) arrays
        Centres in pixels and total fluxes in the unit of ``image``.
    galaxies : Galaxies
        Their shapes.
    psf : MoffatPsf
        What they are convolved with, pixel included.
    jacobian : (2, 2) array, optional
        Detector (x, y) per plane (x, y); the identity by default.
    """
    turn = np.eye(2) if jacobian is None else np.asarray(jacobian, float)
    transfers: dict[int, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = {}
    for i in range(len(galaxies)):
        fluxes, variances = mixture(bool(galaxies.is_bulge[i]))
        shape = turn @ _covariance(galaxies, i) @ turn.T
        reach = 4 * math.sqrt(variances[-1]) * float(galaxies.radius[i]) + 4 * psf.fwhm
        size = next((s for s in _SIZES if s >= 2 * reach), _SIZES[-1])
        row, column = round(float(y[i])), round(float(x[i]))
        if not (-size < row < image.shape[0] + size and -size < column < image.shape[1] + size):
            continue
        if size not in transfers:
            ky = fft.fftfreq(size * _OVERSAMPLING, 1 / _OVERSAMPLING)[:, None]
            kx = fft.rfftfreq(size * _OVERSAMPLING, 1 / _OVERSAMPLING)[None, :]
            transfers[size] = ky, kx, psf.transfer(ky, kx)
        ky, kx, transfer = transfers[size]
        quadratic = shape[0, 0] * kx * kx + 2 * shape[0, 1] * kx * ky + shape[1, 1] * ky * ky
        profile = np.zeros_like(transfer)
        for part, variance in zip(fluxes, variances, strict=True):
            profile += part * np.exp((-2 * math.pi**2 * variance) * quadratic)
        dy, dx = float(y[i]) - row + size // 2, float(x[i]) - column + size // 2
        phase = np.exp(-2j * math.pi * ky * dy) * np.exp(-2j * math.pi * kx * dx)
        fine = fft.irfft2(profile * transfer * phase, s=(size * _OVERSAMPLING, size * _OVERSAMPLING))
        stamp = float(flux[i]) * _OVERSAMPLING**2 * fine[::_OVERSAMPLING, ::_OVERSAMPLING]
        add_stamp(image, stamp, row - size // 2, column - size // 2)


def _covariance(galaxies: Galaxies, i: int) -> NDArray[np.float64]:
    """(2, 2) covariance, in (x, y) pixels squared, of a Gaussian of unit variance on the long axis."""
    angle = math.radians(float(galaxies.angle[i]))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    long = float(galaxies.radius[i])
    return np.asarray(turn @ np.diag([long**2, (long * float(galaxies.axis_ratio[i])) ** 2]) @ turn.T)
