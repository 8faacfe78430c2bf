import os

import pytest
from distributed import Client

from astrid.clusters import Cluster
from astrid.clusters.address import Address
from astrid.clusters.base import PINNED_THREADS
from astrid.clusters.inline import Inline
from astrid.clusters.local import Local
from astrid.errors import UsageError


def address_of(request):
    return Address(request.getfixturevalue("dask_client").scheduler.address)


KINDS = {
    "inline": lambda request: Inline(),
    "local": lambda request: Local(n_workers=1, dashboard=""),
    "address": address_of,
}


@pytest.fixture(params=KINDS)
def cluster(request):
    return KINDS[request.param](request)


def double(value):
    return 2 * value


def environment():
    return {name: os.environ.get(name) for name in PINNED_THREADS}


def test_it_starts_and_does_what_it_is_given(cluster):
    assert isinstance(cluster, Cluster)
    with cluster.start() as client:
        if client is None:
            assert cluster.name == "inline"
            return
        assert isinstance(client, Client)
        assert client.gather(client.map(double, [1, 2, 3])) == [2, 4, 6]


def test_it_is_told_apart_by_the_word_that_chooses_it(cluster):
    assert type(cluster).__module__ == f"astrid.clusters.{cluster.name}"


def test_local_workers_use_one_thread_each():
    with Local(n_workers=1, dashboard="").start() as client:
        workers = client.scheduler_info()["workers"].values()
        assert [worker["nthreads"] for worker in workers] == [1]
        assert client.submit(environment).result() == PINNED_THREADS


def test_it_takes_a_scheduler_as_it_is_and_leaves_it_running(dask_client):
    with Address(dask_client.scheduler.address).start():
        pass
    assert dask_client.submit(double, 4).result() == 8


@pytest.mark.parametrize(
    "cluster", [Address(), Address("tcp://127.0.0.1:1", timeout_seconds=0.5)], ids=["none", "silent"]
)
def test_an_address_that_cannot_be_used_says_what_to_do(cluster):
    with pytest.raises(UsageError, match="cluster"), cluster.start():
        pass


def test_workers_fit_the_machine():
    n_workers, limit = Local(memory_per_worker="1GB").size()
    assert 1 <= n_workers <= os.cpu_count()
    assert Local(memory_per_worker="100TB").size()[0] == 1
    assert Local(n_workers=3, memory_limit="1GB").size() == (3, 10**9)
    assert limit > 0
