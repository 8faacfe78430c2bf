import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from astrid.stores.tables import read_json
from tests.workflow.conftest import assert_same_numbers, assert_same_results, assert_same_table, night

# the ids and groups of candidates are named after the configuration, which differs on purpose
NAMES = ("candidate_id", "object_id", "stamp")


def places_of(folder):
    table = pq.read_table(folder / "candidates.parquet")
    return table.sort_by([(name, "ascending") for name in ("tile", "epoch", "band", "y", "x")])


def test_local_workers_give_what_this_process_gives(place, undisturbed):
    words = night("local", "cluster.n_workers=2", "cluster.dashboard=127.0.0.1:0", cluster="local")
    process = place.start("run", *words)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert "Dask dashboard: http://127.0.0.1:" in said
    assert_same_results(place.run("local"), undisturbed.run("night"))


def test_plain_zarr_gives_what_icechunk_gives(place, undisturbed):
    ended = place("run", *night("zarr", "store=zarr"))
    assert ended.code == 0, ended.out + ended.err
    assert_same_results(place.run("zarr"), undisturbed.run("night"))


@pytest.mark.parametrize("keep", ["stamps", "none"])
def test_differences_made_again_give_what_kept_ones_give(done_before, undisturbed, keep):
    ended = done_before("evaluate", *night("again", f"keep={keep}"))
    assert ended.code == 0, ended.out + ended.err
    assert "preprocess: 4 done before" in ended.out
    again, kept = (places_of(one) for one in (done_before.run("again"), undisturbed.run("night")))
    assert len(again) > 0
    assert_same_table(again, kept, ignore=NAMES)
    assert_same_numbers(*(read_json(p / "metrics.json") for p in (done_before.run("again"), undisturbed.run("night"))))


@pytest.fixture(scope="session")
def provided(undisturbed, images, tmp_path_factory):
    """Exposures that each bring the first one as their template, but for the last, which brings none."""
    folder = tmp_path_factory.mktemp("provided")
    first, *others = images()
    for path in others:
        shutil.copy(path, folder / path.name)
    for path in others[:-1]:
        shutil.copy(first, folder / f"{path.stem}.template.fits")
    return folder


def test_provided_templates_are_subtracted(place, provided):
    words = (f"survey.path={provided}", "survey.companions.template='{stem}.template.fits'", "template=provided")
    ended = place("run", "survey=directory", *words, "survey.exclude=['*.template.fits']", *OWN)
    assert ended.code == 0, ended.out + ended.err
    cells = pq.read_table(place.run("own") / "cells.parquet").to_pylist()
    ids = [row["template_id"] for row in cells]
    assert [name for name in ids if name] == [f"provided/t0000/e{e:04d}/g" for e in range(2)]
    ledger = pq.read_table(place.run("own") / "ledger.parquet").to_pylist()
    skipped = [row["reason"] for row in ledger if row["status"] == "skipped"]
    assert skipped
    assert all("no template" in reason for reason in skipped)
    candidates = pq.read_table(place.run("own") / "candidates.parquet")
    assert len(candidates) > 0
    assert np.isfinite(candidates["significance"].to_numpy()).all()


OWN = ("grid.core=256", "cluster=inline", "name=own")
