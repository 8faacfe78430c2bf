"""SkyBoT: the asteroids in a cone at a time; that there is none is said in the words of an error."""

from __future__ import annotations

from astropy import units
from astropy.coordinates import Angle
from astropy.table import Table

from tests.archives.emulator import catalogues
from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky
from tests.archives.emulator.vizier import votable

NAME = "skybot"
NOTHING = '<INFO name="QUERY_STATUS" value="ERROR">No solar system object was found in the requested FOV</INFO>'


def answer(request: Request, sky: Sky) -> Reply:
    """Answer a cone search."""
    if request.path != "/webservices/skybot/api/conesearch.php":
        return Reply(b"no such page\n", 404, "text/plain")
    query = request.query
    place = float(query["-ra"]), float(query["-dec"]), float(query["-rd"])
    found = [] if request.empty else catalogues.asteroids(sky, *place, float(query["-ep"]) - 2400000.5)
    if not found:
        return Reply(votable("", Table(), NOTHING), content_type="text/xml")
    n = len(found)
    ra, dec = ([one[name] for one in found] for name in ("ra", "dec"))
    table = Table({
        "Num": [str(one["num"]) for one in found], "Name": [one["name"] for one in found],
        "RA": Angle(ra, units.deg).to_string(units.hour, sep=" ", precision=4),
        "DEC": Angle(dec, units.deg).to_string(units.deg, sep=" ", precision=3, alwayssign=True),
        "Class": ["MB>Inner"] * n, "Mv": [17.5] * n, "ErrPos": [0.1] * n,
        "dRAcosDec": [catalogues.ASTEROID_RATE[0]] * n, "dDEC": [catalogues.ASTEROID_RATE[1]] * n,
        "_RAJ2000": ra, "_DECJ2000": dec,
    })  # fmt: skip
    for name, unit in (("ErrPos", "arcsec"), ("dRAcosDec", "arcsec/h"), ("dDEC", "arcsec/h"), ("_RAJ2000", "deg")):
        table[name].unit = unit
    table["_DECJ2000"].unit = "deg"
    return Reply(votable("Skybot", table, '<INFO name="QUERY_STATUS" value="OK"/>'), content_type="text/xml")
