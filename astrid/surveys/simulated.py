"""A seeded synthetic survey, written as FITS files and read back like any other."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.schema import KNOWN_EVENTS, MaskBit
from astrid.simulation import field, sky
from astrid.simulation.artefacts import make_defects
from astrid.simulation.galaxies import Galaxies
from astrid.simulation.psf import MoffatPsf
from astrid.simulation.transients import Transient, make_transients
from astrid.surveys.base import Listing
from astrid.surveys.fits import find_image, read_pixels

_RENDERING = 2  # raised when the same configuration gives other pixels
_STARS, _GALAXIES, _TRANSIENTS, _DETECTOR, _NIGHTS, _CONDITIONS, _ZERO_POINTS, _PIXELS = range(8)  # random streams


@dataclass(frozen=True)
class Simulated:
    """A field seen ``n_epochs`` times in each band.

    The files lie in a folder named after the configuration, under the folder of the
    survey: another configuration never meets them. Attributes are explained
    beside their values in ``conf/survey/simulated.yaml``; magnitudes are AB in the first
    band, pixels those of the detector.
    """

    seed: int = 1
    n_epochs: int = 10
    bands: tuple[str, ...] = ("g", "r")
    ra: float = 150.0
    dec: float = 2.2
    height: int = 488
    width: int = 1000
    pixel_scale_arcsec: float = 0.5
    start_mjd: float = 60000.0
    cadence_days: float = 2.0
    exposure_seconds: float = 60.0
    zero_point: float = 25.5
    zero_point_error: float = 0.01
    gain: float = 1.5
    read_noise: float = 6.0
    saturation: float = 50000.0
    stars_per_megapixel: float = 2400.0
    star_slope: float = 0.25
    star_magnitudes: tuple[float, float] = (14.0, 25.0)
    galaxies_per_megapixel: float = 220.0
    galaxy_magnitudes: tuple[float, float] = (18.5, 24.0)
    transients_on: bool = True
    n_transients: int = 15
    transient_magnitudes: tuple[float, float] = (18.5, 22.0)
    seeing_pixels: tuple[float, float] = (2.0, 4.0)
    moffat_beta: float = 3.5
    ellipticity: float = 0.06
    sky_counts: tuple[float, float] = (100.0, 500.0)
    sky_gradient: float = 0.02
    transparency: tuple[float, float] = (0.8, 1.0)
    dither_pixels: float = 10.0
    rotation_degrees: float = 0.02
    pointing_error_pixels: float = 0.2
    noise: bool = True
    cosmic_rays: float = 10.0
    bad_columns: int = 2
    hot_pixels: int = 60
    satellite_trail_probability: float = 0.1

    def __post_init__(self) -> None:
        for name in _PAIRS:
            object.__setattr__(self, name, _pair(name, getattr(self, name)))
        object.__setattr__(self, "bands", tuple(self.bands))
        if not self.bands or len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands must be one or more different names, got {self.bands}")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("pixel_scale_arcsec", "exposure_seconds", "gain", "cadence_days", "star_slope"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.moffat_beta > 1:
            raise ValueError(f"moffat_beta must be above 1, got {self.moffat_beta}")
        if not 0 <= self.ellipticity < 1 or not 0 <= self.satellite_trail_probability <= 1:
            raise ValueError(
                f"ellipticity must be in [0, 1) and satellite_trail_probability in [0, 1], "
                f"got {self.ellipticity} and {self.satellite_trail_probability}"
            )
        if self.saturation <= self.sky_counts[1]:
            raise ValueError(f"saturation ({self.saturation} counts) must lie above sky_counts {self.sky_counts}")

    @property
    def name(self) -> str:
        """The word after ``survey=``."""
        return "simulated"

    @property
    def acknowledgement(self) -> str:
        """Nothing to cite."""
        return ""

    @property
    def tile_core(self) -> int:
        """Side of the cores that suit the field; ``grid.core`` replaces it."""
        return 512

    @property
    def fingerprint(self) -> str:
        """Hash of the configuration, in every header."""
        return hashlib.sha256(repr((_RENDERING, sorted(asdict(self).items()))).encode()).hexdigest()[:16]

    @property
    def camera(self) -> sky.Camera:
        """The detector."""
        return sky.Camera(
            shape=(self.height, self.width),
            pixel_scale=self.pixel_scale_arcsec,
            exposure_time=self.exposure_seconds,
            zero_point=self.zero_point,
            gain=self.gain,
            read_noise=self.read_noise,
            saturation=self.saturation,
        )

    def list_exposures(self, folder: Path) -> Listing:
        """Write the files that are missing, and list all by reading their headers."""
        exposures = []
        for epoch, band in itertools.product(range(self.n_epochs), range(len(self.bands))):
            path = self._path(folder, epoch, band)
            if not _is_complete(path, self.fingerprint):
                self._write(path, epoch, band)
            exposures.append(_read_info(path, folder))
        self.known_events(folder)
        return Listing(tuple(sorted(exposures, key=lambda info: (info.mjd, info.exposure_id))))

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one exposure; saturated pixels and those without data are masked."""
        return _read(info)

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Return None: the templates are made from the exposures."""
        return None

    def known_events(self, folder: Path) -> pa.Table:
        """Return the truth, one row per event and exposure (flux 0 where it does not shine yet).

        It is also written beside the files, as ``truth.parquet``.
        """
        rows = []
        for epoch, (band, band_name) in itertools.product(range(self.n_epochs), enumerate(self.bands)):
            mjd = self.conditions(epoch, band).mjd
            for event in self.transients():
                ra, dec = event.position_at(mjd)
                flux = event.flux_at(mjd, band)
                rows.append(
                    {"event_id": event.event_id, "kind": event.kind, "ra": ra, "dec": dec}
                    | {"band": band_name, "mjd": mjd, "flux": flux}
                )
        table = pa.Table.from_pylist(rows, schema=KNOWN_EVENTS)
        path = self._path(folder, 0, 0).with_name("truth.parquet")
        if not path.exists():
            _write_whole(path, lambda temporary: pq.write_table(table, temporary))
        return table

    def true_psf(self, info: ExposureInfo, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return the PSF that an exposure was made with, centred, summing to one."""
        return MoffatPsf(**info.extra["psf"]).image(shape)

    def conditions(self, epoch: int, band: int) -> sky.Conditions:
        """Return the circumstances of one exposure."""
        rng = self._rng(_CONDITIONS, epoch, band)
        start = round(self._night(epoch) + band * (self.exposure_seconds + 60) / 86400, 8)  # exact in a header
        fwhm = math.exp(rng.uniform(math.log(self.seeing_pixels[0]), math.log(self.seeing_pixels[1])))
        ellipticity, angle = rng.uniform(0, self.ellipticity), rng.uniform(0, 180)
        level, slope = rng.uniform(*self.sky_counts), rng.uniform(-1, 1, 2) * self.sky_gradient
        transparency = rng.uniform(*self.transparency)
        dither = rng.uniform(-1, 1, 2) * self.dither_pixels
        rotation = rng.uniform(-1, 1) * self.rotation_degrees
        error = rng.normal(0, 1, 2) * self.pointing_error_pixels
        x, y = dither[1] + (self.width - 1) / 2, dither[0] + (self.height - 1) / 2
        ra, dec = self.plane().pixel_to_world_values(x, y)
        return sky.Conditions(
            mjd=start + self.exposure_seconds / 2 / 86400,
            psf=MoffatPsf(float(fwhm), self.moffat_beta, float(ellipticity), float(angle)),
            sky=float(level),
            sky_slope=(float(slope[0]), float(slope[1])),
            transparency=float(transparency),
            ra=float(ra),
            dec=float(dec),
            rotation=float(rotation),
            pointing_error=(float(error[0]), float(error[1])),
        )

    def plane(self) -> WCS:
        """Return the WCS of the field without dither, rotation and error."""
        return sky.field_wcs(self.ra, self.dec, (self.height, self.width), self.pixel_scale_arcsec)

    def stars(self) -> field.Stars:
        """Return the stars, those a little outside the field included."""
        return field.make_stars(
            self._rng(_STARS),
            self.plane(),
            self._number(self.stars_per_megapixel),
            slope=self.star_slope,
            brightest=self.star_magnitudes[0],
            faintest=self.star_magnitudes[1],
            n_bands=len(self.bands),
            margin=self._margin,
        )

    def galaxies(self) -> Galaxies:
        """Return the galaxies, those a little outside the field included."""
        return field.make_galaxies(
            self._rng(_GALAXIES),
            self.plane(),
            self._number(self.galaxies_per_megapixel),
            brightest=self.galaxy_magnitudes[0],
            faintest=self.galaxy_magnitudes[1],
            n_bands=len(self.bands),
            margin=self._margin,
        )

    def transients(self) -> tuple[Transient, ...]:
        """Return the transients: none where ``transients_on`` is false."""
        return _transients(self) if self.transients_on else ()

    def render(self, epoch: int, band: int) -> NDArray[np.float32]:
        """Return the pixels of one exposure, in counts; the same for the same configuration."""
        camera, conditions = self.camera, self.conditions(epoch, band)
        stars, galaxies = _sources(self)
        static = sky.expected_sources(camera, conditions, stars, galaxies, band=band)
        defects = make_defects(
            self._rng(_DETECTOR), camera.shape, bad_columns=self.bad_columns, hot_pixels=self.hot_pixels
        )
        return sky.expose(
            self._rng(_PIXELS, epoch, band),
            camera,
            conditions,
            static=static + sky.expected_sky(camera, conditions),
            transient=sky.expected_transients(camera, conditions, self.transients(), band=band),
            defects=defects,
            noise=self.noise,
            cosmic_ray_count=self.cosmic_rays,
            trail_probability=self.satellite_trail_probability,
        )

    @property
    def _margin(self) -> float:
        return self.dither_pixels + 30

    def _number(self, per_megapixel: float) -> int:
        area = (self.height + 2 * self._margin) * (self.width + 2 * self._margin)
        return round(per_megapixel * area / 1e6)

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    def _night(self, epoch: int) -> float:
        jitter = float(self._rng(_NIGHTS, epoch).uniform(-0.05, 0.05))
        return self.start_mjd + self.cadence_days * (epoch + jitter)

    def _path(self, folder: Path, epoch: int, band: int) -> Path:
        return Path(folder) / f"simulated-{self.fingerprint}" / f"sim_{epoch:04d}_{self.bands[band]}.fits"

    def _write(self, path: Path, epoch: int, band: int) -> None:
        conditions = self.conditions(epoch, band)
        header = self._header(conditions, epoch, band)
        hdu = fits.PrimaryHDU(self.render(epoch, band), header=header)
        _write_whole(path, lambda temporary: hdu.writeto(temporary))

    def _header(self, conditions: sky.Conditions, epoch: int, band: int) -> fits.Header:
        jitter = self._rng(_ZERO_POINTS, epoch, band).normal(0, self.zero_point_error)
        zero_point = self.zero_point + 2.5 * math.log10(conditions.transparency) + float(jitter)
        wcs = sky.field_wcs(
            conditions.ra,
            conditions.dec,
            (self.height, self.width),
            self.pixel_scale_arcsec,
            rotation=conditions.rotation,
            offset=conditions.pointing_error,
        )
        header = wcs.to_header()
        mjd = round(conditions.mjd - self.exposure_seconds / 2 / 86400, 8)
        psf = conditions.psf
        for key, value, comment in (
            ("DATE-OBS", Time(mjd, format="mjd", scale="utc", precision=6).isot, "start of the exposure, UTC"),
            ("MJD-OBS", mjd, "[d] start of the exposure, UTC"),
            ("EXPTIME", self.exposure_seconds, "[s] exposure time"),
            ("FILTER", self.bands[band], "pass band"),
            ("GAIN", self.gain, "[electron/count]"),
            ("RDNOISE", self.read_noise, "[electron] read noise"),
            ("SATURATE", self.saturation, "[count] saturation level"),
            ("MAGZERO", round(zero_point, 4), "AB magnitude of 1 count/s"),
            ("BUNIT", "count", "unit of the pixels"),
            ("INSTRUME", "AstrID simulation", "instrument"),
            ("DETECTOR", f"sim{self.seed}", "detector"),
            ("PSFFWHM", psf.fwhm, "[pixel] true FWHM before the pixel"),
            ("PSFBETA", psf.beta, "true Moffat exponent"),
            ("PSFELL", psf.ellipticity, "true ellipticity, 1 - b/a"),
            ("PSFPA", psf.angle, "[deg] true long axis, from +x to +y"),
            ("SIMEPOCH", epoch, "epoch of the simulation"),
            ("SIMCONF", self.fingerprint, "hash of the configuration"),
        ):
            header[key] = (value, comment)
        return header


_PAIRS = (
    "star_magnitudes",
    "galaxy_magnitudes",
    "transient_magnitudes",
    "seeing_pixels",
    "sky_counts",
    "transparency",
)
_LEAST = {
    "seed": 0,
    "n_epochs": 1,
    "height": 16,
    "width": 16,
    "stars_per_megapixel": 0,
    "galaxies_per_megapixel": 0,
    "n_transients": 0,
    "zero_point_error": 0,
    "read_noise": 0,
    "sky_gradient": 0,
    "dither_pixels": 0,
    "rotation_degrees": 0,
    "pointing_error_pixels": 0,
    "cosmic_rays": 0,
    "bad_columns": 0,
    "hot_pixels": 0,
}


def _pair(name: str, value: Sequence[float]) -> tuple[float, float]:
    if len(value) != 2 or not value[0] <= value[1]:
        raise ValueError(f"{name} must be [low, high], got {value}")
    least = {"seeing_pixels": 1.0, "sky_counts": 0.0, "transparency": 1e-3}.get(name, -math.inf)
    if value[0] < least:
        raise ValueError(f"{name} must not fall below {least}, got {value}")
    return float(value[0]), float(value[1])


@cache
def _sources(survey: Simulated) -> tuple[field.Stars, Galaxies]:
    return survey.stars(), survey.galaxies()


@cache
def _transients(survey: Simulated) -> tuple[Transient, ...]:
    """Draw the transients of a survey, once per process."""
    rng = np.random.default_rng([survey.seed, _TRANSIENTS])
    stars, galaxies = _sources(survey)
    places, hosts = field.place_transients(
        rng, survey.plane(), survey.n_transients, stars=stars, galaxies=galaxies, margin=survey.dither_pixels + 12
    )
    return make_transients(
        rng,
        survey.n_transients,
        mjds=[survey.conditions(epoch, 0).mjd for epoch in range(survey.n_epochs)],
        places=places,
        hosts=hosts,
        magnitudes=survey.transient_magnitudes,
        n_bands=len(survey.bands),
    )


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name and rename, so that no reader meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_complete(path: Path, fingerprint: str) -> bool:
    """Return whether a file is there in full and of this configuration."""
    try:
        return path.exists() and find_image(path).header.get("SIMCONF") == fingerprint
    except DataError:
        return False


def _read_info(path: Path, folder: Path) -> ExposureInfo:
    header = find_image(path).header
    return ExposureInfo(
        exposure_id=path.relative_to(folder).as_posix(),
        path=str(path),
        band=header["FILTER"],
        mjd=float(header["MJD-OBS"] + header["EXPTIME"] / 2 / 86400),
        exposure_time=float(header["EXPTIME"]),
        shape=(int(header["NAXIS2"]), int(header["NAXIS1"])),
        wcs_header=WCS(header).celestial.to_header().tostring(),
        unit="count",
        zero_point=float(header["MAGZERO"]),
        gain=float(header["GAIN"]),
        saturation=float(header["SATURATE"]),
        detector=header["DETECTOR"],
        extra={
            "read_noise": float(header["RDNOISE"]),
            "epoch": int(header["SIMEPOCH"]),
            "psf": {
                "fwhm": float(header["PSFFWHM"]),
                "beta": float(header["PSFBETA"]),
                "ellipticity": float(header["PSFELL"]),
                "angle": float(header["PSFPA"]),
            },
        },
    )


def _read(info: ExposureInfo) -> Exposure:
    path = Path(info.path)
    if not path.exists():
        raise DataError(f"{path}: is gone; list the survey again to have it made")
    flux = read_pixels(path, info.hdu)[0].astype(np.float32)
    if flux.shape != info.shape:
        raise DataError(f"{path}: is {flux.shape} but {info.shape} was listed; delete it and list the survey again")
    finite = np.isfinite(flux)
    if not finite.any():
        raise DataError(f"{path}: holds no finite pixel; delete it and list the survey again")
    mask = np.where(finite, 0, MaskBit.NO_DATA).astype(np.uint16)
    if info.saturation is not None:
        mask[finite & (flux >= info.saturation)] |= np.uint16(MaskBit.SATURATED)
    return Exposure(info=info, flux=flux, mask=mask)
