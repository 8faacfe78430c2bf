"""MAST: sectors and cutouts of TESS, searches of the CAOM and files of Hubble."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits

from astrid.archives import Fetcher
from astrid.surveys.fetched import Place, Wanted
from astrid.surveys.hst import Hst
from astrid.surveys.tess import FIRST_SECTOR_MJD, SECTOR_DAYS, SLACK_DAYS, Tess
from astrid.surveys.tpf import read_target_pixels
from benchmarks.live_check.findings import Finding, Target, attempt

LARGEST_HST_GB = 0.5


def check(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    """Look at what `astrid.surveys.tess`, `astrid.surveys.hst` and `astrid.archives.mast` take for granted."""
    yield from _tess(fetcher, target)
    yield from _hst(fetcher, target)


def _tess(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    survey, place = Tess(), Place("live", target.ra, target.dec, 300.0)
    plans: list[tuple[Wanted, ...]] = []

    def plan() -> tuple[bool, str]:
        plans.append(survey.plan(place, fetcher).wanted)
        sectors = sorted({one.extra["sector"] for one in plans[0]})
        return len(sectors) > 0, f"sectors {sectors}"

    yield attempt("a search for sectors names sector, camera and ccd", plan)
    if not plans or not plans[0]:
        return
    one = plans[0][0]
    number = one.extra["sector"]

    def pixels() -> Path:
        return fetcher.fetch(one.files["science"]).path

    def times() -> tuple[bool, str]:
        mjd = read_target_pixels(pixels()).mjd
        begin, planned = float(np.nanmin(mjd)), FIRST_SECTOR_MJD + SECTOR_DAYS * (number - 1)
        return abs(begin - planned) < SLACK_DAYS, f"sector {number} began at MJD {begin:.2f}, planned {planned:.2f}"

    yield attempt(f"sectors begin within {SLACK_DAYS:g} days of where they are planned", times)

    def place_on_image() -> tuple[bool, str]:
        found = read_target_pixels(pixels())
        return found.holds_its_place(), f"{found.flux.shape[1:]} pixels, asked for {found.place}"

    yield attempt("cutouts have a WCS that puts the place on the image", place_on_image)

    def quality() -> tuple[bool, str]:
        found = read_target_pixels(pixels())
        share = float(np.mean(found.quality == 0))
        return share > 0.3, f"QUALITY is 0 in {100 * share:.0f} % of {len(found.quality)} cadences"

    yield attempt("QUALITY 0 is what most cadences have", quality)


def _hst(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    survey = Hst(max_gb=LARGEST_HST_GB)
    place = Place("live", target.ra, target.dec, 30.0)
    plans: list[tuple[Wanted, ...]] = []

    def plan() -> tuple[bool, str]:
        found = survey.plan(place, fetcher)
        plans.append(found.wanted)
        return len(found.wanted) > 0, f"{len(found.wanted)} drizzled images, left out: {found.rejected}"

    yield attempt("searches of the CAOM and of products find drizzled images of Hubble with their sizes", plan)
    if not plans or not plans[0]:
        return
    one = min(plans[0], key=lambda wanted: wanted.files["science"].size or 0)

    def keys() -> tuple[bool, str]:
        with fits.open(fetcher.fetch(one.files["science"]).path) as file:
            headers = [hdu.header for hdu in file]
            wanted = ("PHOTFLAM", "PHOTPLAM", "BUNIT", "EXPSTART", "EXPEND", "EXPTIME")
            found = {key: next((header[key] for header in headers if key in header), None) for key in wanted}
            return None not in found.values(), f"{[hdu.name for hdu in file]}, {found}"

    yield attempt("drizzled images have PHOTFLAM, PHOTPLAM, BUNIT, EXPSTART, EXPEND and EXPTIME", keys)

    def read() -> tuple[bool, str]:
        info = survey.register(one, {"science": fetcher.fetch(one.files["science"]).path})
        seen = float(np.mean(survey.read_exposure(info).mask == 0))
        usual = 20 < (info.zero_point or 0) < 30
        return usual and seen > 0, f"{info.shape} pixels, {100 * seen:.0f} % with data, AB zero point {info.zero_point}"

    yield attempt("the part around the place reads, with an AB zero point between 20 and 30", read)
