"""The PS1 image services at MAST: the list of files, and cutouts of warps, masks, variances and stacks.

The times of the warps are those of the emulated sky and not of the survey. Every field is seen in g, r and i, and
besides: with a bad flag, and, east of its centre, in the neighbouring skycell too.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.simulation.psf import MoffatPsf
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky, moved, noisy

NAME = "ps1"
SCALE = 0.25
SHAPE = (6243, 6240)
EDGE_ARCSEC = 200.0  # east of a field's centre, where its skycell ends ...
OVERLAP_ARCSEC = 60.0  # ... and the next began already
START_MJD, CADENCE, EPOCHS = 59001.4, 5.0, 8  # TAI, as in the headers
ZERO_POINTS = {"g": 24.64, "r": 24.8, "i": 24.7}
SECONDS = {"g": 43.0, "r": 40.0, "i": 45.0}
GAIN, READ_NOISE, SKY_COUNTS = 1.0, 6.0, 400.0
STACK_EXPOSURES = 12
COLUMNS = ["projcell", "subcell", "ra", "dec", "filter", "mjd", "type", "filename", "shortname", "badflag"]
FLAGS = True  # older answers had none
SATURATION = 40000.0


@dataclass(frozen=True)
class Skycell:
    """A square of pixels that its warps share."""

    projcell: int
    subcell: int
    field: int
    east: float  # arcsec, of its centre from the field's
    sky: Sky

    @property
    def wcs(self) -> WCS:
        _, ra, dec = self.sky.centres[self.field]
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [ra, dec]
        wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
        wcs.wcs.crpix = [SHAPE[1] / 2 + 0.5 + self.east / SCALE, SHAPE[0] / 2 + 0.5]
        wcs.wcs.radesys = "FK5"
        wcs.wcs.set()
        return wcs

    def holds(self, ra: float, dec: float) -> bool:
        x, y = self.wcs.all_world2pix([ra], [dec], 0, quiet=True)
        return bool(-0.5 <= x[0] < SHAPE[1] - 0.5 and -0.5 <= y[0] < SHAPE[0] - 0.5)


@dataclass(frozen=True)
class File:
    """One row of the list."""

    cell: Skycell
    band: str
    mjd: float
    kind: str
    badflag: int = 0

    @property
    def shortname(self) -> str:
        stem = f"rings.v3.skycell.{self.cell.projcell}.{self.cell.subcell:03d}"
        if self.kind == "stack":
            return f"{stem}.stk.{self.band}.unconv.fits"
        tail = {"warp": "", "warp.wt": ".wt", "warp.mask": ".mask"}[self.kind]
        whole, part = f"{self.mjd:.5f}".split(".")
        return f"{stem}.wrp.{self.band}.{whole}_{part}{tail}.fits"

    @property
    def filename(self) -> str:
        return f"/rings.v3.skycell/{self.cell.projcell}/{self.cell.subcell:03d}/{self.shortname}"

    @property
    def seed(self) -> list[int]:
        return [crc32(f"{self.band} {self.mjd:.5f} {self.kind == 'stack'}".encode()), self.cell.field]


@lru_cache(maxsize=4)
def files(sky: Sky) -> dict[str, File]:
    """All files, by name."""
    found = []
    for field in range(len(sky.centres)):
        width = SHAPE[1] * SCALE
        cells = [
            Skycell(1700 + field, 51, field, EDGE_ARCSEC - width / 2, sky),
            Skycell(1700 + field, 52, field, EDGE_ARCSEC - OVERLAP_ARCSEC + width / 2, sky),
        ]
        for cell in cells:
            for number, band in enumerate(SECONDS):
                found.append(File(cell, band, 0.0, "stack"))
                for epoch in range(EPOCHS):
                    mjd = START_MJD + CADENCE * epoch + 0.013 * number
                    found += [File(cell, band, mjd, kind) for kind in ("warp", "warp.wt", "warp.mask")]
            found += [File(cell, "r", START_MJD + 2.5, kind, 1) for kind in ("warp", "warp.wt", "warp.mask")]
    return {one.filename: one for one in found}


def answer(request: Request, sky: Sky) -> Reply:
    """Answer the list of files or a cutout."""
    if request.path == "/cgi-bin/ps1filenames.py":
        return _list(request, sky)
    if request.path == "/cgi-bin/fitscut.cgi":
        one = files(sky).get(request.query.get("red", ""))
        if one is not None and request.query.get("format") == "fits":
            return _cutout(one, request, sky)
    return Reply(f"{request.path} was not found on this server\n".encode(), 404, "text/plain")


def _list(request: Request, sky: Sky) -> Reply:
    ra, dec = float(request.query["ra"]), float(request.query["dec"])
    bands, types = request.query.get("filters", "grizy"), request.query.get("type", "stack").split(",")
    rows = [" ".join(COLUMNS)]
    for one in files(sky).values() if not request.empty else ():
        if one.band in bands and one.kind in types and one.cell.holds(ra, dec):
            place = f"{one.cell.projcell} {one.cell.subcell:03d} {ra} {dec}"
            row = f"{place} {one.band} {one.mjd:.5f} {one.kind} {one.filename} {one.shortname}"
            rows.append(f"{row} {one.badflag}" if FLAGS else row)
    return Reply(("\n".join(rows) + "\n").encode(), content_type="text/plain")


def _cutout(one: File, request: Request, sky: Sky) -> Reply:
    size = int(request.query["size"])
    x, y = one.cell.wcs.all_world2pix([float(request.query["ra"])], [float(request.query["dec"])], 0, quiet=True)
    left, top = round(float(x[0]) - (size - 1) / 2), round(float(y[0]) - (size - 1) / 2)
    light, mask, variance = _pixels(one.cell, one.band, one.mjd, one.kind == "stack", top, left, size)
    pixels = {"warp.mask": mask, "warp.wt": variance}.get(one.kind, light)
    if request.empty:
        pixels = np.full_like(pixels, np.nan)
    stream = io.BytesIO()
    fits.PrimaryHDU(pixels.astype(np.float32), header=_header(one, top, left, size)).writeto(stream)
    return Reply(stream.getvalue(), content_type="image/fits")


@lru_cache(maxsize=64)
def _pixels(
    cell: Skycell, band: str, mjd: float, is_stack: bool, top: int, left: int, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Counts, mask with NaN for 0, and variance of a cutout; what lies beyond the skycell is NaN."""
    one = File(cell, band, mjd, "stack" if is_stack else "warp")
    rng = np.random.default_rng([*one.seed, top % 7919, left % 7919])
    cut = moved(cell.wcs, slice(top, top + size), slice(left, left + size))
    seconds = SECONDS[band] * (STACK_EXPOSURES if is_stack else 1)
    zero_point = (25.0 if is_stack else ZERO_POINTS[band]) + 2.5 * math.log10(seconds)
    seeing = (1.25 if is_stack else 1.0 + 0.05 * (one.seed[0] % 9)) / SCALE
    middle = 0.0 if is_stack else mjd - 37 / 86400 + seconds / 2 / 86400
    nanojansky = cell.sky.light(
        cell.sky.fields[cell.field], cut, (size, size), band, middle, MoffatPsf(seeing, 3.5, 0.03, 30.0), SCALE
    )
    counts = nanojansky * 10 ** (0.4 * (zero_point - 31.4))
    level = SKY_COUNTS * (STACK_EXPOSURES if is_stack else 1)
    drawn = (noisy(rng, counts + level, READ_NOISE) - level).astype(np.float32)
    variance = (counts + level + READ_NOISE**2).astype(np.float32)
    mask = np.full((size, size), np.nan, np.float32)
    saturated = drawn > SATURATION
    mask[saturated] = 32
    rows, columns = np.arange(top, top + size), np.arange(left, left + size)
    gap = (columns % 1200 < 8) & (not is_stack)
    outside = np.logical_or.outer((rows < 0) | (rows >= SHAPE[0]), (columns < 0) | (columns >= SHAPE[1]) | gap)
    mask[(counts > 2000) & ~saturated] = 4096  # STARCORE: no flaw
    mask[outside] = 8
    drawn[outside] = variance[outside] = np.nan
    return drawn, mask, variance


def _header(one: File, top: int, left: int, size: int) -> fits.Header:
    """The keywords as in real warps: PC001001, HIERARCH, TAI; the cutout service adds RADESYS and TIMESYS."""
    wcs = moved(one.cell.wcs, slice(top, top + size), slice(left, left + size))
    header = fits.Header()
    for axis in (1, 2):
        header[f"CTYPE{axis}"] = wcs.wcs.ctype[axis - 1]
        header[f"CRVAL{axis}"] = float(wcs.wcs.crval[axis - 1])
        header[f"CRPIX{axis}"] = float(wcs.wcs.crpix[axis - 1])
        header[f"CDELT{axis}"] = SCALE / 3600
    header["PC001001"], header["PC001002"], header["PC002001"], header["PC002002"] = -1.0, 0.0, 0.0, 1.0
    header["RADESYS"], header["TIMESYS"] = "FK5", "TAI"
    is_stack = one.kind == "stack"
    header["EXPTIME"] = SECONDS[one.band] * (STACK_EXPOSURES if is_stack else 1)
    header["MJD-OBS"] = 55500.0 if is_stack else round(one.mjd, 5)
    header["DATE-OBS"] = Time(header["MJD-OBS"], format="mjd").isot
    header["HIERARCH FPA.FILTERID"] = f"{one.band}.00000"
    header["HIERARCH FPA.ZP"] = 25.0 if is_stack else ZERO_POINTS[one.band]
    header["HIERARCH CELL.GAIN"] = GAIN
    header["HIERARCH CHIP.SEEING"] = 4.4
    return header
