"""Warps of the Pan-STARRS1 3 pi survey, the single exposures, and its stacks, as cutouts from MAST.

What is stored, as Waters et al. 2020 (ApJS 251, 4), the archive's pages and the headers say: counts of the whole
exposure, sky subtracted, resampled onto the pixels of a skycell, which all warps of the skycell share; the time is the
start of the exposure (TIMESYS, TAI in cutouts). Warps were taken from 2009 to 2015.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time

from astrid.archives import Download, Fetcher, acknowledgement, ps1
from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo, FloatArray, MaskArray
from astrid.imaging.noise import white_noise
from astrid.schema import MaskBit
from astrid.surveys.companions import read_companion
from astrid.surveys.fetched import FetchedFiles, Place, Plan, Wanted, read_bits, read_science, required_number
from astrid.surveys.fits import find_image
from astrid.surveys.headers import Headers, celestial_header

BANDS = ("g", "r", "i", "z", "y")
EXPOSURE_S = {"g": 43.0, "r": 40.0, "i": 45.0, "z": 30.0, "y": 30.0}  # for plans; headers have the real ones
SATURATED = 32
# Zero points of one count per second lie between 22 and 25.5 (Tonry et al. 2012, ApJ 750, 99, table 4; stacks 25);
# those of a whole exposure would be 3.7 and more larger.
ZERO_POINTS_PER_SECOND = (21.5, 26.2)
LARGEST_ASINH = 25.0  # no asinh-scaled pixel is larger; a linear image with any star has larger ones
VARIANCE_RATIO = (0.05, 20.0)  # of the weight image to the noise of neighbouring pixels, which resampling lowers
_HEADER_BYTES = 30_000


@dataclass(frozen=True)
class Ps1(FetchedFiles):
    """Cutouts of Pan-STARRS1 warps with their masks and variances.

    Attributes
    ----------
    bands : sequence of str
        Of g, r, i, z, y.
    cutout_arcsec : float
        Side of the square about a point; the border of the tile is fetched besides.
    largest_arcsec : float
        Side of the largest square.
    mask_bits : int
        Bits of the survey's masks that mean bad.
    weights : bool
        Whether to fetch the variance of each warp.
    reference : bool
        Whether to fetch the stack of each band, for ``template=provided``.
    """

    bands: Sequence[str] = ("g", "r", "i", "z", "y")
    cutout_arcsec: float = 240.0
    largest_arcsec: float = 600.0
    mask_bits: int = 8575
    weights: bool = True
    reference: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        unknown = [band for band in self.bands if band not in BANDS]
        if unknown or not self.bands:
            raise ValueError(f"bands must be of {', '.join(BANDS)}, got {list(self.bands)}")
        most = ps1.MAX_PIXELS * self.pixel_scale_arcsec * 0.9
        if not 10 <= self.cutout_arcsec <= self.largest_arcsec <= most:
            raise ValueError(
                f"need 10 <= cutout_arcsec <= largest_arcsec <= {most:g}, "
                f"got {self.cutout_arcsec} and {self.largest_arcsec}"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The word after ``survey=``."""
        return "ps1"

    @property
    def acknowledgement(self) -> str:
        """What users must cite."""
        return acknowledgement("ps1", "mast")

    @property
    def pixel_scale_arcsec(self) -> float:
        """Of the skycells."""
        return 0.25

    def plan(self, place: Place, fetcher: Fetcher) -> Plan:
        """Say which warps there are at a place: of one exposure those of the skycell that holds most of it."""
        rows, points = self._rows(place, fetcher, ps1.WARP if self.weights else ("warp", "warp.mask"))
        stacks = self._rows(place, fetcher, ps1.STACK)[0] if self.reference else {}
        warps: dict[tuple[str, str, str], dict[str, dict[str, str]]] = defaultdict(dict)
        for row in rows.values():
            if place.mjd_min < float(row["mjd"]) < place.mjd_max:
                warps[row["filter"], row["mjd"], _skycell(row)][row["type"]] = row
        rejected: Counter[str] = Counter()
        best: dict[tuple[str, str], str] = {}
        for (band, started, skycell), kinds in sorted(warps.items()):
            if "warp" not in kinds:
                continue
            if float(kinds["warp"].get("badflag", 0)):
                rejected["flagged as bad by the archive (badflag)"] += 1
                continue
            if (band, started) in best:
                rejected["another skycell of the same exposure covers more"] += 1
            if (band, started) not in best or points[skycell] > points[best[band, started]]:
                best[band, started] = skycell
        stack_of = {(row["filter"], _skycell(row)): row["filename"] for row in stacks.values()}
        wanted = [
            self._wanted(place, band, started, skycell, warps[band, started, skycell], points, stack_of)
            for (band, started), skycell in best.items()
        ]
        return Plan(tuple(sorted(wanted, key=lambda one: (one.mjd, one.exposure_id))), dict(rejected))

    def register(self, wanted: Wanted, files: Mapping[str, Path]) -> ExposureInfo:
        """Describe an exposure from the header of its warp."""
        info = _describe(files["science"], wanted.exposure_id, wanted.band)
        companions = {kind: str(path) for kind, path in files.items() if kind != "science"}
        for kind in set(companions) & {"mask", "variance"}:
            if find_image(files[kind]).shape != info.shape:
                raise DataError(
                    f"{files[kind]}: the {kind} is {find_image(files[kind]).shape} but its image {info.shape};"
                    " fetch both again: astrid cache prune=0"
                )
        extra = {**info.extra, **wanted.extra, "place": wanted.place}
        return ExposureInfo(**{**info.__dict__, "companions": companions, "extra": extra})

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one exposure; bad, saturated and missing pixels are masked."""
        flux, mask = read_science(info)
        flux = linear(flux, find_image(Path(info.path), info.hdu).header)
        if "mask" in info.companions:
            bits = read_bits(info)
            mask[(bits & SATURATED) != 0] |= np.uint16(MaskBit.SATURATED)
            mask[(bits & self.mask_bits & ~SATURATED) != 0] |= np.uint16(MaskBit.BAD)
        variance = _variance(info, flux, mask) if "variance" in info.companions else None
        return Exposure(info, flux, mask, variance, None)

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Read the survey's stack; None where it was not fetched."""
        if "template" not in info.companions:
            return None
        path = Path(info.companions["template"])
        return self.read_exposure(_describe(path, f"{info.exposure_id}/stack", info.band, mjd=info.mjd))

    def _rows(
        self, place: Place, fetcher: Fetcher, types: Sequence[str]
    ) -> tuple[dict[str, dict[str, str]], Counter[str]]:
        """Return the files at centre and corners of a place, by name, and how many of these each skycell holds."""
        found: dict[str, dict[str, str]] = {}
        points: Counter[str] = Counter()
        for ra, dec in _points(place):
            rows = ps1.files(fetcher, ps1.files_request(ra, dec, bands=self.bands, types=types))
            found |= {row["filename"]: row for row in rows}
            points.update({_skycell(row) for row in rows})
        return found, points

    def _wanted(
        self,
        place: Place,
        band: str,
        started: str,
        skycell: str,
        kinds: Mapping[str, Mapping[str, str]],
        points: Mapping[str, int],
        stack_of: Mapping[tuple[str, str], str],
    ) -> Wanted:
        pixels = math.ceil(place.fetched_arcsec / self.pixel_scale_arcsec)
        mjd = float(Time(float(started), format="mjd", scale="tai").utc.mjd) + EXPOSURE_S[band] / 2 / 86400
        about = {"band": band, "mjd": mjd, "place": place.name}

        def cut(name: str, *, may_be_blank: bool = False) -> Download:
            size = 4 * pixels**2 + _HEADER_BYTES
            return ps1.cutout(name, place.ra, place.dec, pixels, may_be_blank=may_be_blank, size=size, about=about)

        files = {"science": cut(kinds["warp"]["filename"])}
        if "warp.mask" in kinds:
            files["mask"] = cut(kinds["warp.mask"]["filename"], may_be_blank=True)
        if "warp.wt" in kinds:
            files["variance"] = cut(kinds["warp.wt"]["filename"])
        if (band, skycell) in stack_of:
            files["template"] = replace(cut(stack_of[band, skycell]), optional=True)
        stem = kinds["warp"]["filename"].rpartition("/")[2].removesuffix(".fits")
        return Wanted(
            exposure_id=f"{place.name}/{stem}",
            place=place.name,
            band=band,
            mjd=mjd,
            exposure_time=EXPOSURE_S[band],
            files=files,
            extra={"skycell": skycell, "overlap": points[skycell] / 5},
        )


def linear(pixels: FloatArray, header: fits.Header) -> FloatArray:
    """Return linear counts of an image that may be scaled by asinh.

    Files of stacks are, with BSOFTEN and BOFFSET in the header; warps never are, and the cutout service undoes it.
    Whether it then keeps the keywords is not documented, so that the pixels decide: asinh values beyond 25 would be
    1e10 times the softening.

    Parameters
    ----------
    pixels : (ny, nx) float32 array
        NaN allowed.
    header : Header
        Of the image.

    References
    ----------
    Waters et al. 2020, ApJS 251, 4, section 5.3: ``flux = BOFFSET + BSOFTEN * (10**(0.4 v) - 10**(-0.4 v))``.
    """
    if "BSOFTEN" not in header or "BOFFSET" not in header:
        return pixels
    if float(np.nanmax(np.abs(pixels))) > LARGEST_ASINH:
        return pixels
    softening, offset = float(header["BSOFTEN"]), float(header["BOFFSET"])
    scaled = pixels.astype(np.float64) * 0.4 * math.log(10)
    return np.asarray(offset + 2 * softening * np.sinh(scaled), np.float32)


def _describe(path: Path, exposure_id: str, band: str, *, mjd: float | None = None) -> ExposureInfo:
    image = find_image(path)
    headers = Headers((image.header, image.primary))
    seconds = required_number(path, headers, "EXPTIME")
    zero_point = required_number(path, headers, "FPA.ZP")
    low, high = ZERO_POINTS_PER_SECOND
    if not low < zero_point < high:
        raise DataError(
            f"{path}: FPA.ZP = {zero_point:g} is no zero point of one count per second ({low} to {high});"
            " the image is left out"
        )
    header = image.header.copy()
    if "RADESYS" not in header and "RADECSYS" not in header:
        header["RADESYS"] = "FK5"  # of whole files, which do not say
    wcs_header = celestial_header(header, image.shape)
    if wcs_header is None:
        raise DataError(f"{path}: no celestial WCS in the header")
    gain = headers.first_number(["CELL.GAIN"])
    seeing = headers.first_number(["CHIP.SEEING"])
    return ExposureInfo(
        exposure_id=exposure_id,
        path=str(path),
        band=band,
        mjd=_mid_exposure(path, headers, seconds) if mjd is None else mjd,
        exposure_time=seconds,
        shape=image.shape,
        wcs_header=wcs_header,
        unit="count",
        zero_point=zero_point,
        gain=gain[1] if gain and gain[1] > 0 else None,
        saturation=None,
        detector=exposure_id,
        hdu=image.index,
        extra={"fpa_zp": zero_point} | ({"chip_seeing_px": seeing[1]} if seeing else {}),
    )


def _mid_exposure(path: Path, headers: Headers, seconds: float) -> float:
    """Return the middle of the exposure, MJD (UTC)."""
    start = required_number(path, headers, "MJD-OBS")
    scale = (headers.text("TIMESYS") or "").lower()
    if scale not in ("tai", "utc"):
        raise DataError(f"{path}: TIMESYS is {scale or 'missing'!r}, neither TAI nor UTC: the time is unknown")
    return float(Time(start, format="mjd", scale=scale).utc.mjd) + seconds / 2 / 86400


def _variance(info: ExposureInfo, flux: FloatArray, mask: MaskArray) -> FloatArray | None:
    """Return the variance of a warp, None where none is stored; DataError where what is stored cannot be one."""
    stored = read_companion(info, "variance").astype(np.float32)
    good = (mask == 0) & np.isfinite(stored) & (stored > 0)
    if not good.any():
        return None
    typical = np.float32(np.median(stored[good]))
    noise = white_noise(np.where(good, flux, 0).astype(np.float32), ~good) ** 2
    low, high = VARIANCE_RATIO
    if noise > 0 and not low < typical / noise < high:
        raise DataError(
            f"{info.companions['variance']}: is no variance of its image: {typical:.4g} in the median, where the"
            f" pixels scatter by {noise:.4g}; survey.weights=false does without"
        )
    return np.where(good, stored, typical).astype(np.float32)


def _points(place: Place) -> Iterable[tuple[float, float]]:
    """Centre and corners of what is fetched."""
    half = place.fetched_arcsec / 3600 / 2
    yield place.ra, place.dec
    for north in (-half, half):
        stretch = math.cos(math.radians(place.dec + north))
        for east in (-half, half):
            yield (place.ra + east / stretch) % 360, place.dec + north


def _skycell(row: Mapping[str, str]) -> str:
    return f"{int(row['projcell']):04d}.{int(row['subcell']):03d}"
