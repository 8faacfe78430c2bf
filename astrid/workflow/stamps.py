"""Preprocess alert stamps: cells that need no registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.errors import CellSkipped
from astrid.image import Exposure, ExposureInfo
from astrid.imaging.stamps import stamp_cells
from astrid.schema import CUBE, MaskBit
from astrid.skygrid import Tile
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import read_json, write_json
from astrid.surveys import Survey
from astrid.workflow.ingest import read_exposures
from astrid.workflow.keys import Cell, CellExposure, Product
from astrid.workflow.preprocess import (
    GROUP,
    PROVIDED,
    cell_numbers,
    header_of,
    layout_of,
    read_tiles,
    write_image,
)
from astrid.workflow.runner import Runner
from astrid.workflow.settings import Settings


@dataclass(frozen=True)
class MakeStampCell:
    """Write the science stamp of one alert and its template."""

    survey: Survey
    psf_size: int
    shape: tuple[int, int]

    def __call__(self, key: CellExposure, ticket: Ticket | None) -> Product:
        """Write both cells."""
        if ticket is None:
            raise ValueError("a cell needs a ticket to write with")
        science, template = self.survey.read_exposure(key.info), self.survey.read_template(key.info)
        if template is None:
            raise CellSkipped(f"no template: {key.info.exposure_id} brings none")
        science, template = padded_to(science, self.shape), padded_to(template, self.shape)
        # the zero point may be the usual one of the band
        science = replace(science, info=replace(science.info, zero_point=key.info.zero_point))
        made = stamp_cells(science, template, psf_size=self.psf_size)
        numbers = {}
        for group, cell in zip((GROUP, PROVIDED), made, strict=True):
            write_image(ticket, group, key.cell, cell.image)
            numbers[group] = (key.cell.index, cell_numbers(cell.numbers, key.info))
        return Product(numbers=numbers)


def preprocess_stamps(settings: Settings, runner: Runner, journal: Journal) -> None:
    """Fill the cube with alert stamps: one tile per object, nothing registered or scaled again.

    Stamps smaller than the largest are surrounded by pixels without data.
    """
    folder = settings.cube_folder
    epochs = with_usual_zero_points(read_exposures(folder / "exposures.parquet"))
    if not (folder / "tiles.json").exists():
        made, objects = tiles_of_objects([info for info, _ in epochs])
        noted = {
            "tiles": [asdict(tile) for tile in made],
            "bands": sorted({i.band for i, _ in epochs}),
            "objects": objects,
        }
        write_json(folder / "tiles.json", noted)
    tiles, noted = read_tiles(folder), read_json(folder / "tiles.json")
    bands: list[str] = list(noted["bands"])
    place = {name: index for index, name in enumerate(noted["objects"])}
    recorded = {row["key"] for row in journal.ledger().to_pylist() if row["step"] == "group"}
    keys = []
    for info, epoch in epochs:
        name = str(info.extra["object_id"])
        if name in place and info.band in bands and fits(info.shape, tiles[0].shape):
            keys.append(CellExposure(Cell(place[name], epoch, bands.index(info.band), info.band), info))
        elif info.exposure_id not in recorded:
            what = f"object {name}, band {info.band}, {info.shape[0]}x{info.shape[1]} px"
            reason = f"{what} has no place in the cube, which was made before; remove {folder.name} to make it anew"
            runner.record("group", info.exposure_id, "failed", reason, journal)
    layout = layout_of(settings, tiles, tuple(bands), [i for i, _ in epochs], max(epoch for _, epoch in epochs) + 1)
    store = settings.cube_store
    for group in (GROUP, PROVIDED):
        store.create(group, CUBE, layout)
    work = MakeStampCell(settings.survey, settings.preprocess.psf_size, tiles[0].shape)
    runner.run("preprocess", work, sorted(keys, key=lambda key: key.cell), journal, store.writer())


def tiles_of_objects(infos: Sequence[ExposureInfo]) -> tuple[tuple[Tile, ...], list[str]]:
    """Return one tile per object, on the pixels of its first stamp, and the objects' names."""
    first: dict[str, ExposureInfo] = {}
    for info in infos:
        first.setdefault(str(info.extra["object_id"]), info)
    shape = max(info.shape[0] for info in infos), max(info.shape[1] for info in infos)
    scale = float(infos[0].extra["pixel_scale"])
    tiles = []
    for index, info in enumerate(first.values()):
        wcs = WCS(header_of(info))
        down, right = offset_in(shape, info.shape)
        ra, dec = wcs.pixel_to_world_values((shape[1] - 1) / 2 - right, (shape[0] - 1) / 2 - down)
        cd = [float(value) for value in np.ravel(wcs.pixel_scale_matrix)]
        tiles.append(Tile(index, shape, 0, float(ra), float(dec), scale, cd=(cd[0], cd[1], cd[2], cd[3])))
    return tuple(tiles), list(first)


def with_usual_zero_points(epochs: Sequence[tuple[ExposureInfo, int]]) -> list[tuple[ExposureInfo, int]]:
    """Give alerts without a zero point the median of their band, so that a cube has one unit."""
    known: dict[str, list[float]] = {}
    for info, _ in epochs:
        if info.zero_point is not None:
            known.setdefault(info.band, []).append(info.zero_point)
    every = [value for values in known.values() for value in values]
    if not every:
        return list(epochs)
    usual = {band: float(np.median(values)) for band, values in known.items()}
    return [
        (info, epoch)
        if info.zero_point is not None or info.unit == "nJy"
        else (replace(info, zero_point=usual.get(info.band, float(np.median(every)))), epoch)
        for info, epoch in epochs
    ]


def fits(stamp: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Return whether a stamp fits into a tile."""
    return stamp[0] <= shape[0] and stamp[1] <= shape[1]


def offset_in(shape: tuple[int, int], stamp: tuple[int, int]) -> tuple[int, int]:
    """Return the (y, x) of a stamp's first pixel in the middle of a tile."""
    return (shape[0] - stamp[0]) // 2, (shape[1] - stamp[1]) // 2


def event_in(shape: tuple[int, int], info: ExposureInfo) -> tuple[float, float]:
    """Return where the event of an alert lies in its tile, in pixels."""
    down, right = offset_in(shape, info.shape)
    return float(info.extra["y"]) + down, float(info.extra["x"]) + right


def padded_to(exposure: Exposure, shape: tuple[int, int]) -> Exposure:
    """Surround a stamp by pixels without data so that it fills a tile."""
    if exposure.flux.shape == shape:
        return exposure
    return replace(
        exposure,
        flux=_surrounded(exposure.flux, shape, np.nan),
        mask=_surrounded(exposure.mask, shape, MaskBit.NO_DATA.value),
        variance=None if exposure.variance is None else _surrounded(exposure.variance, shape, np.nan),
    )


def _surrounded(values: NDArray[Any], shape: tuple[int, int], by: float) -> NDArray[Any]:
    out = np.full(shape, by, values.dtype)
    down, right = offset_in(shape, (values.shape[0], values.shape[1]))
    out[down : down + values.shape[0], right : right + values.shape[1]] = values
    return out
