"""Full-frame images of TESS, as cutouts from TESScut, several cadences to an exposure.

Pixels of 21 arcsec blend what ground-based surveys resolve. Magnitudes of TESS are near Vega's, so that the cube stays
in electrons per second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from astrid.archives import Fetcher, acknowledgement, mast
from astrid.errors import CellSkipped, DataError
from astrid.image import Exposure, ExposureInfo, FloatArray
from astrid.schema import MaskBit
from astrid.simulation.psf import MoffatPsf
from astrid.surveys.fetched import FetchedFiles, Place, Plan, Wanted
from astrid.surveys.tpf import TargetPixels, read_target_pixels

# Sectors begin about every 27.4 days from 2018-07-25 on; some weeks off, since files say when they really did.
FIRST_SECTOR_MJD, SECTOR_DAYS, SLACK_DAYS = 58324.8, 27.4, 30.0
MARGIN_PIXELS = 4
MOST_PIXELS = 99  # on a side, that the service cuts out
PSF_HALF = 12
CADENCES = ((26, 1300), (55, 3900), (math.inf, 11800))  # of a sector, up to which: of 30 and 10 minutes, of 200 s
BAND = "tess"


@dataclass(frozen=True)
class Tess(FetchedFiles):
    """Cutouts of TESS full-frame images.

    Attributes
    ----------
    bin_hours : float
        Cadences of so long a time are averaged to one exposure.
    min_cadences : int
        Exposures of fewer good cadences are left out.
    sectors : sequence of int
        Only these; all by default.
    psf_fwhm_pixels, psf_beta : float
        PSF, a Moffat profile. The default holds half of the light within one pixel of its centre in y and x, as the
        TESS Instrument Handbook (Vanderspek et al. 2018, section 6.2) says; stars are too crowded to measure it on.
    cutout_arcsec, largest_arcsec : float
        Side of the square about a point, and of the largest square. What is fetched is wider, since images lie at any
        angle; the service is slow beyond 30 to 50 pixels of 21 arcsec.
    """

    bin_hours: float = 12.0
    min_cadences: int = 3
    sectors: tuple[int, ...] = ()
    psf_fwhm_pixels: float = 1.9
    psf_beta: float = 3.5
    cutout_arcsec: float = 630.0
    largest_arcsec: float = 1050.0
    bands: tuple[str, ...] = (BAND,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sectors", tuple(int(sector) for sector in self.sectors))
        object.__setattr__(self, "bands", tuple(self.bands))
        if self.bands != (BAND,):
            raise ValueError(f"bands must be [{BAND}], got {list(self.bands)}")
        if not 0 < self.bin_hours <= 24 * SECTOR_DAYS:
            raise ValueError(f"bin_hours must be above 0 and at most {24 * SECTOR_DAYS:g}, got {self.bin_hours}")
        if self.min_cadences < 1:
            raise ValueError(f"min_cadences must be at least 1, got {self.min_cadences}")
        MoffatPsf(self.psf_fwhm_pixels, self.psf_beta)  # says what is wrong with them
        if not 100 <= self.cutout_arcsec <= self.largest_arcsec <= 1470:
            raise ValueError(
                "need 100 <= cutout_arcsec <= largest_arcsec <= 1470, "
                f"got {self.cutout_arcsec} and {self.largest_arcsec}"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The word after ``survey=``."""
        return "tess"

    @property
    def acknowledgement(self) -> str:
        """What users must cite."""
        return acknowledgement("tess", "mast")

    @property
    def pixel_scale_arcsec(self) -> float:
        """Nominal; each file says its own."""
        return 21.0

    def plan(self, place: Place, fetcher: Fetcher) -> Plan:
        """Say which sectors there are at a place; times are those of usual sectors until the files are here."""
        found = mast.sectors(fetcher, mast.sectors_request(place.ra, place.dec))
        wanted, rejected = [], 0
        for number in sorted({row["sector"] for row in found}):
            begin = FIRST_SECTOR_MJD + SECTOR_DAYS * (number - 1)
            if self.sectors and number not in self.sectors:
                rejected += 1
                continue
            if begin + SECTOR_DAYS + SLACK_DAYS < place.mjd_min or begin - SLACK_DAYS > place.mjd_max:
                continue
            wanted += self._of_sector(place, number, begin)
        return Plan(tuple(wanted), {"not in survey.sectors": rejected} if rejected else {})

    def _of_sector(self, place: Place, number: int, begin: float) -> list[Wanted]:
        """Return the exposures of a sector, all of the same file; some will turn out to have no cadence."""
        # the square is on the image however it is turned; a margin as wide as for other surveys would be degrees
        pixels = math.ceil(math.sqrt(2) * place.size_arcsec / self.pixel_scale_arcsec) + 2 * MARGIN_PIXELS
        pixels = min(pixels, MOST_PIXELS)
        cadences = next(n for last, n in CADENCES if number <= last)
        size = cadences * (5 * pixels**2 * 4 + 80)
        about = {"band": BAND, "sector": number, "place": place.name}
        file = mast.tess_cutout(place.ra, place.dec, pixels, number, size=size, about=about)
        days = self.bin_hours / 24
        limits = {"mjd_min": place.mjd_min, "mjd_max": place.mjd_max}
        return [
            Wanted(
                exposure_id=f"{place.name}/s{number:04d}-{k:04d}",
                place=place.name,
                band=BAND,
                mjd=begin + (k + 0.5) * days,
                exposure_time=self.bin_hours * 3600,
                mjd_is_planned=True,
                files={"science": file},
                extra={"sector": number, "bin": k, **{key: v for key, v in limits.items() if math.isfinite(v)}},
            )
            for k in range(math.ceil(SECTOR_DAYS / days))
        ]

    def register(self, wanted: Wanted, files: Mapping[str, Path]) -> ExposureInfo:
        """Describe an exposure from the cadences that it holds.

        Raises
        ------
        CellSkipped
            If it holds too few good cadences, or lies outside the times that were asked for.
        DataError
            If the file is no target pixel file, or has no WCS.
        """
        path = files["science"]
        pixels = _pixels(path)
        begin, end = self._span(pixels, int(wanted.extra["bin"]))
        good = _good(pixels, begin, end)
        if good.sum() < self.min_cadences:
            raise CellSkipped(f"{good.sum()} good cadences, {self.min_cadences} needed (survey.min_cadences)")
        mjd = float(np.mean(pixels.mjd[begin:end][good]))
        if not wanted.extra.get("mjd_min", -np.inf) < mjd < wanted.extra.get("mjd_max", np.inf):
            raise CellSkipped(f"taken at MJD {mjd:.3f}, outside the dates of the selection")
        if not pixels.holds_its_place():
            raise DataError(f"{path}: no celestial WCS in APERTURE, or it puts {pixels.place} outside the image")
        return ExposureInfo(
            exposure_id=wanted.exposure_id,
            path=str(path),
            band=BAND,
            mjd=mjd,
            exposure_time=float(good.sum() * pixels.cadence_s),
            shape=(pixels.flux.shape[1], pixels.flux.shape[2]),
            wcs_header=pixels.wcs_header,
            unit="electron/s",
            zero_point=None,
            gain=None,
            saturation=None,
            detector=wanted.exposure_id,  # the sky stays on its pixels: what is always bright is a star, no flaw
            extra={"sector": wanted.extra["sector"], "place": wanted.place, "begin": begin, "end": end},
        )

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one exposure: the mean of its good cadences."""
        path = Path(info.path)
        if not path.exists():
            raise DataError(f"{path}: is gone from the cache; `astrid ingest` with the same options fetches it again")
        pixels = _pixels(path)
        begin, end = info.extra["begin"], info.extra["end"]
        good = _good(pixels, begin, end)
        flux, error = pixels.flux[begin:end][good], pixels.error[begin:end][good]
        n = np.isfinite(flux).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (np.nansum(flux, axis=0) / n).astype(np.float32)
            variance = (np.nansum(error.astype(float) ** 2, axis=0) / n**2).astype(np.float32)
        mask = np.where(n > 0, 0, MaskBit.NO_DATA).astype(np.uint16)
        return Exposure(info, mean, mask, _usable(variance, n > 0), _psf(self.psf_fwhm_pixels, self.psf_beta))

    def _span(self, pixels: TargetPixels, number: int) -> tuple[int, int]:
        """Return the first cadence of a bin and the one behind its last."""
        first = np.nanmin(pixels.mjd)
        edges = first + np.array([number, number + 1]) * self.bin_hours / 24
        inside = np.flatnonzero((pixels.mjd >= edges[0]) & (pixels.mjd < edges[1]))
        return (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)


@lru_cache(maxsize=2)
def _psf(fwhm: float, beta: float) -> FloatArray:
    stamp = MoffatPsf(fwhm, beta).stamps(np.zeros(1), np.zeros(1), PSF_HALF)[0]
    return np.asarray(stamp / stamp.sum(), np.float32)


def _pixels(path: Path) -> TargetPixels:
    return read_target_pixels(path, path.stat().st_mtime_ns)


def _good(pixels: TargetPixels, begin: int, end: int) -> np.ndarray:
    flux = pixels.flux[begin:end]
    return np.asarray((pixels.quality[begin:end] == 0) & np.isfinite(flux).any(axis=(1, 2)), bool)


def _usable(variance: FloatArray, there: np.ndarray) -> FloatArray | None:
    """Return a variance where every pixel with data has one, else None: it will be measured."""
    good = np.isfinite(variance) & (variance > 0)
    return np.where(there, variance, 1).astype(np.float32) if good[there].all() else None
