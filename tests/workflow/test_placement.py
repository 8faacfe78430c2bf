import asyncio
from dataclasses import dataclass

import numpy as np
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker

from astrid.detection import Detections
from astrid.detection.unet import weights
from astrid.detection.unet.detector import Unet
from astrid.errors import DataError
from astrid.ranking import Ranker
from astrid.stores.journal import Journal
from astrid.workflow.keys import Product
from astrid.workflow.placement import GPU, STEPS, place, prepare
from astrid.workflow.ranked import RankedDetector
from astrid.workflow.runner import Runner
from benchmarks.noise_honesty import Silent

READ: list[str] = []


@dataclass(frozen=True)
class Remembers:
    """A detector that notes when its model is read."""

    model: str = "one"
    uses_gpu: bool = True
    name: str = "remembers"
    threshold: float = 0.5

    def prepare(self):
        READ.append(self.model)

    def __call__(self, difference):
        return Detections(*np.zeros((3, 0)))


@dataclass(frozen=True)
class Where:
    """Work that says which worker it was done by."""

    def __call__(self, key, ticket):
        from distributed import get_worker

        SEEN.append((key, get_worker().name))
        return Product()


SEEN: list[tuple[object, object]] = []


def worker(name, **resources):
    return {"cls": Worker, "options": {"nthreads": 1, "name": name, "resources": resources, "dashboard": False}}


@pytest.fixture
def cluster():
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0, "host": "127.0.0.1"}}
    READ.clear()
    SEEN.clear()
    workers = {"plain": worker("plain"), "gpu": worker("gpu", GPU=1)}
    with SpecCluster(workers, scheduler, silence_logs=False) as cluster, Client(cluster) as client:
        client.wait_for_workers(2)
        yield cluster, client


def test_steps_that_detect_go_to_the_worker_with_a_gpu_and_others_anywhere(cluster, tmp_path):
    resources = place(Remembers(), cluster[1])
    assert resources == {step: {GPU: 1.0} for step in STEPS}
    with Journal(tmp_path / "journal") as journal:
        runner = Runner(cluster[1], Silent(), resources)
        runner.run("detect", Where(), range(6), journal)
        assert {name for _, name in SEEN} == {"gpu"}
        SEEN.clear()
        runner.run("subtract", Where(), range(40), journal)
        assert {name for _, name in SEEN} == {"gpu", "plain"}


def test_a_detector_without_use_for_a_gpu_goes_anywhere(cluster):
    assert place(Remembers(uses_gpu=False), cluster[1]) == {}
    assert place(Unet(device="cpu"), cluster[1]) == {}


def test_each_worker_reads_the_models_and_so_does_one_that_joins_later(cluster):
    place(Remembers("mine"), cluster[1])
    assert READ.count("mine") == 3  # here, and by two workers

    async def join():
        async with Worker(cluster[0].scheduler_address, nthreads=1, name="late", dashboard=False):
            await asyncio.sleep(0.1)

    cluster[0].sync(join)
    assert READ.count("mine") == 4


def test_without_workers_models_are_read_here():
    READ.clear()
    assert place(Remembers("here"), None) == {}
    assert READ == ["here"]


def test_a_model_that_is_not_what_it_should_be_is_said_before_anything_is_done():
    with pytest.raises(DataError, match="no model"):
        place(Unet(model="nowhere"), None)
    with pytest.raises(DataError, match="no ranking model"):
        prepare(RankedDetector(Unet(), Ranker("trees", "nowhere.skops")))


def test_weights_are_read_once_in_a_process():
    prepare(RankedDetector(Unet(), Ranker("combined")))
    assert weights.read("base")[0] is weights.read("base")[0]


def test_what_is_sent_to_workers_is_small():
    from distributed.protocol.pickle import dumps

    from astrid.workflow.placement import Models

    assert len(dumps(Models(RankedDetector(Unet(), Ranker("combined"))))) < 2000
