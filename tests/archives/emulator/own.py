"""The surveys' own archives: 2MASS and AllWISE at IRSA, frames of SDSS, GALEX at MAST; every field is in all of them.

Of each place there are several images; which of them is the best is written beside each list.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.archives.footprints import degrees_apart
from astrid.simulation.psf import MoffatPsf
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky, moved, window
from tests.archives.emulator.skyview import LAYERS, NOISE

MJD = 51000.0
MAGZP = {"J": 20.9, "H": 20.4, "K": 19.9, "W1": 20.5, "W2": 19.5, "W3": 18.0, "W4": 13.0}
SKYVIEW_NAMES = {
    "twomass_allsky": {"J": "2MASS-J", "H": "2MASS-H", "K": "2MASS-K"},
    "wise_allwise": {"W1": "WISE 3.4", "W2": "WISE 4.6", "W3": "WISE 12", "W4": "WISE 22"},
    "sdss": {band: f"SDSS{band}" for band in "ugriz"},
    "galex": {"NUV": "GALEX Near UV", "FUV": "GALEX Far UV"},
}


@dataclass(frozen=True)
class Frame:
    """One image of a survey: where it is, and what it is called."""

    survey: str
    band: str
    field: int
    number: int
    ra: float
    dec: float
    shape: tuple[int, int]
    scale: float
    angle_deg: float
    projection: str = "TAN"

    @property
    def wcs(self) -> WCS:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = [f"RA---{self.projection}", f"DEC--{self.projection}"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [(self.shape[1] + 1) / 2, (self.shape[0] + 1) / 2]
        angle = math.radians(self.angle_deg)
        turn = np.array([[-math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        wcs.wcs.cd = self.scale / 3600 * turn
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        return wcs

    @property
    def path(self) -> str:
        """What follows the public address; of GALEX the name of the file."""
        if self.survey == "twomass_allsky":
            scan = f"98041{self.field}n/s{self.number:03d}/image/{self.band.lower()}i{self.number:03d}0056.fits.gz"
            return f"/ibe/data/twomass/allsky/allsky/{scan}"
        if self.survey == "wise_allwise":
            name = f"{self.field:02d}{self.number:02d}p000_ac51"
            file = f"{name}-{self.band.lower()}-int-3.fits"
            return f"/ibe/data/wise/allwise/p3am_cdd/{name[:2]}/{name[:4]}/{name}/{file}"
        if self.survey == "sdss":
            run, camcol, field = 1000 + self.field, 3, 100 + self.number
            name = f"frame-{self.band}-{run:06d}-{camcol}-{field:04d}.fits.bz2"
            return f"/sas/dr17/eboss/photoObj/frames/301/{run}/{camcol}/{name}"
        return f"{self.name}-{self.band[0].lower()}d-int.fits.gz"

    @property
    def name(self) -> str:
        return f"{self.survey}_{self.field}_{self.number}"

    def corners(self) -> NDArray[np.float64]:
        return np.asarray(self.wcs.calc_footprint(axes=self.shape[::-1]))

    def holds(self, ra: float, dec: float) -> bool:
        near = degrees_apart(self.ra, self.dec, ra, dec) < 5  # a sine projection has no other side
        return near and window(self.wcs, self.shape, ra, dec, (1, 1)) is not None

    def header(self, rows: slice, columns: slice) -> fits.Header:
        header = moved(self.wcs, rows, columns).to_header()
        header["FILTER"] = self.band
        if self.survey == "sdss":
            header.update({"BUNIT": "nanomaggy", "NMGY": 0.0045, "DATE-OBS": "2001-02-20", "CAMCOL": 3})
        elif self.survey == "galex":
            header["EXPTIME"] = GALEX_SECONDS[self.number]
        else:
            header["MAGZP"] = MAGZP[self.band]
            header["DATE-OBS"] = "1998-04-27" if self.survey == "twomass_allsky" else "2010-05-01"
        return header

    def image(self, sky: Sky, rows: slice, columns: slice) -> bytes:
        """A FITS file of a part."""
        _, band, fwhm, unit, level = LAYERS[SKYVIEW_NAMES[self.survey][self.band]]
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        psf = MoffatPsf(fwhm / self.scale, 3.0, 0.0, 0.0)
        light = sky.light(sky.fields[self.field], moved(self.wcs, rows, columns), shape, band, MJD, psf, self.scale)
        noise = NOISE.get(SKYVIEW_NAMES[self.survey][self.band][:4], 0.6)
        seed = [crc32(f"{self.path} {self.number}".encode()), rows.start, columns.start]
        drawn = np.random.default_rng(seed).normal(0, noise, shape)
        pixels = light / unit + level + np.round(drawn / noise * 4) * noise / 4  # coarse, so that it packs fast
        stream = io.BytesIO()
        fits.PrimaryHDU(pixels.astype(np.float32), header=self.header(rows, columns)).writeto(stream)
        return stream.getvalue()


def _frames(sky: Sky, survey: str, band: str, shape: tuple[int, int], scale: float, angle_deg: float,
            offsets: list[tuple[float, float]], projection: str = "TAN") -> Iterator[Frame]:  # fmt: skip
    """Frames about each field, their centres so many arcsec (east, north) of its centre."""
    for field, (_, ra, dec) in enumerate(sky.centres):
        for number, (east, north) in enumerate(offsets):
            place = ra + east / 3600 / math.cos(math.radians(dec)), dec + north / 3600
            yield Frame(survey, band, field, number, *place, shape, scale, angle_deg, projection)


@lru_cache(maxsize=4)
def plates(sky: Sky) -> tuple[Frame, ...]:
    """Images of 2MASS and AllWISE; the second of each band covers most."""
    found: list[Frame] = []
    for band in "JHK":
        found += _frames(sky, "twomass_allsky", band, (1024, 512), 1.0, 0.2, [(246, 40), (40, -60), (-20, 500)], "SIN")
    for band in ("W1", "W2", "W3", "W4"):
        found += _frames(
            sky, "wise_allwise", band, (4095, 4095), 1.375, 1.0, [(2790, 100), (400, 700), (0, -2790)], "SIN"
        )
    return tuple(found)


SDSS_SHAPE = (745, 1024)  # half of a real frame each way
SLANTED = 2  # the field of which the nearest frame does not hold the centre, though its limits do


@lru_cache(maxsize=4)
def sdss_frames(sky: Sky) -> tuple[Frame, ...]:
    """Frames of SDSS; the second holds the centre of a field farthest from its edges, but in one field it is beside."""
    found: list[Frame] = []
    for band in "ugriz":
        for one in _frames(sky, "sdss", band, SDSS_SHAPE, 0.396, 45.0, [(127, 127), (18, -24)]):
            found += [] if one.field == SLANTED else [one]
        for one in _frames(sky, "sdss", band, SDSS_SHAPE, 0.396, 45.0, [(120, -120), (112, 112)]):
            found += [one] if one.field == SLANTED else []
    return tuple(found)


GALEX_SECONDS = (110.0, 1500.0, 30000.0)
GALEX_SHAPE = (600, 600)


@lru_cache(maxsize=4)
def galex_frames(sky: Sky) -> tuple[Frame, ...]:
    """Images of GALEX: a short one, a longer one that is the best, and the longest, near whose edge a field is."""
    offsets = [(30.0, 10.0), (-60.0, 90.0), (0.0, 2000.0)]
    return tuple(one for band in ("NUV", "FUV") for one in _frames(sky, "galex", band, GALEX_SHAPE, 1.5, 0.0, offsets))


def answer_irsa(request: Request, sky: Sky) -> Reply | None:
    """Answer a search for images, or a cutout of one; None if it is neither."""
    if request.path == "/SIA":
        return _search(request, sky)
    one = next((plate for plate in plates(sky) if plate.path == request.path), None)
    if one is None:
        return None
    if "center" not in request.query or request.query.get("gzip") != "false":
        return Reply(b"the emulator sends cutouts only, not packed\n", 400, "text/plain")
    ra, dec = (float(text) for text in request.query["center"].split(","))
    side = float(request.query["size"].removesuffix("arcsec")) / one.scale
    part = window(one.wcs, one.shape, ra, dec, (side, side))
    if part is None or request.empty:
        return Reply(b"center of cutout is not on the image: no overlap\n", 400, "text/plain")
    return Reply(_image(one, sky, *(edge for span in part for edge in (span.start, span.stop))))


@lru_cache(maxsize=64)
def _image(one: Frame, sky: Sky, top: int, bottom: int, left: int, right: int) -> bytes:
    return one.image(sky, slice(top, bottom), slice(left, right))


def _search(request: Request, sky: Sky) -> Reply:
    """The VOTable of images of all bands that hold a place, with files that are no images of the sky."""
    shape, ra, dec, _ = request.query["POS"].split()
    assert shape == "CIRCLE"
    names = ("s_ra", "s_dec", "s_region", "energy_bandpassname", "dataproduct_subtype", "access_url", "obs_id")
    rows = []
    for one in plates(sky):
        if request.empty or one.survey != request.query["COLLECTION"] or not one.holds(float(ra), float(dec)):
            continue
        region = "POLYGON ICRS " + " ".join(f"{value:.6f}" for value in one.corners().ravel())
        address = f"https://irsa.ipac.caltech.edu{one.path}"
        rows += [
            (one.ra, one.dec, region, one.band, "noise", address.replace("int-3", "unc-3"), one.name),
            (one.ra, one.dec, region, one.band, "science", address, one.name),
        ]
    table = Table(rows=rows or None, names=names, dtype=(float, float, *["U300"] * 5))
    stream = io.BytesIO()
    table.write(stream, format="votable")
    return Reply(stream.getvalue(), content_type="application/x-votable+xml")


def answer_skyserver(request: Request, sky: Sky) -> Reply:
    """Answer a query for frames."""
    query = re.fullmatch(
        r"SELECT (.*) FROM Field AS f WHERE f.dec BETWEEN (\S+) AND (\S+) AND \(f.ra >= (\S+) (AND|OR) f.ra <= (\S+)\)",
        request.query.get("cmd", ""),
    )
    if not request.path.endswith("/SkyServerWS/SearchTools/SqlSearch") or request.query.get("format") != "json":
        return Reply(b"not found\n", 404, "text/plain")
    if query is None:
        return Reply(b'{"Error Message": "the emulator knows one query"}', 400, "application/json")
    low, high, west, east = (float(query[number]) for number in (2, 3, 4, 6))
    rows = []
    for one in sdss_frames(sky):
        after, before = one.ra >= west, one.ra <= east
        if (
            one.band == "r"
            and low <= one.dec <= high
            and ((after and before) if query[5] == "AND" else after or before)
        ):
            ra, dec = one.corners().T
            run, _, field = one.path.removesuffix(".fits.bz2").split("-")[-3:]
            rows.append({
                "run": int(run), "rerun": 301, "camcol": 3, "field": int(field), "ra": one.ra, "dec": one.dec,
                "raMin": ra.min(), "raMax": ra.max(), "decMin": dec.min(), "decMax": dec.max(),
            })  # fmt: skip
    body = json.dumps([{"TableName": "Table1", "Rows": [] if request.empty else rows}])
    return Reply(body.encode(), content_type="application/json")


def answer_sdss(request: Request, sky: Sky) -> Reply:
    """Answer a frame."""
    one = next((frame for frame in sdss_frames(sky) if frame.path == request.path), None)
    if one is None or request.empty:
        return Reply(b"not found\n", 404, "text/plain")
    return Reply(_packed(one, sky), content_type="application/x-bzip2", whole=True)


def galex_observations(sky: Sky, ra: float, dec: float) -> list[dict[str, object]]:
    """Rows of the CAOM."""
    return [
        {
            "obsid": _obsid(one), "obs_collection": "GALEX", "dataproduct_type": "image", "calib_level": 2,
            "obs_id": one.name, "filters": one.band, "s_ra": one.ra, "s_dec": one.dec,
            "t_exptime": GALEX_SECONDS[one.number], "dataRights": "PUBLIC",
        }
        for one in galex_frames(sky)
        if degrees_apart(one.ra, one.dec, ra, dec) < 0.6
    ]  # fmt: skip


def galex_products(sky: Sky, obsid: int) -> list[dict[str, object]]:
    """Files of an observation: counts per second, and others."""
    rows: list[dict[str, object]] = []
    for one in galex_frames(sky):
        for kind in ("cnt", "int", "rrhr") if _obsid(one) == obsid else ():
            name = one.path.replace("-int", f"-{kind}")
            size = len(_packed(one, sky)) if kind == "int" and one.number < 2 else 1000
            rows.append({"obsID": obsid, "productFilename": name, "dataURI": f"mast:GALEX/{name}", "size": size})
    return rows


def galex_file(sky: Sky, uri: str) -> Reply | None:
    """A file; None where there is none of that name."""
    one = next((frame for frame in galex_frames(sky) if uri == f"mast:GALEX/{frame.path}"), None)
    return None if one is None else Reply(_packed(one, sky), content_type="application/gzip", whole=True)


def _obsid(one: Frame) -> int:
    return 10_000 + 100 * one.field + 10 * one.number + (one.band == "FUV")


@lru_cache(maxsize=16)
def _packed(one: Frame, sky: Sky) -> bytes:
    """A whole frame."""
    body = one.image(sky, *(slice(0, length) for length in one.shape))
    return bz2.compress(body, 1) if one.path.endswith(".bz2") else gzip.compress(body, 1, mtime=0)
