"""Alerts of the Vera C. Rubin Observatory, from a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.surveys.alerts import AlertSurvey, PastPoint, StampKind
from astrid.surveys.fields import identity, magnitude_of, number, tangent_header, within
from astrid.surveys.packets import Record
from astrid.surveys.stamps import Stamp, masked, read_stamp_header

BANDS = ("u", "g", "r", "i", "z", "y")
PIXEL_SCALE = 0.2  # arcsec
EXPOSURE_TIME = 30.0  # seconds of a visit; alerts do not say
_ACTIVE_GALAXIES = ("QSO", "AGN", "Sy1", "Sy2", "SyG", "BLL", "Bla")
_VARIABLE_STARS = ("EB*", "RR*", "V*", "LP*", "Mi*", "CV*", "No*", "Pu*", "dS*", "RS*", "BY*", "Ce*", "TT*", "Or*")


@dataclass(frozen=True)
class RubinAlerts(AlertSurvey):
    """Rubin alerts as a Parquet table: a row per alert, stamps as FITS files of flux, variance and PSF planes.

    Stamps are in nJy and have a WCS of their own whose reference pixel is the event; the pixel that holds it
    is the central one, or for even sides one of the two central ones. Science, template and difference share
    their pixels. Differences are science minus template; the sign of an alert is that of its ``psfFlux``
    (``isNegative`` says otherwise for some, mostly dipoles). Times, TAI in the table, become UTC.

    ``extra["survey_significance"]`` is ``snr`` with the sign of the flux. Fluxes in ``extra`` are in nJy.
    """

    name: str = "rubin_alerts"
    acknowledgement: str = (
        "This work uses alerts of the NSF-DOE Vera C. Rubin Observatory, a joint initiative of the U.S. National"
        " Science Foundation and the U.S. Department of Energy's Office of Science. Cite Ivezic et al. 2019"
        " (ApJ 873, 111) and the broker that the alerts came from."
    )

    stamp_fields: ClassVar[dict[StampKind, str]] = {
        "science": "cutoutScience",
        "template": "cutoutTemplate",
        "difference": "cutoutDifference",
    }
    required: ClassVar[tuple[str, ...]] = ("diaSourceId", "mjd", "band", "ra", "dec", "psfFlux", "cutoutScience")
    optional: ClassVar[tuple[str, ...]] = (
        "splitKey", "psfFluxErr", "snr", "reliability", "isDipole", "isNegative", "isSSO", "crossmatch", "tns_type",
        "diaSource_json", "label", "label_basis",
    )  # fmt: skip
    history_fields: ClassVar[tuple[str, ...]] = ("history_json",)

    def describe(self, record: Record, path: str) -> ExposureInfo:
        """Say what an alert holds."""
        band = identity(record, "band")
        if band not in BANDS:
            raise DataError(f"band = {band!r} is none of {', '.join(BANDS)}; the table is damaged")
        ra, dec = within(record, "ra", 0.0, 360.0), within(record, "dec", -90.0, 90.0)
        flux = within(record, "psfFlux", -1e12, 1e12)
        snr = number(record, "snr")
        source = _json(record, "diaSource_json", {})
        header = read_stamp_header(record["cutoutScience"])
        shape, wcs_header, (y, x) = stamp_wcs(header, ra, dec)
        phase = (y - shape[0] // 2, x - shape[1] // 2)
        if not all(-1.5 <= p <= 1.5 for p in phase):
            raise DataError(f"the WCS of cutoutScience puts the event at x = {x:.1f}, y = {y:.1f}, off the centre")
        negative = flux < 0
        visit, detector = number(source, "visit"), number(source, "detector")
        error = number(record, "psfFluxErr")
        extra: dict[str, Any] = {
            "object_id": object_name(record, source),
            "ra": ra,
            "dec": dec,
            "is_negative": negative,
            "fwhm": _fwhm(source),
            "pixel_scale": PIXEL_SCALE,
            "survey_magnitude": magnitude_of(flux),
            "survey_magnitude_error": None if not error or not flux else 2.5 / math.log(10) * error / abs(flux),
            "survey_flux": flux,
            "survey_flux_error": error,
            "survey_significance": None if snr is None else -abs(snr) if negative else abs(snr),
            "limiting_magnitude": magnitude_of(5 * error) if error else None,
            "survey_score": number(record, "reliability"),
            "label": record.get("label"),
            "label_basis": record.get("label_basis") or _basis(record),
            "catalogue_type": record.get("crossmatch"),
            "is_dipole": record.get("isDipole"),
            "y": y,
            "x": x,
            "phase_y": phase[0],
            "phase_x": phase[1],
            "visit": None if visit is None else str(int(visit)),
        }
        return ExposureInfo(
            exposure_id=identity(record, "diaSourceId"),
            path=path,
            band=band,
            mjd=utc(within(record, "mjd", 57754.0, 88069.0)),
            exposure_time=EXPOSURE_TIME,
            shape=shape,
            wcs_header=wcs_header,
            unit="nJy",
            detector="" if detector is None else f"det{int(detector):03d}",
            extra=extra,
        )

    def past(self, record: Record) -> Iterator[PastPoint]:
        """Yield the earlier detections of an alert."""
        for entry in _json(record, "history_json", []):
            time, flux = number(entry, "midpointMjdTai"), number(entry, "psfFlux")
            band, error = entry.get("band"), number(entry, "psfFluxErr")
            if time is None or flux is None or flux == 0 or band not in BANDS:
                continue
            yield PastPoint(
                utc(time),
                band,
                magnitude_of(flux),
                None if error is None else 2.5 / math.log(10) * error / abs(flux),
                magnitude_of(5 * error) if error else None,
                flux < 0,
            )

    def exposure(self, info: ExposureInfo, stamp: Stamp, kind: StampKind) -> Exposure:
        """Make an exposure of the planes of a stamp; variance and PSF where it has them."""
        flux = stamp.planes[0].pixels.astype(np.float32)
        if flux.shape != info.shape:
            raise DataError(f"is {flux.shape} px but the science stamp is {info.shape}")
        planes = {str(plane.header.get("EXTNAME", "")).upper(): plane.pixels for plane in stamp.planes[1:]}
        variance = planes.get("UNCERT")
        if variance is not None:
            if variance.shape != flux.shape:
                raise DataError(f"its variance is {variance.shape} px, its flux {flux.shape}")
            variance = variance.astype(np.float32)
        return masked(info, flux, variance, _psf(planes.get("PSFIMAGE")))


def object_name(record: Record, source: dict[str, Any]) -> str:
    """Return the object of an alert: things at one place share a name, each sight of a moving one has its own."""
    if source.get("diaObjectId"):
        return identity(source, "diaObjectId")
    moving = source.get("ssObjectId")
    return f"ss{moving}-{record['diaSourceId']}" if moving else identity(record, "diaSourceId")


def utc(mjd: float) -> float:
    """Return an MJD in UTC of one in TAI."""
    return mjd - _tai_minus_utc(math.floor(mjd))


@lru_cache(maxsize=4096)
def _tai_minus_utc(day: int) -> float:
    time = Time(float(day), format="mjd", scale="tai")
    return float(day - time.utc.mjd)


def stamp_wcs(header: dict[str, Any], ra: float, dec: float) -> tuple[tuple[int, int], str, tuple[float, float]]:
    """Read the WCS of a stamp, whose header lacks the projection: it is TAN.

    Returns
    -------
    shape : tuple of int
        (ny, nx).
    wcs_header : str
        FITS header text.
    position : tuple of float
        (y, x) of the sky position, counted from zero.
    """
    names = ("NAXIS1", "NAXIS2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "PC1_1", "PC1_2", "PC2_1", "PC2_2")
    value = {name: number(header, name) for name in names}
    absent = [name for name, found in value.items() if found is None]
    if absent:
        raise DataError(f"the header of cutoutScience lacks {', '.join(absent)}")
    v = {name: float(found) for name, found in value.items() if found is not None}
    shape = (int(v["NAXIS2"]), int(v["NAXIS1"]))
    steps = (number(header, "CDELT1") or 1.0, number(header, "CDELT2") or 1.0)
    cd = (v["PC1_1"] * steps[0], v["PC1_2"] * steps[0], v["PC2_1"] * steps[1], v["PC2_2"] * steps[1])
    scale = 3600 * math.sqrt(abs(cd[0] * cd[3] - cd[1] * cd[2]))
    if not 0.5 * PIXEL_SCALE < scale < 2 * PIXEL_SCALE or abs(v["CRVAL2"]) > 90:
        raise DataError(f"the header of cutoutScience says {scale:.3g} arcsec per pixel; the stamp is damaged")
    text = tangent_header(shape, v["CRVAL1"], v["CRVAL2"], (v["CRPIX1"], v["CRPIX2"]), cd)
    if abs(v["CRVAL1"] - ra) < 1e-7 and abs(v["CRVAL2"] - dec) < 1e-7:
        return shape, text, (v["CRPIX2"] - 1.0, v["CRPIX1"] - 1.0)
    x, y = WCS(fits.Header.fromstring(text)).wcs_world2pix(ra, dec, 0)
    return shape, text, (float(y), float(x))


def _psf(plane: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """Return a PSF plane odd-sided and summing to one."""
    if plane is None:
        return None
    plane = plane[: plane.shape[0] - (plane.shape[0] % 2 == 0), : plane.shape[1] - (plane.shape[1] % 2 == 0)]
    total = float(plane.sum())
    if not (math.isfinite(total) and 0.5 < total < 2.0 and float(np.abs(plane).max()) <= 1.0):
        raise DataError(f"its PSF sums to {total:.3g}; the stamp is damaged")
    return np.asarray(plane / total, np.float32)


def _fwhm(source: dict[str, Any]) -> float | None:
    """Return the width of the PSF at the source from its second moments (arcsec squared), in pixels."""
    xx, yy = number(source, "ixxPSF"), number(source, "iyyPSF")
    if xx is None or yy is None or not 0 < xx + yy < 100:
        return None
    return 2.3548 * math.sqrt(0.5 * (xx + yy)) / PIXEL_SCALE


def _basis(record: Record) -> str | None:
    """Return what catalogues know of an alert, in the words of ``label_basis``."""
    if record.get("tns_type"):
        return "catalogue:transient"
    if record.get("isSSO"):
        return "catalogue:solar-system"
    known = str(record.get("crossmatch") or "")
    if known in _ACTIVE_GALAXIES:
        return "catalogue:agn"
    return "catalogue:variable" if known in _VARIABLE_STARS else None


def _json(record: Record, field: str, default: Any) -> Any:
    """Decode a field that holds JSON; what it should be where it holds none."""
    text = record.get(field)
    if not text:
        return default
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{field} is not JSON ({error})") from error
    return value if isinstance(value, type(default)) else default
