"""Science images of the Zwicky Transient Facility, as cutouts from IRSA.

What is stored, as the ZTF Science Data System explanatory supplement describes it and as the
headers say: counts (DN) of the whole exposure, sky included; the zero point MAGZP is the AB magnitude of one
count; the time is the start of the exposure (UTC).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.time import Time

from astrid.archives import Download, Fetcher, acknowledgement, ibe
from astrid.archives.footprints import share_covered
from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.schema import MaskBit
from astrid.surveys.companions import read_psf
from astrid.surveys.fetched import FetchedFiles, Place, Plan, Wanted, read_bits, read_science, required_number
from astrid.surveys.fits import find_image, read_pixels
from astrid.surveys.headers import Headers, celestial_header

FILTERS = {"g": "zg", "r": "zr", "i": "zi"}
SATURATED = 1 << 8
DIFFERENCE_BYTES = 20_000_000  # of a quadrant, fpacked
JD_OF_MJD = 2400000.5
_COLUMNS = (
    *("field", "ccdid", "qid", "filtercode", "obsjd", "exptime", "filefracday", "seeing", "maglimit", "infobits"),
    *("ipac_gid", "ra1", "dec1", "ra2", "dec2", "ra3", "dec3", "ra4", "dec4"),
)
_REFERENCE_COLUMNS = ("field", "ccdid", "qid", "filtercode", "nframes", "startobsdate", "endobsdate", "ipac_gid")
_HEADER_BYTES = 30_000


@dataclass(frozen=True)
class Ztf(FetchedFiles):
    """Cutouts of ZTF science images with their masks.

    Attributes
    ----------
    bands : sequence of str
        Of g, r, i.
    cutout_arcsec : float
        Side of the square about a point; the border of the tile is fetched besides.
    largest_arcsec : float
        Side of the largest square.
    infobits_below : int
        Images whose INFOBITS are this or more are left out: they failed the survey's quality checks.
    ipac_gid : int
        Group that may read the images: 1 is everybody.
    mask_bits : int
        Bits of the survey's masks that mean bad.
    min_overlap : float
        Smallest share of a place that an image must cover.
    psf : bool
        Whether to fetch the survey's PSF at the centre of the quadrant.
    reference : bool
        Whether to fetch the survey's reference image of each exposure, for ``template=provided``.
    difference : bool
        Whether to fetch the survey's own difference image of each exposure, where there is one; whole files of 20 MB.
    reference_before : str or None
        Only references whose last exposure was before this date, so that they do not hold the event.
    """

    bands: Sequence[str] = ("g", "r", "i")
    cutout_arcsec: float = 300.0
    largest_arcsec: float = 1200.0
    infobits_below: int = 33554432
    ipac_gid: int = 1
    mask_bits: int = 6141
    min_overlap: float = 0.3
    psf: bool = True
    reference: bool = False
    difference: bool = False
    reference_before: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        unknown = [band for band in self.bands if band not in FILTERS]
        if unknown or not self.bands:
            raise ValueError(f"bands must be of {', '.join(FILTERS)}, got {list(self.bands)}")
        if not 20 <= self.cutout_arcsec <= self.largest_arcsec <= 3000:
            raise ValueError(
                "need 20 <= cutout_arcsec <= largest_arcsec <= 3000, "
                f"got {self.cutout_arcsec} and {self.largest_arcsec}"
            )
        if not 0 < self.min_overlap <= 1:
            raise ValueError(f"min_overlap must be above 0 and at most 1, got {self.min_overlap}")
        _ = self._references_end

    @property
    def name(self) -> str:  # type: ignore[override]
        """The word after ``survey=``."""
        return "ztf"

    @property
    def acknowledgement(self) -> str:
        """What users must cite."""
        return acknowledgement("ztf", "irsa")

    @property
    def pixel_scale_arcsec(self) -> float:
        """Nominal; each image says its own."""
        return 1.012

    def plan(self, place: Place, fetcher: Fetcher) -> Plan:
        """Say which exposures there are at a place: of one exposure the quadrant that covers most of it."""
        codes = ",".join(f"'{FILTERS[band]}'" for band in self.bands)
        where = [f"filtercode IN ({codes})"]
        where += [f"obsjd > {place.mjd_min + JD_OF_MJD:.6f}"] if math.isfinite(place.mjd_min) else []
        where += [f"obsjd < {place.mjd_max + JD_OF_MJD:.6f}"] if math.isfinite(place.mjd_max) else []
        size = place.fetched_arcsec / 3600
        request = ibe.search_request(
            "sci", place.ra, place.dec, size_deg=size, where=" AND ".join(where), columns=_COLUMNS
        )
        rejected: Counter[str] = Counter()
        best: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}
        for row in ibe.search(fetcher, request):
            reason = self._unusable(row)
            overlap = 0.0 if reason else overlap_of(place, _corners(row))
            if not reason and overlap < self.min_overlap:
                reason = f"covers less than {self.min_overlap:.0%} of the place"
            if reason:
                rejected[reason] += 1
                continue
            moment = (row["filtercode"], row["obsjd"])
            if moment in best:
                rejected["another quadrant of the same exposure covers more"] += 1
            if moment not in best or overlap > best[moment][0]:
                best[moment] = (overlap, row)
        references = self._references(place, fetcher) if self.reference and best else {}
        wanted = [self._wanted(place, row, overlap, references) for overlap, row in best.values()]
        return Plan(tuple(sorted(wanted, key=lambda one: (one.mjd, one.exposure_id))), dict(rejected))

    def register(self, wanted: Wanted, files: Mapping[str, Path]) -> ExposureInfo:
        """Describe an exposure from the header of its science image."""
        info = self._describe(files["science"], wanted.exposure_id, wanted.band, wanted.mjd, wanted.exposure_time)
        companions = {kind: str(path) for kind, path in files.items() if kind != "science"}
        if "mask" in companions and find_image(files["mask"]).shape != info.shape:
            raise DataError(
                f"{files['mask']}: the mask is {find_image(files['mask']).shape} but its image {info.shape};"
                " fetch both again: astrid cache prune=0"
            )
        values = {
            **info.__dict__,
            "companions": companions,
            "extra": {**info.extra, **wanted.extra, "place": wanted.place},
        }
        return ExposureInfo(**values)

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one exposure; bad, saturated and missing pixels are masked."""
        flux, mask = read_science(info)
        if info.saturation is not None:
            mask[flux >= info.saturation] |= np.uint16(MaskBit.SATURATED)
        if "mask" in info.companions:
            bits = read_bits(info)
            mask[(bits & SATURATED) != 0] |= np.uint16(MaskBit.SATURATED)
            mask[(bits & self.mask_bits & ~SATURATED) != 0] |= np.uint16(MaskBit.BAD)
        psf = read_psf(info.companions["psf"]) if "psf" in info.companions else None
        return Exposure(info, flux, mask, None, psf)

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Read the survey's reference image; None where it was not fetched."""
        if "template" not in info.companions:
            return None
        path = Path(info.companions["template"])
        own = self._describe(path, f"{info.exposure_id}/reference", info.band, info.mjd, None)
        return self.read_exposure(own)

    def read_difference(self, info: ExposureInfo) -> Exposure:
        """Read the survey's own difference image, on the pixels of the science image.

        Raises
        ------
        DataError
            If it was not fetched, or lies on other pixels.
        """
        if "difference" not in info.companions:
            raise DataError(
                f"{info.exposure_id}: no difference image; survey.difference=true fetches it where there is one"
            )
        path = Path(info.companions["difference"])
        image = find_image(path)
        own = fits.Header.fromstring(info.wcs_header or "")
        shift = [float(image.header[key]) - float(own[key]) for key in ("CRPIX2", "CRPIX1")]
        top, left = (round(value) for value in shift)
        if any(abs(value - round(value)) > 0.01 for value in shift) or min(top, left) < 0:
            raise DataError(f"{path}: does not lie on the pixels of {info.exposure_id}: shifted by {shift}")
        ny, nx = info.shape
        flux = read_pixels(path, image.index)[0][top : top + ny, left : left + nx].astype(np.float32)
        if flux.shape != info.shape:
            raise DataError(f"{path}: is {image.shape}, too small for {info.exposure_id}")
        mask = np.where(np.isfinite(flux), 0, MaskBit.NO_DATA).astype(np.uint16)
        return Exposure(info, flux, mask, None, None)

    def _unusable(self, row: Mapping[str, str]) -> str:
        """Return why an image is left out; empty where it is not."""
        if int(row["infobits"]) >= self.infobits_below:
            return "failed the survey's quality checks (infobits)"
        if int(row["ipac_gid"]) != self.ipac_gid:
            return "not public (ipac_gid)"
        return ""

    def _wanted(
        self, place: Place, row: Mapping[str, str], overlap: float, references: Mapping[tuple[str, ...], Any]
    ) -> Wanted:
        seconds = float(row["exptime"])
        mjd = float(row["obsjd"]) - JD_OF_MJD + seconds / 2 / 86400
        band = next(band for band, code in FILTERS.items() if code == row["filtercode"])
        pixels = overlap * (place.fetched_arcsec / self.pixel_scale_arcsec) ** 2
        about = {"band": band, "mjd": mjd, "place": place.name}

        def cut(path: str, depth: int, *, is_mask: bool = False) -> Download:
            estimate = int(pixels * depth) + _HEADER_BYTES
            size = place.fetched_arcsec
            return ibe.cutout(path, place.ra, place.dec, size, is_mask=is_mask, size=estimate, about=about)

        files = {
            "science": cut(ibe.science_path(row, "sciimg.fits"), 4),
            "mask": cut(ibe.science_path(row, "mskimg.fits"), 2, is_mask=True),
        }
        if self.psf:
            path = ibe.science_path(row, "sciimgdaopsfcent.fits")
            files["psf"] = ibe.whole_file(path, size=11_520, needs_wcs=False, optional=True)
        if self.difference:
            path = ibe.science_path(row, "scimrefdiffimg.fits.fz")
            files["difference"] = ibe.whole_file(path, size=DIFFERENCE_BYTES, needs_wcs=False, optional=True)
        reference = references.get(_detector(row))
        if reference is not None:
            template = cut(ibe.reference_path(reference, "refimg.fits"), 4)
            files["template"] = replace(template, optional=True)
        stem = ibe.science_path(row, "").rpartition("/")[2].rstrip("_")
        return Wanted(
            exposure_id=f"{place.name}/{stem}",
            place=place.name,
            band=band,
            mjd=mjd,
            exposure_time=seconds,
            files=files,
            seeing_arcsec=_number(row["seeing"]),
            limiting_magnitude=_number(row["maglimit"]),
            extra={"overlap": round(overlap, 4), "maglimit": _number_or_none(row["maglimit"])},
        )

    @property
    def _references_end(self) -> float:
        if self.reference_before is None:
            return math.inf
        try:
            return float(Time(str(self.reference_before)).mjd)
        except ValueError as error:
            raise ValueError(
                f"reference_before must be a date like 2018-12-31, got {self.reference_before!r}"
            ) from error

    def _references(self, place: Place, fetcher: Fetcher) -> dict[tuple[str, ...], dict[str, str]]:
        """Return the reference image of each quadrant and filter that was made early enough."""
        size = place.fetched_arcsec / 3600
        request = ibe.search_request("ref", place.ra, place.dec, size_deg=size, columns=_REFERENCE_COLUMNS)
        found = {}
        for row in ibe.search(fetcher, request):
            end = float(Time(row["endobsdate"].partition("+")[0]).mjd)
            if int(row["ipac_gid"]) == self.ipac_gid and end < self._references_end:
                found[_detector(row)] = row
        return found

    def _describe(self, path: Path, exposure_id: str, band: str, mjd: float, seconds: float | None) -> ExposureInfo:
        image = find_image(path)
        headers = Headers((image.header, image.primary))
        zero_point, gain = (required_number(path, headers, key) for key in ("MAGZP", "GAIN"))
        seconds = required_number(path, headers, "EXPTIME") if seconds is None else seconds
        wcs_header = celestial_header(image.header, image.shape)
        if wcs_header is None:
            raise DataError(f"{path}: no celestial WCS in the header")
        saturation = headers.first_number(["SATURATE"])
        return ExposureInfo(
            exposure_id=exposure_id,
            path=str(path),
            band=band,
            mjd=mjd,
            exposure_time=seconds,
            shape=image.shape,
            wcs_header=wcs_header,
            unit="count",
            # MAGZP is of one count of the whole exposure
            zero_point=zero_point - 2.5 * math.log10(seconds),
            gain=gain,
            saturation=saturation[1] if saturation else None,
            # cutouts of one detector do not share pixels: each has its own map of bad ones
            detector=exposure_id,
            hdu=image.index,
            extra={"magzp": zero_point},
        )


def overlap_of(place: Place, corners: Sequence[tuple[float, float]]) -> float:
    """Return which share of a place an image covers.

    Parameters
    ----------
    place : Place
        A square, upright about its centre.
    corners : sequence of (ra, dec)
        Of the image, in order around it, degrees.
    """
    return share_covered(corners, place.ra, place.dec, place.size_arcsec / 3600)


def _corners(row: Mapping[str, str]) -> list[tuple[float, float]]:
    return [(float(row[f"ra{i}"]), float(row[f"dec{i}"])) for i in (1, 2, 3, 4)]


def _detector(row: Mapping[str, str]) -> tuple[str, ...]:
    return (*(str(int(row[key])) for key in ("field", "ccdid", "qid")), row["filtercode"])


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _number_or_none(text: str) -> float | None:
    return float(text) if text else None
