"""What the algorithms pass to each other: Image, Difference, Exposure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.schema import N_FIELD_TERMS, MaskBit

FloatArray = NDArray[np.float32]
MaskArray = NDArray[np.uint16]


def _check_shapes(owner: str, flux: NDArray[Any], **others: NDArray[Any] | None) -> None:
    if flux.ndim != 2:
        raise ValueError(f"{owner}.flux must be two-dimensional (y, x), got shape {flux.shape}")
    for name, array in others.items():
        if array is not None and array.shape != flux.shape:
            raise ValueError(f"{owner}.{name} is {array.shape} but flux is {flux.shape}")


def _check_psf(owner: str, psf: NDArray[Any] | None) -> None:
    if psf is None:
        return
    if psf.ndim != 2 or psf.shape[0] % 2 == 0 or psf.shape[1] % 2 == 0:
        raise ValueError(f"{owner}.psf must be two-dimensional with odd sides, got {psf.shape}")
    total = float(psf.sum())
    if not np.isclose(total, 1.0, atol=1e-3):
        raise ValueError(f"{owner}.psf must sum to one, got {total:.6g}; divide it by its sum")


def _check_terms(owner: str, psf: NDArray[Any], terms: NDArray[Any] | None) -> None:
    if terms is not None and terms.shape != (N_FIELD_TERMS, *psf.shape):
        raise ValueError(f"{owner}.psf_terms must be {(N_FIELD_TERMS, *psf.shape)}, got {terms.shape}")


def field_terms(y: ArrayLike, x: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the polynomials by which a PSF varies over an image, (n, 5).

    Legendre polynomials ``v, u, v u, P2(v), P2(u)`` of the place, v (down) and u (across) running from -1 to 1 over the
    image: the mean of each over the image is zero.

    Parameters
    ----------
    y, x : (n,) arrays
        Places in pixels.
    shape : (int, int)
        Of the image.
    """
    v, u = (
        2 * np.atleast_1d(np.asarray(a, np.float64)) / max(n - 1, 1) - 1 for a, n in zip((y, x), shape, strict=True)
    )
    return np.stack([v, u, v * u, (3 * v**2 - 1) / 2, (3 * u**2 - 1) / 2], axis=1)


def psf_at(
    psf: NDArray[Any], terms: NDArray[Any] | None, y: ArrayLike, x: ArrayLike, shape: tuple[int, ...]
) -> FloatArray:
    """Return the PSF at each place, (n, py, px): the mean one plus its terms times `field_terms`.

    Beyond the edges of the image it is that of the nearest edge.
    """
    y, x = (np.clip(np.atleast_1d(np.asarray(a, np.float64)), 0, n - 1) for a, n in zip((y, x), shape, strict=True))
    if terms is None:
        return np.broadcast_to(psf, (len(y), *psf.shape))
    return np.asarray(psf + np.tensordot(field_terms(y, x, shape), terms, axes=1), np.float32)


@dataclass(frozen=True, eq=False)
class Image:
    """One calibrated image on the pixel grid of a tile.

    Attributes
    ----------
    flux : (ny, nx) float32 array
        Background-subtracted flux per pixel, in the cube's unit (nJy or count/s).
        Finite everywhere; what a masked pixel holds has no meaning.
    variance : (ny, nx) float32 array
        White-equivalent variance of ``flux``, in the same unit squared, sources
        included. Finite and positive everywhere.
    mask : (ny, nx) uint16 array
        Bits named in `astrid.schema.MaskBit`; zero means good.
    psf : (py, px) float32 array
        Point-spread function, the mean over the tile, odd-sided, summing to one.
    noise_correlation : float
        Measured ratio of PSF-filtered noise to what ``variance`` predicts.
    astrometric_rms : float
        Registration error per axis, in pixels.
    psf_terms : (5, py, px) float32 array or None
        What the PSF changes by with each of `field_terms`, summing to zero; None where it is not known to vary.
    """

    flux: FloatArray
    variance: FloatArray
    mask: MaskArray
    psf: FloatArray
    noise_correlation: float = 1.0
    astrometric_rms: float = 0.0
    psf_terms: FloatArray | None = None

    def __post_init__(self) -> None:
        _check_shapes("Image", self.flux, variance=self.variance, mask=self.mask)
        _check_psf("Image", self.psf)
        _check_terms("Image", self.psf, self.psf_terms)
        if not self.noise_correlation > 0:
            raise ValueError(f"noise_correlation must be positive, got {self.noise_correlation}")
        if not self.astrometric_rms >= 0:
            raise ValueError(f"astrometric_rms must not be negative, got {self.astrometric_rms}")

    def psf_at(self, y: ArrayLike, x: ArrayLike) -> FloatArray:
        """Return the PSF at each place, (n, py, px)."""
        return psf_at(self.psf, self.psf_terms, y, x, self.flux.shape)


@dataclass(frozen=True, eq=False)
class Difference:
    """A cell minus its template.

    Attributes
    ----------
    flux : (ny, nx) float32 array
        Difference flux, normalised so that a new point source of flux ``f``
        appears as ``f * psf``.
    variance : (ny, nx) float32 array
        White-equivalent variance of ``flux`` from the noise of science and
        template (sources and noise correlation included, registration error not).
    mask : (ny, nx) uint16 array
        Bits of either image; `MaskBit.NEIGHBOUR` where ``significance`` rests on
        masked pixels for too large a part, `MaskBit.STREAK` on the trail of a satellite.
    psf : (py, px) float32 array
        Point-spread function of ``flux``, odd-sided, summing to one.
    significance : (ny, nx) float32 array
        Signed detection score (S_corr for ZOGY) of unit standard deviation in noise.
    psf_terms : (5, py, px) float32 array or None
        As of `Image`.
    science, template : Image or None
        What it was made from, for detectors that look at both; never stored.
    """

    flux: FloatArray
    variance: FloatArray
    mask: MaskArray
    psf: FloatArray
    significance: FloatArray
    psf_terms: FloatArray | None = None
    science: Image | None = field(default=None, repr=False)
    template: Image | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_shapes(
            "Difference",
            self.flux,
            variance=self.variance,
            mask=self.mask,
            significance=self.significance,
        )
        _check_psf("Difference", self.psf)
        _check_terms("Difference", self.psf, self.psf_terms)

    def psf_at(self, y: ArrayLike, x: ArrayLike) -> FloatArray:
        """Return the PSF at each place, (n, py, px)."""
        return psf_at(self.psf, self.psf_terms, y, x, self.flux.shape)

    @property
    def unusable(self) -> MaskArray:
        """The bits of ``mask`` that leave a pixel without meaning: on a streak the sky can still be seen."""
        return self.mask & ~np.uint16(MaskBit.STREAK)


@dataclass(frozen=True)
class ExposureInfo:
    """What is known of an exposure before its pixels are read. Small and picklable.

    Attributes
    ----------
    exposure_id : str
        Unique within a survey; for files the path relative to the survey's folder.
    path : str
        Where it is read from.
    band : str
        Name of the pass band.
    mjd : float
        Time of mid-exposure, MJD (UTC).
    exposure_time : float
        Seconds.
    shape : tuple of int
        (ny, nx) of the detector image.
    wcs_header : str or None
        FITS header text of the celestial WCS, None where there is none.
    unit : str
        Unit of the stored pixels: "count", "count/s", "electron", "electron/s" or "nJy".
    zero_point : float or None
        AB magnitude of one unit of ``unit`` per second ("nJy" needs none).
    gain : float or None
        Electrons per ``unit``; None where unknown: the noise is then measured.
    saturation : float or None
        Level, in the unit of the stored pixels, from which a pixel is saturated.
    detector : str
        Exposures of one detector share their bad pixels.
    companions : dict
        Paths of companion files by kind: "variance", "sigma", "mask", "psf", "template".
    hdu : int
        Index of the image HDU.
    extra : dict
        Whatever else the survey wants to carry to `read_exposure`.
    """

    exposure_id: str
    path: str
    band: str
    mjd: float
    exposure_time: float
    shape: tuple[int, int]
    wcs_header: str | None = None
    unit: str = "count"
    zero_point: float | None = None
    gain: float | None = None
    saturation: float | None = None
    detector: str = ""
    companions: dict[str, str] = field(default_factory=dict)
    hdu: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Exposure:
    """One exposure as the survey took it, on its own detector grid.

    Attributes
    ----------
    info : ExposureInfo
        What was known before reading.
    flux : (ny, nx) float32 array
        Pixel values in ``info.unit``, background included; NaN where there is no data.
    mask : (ny, nx) uint16 array
        Bits the survey itself supplies (saturated, bad, no data).
    variance : (ny, nx) float32 array or None
        Supplied variance of ``flux``, in its unit squared.
    psf : (py, px) float32 array or None
        Supplied point-spread function, summing to one.
    """

    info: ExposureInfo
    flux: FloatArray
    mask: MaskArray
    variance: FloatArray | None = None
    psf: FloatArray | None = None

    def __post_init__(self) -> None:
        _check_shapes("Exposure", self.flux, mask=self.mask, variance=self.variance)
        _check_psf("Exposure", self.psf)
