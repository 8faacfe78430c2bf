"""Catalogues from VizieR, through astroquery.

https://vizier.cds.unistra.fr/doc/asu.html
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa

from astrid.archives.fetch import Fetcher
from astrid.archives.rows import arrow_of, kept_rows
from astrid.archives.transport import PoliteAdapter
from astrid.archives.votables import VoTable
from astrid.detection.reference import ReferenceCatalogue

SERVICE = "vizier"


def cone(fetcher: Fetcher, catalogue: ReferenceCatalogue, ra: float, dec: float, radius: float) -> Path:
    """Return the Parquet file of all rows of a catalogue in a cone; it may have none.

    Parameters
    ----------
    fetcher : Fetcher
        Asks, and keeps the rows.
    catalogue : ReferenceCatalogue
        Which; its columns are asked for, and no others.
    ra, dec, radius : float
        ICRS degrees.

    Raises
    ------
    Transient, Permanent, Corrupt
        The outcomes of `astrid.archives.outcomes`.
    """
    if not catalogue.vizier:
        raise ValueError(f"{catalogue.title} is no table of VizieR")
    place = round(ra, 6), round(dec, 6), round(radius, 5)
    columns = list(catalogue.columns)
    request = {"catalogue": catalogue.vizier, "columns": columns, "ra": place[0], "dec": place[1], "radius": place[2]}
    about = {"catalogue": catalogue.title, "acknowledgement": f"vizier, {catalogue.name}"}
    ask = partial(_ask, fetcher, catalogue, *place)
    return kept_rows(fetcher, SERVICE, request, ask, columns=catalogue.required, about=about)


def _ask(fetcher: Fetcher, catalogue: ReferenceCatalogue, ra: float, dec: float, radius: float) -> pa.Table:
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astroquery.vizier import VizierClass

    answer = VoTable(catalogue.required)
    client = VizierClass(columns=list(catalogue.columns), row_limit=-1)  # its default is 50 rows
    PoliteAdapter(fetcher.transport, SERVICE, check=answer.read).mount(client._session)
    response = client.query_region_async(
        SkyCoord(ra, dec, unit="deg"), radius=radius * units.deg, catalog=catalogue.vizier, cache=False, frame="icrs"
    )
    return arrow_of(answer.read(response.content))
