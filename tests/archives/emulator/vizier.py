"""VizieR: cones in its tables, asked by ASU lines in the body, answered by a VOTable with the columns asked for."""

from __future__ import annotations

import io
import re
from xml.sax.saxutils import escape

from astropy.table import Table

from tests.archives.emulator import catalogues
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky

NAME = "vizier"
_PLACE = re.compile(r"([0-9.]+)([+-][0-9.]+)")


def answer(request: Request, sky: Sky) -> Reply:
    """Answer a query."""
    if request.path != "/viz-bin/votable":
        return Reply(b"no such page\n", 404, "text/plain")
    said = dict(line.partition("=")[::2] for line in request.body.decode().splitlines())
    table, place = said.get("-source", ""), _PLACE.fullmatch(said.get("-c", ""))
    if table not in catalogues.NAMES or place is None:
        return Reply(votable("", Table(), f'<INFO ID="Error" name="Error" value="no table {escape(table)}"/>'))
    found = catalogues.cone(sky, table, float(place[1]), float(place[2]), float(said["-c.rd"]))
    columns = [name for name in said["-out"].split(",") if name in found.colnames]
    if said["-out.max"] != "unlimited":
        found = found[: int(said["-out.max"])]
    if request.empty or not len(found):
        found, columns = Table(), []
    return Reply(votable(table, found[columns] if columns else found), content_type="text/xml")


def votable(name: str, table: Table, more: str = "") -> bytes:
    """A VOTable as CDS writes it; one without a table where there are no rows."""
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        f'<DESCRIPTION>Emulated</DESCRIPTION>\n<INFO ID="MaxTuples" name="-out.max" value="unlimited"/>\n{more}\n'
    )
    if not table.colnames:
        return f"{head}</VOTABLE>\n".encode()
    stream = io.BytesIO()
    table.write(stream, format="votable")
    inside = re.search(rb"<TABLE.*</TABLE>", stream.getvalue(), re.DOTALL)
    if inside is None:
        raise ValueError("astropy wrote no table")
    body = inside[0].decode().replace("<TABLE>", f'<TABLE name="{name}">', 1)
    return f'{head}<RESOURCE type="results" name="{name}">\n{body}\n</RESOURCE>\n</VOTABLE>\n'.encode()
