"""The limits that a Dask scheduler keeps."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import dask
import pytest
from distributed import Client, LocalCluster, wait

from astrid.archives import Archive, FileLimiter, Service
from astrid.archives.outcomes import Paused
from astrid.workflow.limits import ClusterLimiter, limiter_for, register_limits


@pytest.fixture(scope="module")
def client():
    """Two worker processes."""
    quiet = {"distributed.worker.memory.terminate": False}
    with (
        dask.config.set(quiet),
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        register_limits(client)
        yield client


def spans(name, service, seconds=0.03, count=3):
    """Hold a slot a few times; return when."""
    found = []
    for _ in range(count):
        with ClusterLimiter().slot(name, service):
            started = time.time()
            time.sleep(seconds)
            found.append((started, time.time()))
    return found


def test_workers_and_driver_share_concurrency_and_rate(client):
    service = Service("https://x", concurrency=1, interval_s=0.1)
    futures = [client.submit(spans, "shared", service, pure=False) for _ in range(2)]
    own = spans("shared", service)
    everything = sorted([*own, *(span for future in futures for span in future.result())])
    assert len(everything) == 9
    assert all(following >= end for (_, end), (following, _) in pairwise(everything))
    # a busy machine reads the clock late, now and then: not for most of them
    assert statistics.median(after - before for (before, _), (after, _) in pairwise(everything)) > 0.08


def test_threads_of_the_driver_are_counted_too(client):
    service = Service("https://x", concurrency=1, interval_s=0.0)
    with ThreadPoolExecutor(3) as pool:
        everything = sorted(span for found in pool.map(lambda _: spans("threads", service), range(3)) for span in found)
    assert all(following >= end for (_, end), (following, _) in pairwise(everything))


def test_a_penalty_of_one_worker_slows_all(client):
    client.submit(ClusterLimiter().penalise, "slow", 0.4).result()
    started = time.monotonic()
    spans("slow", Service("https://x", interval_s=0.0), 0.0, 1)
    assert time.monotonic() - started > 0.2


def test_a_pause_that_a_service_asked_for_outlives_an_answer_that_was_under_way(client):
    client.submit(ClusterLimiter().penalise, "asked", 1800.0).result()
    client.submit(ClusterLimiter().succeeded, "asked").result()
    with pytest.raises(Paused):
        client.submit(spans, "asked", Service("https://x", interval_s=0.0), pure=False).result()


def test_failures_of_all_workers_close_a_service(client):
    service = Service("https://x", interval_s=0.0, breaker_failures=4, breaker_s=60.0)
    wait([client.submit(ClusterLimiter().failed, "down", service, pure=False) for _ in range(4)])
    with pytest.raises(Paused, match="4 requests in a row failed"):
        client.submit(spans, "down", service, pure=False).result()
    client.submit(ClusterLimiter().succeeded, "down").result()
    assert spans("down", service, 0.0, 1)


def hold(name, service):
    """Take a slot and never give it back."""
    ClusterLimiter().slot(name, service).__enter__()
    time.sleep(60)


def test_a_lost_worker_gives_its_slots_back(client):
    service = Service("https://x", concurrency=1, interval_s=0.0)
    before = set(client.scheduler_info()["workers"])
    victim = sorted(before)[0]
    future = client.submit(hold, "lost", service, workers=[victim], pure=False)
    time.sleep(0.5)
    started = time.monotonic()
    client.retire_workers([victim])
    assert spans("lost", service, 0.0, 1)
    assert time.monotonic() - started < 30
    future.cancel()


def test_workers_of_this_machine_share_files(client, tmp_path):
    archive = Archive({}, cache=str(tmp_path))
    assert isinstance(limiter_for(archive, None), FileLimiter)
    assert isinstance(limiter_for(archive, client), FileLimiter)
    assert limiter_for(archive, client) == limiter_for(archive, None)


def test_workers_elsewhere_ask_the_scheduler(client, tmp_path, monkeypatch):
    monkeypatch.setattr("astrid.workflow.limits._all_here", lambda client: False)
    assert limiter_for(Archive({}, cache=str(tmp_path)), client) == ClusterLimiter()
