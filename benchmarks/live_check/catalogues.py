"""Catalogues: tables of VizieR, the cross-match service, SkyBoT, the name resolver, light curves of ZTF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from astrid.archives import Fetcher, sesame, skybot, vizier, xmatch
from astrid.archives.ztf_light_curves import light_curves, light_curves_request
from astrid.detection.reference import CATALOGUES, ReferenceCatalogue
from astrid.workflow.catalogues import read_parquet
from benchmarks.live_check.findings import Finding, Target, attempt

CONE_DEG = 0.05
FAR_DEC = -88.0  # where no survey but Gaia and AllWISE has anything
M31 = 10.6847, 41.2688


def check(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    """Look at what the clients of catalogues take for granted."""
    asked = [one for one in CATALOGUES.values() if one.vizier]
    for catalogue in asked:
        ask = partial(vizier.cone, fetcher, catalogue, target.ra, target.dec, CONE_DEG)
        yield attempt(
            f"VizieR has {catalogue.vizier} with every column that is asked for", partial(_columns, catalogue, ask)
        )
        around = partial(xmatch.around, fetcher, catalogue, [(target.ra, target.dec)], 120.0)
        yield attempt(
            f"the cross-match service has {catalogue.vizier}, columns named as in VizieR",
            partial(_same, catalogue, ask, around),
        )

    def nothing() -> tuple[bool, str]:
        path = vizier.cone(fetcher, CATALOGUES["sdss"], target.ra, FAR_DEC, 0.01)
        return len(pq.ParquetFile(path).read()) == 0, f"no row at declination {FAR_DEC:g}"

    yield attempt(
        "where a table of VizieR has nothing, the answer is a VOTable without rows and without error", nothing
    )
    yield attempt("SkyBoT lists bodies with positions, motions and errors", partial(_bodies, fetcher, target))

    def alone() -> tuple[bool, str]:
        path = skybot.moving(fetcher, target.ra, FAR_DEC, 0.01, [target.mjd_min])
        return len(pq.ParquetFile(path).read()) == 0, f"no body at declination {FAR_DEC:g}"

    yield attempt("an empty cone of SkyBoT is no failure", alone)

    def named() -> tuple[bool, str]:
        found = sesame.resolve(fetcher, "M31")
        return found is not None and bool(np.hypot(found[0] - M31[0], found[1] - M31[1]) < 0.01), f"M31 is at {found}"

    yield attempt("the name service knows M31", named)
    yield attempt(
        "the name service says so where nobody knows a name",
        lambda: (sesame.resolve(fetcher, "Nobody knows 1234567") is None, "no position"),
    )

    def measured() -> tuple[bool, str]:
        rows = light_curves(fetcher, light_curves_request(target.ra, target.dec, 60.0))
        return len(rows) > 0, f"{len(rows)} measurements of {len(set(rows['oid'].to_pylist()))} sources"

    yield attempt("ZTF's light curves come as a VOTable with the columns we need", measured)


def _columns(catalogue: ReferenceCatalogue, ask: Callable[[], Path]) -> tuple[bool, str]:
    path = ask()
    names = pq.ParquetFile(path).read().column_names
    missing = [name for name in catalogue.columns if name not in names]
    sources = read_parquet(path, catalogue.name)
    bright = np.nanmedian(sources.magnitude) if len(sources) else np.nan
    seen = f"{len(sources)} sources, median magnitude {bright:.1f}" + (f"; without {missing}" if missing else "")
    return not missing and len(sources) > 0 and bool(5 < bright < 30), seen


def _same(catalogue: ReferenceCatalogue, ask: Callable[[], Path], around: Callable[[], Path]) -> tuple[bool, str]:
    found, whole = (set(read_parquet(one(), catalogue.name).id.tolist()) for one in (around, ask))
    return len(
        found
    ) > 0 and found <= whole, f"{len(found)} sources within 2 arcmin, {len(found - whole)} not in VizieR"


def _bodies(fetcher: Fetcher, target: Target) -> tuple[bool, str]:
    path = skybot.moving(fetcher, target.ra, target.dec, 1.0, [target.mjd_min + 1.3])
    bodies = read_parquet(path, "skybot")
    rates = np.hypot(bodies.pm_ra, bodies.pm_dec) / 24
    seen = f"{len(bodies)} bodies within a degree, {', '.join(bodies.id[:3])}, {np.round(rates[:3], 1)} arcsec per hour"
    return bool(np.isfinite(rates).all() and np.isfinite(bodies.ra).all()), seen
