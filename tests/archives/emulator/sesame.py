"""Sesame: knows the fields of the sky by name, and M31."""

from __future__ import annotations

from tests.archives.emulator.server import Reply, Request
from tests.archives.emulator.sky import Sky

NAME = "sesame"
KNOWN = {"M31": (10.6847083, 41.26875)}


def answer(request: Request, sky: Sky) -> Reply:
    """Answer with a position, or that nothing was found."""
    if not request.path.startswith("/cgi-bin/nph-sesame/"):
        return Reply(b"no such page\n", 404, "text/plain")
    name = next(iter(request.query), "")
    place = (KNOWN | {one: (ra, dec) for one, ra, dec in sky.centres}).get(name)
    lines = [f"# {name}\t#Q22523722"]
    if place is None or request.empty:
        lines += ["#! *** Nothing found *** "]
    else:
        lines += [
            "#=S=Simbad (via url):    1     0ms",
            "%@ 1575544",
            "%C.0 reg",
            f"%J {place[0]:.7f} {place[1]:+.7f} = x",
        ]
    return Reply("\n".join([*lines, "#====Done (2026-Nov-23,00:00:00z)====", ""]).encode(), content_type="text/plain")
