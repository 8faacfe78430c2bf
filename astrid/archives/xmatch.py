"""Catalogued sources around many places, from the cross-match service of the CDS, through astroquery.

It bans who sends jobs in parallel: ``archive.services.xmatch.concurrency`` stays at 1.
http://cdsxmatch.u-strasbg.fr/xmatch/doc/API-documentation.html
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.table import Table

from astrid.archives.fetch import Fetcher
from astrid.archives.rows import arrow_of, kept_rows
from astrid.archives.transport import PoliteAdapter
from astrid.archives.votables import VoTable
from astrid.detection.reference import ReferenceCatalogue

SERVICE = "xmatch"
LARGEST_ARCSEC = 180.0


def around(
    fetcher: Fetcher, catalogue: ReferenceCatalogue, places: Sequence[tuple[float, float]], radius_arcsec: float
) -> Path:
    """Return the Parquet file of the rows of a catalogue around places, each once; it may have none.

    Parameters
    ----------
    fetcher : Fetcher
        Asks, and keeps the rows.
    catalogue : ReferenceCatalogue
        Which.
    places : sequence of (float, float)
        ICRS degrees; uploaded in one table.
    radius_arcsec : float
        At most 180.

    Raises
    ------
    Transient, Permanent, Corrupt
        The outcomes of `astrid.archives.outcomes`; status 403 says that this address is banned.
    """
    if not catalogue.vizier:
        raise ValueError(f"{catalogue.title} is no table of VizieR, so that it cannot be cross-matched")
    if not 0 < radius_arcsec <= LARGEST_ARCSEC:
        raise ValueError(f"radius_arcsec must be above 0 and at most {LARGEST_ARCSEC:g}, got {radius_arcsec}")
    rounded = sorted({(round(float(ra), 6), round(float(dec), 6)) for ra, dec in places})
    if not rounded:
        raise ValueError("no places to match")
    request = {"catalogue": catalogue.vizier, "places": rounded, "radius_arcsec": radius_arcsec}
    about = {"catalogue": catalogue.title, "acknowledgement": f"xmatch, vizier, {catalogue.name}"}
    ask = partial(_ask, fetcher, catalogue, rounded, radius_arcsec)
    return kept_rows(fetcher, SERVICE, request, ask, columns=catalogue.required, about=about)


def _ask(
    fetcher: Fetcher, catalogue: ReferenceCatalogue, places: list[tuple[float, float]], radius_arcsec: float
) -> pa.Table:
    from astropy import units
    from astroquery.xmatch import XMatchClass

    answer = VoTable(catalogue.required)
    client = XMatchClass()
    client.URL = f"{fetcher.archive.service(SERVICE).url}/xmatch/api/v1/sync"  # the one of 0.4.11 is out of date
    client.is_table_available = lambda table: isinstance(table, str)  # else it asks for the list of all tables first
    PoliteAdapter(fetcher.transport, SERVICE, check=answer.read).mount(client._session)
    ra, dec = np.array(places, float).T
    upload = Table({"astrid_ra": ra, "astrid_dec": dec})  # names that no catalogue has
    response = client.query_async(
        upload,
        f"vizier:{catalogue.vizier}",
        radius_arcsec * units.arcsec,
        colRA1="astrid_ra",
        colDec1="astrid_dec",
        cache=False,
    )
    table = answer.read(response.content)
    if len(table):
        _, first = np.unique(np.asarray(table[catalogue.required[0]]).astype(str), return_index=True)
        table = table[np.sort(first)]
        table.remove_columns([name for name in ("angDist", "astrid_ra", "astrid_dec") if name in table.colnames])
    return arrow_of(table)
