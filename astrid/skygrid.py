"""Sky, tiles and pixels: which grid a tile has, and where an exposure lands on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

Frame = Literal["sky", "pixel"]


@dataclass(frozen=True)
class Tile:
    """A square of sky (or of detector) with one fixed pixel grid.

    Attributes
    ----------
    index : int
        Position on the tile axis of the cube.
    core : tuple of int
        (ny, nx) of the core, which is the tile's own.
    border : int
        Pixels added on each side, shared with the neighbours.
    ra, dec : float
        Centre, ICRS degrees; NaN in the pixel frame.
    pixel_scale : float
        Arcseconds per pixel; NaN in the pixel frame.
    frame : "sky" or "pixel"
        "pixel" where exposures have no WCS: the grid is the reference exposure's
        detector, extended by the border.
    cd : tuple of float, optional
        Degrees per pixel (CD1_1, CD1_2, CD2_1, CD2_2) where the grid is not north up, east left
        (alert stamps keep their own pixels).
    """

    index: int
    core: tuple[int, int]
    border: int
    ra: float = math.nan
    dec: float = math.nan
    pixel_scale: float = math.nan
    frame: Frame = "sky"
    cd: tuple[float, float, float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the whole grid, border included."""
        return self.core[0] + 2 * self.border, self.core[1] + 2 * self.border

    def wcs(self) -> WCS:
        """Return a fresh TAN WCS (astropy's is not thread safe); ValueError in the pixel frame."""
        if self.frame != "sky":
            raise ValueError(f"tile {self.index} is in the pixel frame and has no WCS")
        wcs = WCS(naxis=2)
        ny, nx = self.shape
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [(nx + 1) / 2, (ny + 1) / 2]
        if self.cd is None:
            wcs.wcs.cdelt = [-self.pixel_scale / 3600, self.pixel_scale / 3600]
        else:
            wcs.wcs.cd = np.reshape(self.cd, (2, 2))
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        wcs.array_shape = self.shape
        return wcs

    def in_core(self, y: ArrayLike, x: ArrayLike) -> NDArray[np.bool_]:
        """Return whether pixel positions belong to this tile and not to a neighbour."""
        y, x = np.asarray(y, float), np.asarray(x, float)
        low = self.border - 0.5
        inside = (y >= low) & (y < low + self.core[0]) & (x >= low) & (x < low + self.core[1])
        return np.asarray(inside, bool)

    def to_sky(self, y: ArrayLike, x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (ra, dec) in degrees of pixel positions; NaN in the pixel frame."""
        y, x = np.atleast_1d(np.asarray(y, float)), np.atleast_1d(np.asarray(x, float))
        if self.frame != "sky":
            return np.full(y.shape, np.nan), np.full(y.shape, np.nan)
        ra, dec = self.wcs().pixel_to_world_values(x, y)
        return np.asarray(ra, float), np.asarray(dec, float)

    def to_pixel(self, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (y, x) of sky positions in degrees; ValueError in the pixel frame."""
        x, y = self.wcs().world_to_pixel_values(
            np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
        )
        return np.asarray(y, float), np.asarray(x, float)


@dataclass(frozen=True)
class Footprint:
    """Where one exposure lies: corners in degrees and its pixel scale in arcsec."""

    ra: tuple[float, ...]
    dec: tuple[float, ...]
    pixel_scale: float


def footprint_of(wcs: WCS, shape: tuple[int, int]) -> Footprint:
    """Return the footprint of an image of ``shape`` (ny, nx)."""
    ny, nx = shape
    x = np.array([-0.5, nx - 0.5, nx - 0.5, -0.5])
    y = np.array([-0.5, -0.5, ny - 0.5, ny - 0.5])
    sky = wcs.pixel_to_world(x, y).icrs  # the header may be FK5, FK4 or galactic
    scale = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600
    return Footprint(tuple(map(float, sky.ra.deg)), tuple(map(float, sky.dec.deg)), scale)


def sky_tiles(
    footprints: Sequence[Footprint],
    *,
    core: int = 1024,
    border: int = 32,
    pixel_scale: float | None = None,
) -> tuple[Tile, ...]:
    """Cover the exposures with square tiles whose cores do not overlap.

    Exposures whose centres lie within a field of each other share one tangent
    plane; the cores are laid out on it side by side, centred on the field. A
    field that needs less than one core gets a core of its own size.

    Parameters
    ----------
    footprints : sequence of Footprint
        Of all exposures, any bands and times.
    core, border : int
        Largest side of a core and width of the border, in pixels.
    pixel_scale : float, optional
        Arcseconds per pixel; the median of the exposures by default.

    Returns
    -------
    tuple of Tile
        Numbered from 0, fields in order of right ascension, rows from the south.
        All tiles have the same core.
    """
    if not footprints:
        raise ValueError("no footprint to cover with tiles")
    if core < 16 or border < 0:
        raise ValueError(f"core must be at least 16 and border not negative, got {core} and {border}")
    scale = pixel_scale or float(np.median([f.pixel_scale for f in footprints]))
    layouts = [_layout(group, scale, core) for group in _fields(footprints)]
    side = max(size for _, _, size, _ in layouts)
    tiles: list[Tile] = []
    for centre, extent, _, offset in layouts:
        rows, columns = (max(1, math.ceil((length - 1) / side)) for length in extent)
        plane = _plane(centre, scale)
        for row in range(rows):
            for column in range(columns):
                y = offset[0] + (row - (rows - 1) / 2) * side
                x = offset[1] + (column - (columns - 1) / 2) * side
                ra, dec = plane.pixel_to_world_values(x, y)
                tiles.append(Tile(len(tiles), (side, side), border, float(ra), float(dec), scale))
    return tuple(tiles)


def lands_on(footprint: Footprint, tile: Tile) -> bool:
    """Return whether an exposure covers any part of a tile, border included."""
    centre = _centre([footprint])
    reach = _separation(centre, (tile.ra, tile.dec))
    corners = [_separation(centre, corner) for corner in zip(footprint.ra, footprint.dec, strict=True)]
    ny, nx = tile.shape
    half = 0.5 * math.hypot(ny, nx) * tile.pixel_scale / 3600
    if reach > half + max(corners):
        return False
    y, x = tile.to_pixel(footprint.ra, footprint.dec)
    return bool(np.nanmax(x) > -0.5 and np.nanmin(x) < nx - 0.5 and np.nanmax(y) > -0.5 and np.nanmin(y) < ny - 0.5)


def _plane(centre: tuple[float, float], scale: float) -> WCS:
    """Tangent plane with pixel (0, 0) at its centre."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = list(centre)
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    wcs.wcs.set()
    return wcs


def _vector(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _centre(footprints: Sequence[Footprint]) -> tuple[float, float]:
    total = sum(_vector(f.ra, f.dec).sum(axis=0) for f in footprints)
    x, y, z = np.asarray(total, float)
    return math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))


def _separation(a: tuple[float, float], b: tuple[float, float]) -> float:
    chord = float(np.linalg.norm(_vector(*a) - _vector(*b)))
    return math.degrees(2 * math.asin(min(1.0, chord / 2)))


def _fields(footprints: Sequence[Footprint]) -> list[list[Footprint]]:
    """Group footprints that touch each other (by circumscribed circles)."""
    centres = [_centre([f]) for f in footprints]
    radii = [
        max(_separation(c, corner) for corner in zip(f.ra, f.dec, strict=True))
        for c, f in zip(centres, footprints, strict=True)
    ]
    vectors = _vector([c[0] for c in centres], [c[1] for c in centres])
    group = list(range(len(footprints)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i in range(len(footprints)):
        chords = np.linalg.norm(vectors[i + 1 :] - vectors[i], axis=1)
        reach = 2 * np.sin(np.radians(np.minimum(radii[i] + np.array(radii[i + 1 :]), 180.0)) / 2)
        for j in np.flatnonzero(chords < reach) + i + 1:
            group[root(int(j))] = root(i)
    members: dict[int, list[Footprint]] = {}
    for i, footprint in enumerate(footprints):
        members.setdefault(root(i), []).append(footprint)
    return sorted(members.values(), key=lambda group: _centre(group))


def _layout(group: list[Footprint], scale: float, core: int) -> tuple[Any, Any, int, Any]:
    """Centre of the plane, extent in pixels (y, x), core that the field needs, offset (y, x)."""
    centre = _centre(group)
    plane = _plane(centre, scale)
    points = [plane.world_to_pixel_values(np.array(f.ra), np.array(f.dec)) for f in group]
    x = np.concatenate([p[0] for p in points])
    y = np.concatenate([p[1] for p in points])
    extent = (float(np.ptp(y)), float(np.ptp(x)))
    offset = (float(y.min() + y.max()) / 2, float(x.min() + x.max()) / 2)
    need = max(16, math.ceil(max(extent)))
    return centre, extent, min(core, need), offset
