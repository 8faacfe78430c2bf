"""ZTF at IRSA: searches, cutouts, headers, masks, PSFs, references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from astropy.io import fits

from astrid.archives import Download, Fetcher, NoCoverage, Permanent, ibe
from astrid.surveys.fetched import Place, Wanted
from astrid.surveys.ztf import JD_OF_MJD, Ztf
from benchmarks.live_check.findings import Finding, Target, attempt

SURVEY = Ztf(reference=True)


def check(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    """Look at what `astrid.surveys.ztf` and `astrid.archives.ibe` take for granted."""
    place = Place("live", target.ra, target.dec, 120.0, 0.0, target.mjd_min, target.mjd_max)
    plans: list[tuple[Wanted, ...]] = []

    def plan() -> tuple[bool, str]:
        found = SURVEY.plan(place, fetcher)
        plans.append(found.wanted)
        return len(found.wanted) > 0, f"{len(found.wanted)} exposures, left out: {found.rejected}"

    yield attempt(r"a search answers with an IPAC table that has \RowsRetrieved and the columns we need", plan)
    if not plans or not plans[0]:
        return
    one = plans[0][0]

    def header() -> fits.Header:
        return fits.getheader(fetcher.fetch(one.files["science"]).path)

    def keys() -> tuple[bool, str]:
        values = {key: header().get(key) for key in ("MAGZP", "GAIN", "EXPTIME", "SATURATE")}
        return None not in values.values(), str(values)

    yield attempt("science headers have MAGZP, GAIN, EXPTIME and SATURATE", keys)
    yield attempt(
        "MAGZP is of one count of the whole exposure: about 26",
        lambda: (25.0 < header()["MAGZP"] < 27.5, f"MAGZP = {header()['MAGZP']}"),
    )
    yield attempt(
        "the search's exptime is the header's EXPTIME",
        lambda: (abs(header()["EXPTIME"] - one.exposure_time) < 0.5, f"{one.exposure_time} and {header()['EXPTIME']}"),
    )

    def start() -> tuple[bool, str]:
        begin = one.mjd - one.exposure_time / 2 / 86400
        said = header().get("OBSMJD", header().get("OBSJD", np.nan) - JD_OF_MJD)
        return bool(abs(said - begin) * 86400 < 1.0), f"obsjd says {begin:.6f}, the header {said:.6f}"

    yield attempt("obsjd is the header's time, which is the start of the exposure", start)

    def cutout() -> tuple[bool, str]:
        info = SURVEY.register(one, {"science": fetcher.fetch(one.files["science"]).path})
        return info.shape[0] > 100, f"{info.shape} pixels for 120 arcsec; the place is on the image"

    yield attempt("center=ra,dec&size=...arcsec&gzip=false gives a plain FITS cutout about the place", cutout)

    def mask() -> tuple[bool, str]:
        data = fits.getdata(fetcher.fetch(one.files["mask"]).path)
        return bool(np.nanmax(data) < 1 << 13), f"{data.dtype}, largest value {np.nanmax(data)}"

    yield attempt("masks are integers of 13 bits", mask)

    def psf() -> tuple[bool, str]:
        found = fetcher.fetch(one.files["psf"])
        data = fits.getdata(found.path)
        return data.ndim == 2 and bool(data.sum() > 0), f"{data.shape}, sum {data.sum():.4g}, {found.note['headers']}"

    yield attempt("the PSF at the centre of a quadrant is an image, and comes with an ETag", psf)

    def off_image() -> tuple[bool, str]:
        try:
            fetcher.fetch(ibe.cutout(one.files["science"].path, target.ra, target.dec - 20, 60.0))
        except NoCoverage as error:
            return True, str(error)
        return False, "a file came"

    yield attempt("a cutout off the image ends with status 400", off_image)

    def unlisted() -> tuple[bool, str]:
        try:
            fetcher.fetch(Download("irsa", one.files["science"].path.replace("_q", "_q9")))
        except Permanent as error:
            return "404" in str(error), str(error)
        return False, "a file came"

    yield attempt("a file that does not exist ends with status 404", unlisted)

    def reference() -> tuple[bool, str]:
        wanted = next(w for w in plans[0] if "template" in w.files)
        header = fits.getheader(fetcher.fetch(wanted.files["template"]).path)
        values = {key: header.get(key) for key in ("MAGZP", "GAIN", "EXPTIME", "NFRAMES")}
        return None not in (values["MAGZP"], values["GAIN"], values["EXPTIME"]), str(values)

    yield attempt("reference images are found and have MAGZP, GAIN and EXPTIME", reference)
    yield attempt(
        "where nothing was seen, a search answers with an empty table",
        lambda: (SURVEY.plan(replace(place, dec=-80.0), fetcher).wanted == (), "no exposure at declination -80"),
    )
