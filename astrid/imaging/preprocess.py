"""From an exposure to a cell of a tile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io.fits import Header
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import spatial

from astrid.errors import AlgorithmError
from astrid.image import Exposure, ExposureInfo, FloatArray, Image, MaskArray
from astrid.imaging.badpixels import find_suspects
from astrid.imaging.calibration import AB_OF_NJY, Calibrated, calibrate, mask_cosmic_rays
from astrid.imaging.noise import noise_correlation
from astrid.imaging.photometry import psf_flux
from astrid.imaging.psf import ConstantPsf, VaryingPsf, judged, measure_psf, psf_fwhm, resized, transformed
from astrid.imaging.registration import Base, Floats, Registration, match_nearest, register
from astrid.imaging.resampling import Resampling, coordinate_map, resample
from astrid.imaging.sourcenoise import measure_source_noise
from astrid.imaging.stars import StarList, find_stars, typical_fwhm
from astrid.schema import MaskBit
from astrid.skygrid import Tile

BLENDED = 2.0  # times the PSF: sources so wide are no stars
SCALE_SNR = 20.0
MIN_SCALE_STARS = 5
MAX_MASKED = 0.1


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one exposure tells on its own detector.

    Attributes
    ----------
    stars : StarList
        In pixels of the detector, fluxes in the cube's unit.
    suspects : (n, 2) int16 array
        Pixels ``(y, x)`` that no star can make.
    seeing_fwhm : float
        Pixels.
    background, background_rms : float
        In the cube's unit.
    """

    stars: StarList
    suspects: NDArray[np.int16]
    seeing_fwhm: float
    background: float
    background_rms: float

    def to_table(self) -> pa.Table:
        """Return the measurement as a table: the stars, the rest in its metadata."""
        rest = {
            "suspects": self.suspects.tolist(),
            "seeing_fwhm": self.seeing_fwhm,
            "background": self.background,
            "background_rms": self.background_rms,
        }
        return self.stars.to_table().replace_schema_metadata({"measurement": json.dumps(rest)})

    @classmethod
    def from_table(cls, table: pa.Table) -> Measurement:
        """Return the measurement of a table made by `to_table`."""
        rest = json.loads(table.schema.metadata[b"measurement"])
        suspects = np.array(rest.pop("suspects"), np.int16).reshape(-1, 2)
        return cls(StarList.from_table(table), suspects, **rest)


@dataclass(frozen=True, eq=False)
class Cell:
    """An exposure on the grid of a tile.

    Attributes
    ----------
    image : Image
        Its pixels.
    numbers : dict
        The per-cell numbers of `astrid.schema.CUBE` that come from the pixels.
    """

    image: Image
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Preprocess:
    """Calibrate, register, resample and scale exposures.

    Attributes
    ----------
    background_box : int or None
        Side of the mesh of the background, in pixels of the detector; None: one level for each exposure.
    cosmic_rays : bool
        Whether to look for them.
    resampling : "spline" or "reproject"
        Cubic splines on an interpolated coordinate map, or the reproject package.
    refine : bool
        Whether to refine a WCS on stars.
    search_pixels : float
        How far a WCS may be off.
    match_flux : bool
        Whether to match the flux scale of the exposures on stars; without it their zero points are believed.
    max_astrometric_rms : float
        A cell registered worse than this, in pixels per axis, fails.
    psf_size : int
        Side of the PSF, odd.
    """

    background_box: int | None = 64
    cosmic_rays: bool = True
    resampling: Resampling = "spline"
    refine: bool = True
    search_pixels: float = 12.0
    match_flux: bool = True
    max_astrometric_rms: float = 0.5
    psf_size: int = 35

    def __post_init__(self) -> None:
        if self.background_box is not None and self.background_box < 8:
            raise ValueError(f"preprocess.background_box must be at least 8 pixels or null, got {self.background_box}")
        if self.resampling not in ("spline", "reproject"):
            raise ValueError(f"preprocess.resampling must be spline or reproject, got {self.resampling!r}")
        if self.psf_size % 2 == 0 or self.psf_size < 9:
            raise ValueError(f"preprocess.psf_size must be odd and at least 9, got {self.psf_size}")
        for name in ("search_pixels", "max_astrometric_rms"):
            if not getattr(self, name) > 0:
                raise ValueError(f"preprocess.{name} must be positive, got {getattr(self, name)}")

    def measure(self, exposure: Exposure, bad_pixels: NDArray[np.bool_] | None = None) -> Measurement:
        """Find the stars, seeing, background and suspect pixels of an exposure.

        Raises
        ------
        DataError
            If too few of its pixels are usable.
        """
        calibrated = calibrate(exposure, bad_pixels=bad_pixels, background_box=self.background_box)
        stars = find_stars(calibrated.flux, np.sqrt(calibrated.variance), calibrated.mask)
        native_psf = self._native_psf(exposure, calibrated, stars)
        psf = native_psf.psf
        sigma = np.sqrt(_noise_of_stars(calibrated, stars, native_psf))
        suspects = find_suspects(calibrated.flux, sigma, calibrated.mask != 0, psf=psf)
        stars = stars[_not_suspect(stars, suspects)]
        # the PSF of a cell is measured with the noise of the stars, so the fluxes it is compared with are, too
        variance = with_source_noise(calibrated, stars, native_psf)
        psf = self._native_psf(exposure, replace(calibrated, variance=variance), stars).psf
        stars = with_psf_flux(stars, calibrated.flux, variance, calibrated.mask, psf)
        seeing = _seeing(stars)
        if exposure.psf is not None and seeing > BLENDED * psf_fwhm(psf):  # of a crowd that runs together
            seeing = psf_fwhm(psf)
        return Measurement(stars, suspects, seeing, calibrated.background, calibrated.background_rms)

    def reference(self, measurements: Sequence[Measurement]) -> int:
        """Return which exposure the others are registered to: sharp, deep and with many stars."""
        if not measurements:
            raise ValueError("no measurement to choose a reference from")
        merit = [
            (np.sum(m.stars.is_clean & (m.stars.snr > SCALE_SNR)) ** 0.5 / m.seeing_fwhm, -i)
            for i, m in enumerate(measurements)
        ]
        return -max(merit)[1]

    def reference_stars(
        self, measurement: Measurement, info: ExposureInfo, tile: Tile, align_to: StarList | None = None
    ) -> StarList:
        """Return the stars of an exposure in pixels of a tile.

        Parameters
        ----------
        measurement : Measurement
            Of the exposure.
        info : ExposureInfo
            Of the exposure.
        tile : Tile
            Where to.
        align_to : StarList, optional
            Reference stars of another band, to which this one is registered first.

        Raises
        ------
        AlgorithmError
            If there is no WCS and the star patterns of the two bands do not match.
        """
        stars = measurement.stars
        if tile.frame == "pixel" and align_to is None:
            y, x = stars.y + tile.border, stars.x + tile.border
        elif align_to is None:
            y, x = _wcs_to_tile(info, tile)(stars.y, stars.x)
        else:
            registration = self._register(stars, align_to, info, tile)
            y, x = _inverted(registration, stars, tile)
        moved = stars.moved(y, x)
        ny, nx = tile.shape
        margin = 200  # stars off the tile still help to register
        return moved[(y > -margin) & (y < ny + margin) & (x > -margin) & (x < nx + margin)]

    def cell(
        self,
        exposure: Exposure,
        tile: Tile,
        reference: StarList | None,
        *,
        bad_pixels: NDArray[np.bool_] | None = None,
        is_reference: bool = False,
        match_scale: bool = True,
    ) -> Cell:
        """Bring an exposure to a tile.

        Parameters
        ----------
        exposure : Exposure
            As the survey gave it.
        tile : Tile
            The grid.
        reference : StarList or None
            Stars of the tile, in its pixels and in the cube's unit.
        bad_pixels : (my, mx) bool array, optional
            Of the detector.
        is_reference : bool
            Whether the reference stars are this exposure's own.
        match_scale : bool
            Whether to scale the flux so that the stars match.

        Raises
        ------
        DataError
            If too few pixels are usable.
        AlgorithmError
            If it cannot be registered well enough; the message holds the numbers.
        """
        calibrated = calibrate(exposure, bad_pixels=bad_pixels, background_box=self.background_box)
        stars = find_stars(calibrated.flux, np.sqrt(calibrated.variance), calibrated.mask)
        native_psf = self._native_psf(exposure, calibrated, stars)
        if self.cosmic_rays:
            noise = _noise_of_stars(calibrated, stars, native_psf)
            calibrated = mask_cosmic_rays(calibrated, noise, native_psf.psf)
            hits = np.argwhere((calibrated.mask & MaskBit.COSMIC_RAY.value) != 0)
            stars = stars[_not_suspect(stars, hits)]
        variance = with_source_noise(calibrated, stars, native_psf)
        registration = self._placed(stars, reference, exposure.info, tile, is_reference)
        y, x = coordinate_map(registration, tile.shape)
        flux, variance, mask = resample(calibrated.flux, variance, calibrated.mask, y, x, method=self.resampling)
        on_tile = find_stars(flux, np.sqrt(variance), mask) if (mask == 0).any() else stars[:0]
        coverage = float(np.mean(mask == 0))
        if coverage == 0:
            raise AlgorithmError("the exposure covers no pixel of the tile")
        psf = _cell_psf(exposure, registration, flux, variance, mask, on_tile, self.psf_size)
        scale, error = 1.0, 0.0
        if match_scale and self.match_flux and not is_reference and reference is not None:
            scale, error = flux_scale(with_psf_flux(on_tile, flux, variance, mask, psf.psf), reference)
            flux, variance = flux * np.float32(scale), variance * np.float32(scale**2)
        rms = 0.0 if is_reference else registration.rms
        if rms > self.max_astrometric_rms:
            raise AlgorithmError(
                f"registered to {rms:.2f} px rms on {registration.n_stars} stars, "
                f"{self.max_astrometric_rms:g} allowed (preprocess.max_astrometric_rms)"
            )
        error_of_place = rms if np.isfinite(rms) else 0.0
        image = Image(flux, variance, mask, psf.psf, astrometric_rms=error_of_place, psf_terms=psf.terms)
        numbers = {
            "seeing_fwhm": psf_fwhm(psf.psf),
            "background": calibrated.background * scale,
            "background_rms": calibrated.background_rms * scale,
            "noise_correlation": noise_correlation(image),
            "astrometric_rms": rms,
            "flux_scale": scale,
            "flux_scale_error": error,
            "coverage": coverage,
            "n_stars": registration.n_stars,
            "psf_origin": psf.origin,
            "psf_error": psf.quality.error,
            "psf_chi2": psf.quality.chi2,
            "zero_point": AB_OF_NJY if calibrated.unit == "nJy" else float("nan"),
        }
        return Cell(image, numbers)

    def _native_psf(self, exposure: Exposure, calibrated: Calibrated, stars: StarList) -> ConstantPsf | VaryingPsf:
        if exposure.psf is not None:  # the fluxes of reference stars and of cells rest on the same PSF
            return ConstantPsf(resized(exposure.psf, self.psf_size), "supplied")
        flux, variance, mask = calibrated.flux, calibrated.variance, calibrated.mask
        return measure_psf(flux, variance, mask, stars, size=self.psf_size, fwhm=_seeing(stars))

    def _placed(
        self, stars: StarList, reference: StarList | None, info: ExposureInfo, tile: Tile, is_reference: bool
    ) -> Registration:
        if is_reference or reference is None or (not self.refine and info.wcs_header):
            base = _identity(tile) if tile.frame == "pixel" else tile_to_wcs(info, tile)
            return Registration(base, np.zeros((2, 1)), -1, np.zeros(2), 1.0, float("nan"), len(stars))
        return self._register(stars, reference, info, tile)

    def _register(self, stars: StarList, reference: StarList, info: ExposureInfo, tile: Tile) -> Registration:
        base = None if tile.frame == "pixel" else tile_to_wcs(info, tile)
        return register(stars, reference, base, search_pixels=self.search_pixels)


def with_source_noise(calibrated: Calibrated, stars: StarList, psf: ConstantPsf | VaryingPsf) -> FloatArray:
    """Return the variance with the sources' own noise: from the gain, else as measured on the stars."""
    slope = source_noise(calibrated, stars, psf)
    if slope == 0:
        return calibrated.variance
    return (calibrated.variance + np.float32(slope) * np.maximum(calibrated.flux, 0)).astype(np.float32)


def _noise_of_stars(calibrated: Calibrated, stars: StarList, psf: ConstantPsf | VaryingPsf) -> FloatArray:
    """Return the variance with source noise, except of light that no neighbour shares and no star makes."""
    edge = np.pad(calibrated.flux, 1, mode="edge")
    around = edge[:-2, 1:-1] + edge[2:, 1:-1] + edge[1:-1, :-2] + edge[1:-1, 2:]
    shared = np.maximum(np.minimum(calibrated.flux, around), 0)
    variance = calibrated.variance + np.float32(source_noise(calibrated, stars, psf)) * shared
    return np.asarray(variance, np.float32)


def source_noise(calibrated: Calibrated, stars: StarList, psf: ConstantPsf | VaryingPsf) -> float:
    """Return the variance that one unit of source flux brings: from the gain, else as measured on the stars."""
    if calibrated.variance_per_flux is not None:
        return calibrated.variance_per_flux
    return measure_source_noise(calibrated.flux, calibrated.variance, calibrated.mask, stars, psf.psf)


def with_psf_flux(
    stars: StarList, flux: FloatArray, variance: FloatArray, mask: MaskArray, psf: FloatArray
) -> StarList:
    """Return stars with the flux that the PSF gives them: what subtraction compares, whatever the seeing."""
    fit = psf_flux(flux, variance, mask, psf, stars.y, stars.x)
    known = np.isfinite(fit.flux) & (fit.flux > 0) & (fit.masked_fraction < MAX_MASKED)
    return replace(
        stars,
        flux=np.where(known, fit.flux, stars.flux),
        flux_error=np.where(known, fit.error, stars.flux_error),
        is_clean=stars.is_clean & known,
    )


def flux_scale(stars: StarList, reference: StarList) -> tuple[float, float]:
    """Return the factor that brings stars to the reference flux, and its relative error (NaN: too few stars)."""
    if not len(stars) or not len(reference):
        return 1.0, float("nan")
    pairs = match_nearest(stars, np.column_stack([reference.y, reference.x]), radius=1.5)
    of, to = pairs[:, 0], pairs[:, 1]
    good = stars.is_clean[of] & reference.is_clean[to] & (np.minimum(stars.snr[of], reference.snr[to]) > SCALE_SNR)
    of, to = of[good], to[good]
    if len(of) < MIN_SCALE_STARS:
        return 1.0, float("nan")
    ratio = np.log(reference.flux[to] / stars.flux[of])
    weight = 1 / (1 / stars.snr[of] ** 2 + 1 / reference.snr[to] ** 2 + 0.01**2)
    for _ in range(4):
        centre = np.average(ratio, weights=weight)
        spread = max(1.4826 * float(np.median(np.abs(ratio - centre))), 1e-3)
        inside = np.abs(ratio - centre) < 3 * spread
        if inside.all() or inside.sum() < MIN_SCALE_STARS:
            break
        ratio, weight = ratio[inside], weight[inside]
    centre = float(np.average(ratio, weights=weight))
    error = float(np.sqrt(np.average((ratio - centre) ** 2, weights=weight) / len(ratio)))
    return float(np.exp(centre)), error


def _cell_psf(
    exposure: Exposure,
    registration: Registration,
    flux: FloatArray,
    variance: FloatArray,
    mask: NDArray[np.uint16],
    stars: StarList,
    size: int,
) -> ConstantPsf | VaryingPsf:
    if exposure.psf is not None:
        psf = transformed(exposure.psf, _scale_and_rotation(registration, flux.shape), size)
        quality = judged(psf, flux, variance, mask, stars, fwhm=_seeing(stars))
        return ConstantPsf(psf, "supplied", quality=quality)
    return measure_psf(flux, variance, mask, stars, size=size, fwhm=_seeing(stars), vary=True)


def _scale_and_rotation(registration: Registration, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the matrix that turns steps (dy, dx) on a tile into steps on the detector, at the tile's centre."""
    y, x = ((n - 1) / 2 for n in shape)
    ends = np.array(registration(y + np.array([0.5, -0.5, 0.0, 0.0]), x + np.array([0.0, 0.0, 0.5, -0.5])))
    return np.asarray(np.column_stack([ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 3]]), float)


def _seeing(stars: StarList) -> float:
    clean = stars.fwhm[stars.is_clean & (stars.snr > SCALE_SNR)]
    return typical_fwhm(clean if len(clean) >= MIN_SCALE_STARS else stars.fwhm)


def _not_suspect(stars: StarList, suspects: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether no suspect pixel lies within 1.5 px of each star."""
    if not len(suspects) or not len(stars):
        return np.ones(len(stars), bool)
    distance, _ = spatial.cKDTree(suspects.astype(float)).query(np.column_stack([stars.y, stars.x]))
    return np.asarray(distance > 1.5, bool)


def _identity(tile: Tile) -> Base:
    def base(y: Floats, x: Floats) -> tuple[Floats, Floats]:
        return y - tile.border, x - tile.border

    return base


def _wcs_of(info: ExposureInfo) -> WCS:
    return WCS(Header.fromstring(info.wcs_header or ""))


def tile_to_wcs(info: ExposureInfo, tile: Tile) -> Base:
    """Return where places of a tile lie on an exposure, by its WCS alone."""
    native, grid = _wcs_of(info), tile.wcs()

    def base(y: Floats, x: Floats) -> tuple[Floats, Floats]:
        sky = grid.pixel_to_world(np.asarray(x, float), np.asarray(y, float))
        px, py = native.world_to_pixel(sky)
        return np.asarray(py, float), np.asarray(px, float)

    return base


def _wcs_to_tile(info: ExposureInfo, tile: Tile) -> Base:
    native, grid = _wcs_of(info), tile.wcs()

    def base(y: Floats, x: Floats) -> tuple[Floats, Floats]:
        sky = native.pixel_to_world(np.asarray(x, float), np.asarray(y, float))
        px, py = grid.world_to_pixel(sky)
        return np.asarray(py, float), np.asarray(px, float)

    return base


def _inverted(registration: Registration, stars: StarList, tile: Tile) -> tuple[Floats, Floats]:
    """Return the tile positions of stars on the detector, by fixed-point iteration."""
    middle = np.array([[(n - 1) / 2] for n in tile.shape])
    step = 1.0
    at = np.array(registration(*middle))
    right = np.array(registration(middle[0], middle[1] + step)) - at
    up = np.array(registration(middle[0] + step, middle[1])) - at
    inverse = np.linalg.inv(np.column_stack([up, right]))
    target = np.stack([stars.y, stars.x])
    guess = middle + inverse @ (target - at)
    for _ in range(20):
        guess = guess + inverse @ (target - np.array(registration(guess[0], guess[1])))
    return guess[0], guess[1]
