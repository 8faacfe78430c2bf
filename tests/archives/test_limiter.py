import statistics
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from astrid.archives import FileLimiter, Service, Transient
from astrid.archives import limiter as limiter_module
from astrid.archives.limiter import LONGEST_PAUSE, Gate
from astrid.archives.outcomes import Paused

FREE = Service("https://x", concurrency=50, interval_s=0.0)


def test_no_more_requests_run_at_a_time_than_allowed(tmp_path):
    limiter, service = FileLimiter(str(tmp_path)), Service("https://x", concurrency=2, interval_s=0.0)
    running, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal running, most
        with limiter.slot("x", service):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.03)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


PROCESS = """
import sys, time
from astrid.archives import FileLimiter, Service
limiter = FileLimiter(sys.argv[1])
service = Service("https://x", concurrency=1, interval_s=0.05)
for _ in range(3):
    with limiter.slot("x", service):
        start = time.time()
        time.sleep(0.01)
        print(start, time.time(), flush=True)
"""


def test_processes_share_concurrency_and_rate(tmp_path, repository):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path)], cwd=repository, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    spans = sorted(
        tuple(map(float, line.split())) for process in processes for line in process.communicate()[0].splitlines()
    )
    assert len(spans) == 6
    assert all(following >= end for (_, end), (following, _) in pairwise(spans))
    # a busy machine reads the clock late, now and then: not for most of them
    assert statistics.median(after - before for (before, _), (after, _) in pairwise(spans)) > 0.04


def test_a_killed_process_gives_its_slot_back(tmp_path, repository):
    hold = (
        "import sys, time\nfrom astrid.archives import FileLimiter, Service\n"
        "with FileLimiter(sys.argv[1]).slot('x', Service('https://x', concurrency=1, interval_s=0)):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], cwd=repository, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    with FileLimiter(str(tmp_path)).slot("x", Service("https://x", concurrency=1, interval_s=0.0)):
        pass


def test_a_penalty_slows_everybody(tmp_path):
    FileLimiter(str(tmp_path)).penalise("x", 0.2)
    started = time.monotonic()
    with FileLimiter(str(tmp_path)).slot("x", FREE):
        assert time.monotonic() - started > 0.15
    started = time.monotonic()
    with FileLimiter(str(tmp_path)).slot("other", FREE):
        assert time.monotonic() - started < 0.15


def test_too_many_failures_in_a_row_close_a_service_for_a_while(tmp_path):
    service = Service("https://x", concurrency=1, interval_s=0.0, breaker_failures=3, breaker_s=0.3)
    limiter = FileLimiter(str(tmp_path))
    for _ in range(3):
        with limiter.slot("x", service):
            pass
        limiter.failed("x", service)
    with pytest.raises(Paused, match="3 requests in a row failed") as caught, limiter.slot("x", service):
        pass
    assert isinstance(caught.value, Transient)
    time.sleep(0.35)
    with limiter.slot("x", service):  # one trial ...
        pass
    limiter.failed("x", service)
    with pytest.raises(Paused), limiter.slot("x", service):  # ... which failed
        pass
    time.sleep(0.35)
    limiter.succeeded("x")
    limiter.failed("x", service)
    with limiter.slot("x", service):  # the count begins anew
        pass


def test_a_success_between_failures_keeps_a_service_open(tmp_path):
    service = Service("https://x", interval_s=0.0, breaker_failures=2)
    limiter = FileLimiter(str(tmp_path))
    for _ in range(4):
        limiter.failed("x", service)
        limiter.succeeded("x")
    with limiter.slot("x", service):
        pass


def test_nobody_waits_for_a_service_that_asks_for_an_hour(tmp_path):
    limiter = FileLimiter(str(tmp_path))
    limiter.penalise("x", 7200.0)
    with pytest.raises(Paused, match="asked to be left alone") as caught, limiter.slot("x", FREE):
        pass
    assert caught.value.retry_after <= LONGEST_PAUSE


def test_a_clock_that_was_set_back_does_not_block_for_long():
    gate = Gate(next_start=1e9, closed_until=1e9)
    assert gate.closed_for(0.0) <= LONGEST_PAUSE
    assert gate.take(0.0, FREE) <= 60.0


def test_a_pause_that_a_service_asked_for_outlives_an_answer_that_was_under_way(tmp_path):
    limiter = FileLimiter(str(tmp_path))
    limiter.penalise("x", 1800.0)
    limiter.succeeded("x")
    with pytest.raises(Paused, match="asked to be left alone"), limiter.slot("x", FREE):
        pass


def test_slots_that_never_come_back_are_not_waited_for_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(limiter_module, "LONGEST_DOWNLOAD", 0.1)
    monkeypatch.setattr(limiter_module, "LONGEST_WAIT", 0.1)
    service = Service("https://x", concurrency=1, interval_s=0.0, deadline_s=0.1)
    limiter = FileLimiter(str(tmp_path))
    with limiter.slot("x", service), pytest.raises(Paused, match="is one suspended"), limiter.slot("x", service):
        pass
