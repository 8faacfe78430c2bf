"""Cross-match: what catalogues know at candidates and objects. Matches flag, they never delete."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astrid.detection.crossmatch import Evidence, Matches, MatchRule, evidence, is_host, lies_at, match, origins
from astrid.detection.neighbours import Positions
from astrid.detection.reference import CATALOGUES
from astrid.schema import CANDIDATES, MATCH_COLUMNS, OBJECTS
from astrid.skygrid import Tile
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import read_table, write_table
from astrid.targets.regions import separation
from astrid.workflow.catalogues import CatalogueSource, Request, read_parquet
from astrid.workflow.keys import Product, digest
from astrid.workflow.preprocess import read_tiles
from astrid.workflow.runner import Runner

STEP = "crossmatch"
MATCH_TABLE = "matches"
CLASSES = ("star", "galaxy", "variable", "agn", "asteroid")
_MEASURED = ("separation", "sigma", "chance", "light_radii", "magnitude", "colour", "redshift")
_EVIDENCE = tuple(Evidence.__dataclass_fields__)
MATCHES = pa.schema(
    [
        *((name, pa.string()) for name in ("table", "id", "catalogue", "status")),
        *((f"says_{name}", pa.bool_()) for name in _EVIDENCE),
        *((f"{kind}_id", pa.string()) for kind in CLASSES),
        *((f"{kind}_counts", pa.bool_()) for kind in CLASSES),
        *((f"{kind}_{name}", pa.float64()) for kind in CLASSES for name in _MEASURED),
    ]
)


@dataclass(frozen=True)
class CatalogueKey:
    """One catalogue on one tile."""

    tile: int
    catalogue: str

    def __str__(self) -> str:
        return f"t{self.tile:04d}/{self.catalogue}"


@dataclass(frozen=True)
class CrossMatch:
    """Match the candidates and objects of a tile with one catalogue."""

    source: CatalogueSource
    rule: MatchRule
    cube_folder: Path
    run_folder: Path

    def __call__(self, key: CatalogueKey, ticket: Ticket | None) -> Product:
        """Return a row of `MATCHES` for each candidate and object."""
        catalogue = CATALOGUES[key.catalogue]
        tile = read_tiles(self.cube_folder)[key.tile]
        places = {name: _positions(self._table(name), name, tile) for name in ("candidates", "objects")}
        times = tuple(np.unique(places["candidates"][1].mjd).tolist())
        around = [one for _, positions in places.values() for one in zip(positions.ra, positions.dec, strict=True)]
        request = Request(
            key.catalogue,
            tile.ra,
            tile.dec,
            _radius(tile, self.rule),
            times,
            tuple((float(ra), float(dec)) for ra, dec in around),
            self.rule.density_arcsec,
        )
        sources = read_parquet(self.source.rows(request), key.catalogue)
        away = separation(sources.ra, sources.dec, request.ra, request.dec)
        sources = sources.part(away <= request.radius)
        rows = []
        for name, (ids, positions) in places.items():
            found = match(positions, sources, self.rule, is_moving=catalogue.is_moving)
            rows.append(_rows(name, ids, key.catalogue, found, self.rule))
        return Product(tables={MATCH_TABLE: pa.concat_tables(rows)})

    def _table(self, name: str) -> pa.Table:
        path = self.run_folder / f"{name}.parquet"
        return _read(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: str, changed: int) -> pa.Table:
    """Return a table; ``changed`` is when the file was written."""
    return pq.ParquetFile(path).read()


def _radius(tile: Tile, rule: MatchRule) -> float:
    """Return degrees from the centre of a tile to beyond its corners."""
    return float((0.5 * np.hypot(*tile.core) * tile.pixel_scale + rule.density_arcsec) / 3600)


def _positions(table: pa.Table, name: str, tile: Tile) -> tuple[list[str], Positions]:
    here = table.filter(pc.equal(table["tile"], tile.index))
    column = {
        one: here[one].to_numpy(zero_copy_only=False).astype(float)
        for one in here.column_names
        if pa.types.is_floating(here[one].type)
    }
    if name == "candidates":
        error, mjd = np.sqrt(column["ra_error"] * column["dec_error"]), column["mjd"]
    else:
        error = column["position_error"] * tile.pixel_scale
        mjd = (column["first_mjd"] + column["last_mjd"]) / 2
    ids = here[f"{name.removesuffix('s')}_id"].to_pylist()
    return ids, Positions(column["ra"], column["dec"], np.nan_to_num(error), mjd)


def _rows(table: str, ids: Sequence[str], catalogue: str, found: Matches, rule: MatchRule) -> pa.Table:
    n = len(ids)
    says = evidence(found, rule, knows_galaxies=CATALOGUES[catalogue].knows_galaxies)
    columns: dict[str, Any] = {"table": [table] * n, "id": list(ids), "catalogue": [catalogue] * n}
    columns["status"] = found.status
    columns |= {f"says_{name}": getattr(says, name) for name in _EVIDENCE}
    for kind in CLASSES:
        one = found.nearest.get(kind)
        if one is None:
            columns |= {f"{kind}_id": [None] * n, f"{kind}_counts": [False] * n}
            columns |= {f"{kind}_{name}": np.full(n, np.nan) for name in _MEASURED}
            continue
        there = one.index >= 0
        names = [str(found.sources.id[i]) if i >= 0 else None for i in one.index]
        counts = is_host(found, rule) if kind == "galaxy" else lies_at(found, kind, rule)
        columns |= {f"{kind}_id": names, f"{kind}_counts": counts}
        for name in _MEASURED:
            values: NDArray[np.float64]
            if hasattr(one, name):
                values = getattr(one, name)
            else:
                values = np.full(n, np.nan)
                values[there] = getattr(found.sources, name)[one.index[there]]
            columns[f"{kind}_{name}"] = values
    return pa.table([pa.array(columns[field.name], field.type) for field in MATCHES], schema=MATCHES)


def crossmatch(
    source: CatalogueSource,
    rule: MatchRule,
    *,
    cube_folder: Path,
    run_folder: Path,
    runner: Runner,
    journal: Journal,
    key: str,
) -> None:
    """Match ``candidates.parquet`` and ``objects.parquet`` of a run and write their match columns.

    Parameters
    ----------
    source : CatalogueSource
        Where the rows come from; does nothing where it names no catalogue.
    rule : MatchRule
        Limits.
    cube_folder, run_folder : Path
        Of the run, whose candidates are linked.
    runner : Runner
        Does the work.
    journal : Journal
        Gets the outcome of each tile and catalogue.
    key : str
        What identifies the candidates and the configuration of the matches.
    """
    if not source.names:
        return
    tables = {
        "candidates": read_table(run_folder / "candidates.parquet", CANDIDATES),
        "objects": read_table(run_folder / "objects.parquet", OBJECTS),
    }
    tiles = {tile.index: tile for tile in read_tiles(cube_folder)}
    used = sorted(set(tables["candidates"]["tile"].to_pylist()) & set(tiles))
    keys = [CatalogueKey(tile, name) for tile in used for name in source.names if tiles[tile].frame == "sky"]
    if not any(tile.frame == "sky" for tile in tiles.values()):
        reason = "the images have no WCS, so catalogues cannot be asked about them; give the images one"
        record_outcomes(STEP, journal, [{"key": "all tiles", "status": "skipped", "reason": reason}])
        return
    ids = [sorted(tables[name][f"{name.removesuffix('s')}_id"].to_pylist()) for name in tables]
    with Journal(run_folder / "journal" / f"{STEP}-{digest(key, source.version, *ids)}") as own:
        runner.run(STEP, CrossMatch(source, rule, cube_folder, run_folder), keys, own)
        rows, ledger = own.table(MATCH_TABLE, MATCHES), own.ledger().to_pylist()
    record_outcomes(STEP, journal, [row for row in ledger if row["step"] == STEP])
    failed = {row["key"] for row in ledger if row["status"] == "failed"}
    for name, schema in (("candidates", CANDIDATES), ("objects", OBJECTS)):
        matched = with_matches(tables[name], rows.filter(pc.equal(rows["table"], name)), name, source.names, failed)
        write_table(run_folder / f"{name}.parquet", matched, schema)


def record_outcomes(step: str, journal: Journal, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put outcomes into the ledger of the run, the latest of each key, without counting them again."""
    known = {(row["step"], row["key"]): row for row in journal.ledger().to_pylist()}
    fresh = [{"step": step, **row} for row in rows]
    fresh = [
        row
        for row in fresh
        if (old := known.get((step, row["key"]))) is None
        or (old["status"], old["reason"]) != (row["status"], row["reason"])
    ]
    if fresh:
        journal.append(fresh, {})


def with_matches(table: pa.Table, rows: pa.Table, name: str, asked: Sequence[str], failed: set[str]) -> pa.Table:
    """Return candidates or objects with their match columns.

    Of each class the source is shown that counts in the first catalogue (in the order of
    `astrid.detection.reference.CATALOGUES`), or else the nearest.

    Parameters
    ----------
    table : pa.Table
        ``candidates`` or ``objects``, as ``name`` says.
    rows : pa.Table
        Of `MATCHES`, for this table.
    asked : sequence of str
        Catalogues that were to be asked.
    failed : set of str
        Keys of tiles and catalogues that failed.
    """
    ids, tiles = table[f"{name.removesuffix('s')}_id"].to_pylist(), table["tile"].to_pylist()
    place = {one: number for number, one in enumerate(ids)}
    by_catalogue: dict[str, dict[int, dict[str, Any]]] = {one: {} for one in CATALOGUES}
    for row in rows.to_pylist():
        by_catalogue[row["catalogue"]][place[row["id"]]] = row
    said = {}
    for catalogue, found in by_catalogue.items():
        if found:
            flags = {flag: np.zeros(len(ids), bool) for flag in _EVIDENCE}
            for number, row in found.items():
                for flag in _EVIDENCE:
                    flags[flag][number] = row[f"says_{flag}"]
            said[catalogue] = Evidence(**flags)
    columns: dict[str, list[Any]] = {column: [None] * len(ids) for column, *_ in MATCH_COLUMNS}
    columns["origin"] = list(origins(said, len(ids)))
    for number in range(len(ids)):
        there = {one: found[number] for one, found in by_catalogue.items() if number in found}
        status = {
            one: there[one]["status"]
            if one in there
            else "failed"
            if str(CatalogueKey(tiles[number], one)) in failed
            else "not asked"
            for one in CATALOGUES
        }
        columns["match_status"][number] = json.dumps(status)
        for kind in CLASSES:
            best = _best(list(there.values()), kind)
            for column in (f"{kind}_{part}" for part in ("id", *_MEASURED)):
                if best is not None and column in columns:
                    value = best[column]
                    columns[column][number] = None if isinstance(value, float) and not np.isfinite(value) else value
            if best is not None:
                columns[f"{kind}_catalogue"][number] = best["catalogue"]
    for column, values in columns.items():
        index = table.schema.get_field_index(column)
        table = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    return table


def _best(rows: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    rows = [row for row in rows if row[f"{kind}_id"] is not None]
    counting = [row for row in rows if row[f"{kind}_counts"]]
    return counting[0] if counting else min(rows, key=lambda row: row[f"{kind}_separation"], default=None)
