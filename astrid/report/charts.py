"""The charts of a report: completeness, light curves, maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from scipy.interpolate import PchipInterpolator

from astrid.report.svg import N_COLOURS, Chart, padded_range
from astrid.report.wording import count, fixed, number, number_or_nan, per_cent

SHAPES = ("circle", "square", "diamond")
MAX_MAP_POINTS = 1500
MAX_TILES = 6
MAX_EPOCHS_PER_CURVE = 400

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One chart with its words."""

    title: str
    svg: Markup
    caption: str = ""


def band_order(*tables: pa.Table) -> dict[str, int]:
    """Give each band of some tables a number, from blue to red for the usual names."""
    usual = {name: i for i, name in enumerate(("u", "g", "r", "i", "z", "y"))}
    bands = {str(b) for table in tables if "band" in table.column_names for b in table["band"].to_pylist() if b}
    ordered = sorted(bands, key=lambda b: (usual.get(b[-1].lower(), 99), b))
    return {band: i for i, band in enumerate(ordered)}


def draw_completeness(curves: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Draw recall against injected S/N per detector, with intervals, fit and the 50 % point."""
    usable: dict[str, list[tuple[float, float, float, float]]] = {}
    for detector, curve in curves.items():
        columns = [[number_or_nan(v) for v in curve.get(k, ())] for k in ("snr", "fraction", "low", "high")]
        points = [p for p in zip(*columns, strict=False) if math.isfinite(p[0]) and math.isfinite(p[1]) and p[0] > 0]
        if points:
            usable[detector] = points
    if not usable:
        return None
    every_snr = [p[0] for points in usable.values() for p in points]
    low, high = min(every_snr) * 0.85, max(every_snr) * 1.15
    nice = [v for v in (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100, 200) if low <= v <= high]
    chart = Chart(
        (low, high), (0.0, 1.05), "injected S/N (flux over its true error)", "fraction recovered",
        "completeness against injected signal to noise", width=470, height=280, log_x=True,
        x_tick_values=nice or [min(every_snr)],
    )  # fmt: skip
    chart.horizontal(0.5)
    sentences = []
    for i, (detector, points) in enumerate(usable.items()):
        colour = f"c{i % N_COLOURS}"
        curve = curves[detector]
        chart.line(_smooth(curve), f"line {colour}")
        snr50 = number_or_nan(curve.get("fit_snr50"))
        if low < snr50 < high:
            chart.vertical(snr50, f"guide {colour}")
        for snr, fraction, lower, upper in points:
            shift = snr * (1 + 0.012 * i)
            if math.isfinite(lower) and math.isfinite(upper):
                chart.bar(shift, lower, upper, f"error {colour}")
            tip = f"{detector}: {per_cent(fraction)} at S/N {snr:.1f}"
            chart.mark(shift, fraction, f"fill {colour}", SHAPES[i % 3], 4, tip)
        at50 = f"half of the injections are found at S/N {snr50:.1f}" if math.isfinite(snr50) else "no fit was possible"
        sentences.append(f"{detector}: {at50}.")
    return Figure("Completeness", chart.render(), " ".join(sentences))


def _smooth(curve: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the fitted curve on a fine grid, from the values the fit was given at."""
    x = np.array([number_or_nan(v) for v in curve.get("fit_snr", curve.get("snr", ()))])
    y = np.array([number_or_nan(v) for v in curve.get("fit") or ()])
    if x.shape != y.shape:
        return []
    good = np.isfinite(x) & np.isfinite(y) & (x > 0)
    x, where = np.unique(x[good], return_index=True)
    y = y[good][where]
    if x.size < 2:
        return []
    fine = np.geomspace(x[0], x[-1], 80)
    fine[[0, -1]] = x[[0, -1]]
    smooth = PchipInterpolator(np.log(x), y)(np.log(fine))
    return [(float(a), float(b)) for a, b in zip(fine, smooth, strict=True)]


def draw_light_curve(rows: Sequence[Row], bands: Mapping[str, int], *, title: str, caption: str) -> Figure | None:
    """Draw forced fluxes of one object: detections filled, the rest hollow with their limit as a triangle."""
    points = [r for r in rows if math.isfinite(number_or_nan(r["mjd"])) and math.isfinite(number_or_nan(r["flux"]))]
    points = sorted(points, key=lambda r: (r["mjd"], str(r["band"])))
    dropped = max(0, len(points) - MAX_EPOCHS_PER_CURVE)
    if dropped:
        keep = np.unique(np.linspace(0, len(points) - 1, MAX_EPOCHS_PER_CURVE).astype(int))
        points = [points[k] for k in keep]
        caption += f" {count(dropped, 'further point')} left out."
    if not points:
        return None
    unit = next((str(r["flux_unit"]) for r in points if r["flux_unit"]), "")
    heights = [0.0]
    for r in points:
        error = number_or_nan(r["flux_error"])
        error = error if math.isfinite(error) else 0.0
        heights += [r["flux"] - error, r["flux"] + error]
        if not r["is_detection"]:
            heights.append(number_or_nan(r["flux_limit"]))
    largest = max(abs(h) for h in heights if math.isfinite(h))
    factor, unit = (1e-3, "µJy") if unit == "nJy" and largest >= 2e4 else (1.0, unit)
    bottom, top = padded_range([h * factor for h in heights])
    chart = Chart(
        padded_range([r["mjd"] for r in points], 0.05, 1e-3), (bottom, top + 0.08 * (top - bottom)),
        "MJD (UTC)", f"difference flux ({unit})" if unit else "difference flux", f"light curve of {title}",
        plain_x=True,
    )  # fmt: skip
    chart.horizontal(0.0, "zero")
    detections = [r["mjd"] for r in points if r["is_detection"]]
    if detections and min(detections) > points[0]["mjd"]:
        chart.vertical(min(detections), "guide", "first detection")
    for r in points:
        i = bands.get(str(r["band"]), 0)
        colour, shape = f"c{i % N_COLOURS}", SHAPES[i % 3]
        flux, error, limit = (number_or_nan(r[k]) * factor for k in ("flux", "flux_error", "flux_limit"))
        when = f"{r['band']}, MJD {r['mjd']:.3f}"
        tip = f"{when}: {number(flux)} ± {number(error)} {unit}"
        if r["is_detection"]:
            if math.isfinite(error):
                chart.bar(r["mjd"], flux - error, flux + error, f"error {colour}")
            chart.mark(r["mjd"], flux, f"fill {colour}", shape, title=tip)
        else:
            if math.isfinite(error):
                chart.bar(r["mjd"], flux - error, flux + error, f"error faint {colour}")
            chart.mark(r["mjd"], flux, f"hollow {colour}", "circle", 2.2, f"{tip}, no detection")
            if math.isfinite(limit):
                chart.mark(r["mjd"], limit, f"hollow {colour}", "down", 4, f"{when}: below {number(limit)} {unit}")
    return Figure(title, chart.render(), caption)


def draw_maps(candidates: pa.Table, injections: pa.Table) -> list[Figure]:
    """Draw candidates and injections on the pixel grid of the tiles that have most of them."""
    found = [r for r in candidates.to_pylist() if _has(r, "x", "y")]
    seen: dict[str, Row] = {}
    for r in injections.to_pylist():
        if _has(r, "x", "y") and (r["injection_id"] not in seen or r["recovered_by"]):
            seen[str(r["injection_id"])] = r
    by_tile: dict[int, tuple[list[Row], list[Row]]] = {}
    for r in found:
        by_tile.setdefault(int(r["tile"] or 0), ([], []))[0].append(r)
    for r in seen.values():
        by_tile.setdefault(int(r["tile"] or 0), ([], []))[1].append(r)
    busiest = sorted(by_tile, key=lambda t: (-len(by_tile[t][0]) - len(by_tile[t][1]), t))[:MAX_TILES]
    return [_draw_map(tile, *by_tile[tile]) for tile in sorted(busiest)]


def _has(row: Row, *names: str) -> bool:
    return all(math.isfinite(number_or_nan(row[name])) for name in names)


def _draw_map(tile: int, candidates: list[Row], injections: list[Row]) -> Figure:
    positions = [(float(r["x"]), float(r["y"])) for r in (*candidates, *injections)]
    low, high = min(min(p) for p in positions), max(max(p) for p in positions)
    bounds = padded_range([min(low, 0.0), high], 0.03, 10.0)
    chart = Chart(bounds, bounds, "x (pixel)", "y (pixel)", f"map of tile {tile}", width=390, height=378)
    for r in injections[:MAX_MAP_POINTS]:
        snr = f"injection, S/N {fixed(r['snr'], 1)}"
        if r["recovered_by"]:
            chart.mark(r["x"], r["y"], "hollow found", "circle", 4.5, f"{snr}, recovered")
        else:
            chart.mark(r["x"], r["y"], "hollow missed", "cross", 3, f"{snr}, missed")
    for r in candidates[:MAX_MAP_POINTS]:
        tip = f"candidate {r['candidate_id']}, S/N {fixed(r['significance'], 1)}"
        chart.mark(r["x"], r["y"], "dot", "circle", 2.4, tip)
    n_found = sum(bool(r["recovered_by"]) for r in injections)
    parts = [count(len(candidates), "candidate")]
    if injections:
        parts.append(f"{n_found:,} of {count(len(injections), 'injection')} recovered")
    sky = [(r["ra"], r["dec"]) for r in (*candidates, *injections) if _has(r, "ra", "dec")]
    if sky:
        angle = np.deg2rad([p[0] for p in sky])
        ra = math.degrees(math.atan2(float(np.sin(angle).mean()), float(np.cos(angle).mean()))) % 360
        dec = float(np.mean([p[1] for p in sky]))
        parts.append(f"Around RA {ra:.4f}, Dec {dec:+.4f} deg; north up, east left")
    if max(len(candidates), len(injections)) > MAX_MAP_POINTS:
        parts.append(f"the first {MAX_MAP_POINTS:,} of each are drawn")
    return Figure(f"Tile {tile}", chart.render(), ". ".join(parts) + ".")
