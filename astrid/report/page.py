"""Write ``report.html``: one file, no network, readable on paper and on a telephone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from astrid.report import charts, events, quality, rankings, summary, tables
from astrid.report.data import ReportData, Stamps
from astrid.report.pictures import draw_panels
from astrid.report.svg import N_COLOURS
from astrid.report.wording import count, fixed, number, number_or_nan

MAX_STAMPS = 12
MAX_CURVES = 12
STAMP_SIDE = 96
EXAMPLE_SIDE = 384
MAX_CONFIGURATION = 100_000  # characters


@dataclass(frozen=True)
class _Picture:
    title: str
    caption: str
    panels: list[tuple[str, str]]
    has_marker: bool


def write_report(data: ReportData, path: Path) -> None:
    """Write the report of a run as one self-contained HTML file.

    The same data give the same bytes. The file is complete or not there.

    Parameters
    ----------
    data : ReportData
        What the report shows; every table may be empty.
    path : Path
        Where to write; its folder exists.
    """
    text = render_report(data)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def render_report(data: ReportData) -> str:
    """Return the report of a run as the text of one HTML page."""
    known = [] if data.events is None else [data.events.alerts]
    bands = charts.band_order(data.cells, data.light_curves, *known)
    row = summary.headline_row(data.metrics)
    figures, flags = quality.draw_quality(data.cells, bands)
    reasons, n_more_reasons = summary.collect_reasons(data.ledger)
    steps = summary.summarise_ledger(data.ledger)
    context = {
        "data": data,
        "css": Markup(_resource("style.css")),  # a file of this package
        "script": Markup(_resource("sort.js")),  # a file of this package
        "cards": summary.make_cards(row),
        "row": row,
        "verdict": summary.write_verdict(row, data.candidates.num_rows, data.objects.num_rows),
        "threshold": summary.write_threshold(row),
        "apart": summary.write_apart(row),
        "extent": summary.describe_extent(data.cells, data.ledger),
        "notes": [*data.notes, *_metric_notes(data.metrics.get("notes"))],
        "reasons": reasons,
        "n_more_reasons": n_more_reasons,
        "n_failed": sum(s["failed"] for s in steps),
        "n_skipped": sum(s["skipped"] for s in steps),
        "steps": steps,
        "metrics": tables.tabulate_metrics(data.metrics),
        "completeness": charts.draw_completeness(data.completeness),
        "detectors": list(enumerate(data.completeness)),
        "rankings": rankings.draw_rankings(data.metrics),
        "differences": rankings.write_differences(data.metrics),
        "example": _picture(data.example, cut=False) if data.example is not None else None,
        "best": [_picture(s, cut=True) for s in data.best[:MAX_STAMPS]],
        "worst": [_picture(s, cut=True) for s in data.worst[:MAX_STAMPS]],
        "streaks": tables.tabulate_streaks(data.streaks),
        "n_streaks": data.streaks.num_rows,
        "n_streak_cells": len({(r["tile"], r["epoch"], r["band"]) for r in data.streaks.to_pylist()}),
        "streak_pictures": [_picture(s, cut=False) for s in data.streak_pictures],
        "losses": tables.tabulate_losses(data.injections),
        "events": _events(data, bands),
        "curves": _light_curves(data, bands),
        "n_objects": data.objects.num_rows,
        "objects": tables.tabulate_objects(data.objects),
        "candidates": tables.tabulate_candidates(data.candidates),
        "bands": list(bands.items()),
        "shapes": charts.SHAPES,
        "n_colours": N_COLOURS,
        "quality": figures,
        "flags": flags,
        "maps": charts.draw_maps(data.candidates, data.injections),
        "n_injections": data.injections.num_rows,
        "configuration": data.configuration[:MAX_CONFIGURATION],
        "configuration_is_cut": len(data.configuration) > MAX_CONFIGURATION,
        "count": count,
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("template.html")).render(context)


def _resource(name: str) -> str:
    return resources.files("astrid.report").joinpath(name).read_text(encoding="utf-8")


def _metric_notes(notes: Any) -> list[str]:
    if not notes:
        return []
    if isinstance(notes, str):
        return [notes]
    if isinstance(notes, dict):
        return [f"{key}: {value}" for key, value in notes.items()]
    return [str(note) for note in notes]


def _picture(stamps: Stamps, *, cut: bool) -> _Picture:
    """Draw one stamp and say how large it is and which way is up."""
    ny, nx = stamps.science.shape
    if cut:
        ny, nx = min(ny, STAMP_SIDE), min(nx, STAMP_SIDE)
    size = f"{nx} × {ny} px"
    scale = number_or_nan(stamps.pixel_scale)
    if math.isfinite(scale):
        width = nx * scale
        size += f", {fixed(width / 60, 1)}′" if width >= 120 else f", {number(width, 2)}″"
        size += f" wide; {stamps.orientation}"
    else:
        size += "; y up, x right"
    caption = f"{stamps.caption.rstrip('. ')}. {size}." if stamps.caption.strip() else f"{size}."
    side = STAMP_SIDE if cut else EXAMPLE_SIDE
    return _Picture(stamps.title, caption, draw_panels(stamps, side=side, cut=cut), cut)


def _events(data: ReportData, bands: dict[str, int]) -> dict[str, Any] | None:
    """Return what the section on alerts shows, None where the survey sends none."""
    if data.events is None:
        return None
    figures, n_more = events.draw_curves(data.events, bands)
    return {
        "counts": events.tabulate_counts(data.metrics.get("alerts")),
        "pictures": [_picture(s, cut=True) for s in data.events.stamps],
        "left_out": events.left_out(data.events),
        "curves": figures,
        "n_more_curves": n_more,
        "agreement": events.tabulate_agreement(data.events.agreement),
        "verdict": events.write_agreement(data.events.agreement),
    }


def _light_curves(data: ReportData, bands: dict[str, int]) -> list[charts.Figure]:
    best = tables.best_objects(data.objects, MAX_CURVES)
    wanted: dict[str, list[Any]] = {str(o["object_id"]): [] for o in best}
    for point in data.light_curves.to_pylist():
        if str(point["object_id"]) in wanted:
            wanted[str(point["object_id"])].append(point)
    figures: Sequence[charts.Figure | None] = [
        charts.draw_light_curve(
            wanted[str(o["object_id"])],
            bands,
            title=str(o["object_id"])[:24],
            caption=f"Peak S/N {fixed(o['peak_significance'], 1)}, {count(int(o['n_candidates'] or 0), 'candidate')} "
            f"in {count(int(o['n_epochs'] or 0), 'epoch')}.",
        )
        for o in best
    ]
    return [figure for figure in figures if figure is not None]
