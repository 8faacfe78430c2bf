import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrid.errors import CellSkipped, DataError, SchemaError, UsageError
from astrid.schema import CUBE, DIFFERENCE, SCHEMA_VERSION, TEMPLATE, MaskBit
from astrid.skygrid import Tile
from astrid.stores.cube import CubeLayout, CubeStore


def write(store, index, values, *, numbers=None, group="cube"):
    """Write one cell through a ticket that travels, and commit it."""
    writer = store.writer()
    ticket = travel(writer.ticket())
    ticket.write_cell(group, index, values)
    writer.merge(travel(ticket))
    writer.set_numbers(group, index, numbers or {})
    return writer.commit(f"cell {index}")


def travel(thing):
    return pickle.loads(pickle.dumps(thing))


def refuse(*args, **kwargs):
    raise AssertionError("something was computed")


# --- what is written is what is read


def test_a_cell_comes_back_as_it_was_written(cube, pixels):
    numbers = {"mjd": 58000.5, "n_stars": 12, "exposure_id": "ü-1", "psf_origin": "stars"}
    write(cube, (1, 2, 0), pixels(3), numbers=numbers)
    cell = travel(cube.reader()).read_cell("cube", (1, 2, 0))
    for name, value in pixels(3).items():
        np.testing.assert_array_equal(cell[name], value)
        assert cell[name].dtype == value.dtype
    assert {name: cell[name] for name in numbers} == numbers
    assert type(cell["mjd"]) is float
    assert type(cell["n_stars"]) is int
    assert np.isnan(cell["zero_point"])


def test_only_what_is_asked_for_is_read(cube, pixels):
    write(cube, (0, 0, 0), pixels(3), numbers={"mjd": 5.0})
    cell = cube.reader().read_cell("cube", (0, 0, 0), ["psf", "mjd"])
    assert sorted(cell) == ["mjd", "psf"]


@pytest.mark.parametrize("index", [(0, 0, 0), (1, 2, 1)])
def test_a_cell_never_written_is_skipped_with_the_reason(cube, pixels, index):
    write(cube, (0, 1, 0), pixels(1))
    with pytest.raises(CellSkipped, match="never observed"):
        cube.reader().read_cell("cube", index)
    assert cube.reader().has_cell("cube", (0, 1, 0))
    assert not cube.reader().has_cell("cube", index)


def test_a_cell_of_nothing_but_fill_values_is_still_a_written_cell(cube, pixels):
    empty = pixels(1) | {
        "flux": np.full((20, 20), np.nan, np.float32),
        "mask": np.full((20, 20), int(MaskBit.NO_DATA), np.uint16),
    }
    write(cube, (0, 0, 0), empty)
    assert np.isnan(cube.reader().read_cell("cube", (0, 0, 0))["flux"]).all()


def test_a_missing_cell_reads_as_no_data_in_the_dataset(cube):
    dataset = cube.dataset()
    assert bool(np.isnan(dataset.flux[0, 0, 0]).all())
    assert bool((dataset.mask[0, 0, 0] == int(MaskBit.NO_DATA)).all())


def test_templates_and_differences_live_beside_the_cube(cube, layout, pixels):
    cube.create("template/coadd", TEMPLATE, layout())
    cube.create("difference/zogy", DIFFERENCE, layout())
    assert cube.groups() == ["cube", "difference/zogy", "template/coadd"]
    write(cube, (1, 1), pixels(4), group="template/coadd", numbers={"weights": "{}"})
    template = cube.reader().read_cell("template/coadd", (1, 1))
    assert template["weights"] == "{}"
    assert "weight_sum" not in template  # it was not written
    with pytest.raises(DataError, match="weight_sum"):
        cube.reader().read_cell("template/coadd", (1, 1), ["weight_sum"])
    assert cube.dataset("template/coadd").flux.dims == ("tile", "band", "y", "x")


def test_compression_loses_nothing_and_saves_space(tmp_path, layout):
    rng = np.random.default_rng(4)
    tile = Tile(0, (128, 128), 0, 10.0, -20.0, 0.3)
    values = {"flux": rng.poisson(1000, (128, 128)).astype(np.float32)}
    sizes = {}
    for compress in (True, False):
        store = CubeStore(str(tmp_path / str(compress)), "zarr", compress=compress)
        store.create("cube", CUBE, dataclasses.replace(layout(), tiles=(tile,)))
        write(store, (0, 0, 0), values)
        np.testing.assert_array_equal(store.reader().read_cell("cube", (0, 0, 0))["flux"], values["flux"])
        sizes[compress] = sum(f.stat().st_size for f in Path(store.path, "cube", "flux", "c").rglob("*") if f.is_file())
    assert sizes[True] < 0.9 * sizes[False]


def test_numbers_of_all_cells_come_as_arrays(cube):
    writer = cube.writer()
    for epoch in range(3):
        writer.set_numbers("cube", (1, epoch, 0), {"mjd": 100.0 + epoch, "exposure_id": f"e{epoch}"})
    writer.commit("numbers")
    numbers = cube.reader().numbers("cube")
    assert numbers["mjd"][1, :, 0].tolist() == [100.0, 101.0, 102.0]
    assert numbers["exposure_id"][1, :, 0].tolist() == ["e0", "e1", "e2"]
    assert np.isnan(numbers["mjd"][0]).all()


def test_numbers_set_one_after_the_other_both_stay(cube):
    writer = cube.writer()
    writer.set_numbers("cube", (0, 0, 0), {"mjd": 1.0})
    writer.commit("first")
    writer.set_numbers("cube", (0, 0, 0), {"coverage": 0.5})
    writer.set_numbers("cube", (0, 1, 0), {"mjd": 2.0})
    writer.commit("second")
    numbers = cube.reader().numbers("cube")
    assert numbers["mjd"][0, :2, 0].tolist() == [1.0, 2.0]
    assert numbers["coverage"][0, 0, 0] == 0.5


# --- only whole chunks of the right kind


@given(shape=st.tuples(st.integers(0, 24), st.integers(0, 24)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_a_part_of_a_chunk_is_refused(cube, pixels, shape):
    ticket = cube.writer().ticket()
    if shape == (20, 20):
        return
    with pytest.raises(SchemaError, match=r"flux .*\(20, 20\)"):
        ticket.write_cell("cube", (0, 0, 0), pixels(1) | {"flux": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint16", ">f4"])
def test_another_dtype_is_refused(cube, pixels, dtype):
    with pytest.raises(SchemaError, match="flux of cell"):
        cube.writer().ticket().write_cell("cube", (0, 0, 0), pixels(1) | {"flux": np.zeros((20, 20), dtype)})


@pytest.mark.parametrize("index", [(0, 0), (2, 0, 0), (0, 3, 0), (-1, 0, 0), (0, 0, 0, 0)])
def test_a_cell_outside_the_axes_is_refused(cube, pixels, index):
    with pytest.raises(SchemaError, match="no cell"):
        cube.writer().ticket().write_cell("cube", index, pixels(1))
    with pytest.raises(SchemaError, match="no cell"):
        cube.reader().read_cell("cube", index)


def test_a_refused_cell_leaves_nothing_behind(cube, pixels):
    ticket = cube.writer().ticket()
    with pytest.raises(SchemaError, match="psf"):
        ticket.write_cell("cube", (0, 0, 0), pixels(1) | {"psf": np.zeros((7, 7), np.float32)})
    writer = cube.writer()
    writer.merge(ticket)
    writer.commit("nothing")
    assert not cube.reader().has_cell("cube", (0, 0, 0))


def test_unknown_names_are_refused(cube, pixels):
    with pytest.raises(SchemaError, match="flx"):
        cube.writer().ticket().write_cell("cube", (0, 0, 0), pixels(1) | {"flx": np.zeros(3)})
    writer = cube.writer()
    writer.set_numbers("cube", (0, 0, 0), {"seeing": 3.0})
    with pytest.raises(SchemaError, match="seeing"):
        writer.commit("x")
    with pytest.raises(SchemaError, match="seeing"):
        cube.reader().read_cell("cube", (0, 0, 0), ["seeing"])


@pytest.mark.parametrize("numbers", [{"mjd": "today"}, {"exposure_id": 5}])
def test_a_number_of_the_wrong_type_is_refused(cube, numbers):
    writer = cube.writer()
    writer.set_numbers("cube", (0, 0, 0), numbers)
    with pytest.raises(SchemaError, match=next(iter(numbers))):
        writer.commit("x")


# --- creation, growth, versions


def test_creation_writes_no_pixels_and_can_be_repeated(cube, layout):
    before = cube.snapshot()
    cube.create("cube", CUBE, layout())
    assert cube.snapshot() == before
    assert cube.layout() == layout()
    assert sum(f.stat().st_size for f in Path(cube.path).rglob("*") if f.is_file()) < 100_000


def test_the_epoch_axis_grows_and_keeps_what_was_there(cube, layout, pixels):
    write(cube, (0, 2, 0), pixels(7), numbers={"mjd": 3.0})
    cube.reader().read_cell("cube", (0, 2, 0))  # opened before the growth, in the same process
    cube.create("cube", CUBE, layout(n_epochs=9))
    write(cube, (0, 8, 1), pixels(8), numbers={"mjd": 9.0})
    reader = cube.reader()
    np.testing.assert_array_equal(reader.read_cell("cube", (0, 2, 0))["flux"], pixels(7)["flux"])
    np.testing.assert_array_equal(reader.read_cell("cube", (0, 8, 1))["flux"], pixels(8)["flux"])
    assert reader.numbers("cube")["mjd"][0, [2, 8], [0, 1]].tolist() == [3.0, 9.0]
    assert cube.dataset().epoch.values.tolist() == list(range(9))
    cube.create("cube", CUBE, layout(n_epochs=2))  # fewer than there are: nothing is lost
    assert cube.layout().n_epochs == 9


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bands": ("g", "i")}, "bands"),
        ({"psf_shape": (7, 7)}, "psf_shape"),
        ({"flux_unit": "count/s"}, "flux_unit"),
        ({"tiles": (Tile(0, (16, 16), 2, 50.0, -20.0, 0.3), Tile(1, (16, 16), 2, 51.0, -20.0, 0.3))}, "tiles"),
    ],
)
def test_a_cube_of_another_layout_is_refused(cube, layout, change, named):
    with pytest.raises(SchemaError, match=named) as error:
        cube.create("cube", CUBE, dataclasses.replace(layout(), **change))
    assert cube.path in str(error.value)
    assert "delete the cube" in str(error.value)


def test_a_cube_of_another_schema_version_is_refused(cube, layout):
    if cube.engine == "zarr":
        zarr.open_group(cube.path, path="cube").attrs["schema_version"] = 99
    else:
        import icechunk

        session = icechunk.Repository.open(icechunk.local_filesystem_storage(cube.path)).writable_session("main")
        zarr.open_group(session.store, path="cube").attrs["schema_version"] = 99
        session.commit("of the future")
    for attempt in (
        lambda: cube.create("cube", CUBE, layout()),
        lambda: cube.dataset(),
        lambda: cube.reader().read_cell("cube", (0, 0, 0)),
        lambda: cube.layout(),
    ):
        with pytest.raises(SchemaError, match=f"version 99, expected {SCHEMA_VERSION}"):
            attempt()


def test_a_creation_cut_short_is_not_a_cube_and_is_done_again(store, layout):
    if store.engine == "icechunk":
        pytest.skip("nothing is visible before the commit")
    store.create("cube", CUBE, layout())
    zarr.open_group(store.path, path="cube").attrs["complete"] = False
    assert not store.exists("cube")
    with pytest.raises(SchemaError, match="not completed"):
        store.dataset()
    store.create("cube", CUBE, layout())
    assert store.exists("cube")


def test_what_someone_else_wrote_is_not_touched(tmp_path, layout):
    root = zarr.open_group(tmp_path / "mine", mode="a")
    root.require_group("cube").create_array("flux", shape=(3,), dtype="float32")[:] = 7.0
    with pytest.raises(SchemaError, match="not written by AstrID"):
        CubeStore(str(tmp_path / "mine"), "zarr").create("cube", CUBE, layout())
    assert np.asarray(root["cube/flux"])[0] == 7.0


def test_the_wrong_engine_is_named(cube):
    other = CubeStore(cube.path, "zarr" if cube.engine == "icechunk" else "icechunk")
    with pytest.raises(UsageError, match=f"use store={cube.engine}"):
        other.dataset()


def test_a_cube_without_sky_keeps_its_pixel_frame(store, layout):
    plane = CubeLayout((Tile(0, (16, 16), 2, frame="pixel"),), 1, ("none",), (5, 5), "count/s")
    store.create("cube", CUBE, plane)
    store.create("cube", CUBE, plane)
    assert repr(store.layout()) == repr(plane)
    dataset = store.dataset()
    assert np.isnan(dataset.tile_ra).all()
    assert dataset.variance.attrs["units"] == "(count/s)2"


@pytest.mark.parametrize(
    "options",
    [{"n_tiles": 0}, {"n_epochs": 0}, {"bands": ("g", "g")}],
)
def test_a_layout_without_sense_is_refused(layout, options):
    with pytest.raises(ValueError, match=r"cube needs|must differ"):
        layout(**options)


# --- looking at it


def test_opening_a_cube_computes_nothing(cube, pixels):
    write(cube, (0, 0, 0), pixels(1))
    with dask.config.set(scheduler=refuse):
        dataset = cube.dataset()
        mean = dataset.flux.mean("epoch")
        assert dataset.flux.chunks[-2:] == ((20,), (20,))
        assert repr(dataset)
        with pytest.raises(AssertionError, match="was computed"):
            mean.compute()


def test_the_dataset_explains_itself(cube):
    dataset = cube.dataset()
    assert list(dataset.data_vars) == [variable.name for variable in CUBE]
    assert dataset.flux.attrs["units"] == "nJy"
    assert dataset.variance.attrs["units"] == "nJy2"
    assert dataset.mask.attrs["flag_masks"] == [int(bit) for bit in MaskBit]
    assert len(dataset.mask.attrs["flag_meanings"].split()) == len(MaskBit)
    assert dataset.mask.dtype == np.uint16
    assert dataset.band.values.tolist() == ["g", "r"]
    assert dataset.tile_ra.values.tolist() == [10.0, 11.0]
    assert dataset.attrs["survey"] == "simulated"
    assert dataset.attrs["shape"] == [20, 20]
    assert float(dataset.flux.sel(band="r").isnull().mean()) == 1.0


def test_a_missing_cube_or_group_is_named_with_the_remedy(tmp_path, cube):
    with pytest.raises(DataError, match=r"no cube there; check the path"):
        CubeStore(str(tmp_path / "nowhere")).dataset()
    with pytest.raises(DataError, match=r"no group 'difference', there are \['cube'\]"):
        cube.dataset("difference")


# --- commits


def test_nothing_shows_before_the_commit_and_a_reader_keeps_its_state(icechunk_store, layout, pixels):
    icechunk_store.create("cube", CUBE, layout())
    writer, before = icechunk_store.writer(), icechunk_store.reader()
    ticket = writer.ticket()
    ticket.write_cell("cube", (0, 0, 0), pixels(1))
    writer.merge(travel(ticket))
    assert not icechunk_store.reader().has_cell("cube", (0, 0, 0))
    snapshot = writer.commit("one cell")
    assert snapshot == icechunk_store.snapshot() != before.snapshot
    assert icechunk_store.reader().has_cell("cube", (0, 0, 0))
    assert not travel(before).has_cell("cube", (0, 0, 0))
    assert np.isnan(icechunk_store.dataset(snapshot=before.snapshot).flux[0, 0, 0]).all()


def test_committing_nothing_is_fine(cube):
    before = cube.snapshot()
    writer = cube.writer()
    writer.merge(travel(writer.ticket()))
    assert writer.commit("nothing") == before


def written_cells(store):
    reader, layout = store.reader(), store.layout()
    axes = (range(len(layout.tiles)), range(layout.n_epochs), range(len(layout.bands)))
    return {index for index in product(*axes) if reader.has_cell("cube", index)}


def test_a_ticket_that_comes_back_after_a_commit_loses_nothing(cube, pixels):
    writer = cube.writer()
    cells = sorted(product(range(2), range(3), range(2)))[:8]
    tickets = [travel(writer.ticket()) for _ in cells]
    assert writer.outstanding == 8
    for number, (ticket, index) in enumerate(zip(tickets, cells, strict=True)):
        ticket.write_cell("cube", index, pixels(number))
        writer.merge(travel(ticket))
        if number % 3 == 0:
            writer.commit("some of them")  # the others are in flight
    writer.commit("the rest")
    assert writer.outstanding == 0
    assert written_cells(cube) == set(cells)
    for number, index in enumerate(cells):
        np.testing.assert_array_equal(cube.reader().read_cell("cube", index)["flux"], pixels(number)["flux"])


@pytest.mark.parametrize("order", [("fresh", "late"), ("late", "fresh"), ("fresh late",), ("late", "fresh", "later")])
def test_a_ticket_that_comes_back_after_the_axis_grew_loses_nothing(cube, layout, pixels, order):
    write(cube, (0, 0, 0), pixels(0))
    writer = cube.writer()
    tickets = {"late": travel(writer.ticket()), "later": travel(writer.ticket())}
    cells = {"late": (1, 0, 0), "later": (1, 2, 1), "fresh": (1, 4, 1)}
    tickets["late"].write_cell("cube", cells["late"], pixels(1))  # before the growth
    cube.create("cube", CUBE, layout(n_epochs=5))
    tickets["fresh"] = travel(writer.ticket())
    tickets["fresh"].write_cell("cube", cells["fresh"], pixels(1))
    tickets["later"].write_cell("cube", cells["later"], pixels(1))  # after it
    expected = {(0, 0, 0)}
    for together in order:
        for name in together.split():
            writer.merge(travel(tickets[name]))
            expected.add(cells[name])
        writer.commit(together)
    assert written_cells(cube) >= expected
    if cube.engine == "icechunk":
        assert written_cells(cube) == expected
    for index in expected - {(0, 0, 0)}:
        for name, value in pixels(1).items():
            np.testing.assert_array_equal(cube.reader().read_cell("cube", index)[name], value)


def test_a_ticket_older_than_the_growth_says_so(icechunk_store, layout, pixels):
    icechunk_store.create("cube", CUBE, layout())
    ticket = icechunk_store.writer().ticket()
    icechunk_store.create("cube", CUBE, layout(n_epochs=5))
    with pytest.raises(SchemaError, match="take a new ticket"):
        ticket.write_cell("cube", (0, 4, 0), pixels(1))


def test_a_ticket_that_never_comes_back_is_harmless_garbage(icechunk_store, layout, pixels):
    from datetime import timedelta

    icechunk_store.create("cube", CUBE, layout())
    icechunk_store.writer().ticket().write_cell("cube", (0, 0, 0), pixels(1))  # its task died
    write(icechunk_store, (0, 1, 0), pixels(2))
    assert not icechunk_store.reader().has_cell("cube", (0, 0, 0))
    assert icechunk_store.collect_garbage(older_than=timedelta(0)) > 0
    np.testing.assert_array_equal(icechunk_store.reader().read_cell("cube", (0, 1, 0))["flux"], pixels(2)["flux"])


def test_a_cell_written_twice_keeps_what_was_merged_last(cube, pixels):
    write(cube, (0, 0, 0), pixels(1))
    write(cube, (0, 0, 0), pixels(2))
    np.testing.assert_array_equal(cube.reader().read_cell("cube", (0, 0, 0))["flux"], pixels(2)["flux"])


def test_what_travels_is_small(cube, pixels):
    ticket = cube.writer().ticket()
    assert len(pickle.dumps(ticket)) < 1500
    ticket.write_cell("cube", (0, 0, 0), pixels(1))
    assert len(pickle.dumps(ticket)) < 3000
    assert len(pickle.dumps(cube.reader())) < 500


def test_writers_in_threads_lose_nothing(cube, layout, pixels):
    cube.create("cube", CUBE, layout(n_epochs=12))
    failures = []

    def work(tile):
        try:
            for epoch in range(12):
                write(cube, (tile, epoch, 0), pixels(epoch), numbers={"mjd": float(epoch)})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(tile,)) for tile in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(cube.reader().has_cell("cube", (t, e, 0)) for t in range(2) for e in range(12))
    assert cube.reader().numbers("cube")["mjd"][:, :, 0].tolist() == [[float(e) for e in range(12)]] * 2


_PROGRAM = """
import os, signal, sys
import numpy as np
from astrid.stores.cube import CubeStore
path, engine, tile, doom = sys.argv[1:]
store = CubeStore(path, engine)
writer = store.writer()
for epoch in range(3):
    ticket = writer.ticket()
    ticket.write_cell("cube", (int(tile), epoch, 0), {"flux": np.full((20, 20), epoch, np.float32)})
    writer.merge(ticket)
    writer.set_numbers("cube", (int(tile), epoch, 0), {"mjd": float(epoch)})
    if doom == "dies" and epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    writer.commit(f"epoch {epoch}")
"""


def start(store, tile, doom):
    source = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": source}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, store.path, store.engine, str(tile), doom], env=environment
    )


def test_processes_that_commit_at_the_same_time_lose_nothing(cube):
    running = [start(cube, tile, "lives") for tile in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert all(cube.reader().has_cell("cube", (t, e, 0)) for t in range(2) for e in range(3))
    assert cube.reader().numbers("cube")["mjd"][:, :, 0].tolist() == [[0.0, 1.0, 2.0]] * 2


def test_a_kill_between_writing_and_commit_leaves_the_old_state(icechunk_store, layout):
    icechunk_store.create("cube", CUBE, layout())
    process = start(icechunk_store, 0, "dies")
    assert process.wait(timeout=120) == -signal.SIGKILL
    reader = icechunk_store.reader()
    assert [reader.has_cell("cube", (0, epoch, 0)) for epoch in range(3)] == [True, False, False]
    assert reader.numbers("cube")["mjd"][0, :2, 0].tolist()[0] == 0.0
    assert np.isnan(reader.numbers("cube")["mjd"][0, 1, 0])
    assert start(icechunk_store, 0, "lives").wait(timeout=120) == 0  # the lock went with the process
    assert all(icechunk_store.reader().has_cell("cube", (0, epoch, 0)) for epoch in range(3))


def test_a_commit_behind_our_back_is_an_error_and_nothing_is_lost(icechunk_store, layout, pixels, monkeypatch):
    import icechunk

    icechunk_store.create("cube", CUBE, layout())
    writer = icechunk_store.writer()
    ticket = writer.ticket()
    ticket.write_cell("cube", (0, 0, 0), pixels(1))
    writer.merge(ticket)
    honest = writer._write_numbers

    def intrude(zarr_store):
        honest(zarr_store)
        repository = icechunk.Repository.open(icechunk.local_filesystem_storage(icechunk_store.path))
        session = repository.writable_session("main")
        zarr.open_group(session.store, path="cube").attrs["note"] = "someone else"
        session.commit("intruder")

    monkeypatch.setattr(writer, "_write_numbers", intrude)
    with pytest.raises(UsageError, match="without AstrID's lock"):
        writer.commit("mine")
    monkeypatch.undo()
    writer.commit("again")
    assert icechunk_store.reader().has_cell("cube", (0, 0, 0))


def test_a_busy_store_is_an_error_that_names_who_holds_it(cube, monkeypatch):
    from astrid.stores import cube as module
    from astrid.stores.lock import locked

    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.1)
    writer = cube.writer()
    writer.set_numbers("cube", (0, 0, 0), {"mjd": 1.0})
    with (
        locked(Path(f"{cube.path}.lock"), busy=""),
        pytest.raises(UsageError, match=f"another run.*process {os.getpid()}"),
    ):
        writer.commit("x")
    writer.commit("x")
    assert cube.reader().numbers("cube")["mjd"][0, 0, 0] == 1.0


def test_the_dataset_can_be_computed_by_worker_processes(cube, pixels):
    write(cube, (0, 0, 0), pixels(1))
    flux = travel(cube.dataset()).flux[0, 0, 0]
    np.testing.assert_array_equal(flux.values, pixels(1)["flux"])
