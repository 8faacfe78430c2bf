"""GALEX at MAST: the deepest image in counts per second that holds a place, cut to a square.

https://archive.stsci.edu/missions-and-data/galex
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrid.archives import mast
from astrid.archives.fetch import Download, Fetcher
from astrid.archives.footprints import degrees_apart
from astrid.archives.frames import keep_square
from astrid.archives.outcomes import NoCoverage
from astrid.archives.transport import Answer

SERVICE = mast.SERVICE
ENDINGS = {"NUV": "-nd-int.fits.gz", "FUV": "-fd-int.fits.gz"}  # counts per second; others are counts, weights...
GOOD_DEG = 0.55  # from the centre of the round field; farther out images are poor
POINT_DEG = 0.0003
MOST = 10  # observations whose files are asked for
_OBSERVATION = ("obsid", "obs_id", "filters", "s_ra", "s_dec", "t_exptime")
_PRODUCT = ("obsID", "productFilename", "dataURI", "size")


def observations_request(ra: float, dec: float) -> Download:
    """Return the search for images that hold a place."""
    filters = {"obs_collection": ["GALEX"], "dataproduct_type": ["image"]}
    params = {
        "columns": "*",
        "filters": [{"paramName": name, "values": values} for name, values in filters.items()],
        "position": f"{ra:.6f}, {dec:.6f}, {POINT_DEG:g}",
    }
    return mast.search_request("Mast.Caom.Filtered.Position", params, columns=_OBSERVATION)


def products_request(obsids: Sequence[str]) -> Download:
    """Return the search for the files of observations."""
    return mast.search_request("Mast.Caom.Products", {"obsid": ",".join(obsids)}, columns=_PRODUCT)


def cutout(band: str, ra: float, dec: float, size_deg: float, *, size: int | None = None,
           about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the download of a square about a place, in counts per second; what lies beyond the image is left out.

    Parameters
    ----------
    band : str
        "NUV" or "FUV".
    ra, dec, size_deg : float
        Centre and side, ICRS degrees.
    size : int, optional
        Expected bytes.
    about : mapping, optional
        For the note beside the file.

    Raises
    ------
    ValueError
        If there is no such band.
    """
    if band not in ENDINGS:
        raise ValueError(f"band must be one of {', '.join(ENDINGS)}, got {band!r}")
    params = (("galex", band), ("ra", f"{ra:.6f}"), ("dec", f"{dec:.6f}"), ("size", f"{size_deg:.8f}"))
    about = {"acknowledgement": "galex", **(about or {})}
    return Download(SERVICE, mast.FILE, params, size=size, way=DeepestImage(band, ra, dec, size_deg), about=about)


@dataclass(frozen=True)
class DeepestImage:
    """Gets the square from the longest exposure that holds the place well inside."""

    band: str
    ra: float
    dec: float
    size_deg: float

    def __call__(self, fetcher: Fetcher, download: Download, part: Path) -> Answer:
        """Write the square to ``part``."""
        rows = mast.search(fetcher, observations_request(self.ra, self.dec))
        rows = sorted((row for row in rows if str(row["filters"]).upper() == self.band), key=self._order)[:MOST]
        url = fetcher.archive.url(SERVICE, mast.INVOKE)
        if not rows:
            raise NoCoverage(SERVICE, url, f"GALEX has no image in {self.band} of {self.ra:.5f} {self.dec:+.5f}")
        products: dict[str, dict[str, Any]] = {}
        for product in mast.search(fetcher, products_request([str(row["obsid"]) for row in rows])):
            if str(product["productFilename"]).endswith(ENDINGS[self.band]):
                products.setdefault(str(product["obsID"]), product)
        best = next((row for row in rows if str(row["obsid"]) in products), None)
        if best is None:
            raise NoCoverage(SERVICE, url, f"GALEX has no file *{ENDINGS[self.band]} of {rows[0]['obs_id']}")
        product = products[str(best["obsid"])]
        size = int(product["size"]) if product["size"] else None
        about = {"acknowledgement": "galex"}
        frame = fetcher.fetch(mast.file_request(str(product["dataURI"]), size=size, about=about))
        found = {"obs_id": str(best["obs_id"]), "exposure_seconds": str(best["t_exptime"])}
        return keep_square(frame, part, self.ra, self.dec, self.size_deg, found=found)

    def _order(self, row: Mapping[str, Any]) -> tuple[bool, float, float]:
        """Return what images are sorted by, the best first."""
        apart = degrees_apart(self.ra, self.dec, float(row["s_ra"]), float(row["s_dec"]))
        is_poor = apart + self.size_deg / 2 > GOOD_DEG
        return is_poor, apart if is_poor else 0.0, -float(row["t_exptime"] or 0.0)
