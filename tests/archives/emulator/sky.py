"""One deterministic sky: a few fields with stars, galaxies and a rising transient each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.simulation.field import Stars, make_galaxies, make_stars
from astrid.simulation.galaxies import Galaxies, add_galaxies
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.simulation.sky import field_wcs
from astrid.simulation.transients import Transient

BANDS = ("u", "g", "r", "i", "z", "y")
SIDE = 600  # arcsec; the side of a field; sources lie a little beyond
STARS_PER_FIELD = 1100
GALAXIES_PER_FIELD = 60

# Where the fields are: within 3 degrees of each other lies nothing else, and all are away from the Galactic plane.
CENTRES = {
    "field-a": (185.7288, 15.8236),
    "field-b": (210.9107, 54.3118),
    "field-c": (151.7120, 1.6928),
    "field-d": (71.6578, -10.2264),
    "field-e": (244.0009, 22.2680),
}


@dataclass(frozen=True, eq=False)
class Field:
    """The sources of one field; galaxy radii in arcsec, fluxes in nJy by band of `BANDS`."""

    name: str
    ra: float
    dec: float
    stars: Stars
    galaxies: Galaxies
    transients: tuple[Transient, ...]


@dataclass(frozen=True)
class Sky:
    """The sky behind all services.

    Attributes
    ----------
    seed : int
        Same seed, same sky.
    rise_mjd : float
        When the transients are a week before their peaks.
    """

    seed: int = 1
    rise_mjd: float = 59025.0
    centres: tuple[tuple[str, float, float], ...] = tuple((name, *place) for name, place in CENTRES.items())

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        return tuple(self._make(number) for number in range(len(self.centres)))

    def field_at(self, ra: float, dec: float, reach_arcsec: float = 0.0) -> Field | None:
        """The field that a place is in, or within reach of."""
        for name, centre_ra, centre_dec in self.centres:
            east = (ra - centre_ra + 180) % 360 - 180
            apart = math.hypot(east * math.cos(math.radians(centre_dec)), dec - centre_dec) * 3600
            if apart < SIDE / 2 + reach_arcsec:
                return next(field for field in self.fields if field.name == name)
        return None

    def light(
        self, field: Field, wcs: WCS, shape: tuple[int, int], band: str, mjd: float, psf: MoffatPsf, scale: float
    ) -> NDArray[np.float64]:
        """Expected flux in nJy per pixel, (ny, nx), on an image with this WCS, PSF (pixels) and scale (arcsec)."""
        image = np.zeros(shape)
        number = BANDS.index(band)
        ny, nx = shape

        def inside(ra: NDArray[np.float64], dec: NDArray[np.float64], margin: float) -> tuple[NDArray[np.bool_], ...]:
            x, y = wcs.all_world2pix(ra, dec, 0)
            near = (x > -margin) & (x < nx + margin) & (y > -margin) & (y < ny + margin)
            return near, np.asarray(y)[near], np.asarray(x)[near]

        near, y, x = inside(field.stars.ra, field.stars.dec, 20)
        add_points(image, y, x, field.stars.flux[number][near], psf)
        near, y, x = inside(field.galaxies.ra, field.galaxies.dec, 30)
        galaxies = _chosen(field.galaxies, near, scale)
        if len(galaxies):
            add_galaxies(image, y, x, galaxies.flux[number], galaxies, psf)
        for event in field.transients:
            near, y, x = inside(*(np.array([v]) for v in event.position_at(mjd)), 20)
            if near.all():
                add_points(image, y, x, np.array([event.flux_at(mjd, number)]), psf)
        return np.maximum(image, 0.0)

    def events(self) -> list[dict[str, object]]:
        """Name, place and first time of each transient, for truth=FILE."""
        return [
            {"name": event.event_id, "ra": round(event.ra, 6), "dec": round(event.dec, 6), "mjd": self.rise_mjd}
            for field in self.fields
            for event in field.transients
        ]

    def _make(self, number: int) -> Field:
        name, ra, dec = self.centres[number]
        rng = np.random.default_rng([self.seed, number])
        plane = field_wcs(ra, dec, (SIDE, SIDE), 1.0)
        draw = {"n_bands": len(BANDS), "margin": 30.0}
        stars = make_stars(rng, plane, STARS_PER_FIELD, slope=0.2, brightest=13.5, faintest=22.0, **draw)
        galaxies = make_galaxies(rng, plane, GALAXIES_PER_FIELD, brightest=17.5, faintest=21.0, **draw)
        return Field(name, ra, dec, stars, galaxies, (self._event(rng, name, plane, stars),))

    def _event(self, rng: np.random.Generator, name: str, plane: WCS, stars: Stars) -> Transient:
        """A supernova 15 to 40 arcsec from the centre, away from bright stars."""
        bright = stars.flux[2] > 10 ** (0.4 * (31.4 - 19.0))
        x, y = plane.all_world2pix(stars.ra[bright], stars.dec[bright], 0)
        middle = (SIDE - 1) / 2
        while True:
            distance, angle = rng.uniform(15, 40), rng.uniform(0, 2 * math.pi)
            place = middle + distance * math.sin(angle), middle + distance * math.cos(angle)
            if np.hypot(y - place[0], x - place[1]).min(initial=np.inf) > 12:
                break
        ra, dec = plane.all_pix2world(place[1], place[0], 0)
        flux = 10 ** (0.4 * (31.4 - rng.uniform(17.0, 17.8)))
        return Transient(
            f"{name}-sn", "supernova", float(ra), float(dec), self.rise_mjd + 7, 2.5, 30.0, (flux,) * len(BANDS)
        )


def _chosen(galaxies: Galaxies, near: NDArray[np.bool_], scale: float) -> Galaxies:
    values = {key: getattr(galaxies, key)[..., near] for key in galaxies.__dataclass_fields__}
    return replace(galaxies, **values | {"radius": values["radius"] / scale})


def noisy(rng: np.random.Generator, electrons: NDArray[np.float64], read_noise: float) -> NDArray[np.float64]:
    """Draw electrons with Poisson and read noise."""
    return np.asarray(rng.poisson(electrons) + rng.normal(0.0, read_noise, electrons.shape))


def window(
    wcs: WCS, shape: tuple[int, int], ra: float, dec: float, sides: Sequence[float]
) -> tuple[slice, slice] | None:
    """Rows and columns of a cutout of ``sides`` (ny, nx) pixels about a place, clipped; None where it is off."""
    x, y = wcs.all_world2pix([ra], [dec], 0, quiet=True)
    spans = []
    for centre, side, length in zip((y[0], x[0]), sides, shape, strict=True):
        low = round(float(centre) - (side - 1) / 2)
        low, high = max(0, low), min(length, low + round(side))
        if low >= high:
            return None
        spans.append(slice(low, high))
    return spans[0], spans[1]


def moved(wcs: WCS, rows: slice, columns: slice) -> WCS:
    """The WCS of a cutout."""
    cut = wcs.deepcopy()
    cut.wcs.crpix = [wcs.wcs.crpix[0] - columns.start, wcs.wcs.crpix[1] - rows.start]
    cut.array_shape = (rows.stop - rows.start, columns.stop - columns.start)
    cut.wcs.set()
    return cut
