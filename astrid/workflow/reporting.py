"""Report: gather what a run found and measured, and draw it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astrid.errors import AstridError
from astrid.imaging.photometry import limiting_magnitude
from astrid.report import ReportData, Stamps, write_report
from astrid.report.pictures import orientation, upright
from astrid.schema import CANDIDATES, CELLS, INJECTIONS, LIGHT_CURVES, OBJECTS, STREAKS
from astrid.stores.journal import Journal
from astrid.stores.tables import read_json, read_table, table_of, write_table
from astrid.workflow.archive_catalogues import ArchiveCatalogues
from astrid.workflow.event_pictures import cut_out, gather_events
from astrid.workflow.images import GROUP, Differences, observed
from astrid.workflow.keys import Cell
from astrid.workflow.preprocess import read_tiles
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Settings
from astrid.workflow.subtract import difference_group, differences_of
from astrid.workflow.verdicts import read_verdicts

GALLERY = 12
STAMP_RADIUS = 20
EXAMPLE_SIDE = 320
STREAK_PICTURES = 2
PACKAGES = ("astrid", "numpy", "scipy", "astropy", "sep", "reproject", "dask", "xarray", "zarr", "icechunk")


def report(settings: Settings, runner: Runner, ledger: pa.Table) -> None:
    """Write ``cells.parquet`` and ``report.html`` of a run."""
    runner.progress.start("report", 1)
    folder = settings.run_folder
    candidates = read_table(folder / "candidates.parquet", CANDIDATES)
    streaks = read_table(folder / "streaks.parquet", STREAKS)
    metrics = read_json(folder / "metrics.json")
    journal = Journal(folder / "journal" / f"evaluate-{settings.evaluation_key}")
    verdicts, counts = read_verdicts(settings, journal)
    cells = cell_table(settings, candidates, counts)
    write_table(folder / "cells.parquet", cells, CELLS)
    pictures = Pictures(settings)
    false, true = split(candidates, verdicts, settings.detection.name)
    data = ReportData(
        name=settings.name,
        survey=settings.survey.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=metrics,
        completeness=curves_of(metrics),
        candidates=candidates,
        objects=read_table(folder / "objects.parquet", OBJECTS),
        streaks=streaks,
        light_curves=read_table(folder / "light_curves.parquet", LIGHT_CURVES),
        injections=read_table(folder / "injections.parquet", INJECTIONS),
        cells=cells,
        ledger=ledger,
        best=pictures.gallery(true, is_false_alarm=False),
        worst=pictures.gallery(false, is_false_alarm=True),
        streak_pictures=pictures.with_streaks(streaks),
        configuration=settings.yaml,
        versions=versions(),
        notes=notes_of(settings),
        acknowledgement=acknowledgement_of(settings),
        example=pictures.example(cells),
        events=gather_events(settings, pictures, pictures.differences),
    )
    write_report(data, folder / "report.html")
    runner.progress.finish("report")


def acknowledgement_of(settings: Settings) -> str:
    """Return what users of a run's data and catalogues must cite."""
    texts = [settings.survey.acknowledgement]
    if isinstance(settings.catalogues, ArchiveCatalogues):
        texts.append(settings.catalogues.acknowledgement)
    return " ".join(text for text in texts if text)


def split(candidates: pa.Table, verdicts: pa.Table, detector: str) -> tuple[pa.Table, pa.Table]:
    """Return false alarms and the others, most significant first."""
    false = verdicts.filter(pc.and_(pc.equal(verdicts["detector"], detector), pc.equal(verdicts["verdict"], "false")))
    is_false = pc.is_in(candidates["candidate_id"], value_set=false["candidate_id"])
    ranked = candidates.append_column("_rank", pc.abs(candidates["significance"]))
    order = [("_rank", "descending"), ("candidate_id", "ascending")]
    return tuple(ranked.filter(keep).sort_by(order).drop(["_rank"]) for keep in (is_false, pc.invert(is_false)))


def curves_of(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return completeness curves the way the report draws them."""
    drawn = {}
    for detector, curve in (metrics.get("completeness") or {}).items():
        bins = [one for one in curve["bins"] if one["fraction"] is not None]
        snr = [float(np.sqrt(one["snr_low"] * one["snr_high"])) for one in bins]
        drawn[detector] = {
            "snr": snr,
            "fraction": [one["fraction"] for one in bins],
            "low": [one["interval"][0] for one in bins],
            "high": [one["interval"][1] for one in bins],
            "fit_snr50": curve["snr_50"],
        }
        if curve["snr_50"] and snr:
            grid = np.geomspace(bins[0]["snr_low"], bins[-1]["snr_high"], 60)
            step = (np.log(grid) - np.log(curve["snr_50"])) / curve["width"]
            drawn[detector]["fit_snr"] = grid.tolist()
            drawn[detector]["fit"] = (curve["plateau"] / (1 + np.exp(-step))).tolist()
    return drawn


def cell_table(settings: Settings, candidates: pa.Table, counts: pa.Table) -> pa.Table:
    """Return the quality of every cell of the run."""
    layout = settings.cube_store.layout(GROUP)
    reader = settings.cube_store.reader()
    cube, difference = reader.numbers(GROUP), reader.numbers(difference_group(settings))
    n_false = {
        (c["tile"], c["epoch"], c["band"]): c["n_false"]
        for c in counts.to_pylist()
        if c["detector"] == settings.detection.name
    }
    grouped = candidates.group_by(["tile", "epoch", "band"]).aggregate([("candidate_id", "count")]).to_pylist()
    n_candidates = {(row["tile"], row["epoch"], row["band"]): row["candidate_id_count"] for row in grouped}
    rows = []
    for cell in observed(reader, layout.bands):
        values = {name: cube[name][cell.index] for name in CELLS.names if name in cube}
        values.update(
            {
                name: difference[name][cell.index]
                for name in ("template_id", "score_width", "noise_correction", "depth_flux")
            }
        )
        depth, zero_point = float(values["depth_flux"]), float(cube["zero_point"][cell.index])
        place = (cell.tile, cell.epoch, cell.band)
        rows.append(
            {
                **{name: _plain(value) for name, value in values.items()},
                "tile": cell.tile,
                "epoch": cell.epoch,
                "band": cell.band,
                "limiting_magnitude": float(limiting_magnitude(np.array([depth]), zero_point)[0]),
                "n_candidates": n_candidates.get(place, 0),
                "n_false_alarms": n_false.get(place),
            }
        )
    return table_of(rows, CELLS)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


class Pictures:
    """Cuts stamps out of a run's images; keeps the last cell at hand."""

    def __init__(self, settings: Settings) -> None:
        self.differences: Differences = differences_of(settings)
        self.tiles = read_tiles(settings.cube_folder)
        self.bands = settings.cube_store.layout(GROUP).bands
        self._last: tuple[Cell, dict[str, NDArray[Any]]] | None = None

    def layers(self, cell: Cell) -> dict[str, NDArray[Any]]:
        """Return science, template, difference, significance and mask of a cell."""
        if self._last is None or self._last[0] != cell:
            science, template, _ = self.differences.inputs(cell)
            difference = self.differences.of(cell, science, template)
            self._last = (
                cell,
                {
                    "science": science.flux,
                    "template": template.flux,
                    "difference": difference.flux,
                    "significance": difference.significance,
                    "mask": difference.mask,
                },
            )
        return self._last[1]

    def gallery(self, candidates: pa.Table, *, is_false_alarm: bool) -> tuple[Stamps, ...]:
        """Return stamps of the first candidates, one per object."""
        shown: list[dict[str, Any]] = []
        seen: set[str] = set()
        for row in candidates.to_pylist():
            if len(shown) == GALLERY:
                break
            if row["object_id"] in seen:
                continue
            seen.add(row["object_id"])
            shown.append(row)
        rows = sorted(enumerate(shown), key=lambda pair: (pair[1]["tile"], pair[1]["band"], pair[1]["epoch"]))
        made = {place: self._stamps(row, is_false_alarm) for place, row in rows}
        return tuple(made[place] for place in sorted(made))

    def _stamps(self, row: Mapping[str, Any], is_false_alarm: bool) -> Stamps:
        cell = Cell(row["tile"], row["epoch"], self.bands.index(row["band"]), row["band"])
        tile = self.tiles[cell.tile]
        cut = {
            name: upright(cut_out(layer, row["y"], row["x"], STAMP_RADIUS), tile.cd)
            for name, layer in self.layers(cell).items()
        }
        sky = f"RA {row['ra']:.5f}, Dec {row['dec']:+.5f}" if np.isfinite(row["ra"]) else "no sky position"
        return Stamps(
            title=f"{row['significance']:+.1f} σ · {cell}",
            caption=f"{row['flux']:.4g} ± {row['flux_error']:.2g} {row['flux_unit']} at y {row['y']:.1f}, "
            f"x {row['x']:.1f} · {sky} · {row['candidate_id']}",
            is_false_alarm=is_false_alarm,
            pixel_scale=tile.pixel_scale,
            orientation=orientation(tile.cd),
            **cut,
        )

    def example(self, cells: pa.Table) -> Stamps | None:
        """Return a wide view of the cell with the most candidates."""
        if not len(cells):
            return None
        for row in cells.sort_by([("n_candidates", "descending")]).to_pylist():
            cell = Cell(row["tile"], row["epoch"], self.bands.index(row["band"]), row["band"])
            try:
                layers = self.layers(cell)
            except AstridError:
                continue
            ny, nx = layers["science"].shape
            half = min(EXAMPLE_SIDE, ny, nx) // 2
            middle = {
                name: layer[ny // 2 - half : ny // 2 + half, nx // 2 - half : nx // 2 + half]
                for name, layer in layers.items()
            }
            caption = f"the middle of the cell with the most candidates ({row['n_candidates']})"
            return self._wide(cell, middle, caption)
        return None

    def with_streaks(self, streaks: pa.Table) -> tuple[Stamps, ...]:
        """Return wide views of the cells with the most significant streaks."""
        ranked = streaks.append_column("_rank", pc.abs(streaks["significance"]))
        rows = ranked.sort_by([("_rank", "descending"), ("streak_id", "ascending")]).to_pylist()
        found = Counter(Cell(r["tile"], r["epoch"], self.bands.index(r["band"]), r["band"]) for r in rows)
        return tuple(
            self._wide(cell, self.layers(cell), f"{n} {'streak' if n == 1 else 'streaks'} in the whole cell")
            for cell, n in list(found.items())[:STREAK_PICTURES]
        )

    def _wide(self, cell: Cell, layers: Mapping[str, NDArray[Any]], caption: str) -> Stamps:
        tile = self.tiles[cell.tile]
        return Stamps(
            title=f"{cell}",
            caption=caption,
            is_false_alarm=False,
            pixel_scale=tile.pixel_scale,
            orientation=orientation(tile.cd),
            **{name: upright(layer, tile.cd) for name, layer in layers.items()},
        )


def versions() -> dict[str, str]:
    """Return the versions of what computed the results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def notes_of(settings: Settings) -> tuple[str, ...]:
    """Return what a reader must know before trusting the numbers, besides the notes of the metrics."""
    if settings.survey.name == "simulated":
        return ()
    return (
        "On real images the false alarms are an upper limit: real transients that nobody catalogued count as false.",
    )
