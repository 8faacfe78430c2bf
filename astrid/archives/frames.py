"""The square about a place, cut out of a frame that an archive sends whole."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astrid.archives.checks import FitsImage, Unfit, unpacked
from astrid.archives.fetch import Fetched
from astrid.archives.outcomes import Corrupt, NoCoverage
from astrid.archives.transport import Answer

_SUMS = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")


def keep_square(
    frame: Fetched, part: Path, ra: float, dec: float, size_deg: float, *, found: Mapping[str, str] | None = None
) -> Answer:
    """Write the square of a frame to ``part``, with the frame's header and pixels as they are.

    Parameters
    ----------
    frame : Fetched
        A FITS file, also packed by gzip or bzip2.
    part : Path
        File to write.
    ra, dec, size_deg : float
        Centre and side of the square, which is upright, ICRS degrees; what lies beyond the frame is left out.
    found : mapping, optional
        What is known of the frame besides, as text.

    Raises
    ------
    NoCoverage
        If the centre is not on the frame, or the square has no pixel with data.
    Corrupt
        If the frame does not read.
    """
    service, url = str(frame.note["service"]), str(frame.note["url"])
    try:
        square, where = cut(frame.path.read_bytes(), ra, dec, size_deg)
        part.write_bytes(square)
        checks = FitsImage(ra, dec, may_be_constant=False)(part)
    except Unfit as error:
        part.unlink(missing_ok=True)
        raise error.outcome(service, url, error.reason) from None
    said = {"file": url, "file_sha256": str(frame.note["sha256"]), "part": where, **(found or {})}
    return Answer(url, len(square), hashlib.sha256(square).hexdigest(), checks, {}, found=said)


def cut(raw: bytes, ra: float, dec: float, size_deg: float) -> tuple[bytes, str]:
    """Return the square of the first image in a FITS file, as a FITS file, and which rows and columns it is.

    Raises
    ------
    Unfit
        As `keep_square`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(io.BytesIO(unpacked(raw)), memmap=False) as file:
                images = [hdu for hdu in file if getattr(hdu, "is_image", False) and len(hdu.shape) == 2]
                if not images:
                    raise Unfit(Corrupt, "no two-dimensional image in the frame")
                pixels, header = np.asarray(images[0].data), images[0].header.copy()
            wcs = WCS(header).celestial
            if not wcs.has_celestial:
                raise Unfit(Corrupt, "the frame has no celestial WCS")
            rows, columns = _window(wcs, pixels.shape, ra, dec, size_deg)
            for key, span in (("CRPIX1", columns), ("CRPIX2", rows)):
                header[key] = float(header.get(key, 0.0)) - span.start
            for key in _SUMS:
                header.remove(key, ignore_missing=True)
            stream = io.BytesIO()
            fits.PrimaryHDU(pixels[rows, columns], header=header).writeto(stream, output_verify="silentfix+ignore")
        except Unfit:
            raise
        except Exception as error:  # astropy and wcslib raise whatever they stumble over in damaged bytes
            raise Unfit(Corrupt, f"the frame does not read ({type(error).__name__}: {error})") from error
    ny, nx = pixels.shape
    spans = f"rows {rows.start}:{rows.stop} of {ny}, columns {columns.start}:{columns.stop} of {nx}"
    return stream.getvalue(), spans


def _window(wcs: WCS, shape: tuple[int, ...], ra: float, dec: float, size_deg: float) -> tuple[slice, slice]:
    """Return the rows and columns that hold a square, which need not be upright on the frame."""
    x, y = (float(values[0]) for values in wcs.all_world2pix([ra], [dec], 0, quiet=True))
    if not (-0.5 <= x <= shape[1] - 0.5 and -0.5 <= y <= shape[0] - 0.5):
        raise Unfit(NoCoverage, f"the place is not on the frame: x, y = {x:.1f}, {y:.1f} of {shape[1]} x {shape[0]}")
    sky = WCS(naxis=2)
    sky.wcs.ctype, sky.wcs.crval, sky.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [ra, dec], [-1.0, 1.0]
    half = size_deg / 2
    corners = sky.all_pix2world([[-half, -half], [-half, half], [half, -half], [half, half]], 1)
    found = wcs.all_world2pix(corners, 0, quiet=True)
    spans = []
    for axis, length in ((1, shape[0]), (0, shape[1])):
        low, high = math.floor(found[:, axis].min() + 0.5), math.ceil(found[:, axis].max() + 0.5)
        spans.append(slice(max(0, low), min(length, high)))
    return spans[0], spans[1]
