"""IRSA's image services (IBE) for ZTF: searches and science, mask, PSF and reference files.

Every field is seen in g and r at `EPOCHS`, and besides: with bad info bits, not public, in bad seeing, at the edge of
a quadrant, and once on two quadrants.
"""

from __future__ import annotations

import gzip
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.simulation.psf import MoffatPsf
from tests.archives.emulator import own
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import BANDS as SKY_BANDS
from tests.archives.emulator.sky import Sky, moved, noisy, window

NAME = "irsa"
SCALE = 1.012  # arcsec per pixel
SHAPE = (3080, 3072)
START_MJD, CADENCE, EPOCHS = 59000.3, 5.0, 8
BANDS = {"zg": ("g", 1, 26.2), "zr": ("r", 2, 26.3)}  # filter code: band, fid, zero point
SECONDS, GAIN, READ_NOISE, SATURATION = 30.0, 6.2, 10.0, 50000.0
NULL = "null"


@dataclass(frozen=True)
class Quadrant:
    """One science image: a row of the search."""

    field_name: str
    field: int
    ccd: int
    quadrant: int
    code: str
    jd: float
    ra: float
    dec: float
    seeing: float
    infobits: int = 0
    group: int = 1

    @property
    def fracday(self) -> str:
        fraction = Time(self.jd, format="jd", scale="utc")
        return f"{fraction.strftime('%Y%m%d')}{round((self.jd + 0.5) % 1 * 1e6):06d}"

    @property
    def stem(self) -> str:
        return f"ztf_{self.fracday}_{self.field:06d}_{self.code}_c{self.ccd:02d}_o_q{self.quadrant}"

    @property
    def wcs(self) -> WCS:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [(SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2]
        angle = math.radians(0.3)
        turn = np.array([[-math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        wcs.wcs.cd = SCALE / 3600 * turn
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        return wcs

    @property
    def seed(self) -> list[int]:
        return [crc32(self.stem.encode()), round(self.jd)]

    @property
    def psf(self) -> MoffatPsf:
        return MoffatPsf(self.seeing / SCALE, 3.5, 0.04, 20.0)

    @property
    def zero_point(self) -> float:
        return BANDS[self.code][2] - 0.05 * (self.seed[0] % 7) / 7


@lru_cache(maxsize=4)
def quadrants(sky: Sky) -> tuple[Quadrant, ...]:
    """All science images."""
    return tuple(one for number in range(len(sky.centres)) for one in _seen(sky, number))


def _seen(sky: Sky, number: int) -> Iterator[Quadrant]:
    """The science images of one field."""
    name, ra, dec = sky.centres[number]
    rng = np.random.default_rng([sky.seed, 100 + number])

    def at(epoch: float, code: str, *, east: float = 0, north: float = 0, q: int = 1, seeing: float = 2.0, **more: int):
        jd = START_MJD + CADENCE * epoch + (0.02 if code == "zr" else 0.0) + 2400000.5
        place = ra + east / 3600 / math.cos(math.radians(dec)), dec + north / 3600
        return Quadrant(name, 400 + number, 7, q, code, round(jd, 6), *place, seeing, **more)

    for epoch in range(EPOCHS):
        for code in BANDS:
            dither = rng.uniform(-6, 6, 2)
            yield at(epoch, code, east=dither[0], north=dither[1], seeing=float(rng.uniform(1.8, 2.6)))
    yield at(2.2, "zr", infobits=33554432)
    yield at(3.2, "zr", group=2)
    yield at(3.6, "zr", seeing=5.5)
    width = SHAPE[1] * SCALE / 2
    yield at(4.4, "zr", east=width - 60, q=2)  # most of a cutout of 200 arcsec is on this quadrant ...
    yield at(4.4, "zr", east=-width - 60, q=3)  # ... and some of it on the next, of the same exposure


def answer(request: Request, sky: Sky) -> Reply:
    """Answer a search or a request for a file."""
    reply = own.answer_irsa(request, sky)
    if reply is not None:
        return reply
    if request.path.startswith("/ibe/search/ztf/products/sci"):
        return _search([_row(one) for one in quadrants(sky)], request)
    if request.path.startswith("/ibe/search/ztf/products/ref"):
        return _search([_reference_row(one) for one in _references(sky)], request)
    if request.path == "/cgi-bin/ZTF/nph_light_curves":
        return _light_curves(request, sky)
    match = re.fullmatch(
        r"/ibe/data/ztf/products/sci/\d{4}/\d{4}/\d{6}/(ztf_\w+_q\d)_(\w+)\.fits(?:\.fz)?", request.path
    )
    if match:
        one = next((q for q in quadrants(sky) if q.stem == match[1] and q.group == 1), None)
        if one is not None and match[2] == "scimrefdiffimg":
            return Reply(_difference(one, sky), content_type="image/fits", whole=True)
        if one is not None and match[2] in ("sciimg", "mskimg", "sciimgdaopsfcent"):
            return _file(one, match[2], request, sky)
    match = re.fullmatch(
        r"/ibe/data/ztf/products/ref/\d{3}/field\d{6}/z[gri]/ccd\d{2}/q\d/(ztf_\w+)_(refimg)\.fits", request.path
    )
    if match:
        one = next((q for q in _references(sky) if _reference_stem(q) == match[1]), None)
        if one is not None:
            return _file(one, "refimg", request, sky)
    return Reply(f"{request.path} was not found on this server\n".encode(), 404, "text/plain")


def _file(one: Quadrant, kind: str, request: Request, sky: Sky) -> Reply:
    if kind == "sciimgdaopsfcent":
        image = fits.PrimaryHDU(one.psf.image((25, 25)).astype(np.float32))
        return Reply(_bytes(image), content_type="image/fits", whole=True)
    if "center" not in request.query:
        return Reply(b"the emulator sends cutouts only; pass center=ra,dec&size=...\n", 400, "text/plain")
    ra, dec = (float(v) for v in re.split(r"[, ]+", request.query["center"])[:2])
    side = _arcsec(request.query.get("size", "60arcsec")) / SCALE
    place = window(one.wcs, SHAPE, ra, dec, (side, side))
    if place is None or request.empty:
        return Reply(b"center of cutout is not on the image: no overlap\n", 400, "text/plain")
    rows, columns = place
    pixels, mask = _pixels(one, sky, rows.start, rows.stop, columns.start, columns.stop, kind == "refimg")
    body = _bytes(fits.PrimaryHDU(mask if kind == "mskimg" else pixels, header=_header(one, rows, columns, kind)))
    if request.query.get("gzip", "true").lower() != "false":
        body = gzip.compress(body, 1, mtime=0)
    return Reply(body, content_type="image/fits")


@lru_cache(maxsize=4)
def _difference(one: Quadrant, sky: Sky) -> bytes:
    """A whole quadrant, packed; beyond the middle of the field it is blank."""
    pixels = np.zeros(SHAPE, np.float32)
    rows, columns = (slice(n // 2 - 100, n // 2 + 100) for n in SHAPE)
    box = rows.start, rows.stop, columns.start, columns.stop
    science, reference = (_pixels(one, sky, *box, is_reference)[0] for is_reference in (False, True))
    pixels[rows, columns] = science - np.nanmedian(science) - (reference - np.nanmedian(reference))
    whole = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    packed = fits.CompImageHDU(pixels, header=_header(one, *whole, "scimrefdiffimg"), compression_type="RICE_1")
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(stream)
    return stream.getvalue()


@lru_cache(maxsize=64)
def _pixels(
    one: Quadrant, sky: Sky, top: int, bottom: int, left: int, right: int, is_reference: bool
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Counts of a cutout and its mask."""
    cut = moved(one.wcs, slice(top, bottom), slice(left, right))
    shape = (bottom - top, right - left)
    rng = np.random.default_rng([*one.seed, top, left, int(is_reference)])
    field = next(f for f in sky.fields if f.name == one.field_name)
    band = BANDS[one.code][0]
    mjd = 0.0 if is_reference else one.jd - 2400000.5 + SECONDS / 2 / 86400
    nanojansky = sky.light(field, cut, shape, band, mjd, one.psf, SCALE)
    counts = nanojansky * 10 ** (0.4 * (one.zero_point - 31.4))
    depth = 20.0 if is_reference else 1.0
    level = 150.0 + 100.0 * (one.seed[0] % 5) / 5
    electrons = noisy(rng, (counts + level) * GAIN * depth, READ_NOISE * math.sqrt(depth))
    pixels = (electrons / GAIN / depth).astype(np.float32)
    mask = np.zeros(shape, np.int16)
    mask[counts > 30] |= 1 << 1  # sources: no flaw
    saturated = pixels >= SATURATION
    pixels[saturated] = SATURATION
    mask[saturated] |= 1 << 8
    columns = np.arange(left, right)
    dead = columns == 1500
    pixels[:, dead] = 0.0
    mask[:, dead] |= 1 << 9
    hole = (columns % 700) == 350
    pixels[: shape[0] // 8, hole] = np.nan
    mask[: shape[0] // 8, hole] |= 1 << 10
    return pixels, mask


def _header(one: Quadrant, rows: slice, columns: slice, kind: str) -> fits.Header:
    header = moved(one.wcs, rows, columns).to_header()
    for name in ("MJDREF", "DATEREF"):
        header.pop(name, None)
    values = {
        "FILTER": f"ZTF_{BANDS[one.code][0]}", "FILTERID": BANDS[one.code][1], "FIELDID": one.field,
        "CCDID": one.ccd, "QID": one.quadrant, "MAGZP": round(one.zero_point, 6), "MAGZPUNC": 1e-4,
        "GAIN": GAIN, "SATURATE": SATURATION, "SEEING": one.seeing / SCALE, "INFOBITS": one.infobits,
    }  # fmt: skip
    if kind != "refimg":
        values |= {"EXPTIME": SECONDS, "OBSJD": one.jd, "OBSMJD": one.jd - 2400000.5, "CLRCOEFF": 0.07}
    else:
        values |= {"EXPTIME": SECONDS, "NFRAMES": 20}
        values["GAIN"] = GAIN * 20
    header.update(values)
    return header


def _row(one: Quadrant) -> dict[str, object]:
    ny, nx = SHAPE
    corners = one.wcs.all_pix2world([[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]], 0)
    at = Time(one.jd, format="jd", scale="utc")
    row: dict[str, object] = {
        "in_row_id": 0, "in_ra": 0.0, "in_dec": 0.0, "ra": one.ra, "dec": one.dec, "infobits": one.infobits,
        "field": one.field, "ccdid": one.ccd, "qid": one.quadrant, "rcid": (one.ccd - 1) * 4 + one.quadrant - 1,
        "fid": BANDS[one.code][1], "filtercode": one.code, "pid": crc32(one.stem.encode()),
        "nid": int(one.jd - 2457754),
        "expid": round((one.jd - 2457754) * 1e5), "itid": 1, "imgtype": "object", "imgtypecode": "o",
        "obsdate": at.strftime("%Y-%m-%d %H:%M:%S.%f+00"), "obsjd": one.jd, "exptime": SECONDS,
        "filefracday": one.fracday, "seeing": round(one.seeing, 4), "airmass": 1.1, "moonillf": 0.3, "moonesb": 0.0,
        "maglimit": 20.6 if one.seeing < 4 else 19.0,
    }  # fmt: skip
    for number, (ra, dec) in enumerate(corners, start=1):
        row |= {f"ra{number}": round(float(ra), 7), f"dec{number}": round(float(dec), 7)}
    return row | {"ipac_pub_date": "2020-12-09 00:00:00+00", "ipac_gid": one.group}


def _references(sky: Sky) -> Iterator[Quadrant]:
    """The reference images: one per field and band, made before anything rises."""
    seen = set()
    for one in quadrants(sky):
        if (one.field, one.code, one.quadrant) not in seen and one.quadrant == 1:
            seen.add((one.field, one.code, one.quadrant))
            yield Quadrant(one.field_name, one.field, one.ccd, 1, one.code, 2458300.5, one.ra, one.dec, 2.2)


def _reference_stem(one: Quadrant) -> str:
    return f"ztf_{one.field:06d}_{one.code}_c{one.ccd:02d}_q{one.quadrant}"


def _reference_row(one: Quadrant) -> dict[str, object]:
    row = _row(one)
    keep = (
        "in_row_id",
        "in_ra",
        "in_dec",
        "ra",
        "dec",
        "infobits",
        "field",
        "ccdid",
        "qid",
        "rcid",
        "fid",
        "filtercode",
    )
    corners = {key: value for key, value in row.items() if re.fullmatch(r"(?:ra|dec)[1-4]", key)}
    return {key: row[key] for key in keep} | {
        "rfid": crc32(_reference_stem(one).encode()), "nframes": 20, "maglimit": 22.5,
        "startobsdate": "2018-04-01 00:00:00+00", "endobsdate": "2018-09-01 00:00:00+00",
    } | corners | {"ipac_gid": 1}  # fmt: skip


def _light_curves(request: Request, sky: Sky) -> Reply:
    _, *place = request.query["POS"].split()
    body = _measurements(sky, *map(float, place), request.query["BANDNAME"], request.empty)
    return Reply(body, content_type="text/xml")


@lru_cache(maxsize=16)
def _measurements(sky: Sky, ra: float, dec: float, radius: float, bands: str, empty: bool) -> bytes:
    """Measurements of stars, and of transients while they shine, within a circle."""
    rows = []
    field = None if empty else sky.field_at(ra, dec)
    for one in quadrants(sky) if field is not None else ():
        band = BANDS[one.code][0]
        if one.field_name != field.name or one.infobits or band not in bands.split(","):
            continue
        mjd = one.jd - 2400000.5
        number = SKY_BANDS.index(band)
        sources = [
            (float(r), float(d), float(f))
            for r, d, f in zip(field.stars.ra, field.stars.dec, field.stars.flux[number], strict=True)
        ]
        sources += [(*event.position_at(mjd), event.flux_at(mjd, number)) for event in field.transients]
        for oid, (source_ra, source_dec, flux) in enumerate(sources):
            apart = math.hypot((source_ra - ra) * math.cos(math.radians(dec)), source_dec - dec)
            if apart < radius and flux > 20000:
                error = 0.01 + 200 / flux
                magnitude = 31.4 - 2.5 * math.log10(flux)
                rows.append((oid + 1, mjd, magnitude, error, 0, one.code, source_ra, source_dec))
    table = Table(rows=rows or None, names=("oid", "mjd", "mag", "magerr", "catflags", "filtercode", "ra", "dec"),
                  dtype=(np.int64, float, float, float, np.int32, "U2", float, float))  # fmt: skip
    stream = io.BytesIO()
    table.write(stream, format="votable")
    return stream.getvalue()


def _search(rows: list[dict[str, object]], request: Request) -> Reply:
    """Rows whose image overlaps the place, that satisfy WHERE, with the columns that were asked for."""
    query = {key.upper(): value for key, value in request.query.items()}
    ra, dec = (float(v) for v in query["POS"].split(","))
    size = [float(v) for v in query.get("SIZE", "0").split(",")]
    half = max(size) / 2 if query.get("INTERSECT", "OVERLAPS").upper() == "OVERLAPS" else 0.0
    found = (
        []
        if request.empty
        else [row for row in rows if _covers(row, ra, dec, half) and _where(row, query.get("WHERE", ""))]
    )
    names = [name.strip() for name in query["COLUMNS"].split(",")] if "COLUMNS" in query else list(rows[0])
    unknown = [name for name in names if name not in rows[0]]
    if unknown:
        return Reply(f"column {unknown[0]} does not exist\n".encode(), 400, "text/plain")
    return Reply(_ipac(names, found, rows[0]), content_type="text/plain")


def _covers(row: dict[str, object], ra: float, dec: float, half: float) -> bool:
    """Whether a square of this half side, in degrees, overlaps the image (both taken as upright)."""
    stretch = math.cos(math.radians(dec))
    east = np.array([(float(row[f"ra{i}"]) - ra + 180) % 360 - 180 for i in range(1, 5)]) * stretch
    north = np.array([float(row[f"dec{i}"]) - dec for i in range(1, 5)])
    return bool(east.min() < half and east.max() > -half and north.min() < half and north.max() > -half)


def _where(row: dict[str, object], text: str) -> bool:
    """Whether a row satisfies ``name op value AND name IN (...) ...``."""
    for part in filter(None, re.split(r"\s+AND\s+", text.strip(), flags=re.IGNORECASE)):
        among = re.fullmatch(r"(\w+)\s+IN\s*\((.*)\)", part, re.IGNORECASE)
        if among:
            if str(row[among[1]]) not in [v.strip().strip("'") for v in among[2].split(",")]:
                return False
            continue
        match = re.fullmatch(r"(\w+)\s*(<=|>=|<|>|=)\s*('?[^']*'?)", part)
        assert match is not None, part
        value, wanted = row[match[1]], match[3].strip("'")
        pair = (str(value), wanted) if isinstance(value, str) else (float(value), float(wanted))  # type: ignore[arg-type]
        compare = {"<": pair[0] < pair[1], ">": pair[0] > pair[1], "=": pair[0] == pair[1],
                   "<=": pair[0] <= pair[1], ">=": pair[0] >= pair[1]}  # type: ignore[operator]  # fmt: skip
        if not compare[match[2]]:
            return False
    return True


def _ipac(names: list[str], rows: list[dict[str, object]], model: dict[str, object]) -> bytes:
    r"""An IPAC table as IBE writes it: fixed lengths, \RowsRetrieved, nulls as "null"."""
    kinds = ["char" if isinstance(model[n], str) else "double" if isinstance(model[n], float) else "int" for n in names]
    texts = [[repr(row[n]) if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    widths = [max(len(n), len(k), 9, *(len(t[i]) for t in texts)) if texts else max(len(n), 9)
              for i, (n, k) in enumerate(zip(names, kinds, strict=True))]  # fmt: skip

    def line(values: list[str], bar: str) -> str:
        return bar + bar.join(v.rjust(w) for v, w in zip(values, widths, strict=True)) + bar

    lines = ["\\fixlen = T", f"\\RowsRetrieved = {len(rows)}", "\\QUERY_STATUS = 'OK'"]
    lines += [f"\\ {name}" for name in names]
    lines += [line(names, "|"), line(kinds, "|"), line([""] * len(names), "|"), line([NULL] * len(names), "|")]
    lines += [line(values, " ") for values in texts]
    return ("\n".join(lines) + "\n").encode()


def _arcsec(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)\s*(\w*)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"": 3600, "deg": 3600, "arcmin": 60, "arcsec": 1, "pix": SCALE, "px": SCALE}[unit]


def _bytes(hdu: fits.PrimaryHDU) -> bytes:
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()
