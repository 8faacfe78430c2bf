"""Images as small PNGs inside the page."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.report.data import Stamps
from astrid.schema import MaskBit

LEVELS = 255  # palette entries 0..254 are values, the last is "no data"
NO_DATA_COLOUR = (176, 168, 190)
DIFFERENCE_RANGE = 6.0  # in units of the noise of the difference
SCORE_RANGE = 10.0

_Palette = NDArray[np.uint8]


def _ramp(*stops: tuple[int, int, int]) -> _Palette:
    """Return a palette that runs evenly through ``stops`` and ends with the colour of no data."""
    where = np.linspace(0, len(stops) - 1, LEVELS)
    table = np.array(stops, float)
    colours = np.column_stack([np.interp(where, np.arange(len(stops)), table[:, c]) for c in range(3)])
    return np.vstack([np.rint(colours), [NO_DATA_COLOUR]]).astype(np.uint8)


GREY = _ramp((8, 10, 16), (250, 250, 246))
DIVERGING = _ramp(
    (16, 54, 120), (62, 128, 190), (170, 204, 226), (247, 247, 245), (246, 196, 160), (206, 92, 64), (122, 18, 40)
)


def encode_png(index: NDArray[np.uint8], palette: _Palette) -> str:
    """Encode an image of palette indices as the data URI of an 8-bit PNG, first row at the top."""
    ny, nx = index.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = np.zeros((ny, nx + 1), np.uint8)  # every row starts with filter type 0
    rows[:, 1:] = index
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", nx, ny, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", palette.tobytes())
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _indices(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Turn values of 0..1 into palette indices, y upwards."""
    level = np.rint(np.clip(np.where(usable, values, 0.0), 0.0, 1.0) * (LEVELS - 1))
    return np.where(usable, level, LEVELS).astype(np.uint8)[::-1]


def robust_centre_and_width(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and scaled median absolute deviation of finite values; (0, 1) where there are none."""
    if values.size == 0:
        return 0.0, 1.0
    centre = float(np.median(values))
    width = 1.4826 * float(np.median(np.abs(values - centre)))
    if width <= 0:
        width = float(np.std(values))
    return centre, width if width > 0 else 1.0


def shrink(image: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Average blocks of pixels until no side is longer than ``side``; NaN only where a whole block is."""
    step = -(-max(image.shape) // side)
    if step <= 1:
        return image
    padded = np.pad(image, [(0, -n % step) for n in image.shape], constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    good = np.isfinite(blocks)
    n_good = good.sum(axis=(1, 3))
    total = np.where(good, blocks, 0.0).sum(axis=(1, 3))
    return np.where(n_good > 0, total / np.maximum(n_good, 1), np.nan)


def cut_centre(image: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Cut the central square of at most ``side`` pixels."""
    starts = [max(0, (n - side) // 2) for n in image.shape]
    return image[starts[0] : starts[0] + side, starts[1] : starts[1] + side]


def upright(image: NDArray[Any], cd: Sequence[float] | None) -> NDArray[Any]:
    """Mirror or transpose an image so that, drawn y upwards, north is up and east left as nearly as it can be.

    Parameters
    ----------
    image : (ny, nx) array
        To be turned.
    cd : sequence of float or None
        CD1_1, CD1_2, CD2_1, CD2_2 of its pixels; None where it is upright already.
    """
    if cd is None:
        return image
    swap, rows, columns, _ = _turns(cd)
    turned = image.T if swap else image
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def orientation(cd: Sequence[float] | None) -> str:
    """Say which way is up in an image turned by `upright`.

    Examples
    --------
    >>> orientation([-1, 0, 0, -1])
    'north up, east left'
    """
    angle = 0 if cd is None else round(_turns(cd)[3])
    return "north up, east left" if abs(angle) < 2 else f"north {abs(angle)}° {'left' if angle > 0 else 'right'} of up"


def _turns(cd: Sequence[float]) -> tuple[bool, bool, bool, float]:
    """Return whether to transpose, to reverse rows and columns, and how far north is to the left of up then."""
    a, b, c, d = (float(value) for value in cd)
    swap = abs(c) > abs(d) * (1 + 1e-6)
    if swap:
        a, b, c, d = b, a, d, c
    rows = d < 0
    if rows:
        b, d = -b, -d
    columns = a > 0
    if columns:
        a, c = -a, -c
    return swap, rows, columns, math.degrees(math.atan2(-c, d))


def draw_panels(stamps: Stamps, *, side: int, cut: bool) -> list[tuple[str, str]]:
    """Draw the four pictures of a stamp, more where there are streaks or the survey's own difference.

    Science and template share one asinh stretch, from two widths below the background to the 99.7th percentile; the
    difference is shown in units of its own noise, the survey's on the same scale less its median, the score
    from -10 to 10. Pixels without data get a colour of their own, and so do those on streaks in a second picture
    of the difference.

    Parameters
    ----------
    stamps : Stamps
        What to draw.
    side : int
        Longest side of a picture in pixels.
    cut : bool
        Whether a larger stamp is cut around its centre or averaged in blocks.

    Returns
    -------
    list of (str, str)
        Name and data URI of each picture.
    """
    without_data = (stamps.mask & int(MaskBit.NO_DATA)) != 0

    def prepare(image: NDArray[np.float32]) -> NDArray[np.float64]:
        clean = np.where(without_data | ~np.isfinite(image), np.nan, image.astype(np.float64))
        return cut_centre(clean, side) if cut else shrink(clean, side)

    science, template = prepare(stamps.science), prepare(stamps.template)
    difference, score = prepare(stamps.difference), prepare(stamps.significance)
    both = np.concatenate([science[np.isfinite(science)], template[np.isfinite(template)]])
    centre, width = robust_centre_and_width(both)
    top = max(float(np.percentile(both, 99.7)) if both.size else 0.0, centre + 5 * width)
    low, high = np.arcsinh(-2.0), np.arcsinh((top - centre) / width)
    _, noise = robust_centre_and_width(difference[np.isfinite(difference)])

    def grey(image: NDArray[np.float64]) -> str:
        usable = np.isfinite(image)
        values = (np.arcsinh((np.where(usable, image, centre) - centre) / width) - low) / (high - low)
        return encode_png(_indices(values, usable), GREY)

    def diverging(image: NDArray[np.float64], reach: float) -> str:
        usable = np.isfinite(image)
        return encode_png(_indices(0.5 + np.where(usable, image, 0.0) / (2 * reach), usable), DIVERGING)

    panels = [
        ("science", grey(science)),
        ("template", grey(template)),
        ("difference", diverging(difference, DIFFERENCE_RANGE * noise)),
        ("score", diverging(score, SCORE_RANGE)),
    ]
    streak = (stamps.mask & int(MaskBit.STREAK)) != 0
    if streak.any():
        without_streaks = prepare(np.where(streak, np.nan, stamps.difference))
        panels.insert(3, ("without streaks", diverging(without_streaks, DIFFERENCE_RANGE * noise)))
    if stamps.survey_difference is not None:
        theirs = prepare(stamps.survey_difference)
        theirs = theirs - robust_centre_and_width(theirs[np.isfinite(theirs)])[0]
        panels.insert(3, ("survey's", diverging(theirs, DIFFERENCE_RANGE * noise)))
    return panels
