"""Which known events a run is judged by: the survey's, a table of the user's, or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.image import ExposureInfo
from astrid.schema import KNOWN_EVENTS
from astrid.skygrid import Tile

SURVEY = "known_events"
NONE = "none"
NEAR_DAYS = 0.5  # a measured flux holds for exposures this close in time
MOVING_ARCSEC = 2.0  # an event whose rows lie farther apart moves
MOVING_DAYS = 1 / 1440  # and is where a row says only in exposures this close in time


def events_at_exposures(events: pa.Table, exposures: Sequence[ExposureInfo], flux_unit: str) -> pa.Table:
    """Return a table of events as one row per event and exposure.

    An event without a time keeps its row and counts in every exposure, its flux unknown. One with a time
    counts from then on, and where it has several times until the last; its flux is that of
    its row nearest in time, within half a day, and else unknown. An event that moves counts only in exposures within a
    minute of a row. Bands match whatever their case.

    Parameters
    ----------
    events : pa.Table
        As the user's file says (`astrid.schema.KNOWN_EVENTS`).
    exposures : sequence of ExposureInfo
        Of the cube.
    flux_unit : str
        Of the cube; fluxes in nJy mean nothing where it is another.

    Returns
    -------
    pa.Table
        Rows of `astrid.schema.KNOWN_EVENTS`.
    """
    bands = {info.band.lower(): info.band for info in exposures}
    groups: dict[tuple[str, str | None], list[dict[str, object]]] = {}
    for row in events.to_pylist():
        band = row["band"]
        row["band"] = band if band is None or band in bands.values() else bands.get(band.lower(), band)
        groups.setdefault((row["event_id"], row["band"]), []).append(row)
    out: list[dict[str, object]] = []
    for (_, band), rows in groups.items():
        timed = [row for row in rows if row["mjd"] is not None]
        out += [{**row, "flux": None} for row in rows if row["mjd"] is None]
        if not timed:
            continue
        times = np.array([row["mjd"] for row in timed], float)
        moves = _extent_arcsec(timed) > MOVING_ARCSEC
        reach = MOVING_DAYS if moves else np.inf
        last = times.max() + NEAR_DAYS if len(set(times)) > 1 else np.inf
        # the time of a discovery may be that of the start of an exposure, or of the night
        here = [info for info in exposures if band in (None, info.band) and times.min() - NEAR_DAYS <= info.mjd <= last]
        for info in here:
            nearest = int(np.argmin(np.abs(times - info.mjd)))
            away = float(abs(times[nearest] - info.mjd))
            if away > reach:
                continue
            flux = timed[nearest]["flux"] if away <= NEAR_DAYS and flux_unit == "nJy" else None
            out.append({**timed[nearest], "band": info.band, "mjd": info.mjd, "flux": flux})
        if not here:
            out.append({**timed[0], "flux": 0.0})  # known, and seen by no exposure
    return pa.table(
        {field.name: pa.array([row[field.name] for row in out], field.type) for field in KNOWN_EVENTS},
        schema=KNOWN_EVENTS,
    )


def _extent_arcsec(rows: Sequence[dict[str, object]]) -> float:
    ra, dec = (np.array([row[name] for row in rows], float) for name in ("ra", "dec"))
    east = (ra - ra[0] + 180) % 360 - 180
    return float(np.hypot(east * np.cos(np.radians(dec)), dec - dec[0]).max() * 3600)


def near_tiles(events: pa.Table, tiles: Sequence[Tile]) -> pa.Table:
    """Return the rows of a table of events that lie on or just beside one of the tiles."""
    ra, dec = _positions(events)
    near = np.zeros(len(events), bool)
    for tile in tiles:
        if tile.frame == "sky":
            near |= _separation(ra, dec, tile.ra, tile.dec) < np.hypot(*tile.shape) * tile.pixel_scale / 3600
    return events.filter(pa.array(near))


def why_none_counts(events: pa.Table, tiles: Sequence[Tile]) -> str:
    """Say why no event of a table can count on these tiles; empty where one can."""
    sky = [tile for tile in tiles if tile.frame == "sky"]
    if not sky:
        return (
            "the images have no WCS, so events with sky positions cannot be placed on them; give the images one,"
            " for example with astrometry.net, or set truth=none"
        )
    near = _positions(near_tiles(events, sky))
    if any(tile.in_core(*tile.to_pixel(*near)).any() for tile in sky):
        return ""
    ra, dec = _positions(events)
    apart = min(float(_separation(ra, dec, tile.ra, tile.dec).min()) for tile in sky)
    return (
        f"none of {len(set(events['event_id'].to_pylist()))} events lies on the images; the nearest is {apart:.3g}"
        " degrees from the centre of a tile: check ra and dec"
    )


def _positions(events: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ra, dec = (events[name].to_numpy(zero_copy_only=False).astype(float) for name in ("ra", "dec"))
    return ra, dec


def _separation(ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: float, dec0: float) -> NDArray[np.float64]:
    a, b = np.radians(dec), np.radians(dec0)
    step = np.radians(ra - ra0)
    haversine = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(step / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))), float)
