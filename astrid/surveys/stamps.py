"""Stamps of alert packets: small FITS files in memory, gzipped or not, some of them damaged.

A damaged stamp is an ordinary thing here: it is decoded as far as it can be believed, or it is a
`astrid.errors.DataError`. Sizes that headers declare are checked before anything is allocated.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo
from astrid.schema import MaskBit

_LARGEST_STAMP = 1 << 25
_LONGEST_SIDE = 2048
_LARGEST_PIXEL = 1e7
_SMALLEST_PIXEL = 1e-20
_USUAL_NANS = np.array([0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
_NO_VALUE = 1e30  # beyond it a pixel is a filler such as -3.4e38
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True, eq=False)
class Plane:
    """One image of a stamp file.

    Attributes
    ----------
    header : dict
        Its cards by keyword: int, float, bool or str.
    pixels : (ny, nx) float64 or float32 array
        NaN where the stamp holds no value: not finite, or a filler beyond 1e30.
    """

    header: dict[str, Any]
    pixels: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Stamp:
    """The images of a stamp file, and whether it failed a checksum although all its bytes are there."""

    planes: tuple[Plane, ...]
    is_salvaged: bool


def read_stamp(data: bytes) -> Stamp:
    """Decode a stamp: a FITS file in memory, plain or gzip.

    Where a checksum is wrong although all bytes are there, pixels are used up to those that cannot be:
    a byte that was lost on the way turns all behind it into numbers of any size.

    Raises
    ------
    DataError
        If it is no FITS file, ends early, or declares an image that is no stamp.
    """
    intact = True
    if data[:2] == b"\x1f\x8b":
        data, intact = _gunzip(data)
    if not data.startswith(b"SIMPLE"):
        raise DataError(f"is not a FITS file (it begins with {data[:8]!r})" if data else "is empty")
    planes: list[Plane] = []
    at = 0
    while at < len(data) and (at == 0 or data.startswith(b"XTENSION", at)):
        header, start = _read_header(data, at)
        pixels, at = _read_pixels(data, header, start)
        if pixels is not None:
            if not intact:
                _drop_nonsense(pixels, np.frombuffer(data, np.uint8, len(data) - start, start))
            planes.append(Plane(header, pixels))
    if not planes:
        raise DataError("holds no two-dimensional image")
    return Stamp(tuple(planes), not intact)


def _drop_nonsense(pixels: NDArray[Any], data: NDArray[np.uint8]) -> None:
    """Set a damaged 32 bit float image to NaN from shortly before the first value that is none of a sky."""
    if pixels.dtype != np.float32:
        return
    bits = data[: 4 * pixels.size].view(">u4").astype(np.uint32)
    size = np.abs(bits.view(np.float32))
    with np.errstate(invalid="ignore"):
        wild = ((size > _LARGEST_PIXEL) & (size != np.finfo(np.float32).max)) | ((size > 0) & (size < _SMALLEST_PIXEL))
    wild |= np.isnan(size) & ~np.isin(bits, _USUAL_NANS)
    if wild.any():
        pixels.reshape(-1)[max(int(np.argmax(wild)) - 8, 0) :] = np.nan


def read_stamp_header(data: bytes) -> dict[str, Any]:
    """Return the primary header of a stamp without its pixels; DataError as `read_stamp`."""
    if data[:2] == b"\x1f\x8b":
        data, _ = _gunzip(data)
    if not data.startswith(b"SIMPLE"):
        raise DataError(f"is not a FITS file (it begins with {data[:8]!r})" if data else "is empty")
    return _read_header(data, 0)[0]


def _gunzip(data: bytes) -> tuple[bytes, bool]:
    """Inflate a gzip member; also where its checksum is wrong, which the second value says."""
    flags = data[3] if len(data) > 3 else 0
    at = 10
    if flags & 4:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (8, 16):  # name, comment: text that ends with a zero
        if flags & flag:
            end = data.find(b"\0", at)
            if end < 0:
                raise DataError("cut short within its gzip header")
            at = end + 1
    at += 2 if flags & 2 else 0
    inflater = zlib.decompressobj(-15)
    try:
        result = inflater.decompress(data[at:], _LARGEST_STAMP)
    except zlib.error as error:
        raise DataError(f"does not decompress ({error})") from error
    if inflater.unconsumed_tail:
        raise DataError(f"is larger than {_LARGEST_STAMP} bytes when decompressed: no stamp")
    trailer = inflater.unused_data[:8]
    wanted = zlib.crc32(result).to_bytes(4, "little") + len(result).to_bytes(4, "little")
    return result, inflater.eof and trailer == wanted


def _read_header(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    header: dict[str, Any] = {}
    for begin in range(at, min(len(data), at + 36 * 80 * 100), 80):
        card = data[begin : begin + 80].decode("ascii", errors="replace")
        if card.rstrip() == "END":
            return header, at + -(-(begin + 80 - at) // 2880) * 2880
        if card[8:9] == "=":
            header.setdefault(card[:8].rstrip(), _card_value(card[9:]))
    raise DataError("its FITS header has no END; the stamp is cut short or damaged")


def _card_value(text: str) -> Any:
    text = text.strip()
    if text.startswith("'"):
        return text[1:].split("'")[0].rstrip()
    text = text.split("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read_pixels(data: bytes, header: dict[str, Any], start: int) -> tuple[NDArray[Any] | None, int]:
    """Return the pixels behind a header (None where it is no image) and where the next HDU begins."""
    n_axes = header.get("NAXIS")
    bitpix = header.get("BITPIX")
    if type(n_axes) is not int or not 0 <= n_axes <= 4 or type(bitpix) is not int or bitpix not in _DTYPES:
        raise DataError(f"its FITS header says BITPIX = {bitpix!r}, NAXIS = {n_axes!r}; the stamp is damaged")
    if n_axes == 0:
        return None, start
    axes = [header.get(f"NAXIS{i}") for i in range(n_axes, 0, -1)]
    sides = [n for n in axes if type(n) is int and 0 < n <= _LONGEST_SIDE]
    is_image = header.get("XTENSION", "IMAGE") == "IMAGE"
    if len(sides) != n_axes or (is_image and (n_axes < 2 or any(n != 1 for n in sides[:-2]))):
        raise DataError(f"its FITS header says an image of {axes} pixels: no stamp, or damaged")
    count = int(np.prod(sides, dtype=np.int64))
    if count > _LARGEST_STAMP:
        raise DataError(f"its FITS header says {count} values: no stamp, or damaged")
    needed = count * abs(bitpix) // 8
    if len(data) - start < needed:
        raise DataError(f"cut short: {needed} bytes of pixels promised, {max(len(data) - start, 0)} are there")
    end = start + -(-needed // 2880) * 2880
    if not is_image:
        return None, end
    stored = np.frombuffer(data, _DTYPES[bitpix], count, start).reshape(sides[-2:])
    scale, zero = header.get("BSCALE", 1.0), header.get("BZERO", 0.0)
    if isinstance(scale, str) or isinstance(zero, str):
        raise DataError(f"its FITS header says BSCALE = {scale!r}, BZERO = {zero!r}; the stamp is damaged")
    with np.errstate(invalid="ignore", over="ignore"):
        pixels: NDArray[Any] = stored.astype(
            np.float32 if bitpix == -32 and (scale, zero) == (1.0, 0.0) else np.float64
        )
        if (scale, zero) != (1.0, 0.0):
            pixels = pixels * float(scale) + float(zero)
    if bitpix > 0 and type(header.get("BLANK")) is int:
        pixels[stored == header["BLANK"]] = np.nan
    pixels[~(np.abs(pixels) < _NO_VALUE)] = np.nan
    return pixels, end


def padded(
    pixels: NDArray[Any], centre: tuple[int, int] | None, side: int, chip: tuple[int, int]
) -> NDArray[np.float32]:
    """Return a stamp with what the edge of the chip cut off filled with NaN.

    Parameters
    ----------
    pixels : (ny, nx) array
        As stored: ``side`` squared, or less at an edge.
    centre : tuple of int or None
        (y, x) on the chip of the pixel that holds the event, counted from zero.
    side : int
        Of the whole stamp, odd.
    chip : tuple of int
        (ny, nx) of the chip.

    Raises
    ------
    DataError
        If the shape is not what the position on the chip leaves.
    """
    if pixels.shape == (side, side):
        return pixels.astype(np.float32)
    half = side // 2
    if centre is not None:
        low = [max(half - c, 0) for c in centre]
        high = [min(n - c + half, side) for n, c in zip(chip, centre, strict=True)]
        if pixels.shape == (high[0] - low[0], high[1] - low[1]):
            whole = np.full((side, side), np.nan, np.float32)
            whole[low[0] : high[0], low[1] : high[1]] = pixels
            return whole
    raise DataError(
        f"is {pixels.shape[0]} x {pixels.shape[1]} px, neither {side} x {side} nor what the chip's edge leaves"
        f" around its event at {centre}"
    )


def masked(
    info: ExposureInfo,
    flux: NDArray[np.float32],
    variance: NDArray[np.float32] | None = None,
    psf: NDArray[np.float32] | None = None,
) -> Exposure:
    """Return an exposure whose mask says where there is no data, or no usable variance (BAD)."""
    mask = np.where(np.isfinite(flux), np.uint16(0), np.uint16(MaskBit.NO_DATA)).astype(np.uint16)
    if variance is not None:
        usable = np.isfinite(variance) & (variance > 0)
        if not usable.any():
            raise DataError("its variance holds no positive finite pixel")
        mask[~usable] |= np.uint16(MaskBit.BAD)
        variance = np.where(usable, variance, np.median(variance[usable])).astype(np.float32)
    return Exposure(info, flux, mask, variance, psf)
