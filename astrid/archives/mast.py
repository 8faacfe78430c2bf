"""MAST: TESS cutouts (TESScut), searches (CAOM) and files.

The requests are those that `astroquery.mast` sends. https://mast.stsci.edu/api/v0/,
https://mast.stsci.edu/tesscut/docs/
"""

from __future__ import annotations

import io
import json
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits

from astrid.archives.checks import FitsImage, Unfit, check_length, is_html
from astrid.archives.fetch import Download, Fetcher
from astrid.archives.outcomes import Corrupt, NoCoverage, Transient
from astrid.archives.transport import Answer

SERVICE = "mast"
SECTORS = "/tesscut/api/v0.1/sector"
CUTOUT = "/tesscut/api/v0.1/astrocut"
INVOKE = "/api/v0/invoke"
FILE = "/api/v0.1/Download/file"
PAGE_SIZE = 50_000
LONGEST_SEARCH = 600.0  # seconds until a search must have ended
POLL_SECONDS = 2.0
_RUNNING = "the search is running"


@dataclass(frozen=True)
class JsonRows:
    """A JSON answer that is whole, without error, with all the rows that it announces.

    Attributes
    ----------
    key : str
        Where the rows are.
    columns : tuple of str
        That each row must have.
    """

    key: str
    columns: tuple[str, ...] = ()

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Parse it."""
        return (f"{len(read_rows(path.read_bytes(), self.key, self.columns))} rows of JSON that is whole",)


def read_rows(raw: bytes, key: str, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of a JSON answer.

    Raises
    ------
    Unfit
        If it is none, ends early, is still being made or reports an error, or lacks rows or a column.
    """
    if not raw.strip():
        raise Unfit(Corrupt, "the answer is empty")
    if is_html(raw[:1024]):
        raise Unfit(Transient, "a web page came instead of data")
    try:
        answer = json.loads(raw)
    except ValueError as error:
        raise Unfit(Corrupt, f"the JSON does not parse ({error})") from error
    if not isinstance(answer, dict):
        raise Unfit(Corrupt, f"the answer is a {type(answer).__name__}, no object with {key!r}")
    status = str(answer.get("status", "COMPLETE")).upper()
    if status != "COMPLETE":
        raise Unfit(Transient, f"the search ended with status {status}: {str(answer.get('msg', ''))[:150]}")
    rows = answer.get(key)
    if not isinstance(rows, list):
        raise Unfit(Corrupt, f"no {key!r} in the answer; it has {', '.join(answer)[:150]}")
    paging = answer.get("paging") or {}
    announced = paging.get("rowsTotal")
    if announced is not None and int(announced) > len(rows):
        raise Unfit(Corrupt, f"{len(rows)} of {announced} rows came")
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing:
        raise Unfit(Corrupt, f"column {missing[0]!r} is not in the answer; it has {', '.join(rows[0])[:200]}")
    return rows


@dataclass(frozen=True)
class _Search:
    """The rows of a search; one that is still running is as good, for `_finished` to ask again."""

    rows: JsonRows

    def __call__(self, path: Path) -> tuple[str, ...]:
        if _is_running(path):
            return (_RUNNING,)
        return self.rows(path)


@dataclass(frozen=True)
class _Finished:
    """Asks for a search until it has ended: the service answers early, and again by the same request."""

    rows: JsonRows

    def __call__(self, fetcher: Fetcher, download: Download, part: Path) -> Answer:
        end = time.monotonic() + min(LONGEST_SEARCH, fetcher.archive.service(download.service).deadline_s)
        while True:
            answer = fetcher.transport.fetch(
                download.service, download.path, part, _Search(self.rows), data=download.data
            )
            if answer.checks != (_RUNNING,):
                return answer
            part.unlink(missing_ok=True)
            if time.monotonic() > end:
                raise Transient(download.service, answer.url, f"the search has not ended after {LONGEST_SEARCH:g} s")
            time.sleep(POLL_SECONDS)


def _is_running(path: Path) -> bool:
    try:
        answer = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(answer, dict) and str(answer.get("status", "")).upper() == "EXECUTING"


@dataclass(frozen=True)
class CutoutZip:
    """A zip of target pixel files, every HDU of which reads."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Read every file in it."""
        raw = path.read_bytes()
        if not raw:
            raise Unfit(Corrupt, "the answer is empty")
        if is_html(raw[:1024]):
            raise Unfit(Transient, "a web page came instead of data")
        if raw[:1] == b"{":  # the service says in JSON that it has nothing
            raise Unfit(NoCoverage, _message(raw))
        try:
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                members = [archive.read(name) for name in archive.namelist() if name.endswith(".fits")]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise Unfit(Corrupt, f"the zip does not open ({error})") from error
        if not members:
            raise Unfit(NoCoverage, "no cutout in the zip")
        for member in members:
            check_length(member)
            try:
                with fits.open(io.BytesIO(member)) as file:
                    for hdu in file:
                        _ = hdu.data
                    names = file[1].columns.names
            except (OSError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise Unfit(Corrupt, f"a target pixel file does not read ({error})") from error
            if "FLUX" not in names:
                raise Unfit(Corrupt, f"no column FLUX in a target pixel file; there are {', '.join(names)}")
        return (f"{len(members)} target pixel files",)


def sectors_request(ra: float, dec: float, radius_deg: float = 0.0) -> Download:
    """Return the request for the TESS sectors that hold a place (ICRS degrees)."""
    form = (("ra", f"{ra:.6f}"), ("dec", f"{dec:.6f}"), ("radius", f"{radius_deg:.6f}"))
    return Download(
        SERVICE,
        SECTORS,
        data=form,
        check=JsonRows("results", ("sector", "camera", "ccd")),
        is_search=True,
        about={"survey": "tess", "acknowledgement": "tess"},
    )


def sectors(fetcher: Fetcher, request: Download) -> list[dict[str, int]]:
    """Return sector, camera and ccd; none where TESS never looked. See `Fetcher.fetch` for what it raises."""
    rows = read_rows(fetcher.read(request), "results")
    return [{key: int(row[key]) for key in ("sector", "camera", "ccd")} for row in rows]


def tess_cutout(ra: float, dec: float, size_pixels: int, sector: int, *, size: int | None = None,
                about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the request for a square of one sector's full-frame images: one sector each, all at once take too long."""
    form = (
        *(("x", str(size_pixels)), ("y", str(size_pixels)), ("units", "px"), ("sector", str(sector))),
        *(("ra", f"{ra:.6f}"), ("dec", f"{dec:.6f}")),
    )
    about = {"survey": "tess", "acknowledgement": "tess", **(about or {})}
    return Download(SERVICE, CUTOUT, data=form, check=CutoutZip(), size=size, about=about)


def search_request(service: str, params: Mapping[str, Any], *, columns: Sequence[str] = ()) -> Download:
    """Return a request to MAST's query interface.

    Parameters
    ----------
    service : str
        Such as "Mast.Caom.Filtered.Position".
    params : mapping
        Of that service.
    columns : sequence of str
        That the rows must have.
    """
    asked = {"service": service, "params": dict(params), "format": "json", "pagesize": PAGE_SIZE, "page": 1}
    rows = JsonRows("data", tuple(columns))
    return Download(
        SERVICE,
        INVOKE,
        data=(("request", json.dumps(asked, sort_keys=True)),),
        check=rows,
        is_search=True,
        way=_Finished(rows),
        about={"acknowledgement": "mast"},
    )


def search(fetcher: Fetcher, request: Download) -> list[dict[str, Any]]:
    """Return the rows that a search found; see `Fetcher.fetch` for what it raises."""
    return read_rows(fetcher.read(request), "data")


def file_request(uri: str, *, size: int | None = None, about: Mapping[str, object] | None = None,
                 ra: float | None = None, dec: float | None = None) -> Download:  # fmt: skip
    """Return the request for a FITS file as it lies at the archive; it can be resumed.

    Parameters
    ----------
    uri : str
        Such as "mast:HST/product/j8pu42ecq_drz.fits".
    size : int, optional
        Bytes, as the archive says.
    about : mapping, optional
        For the note beside the file.
    ra, dec : float, optional
        Place that must be on the image or near it, degrees.
    """
    about = {"acknowledgement": "mast", **(about or {})}
    check = FitsImage(needs_wcs=False)
    return Download(
        SERVICE, FILE, (("uri", uri),), check=check, size=size, exact=size is not None, whole=True, about=about
    )


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw).get("msg", "nothing there"))[:200]
    except (ValueError, AttributeError):
        raise Unfit(Corrupt, f"neither a zip nor JSON; it begins with {raw[:40]!r}") from None
