import os
import re
import signal
from dataclasses import dataclass

import cloudpickle
import dask
import intake
import pytest

import astrid
from astrid.cli import build, compose
from astrid.clusters.local import Local
from astrid.stores.journal import Journal
from astrid.workflow.keys import Product
from astrid.workflow.pipeline import execute
from astrid.workflow.runner import Runner
from tests.workflow.conftest import night

LIMIT = 1_000_000


class Quiet:
    def start(self, step, total, already=0): ...

    def advance(self, step, outcome): ...

    def finish(self, step): ...

    def note(self, message): ...


@dataclass(frozen=True)
class Fatal:
    """Kills the worker that tries key 1, and does the others."""

    def __call__(self, key, ticket):
        if key == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Product()


@pytest.fixture
def spied(dask_client, monkeypatch):
    """Sizes of everything submitted, by the name of its task."""
    sizes = {}
    submit = dask_client.submit

    def spy(function, *arguments, key, **options):
        sizes[key] = len(cloudpickle.dumps((function, arguments)))
        return submit(function, *arguments, key=key, **options)

    monkeypatch.setattr(dask_client, "submit", spy)
    return sizes


def test_tasks_are_small_and_named_after_their_step(spied, dask_client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (*night("dask", cluster="address"), f"cluster.scheduler={dask_client.scheduler.address}")
    settings = build(compose("run", words))

    class Here:
        name = "here"

        def start(self):
            from contextlib import nullcontext

            return nullcontext(dask_client)

    from dataclasses import replace

    assert execute(replace(settings, cluster=Here()), "report", Quiet()) == 0
    assert max(spied.values()) < LIMIT
    steps = {name.rpartition("-")[0] for name in spied}
    assert steps == {"measure", "preprocess", "template", "subtract", "detect", "light_curves", "evaluate"}
    page = (tmp_path / "runs" / "dask" / "dask-report.html").read_text()
    assert not re.search(r'<(script|link)[^>]+(src|href)="https?:', page)


def test_a_cube_opens_without_computing_anything(undisturbed):
    def refuse(*arguments, **options):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        path = next(undisturbed.folder.glob("cubes/*/cube"))
        dataset = astrid.open_cube(path)
        mean = dataset.flux.mean("epoch")
        catalogue = intake.open_catalog(str(undisturbed.folder / "cubes" / "catalog.yaml"))
        entry = catalogue[path.parent.name].read()
        assert entry.flux.shape == dataset.flux.shape
        with pytest.raises(AssertionError, match="computed"):
            mean.compute()


def test_a_worker_that_dies_costs_its_own_key_only(tmp_path):
    cluster = Local(n_workers=1, dashboard="")
    with (
        cluster.start() as client,
        Journal(tmp_path) as journal,
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
    ):
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
        runner = Runner(client, Quiet())
        runner.run("fatal", Fatal(), [1], journal)
        runner.run("after", Fatal(), [2, 3], journal)
        rows = {(row["step"], row["key"]): row for row in journal.ledger().to_pylist()}
    assert rows["fatal", "1"]["status"] == "failed"
    assert "worker lost" in rows["fatal", "1"]["reason"]
    assert rows["after", "2"]["status"] == rows["after", "3"]["status"] == "done"
