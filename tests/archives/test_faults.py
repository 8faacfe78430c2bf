"""Every client path meets every fault: it ends in the right outcome in time, and the next healthy call succeeds.

A service joins by a line in PATHS.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq
import pytest

from astrid.archives import (
    Archive,
    Corrupt,
    Fetcher,
    NoCoverage,
    Permanent,
    Transient,
    galex,
    hips,
    ibe,
    mast,
    ps1,
    sdss,
    sesame,
    sia,
    skybot,
    skyview,
    vizier,
    xmatch,
)
from astrid.archives.ztf_light_curves import light_curves, light_curves_request
from astrid.detection.reference import GAIA, PS1, SDSS
from astrid.surveys.fetched import Place
from astrid.surveys.hst import observations_request, products_requests
from tests.archives.conftest import public
from tests.archives.emulator import Sky
from tests.archives.emulator.irsa import _reference_row, _references, _row, quadrants
from tests.archives.emulator.mast import SECTOR

NAME, RA, DEC = Sky().centres[0]
SQUARE = (RA, DEC, 64 / 3600)
COLUMNS = ("field", "ccdid", "qid", "filtercode", "obsjd", "filefracday")
SCIENCE = {key: str(value) for key, value in _row(quadrants(Sky())[0]).items()}
WARP = "/rings.v3.skycell/1700/051/rings.v3.skycell.1700.051.wrp.r.59001_41300"
REFERENCE = {key: str(value) for key, value in _reference_row(next(_references(Sky()))).items()}


@dataclass(frozen=True)
class ClientPath:
    """One way to ask a service.

    Attributes
    ----------
    ask : callable
        What the fetcher does; returns what came, which has a length.
    empty : type or None
        Outcome of the service's own "nothing there"; None where that is an empty table.
    only : str
        Part of the addresses that are spoilt, where one answer takes several requests.
    """

    ask: Callable[[Fetcher], Any]
    empty: type[Exception] | None
    only: str = ""


def sky_picture():
    return skyview.cutout("DSS2 Red", RA, DEC, 64, 64 / 3600)


def hip_picture(service):
    return hips.cutout("CDS/P/DSS2/red", RA, DEC, 64, 64 / 3600, service=service)


def rows(path):
    """What a file of rows holds."""
    return pq.ParquetFile(path).read()


PATHS = {
    "ztf search": ClientPath(
        lambda f: ibe.search(f, ibe.search_request("sci", RA, DEC, size_deg=0.05, columns=COLUMNS)), None
    ),
    "ztf reference search": ClientPath(
        lambda f: ibe.search(f, ibe.search_request("ref", RA, DEC, size_deg=0.05, columns=("field", "nframes"))), None
    ),
    "ztf cutout": ClientPath(
        lambda f: f.read(ibe.cutout(ibe.science_path(SCIENCE, "sciimg.fits"), RA, DEC, 60)), NoCoverage
    ),
    "ztf mask": ClientPath(
        lambda f: f.read(ibe.cutout(ibe.science_path(SCIENCE, "mskimg.fits"), RA, DEC, 60, is_mask=True)), NoCoverage
    ),
    "ztf reference": ClientPath(
        lambda f: f.read(ibe.cutout(ibe.reference_path(REFERENCE, "refimg.fits"), RA, DEC, 60)), NoCoverage
    ),
    "ps1 list of files": ClientPath(
        lambda f: ps1.files(f, ps1.files_request(RA, DEC, bands=("g", "r"), types=ps1.WARP)), None
    ),
    "ps1 warp": ClientPath(lambda f: f.read(ps1.cutout(f"{WARP}.fits", RA, DEC, 64)), NoCoverage),
    "ps1 variance": ClientPath(lambda f: f.read(ps1.cutout(f"{WARP}.wt.fits", RA, DEC, 64)), NoCoverage),
    "ps1 stack": ClientPath(
        lambda f: f.read(ps1.cutout(WARP.partition(".wrp.")[0] + ".stk.r.unconv.fits", RA, DEC, 64)), NoCoverage
    ),
    "tess sectors": ClientPath(lambda f: mast.sectors(f, mast.sectors_request(RA, DEC)), None),
    "tess cutout": ClientPath(lambda f: f.read(mast.tess_cutout(RA, DEC, 12, SECTOR)), NoCoverage),
    "hst search": ClientPath(lambda f: mast.search(f, observations_request(Place(NAME, RA, DEC, 30.0))), None),
    "hst products": ClientPath(lambda f: mast.search(f, *products_requests(["10", "11"])), None),
    "hst file": ClientPath(
        lambda f: f.read(mast.file_request(f"mast:HST/product/hst_{NAME}_0_f606w_drc.fits")), Permanent
    ),
    "vizier gaia": ClientPath(lambda f: rows(vizier.cone(f, GAIA, RA, DEC, 0.01)), None),
    "vizier ps1": ClientPath(lambda f: rows(vizier.cone(f, PS1, RA, DEC, 0.01)), None),
    "xmatch sdss": ClientPath(lambda f: rows(xmatch.around(f, SDSS, [(RA, DEC)], 40.0)), None),
    "skybot": ClientPath(lambda f: rows(skybot.moving(f, RA, DEC, 0.1, [59000.3])), None),
    "sesame": ClientPath(lambda f: sesame.resolve(f, NAME) or (), None),
    "skyview form": ClientPath(lambda f: f.read(skyview.form_request()), Corrupt),
    "skyview query": ClientPath(lambda f: f.read(sky_picture()), NoCoverage, only="runquery"),
    "skyview file": ClientPath(lambda f: f.read(sky_picture()), NoCoverage, only="tempspace"),
    "hips2fits": ClientPath(lambda f: f.read(hip_picture("hips2fits")), NoCoverage),
    "hips2fits mirror": ClientPath(lambda f: f.read(hip_picture("hips2fits_mirror")), NoCoverage),
    "images of 2mass": ClientPath(
        lambda f: sia.search(f, sia.search_request("twomass_allsky", RA, DEC)), None, only="SIA"
    ),
    "search for 2mass": ClientPath(
        lambda f: f.read(sia.cutout("twomass_allsky", "J", *SQUARE)), NoCoverage, only="SIA"
    ),
    "cutout of 2mass": ClientPath(
        lambda f: f.read(sia.cutout("twomass_allsky", "J", *SQUARE)), NoCoverage, only="fits.gz"
    ),
    "cutout of wise": ClientPath(lambda f: f.read(sia.cutout("wise_allwise", "W1", *SQUARE)), NoCoverage, only="int-3"),
    "frames of sdss": ClientPath(lambda f: sdss.search(f, sdss.search_request(RA, DEC)), None),
    "search for sdss": ClientPath(lambda f: f.read(sdss.cutout("r", *SQUARE)), NoCoverage, only="SqlSearch"),
    "frame of sdss": ClientPath(lambda f: f.read(sdss.cutout("r", *SQUARE)), Permanent, only="photoObj"),
    "images of galex": ClientPath(lambda f: mast.search(f, galex.observations_request(RA, DEC)), None),
    "search for galex": ClientPath(lambda f: f.read(galex.cutout("NUV", *SQUARE)), NoCoverage, only="invoke"),
    "file of galex": ClientPath(lambda f: f.read(galex.cutout("NUV", *SQUARE)), Permanent, only="Download"),
    "ztf light curves": ClientPath(lambda f: light_curves(f, light_curves_request(RA, DEC, 60.0)), None),
}

FAULTS: dict[str, type[Exception] | None] = {
    "429": Transient,
    "500": Transient,
    "503": Transient,
    "404": Permanent,
    "silent": Transient,
    "drop": Transient,
    "html": Transient,
    "short": Corrupt,
    "zero": Corrupt,
    "empty": None,
}
TIMEOUT = 1.0  # seconds of silence
SLACK = 2.0  # seconds, for a busy machine


@pytest.fixture(scope="module", autouse=True)
def drawn(emulator, tmp_path_factory):
    """Ask everything once, so that no test waits for the emulator to draw."""
    services = {name: replace(service, interval_s=0.0, timeout_s=30.0) for name, service in public().services.items()}
    folder = tmp_path_factory.mktemp("drawn")
    healthy = Fetcher(Archive(services, cache=str(folder), base_url=emulator.url))
    for client in PATHS.values():
        assert len(client.ask(healthy)) > 0


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", PATHS)
def test_a_fault_ends_in_its_outcome_and_the_next_healthy_call_succeeds(path, fault, emulator, fetcher):
    client = PATHS[path]
    expected = client.empty if fault == "empty" else FAULTS[fault]
    case = f"{path}-{fault}".replace(" ", "-")
    attempts = 1 if fault == "429" else 2  # the wait that a 429 asks for is tested with the transport
    # what is final is not asked again
    spoils = 1 if fault == "404" or (fault == "empty" and expected is not Corrupt) else attempts
    where = f"@{client.only}" if client.only else ""
    spoilt = fetcher(
        emulator.fault(f"{fault}x{spoils}{where}", case), attempts=attempts, timeout_s=TIMEOUT, forget=True
    )
    started = time.monotonic()
    if expected is None:
        assert len(client.ask(spoilt)) == 0
    else:
        with pytest.raises(expected) as caught:
            client.ask(spoilt)
        assert type(caught.value) is expected
        assert caught.value.service in str(caught.value)
        assert emulator.url in caught.value.url
        if fault == "429":
            assert caught.value.retry_after == 1.0
    assert time.monotonic() - started < attempts * (TIMEOUT + 0.1) + SLACK
    assert len(client.ask(spoilt)) > 0  # the same server and cache: what was spoilt must not have been kept
