"""Asteroids, comets and planets in an exposure, from SkyBoT at IMCCE, through astroquery.

Berthier et al. 2006, ASP Conf. 351, 367; https://ssp.imcce.fr/webservices/skybot/api/conesearch
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from astrid.archives.fetch import Fetcher
from astrid.archives.rows import UNIT, arrow_of, kept_rows
from astrid.archives.transport import PoliteAdapter
from astrid.archives.votables import VoTable
from astrid.detection.reference import SKYBOT

SERVICE = "skybot"
NOTHING = "no solar system object was found"  # comes with the status of an error
POSITION_ERROR_ARCSEC = 120.0
_COLUMNS = tuple(name for name in SKYBOT.required if name != "mjd")


def moving(
    fetcher: Fetcher, ra: float, dec: float, radius: float, mjds: Iterable[float], *, observatory: str = "500"
) -> Path:
    """Return the Parquet file of all known bodies in a cone at some times; column ``mjd`` says when.

    Parameters
    ----------
    fetcher : Fetcher
        Asks once for each time, and keeps the rows.
    ra, dec, radius : float
        ICRS degrees; at most 10 degrees.
    mjds : iterable of float
        MJD (UTC).
    observatory : str
        Code of the Minor Planet Center; "500" is the centre of the Earth: for ZTF ("I41") the position of a
        body of the main belt differs by some seconds of arc.

    Raises
    ------
    Transient, Permanent, Corrupt
        The outcomes of `astrid.archives.outcomes`.
    """
    place = round(ra, 5), round(dec, 5), round(min(radius, 10.0), 4)
    times = sorted({round(float(mjd), 5) for mjd in mjds})
    about = {"catalogue": SKYBOT.title, "acknowledgement": "skybot"}
    paths = []
    for mjd in times:
        request = {"ra": place[0], "dec": place[1], "radius": place[2], "mjd": mjd, "observatory": observatory}
        ask = partial(_ask, fetcher, *place, mjd, observatory)
        paths.append(kept_rows(fetcher, SERVICE, request, ask, columns=SKYBOT.required, about=about))
    if len(paths) == 1:
        return paths[0]
    request = {"ra": place[0], "dec": place[1], "radius": place[2], "mjds": times, "observatory": observatory}
    return kept_rows(fetcher, SERVICE, request, partial(_together, paths), columns=SKYBOT.required, about=about)


def exposures(mjds: Sequence[float], apart_days: float = 0.007) -> list[float]:
    """Return times that stand for others: none is farther than ``apart_days`` from one of them.

    Examples
    --------
    >>> exposures([59000.1, 59000.102, 59005.0])
    [59000.101, 59005.0]
    """
    groups: list[list[float]] = []
    for mjd in sorted(mjds):
        if groups and mjd - groups[-1][0] <= apart_days:
            groups[-1].append(mjd)
        else:
            groups.append([mjd])
    return [round((group[0] + group[-1]) / 2, 6) for group in groups]


def _ask(fetcher: Fetcher, ra: float, dec: float, radius: float, mjd: float, observatory: str) -> pa.Table:
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astropy.time import Time
    from astroquery.imcce import SkybotClass

    answer = VoTable(_COLUMNS, nothing=NOTHING)
    client = SkybotClass()
    PoliteAdapter(fetcher.transport, SERVICE, check=answer.read).mount(client._session)
    response = client.cone_search_async(
        SkyCoord(ra, dec, unit="deg"),
        radius * units.deg,
        Time(mjd, format="mjd", scale="utc"),
        location=observatory,
        position_error=POSITION_ERROR_ARCSEC * units.arcsec,
        cache=False,
    )
    table = arrow_of(answer.read(response.content))
    field = pa.field("mjd", pa.float64(), metadata={UNIT: b"d"})
    return table.append_column(field, pa.array([mjd] * len(table), pa.float64())) if len(table) else table


def _together(paths: Sequence[Path]) -> pa.Table:
    tables = [pq.ParquetFile(path).read() for path in paths]
    tables = [table for table in tables if len(table)]
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
