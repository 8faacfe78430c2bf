"""The cross-match service of the CDS: a table of places in, all sources around them out, one row per pair."""

from __future__ import annotations

import csv
import io
from email import message_from_bytes

import numpy as np
from astropy.table import Table, vstack

from tests.archives.emulator import catalogues
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky
from tests.archives.emulator.vizier import votable

NAME = "xmatch"


def answer(request: Request, sky: Sky) -> Reply:
    """Answer a job."""
    if request.path != "/xmatch/api/v1/sync" or request.method != "POST":
        return Reply(b"no such page\n", 404, "text/plain")
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
        for part in message_from_bytes(head + request.body).get_payload()
    }
    table = parts["cat2"].removeprefix("vizier:")
    if table not in catalogues.NAMES or float(parts["distMaxArcsec"]) > 180:
        return Reply(votable("", Table(), '<INFO name="QUERY_STATUS" value="ERROR">bad job</INFO>'), 400, "text/xml")
    _, ra_name, dec_name = catalogues.NAMES[table].required[:3]
    found = []
    for row in csv.DictReader(io.StringIO(parts["cat1"])):
        ra, dec = float(row[parts["colRA1"]]), float(row[parts["colDec1"]])
        one = catalogues.cone(sky, table, ra, dec, float(parts["distMaxArcsec"]) / 3600)
        if len(one):
            one.add_column(catalogues.apart(one[ra_name], one[dec_name], ra, dec) * 3600, 0, "angDist")
            one[parts["colRA1"]], one[parts["colDec1"]] = np.full(len(one), ra), np.full(len(one), dec)
            found.append(one)
    rows = Table() if request.empty or not found else vstack(found)
    return Reply(votable("xmatch", rows, '<INFO name="QUERY_STATUS" value="OK"/>'), content_type="text/xml")
