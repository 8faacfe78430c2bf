"""Frames of the SDSS imaging survey: found by position at SkyServer, fetched from the archive, cut to a square.

A frame is calibrated and sky-subtracted, in nanomaggies; it lies there packed by bzip2.

https://skyserver.sdss.org/dr17/en/help/docs/api.aspx,
https://data.sdss.org/datamodel/files/BOSS_PHOTOOBJ/frames/RERUN/RUN/CAMCOL/frame.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrid.archives.checks import FitsImage, Unfit, is_html
from astrid.archives.fetch import Download, Fetcher
from astrid.archives.footprints import degrees_apart
from astrid.archives.frames import keep_square
from astrid.archives.outcomes import Corrupt, NoCoverage, Transient
from astrid.archives.transport import Answer

SEARCH_SERVICE, SERVICE = "skyserver", "sdss"
SEARCH = "/dr17/SkyServerWS/SearchTools/SqlSearch"
FRAMES = "/sas/dr17/eboss/photoObj/frames"
BANDS = ("u", "g", "r", "i", "z")
COLUMNS = ("run", "rerun", "camcol", "field", "ra", "dec", "raMin", "raMax", "decMin", "decMax")
REACH_DEG = 0.15  # half the diagonal of a frame of 2048 x 1489 pixels of 0.396 arcsec
MOST = 3  # frames to try, where the place turns out to lie beside one
FRAME_BYTES = 3_000_000  # packed, about


@dataclass(frozen=True)
class QueryRows:
    """An answer of SkyServer that is whole and without error, with the columns that were asked for."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Parse it."""
        return (f"{len(read_rows(path.read_bytes()))} rows of JSON that is whole",)


def read_rows(raw: bytes) -> list[dict[str, Any]]:
    """Return the rows of an answer of SkyServer.

    Raises
    ------
    Unfit
        If it is none, ends early, reports an error or lacks a column.
    """
    if not raw.strip():
        raise Unfit(Corrupt, "the answer is empty")
    if is_html(raw[:1024]):
        raise Unfit(Transient, "a web page came instead of data")
    try:
        answer = json.loads(raw)
    except ValueError as error:
        raise Unfit(Corrupt, f"the JSON does not parse ({error})") from error
    tables = [one for one in answer if isinstance(one, dict)] if isinstance(answer, list) else []
    if not tables or not isinstance(tables[0].get("Rows"), list):
        raise Unfit(Transient, f"the query ended without a table: {raw[:150].decode('utf-8', errors='replace')}")
    rows: list[dict[str, Any]] = tables[0]["Rows"]
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing:
        raise Unfit(Corrupt, f"column {missing[0]!r} is not in the answer; it has {', '.join(rows[0])[:200]}")
    return rows


def search_request(ra: float, dec: float) -> Download:
    """Return the query for the frames whose centre is so near to a place that they may hold it."""
    reach = min(180.0, REACH_DEG / max(1e-3, math.cos(math.radians(min(89.9, abs(dec) + REACH_DEG)))))
    low, high = (ra - reach) % 360, (ra + reach) % 360
    joined = "AND" if low < high else "OR"  # over the meridian
    names = ", ".join(f"f.{name}" for name in COLUMNS)
    query = (
        f"SELECT {names} FROM Field AS f WHERE f.dec BETWEEN {dec - REACH_DEG:.5f} AND {dec + REACH_DEG:.5f}"
        f" AND (f.ra >= {low:.5f} {joined} f.ra <= {high:.5f})"
    )
    return Download(
        SEARCH_SERVICE,
        SEARCH,
        (("cmd", query), ("format", "json")),
        check=QueryRows(),
        is_search=True,
        about={"acknowledgement": "sdss"},
    )


def search(fetcher: Fetcher, request: Download) -> list[dict[str, Any]]:
    """Return the rows that a query found; see `Fetcher.fetch` for what it raises."""
    return read_rows(fetcher.read(request))


def frame_request(row: Mapping[str, Any], band: str) -> Download:
    """Return the request for a whole frame.

    Parameters
    ----------
    row : mapping
        With run, rerun, camcol, field of the search.
    band : str
        Of `BANDS`.

    Examples
    --------
    >>> frame_request({"run": 1904, "rerun": 301, "camcol": 3, "field": 163}, "r").path
    '/sas/dr17/eboss/photoObj/frames/301/1904/3/frame-r-001904-3-0163.fits.bz2'
    """
    run, rerun, camcol, field = (int(row[name]) for name in ("run", "rerun", "camcol", "field"))
    path = f"{FRAMES}/{rerun}/{run}/{camcol}/frame-{band}-{run:06d}-{camcol}-{field:04d}.fits.bz2"
    return Download(SERVICE, path, check=FitsImage(), whole=True, size=FRAME_BYTES, about={"acknowledgement": "sdss"})


def cutout(band: str, ra: float, dec: float, size_deg: float, *, size: int | None = None,
           about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the download of a square about a place, from one frame; what lies beyond the frame is left out.

    Parameters
    ----------
    band : str
        Of `BANDS`.
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
    if band not in BANDS:
        raise ValueError(f"band must be one of {', '.join(BANDS)}, got {band!r}")
    params = (("band", band), ("ra", f"{ra:.6f}"), ("dec", f"{dec:.6f}"), ("size", f"{size_deg:.8f}"))
    about = {"acknowledgement": "sdss", **(about or {})}
    return Download(SERVICE, FRAMES, params, size=size, way=NearestFrame(band, ra, dec, size_deg), about=about)


@dataclass(frozen=True)
class NearestFrame:
    """Gets the square from the frame that holds the place farthest from its edges."""

    band: str
    ra: float
    dec: float
    size_deg: float

    def __call__(self, fetcher: Fetcher, download: Download, part: Path) -> Answer:
        """Write the square to ``part``."""
        request = search_request(self.ra, self.dec)
        rows = by_nearness(search(fetcher, request), self.ra, self.dec)
        beside = f"no frame holds {self.ra:.5f} {self.dec:+.5f}"
        for row in rows[:MOST]:
            frame = fetcher.fetch(frame_request(row, self.band))
            try:
                return keep_square(frame, part, self.ra, self.dec, self.size_deg)
            except NoCoverage as error:  # frames are not upright: the place is beside one whose limits hold it
                beside = error.reason
        raise NoCoverage(SEARCH_SERVICE, fetcher.archive.url(SEARCH_SERVICE, SEARCH), beside)


def by_nearness(rows: Sequence[Mapping[str, Any]], ra: float, dec: float) -> list[Mapping[str, Any]]:
    """Return the frames whose limits in right ascension and declination hold a place, the nearest centre first."""

    def holds(row: Mapping[str, Any]) -> bool:
        west, east = float(row["raMin"]), float(row["raMax"])
        within = west <= ra <= east or east - west > 180  # over the meridian these are no limits
        return within and float(row["decMin"]) <= dec <= float(row["decMax"])

    apart = [degrees_apart(ra, dec, float(row["ra"]), float(row["dec"])) for row in rows]
    order = sorted(range(len(rows)), key=apart.__getitem__)
    return [rows[number] for number in order if holds(rows[number])]
