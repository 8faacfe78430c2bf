"""Any folder of FITS images."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo, FloatArray, MaskArray
from astrid.schema import MaskBit
from astrid.surveys import fits
from astrid.surveys.base import Listing, Problem
from astrid.surveys.companions import COMPANIONS, find_companions, read_companion, read_psf, split_hdu
from astrid.surveys.headers import (
    UNITS,
    Headers,
    celestial_header,
    keyword_table,
    parse_unit,
    pixel_area_sr,
)
from astrid.surveys.products import Product, recognise
from astrid.surveys.times import TIME_KEYWORDS, find_time

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Directory:
    """A folder of FITS images, searched with its subfolders; or one such file.

    Files are plain, gzip, bzip2 or fpack (told by content), with or without WCS. What headers say is
    found under common keywords; a value given here replaces them.

    Attributes
    ----------
    path : str
        The folder.
    include, exclude : sequence of str
        Glob patterns of relative paths or file names; all are included by default.
    keywords : mapping
        Keyword or keywords by meaning, instead of the common ones: time, band, gain, exposure_time,
        saturation, zero_point, unit, detector. ``A+B`` joins two: a date and a time of day, two filter wheels.
    companions : mapping
        Path pattern by kind: variance, sigma, mask, psf, template. ``{stem}`` is the file name without FITS
        suffixes, ``{name}`` with them, ``{folder}`` the exposure's folder, in which relative patterns start.
        ``*`` and ``?`` match (the first in order counts); ``[SCI]`` or ``[2]`` at the end chooses an HDU.
        Companions are no exposures.
    hdu : int, str or None
        Index or EXTNAME of the image; the first two-dimensional one by default.
    mask_bits : int or None
        Bits of the mask that mean bad; any bit by default.
    time_is : "auto", "start", "mid" or "end"
        The moment of an exposure its time keyword means; by default told by the keyword's name.
    band, unit : str or None
        Instead of the header's. Units: count, count/s, electron, electron/s, nJy.
    gain, exposure_time, zero_point : float or None
        Instead of the header's. Gain in electrons per count.
    saturation : float, "auto" or None
        In counts as stored; "auto" takes the header's, or in integer data the level at which pixels pile up.
    zero_point_is : "per_exposure" or "per_second"
        Whether zero points are AB magnitudes of one unit of the stored pixels (as in most headers), or of
        one per second. They differ where pixels are counts of the whole exposure.
    """

    path: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    keywords: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict)
    companions: Mapping[str, str | None] = field(default_factory=dict)
    hdu: int | str | None = None
    mask_bits: int | None = None
    time_is: Literal["auto", "start", "mid", "end"] = "auto"
    band: str | None = None
    unit: str | None = None
    gain: float | None = None
    exposure_time: float | None = None
    zero_point: float | None = None
    saturation: float | str | None = "auto"
    zero_point_is: Literal["per_exposure", "per_second"] = "per_exposure"
    name: str = "directory"
    acknowledgement: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is empty; give the folder of the images")
        keyword_table(self.keywords)
        unknown = sorted(set(self.companions) - set(COMPANIONS))
        if unknown:
            raise ValueError(f"companions: {', '.join(unknown)} is not one of {', '.join(COMPANIONS)}")
        for kind, pattern in self.companions.items():
            try:
                (pattern or "").format(stem="", name="", folder="")
            except (KeyError, IndexError, ValueError):
                raise ValueError(
                    f"companions.{kind} = {pattern!r}: only {{stem}}, {{name}} and {{folder}} may stand in braces"
                ) from None
        for what, value, allowed in (
            ("time_is", self.time_is, ("auto", "start", "mid", "end")),
            ("zero_point_is", self.zero_point_is, ("per_exposure", "per_second")),
            ("unit", self.unit, (None, *UNITS)),
        ):
            if value not in allowed:
                raise ValueError(f"{what} is {value!r}, not one of {', '.join(str(a) for a in allowed if a)}")
        for what, number in (("gain", self.gain), ("exposure_time", self.exposure_time)):
            if number is not None and not (math.isfinite(number) and number > 0):
                raise ValueError(f"{what} must be positive, got {number}")
        if isinstance(self.saturation, str) and self.saturation != "auto":
            raise ValueError(f'saturation must be a number, "auto" or null, got {self.saturation!r}')

    def list_exposures(self, folder: Path) -> Listing:
        """List the exposures by time, then path; files that cannot be used are problems."""
        root, paths = self._files()
        companions = {path: find_companions(self.companions, path) for path in paths}
        taken = {
            os.path.normpath(split_hdu(companion)[0])
            for path, found in companions.items()
            for companion in found.values()
            if os.path.normpath(split_hdu(companion)[0]) != os.path.normpath(path)
        }
        exposures: list[ExposureInfo] = []
        problems: list[Problem] = []
        for path in paths:
            if os.path.normpath(path) in taken or not self._wanted(path.relative_to(root)):
                continue
            try:
                exposures.append(self._describe(path, path.relative_to(root).as_posix(), companions[path]))
            except DataError as error:
                problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
        if not exposures and not problems:
            raise DataError(f"{root}: no FITS image passes {self._filters()}; check survey.path, include and exclude")
        if not exposures:
            first = problems[0]
            raise DataError(
                f"{root}: none of {len(problems)} FITS files can be used; the first: {first.path}: {first.reason}"
            )
        _report_notes(exposures)
        return Listing(tuple(sorted(exposures, key=lambda e: (e.mjd, e.exposure_id))), tuple(problems))

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one exposure; DataError if it cannot be read in full or holds no finite pixel."""
        path = Path(info.path)
        pixels, stored = fits.read_pixels(path, info.hdu)
        factor = float(info.extra.get("flux_factor", 1.0))
        flux = (pixels * factor).astype(np.float32)
        finite = np.isfinite(flux)
        if not finite.any():
            raise DataError(f"{path}: no finite pixel in HDU {info.hdu}")
        if info.saturation is None and self.saturation == "auto" and stored.dtype.kind in "iu":
            level = saturation_level(stored[finite])
            if level is not None:
                reached = float(pixels[finite & (stored == level)].flat[0]) * factor
                info = dataclasses.replace(info, saturation=reached)
        mask = np.zeros(flux.shape, np.uint16)
        mask[~finite] |= np.uint16(MaskBit.NO_DATA)
        flux[~finite] = np.nan
        if info.saturation is not None:
            mask[finite & (flux >= np.float32(info.saturation))] |= np.uint16(MaskBit.SATURATED)
        variance = self._read_variance(info, mask, factor)
        if "mask" in info.companions:
            bad = read_companion(info, "mask")
            if self.mask_bits is not None:
                bad = np.where(np.isfinite(bad), bad, self.mask_bits).astype(np.int64) & self.mask_bits
            mask[bad != 0] |= np.uint16(MaskBit.BAD)
        psf = read_psf(*split_hdu(info.companions["psf"])) if "psf" in info.companions else None
        return Exposure(info, flux, mask, variance, psf)

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Read the template companion; what its header lacks is taken from the exposure."""
        if "template" not in info.companions:
            return None
        name, hdu = split_hdu(info.companions["template"])
        own = self._describe(Path(name), Path(name).name, {}, hdu=hdu, fallback=info)
        return self.read_exposure(own)

    def known_events(self, folder: Path) -> pa.Table | None:
        """Return None: a folder does not say."""
        return None

    def true_psf(self, info: ExposureInfo, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Return None: a folder does not say."""
        return None

    def _files(self) -> tuple[Path, list[Path]]:
        root = Path(os.path.abspath(os.path.expanduser(self.path)))
        if root.is_file():
            return root.parent, [root]
        if not root.is_dir():
            raise DataError(f"{root} does not exist; survey.path must be a folder of FITS images")
        found: list[Path] = []
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            found += [
                Path(folder, name) for name in sorted(names) if fits.is_fits_name(name) and not name.startswith(".")
            ]
        if not found:
            raise DataError(
                f"{root}: no FITS file in it or its subfolders; names must end in .fits, .fit or .fts,"
                " also with .gz, .fz or .bz2"
            )
        return root, found

    def _wanted(self, relative: Path) -> bool:
        def matches(patterns: Sequence[str]) -> bool:
            names = (relative.as_posix(), relative.name)
            return any(fnmatchcase(name, pattern) for pattern in _listed(patterns) for name in names)

        return (not self.include or matches(self.include)) and not matches(self.exclude)

    def _filters(self) -> str:
        return f"include {list(_listed(self.include)) or 'all'}, exclude {list(_listed(self.exclude)) or 'none'}"

    def _describe(
        self,
        path: Path,
        exposure_id: str,
        companions: dict[str, str],
        *,
        hdu: int | str | None = None,
        fallback: ExposureInfo | None = None,
        needs_time: bool = True,
    ) -> ExposureInfo:
        """Say what is known of a file from its headers; ``fallback`` is for what they lack."""
        image = fits.find_image(path, self.hdu if hdu is None else hdu)
        headers = Headers((image.header, image.primary))
        table = keyword_table(self.keywords)
        product = recognise(headers)
        notes = list(product.notes) if product else []
        notes += [
            f"no {kind} at {pattern}"
            for kind, pattern in self.companions.items()
            if pattern and fallback is None and kind not in companions
        ]
        seconds = self.exposure_time or headers.exposure_seconds(table["exposure_time"])
        if seconds is None and fallback is not None:
            seconds = fallback.exposure_time
        if seconds is None:
            notes.append("no exposure time; fluxes are per image (survey.exposure_time=SECONDS sets one)")
        wanted = table.get("time")
        stamp, disagreements = find_time(
            headers, seconds or 0.0, wanted, None if self.time_is == "auto" else self.time_is
        )
        notes += disagreements
        if product and product.mjd is not None and not wanted and self.time_is == "auto":
            mjd = product.mjd
        elif stamp is not None:
            mjd = stamp.middle(seconds or 0.0)
            if stamp.precision > 0.01:
                notes.append(f"{stamp.keyword} gives the time only to {stamp.precision * 24:.3g} hours")
        elif fallback is not None:
            mjd = fallback.mjd
        elif needs_time:
            raise DataError(
                f"{path}: no time of observation; tried {', '.join(wanted or TIME_KEYWORDS)};"
                " name the keyword with survey.keywords.time=KEYWORD (DATE+TIME joins two)"
            )
        else:
            mjd = math.nan
        wcs_header = celestial_header(image.header, image.shape)
        if wcs_header is None and fallback is not None and fallback.shape == image.shape:
            wcs_header = fallback.wcs_header
        unit, factor = self._unit(path, headers, table["unit"], wcs_header, fallback, product)
        own = product.band if product and not self.keywords.get("band") else None
        band = self.band or own or headers.first_text(table["band"]) or (fallback.band if fallback else None)
        if not band:
            notes.append("no band; it is called unknown (survey.band=NAME sets one)")
        info = ExposureInfo(
            exposure_id=exposure_id,
            path=str(path),
            band=band or "unknown",
            mjd=float(mjd),
            exposure_time=float(seconds or 1.0),
            shape=image.shape,
            wcs_header=wcs_header,
            unit=unit,
            detector=headers.first_text(table["detector"]) or "",
            companions=companions,
            hdu=image.index,
            extra={"notes": notes, "flux_factor": factor},
        )
        return self._calibrated(info, headers, table, product)

    def _unit(
        self,
        path: Path,
        headers: Headers,
        keywords: Sequence[str],
        wcs_header: str | None,
        fallback: ExposureInfo | None,
        product: Product | None,
    ) -> tuple[str, float]:
        """Return the unit of the pixels, and the factor that brings stored values into it."""
        if self.unit is not None:
            return self.unit, 1.0
        text = headers.first_text(keywords)
        if text is None and product and product.unit:
            return product.unit, 1.0
        if text is None and fallback is not None:
            return fallback.unit, float(fallback.extra.get("flux_factor", 1.0))
        try:
            unit, factor, per = parse_unit(text)
        except ValueError:
            raise DataError(
                f"{path}: unit {text!r} is not one AstrID knows; set survey.unit to one of {', '.join(UNITS)}"
            ) from None
        if per:
            try:
                area = pixel_area_sr(headers, wcs_header)
            except DataError as error:
                raise DataError(f"{path}: {error}; set survey.unit") from None
            factor *= area if per == "sr" else area / math.radians(1 / 3600) ** 2
        return unit, factor

    def _calibrated(
        self, info: ExposureInfo, headers: Headers, table: Mapping[str, Sequence[str]], product: Product | None
    ) -> ExposureInfo:
        """Add gain, zero point and saturation in the terms of `ExposureInfo`."""
        seconds = info.exposure_time if info.unit.endswith("/s") else 1.0
        gain: float | None = None
        if info.unit.startswith("electron"):
            gain = seconds
        elif info.unit.startswith("count"):
            found = headers.first_number(table["gain"])
            number = self.gain or (found[1] if found else 0.0)
            gain = number * seconds if number > 0 else None
        zero_point: float | None = None
        if info.unit != "nJy":
            found = headers.first_number(table["zero_point"])
            zero_point = self.zero_point if self.zero_point is not None else (found[1] if found else None)
            known = product if self.zero_point is None and not self.keywords.get("zero_point") else None
            if known:
                zero_point = known.zero_point
            if zero_point is not None and not 0 < zero_point < 60:
                zero_point = None
            per_exposure = self.zero_point_is == "per_exposure" or known is not None
            if zero_point is not None and per_exposure and not info.unit.endswith("/s"):
                zero_point -= 2.5 * math.log10(info.exposure_time)
        saturation: float | None = None
        if isinstance(self.saturation, int | float):
            saturation = float(self.saturation)
        elif self.saturation == "auto":
            found = headers.first_number(table["saturation"])
            saturation = found[1] if found and found[1] > 0 else None
        if saturation is not None:
            saturation *= float(info.extra["flux_factor"])
        return dataclasses.replace(info, gain=gain, zero_point=zero_point, saturation=saturation)

    def _read_variance(self, info: ExposureInfo, mask: MaskArray, factor: float) -> FloatArray | None:
        """Read variance or sigma in ``info.unit`` squared; pixels where it says nothing become BAD."""
        if "variance" in info.companions:
            variance = read_companion(info, "variance") * factor**2
        elif "sigma" in info.companions:
            variance = (read_companion(info, "sigma") * factor) ** 2
        else:
            return None
        with np.errstate(over="ignore"):
            variance = variance.astype(np.float32)
        good = np.isfinite(variance) & (variance > 0)
        if not good.any():
            raise DataError(f"{info.path}: its variance holds no positive finite pixel")
        mask[~good] |= np.uint16(MaskBit.BAD)
        variance[~good] = np.median(variance[good])
        return np.asarray(variance, np.float32)


def read_image(path: str | Path, **settings: Any) -> Exposure:
    """Read one FITS image as an exposure, time stamp or not.

    Parameters
    ----------
    path : str or Path
        The file.
    **settings
        Any field of `Directory`: ``hdu``, ``keywords``, ``companions``, ``unit``, ``gain``...

    Returns
    -------
    Exposure
        Its ``info.mjd`` is NaN where the header holds no time.

    Raises
    ------
    DataError
        If the file does not exist, cannot be read in full or holds no finite pixel.
    """
    survey = Directory(path=str(path), **settings)
    file = Path(os.path.abspath(os.path.expanduser(path)))
    if not file.is_file():
        raise DataError(f"{file} is not a file")
    info = survey._describe(file, file.name, find_companions(survey.companions, file), needs_time=False)
    return survey.read_exposure(info)


def saturation_level(stored: NDArray[Any]) -> float | None:
    """Return the value at which integer pixels pile up, None where they do not.

    That is their maximum, if it is the ceiling of a converter (2**n - 1 for n of 8 and more), or if
    at least five pixels have it and more than five times as many as the mean of the hundred values
    next below that occur.
    """
    if stored.size == 0:
        return None
    top = int(stored.max())
    at_top = int(np.count_nonzero(stored == top))
    for ceiling in (top, top + 32768):  # unsigned 16 bits are stored with 32768 taken off
        if ceiling in {2**n - 1 for n in (8, 10, 12, 14, 15, 16)}:
            return float(top)
    lowest = int(stored.min())
    if top - lowest < 1 << 16:  # much faster than sorting
        counts = np.bincount(stored.ravel().astype(np.int64) - lowest)
        below = counts[:-1][counts[:-1] > 0]
    else:
        below = np.unique(stored, return_counts=True)[1][:-1]
    if below.size and at_top >= 5 and at_top > 5 * float(below[-100:].mean()):
        return float(top)
    return None


def _listed(patterns: Sequence[str] | str) -> Sequence[str]:
    return (patterns,) if isinstance(patterns, str) else patterns


def _report_notes(exposures: Sequence[ExposureInfo]) -> None:
    """Warn once for each kind of remark, however many exposures it concerns."""
    counts: Counter[str] = Counter()
    examples: dict[str, tuple[str, str]] = {}
    for info in exposures:
        for note in info.extra["notes"]:
            kind = re.sub(r"[-+]?\d[\d.e+-]*", "#", note)
            counts[kind] += 1
            examples.setdefault(kind, (info.exposure_id, note))
    for kind, count in counts.items():
        exposure_id, note = examples[kind]
        others = f" (and {count - 1} more)" if count > 1 else ""
        logger.warning("%s%s: %s", exposure_id, others, note)
