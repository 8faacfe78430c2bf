"""Quality of every cell as small multiples, with the odd ones flagged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from astrid.report.charts import SHAPES, Figure
from astrid.report.svg import N_COLOURS, Chart, padded_range
from astrid.report.wording import number, number_or_nan

MAX_POINTS = 900
MAX_FLAGS_LISTED = 12


@dataclass(frozen=True)
class Measure:
    """One column of the cells and how far from its median it may be."""

    column: str
    title: str
    unit: str
    least: float  # smallest deviation from the median that is worth a flag, in the unit
    expected: float | None = None
    meaning: str = ""


MEASURES = (
    Measure("seeing_fwhm", "Seeing", "px FWHM", 0.5, None, "width of a star; smaller is sharper"),
    Measure("psf_error", "PSF error", "of a star", 0.02, None, "what the PSF leaves of stars it was not made from"),
    Measure("limiting_magnitude", "Depth", "mag, 5 sigma", 0.3, None, "faintest source found; larger is deeper"),
    Measure("depth_flux", "Depth", "flux, 5 sigma", 0.0, None, "flux of the faintest source found; smaller is deeper"),
    Measure("astrometric_rms", "Registration", "px rms per axis", 0.05, None, "error of alignment on held-out stars"),
    Measure("noise_correlation", "Noise correlation", "ratio", 0.1, 1.0, "measured over predicted noise; 1 is white"),
    Measure("score_width", "Score width", "sigma", 0.1, 1.0, "1 when the errors are honest"),
    Measure("flux_scale", "Flux scale", "factor", 0.1, None, "factor that matches the reference exposure"),
)


def draw_quality(cells: pa.Table, bands: Mapping[str, int]) -> tuple[list[Figure], list[str]]:
    """Draw each measure against epoch and list the cells that stand out.

    A cell stands out when it is more than five robust widths of its band, and more than a least amount that
    matters, from the median of its band.

    Returns
    -------
    list of Figure
        One per measure that has values.
    list of str
        A sentence per flagged value, the worst first.
    """
    rows = cells.to_pylist()
    figures: list[Figure] = []
    flags: list[tuple[float, str]] = []
    with_magnitudes = any(math.isfinite(number_or_nan(r["limiting_magnitude"])) for r in rows)
    for measure in MEASURES:
        if measure.column == "depth_flux" and with_magnitudes:
            continue
        usable = [r for r in rows if math.isfinite(number_or_nan(r[measure.column])) and r["epoch"] is not None]
        if not usable:
            continue
        odd = _find_odd(usable, measure)
        figures.append(_draw(usable, odd, measure, bands))
        for k, (excess, median) in odd.items():
            r = usable[k]
            where = f"tile {r['tile']}, epoch {r['epoch']}, band {r['band']}"
            values = f"{number(r[measure.column])} against a median of {number(median)} ({measure.unit})"
            flags.append((excess, f"{measure.title} of {where}: {values}."))
    flags.sort(key=lambda flag: (-flag[0], flag[1]))
    sentences = [text for _, text in flags[:MAX_FLAGS_LISTED]]
    if len(flags) > MAX_FLAGS_LISTED:
        sentences.append(f"and {len(flags) - MAX_FLAGS_LISTED:,} more.")
    return figures, sentences


def _find_odd(rows: Sequence[Mapping[str, Any]], measure: Measure) -> dict[int, tuple[float, float]]:
    """Return for each odd row how many times the allowed deviation it is off, and the median of its band."""
    odd: dict[int, tuple[float, float]] = {}
    for band in sorted({str(r["band"]) for r in rows}):
        where = [k for k, r in enumerate(rows) if str(r["band"]) == band]
        values = np.array([float(rows[k][measure.column]) for k in where])
        if values.size < 4:
            continue
        median = float(np.median(values))
        width = 1.4826 * float(np.median(np.abs(values - median)))
        allowed = max(5 * width, measure.least, 1e-3 * abs(median))
        for k, value in zip(where, values, strict=True):
            if abs(value - median) > allowed > 0:
                odd[k] = (float(abs(value - median)) / allowed, median)
    return odd


def _draw(
    rows: Sequence[Mapping[str, Any]],
    odd: Mapping[int, tuple[float, float]],
    measure: Measure,
    bands: Mapping[str, int],
) -> Figure:
    shown = set(range(len(rows)))
    if len(rows) > MAX_POINTS:
        shown = set(np.linspace(0, len(rows) - 1, MAX_POINTS).astype(int).tolist()) | set(odd)
    values = [float(r[measure.column]) for r in rows]
    spread = [measure.expected] if measure.expected is not None else []
    chart = Chart(
        padded_range([float(r["epoch"]) for r in rows], 0.04, 1.0),
        padded_range((*values, *spread), 0.12, 0.04 if measure.expected else 0.0),
        "epoch", measure.unit, f"{measure.title} against epoch", width=380, height=205, integer_x=True,
    )  # fmt: skip
    if measure.expected is not None:
        chart.horizontal(measure.expected)
    for k in sorted(shown):
        r, i = rows[k], bands.get(str(rows[k]["band"]), 0)
        tip = f"tile {r['tile']}, epoch {r['epoch']}, {r['band']}: {number(r[measure.column])} {measure.unit}"
        chart.mark(r["epoch"], values[k], f"fill c{i % N_COLOURS}", SHAPES[i % 3], 2.8, tip)
        if k in odd:
            chart.mark(r["epoch"], values[k], "flag", "circle", 7, f"{tip}, stands out")
    return Figure(measure.title, chart.render(), measure.meaning)
