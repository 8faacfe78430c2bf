"""Positions of names, from the name resolver of the CDS (SIMBAD, NED, VizieR).

https://cds.unistra.fr/cgi-bin/Sesame
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from astrid.archives.checks import Unfit, is_html
from astrid.archives.fetch import Download, Fetcher
from astrid.archives.outcomes import Corrupt, NoCoverage, Transient

SERVICE = "sesame"
PATH = "/cgi-bin/nph-sesame/SNV"
_POSITION = re.compile(r"^%J +([0-9.]+) +([+-]?[0-9.]+)\b.*$", re.MULTILINE)


def resolve(fetcher: Fetcher, name: str) -> tuple[float, float] | None:
    """Return ICRS degrees of a name; None where no database knows it.

    A position is kept for good, so that the same name is the same place; that nobody knows it is believed for
    ``archive.metadata_days``.

    Raises
    ------
    Transient, Permanent, Corrupt
        The outcomes of `astrid.archives.outcomes`.
    """
    asked = request(name)
    note = fetcher.cache.find(SERVICE, fetcher.key(asked))
    try:
        known = note is not None and note["outcome"] == "ok"
        path = fetcher.cache.path_of(note["sha256"]) if note is not None and known else fetcher.fetch(asked).path
    except NoCoverage:
        return None
    return position_in(path.read_text(encoding="utf-8", errors="replace"))


def request(name: str) -> Download:
    """Return the request for a name."""
    about = {"name": name, "acknowledgement": "sesame"}
    return Download(SERVICE, f"{PATH}?{quote(name.strip())}", check=SesameAnswer(), is_search=True, about=about)


def position_in(text: str) -> tuple[float, float] | None:
    """Return the position that an answer holds, None where it says that there is none."""
    found = _POSITION.search(text)
    return (float(found[1]), float(found[2])) if found else None


class SesameAnswer:
    """An answer that ends as it should, and knows the name or says that nobody does."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Look at it."""
        raw = path.read_bytes()
        text = raw.decode("utf-8", errors="replace")
        if not text.strip():
            raise Unfit(Corrupt, "the answer is empty")
        if is_html(raw[:1024]):
            raise Unfit(Transient, "a web page came instead of data")
        if "#====Done" not in text:
            raise Unfit(Corrupt, "the answer does not end as answers of the name service do")
        found = position_in(text)
        if found is None and "nothing found" in text.lower():
            raise Unfit(NoCoverage, "no database knows the name")
        if found is None:
            raise Unfit(Transient, f"the answer holds no position and does not say why: {text[:150]!r}")
        if not (0 <= found[0] <= 360 and -90 <= found[1] <= 90):
            raise Unfit(Corrupt, f"{found} is no position on the sky")
        return ("a position",)
