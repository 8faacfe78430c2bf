"""The sources of a synthetic field: stars, galaxies and the places of transients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.simulation.galaxies import Galaxies

_APART = 25.0  # pixels between transients, and from stars that saturate
_SATURATING = 16.0  # magnitude in any band
_FAINTEST_HOST = 22.5  # magnitude in the first band


@dataclass(frozen=True, eq=False)
class Stars:
    """Stars of a field: ra, dec (n,) in degrees and flux (n_bands, n) in nJy."""

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    flux: NDArray[np.float64]


def place_uniformly(rng: np.random.Generator, plane: WCS, count: int, *, margin: float) -> NDArray[np.float64]:
    """Draw (count, 2) positions (ra, dec) over the image of ``plane``, ``margin`` pixels beyond its edges."""
    ny, nx = plane.array_shape
    y = rng.uniform(-0.5 - margin, ny - 0.5 + margin, count)
    x = rng.uniform(-0.5 - margin, nx - 0.5 + margin, count)
    ra, dec = plane.pixel_to_world_values(x, y)
    return np.stack([np.asarray(ra, float), np.asarray(dec, float)], axis=1)


def draw_magnitudes(
    rng: np.random.Generator,
    count: int,
    *,
    slope: float,
    brightest: float,
    faintest: float,
) -> NDArray[np.float64]:
    """Draw magnitudes whose cumulative number grows as 10^(slope m): a power law in flux."""
    if slope <= 0 or brightest >= faintest:
        raise ValueError(f"need slope > 0 and brightest < faintest, got {slope}, {brightest}, {faintest}")
    low, high = 10 ** (slope * brightest), 10 ** (slope * faintest)
    return np.asarray(np.log10(rng.uniform(low, high, count)) / slope)


def make_stars(
    rng: np.random.Generator,
    plane: WCS,
    count: int,
    *,
    slope: float,
    brightest: float,
    faintest: float,
    n_bands: int,
    margin: float,
) -> Stars:
    """Draw stars of power-law counts; colours (magnitudes per band) scatter by 0.3 about 0.6."""
    places = place_uniformly(rng, plane, count, margin=margin)
    magnitudes = draw_magnitudes(rng, count, slope=slope, brightest=brightest, faintest=faintest)
    colour = rng.normal(0.6, 0.3, count)
    return Stars(places[:, 0], places[:, 1], _fluxes(magnitudes, colour, n_bands))


def make_galaxies(
    rng: np.random.Generator,
    plane: WCS,
    count: int,
    *,
    brightest: float,
    faintest: float,
    n_bands: int,
    margin: float,
) -> Galaxies:
    """Draw galaxies: counts of slope 0.4, half-light radii of 1 to 8 pixels, 40 % de Vaucouleurs."""
    places = place_uniformly(rng, plane, count, margin=margin)
    magnitudes = draw_magnitudes(rng, count, slope=0.4, brightest=brightest, faintest=faintest)
    return Galaxies(
        ra=places[:, 0],
        dec=places[:, 1],
        flux=_fluxes(magnitudes, rng.normal(0.7, 0.3, count), n_bands),
        radius=np.clip(2.5 * 10 ** (-0.1 * (magnitudes - 21)) * rng.lognormal(0, 0.3, count), 1.0, 8.0),
        axis_ratio=rng.uniform(0.3, 1.0, count),
        angle=rng.uniform(0, 180, count),
        is_bulge=rng.uniform(size=count) < 0.4,
    )


def place_transients(
    rng: np.random.Generator,
    plane: WCS,
    count: int,
    *,
    stars: Stars,
    galaxies: Galaxies,
    margin: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw places for transients, ``margin`` pixels inside the image of ``plane``.

    Returns
    -------
    places, hosted : (count, 2) and (at most count, 2) arrays
        (ra, dec) anywhere, and within the light of a galaxy brighter than 22.5 mag;
        all 25 pixels from each other and from saturated stars.
    """
    ny, nx = plane.array_shape
    saturated = stars.flux.max(axis=0, initial=0.0) > 10 ** (0.4 * (31.4 - _SATURATING))
    avoid = _pixels_of(plane, stars.ra[saturated], stars.dec[saturated])
    bright = np.flatnonzero(galaxies.flux[0] > 10 ** (0.4 * (31.4 - _FAINTEST_HOST)))
    offsets = rng.normal(0, 0.6, (bright.size, 2)) * galaxies.radius[bright, None]
    near = _pixels_of(plane, galaxies.ra[bright], galaxies.dec[bright]) + offsets
    hosted = _take_apart(near, avoid, (ny, nx), margin)[:count]
    drawn = rng.uniform(-0.5, np.array([ny, nx]) - 0.5, (40 * count, 2))
    places = _take_apart(drawn, np.concatenate([avoid, hosted]), (ny, nx), margin)[:count]
    if len(places) < count:
        raise ValueError(
            f"no room for {count} transients in {ny} x {nx} pixels: only {len(places)} places are {_APART:g} pixels "
            f"from each other and from bright stars and {margin:g} from the edges; ask for fewer or a larger field"
        )
    return _sky_of(plane, places), _sky_of(plane, hosted)


def _take_apart(
    places: NDArray[np.float64], avoid: NDArray[np.float64], shape: tuple[int, int], margin: float
) -> NDArray[np.float64]:
    """Return those of the (y, x) places that are inside the margin and apart from all others taken."""
    taken = [tuple(map(float, place)) for place in avoid]
    chosen = []
    for y, x in places.tolist():
        inside = margin <= y <= shape[0] - 1 - margin and margin <= x <= shape[1] - 1 - margin
        if inside and all(math.hypot(y - other_y, x - other_x) > _APART for other_y, other_x in taken):
            taken.append((y, x))
            chosen.append((y, x))
    return np.array(chosen, float).reshape(-1, 2)


def _pixels_of(plane: WCS, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = plane.world_to_pixel_values(ra, dec)
    return np.stack([np.asarray(y, float), np.asarray(x, float)], axis=-1).reshape(-1, 2)


def _sky_of(plane: WCS, places: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = plane.pixel_to_world_values(places[:, 1], places[:, 0])
    return np.stack([np.asarray(ra, float), np.asarray(dec, float)], axis=-1).reshape(-1, 2)


def _fluxes(magnitudes: NDArray[np.float64], colour: NDArray[np.float64], n_bands: int) -> NDArray[np.float64]:
    """(n_bands, n) fluxes in nJy; each band is ``colour`` magnitudes brighter than the one before."""
    steps = np.arange(n_bands)[:, None]
    return np.asarray(10 ** (0.4 * (31.4 - magnitudes[None, :] + colour[None, :] * steps)))
