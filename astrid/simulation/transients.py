"""Transients of a simulated sky and their light curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["supernova", "flare", "moving"]
_KINDS: tuple[Kind, ...] = ("supernova", "supernova", "flare", "supernova", "moving")
_FAINTEST = 1e-4  # of the peak; below that the flux is zero


@dataclass(frozen=True)
class Transient:
    """One event.

    Attributes
    ----------
    event_id : str
        Unique in the field.
    kind : str
        "supernova" (rises and falls over days), "flare" (over hours) or "moving".
    ra, dec : float
        ICRS degrees at ``peak_mjd``.
    peak_mjd : float
        Time of the peak; for a moving object the time of ``ra`` and ``dec``.
    rise, fall : float
        e-folding times in days.
    peak_flux : tuple of float
        nJy in each band.
    ra_rate, dec_rate : float
        Coordinate degrees per day.
    """

    event_id: str
    kind: Kind
    ra: float
    dec: float
    peak_mjd: float
    rise: float
    fall: float
    peak_flux: tuple[float, ...]
    ra_rate: float = 0.0
    dec_rate: float = 0.0

    def flux_at(self, mjd: float, band: int) -> float:
        """Return the flux above quiescence in nJy."""
        return self.peak_flux[band] * light_curve(self.kind, mjd - self.peak_mjd, rise=self.rise, fall=self.fall)

    def position_at(self, mjd: float) -> tuple[float, float]:
        """Return (ra, dec) in degrees."""
        days = mjd - self.peak_mjd
        return (self.ra + days * self.ra_rate) % 360, self.dec + days * self.dec_rate


def light_curve(kind: Kind, days: float, *, rise: float, fall: float) -> float:
    """Return the flux relative to the peak.

    A supernova follows Bazin et al. (2009, eq. 1, shifted so that its peak is at
    zero; https://ui.adsabs.harvard.edu/abs/2009A&A...499..653B), a flare rises and
    falls exponentially, a moving object is constant.
    """
    if kind == "moving":
        return 1.0
    if not 0 < rise < fall:
        raise ValueError(f"a light curve needs 0 < rise < fall, got rise {rise} and fall {fall}")
    if kind == "flare":
        value = math.exp(max(days / rise, -50.0) if days < 0 else -days / fall)
        return value if value >= _FAINTEST else 0.0
    summit = rise * math.log(fall / rise - 1)
    ratio = _bazin(summit + days, rise, fall) / _bazin(summit, rise, fall)
    return ratio if ratio >= _FAINTEST else 0.0


def _bazin(time: float, rise: float, fall: float) -> float:
    if time < -50 * rise:
        return 0.0
    return math.exp(-time / fall) / (1 + math.exp(-time / rise))


def make_transients(
    rng: np.random.Generator,
    count: int,
    *,
    mjds: Sequence[float],
    places: NDArray[np.float64],
    hosts: NDArray[np.float64],
    magnitudes: tuple[float, float],
    n_bands: int,
) -> tuple[Transient, ...]:
    """Draw the events of a field.

    Parameters
    ----------
    rng : Generator
        Source of the random numbers.
    count : int
        Number of events: three supernovae, a flare and a moving object in every five.
    mjds : sequence of float
        Times of the epochs.
    places, hosts : (n, 2) arrays
        (ra, dec) of places in the field off galaxies, at least ``count`` of them, and on
        galaxies; every other supernova takes the next host while there is one.
    magnitudes : tuple of float
        Range of the peak AB magnitude in the first band.
    n_bands : int
        Number of bands.
    """
    first, last = min(mjds), max(mjds)
    waiting = [tuple(map(float, host)) for host in hosts]
    events = []
    for i in range(count):
        kind = _KINDS[i % len(_KINDS)]
        ra, dec = map(float, places[i])
        hosted = kind == "supernova" and i % 2 == 0 and bool(waiting)
        if hosted:
            ra, dec = waiting.pop(0)
        if kind == "supernova":
            rise, fall = rng.uniform(1.0, 2.5), rng.uniform(6.0, 15.0)
            peak = rng.uniform(first, last)
        else:
            rise, fall = rng.uniform(0.02, 0.1), rng.uniform(0.3, 1.5)
            peak = float(rng.choice(mjds)) - rng.uniform(0, 0.3) * fall
        direction, speed = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 3.0) * 24 / 3600
        moving = kind == "moving"
        colour, magnitude = rng.normal(0.2, 0.3), rng.uniform(*magnitudes)
        events.append(
            Transient(
                event_id=f"sim-{i:04d}" + ("-host" if hosted else ""),
                kind=kind,
                ra=ra,
                dec=dec,
                peak_mjd=float(peak),
                rise=float(rise),
                fall=float(fall),
                peak_flux=tuple(float(10 ** (0.4 * (31.4 - magnitude + colour * b))) for b in range(n_bands)),
                ra_rate=float(speed * math.cos(direction) / math.cos(math.radians(dec))) if moving else 0.0,
                dec_rate=float(speed * math.sin(direction)) if moving else 0.0,
            )
        )
    return tuple(events)
