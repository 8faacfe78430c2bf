"""IRSA's image services for ZTF (IBE): searches, and addresses of files and cutouts.

https://irsa.ipac.caltech.edu/docs/program_interface/ztf_api.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astrid.archives.checks import FitsImage, IpacTable, read_ipac_table
from astrid.archives.fetch import Download, Fetcher

SERVICE = "irsa"
SEARCH = "/ibe/search/ztf/products"
DATA = "/ibe/data/ztf/products"
OFF_IMAGE = 400  # the status of a cutout that is not on the image


def search_request(
    product: str, ra: float, dec: float, *, size_deg: float, where: str = "", columns: Sequence[str] = ()
) -> Download:
    """Return the request for all images of a product that overlap a square.

    Parameters
    ----------
    product : str
        "sci" or "ref".
    ra, dec : float
        Centre of the square, ICRS degrees.
    size_deg : float
        Its side.
    where : str
        Condition in SQL.
    columns : sequence of str
        To return; they must be there.
    """
    params = [("POS", f"{ra:.6f},{dec:.6f}"), ("SIZE", f"{size_deg:.6f}"), ("INTERSECT", "OVERLAPS")]
    if where:
        params.append(("WHERE", where))
    if columns:
        params.append(("COLUMNS", ",".join(columns)))
    return Download(
        SERVICE,
        f"{SEARCH}/{product}",
        tuple(params),
        check=IpacTable(tuple(columns)),
        is_search=True,
        about={"survey": "ztf", "acknowledgement": "ztf"},
    )


def search(fetcher: Fetcher, request: Download) -> list[dict[str, str]]:
    """Return the rows that a search found, as text by column; see `Fetcher.fetch` for what it raises."""
    columns = request.check.columns if isinstance(request.check, IpacTable) else ()
    return read_ipac_table(fetcher.read(request), columns)


def science_path(row: Mapping[str, str], suffix: str) -> str:
    """Return the path of a file of a science image.

    Parameters
    ----------
    row : mapping
        With filefracday, field, filtercode, ccdid, qid of the search.
    suffix : str
        "sciimg.fits", "mskimg.fits", "sciimgdaopsfcent.fits"...

    Examples
    --------
    >>> row = {"filefracday": "20200531300000", "field": "400", "filtercode": "zg", "ccdid": "7", "qid": "1"}
    >>> science_path(row, "sciimg.fits")
    '/ibe/data/ztf/products/sci/2020/0531/300000/ztf_20200531300000_000400_zg_c07_o_q1_sciimg.fits'
    """
    day, code = row["filefracday"], row["filtercode"]
    place = f"{DATA}/sci/{day[:4]}/{day[4:8]}/{day[8:]}"
    return f"{place}/ztf_{day}_{int(row['field']):06d}_{code}_c{int(row['ccdid']):02d}_o_q{int(row['qid'])}_{suffix}"


def reference_path(row: Mapping[str, str], suffix: str) -> str:
    """Return the path of a file of a reference image; ``row`` has field, filtercode, ccdid, qid.

    Examples
    --------
    >>> reference_path({"field": "400", "filtercode": "zg", "ccdid": "7", "qid": "1"}, "refimg.fits")
    '/ibe/data/ztf/products/ref/000/field000400/zg/ccd07/q1/ztf_000400_zg_c07_q1_refimg.fits'
    """
    field, code = f"{int(row['field']):06d}", row["filtercode"]
    ccd, quadrant = f"{int(row['ccdid']):02d}", int(row["qid"])
    place = f"{DATA}/ref/{field[:3]}/field{field}/{code}/ccd{ccd}/q{quadrant}"
    return f"{place}/ztf_{field}_{code}_c{ccd}_q{quadrant}_{suffix}"


def cutout(path: str, ra: float, dec: float, size_arcsec: float, *, is_mask: bool = False, size: int | None = None,
           about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the request for a square of an image; it comes clipped where it reaches beyond.

    Parameters
    ----------
    path : str
        Of the image.
    ra, dec, size_arcsec : float
        Centre and side of the square.
    is_mask : bool
        Whether pixels are bits, of which none may be finite flux.
    size : int, optional
        Expected bytes.
    about : mapping, optional
        For the note beside the file.
    """
    return Download(
        SERVICE,
        path,
        (("center", f"{ra:.6f},{dec:.6f}"), ("size", f"{size_arcsec:g}arcsec"), ("gzip", "false")),
        check=FitsImage(ra, dec, margin_pixels=size_arcsec, may_be_blank=is_mask),
        size=size,
        nothing=(OFF_IMAGE,),
        about={"survey": "ztf", "acknowledgement": "ztf", **(about or {})},
    )


def whole_file(path: str, *, size: int | None = None, needs_wcs: bool = True, optional: bool = False) -> Download:
    """Return the request for a file as it lies at the archive."""
    return Download(
        SERVICE,
        path,
        check=FitsImage(needs_wcs=needs_wcs),
        size=size,
        whole=True,
        optional=optional,
        about={"survey": "ztf", "acknowledgement": "ztf"},
    )
