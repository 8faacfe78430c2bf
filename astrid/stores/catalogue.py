"""The catalogue of a project's cubes, in the format of intake 2, and opening a cube by path or name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import xarray as xr
import yaml

from astrid.errors import DataError
from astrid.stores.cube import CubeStore, Engine, engine_of
from astrid.stores.lock import locked
from astrid.stores.tables import replacing

CATALOGUE = "catalog.yaml"
_HERE = "{CATALOG_DIR}/"


def add_cube(
    catalog_path: str | Path,
    name: str,
    store_path: str | Path,
    engine: Engine,
    description: str,
    *,
    group: str = "cube",
) -> None:
    """Enter a cube in a catalogue file, replacing the entry of that name.

    ``intake.open_catalog(catalog_path)[name].read()`` then gives the lazy Dataset. Paths are
    stored relative to the catalogue where they can be, so that the folder can be moved.
    """
    path = Path(catalog_path)
    relative = os.path.relpath(Path(store_path).absolute(), path.absolute().parent)
    where = str(Path(store_path).absolute()) if relative.startswith("..") else _HERE + relative
    with locked(path.with_name(path.name + ".lock"), busy=f"{path} is being written", wait_seconds=30):
        content = _load(path) if path.exists() else _empty()
        token = f"cube-{name}"
        content["entries"][token] = {
            "reader": "astrid.stores.readers:CubeReader",
            "kwargs": {"path": where, "engine": engine, "group": group},
            "metadata": {"description": description},
            "output_instance": "xarray:Dataset",
            "user_parameters": {},
        }
        content["aliases"][name] = token
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=True, allow_unicode=True), encoding="utf-8")


def cubes_of(catalog_path: str | Path) -> dict[str, tuple[CubeStore, str]]:
    """Return the cubes of a catalogue file by name, each with the group that its entry opens."""
    path = Path(catalog_path)
    content = _load(path)
    cubes = {}
    for name, token in content["aliases"].items():
        entry = content["entries"].get(token, {})
        if entry.get("reader") == "astrid.stores.readers:CubeReader":
            options = entry["kwargs"]
            where = options["path"].replace("{CATALOG_DIR}", str(path.absolute().parent))
            cubes[name] = (CubeStore(where, options["engine"]), options["group"])
    return cubes


def open_cube(path_or_name: str | Path, group: str = "cube", snapshot: str | None = None) -> xr.Dataset:
    """Open a cube as a lazy Dataset; nothing is computed and no pixel is read.

    Parameters
    ----------
    path_or_name : str or Path
        Folder of a cube, a folder or ``catalog.yaml`` that holds just one, or the name of a
        cube in the ``catalog.yaml`` of the current folder.
    group : str
        Such as "cube", "template/coadd" or "difference/zogy".
    snapshot : str, optional
        State to read; the newest by default.

    Raises
    ------
    DataError
        If there is no such cube, group or snapshot.
    SchemaError
        If it has another schema version.
    """
    return find_cube(path_or_name).dataset(group, snapshot)


def find_cube(path_or_name: str | Path) -> CubeStore:
    """Return the store that a path or name means; see `open_cube`."""
    path = Path(str(path_or_name).removeprefix("file://")).expanduser()
    engine = engine_of(path)
    if engine is not None:
        return CubeStore(str(path), engine)
    catalogue = path / CATALOGUE if path.is_dir() else path
    if catalogue.is_file():
        stores = {store for store, _ in cubes_of(catalogue).values()}
        if len(stores) != 1:
            names = ", ".join(cubes_of(catalogue)) or "none"
            raise DataError(f"{catalogue} holds {len(stores)} cubes ({names}); give the path of one")
        return stores.pop()
    named = cubes_of(CATALOGUE) if Path(CATALOGUE).is_file() else {}
    if str(path_or_name) in named:
        return named[str(path_or_name)][0]
    known = f"; {CATALOGUE} has {', '.join(named)}" if named else ""
    raise DataError(f"{path_or_name}: no cube there{known}; check the path or run `astrid preprocess` to make it")


def _empty() -> dict[str, Any]:
    return {"version": 2, "aliases": {}, "data": {}, "entries": {}, "metadata": {}, "user_parameters": {}}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a readable catalogue ({error}); delete it and run again") from error
    if not isinstance(content, dict) or content.get("version") != 2 or set(_empty()) - set(content):
        raise DataError(f"{path}: not a catalogue of intake 2; delete it or name another")
    return content
