"""AstrID in a notebook: plain functions on arrays and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from astrid.detection import Detections, Detector
from astrid.detection.matched_filter import MatchedFilter
from astrid.errors import AlgorithmError
from astrid.image import Difference, Exposure, Image
from astrid.imaging.preprocess import Preprocess
from astrid.imaging.psffield import with_local_psf
from astrid.skygrid import Tile, footprint_of, sky_tiles
from astrid.stores.readers import open_cube
from astrid.subtraction import Subtractor
from astrid.subtraction.alard_lupton import AlardLupton
from astrid.subtraction.direct import Direct
from astrid.subtraction.sfft import Sfft
from astrid.subtraction.zogy import Zogy
from astrid.surveys.directory import read_image

__all__ = ["detect", "open_cube", "read_pair", "subtract"]

METHODS: dict[str, type[Subtractor]] = {"zogy": Zogy, "sfft": Sfft, "alard_lupton": AlardLupton, "direct": Direct}


def read_pair(
    science: str | Path, template: str | Path, *, preprocess: Preprocess | None = None
) -> tuple[Image, Image]:
    """Read two FITS files and bring both to the pixel grid of the template.

    Parameters
    ----------
    science, template : path
        Images of one field, with or without WCS.
    preprocess : Preprocess, optional
        How; the defaults of ``astrid run`` without.

    Returns
    -------
    (science, template) : tuple of Image
        Background-subtracted, registered and scaled to the template's flux.

    Raises
    ------
    DataError
        If a file cannot be read.
    AlgorithmError
        If the two cannot be registered.
    """
    how = preprocess or Preprocess()
    first, second = read_image(template), read_image(science)
    tile = _common_tile(first, second)
    measured = how.measure(first)
    stars = how.reference_stars(measured, first.info, tile)
    made = how.cell(first, tile, stars, is_reference=True)
    return how.cell(second, tile, stars).image, made.image


def _common_tile(template: Exposure, science: Exposure) -> Tile:
    header, other = template.info.wcs_header, science.info.wcs_header
    if header is None or other is None:
        return Tile(0, template.info.shape, 0, frame="pixel")
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    footprint = footprint_of(WCS(Header.fromstring(header)), template.info.shape)
    tiles = sky_tiles([footprint], core=4 * max(template.info.shape), border=0)
    if len(tiles) != 1:
        raise AlgorithmError(f"{template.info.path}: the image does not fit one tile ({len(tiles)} needed)")
    return tiles[0]


def subtract(science: Image, template: Image, method: str | Subtractor = "zogy") -> Difference:
    """Subtract a template from a science image; the PSF of the difference varies as that of the science image.

    Parameters
    ----------
    science, template : Image
        On one pixel grid, see `read_pair`.
    method : str or Subtractor
        "zogy", "sfft", "alard_lupton", "direct", or a configured method.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"no method {method!r}; there are {', '.join(sorted(METHODS))}")
        method = METHODS[method]()
    difference = with_local_psf(method(science, template), science)
    return replace(difference, science=science, template=template)


def detect(difference: Difference, detector: Detector | None = None, *, threshold: float = 5.0) -> Detections:
    """Find candidates in a difference.

    Parameters
    ----------
    difference : Difference
        From `subtract`.
    detector : Detector, optional
        The matched filter at ``threshold`` sigma without.
    threshold : float
        In standard deviations of the score.
    """
    if not np.isfinite(threshold) or threshold <= 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    return (detector or MatchedFilter(threshold=threshold))(difference)
