"""Opening a cube by path or name."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from astrid.errors import DataError
from astrid.stores.catalogue import CATALOGUE, cubes_of
from astrid.stores.cube import CubeStore, engine_of


def open_cube(path_or_name: str | Path, group: str = "cube", snapshot: str | None = None) -> xr.Dataset:
    """Open a cube as a lazy Dataset; nothing is computed and no pixel is read.

    Parameters
    ----------
    path_or_name : str or Path
        Folder of a cube (or the folder around it), a folder or ``catalog.yaml`` that holds just one, or the name of a
        cube in the ``catalog.yaml`` of the current folder.
    group : str
        Such as "cube", "templates/coadd" or "differences/zogy"; their full names end in a
        hash of the configuration, which may be left out where there is only one.
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
    inner = engine_of(path / "cube")
    if inner is not None:
        return CubeStore(str(path / "cube"), inner)
    named = cubes_of(CATALOGUE) if Path(CATALOGUE).is_file() else {}
    if str(path_or_name) in named:
        return named[str(path_or_name)][0]
    known = f"; {CATALOGUE} has {', '.join(named)}" if named else ""
    raise DataError(f"{path_or_name}: no cube there{known}; check the path or run `astrid preprocess` to make it")
