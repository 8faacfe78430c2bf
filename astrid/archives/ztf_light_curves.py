"""Light curves of ZTF's own photometry, from IRSA.

https://irsa.ipac.caltech.edu/docs/program_interface/ztf_lightcurve_api.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from astrid.archives.fetch import Download, Fetcher
from astrid.archives.votables import VoTable, read_votable

PATH = "/cgi-bin/ZTF/nph_light_curves"
BAD_FLAGS = 32768  # of catflags: measurements that ZTF calls unusable
_COLUMNS = ("oid", "mjd", "mag", "magerr", "catflags", "filtercode", "ra", "dec")

LIGHT_CURVES = pa.schema(
    [
        ("oid", pa.int64()),
        ("mjd", pa.float64()),
        ("band", pa.string()),
        ("magnitude", pa.float64()),
        ("magnitude_error", pa.float64()),
        ("ra", pa.float64()),
        ("dec", pa.float64()),
    ]
)
"""One row per measurement: AB magnitudes, ICRS degrees, MJD (UTC) as ZTF gives it: the start of the exposure."""


def light_curves_request(
    ra: float, dec: float, radius_arcsec: float, bands: Sequence[str] = ("g", "r", "i")
) -> Download:
    """Return the request for all measurements within a circle.

    Parameters
    ----------
    ra, dec : float
        ICRS degrees.
    radius_arcsec : float
        At most 600.
    bands : sequence of str
        Of g, r, i.
    """
    if not 0 < radius_arcsec <= 600:
        raise ValueError(f"radius_arcsec must be above 0 and at most 600, got {radius_arcsec}")
    params = (
        ("POS", f"CIRCLE {ra:.6f} {dec:.6f} {radius_arcsec / 3600:.6f}"),
        ("BANDNAME", ",".join(bands)),
        ("BAD_CATFLAGS_MASK", str(BAD_FLAGS)),
        ("FORMAT", "votable"),
    )
    about = {"survey": "ztf", "acknowledgement": "ztf"}
    return Download("irsa", PATH, params, check=VoTable(_COLUMNS), is_search=True, about=about)


def light_curves(fetcher: Fetcher, request: Download) -> pa.Table:
    """Return the measurements (`LIGHT_CURVES`), by object and time; none is an empty table.

    See `astrid.archives.Fetcher.fetch` for what it raises.
    """
    table = read_votable(fetcher.read(request), _COLUMNS)
    if not len(table):
        return LIGHT_CURVES.empty_table()
    values = {
        "oid": np.asarray(table["oid"], np.int64),
        "mjd": np.asarray(table["mjd"], float),
        "band": [str(code).removeprefix("z") for code in table["filtercode"]],
        "magnitude": np.ma.filled(np.ma.asarray(table["mag"], float), np.nan),
        "magnitude_error": np.ma.filled(np.ma.asarray(table["magerr"], float), np.nan),
        "ra": np.asarray(table["ra"], float),
        "dec": np.asarray(table["dec"], float),
    }
    found = pa.table({name: pa.array(values[name], LIGHT_CURVES.field(name).type) for name in LIGHT_CURVES.names})
    return found.cast(LIGHT_CURVES).sort_by([("oid", "ascending"), ("mjd", "ascending")])
