"""Drizzled images of the Hubble Space Telescope from MAST.

What is stored: counts or electrons, mostly per second, with the sensitivity PHOTFLAM at PHOTPLAM, which gives the AB
zero point (Bohlin et al. 2020, AJ 160, 21; ACS Data Handbook, section 5.1). EXPSTART and EXPEND are MJD (UTC) of the
first and last exposure that an image is made of. Files are large: each is fetched whole, and the part around the place
is read.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astrid.archives import Download, Fetcher, acknowledgement, mast
from astrid.errors import CellSkipped, DataError
from astrid.image import Exposure, ExposureInfo
from astrid.schema import MaskBit
from astrid.surveys.fetched import FetchedFiles, Place, Plan, Wanted, required_number
from astrid.surveys.headers import Headers, celestial_header, parse_unit

AB_CONSTANT = 2.408  # AB zero point = -2.5 log10(PHOTFLAM) - 5 log10(PHOTPLAM) - 2.408
MOST_OBSERVATIONS = 200  # whose files are asked for at a time: each has dozens, and a page ends at 50,000 rows
MIN_SIDE = 32  # pixels of the part around the place
_FILTER = re.compile(r"F\d{3}[A-Z]+")
_OBSERVATION = ("obsid", "obs_id", "filters", "t_min", "t_max", "t_exptime", "instrument_name")
_PRODUCT = ("obsID", "productFilename", "dataURI", "productSubGroupDescription", "size")


@dataclass(frozen=True)
class Hst(FetchedFiles):
    """Drizzled images of Hubble's cameras.

    Attributes
    ----------
    bands : sequence of str
        Filters, such as f606w; all by default.
    instruments : sequence of str
        Such as ACS/WFC; all by default.
    cutout_arcsec, largest_arcsec : float
        Side of the square about a point, and of the largest square.
    max_gb : float
        Larger files are left out.
    """

    bands: Sequence[str] = ()
    instruments: Sequence[str] = ()
    cutout_arcsec: float = 60.0
    largest_arcsec: float = 200.0
    max_gb: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(str(band).lower() for band in self.bands))
        object.__setattr__(self, "instruments", tuple(self.instruments))
        wrong = [band for band in self.bands if not _FILTER.fullmatch(band.upper())]
        if wrong:
            raise ValueError(f"bands must be filters of Hubble like f606w, got {wrong[0]!r}")
        if not 5 <= self.cutout_arcsec <= self.largest_arcsec <= 300:
            raise ValueError(
                f"need 5 <= cutout_arcsec <= largest_arcsec <= 300, got {self.cutout_arcsec} and {self.largest_arcsec}"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The word after ``survey=``."""
        return "hst"

    @property
    def acknowledgement(self) -> str:
        """What users must cite."""
        return acknowledgement("hst", "mast")

    @property
    def pixel_scale_arcsec(self) -> float:
        """Of the wide field camera; each image says its own."""
        return 0.05

    def plan(self, place: Place, fetcher: Fetcher) -> Plan:
        """Say which drizzled images there are at a place."""
        rows = mast.search(fetcher, observations_request(place))
        rejected: Counter[str] = Counter()
        chosen: dict[str, dict[str, Any]] = {}
        for row in rows:
            reason = self._unusable(row, place)
            if reason:
                rejected[reason] += 1
            elif reason is not None:
                chosen[str(row["obsid"])] = row
        if not chosen:
            return Plan((), dict(rejected))
        products: dict[str, dict[str, Any]] = {}
        for row in chain.from_iterable(mast.search(fetcher, one) for one in products_requests(sorted(chosen))):
            group, key = row["productSubGroupDescription"], _key(row["productFilename"])
            if group in ("DRZ", "DRC") and (key not in products or group == "DRC"):  # DRC: corrected for lost charge
                products[key] = row
        wanted = []
        for row in chosen.values():
            product = products.get(str(row["obs_id"]).lower())
            if product is None:
                rejected["no drizzled image"] += 1
            elif float(product["size"] or 0) > self.max_gb * 1e9:
                rejected["larger than survey.max_gb"] += 1
            else:
                wanted.append(_wanted(place, row, product))
        return Plan(tuple(sorted(wanted, key=lambda one: (one.mjd, one.exposure_id))), dict(rejected))

    def _unusable(self, row: Mapping[str, Any], place: Place) -> str | None:
        """Return why an observation is left out; empty where it is not, None where it was not asked for."""
        if not (float(row["t_max"]) > place.mjd_min and float(row["t_min"]) < place.mjd_max):
            return None
        band = band_of(row["filters"])
        if band is None:
            return "no single filter"
        if (self.bands and band not in self.bands) or (
            self.instruments and row["instrument_name"] not in self.instruments
        ):
            return None
        return "not public" if str(row.get("dataRights", "PUBLIC")).upper() != "PUBLIC" else ""

    def register(self, wanted: Wanted, files: Mapping[str, Path]) -> ExposureInfo:
        """Describe the part of a drizzled image around the place.

        Raises
        ------
        CellSkipped
            If less than 32 pixels of it lie on the image.
        DataError
            If a key is missing; the message names it.
        """
        path = files["science"]
        with fits.open(path, memmap=True) as file:
            hdu = _science(path, file)
            headers = Headers((hdu.header, file[0].header))
            shape = hdu.shape[-2:]
            full = celestial_header(hdu.header, shape)
            if full is None:
                raise DataError(f"{path}: no celestial WCS in the header")
            rows, columns = _window(full, shape, wanted.extra)
            if rows.stop - rows.start < MIN_SIDE or columns.stop - columns.start < MIN_SIDE:
                raise CellSkipped(f"the place is not on the image: less than {MIN_SIDE} pixels of it are")
            header = hdu.header.copy()
            for key, part in (("CRPIX1", columns), ("CRPIX2", rows)):
                header[key] = float(header[key]) - part.start
            size = rows.stop - rows.start, columns.stop - columns.start
            start, end = (required_number(path, headers, key) for key in ("EXPSTART", "EXPEND"))
            return ExposureInfo(
                exposure_id=wanted.exposure_id,
                path=str(path),
                band=wanted.band,
                mjd=(start + end) / 2,
                exposure_time=required_number(path, headers, "EXPTIME"),
                shape=size,
                wcs_header=celestial_header(header, size),
                unit=_unit(path, headers),
                zero_point=zero_point(path, headers),
                gain=None,
                saturation=None,
                detector=wanted.exposure_id,
                hdu=file.index_of(hdu.name) if hdu.name else 0,
                extra={**wanted.extra, "window": [rows.start, rows.stop, columns.start, columns.stop]},
            )

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read the part; pixels without weight are masked."""
        path = Path(info.path)
        if not path.exists():
            raise DataError(f"{path}: is gone from the cache; `astrid ingest` with the same options fetches it again")
        top, bottom, left, right = info.extra["window"]
        with fits.open(path, memmap=True) as file:
            flux = np.array(_science(path, file).section[top:bottom, left:right], np.float32)
            there = np.isfinite(flux)
            if "WHT" in file:
                there &= np.asarray(file["WHT"].section[top:bottom, left:right]) > 0
        flux[~there] = np.nan
        return Exposure(info, flux, np.where(there, 0, MaskBit.NO_DATA).astype(np.uint16), None, None)


def observations_request(place: Place) -> Download:
    """Return the search for drizzled images that overlap a place."""
    radius = place.fetched_arcsec / 3600 / math.sqrt(2)
    filters = {
        "obs_collection": ["HST"],
        "dataproduct_type": ["image"],
        "calib_level": ["3"],
        "intentType": ["science"],
    }
    params = {
        "columns": "*",
        "filters": [{"paramName": name, "values": values} for name, values in filters.items()],
        "position": f"{place.ra:.6f}, {place.dec:.6f}, {radius:.6f}",
    }
    return mast.search_request("Mast.Caom.Filtered.Position", params, columns=_OBSERVATION)


def products_requests(obsids: Sequence[str]) -> list[Download]:
    """Return the searches for the files of observations, so many in each that the service takes it."""
    batches = (obsids[at : at + MOST_OBSERVATIONS] for at in range(0, len(obsids), MOST_OBSERVATIONS))
    return [
        mast.search_request("Mast.Caom.Products", {"obsid": ",".join(batch)}, columns=_PRODUCT) for batch in batches
    ]


def band_of(filters: object) -> str | None:
    """Return the filter of an observation, None where there are several or none.

    Examples
    --------
    >>> band_of("F606W;CLEAR2L")
    'f606w'
    """
    found = set(_FILTER.findall(str(filters).upper()))
    return found.pop().lower() if len(found) == 1 else None


def zero_point(path: Path, headers: Headers) -> float:
    """Return the AB magnitude of one count (or electron) per second."""
    flam, plam = (required_number(path, headers, key) for key in ("PHOTFLAM", "PHOTPLAM"))
    if flam <= 0 or plam <= 0:
        raise DataError(f"{path}: PHOTFLAM = {flam:g} and PHOTPLAM = {plam:g} make no zero point")
    return -2.5 * math.log10(flam) - 5 * math.log10(plam) - AB_CONSTANT


def _unit(path: Path, headers: Headers) -> str:
    text = headers.text("BUNIT")
    if text is None:
        raise DataError(f"{path}: no BUNIT in the header, without which PHOTFLAM means nothing")
    try:
        unit, _, _ = parse_unit(text)
    except ValueError as error:
        raise DataError(f"{path}: BUNIT: {error}") from error
    if unit == "nJy":
        raise DataError(f"{path}: BUNIT is {text!r}, no counts or electrons, which PHOTFLAM is for")
    return unit


def _wanted(place: Place, row: Mapping[str, Any], product: Mapping[str, Any]) -> Wanted:
    band, mjd = str(band_of(row["filters"])), (float(row["t_min"]) + float(row["t_max"])) / 2
    about = {"survey": "hst", "acknowledgement": "hst", "band": band, "mjd": mjd}
    file = mast.file_request(product["dataURI"], size=int(product["size"] or 0) or None, about=about)
    stem = product["productFilename"].removesuffix(".fits")
    extra = {"ra": place.ra, "dec": place.dec, "side": place.fetched_arcsec, "place": place.name}
    extra["instrument"] = str(row["instrument_name"])
    return Wanted(
        exposure_id=f"{place.name}/{stem}",
        place=place.name,
        band=band,
        mjd=mjd,
        exposure_time=float(row["t_exptime"]),
        files={"science": file},
        extra=extra,
    )


def _key(filename: str) -> str:
    """Return the observation that a drizzled file is of."""
    return re.sub(r"_dr[zc]\.fits$", "", filename.lower())


def _science(path: Path, file: fits.HDUList) -> Any:
    for hdu in file:
        if hdu.name == "SCI" or (hdu.name in ("", "PRIMARY") and len(file) == 1 and hdu.data is not None):
            return hdu
    raise DataError(f"{path}: no HDU SCI; there are {', '.join(hdu.name for hdu in file)}")


def _window(wcs_header: str, shape: tuple[int, int], extra: Mapping[str, Any]) -> tuple[slice, slice]:
    """Return rows and columns around the place, clipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(fits.Header.fromstring(wcs_header))
        x, y = wcs.all_world2pix([extra["ra"]], [extra["dec"]], 0, quiet=True)
    scale = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600
    half = extra["side"] / scale / math.sqrt(2)  # however it is turned
    spans = []
    for centre, length in ((y[0], shape[0]), (x[0], shape[1])):
        low, high = (round(min(max(centre + sign * half, 0), length)) for sign in (-1, 1))
        spans.append(slice(low, max(low, high)))
    return spans[0], spans[1]
