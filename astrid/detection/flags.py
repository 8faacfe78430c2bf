"""Name what may make a candidate an artefact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.detection.ghosts import is_on_ghost
from astrid.detection.glints import FEWEST, is_glint
from astrid.detection.sources import Sources
from astrid.image import Difference, Image
from astrid.imaging.photometry import cut_windows, equivalent_fwhm
from astrid.schema import CandidateFlag, MaskBit

CANDIDATES_AT_A_TIME = 512
WIDE = 2.0  # FWHM of the difference in which edges and saturated pixels tell
SATURATED_HALO = 5.0  # FWHM around saturated pixels that are in their star's halo
DIPOLE_RATIO = 0.4  # of the score of the other sign beside a candidate to its own
OTHER_THAN_GLINTS = CandidateFlag.STREAK | CandidateFlag.HALO | CandidateFlag.GHOST
DIPOLE_SIGMA = 4.0  # which that score must exceed too: noise beside a faint source does not


def candidate_flags(
    difference: Difference, science: Image, template: Image, sources: Sources, columns: Mapping[str, NDArray[Any]]
) -> NDArray[np.int32]:
    """Return the `CandidateFlag` bits of candidates.

    W is the FWHM of the difference.

    - STREAK: the pixel of the position is on a streak
    - COSMIC_RAY, BAD_PIXEL, TEMPLATE_HOLE: such pixels within W
    - SATURATED: saturated pixels of science or template within 2 W
    - HALO: the same within 5 W, or `Sources.is_in_halo` of the template's sources
    - EDGE: pixels without data in science or template, or the end of the image, within 2 W
    - DIPOLE: feature ``dipole`` of 0.4 or more, and four sigma or more of the other sign
    - FADING: negative
    - GHOST: `astrid.detection.ghosts.is_on_ghost`
    - GLINT: `astrid.detection.glints.is_glint`, among candidates of one sign without a source of the template within
      W, that are on no streak, halo or ghost

    Parameters
    ----------
    difference, science, template : Difference, Image, Image
        Where they were found.
    sources : Sources
        Of the template.
    columns : mapping
        ``y, x, significance, is_negative, mask_bits`` (within W) and ``dipole`` of the candidates.

    Returns
    -------
    (n,) int32 array
    """
    y, x = columns["y"], columns["x"]
    n = len(y)
    if n == 0:
        return np.zeros(0, np.int32)
    width = equivalent_fwhm(difference.psf)
    rows, columns_x = (
        np.clip(np.rint(place).astype(int), 0, size - 1)
        for place, size in zip((y, x), difference.mask.shape, strict=True)
    )
    bits = columns["mask_bits"]
    saturated = ((science.mask | template.mask) & MaskBit.SATURATED) != 0
    without_data = ((science.mask | template.mask) & MaskBit.NO_DATA) != 0
    named = {
        CandidateFlag.STREAK: (difference.mask[rows, columns_x] & MaskBit.STREAK) != 0,
        CandidateFlag.COSMIC_RAY: (bits & MaskBit.COSMIC_RAY) != 0,
        CandidateFlag.BAD_PIXEL: (bits & MaskBit.BAD) != 0,
        CandidateFlag.TEMPLATE_HOLE: (bits & MaskBit.TEMPLATE) != 0,
        CandidateFlag.SATURATED: is_beside(saturated, y, x, WIDE * width),
        CandidateFlag.HALO: is_beside(saturated, y, x, SATURATED_HALO * width) | sources.is_in_halo(y, x),
        CandidateFlag.EDGE: is_beside(without_data, y, x, WIDE * width, beyond=True),
        CandidateFlag.DIPOLE: (columns["dipole"] >= DIPOLE_RATIO)
        & (columns["dipole"] * np.abs(columns["significance"]) >= DIPOLE_SIGMA),
        CandidateFlag.FADING: columns["is_negative"],
        CandidateFlag.GHOST: is_on_ghost(difference, science, template, y, x, columns["significance"]),
    }
    flags = np.zeros(n, np.int32)
    for flag, holds in named.items():
        flags[np.asarray(holds, bool)] |= np.int32(flag)
    explained = (flags & np.int32(OTHER_THAN_GLINTS)) != 0
    for is_negative in (False, True):
        those = np.flatnonzero(~explained & (columns["is_negative"] == is_negative))
        those = those[sources.distance(y[those], x[those]) > width]
        if len(those) >= FEWEST:
            area = float(np.count_nonzero(difference.mask == 0))
            of = y[those], x[those], columns["significance"][those]
            flags[those[is_glint(*of, fwhm=width, area=area)]] |= np.int32(CandidateFlag.GLINT)
    return flags


def is_beside(
    pixels: NDArray[np.bool_], y: NDArray[np.float64], x: NDArray[np.float64], radius: float, *, beyond: bool = False
) -> NDArray[np.bool_]:
    """Whether one of the pixels lies within a radius of each position; ``beyond`` is what lies outside the image."""
    half = int(np.ceil(radius))
    offset = np.arange(-half, half + 1)
    beside = np.zeros(len(y), bool)
    if not (beyond or pixels.any()):
        return beside
    for first in range(0, len(y), CANDIDATES_AT_A_TIME):
        part = slice(first, first + CANDIDATES_AT_A_TIME)
        near = cut_windows(pixels, y[part], x[part], (2 * half + 1, 2 * half + 1), fill=beyond)
        row = offset[None, :, None] - (y[part] - np.rint(y[part]))[:, None, None]
        column = offset[None, None, :] - (x[part] - np.rint(x[part]))[:, None, None]
        beside[part] = (near & (row**2 + column**2 <= radius**2)).any(axis=(1, 2))
    return beside
