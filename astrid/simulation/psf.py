"""The point-spread function of simulated skies, in pixels and in Fourier space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

_HALF_SIZES = (6, 9, 13, 20, 30, 45, 70, 100)
_BATCH = 400


@dataclass(frozen=True)
class MoffatPsf:
    """An elliptical Moffat profile, integrated over pixels.

    Attributes
    ----------
    fwhm : float
        Full width at half maximum before integration over pixels, in pixels;
        the geometric mean of the two axes.
    beta : float
        Exponent of the wings.
    ellipticity : float
        One minus the ratio of the axes.
    angle : float
        Direction of the long axis, degrees from +x towards +y.
    """

    fwhm: float
    beta: float = 3.5
    ellipticity: float = 0.0
    angle: float = 0.0

    def __post_init__(self) -> None:
        if not self.fwhm >= 1:
            raise ValueError(f"fwhm must be at least 1 pixel, got {self.fwhm}")
        if not self.beta > 1:
            raise ValueError(f"beta must be above 1 (finite flux), got {self.beta}")
        if not 0 <= self.ellipticity < 1:
            raise ValueError(f"ellipticity must be in [0, 1), got {self.ellipticity}")

    @property
    def core_radius(self) -> float:
        """Moffat's alpha, geometric mean of the axes, in pixels."""
        return self.fwhm / (2 * math.sqrt(2 ** (1 / self.beta) - 1))

    @property
    def peak(self) -> float:
        """Surface brightness at the centre for unit flux, per pixel."""
        return (self.beta - 1) / (math.pi * self.core_radius**2)

    def stamps(self, dy: NDArray[np.float64], dx: NDArray[np.float64], half: int) -> NDArray[np.float64]:
        """Return unit-flux images of sources off the centre pixel by ``dy, dx``.

        Parameters
        ----------
        dy, dx : (n,) arrays
            Position relative to the centre pixel.
        half : int
            Half size of the stamps.

        Returns
        -------
        (n, 2 half + 1, 2 half + 1) array
            Flux in each pixel, of a profile whose total (to infinity) is one.
        """
        nodes, weights = np.polynomial.legendre.leggauss(3 if self.fwhm >= 2 else 6)
        long, short = self._axes()
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        grid = np.arange(-half, half + 1)
        total = np.zeros((len(dy), grid.size, grid.size))
        for node_y, weight_y in zip(nodes / 2, weights / 2, strict=True):
            y = grid + node_y - dy[:, None]
            for node_x, weight_x in zip(nodes / 2, weights / 2, strict=True):
                x = grid + node_x - dx[:, None]
                u = (cos / long) * x[:, None, :] + (sin / long) * y[:, :, None]
                v = (cos / short) * y[:, :, None] - (sin / short) * x[:, None, :]
                total += weight_y * weight_x * _power(1 + u * u + v * v, self.beta)
        return np.asarray(self.peak * total)

    def image(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return the PSF centred in an odd-sided (py, px) image, summing to one."""
        if len(shape) != 2 or any(side < 1 or side % 2 == 0 for side in shape):
            raise ValueError(f"a PSF image needs two odd sides, got {shape}")
        half = max(shape) // 2
        centre = np.zeros(1)
        stamp = self.stamps(centre, centre, half)[0]
        y, x = half - shape[0] // 2, half - shape[1] // 2
        cut = stamp[y : y + shape[0], x : x + shape[1]]
        return np.asarray(cut / cut.sum(), np.float32)

    def transfer(self, ky: NDArray[np.float64], kx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Fourier transform at frequencies in cycles per pixel, pixel included.

        ``ky`` and ``kx`` broadcast against each other; the transform is real and
        one at zero frequency: ``2 (z/2)^(beta-1) K_(beta-1)(z) / Gamma(beta-1)``,
        ``z`` being two pi times frequency times core radius.
        """
        long, short = self._axes()
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        z = 2 * math.pi * np.hypot(long * (cos * kx + sin * ky), short * (cos * ky - sin * kx))
        safe = np.maximum(z, 1e-6)
        order = self.beta - 1
        moffat = 2 * (safe / 2) ** order * special.kv(order, safe) / special.gamma(order)
        return np.asarray(np.where(z < 1e-6, 1.0, moffat) * np.sinc(ky) * np.sinc(kx))

    def _axes(self) -> tuple[float, float]:
        stretch = math.sqrt(1 - self.ellipticity)
        return self.core_radius / stretch, self.core_radius * stretch


def _power(base: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Return ``base ** -beta``, several times faster where ``beta`` is a small multiple of a half."""
    whole, rest = divmod(beta, 1)
    if rest not in (0.0, 0.5) or whole > 6:
        return np.asarray(base**-beta)
    inverse = 1 / base
    result = np.sqrt(inverse) if rest else np.ones_like(inverse)
    for _ in range(int(whole)):
        result *= inverse
    return result


def add_points(
    image: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    flux: NDArray[np.float64],
    psf: MoffatPsf,
    *,
    cutoff: float = 0.05,
) -> None:
    """Add point sources to an image, in place.

    Parameters
    ----------
    image : (ny, nx) array
        Changed in place.
    y, x, flux : (n,) arrays
        Positions in pixels and total fluxes, in the unit of ``image``.
    psf : MoffatPsf
        Its stamps reach out to where a source falls below ``cutoff``.
    cutoff : float
        Flux per pixel, in the unit of ``image``, that may be left out.
    """
    y, x, flux = (np.asarray(values, float) for values in (y, x, flux))
    long = psf.core_radius / math.sqrt(1 - psf.ellipticity)
    reach = long * (np.maximum(np.abs(flux) * psf.peak / cutoff, 1.0)) ** (0.5 / psf.beta)
    inside = (y > -reach - 1) & (y < image.shape[0] + reach) & (x > -reach - 1) & (x < image.shape[1] + reach)
    usable = inside & (flux != 0)
    size = np.minimum(np.searchsorted(_HALF_SIZES, reach), len(_HALF_SIZES) - 1)
    for step, half in enumerate(_HALF_SIZES):
        members = np.flatnonzero(usable & (size == step))
        for batch in (members[i : i + _BATCH] for i in range(0, members.size, _BATCH)):
            row, column = np.rint(y[batch]).astype(int), np.rint(x[batch]).astype(int)
            stamps = psf.stamps(y[batch] - row, x[batch] - column, half) * flux[batch, None, None]
            for stamp, top, left in zip(stamps, row - half, column - half, strict=True):
                add_stamp(image, stamp, int(top), int(left))


def add_stamp(image: NDArray[np.float64], stamp: NDArray[np.float64], top: int, left: int) -> None:
    """Add a stamp whose first pixel is (top, left) of the image, in place; what lies outside is cut."""
    first_y, first_x = max(0, -top), max(0, -left)
    last_y, last_x = min(stamp.shape[0], image.shape[0] - top), min(stamp.shape[1], image.shape[1] - left)
    if first_y < last_y and first_x < last_x:
        image[top + first_y : top + last_y, left + first_x : left + last_x] += stamp[first_y:last_y, first_x:last_x]
