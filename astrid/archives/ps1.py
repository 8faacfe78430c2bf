"""The image services of Pan-STARRS1 at MAST: which files there are at a place, and cutouts of them.

https://outerspace.stsci.edu/display/PANSTARRS/PS1+Image+Cutout+Service
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astrid.archives.checks import DelimitedTable, FitsImage
from astrid.archives.fetch import Download, Fetcher

SERVICE = "ps1"
LIST = "/cgi-bin/ps1filenames.py"
CUTOUT = "/cgi-bin/fitscut.cgi"
COLUMNS = ("projcell", "subcell", "filter", "mjd", "type", "filename")
MAX_PIXELS = 6000  # side of the largest cutout
WARP = ("warp", "warp.wt", "warp.mask")
STACK = ("stack",)


def files_request(ra: float, dec: float, *, bands: Sequence[str], types: Sequence[str]) -> Download:
    """Return the request for the files of the skycells that contain a point.

    Parameters
    ----------
    ra, dec : float
        ICRS degrees.
    bands : sequence of str
        Of g, r, i, z, y.
    types : sequence of str
        "warp", "warp.wt", "warp.mask", "stack".
    """
    params = (("ra", f"{ra:.6f}"), ("dec", f"{dec:.6f}"), ("filters", "".join(bands)), ("type", ",".join(types)))
    return Download(
        SERVICE,
        LIST,
        params,
        check=DelimitedTable(COLUMNS, delimiter=None),
        is_search=True,
        about={"survey": "ps1", "acknowledgement": "ps1"},
    )


def files(fetcher: Fetcher, request: Download) -> list[dict[str, str]]:
    """Return the rows of a list of files, as text by column; none where the sky was not covered.

    Older answers lack the column ``badflag``. See `Fetcher.fetch` for what it raises.
    """
    lines = fetcher.read(request).decode("utf-8", errors="replace").splitlines()
    names = lines[0].split()
    return [dict(zip(names, line.split(), strict=True)) for line in lines[1:]]


def cutout(filename: str, ra: float, dec: float, size_pixels: int, *, may_be_blank: bool = False,
           size: int | None = None, about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the request for a square of a file, on the file's own pixels.

    Parameters
    ----------
    filename : str
        From the list of files.
    ra, dec : float
        Centre, ICRS degrees.
    size_pixels : int
        Side, at most 6000.
    may_be_blank : bool
        Whether no pixel need be finite: cutouts of masks have NaN for 0.
    size : int, optional
        Expected bytes.
    about : mapping, optional
        For the note beside the file.

    Raises
    ------
    ValueError
        If the square is too large for the service.
    """
    if not 0 < size_pixels <= MAX_PIXELS:
        raise ValueError(f"size_pixels must be from 1 to {MAX_PIXELS}, got {size_pixels}")
    return Download(
        SERVICE,
        CUTOUT,
        (("ra", f"{ra:.6f}"), ("dec", f"{dec:.6f}"), ("size", str(size_pixels)), ("format", "fits"), ("red", filename)),
        check=FitsImage(ra, dec, margin_pixels=size_pixels, may_be_blank=may_be_blank),
        size=size,
        about={"survey": "ps1", "acknowledgement": "ps1", **(about or {})},
    )
