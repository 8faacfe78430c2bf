"""FITS files as they come: found by content, read in full or not at all.

astropy only warns when a file is shorter than its header promises and hands out
what is there; here every read checks the size, and headers are read without
touching (or decompressing) the pixels behind them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from numpy.typing import NDArray

from astrid.errors import DataError

BLOCK = 2880
_SUFFIX = re.compile(r"\.(?:fits?|fts)(?:\.(?:gz|fz|bz2))?$|\.fz$", re.IGNORECASE)
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_LONGEST_HEADER = 4000  # blocks; beyond it the END card is missing


def is_fits_name(name: str) -> bool:
    """Return whether a file name says FITS: .fits, .fit or .fts, also with .gz, .fz or .bz2, in any case."""
    return _SUFFIX.search(name) is not None


def stem_of(name: str) -> str:
    """Return a file name without its FITS suffixes.

    Examples
    --------
    >>> stem_of("night1.r.FITS.gz")
    'night1.r'
    """
    return _SUFFIX.sub("", name)


@dataclass(frozen=True, eq=False)
class ImageHDU:
    """Where an image is in a file and what its headers say; no pixels.

    Attributes
    ----------
    path : Path
        The file.
    index : int
        Index of the HDU.
    header : Header
        Header of the image HDU (of the table that holds it, where it is compressed).
    primary : Header
        Primary header, for keywords the image's own header lacks.
    shape : tuple of int
        (ny, nx) after dropping axes of length one.
    """

    path: Path
    index: int
    header: Header
    primary: Header
    shape: tuple[int, int]

    @property
    def is_integer(self) -> bool:
        """Whether pixels are stored as integers."""
        return int(self.header.get("ZBITPIX", self.header["BITPIX"])) > 0


def find_image(path: Path, hdu: int | str | None = None) -> ImageHDU:
    """Find an image in a file from its headers alone.

    Parameters
    ----------
    path : Path
        A FITS file: plain, gzip or bzip2 (told by content), images plain or compressed (fpack).
    hdu : int or str, optional
        Index or EXTNAME of the HDU; the first two-dimensional image by default.

    Raises
    ------
    DataError
        If the file is not FITS, is shorter than its header says, cannot be
        decompressed or has no such image.
    """
    with _opened(path) as stream:
        image, _ = _seek_image(stream, path, hdu)
        size = _data_size(image.header)
        if isinstance(stream, io.BufferedReader):
            present = os.fstat(stream.fileno()).st_size - stream.tell()
            _check_length(path, present, size)
        return image


def read_pixels(path: Path, hdu: int | str | None = None) -> tuple[NDArray[np.float64 | np.float32], NDArray[Any]]:
    """Read an image in full.

    Returns
    -------
    pixels : (ny, nx) float array
        Physical values in native byte order: BZERO and BSCALE applied, NaN where BLANK.
        float64 for scaled or wide integers and BITPIX -64, else float32.
    stored : (ny, nx) array
        The values as stored, before scaling; integer where the file's are.

    Raises
    ------
    DataError
        As `find_image`, and if the pixels end early or do not decompress.
    """
    with _opened(path) as stream:
        image, header_bytes = _seek_image(stream, path, hdu)
        size = _data_size(image.header)
        data = stream.read(size)
        _check_length(path, len(data), size)
        if not isinstance(stream, io.BufferedReader):
            while stream.read(1 << 20):  # the checksum of a compressed file comes last
                pass
    header = image.header
    if _is_compressed(header):
        stored, header = _decompress(path, header_bytes, data)
    else:
        bitpix = int(header["BITPIX"])
        if bitpix not in _DTYPES:
            raise DataError(f"{path}: BITPIX = {bitpix} is not a FITS pixel type")
        stored = np.frombuffer(data, _DTYPES[bitpix])
    stored = stored.reshape(image.shape)
    stored = stored.astype(stored.dtype.newbyteorder("="))
    return _scaled(stored, header), stored


def _scaled(stored: NDArray[Any], header: Header) -> NDArray[np.float64 | np.float32]:
    scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
    narrow = stored.dtype == np.float32 or (stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2)
    if (scale, zero) == (1.0, 0.0) and narrow:
        pixels: NDArray[Any] = stored.astype(np.float32)
    else:
        pixels = stored.astype(np.float64) * scale + zero
    if stored.dtype.kind in "iu" and isinstance(header.get("BLANK"), int):
        pixels[stored == header["BLANK"]] = np.nan
    return pixels


def _decompress(path: Path, header_bytes: bytes, data: bytes) -> tuple[NDArray[Any], Header]:
    """Undo fpack on one table HDU, without scaling."""
    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    padding = bytes(-len(data) % BLOCK)
    try:
        with (
            warnings.catch_warnings(),
            fits.open(
                io.BytesIO(primary + header_bytes + data + padding), memmap=False, do_not_scale_image_data=True
            ) as file,
        ):
            warnings.simplefilter("ignore")
            return np.array(file[1].data), file[1].header.copy()
    except Exception as error:
        # the decoders raise whatever they stumble over in damaged bytes
        raise DataError(f"{path}: the compressed image does not decompress ({error}); fetch the file again") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, looking through gzip and bzip2; what goes wrong inside is a DataError."""
    try:
        with open(path, "rb") as raw:
            magic = raw.read(3)
            raw.seek(0)
            if magic[:2] == b"\x1f\x8b":
                stream: Any = gzip.GzipFile(fileobj=raw)
            elif magic == b"BZh":
                stream = bz2.BZ2File(raw)
            else:
                stream = raw
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: cannot be decompressed ({error}); fetch the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _seek_image(stream: IO[bytes], path: Path, hdu: int | str | None) -> tuple[ImageHDU, bytes]:
    """Put the stream at the pixels of an image; return what it is and its header as bytes."""
    primary: Header | None = None
    seen: list[str] = []
    for index, header, raw in _headers(stream, path):
        primary = header if primary is None else primary
        axes = _image_axes(header)
        name = str(header.get("EXTNAME", "")).strip()
        seen.append(f"{index} {header.get('XTENSION', 'PRIMARY')} {list(axes)}")
        shape = _plane(axes)
        if hdu is None and shape is None:
            continue
        if hdu is None or hdu == index or (isinstance(hdu, str) and hdu.casefold() == name.casefold()):
            if shape is None:
                raise DataError(f"{path}: HDU {hdu} is no two-dimensional image (its axes: {list(axes)})")
            return ImageHDU(path, index, header, primary, shape), raw
    wanted = "no two-dimensional image" if hdu is None else f"no HDU {hdu}"
    raise DataError(f"{path}: {wanted} in it; its HDUs: {', '.join(seen)}")


def _headers(stream: IO[bytes], path: Path) -> Iterator[tuple[int, Header, bytes]]:
    """Yield index and header of each HDU, the stream standing at its data."""
    index = 0
    while True:
        raw = _header_bytes(stream, path, index)
        if raw is None:
            return
        text = raw.decode("ascii", errors="replace").replace("\ufffd", "?")
        header = Header.fromstring(text)
        start = stream.tell()
        yield index, header, raw
        size = _data_size(header)
        stream.seek(start + size + -size % BLOCK)
        index += 1


def _header_bytes(stream: IO[bytes], path: Path, index: int) -> bytes | None:
    blocks: list[bytes] = []
    while len(blocks) < _LONGEST_HEADER:
        block = stream.read(BLOCK)
        if not blocks:
            if index == 0 and not block.startswith(b"SIMPLE  ="):
                what = "is empty" if not block else f"is not a FITS file (it begins with {block[:16]!r})"
                raise DataError(f"{path}: {what}")
            if index > 0 and not block.startswith(b"XTENSION"):
                return None  # end of file, or padding some writers leave
        blocks.append(block)
        if any(block[i : i + 80].rstrip() == b"END" for i in range(0, len(block), 80)):
            blocks[-1] = block.ljust(BLOCK)
            return b"".join(blocks)
        if len(block) < BLOCK:
            break
    raise DataError(f"{path}: the header of HDU {index} has no END; the file is truncated or damaged")


def _is_compressed(header: Header) -> bool:
    return bool(header.get("ZIMAGE", False)) and str(header.get("XTENSION", "")).strip() == "BINTABLE"


def _image_axes(header: Header) -> tuple[int, ...]:
    """Lengths of the axes of an image, slowest first; empty where the HDU is none."""
    letter = "Z" if _is_compressed(header) else ""
    if not letter and "XTENSION" in header and str(header["XTENSION"]).strip() != "IMAGE":
        return ()
    count = int(header.get(f"{letter}NAXIS", 0))
    return tuple(int(header.get(f"{letter}NAXIS{i}", 0)) for i in range(count, 0, -1))


def _plane(axes: tuple[int, ...]) -> tuple[int, int] | None:
    long = [n for n in axes if n != 1]
    return (long[0], long[1]) if len(long) == 2 and min(long) > 0 else None


def _data_size(header: Header) -> int:
    """Bytes of data behind a header, padding not counted."""
    axes = [int(header.get(f"NAXIS{i}", 0)) for i in range(1, int(header.get("NAXIS", 0)) + 1)]
    if not axes:
        return 0
    if axes[0] == 0 and header.get("GROUPS", False):
        axes = axes[1:]
    groups, parameters = int(header.get("GCOUNT", 1)), int(header.get("PCOUNT", 0))
    return abs(int(header["BITPIX"])) // 8 * groups * (parameters + math.prod(axes))


def _check_length(path: Path, present: int, needed: int) -> None:
    if present < needed:
        raise DataError(
            f"{path}: truncated: the header promises {needed} bytes of pixels, {max(present, 0)} are there;"
            " fetch the file again"
        )
