from pathlib import Path

import pytest

from astrid.errors import DataError
from astrid.schema import CUBE, TEMPLATE
from astrid.stores.catalogue import add_cube
from astrid.stores.readers import find_cube, open_cube


def test_a_cube_opens_by_path_folder_and_name(cube, layout, tmp_path, monkeypatch):
    cube.create("template/coadd", TEMPLATE, layout())
    add_cube(tmp_path / "catalog.yaml", "field", cube.path, cube.engine, "")
    monkeypatch.chdir(tmp_path)
    for name in (cube.path, f"file://{cube.path}", tmp_path, tmp_path / "catalog.yaml", "field"):
        assert find_cube(name).path == cube.path
        assert open_cube(name).identical(cube.dataset())
    assert "epoch" not in open_cube("field", "template/coadd").dims


def test_a_group_opens_without_the_hash_of_its_configuration(cube, layout):
    cube.create("templates/coadd-0a1b2c", TEMPLATE, layout())
    whole = open_cube(cube.path, "templates/coadd-0a1b2c")
    assert open_cube(cube.path, "templates/coadd").identical(whole)
    cube.create("templates/coadd-ffffff", TEMPLATE, layout())
    with pytest.raises(DataError, match=r"no group 'templates/coadd', there are .*0a1b2c.*ffffff"):
        open_cube(cube.path, "templates/coadd")


def test_the_folder_around_a_cube_opens_it(cube, layout):
    cube.create("cube", CUBE, layout())
    (folder := Path(cube.path).with_name("around")).mkdir()
    Path(cube.path).rename(folder / "cube")
    assert open_cube(folder).sizes["epoch"] == 3


def test_an_older_snapshot_opens_by_name(icechunk_store, layout):
    icechunk_store.create("cube", CUBE, layout())
    old = icechunk_store.snapshot()
    icechunk_store.create("cube", CUBE, layout(n_epochs=7))
    assert open_cube(icechunk_store.path).sizes["epoch"] == 7
    assert open_cube(icechunk_store.path, snapshot=old).sizes["epoch"] == 3
    with pytest.raises(DataError, match="cannot open snapshot NOSUCH"):
        open_cube(icechunk_store.path, snapshot="NOSUCH")


def test_a_name_that_means_no_cube_is_an_error_with_the_remedy(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no cube there; check the path or run"):
        open_cube("nothing")
    add_cube(tmp_path / "catalog.yaml", "field", cube.path, cube.engine, "")
    with pytest.raises(DataError, match=r"catalog\.yaml has field"):
        open_cube("nothing")
    add_cube(tmp_path / "catalog.yaml", "other", tmp_path / "other", "zarr", "")
    with pytest.raises(DataError, match=r"2 cubes \(field, other\)"):
        open_cube(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "version: 1", "- 3"])
def test_a_damaged_catalogue_is_named(tmp_path, text):
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(DataError, match=r"catalog\.yaml: not a "):
        open_cube(tmp_path)
