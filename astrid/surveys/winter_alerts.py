"""Alert packets of WINTER, the infrared time-domain explorer at Palomar."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.surveys.alerts import AlertSurvey, PastPoint, StampKind
from astrid.surveys.fields import identity, is_negative, nanojansky, number, tangent_header, within
from astrid.surveys.packets import Record
from astrid.surveys.stamps import Stamp, masked

BANDS = {1: "Y", 2: "J", 3: "Hs"}
PIXEL_SCALE = 1.13  # arcsec
SIDE = 81
_JD = 2400000.5
_DAY = 86400.0


@dataclass(frozen=True)
class WinterAlerts(AlertSurvey):
    """WINTER alerts in Avro.

    Filters are numbered from one, as the survey's pipeline does and other than the packets' documentation
    says. Measured on 11 packets with the 2MASS stars they name: x grows to the west, y to the north, at 1.13
    arcsec per pixel; magnitudes are AB (stars are 0.9 mag fainter than in 2MASS J). The event is within a
    pixel or so of the centre of the 81 px stamp; where exactly could not be told. Edges are NaN, not cut.
    """

    name: str = "winter_alerts"
    acknowledgement: str = "Based on observations with WINTER at Palomar Observatory. Cite Lourie et al. 2020."

    stamp_fields: ClassVar[dict[StampKind, str]] = {
        "science": "cutout_science",
        "template": "cutout_template",
        "difference": "cutout_difference",
    }
    required: ClassVar[tuple[str, ...]] = ("candid", "objectid", "jd", "fid", "exptime", "ra", "dec", "isdiffpos")
    optional: ClassVar[tuple[str, ...]] = (
        "schemavsn", "magpsf", "sigmapsf", "diffmaglim", "magzpsci", "fwhm", "scorr", "rb", "label", "label_basis",
    )  # fmt: skip
    history_fields: ClassVar[tuple[str, ...]] = ("prv_candidates",)

    def describe(self, record: Record, path: str) -> ExposureInfo:
        """Say what an alert holds."""
        fid = number(record, "fid")
        if fid not in BANDS:
            raise DataError(f"fid = {record.get('fid')!r} is none of {', '.join(map(str, BANDS))}")
        seconds = within(record, "exptime", 0.1, 36000.0)
        ra, dec = within(record, "ra", 0.0, 360.0), within(record, "dec", -90.0, 90.0)
        negative = is_negative(record["isdiffpos"])
        magnitude, zero_point = number(record, "magpsf"), number(record, "magzpsci")
        scorr, fwhm = number(record, "scorr"), number(record, "fwhm")
        degrees, middle = PIXEL_SCALE / 3600, SIDE // 2
        extra: dict[str, Any] = {
            "object_id": identity(record, "objectid"),
            "ra": ra,
            "dec": dec,
            "is_negative": negative,
            "fwhm": fwhm if fwhm is not None and fwhm > 0 else None,
            "pixel_scale": PIXEL_SCALE,
            "survey_magnitude": magnitude,
            "survey_magnitude_error": number(record, "sigmapsf"),
            "survey_flux": nanojansky(magnitude, negative),
            "survey_significance": None if scorr is None else -abs(scorr) if negative else abs(scorr),
            "limiting_magnitude": number(record, "diffmaglim"),
            "survey_score": number(record, "rb"),
            "label": record.get("label"),
            "label_basis": record.get("label_basis"),
            "is_dipole": None,
            "y": float(middle),
            "x": float(middle),
            "phase_y": 0.0,
            "phase_x": 0.0,
        }
        return ExposureInfo(
            exposure_id=identity(record, "candid"),
            path=path,
            band=BANDS[int(fid)],
            mjd=within(record, "jd", 2457754.5, 2488069.5) - _JD + 0.5 * seconds / _DAY,
            exposure_time=seconds,
            shape=(SIDE, SIDE),
            wcs_header=tangent_header(
                (SIDE, SIDE), ra, dec, (middle + 1.0, middle + 1.0), (-degrees, 0.0, 0.0, degrees)
            ),
            unit="count",
            zero_point=None if zero_point is None else zero_point - 2.5 * math.log10(seconds),
            extra=extra,
        )

    def past(self, record: Record) -> Iterator[PastPoint]:
        """Yield the packet's earlier detections, at the start of their exposures: lengths are not given."""
        for entry in record.get("prv_candidates") or ():
            start, band = number(entry, "jd"), BANDS.get(int(number(entry, "fid") or 0))
            magnitude = number(entry, "magpsf")
            if start is None or band is None or magnitude is None:
                continue
            sign = is_negative(entry.get("isdiffpos"))
            yield PastPoint(start - _JD, band, magnitude, number(entry, "sigmapsf"), None, sign)

    def exposure(self, info: ExposureInfo, stamp: Stamp, kind: StampKind) -> Exposure:
        """Make an exposure of a stamp."""
        flux = stamp.planes[0].pixels.astype(np.float32)
        if flux.shape != info.shape:
            raise DataError(f"is {flux.shape[0]} x {flux.shape[1]} px, not {SIDE} x {SIDE}")
        if kind == "difference" and info.extra["is_negative"]:
            flux = -flux
        return masked(info, flux)
