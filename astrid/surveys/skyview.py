"""Pictures of a place from DSS2, SDSS, GALEX, 2MASS and WISE: SkyView, in its place hips2fits, then their own archives.

They are mosaics, resampled on request: no time, no zero point to rely on, no mask. They show what lies at a place, on
no time axis; nothing is subtracted from them or found on them. What the archive of a survey sends is one of its images
with the pixels and the header that it has there; it is used like the others. DSS2 has no archive of its own that is
asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from astrid.archives import Download, Fetcher, acknowledgement, galex, hips, sdss, sia, skyview
from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.surveys.fetched import FetchedFiles, Place, Plan, Wanted, read_science
from astrid.surveys.fits import find_image
from astrid.surveys.headers import COMMON_KEYWORDS, Headers, celestial_header

OWN = "own"
SERVICES = (skyview.SERVICE, *hips.SERVICES, OWN)
ARCHIVES: dict[str, tuple[Callable[..., Download], str]] = {
    "2mass": (partial(sia.cutout, "twomass_allsky"), "irsa"),
    "wise": (partial(sia.cutout, "wise_allwise"), "irsa"),
    "sdss": (sdss.cutout, "sdss"),
    "galex": (galex.cutout, "mast"),
}
"""What asks the own archive of a survey, and the key of what to cite for it, by the first word of `Layer.own`."""
UNKNOWN = "unknown"
MAGNITUDES = ("AB", "Vega", "none")
_HEADER_BYTES = 12_000


@dataclass(frozen=True)
class Layer:
    """One band of one survey.

    Attributes
    ----------
    skyview : str or None
        Name at SkyView; None where it is not there.
    hips : str or None
        Identifier of the HiPS; None where there is none.
    own : str or None
        Survey of `ARCHIVES` and band there, like "wise/W1"; None where no own archive is asked.
    pixel_scale_arcsec : float
        Of the survey's own pixels, at which a cutout is asked for.
    unit : str
        Of the pixels, in words, as far as known; what the service says is recorded besides.
    magnitudes : str
        "AB", "Vega", or "none" where the pixels are no fluxes.
    years : str
        When the survey observed.
    cite : str
        Key of the acknowledgement.
    """

    skyview: str | None
    hips: str | None
    pixel_scale_arcsec: float
    unit: str
    magnitudes: str
    years: str
    cite: str
    own: str | None = None

    def __post_init__(self) -> None:
        if not self.skyview and not self.hips and not self.own:
            raise ValueError("needs skyview=, hips= or own=")
        if self.own:
            self.own_cutout(0.0, 0.0, 0.1)
        if not 0.05 <= self.pixel_scale_arcsec <= 60:
            raise ValueError(f"pixel_scale_arcsec must be from 0.05 to 60, got {self.pixel_scale_arcsec}")
        if self.magnitudes not in MAGNITUDES:
            raise ValueError(f"magnitudes must be one of {', '.join(MAGNITUDES)}, got {self.magnitudes!r}")

    def own_cutout(self, ra: float, dec: float, size_deg: float, **more: Any) -> Download:
        """Return the download of a square from the survey's own archive."""
        survey, _, band = str(self.own).partition("/")
        if survey not in ARCHIVES or not band:
            raise ValueError(f"own must be survey/band with a survey of {', '.join(ARCHIVES)}, got {self.own!r}")
        return ARCHIVES[survey][0](band, ra, dec, size_deg, **more)


@dataclass(frozen=True)
class SkyView(FetchedFiles):
    """Pictures of a place in many bands; context, never subtracted.

    Attributes
    ----------
    layers : mapping
        `Layer` or its fields, by band.
    bands : sequence of str
        Those to fetch.
    cutout_arcsec : float
        Side of the square about a point; the border of the tile is fetched besides.
    largest_arcsec : float
        Side of the largest square.
    pixel_scale_arcsec : float
        Of the grid that all are brought to; each is fetched at its own.
    services : sequence of str
        Whom to ask, in order: the next where one brings no picture; "own" is the survey's own archive.
    """

    layers: Mapping[str, Any]
    bands: Sequence[str]
    cutout_arcsec: float = 300.0
    largest_arcsec: float = 900.0
    pixel_scale_arcsec: float = 1.0
    services: Sequence[str] = SERVICES

    def __post_init__(self) -> None:
        layers = {}
        for name, values in self.layers.items():
            try:
                layers[name] = values if isinstance(values, Layer) else Layer(**values)
            except (TypeError, ValueError) as error:
                raise ValueError(f"layers.{name}: {error}") from error
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "bands", tuple(self.bands))
        object.__setattr__(self, "services", tuple(self.services))
        for what, given, known in (("bands", self.bands, tuple(layers)), ("services", self.services, SERVICES)):
            if not given or not set(given) <= set(known):
                raise ValueError(f"{what} must be of {', '.join(known)}, got {list(given)}")
        for band in self.bands:
            if not self._asked(layers[band]):
                raise ValueError(f"services {list(self.services)} have no {band}")
        finest = min(layers[band].pixel_scale_arcsec for band in self.bands)
        most = skyview.MAX_PIXELS * finest * 0.9
        if not 10 <= self.cutout_arcsec <= self.largest_arcsec <= most:
            raise ValueError(
                f"need 10 <= cutout_arcsec <= largest_arcsec <= {most:g}, "
                f"got {self.cutout_arcsec} and {self.largest_arcsec}"
            )
        if not self.pixel_scale_arcsec > 0:
            raise ValueError(f"pixel_scale_arcsec must be positive, got {self.pixel_scale_arcsec}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The word after ``survey=``."""
        return "skyview"

    @property
    def acknowledgement(self) -> str:
        """What users must cite."""
        keys = [skyview.SERVICE] if skyview.SERVICE in self.services else []
        keys += ["hips2fits"] if set(hips.SERVICES) & set(self.services) else []
        owned = [self.layers[band].own for band in self.bands if OWN in self.services]
        keys += [ARCHIVES[own.partition("/")[0]][1] for own in owned if own]
        return acknowledgement(*dict.fromkeys([*(self.layers[band].cite for band in self.bands), *keys]))

    @property
    def no_epoch(self) -> str:
        """Why nothing is subtracted."""
        return "images of survey=skyview are mosaics without a time (epoch): they are context, never subtracted"

    def plan(self, place: Place, fetcher: Fetcher) -> Plan:
        """Say which pictures are asked for: one for each band. No archive is asked what it has."""
        wanted = [
            Wanted(
                exposure_id=f"{place.name}/{band}",
                place=place.name,
                band=band,
                mjd=math.nan,
                exposure_time=math.nan,
                files={"science": self._download(place, band)},
            )
            for band in self.bands
        ]
        return Plan(tuple(wanted))

    def register(self, wanted: Wanted, files: Mapping[str, Path]) -> ExposureInfo:
        """Describe a picture; ``extra`` has its unit, what its header says of it, and who sent it."""
        layer, path = self.layers[wanted.band], files["science"]
        image = find_image(path)
        wcs_header = celestial_header(image.header, image.shape)
        if wcs_header is None:
            raise DataError(f"{path}: no celestial WCS in the header; the picture is left out")
        about = {
            "epoch": None,
            "photometric": False,
            "unit": layer.unit,
            "magnitudes": layer.magnitudes,
            "years": layer.years,
            "pixel_scale_arcsec": layer.pixel_scale_arcsec,
            "header": _said(Headers((image.header, image.primary))),
        }
        return ExposureInfo(
            exposure_id=wanted.exposure_id,
            path=str(path),
            band=wanted.band,
            mjd=math.nan,
            exposure_time=math.nan,
            shape=image.shape,
            wcs_header=wcs_header,
            detector=wanted.exposure_id,
            hdu=image.index,
            extra={**about, **wanted.extra, "place": wanted.place},
        )

    def read_exposure(self, info: ExposureInfo) -> Exposure:
        """Read one picture, in the unit that the archive sends; pixels without data are masked."""
        flux, mask = read_science(info)
        return Exposure(info, flux, mask)

    def _asked(self, layer: Layer) -> list[str]:
        has = {skyview.SERVICE: layer.skyview, **dict.fromkeys(hips.SERVICES, layer.hips), OWN: layer.own}
        return [service for service in self.services if has[service]]

    def _download(self, place: Place, band: str) -> Download:
        """Return the first service's download, with the others to stand in for it."""
        layer: Layer = self.layers[band]
        pixels = math.ceil(place.fetched_arcsec / layer.pixel_scale_arcsec)
        square = (place.ra, place.dec, pixels, pixels * layer.pixel_scale_arcsec / 3600)
        about = {"survey": self.name, "band": band, "mjd": None, "place": place.name}
        more: dict[str, Any] = {"size": 4 * pixels**2 + _HEADER_BYTES, "about": about}

        def of(service: str) -> Download:
            if service == skyview.SERVICE:
                return skyview.cutout(str(layer.skyview), *square, **more)
            if service == OWN:
                return layer.own_cutout(place.ra, place.dec, square[-1], **more)
            return hips.cutout(str(layer.hips), *square, service=service, **more)

        first, *others = (of(service) for service in self._asked(layer))
        return replace(first, otherwise=tuple(others))


def _said(headers: Headers) -> dict[str, Any]:
    """Return what a header says of zero point, unit and time of its pixels, "unknown" where it does not."""
    zero_point = headers.first_number(COMMON_KEYWORDS["zero_point"])
    return {
        "zero_point": UNKNOWN if zero_point is None else zero_point[1],
        "unit": headers.first_text(COMMON_KEYWORDS["unit"]) or UNKNOWN,
        "observed": headers.first_text(["DATE-OBS"]) or UNKNOWN,
    }
