"""Targets: places on the sky with an extent, and the tiles that cover them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.skygrid import Footprint, Tile, sky_tiles

LARGEST_RADIUS = 20.0  # degrees; tangent planes are no good much beyond
_CIRCLE_POINTS = 64

_Points = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """One place to look at: a point, a cone or a polygon.

    Attributes
    ----------
    name : str
        What it is called in messages.
    ra, dec : float
        Centre, ICRS degrees.
    radius : float, optional
        Of the cone, or of the circle about a polygon, degrees; None where the survey's own cutout is meant.
    polygon : tuple of (ra, dec)
        Corners, degrees, joined by great circles; empty for points and cones.
    mjd_min, mjd_max : float, optional
        Images outside these times are not wanted.
    magnitude : float, optional
        Of what is there, where known.
    """

    name: str
    ra: float
    dec: float
    radius: float | None = None
    polygon: tuple[tuple[float, float], ...] = ()
    mjd_min: float | None = None
    mjd_max: float | None = None
    magnitude: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ra) and math.isfinite(self.dec) and -90 <= self.dec <= 90):
            raise ValueError(f"target {self.name}: position {self.ra}, {self.dec} is not on the sky")
        if self.radius is not None and not 0 < self.radius <= LARGEST_RADIUS:
            raise ValueError(
                f"target {self.name}: radius must be above 0, at most {LARGEST_RADIUS:g} degrees, got {self.radius:g}"
            )
        if self.polygon and len(self.polygon) < 3:
            raise ValueError(f"target {self.name}: a polygon needs three corners, got {len(self.polygon)}")
        if self.mjd_min is not None and self.mjd_max is not None and self.mjd_min > self.mjd_max:
            raise ValueError(f"target {self.name}: times end at MJD {self.mjd_max} before they begin, {self.mjd_min}")

    @property
    def galactic_latitude(self) -> float:
        """Galactic latitude of the centre, degrees."""
        return float(galactic_latitude(self.ra, self.dec)[0])

    def extent(self, default_radius: float) -> float:
        """Return the radius of the circle about it; ``default_radius`` (degrees) for a point."""
        return self.radius if self.radius is not None else default_radius

    def footprint(self, pixel_scale: float, default_radius: float) -> Footprint:
        """Return what tiles must cover: the polygon, or the square about the cone."""
        if self.polygon:
            ra, dec = zip(*self.polygon, strict=True)
            return Footprint(tuple(ra), tuple(dec), pixel_scale)
        reach = math.degrees(math.tan(math.radians(self.extent(default_radius))))
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * reach
        ra_, dec_ = from_plane(corners, self.ra, self.dec)
        return Footprint(tuple(ra_.tolist()), tuple(dec_.tolist()), pixel_scale)

    def outline(self, default_radius: float) -> _Points:
        """Return the (n, 2) positions (ra, dec) of its outline, a cone's a little outside of it."""
        if self.polygon:
            return np.array(self.polygon, float)
        angle = np.linspace(0, 2 * math.pi, _CIRCLE_POINTS, endpoint=False)
        reach = math.degrees(math.tan(math.radians(self.extent(default_radius)))) / math.cos(math.pi / _CIRCLE_POINTS)
        ra, dec = from_plane(reach * np.column_stack([np.cos(angle), np.sin(angle)]), self.ra, self.dec)
        return np.column_stack([ra, dec])

    def overlaps(self, tile: Tile, default_radius: float) -> bool:
        """Return whether any of it lies on a tile's core."""
        outline = self.outline(default_radius)
        reach = float(separation(tile.ra, tile.dec, self.ra, self.dec)[0])
        half = math.hypot(*tile.core) / 2 * tile.pixel_scale / 3600
        # a polygon's radius is None where it was built by hand
        around = float(separation(self.ra, self.dec, outline[:, 0], outline[:, 1]).max())
        if reach > half + around:
            return False
        height, width = (side / 2 * tile.pixel_scale / 3600 for side in tile.core)
        square = np.array([[-width, -height], [width, -height], [width, height], [-width, height]])
        return _polygons_meet(to_plane(outline[:, 0], outline[:, 1], tile.ra, tile.dec), square)


@dataclass(frozen=True)
class Targets:
    """What ``targets=`` names, in the order in which it was given."""

    rows: tuple[Target, ...]

    def __iter__(self) -> Iterator[Target]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return plain values, for a hash or a record."""
        names = ("name", "ra", "dec", "radius", "mjd_min", "mjd_max", "magnitude")
        return [
            {name: getattr(row, name) for name in names} | {"polygon": [list(corner) for corner in row.polygon]}
            for row in self.rows
        ]

    def with_radius(self, radius: float) -> Targets:
        """Return the same with ``radius`` (degrees) for those that are points."""
        return Targets(tuple(row if row.radius or row.polygon else replace(row, radius=radius) for row in self.rows))


def tiles_of(
    targets: Targets,
    *,
    pixel_scale: float,
    default_radius: float,
    core: int = 1024,
    border: int = 32,
) -> tuple[Tile, ...]:
    """Cover targets with tiles.

    Targets near each other share a tangent plane, as exposures do (`astrid.skygrid.sky_tiles`); tiles on
    which no target lies are left out. A target alone lies at the centre of its tiles.

    Parameters
    ----------
    targets : Targets
        At least one.
    pixel_scale : float
        Of the survey, arcseconds per pixel.
    default_radius : float
        Of targets that are points, degrees.
    core, border : int
        Largest side of a core and width of the border, pixels.

    Returns
    -------
    tuple of Tile
        Numbered from 0.

    Raises
    ------
    ValueError
        If there is no target, or a number makes no sense.
    """
    if not len(targets):
        raise ValueError("no target to cover with tiles")
    if not pixel_scale > 0 or not 0 < default_radius <= LARGEST_RADIUS:
        raise ValueError(
            f"pixel_scale must be positive and default_radius at most {LARGEST_RADIUS:g} degrees, "
            f"got {pixel_scale} and {default_radius}"
        )
    prints = [target.footprint(pixel_scale, default_radius) for target in targets]
    made = sky_tiles(prints, core=core, border=border, pixel_scale=pixel_scale)
    wanted = [tile for tile in made if any(target.overlaps(tile, default_radius) for target in targets)]
    return tuple(replace(tile, index=number) for number, tile in enumerate(wanted))


def targets_on(tile: Tile, targets: Targets, default_radius: float) -> Targets:
    """Return the targets of which any lies on a tile's core."""
    return Targets(tuple(target for target in targets if target.overlaps(tile, default_radius)))


def separation(ra: ArrayLike, dec: ArrayLike, ra0: ArrayLike, dec0: ArrayLike) -> _Points:
    """Return angles between positions, all in degrees."""
    a, b = np.radians(np.atleast_1d(dec).astype(float)), np.radians(np.atleast_1d(dec0).astype(float))
    step = np.radians(np.atleast_1d(ra).astype(float) - np.atleast_1d(ra0).astype(float))
    haversine = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(step / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))), float)


def galactic_latitude(ra: ArrayLike, dec: ArrayLike) -> _Points:
    """Return the galactic latitude of ICRS positions, degrees.

    The north galactic pole is that of the Hipparcos catalogue (ESA SP-1200, vol. 1, 1.5.3).
    """
    latitude = 90.0 - separation(ra, dec, 192.85948, 27.12825)
    return np.asarray(latitude, float)


def to_plane(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> _Points:
    """Return the (n, 2) tangent-plane offsets (east, north) in degrees of positions about a centre.

    Positions more than 80 degrees away are put far out in their direction.
    """
    a, d, d0 = (np.radians(np.asarray(value, float)) for value in (np.subtract(ra, ra0), dec, dec0))
    cosine = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    cosine = np.maximum(cosine, math.cos(math.radians(80)))
    east = np.cos(d) * np.sin(a) / cosine
    north = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cosine
    return np.asarray(np.degrees(np.column_stack([np.atleast_1d(east), np.atleast_1d(north)])), float)


def from_plane(offsets: _Points, ra0: float, dec0: float) -> tuple[_Points, _Points]:
    """Return (ra, dec) in degrees of (n, 2) tangent-plane offsets (east, north) in degrees."""
    east, north = np.radians(offsets).T
    d0 = math.radians(dec0)
    across = math.cos(d0) - north * math.sin(d0)
    ra = ra0 + np.degrees(np.arctan2(east, across))
    dec = np.degrees(np.arctan2(math.sin(d0) + north * math.cos(d0), np.hypot(east, across)))
    return ra % 360, dec


def _polygons_meet(one: _Points, other: _Points) -> bool:
    """Return whether two simple polygons share any point."""
    if _inside(one, other[0]) or _inside(other, one[0]):
        return True
    a, b = one, np.roll(one, -1, axis=0)
    for c, d in zip(other, np.roll(other, -1, axis=0), strict=True):
        crosses = (_side(a, b, c) * _side(a, b, d) <= 0) & (_side(c, d, a) * _side(c, d, b) <= 0)
        if crosses.any():
            return True
    return False


def _side(start: _Points, end: _Points, point: _Points) -> _Points:
    """Return on which side of a line a point lies, by sign."""
    along, to = end - start, point - start
    return np.asarray(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])


def _inside(polygon: _Points, point: Sequence[float] | _Points) -> bool:
    x, y = polygon.T
    x2, y2 = np.roll(polygon, -1, axis=0).T
    between = (y > point[1]) != (y2 > point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = x + (point[1] - y) * (x2 - x) / (y2 - y)
    return bool(np.sum(between & (cut > point[0])) % 2)
