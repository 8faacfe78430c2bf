"""The catalogue of a project's cubes, in the format of intake 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from astrid.errors import DataError
from astrid.stores.cube import CubeStore, Engine
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
            "reader": "astrid.stores.intake_reader:CubeReader",
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
        if entry.get("reader") == "astrid.stores.intake_reader:CubeReader":
            options = entry["kwargs"]
            where = options["path"].replace("{CATALOG_DIR}", str(path.absolute().parent))
            cubes[name] = (CubeStore(where, options["engine"]), options["group"])
    return cubes


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
