import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from astrid.schema import CUBE
from astrid.skygrid import Tile
from astrid.stores.cube import CubeLayout, CubeStore, Engine
from astrid.surveys.events import read_events

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import intake

CATALOGS = Path(__file__).resolve().parents[1] / "catalogs"


def refuse(*args, **kwargs):
    raise AssertionError("something was computed")


def made(path: Path, engine: Engine) -> CubeStore:
    store = CubeStore(str(path), engine)
    tile = Tile(0, (40, 40), 4, frame="pixel")
    store.create("cube", CUBE, CubeLayout((tile,), 3, ("r",), (9, 9), "nJy", {"survey": "made up"}))
    return store


@pytest.mark.parametrize("path", sorted(CATALOGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_catalogue_opens_and_its_entries_import(path):
    catalogue = intake.open_catalog(str(path))
    assert list(catalogue)
    for name in catalogue:
        assert catalogue[name].metadata["description"]
        assert catalogue[name].output_instance in ("xarray:Dataset", "pandas:DataFrame")


@pytest.mark.parametrize("engine", ["icechunk", "zarr"])
def test_a_cube_opens_lazily_by_path(engine, tmp_path):
    store = made(tmp_path / "made", engine)
    reader = intake.open_catalog(str(CATALOGS / "cubes.yaml"))["cube"]
    with dask.config.set(scheduler=refuse):
        dataset = reader(path=store.path, engine=engine).read()
    assert isinstance(dataset, xr.Dataset)
    assert dataset.flux.chunks is not None
    assert dict(dataset.sizes) | {"epoch": 3, "band": 1, "tile": 1} == dict(dataset.sizes)
    assert np.isnan(dataset.flux[0, 0, 0].values).all()


def test_another_group_opens_by_its_name(tmp_path):
    store = made(tmp_path / "made", "icechunk")
    cells = intake.open_catalog(str(CATALOGS / "cubes.yaml"))["cells"]
    assert cells(path=store.path, group="cube").read().identical(store.dataset())


def test_the_pilot_events_name_their_sources_and_are_truth_for_a_run():
    table = intake.open_catalog(str(CATALOGS / "events.yaml"))["pilot"].read()
    assert table.source.notna().all()
    events = read_events(CATALOGS / "pilot_events.csv").to_pylist()
    assert [event["event_id"] for event in events] == list(table.name)
    assert all(event["mjd"] > 50000 and event["kind"] for event in events)
