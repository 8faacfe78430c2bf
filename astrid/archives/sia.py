"""2MASS and AllWISE at IRSA: images found by position (SIA), and the square about it cut from the one that covers most.

Two requests that are one download: the search, which answers with a VOTable, and the cutout.

https://irsa.ipac.caltech.edu/ibe/sia.html, https://irsa.ipac.caltech.edu/ibe/cutouts.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from astrid.archives.checks import FitsImage
from astrid.archives.fetch import Download, Fetcher
from astrid.archives.footprints import degrees_apart, share_covered
from astrid.archives.outcomes import NoCoverage, Permanent
from astrid.archives.transport import Answer
from astrid.archives.votables import VoTable

SERVICE = "irsa"
SEARCH = "/SIA"
CUT_ON_REQUEST = "/ibe/data/"  # what lies there takes center and size
OFF_IMAGE = 400  # the status of a cutout that is not on the image
COLLECTIONS = ("twomass_allsky", "wise_allwise")
POINT_DEG = 0.0003  # radius of the search: images that hold the place, not its surroundings
COLUMNS = ("s_ra", "s_dec", "s_region", "energy_bandpassname", "dataproduct_subtype", "access_url", "obs_id")


def search_request(collection: str, ra: float, dec: float) -> Download:
    """Return the request for all images of a collection that hold a place, in every band."""
    params = (("COLLECTION", collection), ("POS", f"CIRCLE {ra:.6f} {dec:.6f} {POINT_DEG:g}"))
    return Download(SERVICE, SEARCH, params, check=VoTable(COLUMNS), is_search=True, about={"acknowledgement": "irsa"})


def search(fetcher: Fetcher, request: Download) -> list[dict[str, str]]:
    """Return the rows that a search found, as text by column; see `Fetcher.fetch` for what it raises."""
    table = VoTable(COLUMNS).read(fetcher.read(request))
    return [{name: _text(row[name]) for name in COLUMNS} for row in table]


def cutout(collection: str, band: str, ra: float, dec: float, size_deg: float, *, size: int | None = None,
           about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the download of a square about a place; it comes clipped where it reaches beyond the image.

    Parameters
    ----------
    collection : str
        Of `COLLECTIONS`.
    band : str
        As the service names it: "J", "W1".
    ra, dec, size_deg : float
        Centre and side, ICRS degrees.
    size : int, optional
        Expected bytes.
    about : mapping, optional
        For the note beside the file.

    Raises
    ------
    ValueError
        If there is no such collection.
    """
    if collection not in COLLECTIONS:
        raise ValueError(f"collection must be one of {', '.join(COLLECTIONS)}, got {collection!r}")
    way = BestImage(collection, band, ra, dec, size_deg)
    asked = (("band", band), ("size", f"{size_deg:.8f}"))
    about = {"acknowledgement": "irsa", **(about or {})}
    return Download(
        SERVICE, SEARCH, search_request(collection, ra, dec).params + asked, size=size, way=way, about=about
    )


@dataclass(frozen=True)
class BestImage:
    """Gets the square from the image of a band that covers most of it."""

    collection: str
    band: str
    ra: float
    dec: float
    size_deg: float

    def __call__(self, fetcher: Fetcher, download: Download, part: Path) -> Answer:
        """Write the square to ``part``."""
        request = search_request(self.collection, self.ra, self.dec)
        rows = [row for row in search(fetcher, request) if self._is_wanted(row)]
        url = fetcher.archive.url(SERVICE, SEARCH)
        if not rows:
            raise NoCoverage(SERVICE, url, f"{self.collection} has no image in {self.band} of {request.params[1][1]}")
        best = max(rows, key=self._worth)
        address = urlsplit(best["access_url"])
        if address.hostname != urlsplit(fetcher.archive.service(SERVICE).url).hostname:
            raise Permanent(SERVICE, url, f"the image lies at another host: {best['access_url']}")
        answer = fetcher.transport.fetch(
            SERVICE,
            address.path,
            part,
            FitsImage(self.ra, self.dec, may_be_constant=False),
            params=(
                ("center", f"{self.ra:.6f},{self.dec:.6f}"),
                ("size", f"{self.size_deg * 3600:g}arcsec"),
                ("gzip", "false"),
            ),
            nothing=(OFF_IMAGE,),
        )
        found = {"file": best["access_url"], "obs_id": best["obs_id"], "covered": f"{self._worth(best)[0]:.3f}"}
        return replace(answer, found=found)

    def _is_wanted(self, row: Mapping[str, str]) -> bool:
        return (
            row["energy_bandpassname"].casefold() == self.band.casefold()
            and row["dataproduct_subtype"] == "science"  # others are noise, coverage...
            and urlsplit(row["access_url"]).path.startswith(CUT_ON_REQUEST)
        )

    def _worth(self, row: Mapping[str, str]) -> tuple[float, float]:
        """Return the share of the square on an image, and how near its centre is: several may hold all of it."""
        apart = degrees_apart(self.ra, self.dec, float(row["s_ra"]), float(row["s_dec"]))
        return round(share_covered(_corners(row["s_region"]), self.ra, self.dec, self.size_deg), 3), -apart


def _corners(region: str) -> list[tuple[float, float]]:
    """Return the corners of an image.

    Examples
    --------
    >>> _corners("POLYGON ICRS 10.0 -5.0 10.5 -5.0 10.5 -4.5")
    [(10.0, -5.0), (10.5, -5.0), (10.5, -4.5)]
    """
    numbers = [float(text) for text in re.findall(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", region)]
    return list(zip(numbers[::2], numbers[1::2], strict=False)) if region.lstrip().upper().startswith("POLYGON") else []


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
