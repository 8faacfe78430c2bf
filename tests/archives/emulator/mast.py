"""MAST: TESS sectors and cutouts, searches of the CAOM and files of Hubble and GALEX."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from functools import lru_cache

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from astrid.simulation.psf import MoffatPsf
from tests.archives.emulator import own
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky, noisy

NAME = "mast"
TESS_SCALE = 21.0
SECTOR, CAMERA, CCD = 26, 2, 4
TESS_START_MJD = 59020.3  # UTC, at the spacecraft; the transients rise in the second half
CADENCE_DAYS, CADENCES = 0.5 / 24, 24 * 2 * 14
GAP = (300, 340)  # cadences without data
TESS_ZERO_POINT = 20.44
BACKGROUND = 90.0  # electrons per second and pixel
BTJD = 2457000.0
LIGHT_TIME_DAYS = 0.003

COLUMNS = ("obs_collection", "dataproduct_type", "calib_level", "intentType")
HST_SCALE = 0.05
HST_SHAPE = (1000, 1000)
HST_START_MJD = 59012.25
HST_SECONDS = 1000.0
HST_ZERO_POINT = 26.0  # AB, of one electron per second


def answer(request: Request, sky: Sky) -> Reply:
    """Answer a service of MAST."""
    if request.path == "/tesscut/api/v0.1/sector":
        return _sectors(request, sky)
    if request.path == "/tesscut/api/v0.1/astrocut":
        return _cutout(request, sky)
    if request.path == "/api/v0/invoke":
        return _invoke(request, sky)
    if request.path == "/portal/Mashup/Mashup.asmx/columnsconfig":
        return _json({name: {"text": name, "type": "string"} for name in COLUMNS})  # astroquery asks what to filter by
    if request.path == "/api/v0.1/Download/file":
        reply = None if request.empty else own.galex_file(sky, request.query.get("uri", ""))
        if reply is not None:
            return reply
        match = re.fullmatch(r"mast:HST/product/hst_(field-\w)_(\d)_f606w_drc\.fits", request.query.get("uri", ""))
        if match and not request.empty:
            return Reply(_drizzled(sky, match[1], int(match[2])), content_type="application/fits", whole=True)
    return Reply(f"{request.path} was not found on this server\n".encode(), 404, "text/plain")


def _json(values: object) -> Reply:
    return Reply(json.dumps(values).encode(), content_type="application/json")


def _sectors(request: Request, sky: Sky) -> Reply:
    there = sky.field_at(float(request.form["ra"]), float(request.form["dec"])) is not None and not request.empty
    name = f"tess-s{SECTOR:04d}-{CAMERA}-{CCD}"
    row = {"sectorName": name, "sector": str(SECTOR), "camera": str(CAMERA), "ccd": str(CCD)}
    return _json({"results": [row] if there else []})


def _cutout(request: Request, sky: Sky) -> Reply:
    ra, dec = float(request.form["ra"]), float(request.form["dec"])
    if sky.field_at(ra, dec) is None or request.empty or int(request.form["sector"]) != SECTOR:
        return _json({"msg": "No TESS data found for coordinates and/or sector."})
    return Reply(_target_pixels(sky, ra, dec, int(request.form["x"])), content_type="application/zip")


@lru_cache(maxsize=4)
def _target_pixels(sky: Sky, ra: float, dec: float, side: int) -> bytes:
    """A zip with one target pixel file, as astrocut makes it."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [(side + 1) / 2, (side + 1) / 2]
    angle = math.radians(20.0)
    turn = np.array([[-math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    wcs.wcs.pc = TESS_SCALE / 3600 * turn
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.set()
    field = sky.field_at(ra, dec)
    assert field is not None
    rng = np.random.default_rng([sky.seed, side, round(ra * 1000)])
    psf = MoffatPsf(1.9, 3.5, 0.03, 20.0)
    scale = 10 ** (0.4 * (TESS_ZERO_POINT - 31.4))
    mjd = TESS_START_MJD + CADENCE_DAYS * np.arange(CADENCES)
    still = sky.light(field, wcs, (side, side), "i", 0.0, psf, TESS_SCALE) * scale
    seconds = 900 * 1.98
    event, peak = field.transients[0], sky.rise_mjd + 7
    rising = sky.light(field, wcs, (side, side), "i", peak, psf, TESS_SCALE) * scale - still
    share = np.array([event.flux_at(float(time), 3) for time in mjd]) / event.flux_at(peak, 3)
    light = still + share[:, None, None] * rising + BACKGROUND
    flux = (noisy(rng, light * seconds, 100.0) / seconds).astype(np.float32)
    flux[slice(*GAP)] = np.nan
    quality = np.zeros(CADENCES, np.int32)
    quality[10:13] = 32
    shape = f"({side}, {side})"
    btjd = Time(mjd, format="mjd", scale="utc").tdb.mjd + 2400000.5 - BTJD + LIGHT_TIME_DAYS
    cell = f"{side * side}E"
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TIME", "D", unit="BJD - 2457000, days", array=btjd),
            fits.Column("TIMECORR", "E", unit="d", array=np.full(CADENCES, LIGHT_TIME_DAYS, np.float32)),
            fits.Column("CADENCENO", "J", array=np.arange(CADENCES)),
            fits.Column("FLUX", cell, unit="e-/s", dim=shape, array=flux),
            fits.Column("FLUX_ERR", cell, unit="e-/s", dim=shape, array=np.sqrt(np.maximum(flux, 1) / seconds)),
            fits.Column("QUALITY", "J", array=quality),
        ],
        name="PIXELS",
    )
    table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0, "TIMEUNIT": "d", "INT_TIME": 1.98, "NUM_FRM": 900})
    header = wcs.to_header()
    aperture = fits.ImageHDU(np.ones((side, side), np.int32), header=header, name="APERTURE")
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "TESS", "SECTOR": SECTOR, "TIMESYS": "TDB", "RADESYS": "ICRS"})
    primary.header.update({"RA_OBJ": ra, "DEC_OBJ": dec})
    stream, packed = io.BytesIO(), io.BytesIO()
    fits.HDUList([primary, table, aperture]).writeto(stream)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        name = f"tess-s{SECTOR:04d}-{CAMERA}-{CCD}_{ra:.6f}_{dec:.6f}_{side}x{side}_astrocut.fits"
        archive.writestr(zipfile.ZipInfo(name), stream.getvalue())
    return packed.getvalue()


def _invoke(request: Request, sky: Sky) -> Reply:
    asked = json.loads(request.form["request"])
    rows: list[dict[str, object]] = []
    if not request.empty and asked["service"] == "Mast.Caom.Filtered.Position":
        ra, dec, _ = (float(v) for v in str(asked["params"]["position"]).split(","))
        wanted = {one["paramName"]: one["values"] for one in asked["params"]["filters"]}
        field = sky.field_at(ra, dec)
        rows = [_observation(sky, field.name, number) for number in range(3)] if field else []
        if wanted["obs_collection"] == ["GALEX"]:
            rows = own.galex_observations(sky, ra, dec)
    elif not request.empty and asked["service"] == "Mast.Caom.Products":
        for text in str(asked["params"]["obsid"]).split(","):
            if int(text) >= 10_000:
                rows += own.galex_products(sky, int(text))
                continue
            rows += _products(sky, sky.fields[int(text) // 10 - 1].name, int(text) % 10)
    kinds = {int: "int", float: "float"}
    fields = [{"name": name, "type": kinds.get(type(value), "string")} for name, value in (rows or [{}])[0].items()]
    page = {"page": 1, "pageSize": asked["pagesize"], "pagesFiltered": 1, "rows": len(rows), "rowsTotal": len(rows)}
    return _json({"status": "COMPLETE", "msg": "", "data": rows, "fields": fields, "paging": page})


def _observation(sky: Sky, field: str, number: int) -> dict[str, object]:
    place = next(one for one in sky.centres if one[0] == field)
    which = [name for name, *_ in sky.centres].index(field)
    begin = HST_START_MJD + 10 * number
    return {
        "obsid": 10 * (which + 1) + number, "obs_collection": "HST", "dataproduct_type": "image", "calib_level": 3,
        "obs_id": f"hst_{field}_{number}_f606w", "instrument_name": "ACS/WFC", "filters": "F606W", "s_ra": place[1],
        "s_dec": place[2], "t_min": begin, "t_max": begin + HST_SECONDS / 86400, "t_exptime": HST_SECONDS,
        "dataRights": "PUBLIC", "intentType": "science",
    }  # fmt: skip


def _products(sky: Sky, field: str, number: int) -> list[dict[str, object]]:
    rows = []
    for group in ("DRC", "DRZ", "FLC"):
        name = f"hst_{field}_{number}_f606w_{group.lower()}.fits"
        rows.append({
            "obsID": number, "obs_collection": "HST", "dataproduct_type": "image", "productType": "SCIENCE",
            "productFilename": name, "dataURI": f"mast:HST/product/{name}", "productSubGroupDescription": group,
            "calib_level": 2 if group == "FLC" else 3, "dataRights": "PUBLIC",
            "size": len(_drizzled(sky, field, number)) if group == "DRC" else 1000,
        })  # fmt: skip
    return rows


@lru_cache(maxsize=8)
def _drizzled(sky: Sky, name: str, number: int) -> bytes:
    """A drizzled image with SCI, WHT and CTX, north up."""
    field = next(one for one in sky.fields if one.name == name)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [field.ra, field.dec]
    wcs.wcs.crpix = [HST_SHAPE[1] / 2 + 0.5 + 4 * number, HST_SHAPE[0] / 2 + 0.5]
    wcs.wcs.cd = HST_SCALE / 3600 * np.diag([-1.0, 1.0])
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    begin = HST_START_MJD + 10 * number
    psf = MoffatPsf(0.11 / HST_SCALE, 3.0, 0.02, 40.0)
    light = sky.light(field, wcs, HST_SHAPE, "r", begin + HST_SECONDS / 2 / 86400, psf, HST_SCALE)
    rng = np.random.default_rng([sky.seed, 900 + number, int(field.ra)])
    electrons = light * 10 ** (0.4 * (HST_ZERO_POINT - 31.4)) * HST_SECONDS
    level = 40.0
    science = ((noisy(rng, electrons + level, 5.0) - level) / HST_SECONDS).astype(np.float32)
    science[:, :20] = 0.0
    weight = np.full(HST_SHAPE, HST_SECONDS, np.float32)
    weight[:, :20] = 0.0
    wavelength = 5921.0
    flam = 10 ** (-0.4 * (HST_ZERO_POINT + 21.10 + 5 * math.log10(wavelength) - 18.6921))
    header = wcs.to_header()
    header.update({"CD1_1": -HST_SCALE / 3600, "CD2_2": HST_SCALE / 3600, "CD1_2": 0.0, "CD2_1": 0.0})
    for key in ("PC1_1", "PC2_2", "PC1_2", "PC2_1", "CDELT1", "CDELT2"):
        header.remove(key, ignore_missing=True)
    header.update({"BUNIT": "ELECTRONS/S", "PHOTFLAM": flam, "PHOTPLAM": wavelength, "PHOTZPT": -21.10})
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            "TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "FILTER1": "F606W", "FILTER2": "CLEAR2L",
            "EXPSTART": begin, "EXPEND": begin + HST_SECONDS / 86400, "EXPTIME": HST_SECONDS,
        }
    )  # fmt: skip
    file = fits.HDUList(
        [
            primary, fits.ImageHDU(science, header, name="SCI"), fits.ImageHDU(weight, header, name="WHT"),
            fits.ImageHDU((weight > 0).astype(np.int32), header, name="CTX"),
        ]
    )  # fmt: skip
    stream = io.BytesIO()
    file.writeto(stream)
    return stream.getvalue()
