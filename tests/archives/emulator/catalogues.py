"""What reference catalogues have of the sky: stars that move, galaxies, and one asteroid per field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from astrid.detection.reference import CATALOGUES, GAIA_EPOCH
from tests.archives.emulator.sky import BANDS, Field, Sky

SEEN_MJD = 59015.0  # when stars are where the images show them
LIMITS = {"I/355/gaiadr3": 20.7, "V/154/sdss16": 22.0, "II/389/ps1_dr2": 22.0, "II/328/allwise": 18.0}
NAMES = {catalogue.vizier: catalogue for catalogue in CATALOGUES.values() if catalogue.vizier}
ASTEROID_RATE = (20.0, -8.0)  # arcsec per hour, east on the sky and north
_ARCSEC = 1 / 3600


def cone(sky: Sky, table: str, ra: float, dec: float, radius_deg: float) -> Table:
    """The rows of a table of VizieR in a cone; all its columns, with units."""
    parts = []
    for field in sky.fields:
        rows = _rows(field, sky.seed, table)
        _, ra_name, dec_name = NAMES[table].required[:3]
        chosen = apart(rows[ra_name], rows[dec_name], ra, dec) < radius_deg
        if chosen.any():
            parts.append(rows[chosen])
    if not parts:
        return Table()
    found = parts[0]
    for other in parts[1:]:
        found = Table({name: np.concatenate([found[name], other[name]]) for name in found.colnames})
    for name, unit in NAMES[table].columns.items():
        if unit and name in found.colnames:
            found[name].unit = unit
    return found


def asteroids(sky: Sky, ra: float, dec: float, radius_deg: float, mjd: float) -> list[dict[str, Any]]:
    """The asteroids in a cone at a time: one per field passes its centre at noon of every day's night."""
    found = []
    for number, (_, centre_ra, centre_dec) in enumerate(sky.centres):
        hours = ((mjd - 0.3 + 0.5) % 1 - 0.5) * 24
        place_dec = centre_dec + ASTEROID_RATE[1] * hours * _ARCSEC
        place_ra = centre_ra + ASTEROID_RATE[0] * hours * _ARCSEC / math.cos(math.radians(centre_dec))
        if apart(np.array([place_ra]), np.array([place_dec]), ra, dec)[0] < radius_deg:
            found.append({"num": 1000 + number, "name": f"Emulated {number}", "ra": place_ra, "dec": place_dec})
    return found


def apart(ra: NDArray[Any], dec: NDArray[Any], ra0: float, dec0: float) -> NDArray[np.float64]:
    """Degrees between places and one place."""
    a, d, a0, d0 = np.radians(np.asarray(ra)), np.radians(np.asarray(dec)), math.radians(ra0), math.radians(dec0)
    half = np.sin((d - d0) / 2) ** 2 + np.cos(d) * math.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(half))))


def _magnitudes(flux: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    return {band: 31.4 - 2.5 * np.log10(flux[number]) for number, band in enumerate(BANDS)}


@lru_cache(maxsize=32)
def _rows(field: Field, seed: int, table: str) -> Table:
    rng = np.random.default_rng([seed, round(field.ra * 1e4)])
    stars, galaxies = field.stars, field.galaxies
    n = len(stars.ra)
    pm_ra, pm_dec = rng.normal(0, 8, n), rng.normal(0, 8, n)  # mas per year
    pm_ra[::50] += 600.0  # some nearby ones
    years = (SEEN_MJD - GAIA_EPOCH) / 365.25
    at_epoch = (
        stars.ra - pm_ra * years * 1e-3 * _ARCSEC / np.cos(np.radians(stars.dec)),
        stars.dec - pm_dec * years * 1e-3 * _ARCSEC,
    )
    star, galaxy = _magnitudes(stars.flux), _magnitudes(galaxies.flux)
    limit = LIMITS[table]
    if table == "I/355/gaiadr3":
        near = np.hypot(pm_ra, pm_dec) > 300
        rows = Table({
            "Source": 10**17 + rng.permutation(n), "RA_ICRS": at_epoch[0], "DE_ICRS": at_epoch[1],
            "e_RA_ICRS": np.full(n, 0.2), "e_DE_ICRS": np.full(n, 0.2), "Plx": np.where(near, 20.0, 1.5),
            "e_Plx": np.full(n, 0.1), "pmRA": pm_ra, "e_pmRA": np.full(n, 0.2), "pmDE": pm_dec,
            "e_pmDE": np.full(n, 0.2), "RUWE": np.ones(n), "Gmag": star["r"], "e_Gmag": np.full(n, 0.01),
            "BPmag": star["g"], "RPmag": star["i"],
            "VarFlag": np.full(n, "NOT_AVAILABLE"), "PQSO": np.zeros(n), "PGal": np.zeros(n), "PSS": np.ones(n),
        })  # fmt: skip
        return rows[star["r"] < limit]
    ra, dec = np.append(stars.ra, galaxies.ra), np.append(stars.dec, galaxies.dec)
    both = {band: np.append(star[band], galaxy[band]) for band in BANDS}
    m = len(ra)
    is_galaxy = np.arange(m) >= n
    error = np.full(m, 0.05)
    if table == "V/154/sdss16":
        rows = Table({
            "objID": 12 * 10**17 + np.arange(m), "RA_ICRS": ra, "DE_ICRS": dec, "e_RA_ICRS": error, "e_DE_ICRS": error,
            "mode": np.ones(m, int), "class": np.where(is_galaxy, 3, 6), "clean": np.ones(m, int),
            "zsp": np.where(is_galaxy & (both["r"] < 18), 0.05, np.nan),
            "spCl": np.where(is_galaxy & (both["r"] < 18), "GALAXY", ""),
        } | {f"{band}mag": both[band] for band in "ugriz"} | {f"e_{band}mag": error for band in "ugriz"})  # fmt: skip
    elif table == "II/389/ps1_dr2":
        extended = np.where(is_galaxy, 0.6, 0.0)
        rows = Table({
            "objID": 13 * 10**16 + np.arange(m), "RAJ2000": ra, "DEJ2000": dec, "e_RAJ2000": error, "e_DEJ2000": error,
            "Ns": np.full(m, 5), "Nd": np.full(m, 50),
        } | {f"{band}Kmag": both[band] - extended for band in "grizy"} | {f"{band}mag": both[band] for band in "grizy"}
          | {f"e_{band}mag": error for band in "grizy"})  # fmt: skip
    else:
        w1 = both["y"] - 1.5
        rows = Table({
            "AllWISE": [f"J{round(a * 1e5)}{round(d * 1e5):+d}" for a, d in zip(ra, dec, strict=True)],
            "RAJ2000": ra, "DEJ2000": dec, "ccf": np.full(m, "0000"), "ex": np.where(is_galaxy, 5, 0),
            "var": np.full(m, "10nn"), "qph": np.full(m, "AABU"), "pmRA": np.zeros(m), "pmDE": np.zeros(m),
        } | {f"W{k}mag": w1 - 0.1 * k for k in (1, 2, 3, 4)} | {f"e_W{k}mag": error for k in (1, 2, 3, 4)})  # fmt: skip
    brightness = both["r"] if table != "II/328/allwise" else np.asarray(rows["W1mag"])
    return rows[brightness < limit]
