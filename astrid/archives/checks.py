"""What must be true of a file before it is kept.

A check takes the path of a file and returns what it found, in words for the sidecar. It
raises `Unfit` with the outcome that the file stands for. Checks are frozen
dataclasses, so that they travel to workers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import mmap
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.archives.outcomes import ArchiveError, Corrupt, NoCoverage, Transient

BLOCK = 2880
GZIP, BZIP2 = b"\x1f\x8b", b"BZh"  # how packed files begin
_HTML = re.compile(rb"^\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_LONGEST_HEADER = 4000  # blocks
_ROWS = 1024  # of an image, looked at together


class Unfit(Exception):
    """A file that is not what was asked for, and the outcome it stands for."""

    def __init__(self, outcome: type[ArchiveError], reason: str) -> None:
        self.outcome, self.reason = outcome, reason
        super().__init__(reason)


class Check(Protocol):
    """Looks at a file before it is kept."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Return what was found to be true; raise `Unfit` where something is not."""


def is_html(beginning: bytes) -> bool:
    """Return whether bytes begin like a web page: services answer so when they are overloaded or closed."""
    return _HTML.match(beginning) is not None


def unpacked(data: bytes) -> bytes:
    """Return what gzip or bzip2 packed, as their first bytes say; other data as they are."""
    try:
        if data.startswith(GZIP):
            return gzip.decompress(data)
        return bz2.decompress(data) if data.startswith(BZIP2) else data
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise Unfit(Corrupt, f"the packed data do not decompress ({error})") from error


@dataclass(frozen=True)
class Content:
    """Any content but nothing and a web page."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Look at the beginning."""
        _beginning(path)
        return ("not empty",)


@dataclass(frozen=True)
class FitsImage:
    """A FITS file whose every HDU reads, with an image that has finite pixels.

    Attributes
    ----------
    ra, dec : float or None
        Position in degrees that must lie on the image, ``margin_pixels`` around it included.
    may_be_blank : bool
        Whether an image without a finite pixel is as good (masks, where no data is not 0).
    needs_wcs : bool
        Whether a celestial WCS must be there.
    may_be_constant : bool
        Whether an image all of one value is as good; some services send that where they have nothing.
    """

    ra: float | None = None
    dec: float | None = None
    margin_pixels: float = 0.0
    may_be_blank: bool = False
    needs_wcs: bool = True
    may_be_constant: bool = True

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Read every HDU."""
        beginning = _beginning(path)
        found = ["FITS of full length"]
        with _content(path, is_packed=beginning.startswith((GZIP, BZIP2))) as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_length(content)
            source = path if isinstance(content, mmap.mmap) else io.BytesIO(content)
            try:
                with fits.open(source, memmap=source is path, lazy_load_hdus=False) as file:
                    found += self._check_hdus(file)
            except Unfit:
                raise
            except Exception as error:  # astropy and wcslib raise whatever they stumble over in damaged bytes
                raise Unfit(Corrupt, f"the FITS file does not read ({type(error).__name__}: {error})") from error
        return tuple(found)

    def _check_hdus(self, file: fits.HDUList) -> list[str]:
        """Read one HDU after the other, letting go of each: drizzled mosaics have gigabytes."""
        found: list[str] = []
        for hdu in file:
            pixels = hdu.data
            if pixels is not None and getattr(hdu, "is_image", False) and pixels.ndim >= 2 and not found:
                found += self._check_pixels(pixels)
                if self.needs_wcs:
                    found.append(self._check_wcs(hdu.header, pixels.shape))
            del pixels
            if "data" in hdu.__dict__:
                del hdu.data
        if not found:
            raise Unfit(Corrupt, "no image in the FITS file")
        return found

    def _check_pixels(self, pixels: NDArray[Any]) -> list[str]:
        rows = pixels.reshape(-1, pixels.shape[-1])
        blocks = [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]
        finite = sum(int(np.isfinite(block).sum()) for block in blocks) / max(pixels.size, 1)
        if finite == 0.0 and not self.may_be_blank:
            raise Unfit(NoCoverage, "the image has no finite pixel")
        if not self.may_be_constant and np.nanmin(pixels) == np.nanmax(pixels):
            raise Unfit(NoCoverage, f"every pixel is {float(np.nanmin(pixels)):g}")
        return [f"{finite:.4f} of the pixels are finite"]

    def _check_wcs(self, header: fits.Header, shape: tuple[int, ...]) -> str:
        wcs = WCS(header).celestial
        if not wcs.has_celestial:
            raise Unfit(Corrupt, "the image has no celestial WCS")
        if self.ra is None or self.dec is None:
            return "a WCS"
        x, y = wcs.all_world2pix([self.ra], [self.dec], 0, quiet=True)
        ny, nx = shape[-2:]
        inside = (
            -0.5 - self.margin_pixels <= x[0] <= nx - 0.5 + self.margin_pixels
            and -0.5 - self.margin_pixels <= y[0] <= ny - 0.5 + self.margin_pixels
        )
        if not inside:
            raise Unfit(
                Corrupt, f"position {self.ra:.5f} {self.dec:+.5f} is at x, y = {x[0]:.1f}, {y[0]:.1f} of {nx} x {ny}"
            )
        return "the position is on the image"


@dataclass(frozen=True)
class IpacTable:
    """An IPAC table with as many rows as it announces, and the columns that are needed."""

    columns: tuple[str, ...] = ()

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Count the rows."""
        _beginning(path)
        rows = read_ipac_table(path.read_bytes(), self.columns)
        return (f"{len(rows)} rows, as announced",)


@dataclass(frozen=True)
class DelimitedTable:
    """A text table whose first line names its columns, with as many fields in each row where white space parts them.

    Attributes
    ----------
    columns : tuple of str
        Columns that must be there.
    delimiter : str or None
        None splits at white space.
    """

    columns: tuple[str, ...] = ()
    delimiter: str | None = ","

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Count the fields of each row."""
        _beginning(path)
        raw = path.read_bytes()
        lines = raw.decode("utf-8", errors="replace").splitlines()
        names = [name.strip() for name in lines[0].split(self.delimiter)] if lines else []
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise Unfit(Corrupt, f"column {missing[0]!r} is not in the table; its columns: {', '.join(names)[:200]}")
        if not raw.endswith(b"\n"):
            raise Unfit(Corrupt, "the last line of the table is not complete")
        if self.delimiter is None:
            ragged = next((line for line in lines[1:] if len(line.split()) != len(names)), None)
            if ragged is not None:
                raise Unfit(Corrupt, f"a row has {len(ragged.split())} of {len(names)} fields: {ragged[:80]!r}")
        return (f"{len(lines) - 1} rows",)


def read_ipac_table(raw: bytes, columns: tuple[str, ...] = ()) -> list[dict[str, str]]:
    r"""Return the rows of an IPAC table as text by column, empty where null.

    Raises
    ------
    Unfit
        If it is none, is not ``\QUERY_STATUS = 'OK'``, has other than ``\RowsRetrieved`` rows or lacks a column.
    """
    lines = raw.decode("utf-8", errors="replace").splitlines()
    notes, bars, rows = {}, [], []
    for line in lines:
        if line.startswith("\\"):
            key, _, value = line[1:].partition("=")
            notes[key.strip()] = value.strip().strip("'\"")
        elif line.startswith("|"):
            bars.append(line.rstrip())
        elif line.strip():
            rows.append(line)
    status = notes.get("QUERY_STATUS", notes.get("STATUS"))
    if status is not None and status.upper() != "OK":
        raise Unfit(Transient, f"the search ended with status {status!r}")
    if not bars:
        raise Unfit(Corrupt, f"no IPAC table; it begins with {raw[:60]!r}")
    ends = [place for place, character in enumerate(bars[0]) if character == "|"]
    spans = list(pairwise(ends))
    names = [bars[0][low + 1 : high].strip() for low, high in spans]
    nulls = [bars[3][low + 1 : high].strip() if len(bars) > 3 else "" for low, high in spans]
    missing = [name for name in columns if name not in names]
    if missing:
        raise Unfit(Corrupt, f"column {missing[0]!r} is not in the table; its columns: {', '.join(names)[:300]}")
    announced = notes.get("RowsRetrieved")
    if announced is None:
        raise Unfit(Corrupt, r"the table does not say \RowsRetrieved, so that a short one cannot be told")
    if int(announced) != len(rows):
        raise Unfit(Corrupt, f"{len(rows)} of {announced} rows came")
    if rows and notes.get("fixlen") == "T" and len(rows[-1]) < ends[-1]:
        raise Unfit(Corrupt, "the last row of the table is not complete")
    table = []
    for row in rows:
        values = (row[low : high + 1].strip() for low, high in spans)
        table.append({n: "" if v in ("null", null) else v for n, v, null in zip(names, values, nulls, strict=True)})
    return table


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        beginning = file.read(1024)
    if not beginning:
        raise Unfit(Corrupt, "the answer is empty")
    if is_html(beginning):
        raise Unfit(Transient, "a web page came instead of data")
    return beginning


@contextmanager
def _content(path: Path, *, is_packed: bool) -> Iterator[bytes | mmap.mmap]:
    """Yield the bytes of a file without reading it all, or what a packed one holds."""
    if is_packed:
        yield unpacked(path.read_bytes())
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def check_length(data: bytes | mmap.mmap) -> None:
    """Walk the headers of a FITS file; what they promise must be there."""
    if data[:9] != b"SIMPLE  =":
        raise Unfit(Corrupt, f"no FITS file; it begins with {data[:24]!r}")
    place, index = 0, 0
    while place < len(data) and (index == 0 or data[place : place + 8] == b"XTENSION"):
        end = place
        while True:
            block = data[end : end + BLOCK]
            if len(block) < BLOCK or end - place > _LONGEST_HEADER * BLOCK:
                raise Unfit(Corrupt, f"the header of HDU {index} is cut short")
            end += BLOCK
            if any(block[i : i + 80].rstrip() == b"END" for i in range(0, BLOCK, 80)):
                break
        header = fits.Header.fromstring(data[place:end].decode("ascii", errors="replace"))
        size = _data_size(header)
        place = end + size + -size % BLOCK
        index += 1
    if len(data) < place:
        raise Unfit(Corrupt, f"{len(data)} bytes came of the {place} that the headers promise")


def _data_size(header: fits.Header) -> int:
    try:
        axes = [int(header[f"NAXIS{i}"]) for i in range(1, int(header["NAXIS"]) + 1)]
        if not axes:
            return 0
        if axes[0] == 0 and header.get("GROUPS", False):
            axes = axes[1:]
        groups, parameters = int(header.get("GCOUNT", 1)), int(header.get("PCOUNT", 0))
        return abs(int(header["BITPIX"])) // 8 * groups * (parameters + int(np.prod(axes)))
    except (KeyError, TypeError, ValueError) as error:
        raise Unfit(Corrupt, f"the FITS header is damaged ({error})") from error
