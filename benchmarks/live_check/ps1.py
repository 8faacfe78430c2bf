"""Pan-STARRS1 at MAST: the list of files, headers, masks, variances, stacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from astropy.io import fits

from astrid.archives import Fetcher
from astrid.schema import MaskBit
from astrid.surveys.fetched import Place, Wanted
from astrid.surveys.ps1 import ZERO_POINTS_PER_SECOND, Ps1
from benchmarks.live_check.findings import Finding, Target, attempt

SURVEY = Ps1(bands=("r",), reference=True)


def check(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    """Look at what `astrid.surveys.ps1` and `astrid.archives.ps1` take for granted."""
    place = Place("live", target.ra, target.dec, 60.0)
    plans: list[tuple[Wanted, ...]] = []

    def plan() -> tuple[bool, str]:
        found = SURVEY.plan(place, fetcher)
        plans.append(found.wanted)
        return len(found.wanted) > 0, f"{len(found.wanted)} exposures, left out: {found.rejected}"

    yield attempt("a list of files has the columns we need, and warps with badflag 0", plan)
    if not plans or not plans[0]:
        return
    one = plans[0][len(plans[0]) // 2]

    def header(kind: str) -> fits.Header:
        return fits.getheader(fetcher.fetch(one.files[kind]).path)

    def keys() -> tuple[bool, str]:
        found = {key: header("science").get(key) for key in ("EXPTIME", "FPA.ZP", "MJD-OBS", "TIMESYS", "CELL.GAIN")}
        return None not in found.values(), str(found)

    yield attempt("headers of warps have EXPTIME, FPA.ZP, MJD-OBS, TIMESYS and CELL.GAIN", keys)
    low, high = ZERO_POINTS_PER_SECOND
    for kind in ("science", "template"):
        yield attempt(
            f"FPA.ZP of a {kind} is of one count per second",
            lambda kind=kind: (low < header(kind)["FPA.ZP"] < high, f"FPA.ZP = {header(kind)['FPA.ZP']}"),
        )
        yield attempt(
            f"a cutout of a {kind} is linear",
            lambda kind=kind: (
                "BSOFTEN" not in header(kind),
                f"BSOFTEN = {header(kind).get('BSOFTEN')}, largest pixel "
                f"{np.nanmax(fits.getdata(fetcher.fetch(one.files[kind]).path)):.4g}",
            ),
        )

    def read() -> tuple[bool, str]:
        files = {kind: fetcher.fetch(download).path for kind, download in one.files.items()}
        exposure = SURVEY.read_exposure(SURVEY.register(one, files))
        bad = float(np.mean(exposure.mask != 0))
        quiet = (exposure.mask == 0) & (np.abs(exposure.flux) < 5 * np.sqrt(exposure.variance))
        ratio = float(np.std(exposure.flux[quiet]) / np.sqrt(np.median(exposure.variance[quiet])))
        missing = float(np.mean((exposure.mask & MaskBit.NO_DATA) != 0))
        return (
            0.3 < ratio < 2 and bad < 0.9,
            f"noise over root of .wt {ratio:.2f}; {bad:.0%} bad, {missing:.0%} no data",
        )

    yield attempt("a warp reads, and its .wt file is the variance", read)
