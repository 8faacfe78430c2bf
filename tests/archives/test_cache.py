import hashlib
import json
import multiprocessing
import os
import time

import pytest

from astrid.archives import Download, NoCoverage
from astrid.archives.cache import Cache, key_of, read_note
from tests.archives.emulator import Emulator, Reply


def keep(cache, data, key="k", service="irsa"):
    """Put bytes into a cache as a download does."""
    part = cache.part()
    part.write_bytes(data)
    note = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "url": "u"}
    return cache.add(service, key, part, note)


def test_what_was_kept_is_found_with_its_note(tmp_path):
    cache = Cache(tmp_path)
    assert cache.find("irsa", "k") is None
    note = keep(cache, b"pixels")
    assert cache.find("irsa", "k") == note
    assert cache.path_of(note["sha256"]).read_bytes() == b"pixels"
    assert cache.find("irsa", "other") is cache.find("ps1", "k") is None


def test_the_same_content_is_kept_once(tmp_path):
    cache = Cache(tmp_path)
    keep(cache, b"pixels", "one")
    keep(cache, b"pixels", "two")
    assert cache.sizes().files == 1
    assert cache.sizes().by_service == {"irsa": (2, 12)}


def test_a_note_whose_file_is_gone_or_short_or_which_is_damaged_counts_for_nothing(tmp_path):
    cache = Cache(tmp_path)
    place = cache.path_of(keep(cache, b"pixels")["sha256"])
    place.write_bytes(b"pix")
    assert cache.find("irsa", "k") is None
    place.unlink()
    assert cache.find("irsa", "k") is None
    keep(cache, b"pixels")
    cache._note("irsa", "k").write_text('{"outcome": "ok"')
    assert cache.find("irsa", "k") is None


def test_answers_of_searches_are_believed_for_a_time(tmp_path):
    cache = Cache(tmp_path)
    keep(cache, b"rows")
    assert cache.find("irsa", "k", 60.0) is not None
    assert cache.find("irsa", "k", 0.0) is None


def test_no_coverage_is_remembered_until_its_time_is_over(tmp_path):
    cache = Cache(tmp_path)
    cache.add_no_coverage("irsa", "k", {"url": "u", "reason": "r"}, 0.1)
    assert cache.find("irsa", "k")["outcome"] == "no coverage"
    time.sleep(0.12)
    assert cache.find("irsa", "k") is None


def test_pruning_by_age_and_service_keeps_the_rest(tmp_path):
    cache = Cache(tmp_path)
    keep(cache, b"old", "old")
    keep(cache, b"shared", "shared-old")
    for key in ("old", "shared-old"):
        path = cache._note("irsa", key)
        path.write_text(json.dumps(read_note(path) | {"received": time.time() - 10 * 86400}))
    keep(cache, b"new", "new")
    keep(cache, b"shared", "shared-new", "ps1")
    assert cache.prune(older_than_days=5) == (1, 3)
    assert cache.find("irsa", "new")
    assert cache.find("ps1", "shared-new")
    assert cache.prune(service="irsa") == (1, 3)
    assert cache.sizes().by_service == {"ps1": (1, 6)}
    assert cache.prune(older_than_days=0) == (1, 6)
    assert cache.sizes().files == 0


def test_pruning_without_a_word_removes_only_what_a_kill_left_behind(tmp_path):
    cache = Cache(tmp_path)
    keep(cache, b"kept")
    left = cache.part()
    left.write_bytes(b"half")
    being_written = cache.part()
    being_written.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert cache.prune() == (1, 4)
    assert being_written.exists()
    assert cache.find("irsa", "k")


def test_requests_that_differ_in_anything_are_different():
    keys = {key_of("u", (), None), key_of("u", (("a", "1"),), None), key_of("u", (), "a"), key_of("v", (), None)}
    assert len(keys) == 4


def many(folder, number):
    cache = Cache(folder)
    for turn in range(20):
        keep(cache, f"content {turn}".encode(), f"key {turn}")
        note = cache.find("irsa", f"key {turn}")
        assert cache.path_of(note["sha256"]).read_bytes() == f"content {turn}".encode()


def test_processes_share_a_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=many, args=(tmp_path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert Cache(tmp_path).sizes().by_service == {"irsa": (20, 190)}
    assert not list((tmp_path / "partial").iterdir())


@pytest.fixture(scope="module")
def server():
    def answer(request, sky):
        if request.path == "/nothing":
            return Reply(b"off the image\n", 400, "text/plain")
        return Reply(b"data " + request.path.encode(), content_type="text/plain")

    with Emulator({"irsa": answer}, None) as emulator:
        yield emulator


def test_a_second_call_asks_nothing(server, fetcher):
    one = fetcher(server.url)
    first = one.fetch(Download("irsa", "/a", about={"survey": "ztf", "acknowledgement": "ztf", "mjd": 59000.0}))
    before = len(server.requests())
    second = fetcher(server.url).fetch(Download("irsa", "/a"))
    assert (first.is_new, second.is_new) == (True, False)
    assert len(server.requests()) == before
    note = second.note
    assert note["url"] == f"{server.url}/irsa/a"
    assert note["sha256"] == hashlib.sha256(second.path.read_bytes()).hexdigest()
    assert note["about"] == {"survey": "ztf", "acknowledgement": "ztf", "mjd": 59000.0}
    assert note["emulator"] is True
    assert note["checks"] == ["not empty"]


def test_nothing_there_is_asked_once(server, fetcher):
    one = fetcher(server.url)
    for _ in range(2):
        with pytest.raises(NoCoverage, match="off the image"):
            one.fetch(Download("irsa", "/nothing", nothing=(400,)))
    assert len(server.requests(text="/nothing")) == 1


def test_answers_of_one_server_are_not_taken_for_those_of_another(server, fetcher):
    one, other = fetcher(server.url), fetcher(server.fault("500x0", "another"))
    assert one.fetch(Download("irsa", "/b")).is_new
    assert other.fetch(Download("irsa", "/b")).is_new
