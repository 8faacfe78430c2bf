"""Small synthetic alert packets, for tests to read back."""

import gzip
import io
import json
import zlib

import fastavro
import numpy as np
import pyarrow as pa
from astropy.io import fits

SIDE = 63
CHIP = (3080, 3072)

_NUMBER = ["double", "null"]
_PAST = {
    "type": "record", "name": "past",
    "fields": [
        {"name": "jd", "type": "double"}, {"name": "fid", "type": "int"}, {"name": "magpsf", "type": _NUMBER},
        {"name": "sigmapsf", "type": _NUMBER}, {"name": "diffmaglim", "type": _NUMBER},
        {"name": "isdiffpos", "type": ["string", "null"]},
    ],
}  # fmt: skip
_CUTOUT = {
    "type": "record", "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}  # fmt: skip
OPTIONAL = (
    "exptime", "xpos", "ypos", "magpsf", "sigmapsf", "diffmaglim", "magzpsci", "fwhm", "scorr", "rb", "drb",
)  # fmt: skip


def schema(without=()):
    """The part of ZTF's schema that matters, less some fields of the candidate."""
    fields = [
        {"name": "candid", "type": "long"}, {"name": "jd", "type": "double"}, {"name": "fid", "type": "int"},
        {"name": "ra", "type": "double"}, {"name": "dec", "type": "double"}, {"name": "isdiffpos", "type": "string"},
        *({"name": name, "type": _NUMBER} for name in OPTIONAL),
    ]  # fmt: skip
    return {
        "type": "record", "name": "alert",
        "fields": [
            {"name": "schemavsn", "type": "string"}, {"name": "objectId", "type": "string"},
            {"name": "candid", "type": "long"},
            {"name": "candidate", "type": {
                "type": "record", "name": "candidate",
                "fields": [field for field in fields if field["name"] not in without],
            }},
            {"name": "prv_candidates", "type": [{"type": "array", "items": _PAST}, "null"]},
            {"name": "cutoutScience", "type": [_CUTOUT, "null"]},
            {"name": "cutoutTemplate", "type": ["cutout", "null"]},
            {"name": "cutoutDifference", "type": ["cutout", "null"]},
        ],
    }  # fmt: skip


def star(flux, y=31.0, x=31.0, sigma=1.2):
    """A point source on a stamp."""
    yy, xx = np.mgrid[:SIDE, :SIDE]
    return flux * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def stamp(pixels, compressed=True):
    """The bytes of a FITS stamp."""
    file = io.BytesIO()
    fits.PrimaryHDU(np.asarray(pixels, np.float32)).writeto(file)
    return gzip.compress(file.getvalue(), mtime=0) if compressed else file.getvalue()


def cut_at_edge(pixels, xpos, ypos):
    """What the chip's edge leaves of a stamp around a 1-based position."""
    cy, cx = int(np.floor(ypos - 0.5)), int(np.floor(xpos - 0.5))
    rows = [i for i in range(SIDE) if 0 <= cy - 31 + i < CHIP[0]]
    columns = [i for i in range(SIDE) if 0 <= cx - 31 + i < CHIP[1]]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def alert(number=1, *, name=None, flux=5000.0, xpos=1500.2, ypos=700.7, positive=True, seed=0, **changes):
    """One packet: a source that brightened (or faded) on a template with a star beside it."""
    rng = np.random.default_rng(seed + number)
    phase = (ypos - 1 - np.floor(ypos - 0.5), xpos - 1 - np.floor(xpos - 0.5))
    template = 100 + star(20000, 20, 45) + rng.normal(0, 2, (SIDE, SIDE))
    change = star(flux if positive else -flux, 31 + phase[0], 31 + phase[1])
    science = 100 + star(20000, 20, 45) + change + rng.normal(0, 8, (SIDE, SIDE))
    planes = {"Science": science, "Template": template, "Difference": change if positive else -change}
    candidate = {
        "candid": 10**18 + number, "jd": 2459458.7872801 + number, "fid": 1 + number % 2, "ra": 347.6, "dec": 7.5,
        "isdiffpos": "t" if positive else "f", "exptime": 30.0, "xpos": xpos, "ypos": ypos, "magpsf": 16.75,
        "sigmapsf": 0.05, "diffmaglim": 20.6, "magzpsci": 26.0, "fwhm": 2.4, "scorr": 40.0, "rb": 0.9, "drb": 0.99,
    }  # fmt: skip
    past = [
        {"jd": 2459450.5, "fid": 1, "magpsf": None, "sigmapsf": None, "diffmaglim": 20.1, "isdiffpos": None},
        {"jd": 2459452.5, "fid": 2, "magpsf": 18.5, "sigmapsf": 0.1, "diffmaglim": 20.3, "isdiffpos": "f"},
    ]
    packet = {
        "schemavsn": "3.3", "objectId": name or f"ZTF21syn{number:04d}", "candid": candidate["candid"],
        "candidate": candidate, "prv_candidates": past,
    }  # fmt: skip
    for kind, pixels in planes.items():
        data = stamp(cut_at_edge(pixels, xpos, ypos))
        packet[f"cutout{kind}"] = {"fileName": f"{kind}.fits.gz", "stampData": data}
    for key, value in changes.items():
        (candidate if key in candidate else packet)[key] = value
    return packet


def _long(value):
    value = (value << 1) ^ (value >> 63)
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def container(packets, codec="null", shape=None, per_block=1):
    """The bytes of an Avro container file; written here so that no codec library is needed."""
    shape = shape or schema()
    parsed, sync = fastavro.parse_schema(shape), bytes(range(16))
    metadata = {"avro.schema": json.dumps(shape).encode(), "avro.codec": codec.encode()}
    out = b"Obj\x01" + _long(len(metadata))
    for key, value in metadata.items():
        out += _long(len(key)) + key.encode() + _long(len(value)) + value
    out += b"\0" + sync
    for begin in range(0, len(packets), per_block):
        block, records = packets[begin : begin + per_block], io.BytesIO()
        for packet in block:
            fastavro.schemaless_writer(records, parsed, packet)
        data = records.getvalue()
        if codec == "deflate":
            data = zlib.compress(data, wbits=-15)
        elif codec == "snappy":
            data = pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big")
        out += _long(len(block)) + _long(len(data)) + data + sync
    return out


def flat(packet):
    """A packet as a row of the Parquet layout."""
    row = {**packet["candidate"], **{k: v for k, v in packet.items() if k != "candidate"}}
    for kind in ("Science", "Template", "Difference"):
        cutout = row[f"cutout{kind}"]
        row[f"cutout{kind}"] = None if cutout is None else cutout["stampData"]
    return row


def rubin_stamp(flux, y, x, ra, dec, *, side=30, uncertainty=100.0, psf_side=41, bias=1.0):
    """A stamp of flux, variance and PSF planes with the WCS cards that Rubin writes."""
    rng = np.random.default_rng(int(abs(flux)) + side)
    yy, xx = np.mgrid[:side, :side]
    source = flux * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * 1.8**2)) / (2 * np.pi * 1.8**2)
    primary = fits.PrimaryHDU((source + rng.normal(0, uncertainty**0.5, (side, side))).astype(np.float32))
    step = 0.2 / 3600 / 2**0.5
    primary.header.update(
        {
            "BUNIT": "nJy", "WCSAXES": 2, "CRPIX1": x + 1, "CRPIX2": y + 1, "CRVAL1": ra, "CRVAL2": dec,
            "PC1_1": -step, "PC1_2": step, "PC2_1": step, "PC2_2": step, "CDELT1": 1.0, "CDELT2": 1.0,
        }
    )  # fmt: skip
    half = psf_side // 2
    yy, xx = np.mgrid[-half : psf_side - half, -half : psf_side - half]
    psf = np.exp(-(yy**2 + xx**2) / (2 * 1.8**2))
    variance = fits.ImageHDU(np.full((side, side), uncertainty, np.float32), name="UNCERT")
    file = io.BytesIO()
    planes = [primary, variance, fits.ImageHDU(bias * psf / psf.sum(), name="PSFIMAGE")]
    fits.HDUList(planes).writeto(file)
    return file.getvalue()


def rubin_alert(number=1, flux=3000.0, *, side=30, y=14.3, x=14.6, ra=150.7, dec=1.7, **changes):
    """A row of the table of Rubin alerts."""
    source = {
        "diaObjectId": 3 * 10**17 + number, "ssObjectId": 0, "visit": 2026030900027, "detector": 87, "ixxPSF": 0.13,
        "iyyPSF": 0.13,
    }  # fmt: skip
    past = [{"midpointMjdTai": 61024.25, "band": "i", "psfFlux": -4436.0, "psfFluxErr": 835.0, "snr": 5.3}]
    return {
        "diaSourceId": 17 * 10**16 + number, "splitKey": str(3 * 10**17 + number), "isSSO": False,
        "mjd": 61109.145 + number, "band": "gri"[number % 3], "ra": ra, "dec": dec, "snr": 25.0, "reliability": 0.79,
        "isDipole": False, "isNegative": flux < 0, "psfFlux": flux, "psfFluxErr": 120.0, "crossmatch": None,
        "tns_type": None, "diaSource_json": json.dumps(source), "history_json": json.dumps(past),
        "cutoutScience": rubin_stamp(flux + 4000, y, x, ra, dec, side=side),
        "cutoutTemplate": rubin_stamp(4000, y, x, ra, dec, side=side, uncertainty=10.0, psf_side=55),
        "cutoutDifference": rubin_stamp(flux, y, x, ra, dec, side=side), **changes,
    }  # fmt: skip


def winter_schema():
    """The part of WINTER's schema that matters."""
    fields = [
        {"name": "candid", "type": "long"}, {"name": "jd", "type": "double"}, {"name": "fid", "type": "int"},
        {"name": "exptime", "type": "float"}, {"name": "isdiffpos", "type": "boolean"},
        {"name": "ra", "type": "double"}, {"name": "dec", "type": "double"},
        *({"name": name, "type": _NUMBER} for name in ("magzpsci", "magpsf", "sigmapsf", "diffmaglim", "fwhm", "rb")),
    ]  # fmt: skip
    past = [field for field in fields if field["name"] in ("candid", "jd", "fid", "isdiffpos", "magpsf", "sigmapsf")]
    stamps = [{"name": f"cutout_{kind}", "type": "bytes"} for kind in ("science", "template", "difference")]
    return {
        "type": "record", "name": "winter.alert",
        "fields": [
            {"name": "schemavsn", "type": "string"}, {"name": "objectid", "type": "string"},
            {"name": "candid", "type": "long"},
            {"name": "candidate", "type": {"type": "record", "name": "candidate", "fields": fields}},
            {"name": "prv_candidates", "type": [
                {"type": "array", "items": {"type": "record", "name": "past", "fields": past}}, "null",
            ]},
            *stamps,
        ],
    }  # fmt: skip


def winter_alert(number=1, *, positive=True):
    """One packet of WINTER, a column of NaN in it."""
    rng = np.random.default_rng(number)
    template = rng.normal(0, 5, (81, 81))
    yy, xx = np.mgrid[-40:41, -40:41]
    change = 300 * np.exp(-(yy**2 + xx**2) / (2 * 2.5**2)) * (1 if positive else -1)
    science = template + change
    science[:, 0] = np.nan
    candidate = {
        "candid": 3608694 + number, "jd": 2460381.03 + number, "fid": 2, "exptime": 120.0, "isdiffpos": positive,
        "ra": 262.5, "dec": 7.2, "magzpsci": 25.5, "magpsf": 16.3, "sigmapsf": 0.05, "diffmaglim": 18.0, "fwhm": 5.9,
        "rb": None,
    }  # fmt: skip
    past = [{**{k: candidate[k] for k in ("candid", "fid", "isdiffpos", "magpsf", "sigmapsf")}, "jd": 2460380.04}]
    return {
        "schemavsn": "0.1", "objectid": f"WNTR24syn{number}", "candid": candidate["candid"], "candidate": candidate,
        "prv_candidates": past, "cutout_science": stamp(science), "cutout_template": stamp(template),
        "cutout_difference": stamp(change if positive else -change),
    }  # fmt: skip
