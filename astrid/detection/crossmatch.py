"""Which catalogued sources candidates and objects lie at, and what that says of their origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from astrid.detection.neighbours import Nearest, Pairs, Positions, count_near
from astrid.detection.reference import CATALOGUES, Bools, Kind, Sources

Status = Literal["not asked", "failed", "empty", "matched", "no match"]
CLASSES = ("star", "galaxy", "variable", "agn", "asteroid", "source")
ORIGINS = ("star", "galaxy nucleus", "galaxy offset", "hostless", "solar system")


@dataclass(frozen=True)
class MatchRule:
    """When a source lies at a candidate, and when a galaxy may be its host.

    Attributes
    ----------
    max_sigma : float
        Largest separation in combined errors per axis; 3.5 keeps 99.8 % of true pairs.
    systematic_arcsec : float
        Error of the two reference frames against each other, per axis.
    max_separation_arcsec : float
        Largest separation, however large the errors.
    nucleus_arcsec : float
        A galaxy's centre this near is its nucleus, however small the errors.
    search_arcsec : float
        Radius of the search, and how far a host of unknown shape may be.
    max_light_radii : float
        How far a host of known shape may be, in light radii along the way.
    max_chance : float
        Hosts are no hosts where a galaxy as bright is this likely to lie as near by chance.
    density_arcsec : float
        Radius in which the density of sources is counted; the rows must reach as far beyond the candidates.
    asteroid_arcsec : float
        Largest separation of an asteroid, whatever its error.
    asteroid_days : float
        Its position holds for candidates this near in time.
    """

    max_sigma: float = 3.5
    systematic_arcsec: float = 0.15
    max_separation_arcsec: float = 3.0
    nucleus_arcsec: float = 0.5
    search_arcsec: float = 30.0
    max_light_radii: float = 4.0
    max_chance: float = 0.1
    density_arcsec: float = 120.0
    asteroid_arcsec: float = 15.0
    asteroid_days: float = 0.02

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"crossmatch.{name} must be positive, got {getattr(self, name)}")
        if self.search_arcsec > self.density_arcsec:
            raise ValueError(
                f"crossmatch.search_arcsec must be at most density_arcsec, "
                f"got {self.search_arcsec} and {self.density_arcsec}"
            )

    def is_at(self, name: str, sigma: NDArray[np.float64], separation: NDArray[np.float64]) -> Bools:
        """Return where a source of a class lies at a position; NaN is nowhere.

        Parameters
        ----------
        name : str
            "star", "galaxy", "variable", "agn" or "asteroid".
        sigma, separation : (n,) arrays
            In combined errors, and in arcsec.
        """
        limit = self.asteroid_arcsec if name == "asteroid" else self.max_separation_arcsec
        with np.errstate(invalid="ignore"):
            at = sigma <= self.max_sigma
            if name == "asteroid":  # the error of an orbit is often far too small
                at |= separation <= self.max_separation_arcsec
            elif name == "galaxy":
                at |= separation <= self.nucleus_arcsec
            return np.asarray(at & (separation <= limit), bool)


@dataclass(frozen=True, eq=False)
class Matches:
    """What one catalogue says of each position.

    Attributes
    ----------
    sources : Sources
        Rows that ``nearest`` points into.
    nearest : dict
        By class: "star", "galaxy" (the most likely host), "variable", "agn", "asteroid", and "source", of any kind.
    n_near : (n,) int array
        Rows within the density radius.
    status : (n,) str array
        "matched", "no match", or "empty" where the catalogue has nothing around.
    """

    sources: Sources
    nearest: Mapping[str, Nearest]
    n_near: NDArray[np.int64]
    status: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.n_near)


def match(positions: Positions, sources: Sources, rule: MatchRule | None = None, *, is_moving: bool = False) -> Matches:
    """Find the nearest sources of each class.

    Sources are moved to the time of each position first. Hosts are ranked by separation over the light radius in
    the direction of the position (Sullivan et al. 2006, ApJ 648, 868; Gupta et al. 2016, AJ 152, 154, eq. 2), or over
    two arcsec where the shape is unknown. The chance of an unrelated source is ``1 - exp(-pi rho r^2)`` (Bloom et al.
    2002, AJ 123, 1111, eqs. 1 to 3) with the density ``rho`` of other sources of the class, as bright or brighter,
    around the position and ``r`` the separation, at least three combined errors.

    Parameters
    ----------
    positions : Positions
        What to match.
    sources : Sources
        All rows around, to the density radius beyond the positions.
    rule : MatchRule, optional
        Radii and limits.
    is_moving : bool
        Sources are asteroids: each holds near its own epoch only.

    Returns
    -------
    Matches
        In the order of ``positions``.
    """
    rule = rule or MatchRule()
    n = len(positions)
    pairs = Pairs.of(
        positions,
        sources,
        radius=rule.search_arcsec,
        systematic=rule.systematic_arcsec,
        epoch_days=rule.asteroid_days if is_moving else None,
    )
    if is_moving:
        classes: dict[str, Bools] = {"asteroid": np.ones(len(sources), bool)}
        n_near = np.full(n, len(sources))
    else:
        classes = {
            "star": sources.kind == Kind.STAR,
            "galaxy": sources.kind == Kind.GALAXY,
            "variable": sources.is_variable,
            "agn": sources.is_agn,
            "source": np.ones(len(sources), bool),
        }
        n_near = count_near(positions, sources, rule.density_arcsec)
    density = None if is_moving else rule.density_arcsec
    nearest = {
        name: pairs.nearest(chosen, by_light=name == "galaxy", density_radius=density)
        for name, chosen in classes.items()
    }
    made = Matches(sources, nearest, n_near, np.full(n, "no match", "<U9"))
    matched = np.zeros(n, bool)
    for name in nearest:
        matched |= is_host(made, rule) if name == "galaxy" else lies_at(made, name, rule)
    made.status[n_near == 0] = "empty"
    made.status[matched] = "matched"
    return made


def lies_at(matches: Matches, name: str, rule: MatchRule) -> Bools:
    """Return where the nearest source of a class lies at the position."""
    one = matches.nearest.get(name)
    if one is None:
        return np.zeros(len(matches), bool)
    return rule.is_at(name, one.sigma, one.separation)


def is_host(matches: Matches, rule: MatchRule) -> Bools:
    """Return where the most likely host is near enough, and no chance neighbour."""
    one = matches.nearest.get("galaxy")
    if one is None:
        return np.zeros(len(matches), bool)
    with np.errstate(invalid="ignore"):
        near = np.where(np.isfinite(one.light_radii), one.light_radii <= rule.max_light_radii, one.index >= 0)
        return np.asarray((near & (one.chance <= rule.max_chance)) | lies_at(matches, "galaxy", rule), bool)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one catalogue says of the origin of each position; (n,) bool arrays.

    Attributes
    ----------
    asteroid, agn, star, nucleus : array
        One of these lies there; where a star and a galaxy do, the nearer.
    host : array
        A galaxy is near enough to be its host.
    source : array
        A source of any kind lies there.
    no_galaxy : array
        The catalogue covers the place, knows galaxies, and has no host.
    """

    asteroid: Bools
    agn: Bools
    star: Bools
    nucleus: Bools
    host: Bools
    source: Bools
    no_galaxy: Bools


def evidence(matches: Matches, rule: MatchRule | None = None, *, knows_galaxies: bool) -> Evidence:
    """Return what the matches of one catalogue say of origins.

    Parameters
    ----------
    matches : Matches
        Of one catalogue.
    rule : MatchRule, optional
        Limits.
    knows_galaxies : bool
        As `astrid.detection.reference.ReferenceCatalogue` says.
    """
    rule = rule or MatchRule()
    at = {name: lies_at(matches, name, rule) for name in CLASSES}
    host = is_host(matches, rule)
    star = at["star"] | at["variable"]
    if star.any():
        first = np.fmin(matches.nearest["star"].separation, matches.nearest["variable"].separation)
        with np.errstate(invalid="ignore"):
            star &= ~(at["galaxy"] & (matches.nearest["galaxy"].separation < first))
    no_galaxy = (matches.status != "empty") & ~host & knows_galaxies
    return Evidence(at["asteroid"], at["agn"], star, at["galaxy"] & ~star, host, at["source"], no_galaxy)


def origins(said: Mapping[str, Evidence], n: int) -> list[str | None]:
    """Say where candidates come from, as far as the catalogues that answered tell.

    In this order: "solar system" at an asteroid; "galaxy nucleus" at an AGN; "star" or "galaxy nucleus" at a
    source, as the first catalogue says that knows its kind; "galaxy offset" where a host is near; "hostless" where a
    catalogue that knows galaxies has none, and no catalogue has a source of unknown kind there.

    Parameters
    ----------
    said : mapping
        ``catalogue -> Evidence`` of those that answered, named as in `astrid.detection.reference.CATALOGUES`.
    n : int
        Number of positions.

    Returns
    -------
    list of str or None
        One of `ORIGINS`; None where nobody who could tell was asked.
    """
    answered = [said[name] for name in CATALOGUES if name in said]
    origin = np.full(n, "", "<U14")

    def say(where: Bools, what: str) -> None:
        origin[where & (origin == "")] = what

    for one in answered:
        say(one.asteroid, "solar system")
    for one in answered:
        say(one.agn, "galaxy nucleus")
    for one in answered:
        say(one.star, "star")
        say(one.nucleus, "galaxy nucleus")
    for one in answered:
        say(one.host, "galaxy offset")
    unclear, alone = (
        np.any([np.zeros(n, bool), *(getattr(one, name) for one in answered)], axis=0)
        for name in ("source", "no_galaxy")
    )
    say(alone & ~unclear, "hostless")
    return [str(one) or None for one in origin]
