"""Neighbours on the sky: sources around positions, at the time of the position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from astrid.detection.reference import Bools, Floats, Sources

_UNSHAPED = 2.0  # arcsec: light radius that galaxies of unknown shape are ranked with
_SLOW = 0.1 / 365.25  # arcsec per day: faster sources are searched apart, as they need wider circles


@dataclass(frozen=True, eq=False)
class Positions:
    """Candidates or objects to match.

    Attributes
    ----------
    ra, dec : (n,) float arrays
        ICRS degrees.
    error : (n,) float array
        Per axis, arcsec.
    mjd : (n,) float array
        When they were there.
    """

    ra: Floats
    dec: Floats
    error: Floats
    mjd: Floats

    def __post_init__(self) -> None:
        for name in ("dec", "error", "mjd"):
            if getattr(self, name).shape != self.ra.shape:
                raise ValueError(f"positions: {name} is {getattr(self, name).shape} but ra is {self.ra.shape}")
        for name in ("ra", "dec", "mjd"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"positions: {name} must be finite; leave out what has no sky position")

    def __len__(self) -> int:
        return len(self.ra)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest source of one class to each position.

    Attributes
    ----------
    index : (n,) int array
        Row of the catalogue; -1 where none lies within the search radius.
    separation : (n,) float array
        Arcsec, at the time of the position; NaN where there is none, as all below.
    sigma : (n,) float array
        Separation over the combined error per axis.
    chance : (n,) float array
        Probability that a source of the class, as bright or brighter, lies as near by chance.
    light_radii : (n,) float array
        Separation over the light radius in that direction (galaxies of known shape).
    """

    index: NDArray[np.int64]
    separation: Floats
    sigma: Floats
    chance: Floats
    light_radii: Floats


@dataclass(frozen=True, eq=False)
class Pairs:
    """Positions and sources that lie within a radius of each other at the time of the position."""

    positions: Positions
    sources: Sources
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    separation: Floats
    angle: Floats
    error: Floats

    @classmethod
    def of(
        cls,
        positions: Positions,
        sources: Sources,
        *,
        radius: float,
        systematic: float,
        epoch_days: float | None = None,
    ) -> Pairs:
        """Find the pairs.

        Parameters
        ----------
        positions, sources
            To pair.
        radius, systematic : float
            Largest separation and error of the frames, arcsec.
        epoch_days : float, optional
            Sources hold this near to their own epoch only.
        """
        speed = np.nan_to_num(np.hypot(sources.pm_ra, sources.pm_dec))
        groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        everything = np.arange(len(positions))
        if epoch_days is not None:
            for epoch in np.unique(sources.epoch):
                near = np.flatnonzero(np.abs(positions.mjd - epoch) <= epoch_days)
                groups.append((near, np.flatnonzero(sources.epoch == epoch)))
        else:
            groups += [(everything, np.flatnonzero(speed <= _SLOW)), (everything, np.flatnonzero(speed > _SLOW))]
        found = [_near(positions, sources, *group, radius, speed) for group in groups]
        i, j = (np.concatenate([np.zeros(0, np.int64), *(pair[k] for pair in found)]) for k in (0, 1))
        vector, error = move(sources, j, positions.mjd[i])
        at = _vectors(positions.ra[i], positions.dec[i])
        separation = _arcsec(np.linalg.norm(vector - at, axis=1))
        angle = _position_angle(vector, positions.ra[i], positions.dec[i])
        combined = np.sqrt(error**2 + np.nan_to_num(positions.error[i]) ** 2 + systematic**2)
        keep = separation <= radius
        return cls(positions, sources, i[keep], j[keep], separation[keep], angle[keep], combined[keep])

    def nearest(self, chosen: Bools, *, by_light: bool = False, density_radius: float | None = None) -> Nearest:
        """Return the nearest of the chosen sources to each position.

        Parameters
        ----------
        chosen : (m,) bool array
            Which sources count.
        by_light : bool
            Rank by separation over the light radius.
        density_radius : float, optional
            Arcsec in which others are counted for the chance; NaN without.
        """
        n = len(self.positions)
        mine = np.flatnonzero(chosen[self.j])
        i, j, separation = self.i[mine], self.j[mine], self.separation[mine]
        light = light_radius(self.sources, j, self.angle[mine] + 180.0)
        scaled = separation / light
        ranked = separation if not by_light else np.where(np.isfinite(scaled), scaled, separation / _UNSHAPED)
        order = np.lexsort((j, ranked, i))
        first = order[np.r_[True, i[order][1:] != i[order][:-1]]] if len(order) else order
        made = Nearest(np.full(n, -1), *(np.full(n, np.nan) for _ in range(4)))
        at = i[first]
        made.index[at] = j[first]
        made.separation[at] = separation[first]
        made.sigma[at] = separation[first] / self.error[mine][first]
        made.light_radii[at] = scaled[first]
        reach = np.maximum(separation[first], 3 * self.error[mine][first])
        if density_radius is not None:
            made.chance[at] = self._chance(at, j[first], reach, chosen, density_radius)
        return made

    def _chance(
        self, i: NDArray[np.int64], j: NDArray[np.int64], reach: Floats, chosen: Bools, radius: float
    ) -> Floats:
        """Return the probability of a source as bright and as near, from the density of the others."""
        rows = np.flatnonzero(chosen)
        if not len(i):
            return np.zeros(0)
        tree = cKDTree(_vectors(self.sources.ra[rows], self.sources.dec[rows]))
        around = tree.query_ball_point(_vectors(self.positions.ra[i], self.positions.dec[i]), _chord(radius))
        magnitude = self.sources.magnitude
        others = np.empty(len(i))
        for k, (mine, near) in enumerate(zip(j, around, strict=True)):
            there = rows[near]
            # a source of unknown brightness counts, and is compared with all
            fainter = magnitude[there] > magnitude[mine]
            others[k] = np.sum((there != mine) & ~fainter)
        return np.asarray(-np.expm1(-others * (reach / radius) ** 2), float)


def move(sources: Sources, index: NDArray[np.int64], mjd: Floats) -> tuple[NDArray[np.float64], Floats]:
    """Return (k, 3) unit vectors of sources at the times given, and the errors of their positions then.

    Parameters
    ----------
    sources : Sources
        All of them.
    index : (k,) int array
        Which.
    mjd : (k,) float array
        When; positions without an epoch or a proper motion stay.
    """
    ra, dec = np.radians(sources.ra[index]), np.radians(sources.dec[index])
    days = mjd - sources.epoch[index]
    days = np.where(np.isfinite(days), days, 0.0)
    east = np.column_stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.column_stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    steps = [np.radians(np.nan_to_num(pm[index]) * days / 3600) for pm in (sources.pm_ra, sources.pm_dec)]
    vector = _vectors(sources.ra[index], sources.dec[index])
    vector = vector + steps[0][:, None] * east + steps[1][:, None] * north
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    return vector, np.hypot(sources.error[index], np.nan_to_num(sources.pm_error[index]) * days)


def light_radius(sources: Sources, index: NDArray[np.int64], angle: Floats) -> Floats:
    """Return the light radius of galaxies in a direction, arcsec; NaN where the shape is unknown.

    ``r = a b / sqrt((a sin phi)^2 + (b cos phi)^2)`` with phi from the major axis (Gupta et al. 2016, eq. 2).

    Parameters
    ----------
    sources : Sources
        All of them.
    index : (k,) int array
        Which.
    angle : (k,) float array
        Direction from the galaxy, degrees east of north.
    """
    a, b = sources.major[index], sources.minor[index]
    phi = np.radians(angle - sources.angle[index])
    with np.errstate(invalid="ignore", divide="ignore"):
        radius = a * b / np.sqrt((a * np.sin(phi)) ** 2 + (b * np.cos(phi)) ** 2)
        return np.asarray(np.where((a > 0) & (b > 0), radius, np.nan), float)


def _near(
    positions: Positions,
    sources: Sources,
    these: NDArray[np.int64],
    rows: NDArray[np.int64],
    radius: float,
    speed: Floats,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not len(these) or not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    epoch = sources.epoch[rows]
    moved = 0.0
    if np.isfinite(epoch).any():
        times = positions.mjd[these]
        away = max(times.max() - np.nanmin(epoch), np.nanmax(epoch) - times.min(), 0.0)
        moved = float(speed[rows].max() * away)
    tree = cKDTree(_vectors(positions.ra[these], positions.dec[these]))
    other = cKDTree(_vectors(sources.ra[rows], sources.dec[rows]))
    # a little wider, as motions are straight lines; the separation is measured afterwards
    pairs = tree.sparse_distance_matrix(other, _chord(1.001 * (radius + moved)), output_type="ndarray")
    return these[pairs["i"]], rows[pairs["j"]]


def count_near(positions: Positions, sources: Sources, radius: float) -> NDArray[np.int64]:
    """Return how many sources lie within a radius (arcsec) of each position, at their own epoch."""
    if not len(sources) or not len(positions):
        return np.zeros(len(positions), np.int64)
    tree = cKDTree(_vectors(sources.ra, sources.dec))
    at = _vectors(positions.ra, positions.dec)
    return np.asarray(tree.query_ball_point(at, _chord(radius), return_length=True), np.int64)


def _vectors(ra: Floats, dec: Floats) -> NDArray[np.float64]:
    a, d = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _chord(arcsec: float) -> float:
    return float(2 * np.sin(np.radians(min(arcsec / 3600, 180.0)) / 2))


def _arcsec(chord: Floats) -> Floats:
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))) * 3600, float)


def _position_angle(vector: NDArray[np.float64], ra: Floats, dec: Floats) -> Floats:
    """Return the direction of unit vectors from positions, degrees east of north."""
    a, d = np.radians(ra), np.radians(dec)
    east = -np.sin(a) * vector[:, 0] + np.cos(a) * vector[:, 1]
    north = -np.sin(d) * (np.cos(a) * vector[:, 0] + np.sin(a) * vector[:, 1]) + np.cos(d) * vector[:, 2]
    return np.asarray(np.degrees(np.arctan2(east, north)), float)
