"""The charts of how well detections are ranked: precision, false alarms, calibration, completeness by place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from astrid.report.charts import SHAPES, Figure
from astrid.report.svg import N_COLOURS, Chart
from astrid.report.wording import fixed, number, number_or_nan, per_cent

Said = Mapping[str, Any]
LOWEST_RATE = 0.1  # false alarms per megapixel from which the axis may begin


def draw_rankings(metrics: Said) -> list[Figure]:
    """Draw what ``curves`` and ``completeness_apart`` of ``metrics.json`` hold; nothing where they hold nothing."""
    curves: Mapping[str, Said] = metrics.get("curves") or {}
    curves = {name: one for name, one in curves.items() if one.get("score")}
    apart: Mapping[str, Said] = metrics.get("completeness_apart") or {}
    figures = [_precision_recall(curves), _false_alarms(curves), _reliability(curves), _places(apart)]
    return [figure for figure in figures if figure is not None]


def write_differences(metrics: Said) -> list[str]:
    """Write a sentence for each pair of detectors that were compared on the same images."""
    sentences = []
    for pair in metrics.get("paired") or []:
        gain, recall = pair["average_precision"], pair["recall_at_false_alarms"]
        sentences.append(
            f"{pair['detector']} against {pair['against']} on the same images: average precision "
            f"{_signed(gain)}, recall at 0.1 false alarms per 256 × 256 px {_signed(recall)}."
        )
    return sentences


def _signed(gain: Said) -> str:
    text = f"{gain['value']:+.3f}"
    if gain["low"] is None:
        return f"{text} (too few images for an interval)"
    told = "which tells them apart" if gain["low"] > 0 or gain["high"] < 0 else "which does not tell them apart"
    return f"{text} ({gain['low']:+.3f} to {gain['high']:+.3f}, {told})"


def _interval(one: Said) -> str:
    text = fixed(one["value"], 3)
    return text if one["low"] is None else f"{text} ({fixed(one['low'], 3)} to {fixed(one['high'], 3)})"


def _precision_recall(curves: Mapping[str, Said]) -> Figure | None:
    if not curves:
        return None
    chart = Chart((0.0, 1.0), (0.0, 1.05), "recall", "precision", "precision against recall")
    for i, (name, one) in enumerate(curves.items()):
        points = list(zip(one["recall"], one["precision"], strict=True))
        chart.line(points, f"line c{i % N_COLOURS}")
        tip = f"{name}: precision {per_cent(points[-1][1])} at recall {per_cent(points[-1][0])}"
        chart.mark(*points[-1], f"fill c{i % N_COLOURS}", SHAPES[i % 3], 4, tip)
    said = "; ".join(f"{name} {_interval(one['average_precision'])}" for name, one in curves.items())
    return Figure("Precision and recall", chart.render(), f"Average precision with 95 % interval: {said}.")


def _false_alarms(curves: Mapping[str, Said]) -> Figure | None:
    rates = [v for one in curves.values() for v in one["false_alarms_per_megapixel"] if v > 0]
    if not rates:
        return None
    low, high = max(LOWEST_RATE, min(rates)) * 0.8, max(*rates, 2 * LOWEST_RATE) * 1.25
    nice = [v for v in (0.1, 1, 10, 100, 1000, 10_000) if low <= v <= high]
    chart = Chart(
        (low, high), (0.0, 1.05), "false alarms per megapixel", "recall", "recall against false alarms",
        log_x=True, x_tick_values=nice or [low],
    )  # fmt: skip
    stated = next(iter(curves.values()))["false_alarms_per_256_px_square"] * 1e6 / 256**2
    if low < stated < high:
        chart.vertical(stated)
    for i, one in enumerate(curves.values()):
        pairs = zip(one["false_alarms_per_megapixel"], one["recall"], strict=True)
        points = [(max(rate, low), recall) for rate, recall in pairs]
        chart.line(points, f"line c{i % N_COLOURS}")
        chart.mark(*points[-1], f"fill c{i % N_COLOURS}", SHAPES[i % 3], 4)
    said = "; ".join(f"{name} {_interval(one['recall_at_false_alarms'])}" for name, one in curves.items())
    return Figure(
        "False alarms", chart.render(), f"Recall at {number(stated)} per megapixel, 0.1 per 256 × 256 px: {said}."
    )


def _reliability(curves: Mapping[str, Said]) -> Figure | None:
    known = {name: one for name, one in curves.items() if one.get("reliability")}
    if not known:
        return None
    chart = Chart((0.0, 1.0), (0.0, 1.05), "stated probability", "part that is real", "reliability")
    chart.line([(0.0, 0.0), (1.0, 1.0)], "guide")
    for i, name in enumerate(curves):
        if name not in known:
            continue
        bins = known[name]["reliability"]
        points = list(zip(bins["probability"], bins["real"], strict=True))
        chart.line(points, f"line c{i % N_COLOURS}")
        for (probability, real), n in zip(points, bins["n"], strict=True):
            tip = f"{name}: {per_cent(real)} of {n:,} are real where {per_cent(probability)} was said"
            chart.mark(probability, real, f"fill c{i % N_COLOURS}", SHAPES[i % 3], 4, tip)
    said = "; ".join(f"{name} {fixed(one['calibration_error'], 3)}" for name, one in known.items())
    text = f"Mean distance from the diagonal: {said}. How many are real depends on how many were injected."
    return Figure("Probability", chart.render(), text)


def _places(apart: Mapping[str, Said]) -> Figure | None:
    """Draw the part recovered against S/N by place, of the first detector."""
    if not apart:
        return None
    name, said = next(iter(apart.items()))
    lines = {}
    for place, one in (said.get("place") or {}).items():
        bins = [b for b in one["bins"] if b["fraction"] is not None]
        lines[place] = [(math.sqrt(b["snr_low"] * b["snr_high"]), b["fraction"], b["n"]) for b in bins]
    every = [point[0] for points in lines.values() for point in points]
    if not every:
        return None
    low, high = min(every) * 0.85, max(every) * 1.15
    nice = [v for v in (1, 2, 3, 5, 8, 15, 30, 50, 100, 200) if low <= v <= high]
    chart = Chart(
        (low, high), (0.0, 1.05), "injected S/N", "fraction recovered", "completeness by place",
        log_x=True, x_tick_values=nice or [min(every)],
    )  # fmt: skip
    parts = []
    for i, (place, points) in enumerate(lines.items()):
        chart.line([(snr, fraction) for snr, fraction, _ in points], f"line c{i % N_COLOURS}")
        for snr, fraction, n in points:
            tip = f"{place}: {per_cent(fraction)} of {n:,} at S/N {snr:.1f}"
            chart.mark(snr, fraction, f"fill c{i % N_COLOURS}", SHAPES[i % 3], 3.4, tip)
        half = number_or_nan(said["place"][place].get("snr_50"))
        parts.append(f"{place} ({SHAPES[i % 3]}s): " + (f"half at S/N {half:.1f}" if math.isfinite(half) else "no fit"))
    limit = number_or_nan((said.get("magnitude") or {}).get("magnitude_50"))
    faint = f" Half are found at magnitude {limit:.2f}." if math.isfinite(limit) else ""
    return Figure(f"By place: {name}", chart.render(), "; ".join(parts) + "." + faint)
