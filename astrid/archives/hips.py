"""hips2fits at CDS: cutouts of all-sky maps (HiPS), which are resampled and have no time.

https://alasky.cds.unistra.fr/hips-image-services/hips2fits
"""

from __future__ import annotations

from collections.abc import Mapping

from astrid.archives.checks import FitsImage
from astrid.archives.fetch import Download

SERVICES = ("hips2fits", "hips2fits_mirror")
CUTOUT = "/hips-image-services/hips2fits"
MAX_PIXELS = 7000  # side


def cutout(hips: str, ra: float, dec: float, size_pixels: int, size_deg: float, *, service: str = "hips2fits",
           size: int | None = None, about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the request for a square of a map, in a gnomonic projection, north up.

    Outside of the map every pixel is NaN: no coverage.

    Parameters
    ----------
    hips : str
        Identifier of the map: "CDS/P/DSS2/red".
    ra, dec : float
        Centre, ICRS degrees.
    size_pixels, size_deg : int, float
        Side.
    service : str
        Of `SERVICES`.
    size : int, optional
        Expected bytes.
    about : mapping, optional
        For the note beside the file.

    Raises
    ------
    ValueError
        If the square is too large for the service, or there is no such service.
    """
    if not 0 < size_pixels <= MAX_PIXELS:
        raise ValueError(f"size_pixels must be from 1 to {MAX_PIXELS}, got {size_pixels}")
    if service not in SERVICES:
        raise ValueError(f"service must be one of {', '.join(SERVICES)}, got {service!r}")
    params = (
        ("hips", hips), ("width", str(size_pixels)), ("height", str(size_pixels)), ("ra", f"{ra:.6f}"),
        ("dec", f"{dec:.6f}"), ("fov", f"{size_deg:.8f}"), ("projection", "TAN"), ("coordsys", "icrs"),
        ("rotation_angle", "0.0"), ("format", "fits"),
    )  # fmt: skip
    return Download(
        service,
        CUTOUT,
        params,
        check=FitsImage(ra, dec, may_be_constant=False),
        size=size,
        about={"acknowledgement": "hips2fits", **(about or {})},
    )
