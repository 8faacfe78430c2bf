"""SkyView: its form, the page of results and the file that this links to; and hips2fits, at two addresses.

The pages are built like recorded ones. Everything is there of the first field only: elsewhere SkyView has no GALEX and
hips2fits no WISE. Of the last field SkyView has nothing: an image of one value, and for SDSS a page without a link.
"""

from __future__ import annotations

import io
from functools import lru_cache
from zlib import crc32

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astrid.simulation.psf import MoffatPsf
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky

# SkyView's name: HiPS, band of the sky, PSF in arcsec, flux in nJy of one unit, level of the background
LAYERS = {
    "DSS2 Red": ("CDS/P/DSS2/red", "r", 2.5, 40.0, 5000.0),
    "DSS2 Blue": ("CDS/P/DSS2/blue", "g", 2.5, 40.0, 5000.0),
    "SDSSg": ("CDS/P/SDSS9/g", "g", 1.4, 3631.0, 0.0),
    "SDSSr": ("CDS/P/SDSS9/r", "r", 1.3, 3631.0, 0.0),
    "GALEX Near UV": ("CDS/P/GALEXGR6_7/NUV", "u", 5.0, 30000.0, 0.003),
    "DSS2 IR": ("CDS/P/DSS2/NIR", "i", 2.5, 40.0, 5000.0),
    "SDSSu": ("CDS/P/SDSS9/u", "u", 1.5, 3631.0, 0.0),
    "SDSSi": ("CDS/P/SDSS9/i", "i", 1.2, 3631.0, 0.0),
    "SDSSz": ("CDS/P/SDSS9/z", "z", 1.2, 3631.0, 0.0),
    "GALEX Far UV": ("CDS/P/GALEXGR6_7/FUV", "u", 4.2, 90000.0, 0.0005),
    "2MASS-H": ("CDS/P/2MASS/H", "z", 2.8, 7000.0, 500.0),
    "2MASS-K": ("CDS/P/2MASS/K", "y", 2.8, 7000.0, 700.0),
    "WISE 4.6": ("CDS/P/allWISE/W2", "y", 6.4, 3000.0, 9.4),
    "WISE 12": ("CDS/P/allWISE/W3", "y", 6.5, 3000.0, 900.0),
    "WISE 22": ("CDS/P/allWISE/W4", "y", 12.0, 9000.0, 300.0),
    "2MASS-J": ("CDS/P/2MASS/J", "z", 2.8, 7000.0, 113.0),
    "WISE 3.4": ("CDS/P/allWISE/W1", "y", 6.1, 2000.0, 3.4),
}
NOISE = {"SDSS": 0.01, "GALE": 0.0005}  # by the first letters of a name; else 0.6
UNITS = {"DSS2": "Pixel values are given as scaled densities", "SDSS": "nanomaggies"}
FIRST, LAST = "field-a", "field-e"


def answer(request: Request, sky: Sky) -> Reply:
    """Answer the form, a query or a file."""
    if request.path == "/current/cgi/basicform.pl":
        return _html(_form() if not request.empty else _form(surveys=False))
    if request.path == "/current/cgi/runquery.pl":
        return _html(_results(request, sky))
    if request.path.startswith("/tempspace/fits/skv"):
        asked = request.path.removeprefix("/tempspace/fits/skv").removesuffix(".fits").split("_")
        name = next((one for one in LAYERS if f"{crc32(one.encode())}" == asked[0]), None)
        if name is not None and len(asked) == 5:
            ra, dec, size_deg, pixels = (float(text) for text in asked[1:])
            return _image(name, ra, dec, round(pixels), size_deg, sky, "zero" if request.empty else "skyview")
    return Reply(b"not found\n", 404, "text/plain")


def answer_hips(request: Request, sky: Sky) -> Reply:
    """Answer a cutout of a map; NaN where the map has nothing."""
    query = request.query
    name = next((one for one, layer in LAYERS.items() if layer[0] == query.get("hips")), None)
    if request.path != "/hips-image-services/hips2fits" or name is None or query.get("format") != "fits":
        return Reply(b'{"title": "Bad request", "description": "no such HiPS"}', 400, "application/json")
    place = float(query["ra"]), float(query["dec"])
    field = sky.field_at(*place, 60.0)
    nothing = request.empty or (name.startswith("WISE") and (field is None or field.name != FIRST))
    return _image(name, *place, int(query["width"]), float(query["fov"]), sky, "nan" if nothing else "hips")


def _results(request: Request, sky: Sky) -> str:
    """The page of results of one survey; without a link where there is nothing."""
    query = request.query
    name = query.get("survey", "")
    ra, dec = (float(text) for text in query["Position"].replace(",", " ").split())
    field = sky.field_at(ra, dec, 60.0)
    has_none = (
        field is None
        or (name.startswith("GALEX") and field.name != FIRST)
        or (name.startswith("SDSS") and field.name == LAST)
    )
    path = f"../../tempspace/fits/skv{crc32(name.encode())}_{ra}_{dec}_{float(query['size'])}_{query['pixels']}"
    units = UNITS.get(name[:4], "counts")
    settings = {
        "_currentsurvey": name, "_meta_epoch": "1998-2009", "_meta_pixelunits": units, "_meta_coverage": "most",
        "_meta_provenance": "emulated", "_meta_copyright": "Public domain", "_output": path, "float": query["float"],
        "scaling": query["scaling"], "lut": query["lut"],
    }  # fmt: skip
    link = f"<span>Download <a href={path}.fits>FITS</a> or <a href={path}.jpg>quick look jpeg </a> image.</span>"
    script = "\n".join(f"x['{key}']='{value}'" for key, value in settings.items())
    filling = "\n".join(f"x['setting{number}']='{number}'" for number in range(60))
    return (
        '<html>\n  <head>\n    <link rel="stylesheet" href="../includes/skyviewall.css">\n\n'
        f"    <title>SkyView images</title>\n</head>\n<script language='javascript'>\n"
        f"x = new Object()\n{script}\n{filling}\n</script>\n  {'' if has_none or request.empty else link}\n<hr>\n"
        "<script language=JavaScript1.1>\n"
        'document.domain = "gsfc.nasa.gov";\n// -->\n</script>\n'
    )


def _form(*, surveys: bool = True) -> str:
    """The form: options that are not closed, two fields of one name, and a second choice of surveys for overlays."""
    options = "".join(f"<option>{name}</option>" for name in LAYERS) if surveys else ""
    return (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">\n<html>\n<head>\n'
        "<title> SkyView Query Form (no JavaScript)</title>\n</head>\n<body>\n"
        '<form name="query" action="runquery.pl" method="GET" target="skyview_out">\n'
        '<INPUT TYPE="submit" Value="Submit">\n'
        '<INPUT name="Position" size=30 id="object">\n'
        f"<select class='selectbox' multiple size=7 NAME='survey' id='Optical:DSS'>\n{options}</select>\n"
        "<select name='coordinates' id='csys'> <option value='_skip_'>Special coordinates<option selected>J2000"
        "</option><option>ICRS</option> </select>"
        "<input type='text' name='coordinates' value='' SIZE=6 id='specialcoords'>\n"
        "<input type='text' class='formtext' name='pixels' Value='300' SIZE=11 id='size_pix' >\n"
        "<input type=checkbox name='float' id='float' checked>\n"
        "<select name='scaling' id='bscale' ><OPTION selected> Log <OPTION>Sqrt <OPTION>Linear </select>\n"
        "<input type='radio' name='lut' value='colortables/b-w-linear.bin'  checked>\n"
        "<select NAME='survey' id='overlay_red'>   <OPTION selected value='_skip_'>None "
        "<option>Nothing</option></select>\n"
        "</form></body></html>\n"
    )


def _html(page: str) -> Reply:
    return Reply(page.encode(), content_type="text/html; charset=UTF-8")


@lru_cache(maxsize=64)
def _image(name: str, ra: float, dec: float, pixels: int, size_deg: float, sky: Sky, kind: str) -> Reply:
    """A gnomonic image, north up; constant or NaN where there is nothing."""
    _, band, fwhm, unit, level = LAYERS[name]
    scale = size_deg * 3600 / pixels
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(pixels + 1) / 2, (pixels + 1) / 2]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    field = sky.field_at(ra, dec, 60.0)
    if kind == "zero" or (kind == "skyview" and (field is None or field.name == LAST)):
        image = np.zeros((pixels, pixels))
    elif kind == "nan" or field is None:
        image = np.full((pixels, pixels), np.nan)
    else:
        light = sky.light(field, wcs, (pixels, pixels), band, 51000.0, MoffatPsf(fwhm / scale, 3.0, 0.0, 0.0), scale)
        rng = np.random.default_rng([crc32(f"{name} {kind}".encode()), crc32(f"{ra} {dec}".encode())])
        image = light / unit + level + rng.normal(0, NOISE.get(name[:4], 0.6), light.shape)
    header = wcs.to_header()
    if kind != "hips":
        header["SURVEY"] = name
    stream = io.BytesIO()
    fits.PrimaryHDU(image.astype(np.float32), header=header).writeto(stream)
    return Reply(stream.getvalue(), content_type="image/x-fits" if kind == "skyview" else "application/fits")
