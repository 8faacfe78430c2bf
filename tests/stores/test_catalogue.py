import shutil

import dask
import numpy as np
import pytest
import xarray as xr
import yaml

from astrid.stores.catalogue import add_cube, cubes_of
from astrid.stores.cube import CubeStore
from astrid.stores.readers import open_cube

intake = pytest.importorskip("intake")


def refuse(*args, **kwargs):
    raise AssertionError("something was computed")


def test_intake_opens_an_entered_cube_lazily(cube, tmp_path):
    add_cube(tmp_path / "catalog.yaml", "field", cube.path, cube.engine, "a simulated field")
    catalogue = intake.open_catalog(str(tmp_path / "catalog.yaml"))
    assert list(catalogue) == ["field"]
    with dask.config.set(scheduler=refuse):
        dataset = catalogue["field"].read()
    assert isinstance(dataset, xr.Dataset)
    assert dataset.flux.chunks is not None
    assert np.isnan(dataset.flux[0, 0, 0].values).all()
    assert catalogue["field"].metadata["description"] == "a simulated field"


def test_the_folder_can_be_moved(cube, tmp_path):
    add_cube(tmp_path / "catalog.yaml", "field", cube.path, cube.engine, "")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(cube.path, moved / "cube")
    shutil.move(tmp_path / "catalog.yaml", moved / "catalog.yaml")
    assert intake.open_catalog(str(moved / "catalog.yaml"))["field"].read().sizes["epoch"] == 3
    assert open_cube(moved).sizes["epoch"] == 3


def test_entering_a_cube_twice_changes_nothing(cube, tmp_path):
    path = tmp_path / "catalog.yaml"
    for _ in range(2):
        add_cube(path, "field", cube.path, cube.engine, "")
        content = path.read_text()
    assert content == path.read_text()
    add_cube(path, "other", tmp_path / "far" / "cube", "zarr", "")
    assert list(cubes_of(path)) == ["field", "other"]
    assert cubes_of(path)["field"] == (CubeStore(cube.path, cube.engine), "cube")


def test_other_entries_of_the_catalogue_stay(cube, tmp_path):
    path = tmp_path / "catalog.yaml"
    add_cube(path, "field", cube.path, cube.engine, "")
    content = yaml.safe_load(path.read_text())
    content["entries"]["mine"] = content["entries"]["cube-field"] | {"reader": "builtins:dict"}
    content["aliases"]["mine"] = "mine"
    path.write_text(yaml.safe_dump(content))
    add_cube(path, "second", cube.path, cube.engine, "")
    assert yaml.safe_load(path.read_text())["entries"]["mine"] == content["entries"]["mine"]
    assert list(cubes_of(path)) == ["field", "second"]
