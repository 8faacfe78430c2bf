import json
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests

from astrid.archives import Corrupt, Download, Fetcher, NoCoverage, Permanent, Transient, mast, transport
from astrid.archives.checks import Content, DelimitedTable
from astrid.archives.outcomes import Paused
from astrid.archives.transport import PoliteAdapter, retry_after
from tests.archives.emulator import Emulator, Reply

ROWS = b"a,b\n1,2\n33,44\n"
BODY = bytes(range(256)) * 4096  # a megabyte


def plain(request, sky):
    """A service of files: /whole can be had in parts, /table is text, /echo says what was posted."""
    if request.path == "/whole":
        return Reply(BODY, whole=True)
    if request.path == "/echo":
        return Reply(request.body, content_type="text/plain")
    if request.path == "/slow":
        time.sleep(0.1)
    if request.path == "/page":
        return Reply(b"<html><body>not what was asked for</body></html>")  # says nothing of its type
    return Reply(ROWS, content_type="text/csv")


@pytest.fixture(scope="module")
def server():
    with Emulator({"irsa": plain}, None) as emulator:
        yield emulator


TABLE = Download("irsa", "/table", check=DelimitedTable(("a", "b")), nothing=(400,))
WHOLE = Download("irsa", "/whole", whole=True)


def test_a_busy_service_is_asked_again_after_the_time_it_names(server, fetcher):
    busy = fetcher(server.fault("429x1", "again"), attempts=3)
    started = time.monotonic()
    assert busy.read(TABLE) == ROWS
    assert 0.9 < time.monotonic() - started < 3


def test_one_429_makes_all_others_wait(server, fetcher):
    with pytest.raises(Transient):
        fetcher(server.fault("429x1", "others"), attempts=1).read(TABLE)
    started = time.monotonic()
    other = fetcher(server.fault("429x1", "others"), attempts=1)
    other.read(TABLE)
    assert time.monotonic() - started > 0.8


@pytest.mark.parametrize("fault", ["500", "503", "silent", "drop", "html"])
def test_what_may_pass_is_tried_again(fault, server, fetcher):
    flaky = fetcher(server.fault(f"{fault}x2", f"passes-{fault}"), attempts=3)
    assert flaky.read(TABLE) == ROWS


@pytest.mark.parametrize("fault", ["404", "403"])
def test_what_is_final_is_asked_once(fault, server, fetcher):
    before = len(server.requests())
    with pytest.raises(Permanent, match=fault):
        fetcher(server.fault(fault, "final"), attempts=5).read(TABLE)
    assert len(server.requests()) == before + 1


@pytest.mark.parametrize("fault", ["short", "zero"])
def test_what_is_damaged_is_asked_for_once_more_and_never_kept(fault, server, fetcher):
    before = len(server.requests())
    broken = fetcher(server.fault(fault, "damaged"), attempts=5)
    with pytest.raises(Corrupt):
        broken.read(TABLE)
    assert len(server.requests()) == before + 2
    assert broken.cache.sizes().files == 0
    assert not list((broken.cache.folder / "partial").iterdir())


def test_a_page_without_a_content_type_is_no_data(server, fetcher):
    with pytest.raises(Transient, match="a web page came"):
        fetcher(server.url, attempts=1).read(Download("irsa", "/page", check=Content()))


def test_a_service_that_sends_a_byte_now_and_then_is_given_up(server, fetcher):
    started = time.monotonic()
    with pytest.raises(Transient, match=r"not complete after 0\.4"):
        fetcher(server.fault("drip", "drip"), attempts=1, deadline_s=0.4).read(WHOLE)
    assert time.monotonic() - started < 2


def test_a_large_file_that_comes_along_may_take_longer_than_other_answers(server, fetcher, monkeypatch):
    monkeypatch.setattr(transport, "SLOWEST_RATE", 1.0)  # bytes per second; it sends some twenty
    slow = fetcher(server.fault("drip", "patience"), attempts=1, deadline_s=0.1)
    assert slow.read(TABLE) == ROWS
    monkeypatch.setattr(transport, "LONGEST_DOWNLOAD", 0.2)
    with pytest.raises(Transient, match=r"not complete after 0\.2"):
        slow.read(Download("irsa", "/table", params=(("again", "1"),)))


def test_a_403_closes_a_service_that_shuts_out_who_asks_too_much(server, fetcher):
    banned = fetcher(server.fault("403", "ban"), ban_s=1800.0)
    with pytest.raises(Permanent, match="status 403"):
        banned.read(TABLE)
    before = len(server.requests())
    with pytest.raises(Paused, match="asked to be left alone"):
        banned.read(WHOLE)
    assert len(server.requests()) == before


def test_a_403_of_one_file_does_not_close_a_service(server, fetcher):
    private = fetcher(server.fault("403x1", "private"))
    with pytest.raises(Permanent):
        private.read(TABLE)
    assert private.read(TABLE) == ROWS


def test_a_service_that_keeps_failing_is_left_alone(server, fetcher):
    down = fetcher(server.fault("503", "down"), attempts=1, breaker_failures=3, breaker_s=60.0)
    for _ in range(3):
        with pytest.raises(Transient):
            down.read(TABLE)
    before = len(server.requests())
    with pytest.raises(Paused, match="3 requests in a row failed"):
        down.read(TABLE)
    assert len(server.requests()) == before


def test_nobody_listening_is_said_in_words(fetcher):
    with pytest.raises(Transient, match="refused"):
        fetcher("http://127.0.0.1:9", attempts=1).read(TABLE)


def test_a_broken_whole_file_goes_on_where_it_stopped(server, fetcher):
    broken = fetcher(server.fault("dropx1", "resume"), attempts=3)
    assert broken.read(WHOLE) == BODY
    first, second = server.requests(text="/whole")[-2:]
    assert first.sent < len(BODY)
    assert second.status == 206
    assert second.headers["Range"] == f"bytes={len(BODY) - second.sent}-"
    assert 0 < second.sent < len(BODY)


def test_a_whole_file_goes_on_in_the_next_run(server, fetcher):
    url = server.fault("dropx1", "next-run")
    with pytest.raises(Transient):
        fetcher(url, attempts=1).read(WHOLE)
    assert fetcher(url, attempts=1).read(WHOLE) == BODY
    assert server.requests(text="/whole")[-1].status == 206


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, fetcher):
    url = server.fault("dropx1", "changed")
    broken = fetcher(url, attempts=1)
    with pytest.raises(Transient):
        broken.read(WHOLE)
    (tag,) = (broken.cache.folder / "partial").glob("*.etag")
    tag.write_text('"another version"')
    assert fetcher(url, attempts=1).read(WHOLE) == BODY
    assert server.requests(text="/whole")[-1].status == 200


def test_a_damaged_start_of_a_file_is_not_gone_on_with_forever(server, fetcher):
    url = server.fault("dropx1", "longer")
    broken = fetcher(url, attempts=1)
    with pytest.raises(Transient):
        broken.read(WHOLE)
    (part,) = (broken.cache.folder / "partial").glob("*.part")
    part.write_bytes(BODY + b"more than there is")
    assert fetcher(url, attempts=2).read(WHOLE) == BODY


def test_bodies_are_posted_as_they_are(server, fetcher):
    assert fetcher(server.url).read(Download("irsa", "/echo", data="-source=I/355")) == b"-source=I/355"
    assert fetcher(server.url).read(Download("irsa", "/echo", data=(("a", "1 2"),))) == b"a=1+2"


def test_requests_say_who_asks_and_want_plain_bytes(server, fetcher):
    fetcher(server.url).read(TABLE)
    headers = server.requests(text="/table")[-1].headers
    assert headers["User-Agent"].startswith("astrid/")
    assert headers["Accept-Encoding"] == "identity"


def test_threads_stay_within_the_limits_of_a_service(server, fetcher):
    polite = fetcher(server.url, concurrency=2)
    server.most_running.clear()
    asks = [Download("irsa", "/slow", (("n", str(n)),)) for n in range(6)]
    threads = [threading.Thread(target=polite.read, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.most_running["irsa"] == 2


def test_a_status_that_means_nothing_there_is_no_coverage(server, fetcher):
    ask = Download("irsa", "/table", nothing=(404,))
    with pytest.raises(NoCoverage, match="nothing there: status 404"):
        fetcher(server.fault("404", "nothing")).read(ask)


def test_retry_after_is_a_number_or_a_date():
    assert retry_after("2.5") == 2.5
    assert retry_after("-3") == 0.0
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after(date) == pytest.approx(30, abs=2)
    assert retry_after(None) is retry_after("soon") is None


def test_outcomes_survive_pickling():
    error = Transient("irsa", "https://x", "status 429", 3.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.retry_after) == (Transient, str(error), 3.0)
    assert "irsa: status 429 (https://x); run the same command again later" in str(error)


OUTCOMES = {
    "429": Transient,
    "500": Transient,
    "404": Permanent,
    "silent": Transient,
    "drop": Transient,
    "html": Transient,
}


@pytest.mark.parametrize(("fault", "outcome"), OUTCOMES.items())
def test_the_session_of_another_library_meets_the_same_outcomes(fault, outcome, server, fetcher):
    session = requests.Session()
    polite = fetcher(server.fault(f"{fault}x1", f"adapter-{fault}"), attempts=1)
    session.mount("https://irsa.ipac.caltech.edu", PoliteAdapter(polite.transport, "irsa"))
    with pytest.raises(outcome):
        session.get("https://irsa.ipac.caltech.edu/table", params={"q": 1})
    assert session.get("https://irsa.ipac.caltech.edu/table").text == ROWS.decode()


def test_a_fetcher_survives_pickling(server, fetcher):
    one = fetcher(server.url)
    copy = pickle.loads(pickle.dumps(one))
    assert isinstance(copy, Fetcher)
    assert copy.archive == one.archive
    assert copy.read(TABLE) == one.read(TABLE)


def test_a_search_of_mast_that_is_still_running_is_asked_for_until_it_ends(fetcher, monkeypatch):
    monkeypatch.setattr(mast, "POLL_SECONDS", 0.01)
    answers = iter(["EXECUTING", "EXECUTING", "COMPLETE"])

    def slow(request, sky):
        rows = {"status": next(answers), "data": [{"obsid": 7}]}
        return Reply(json.dumps(rows).encode(), content_type="application/json")

    request = mast.search_request("Mast.Caom.Products", {"obsid": "1"}, columns=("obsid",))
    with Emulator({"mast": slow}, None) as emulator:
        assert mast.search(fetcher(emulator.url), request) == [{"obsid": 7}]


def test_a_search_of_mast_that_never_ends_is_given_up(fetcher, monkeypatch):
    monkeypatch.setattr(mast, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(mast, "LONGEST_SEARCH", 0.05)
    running = Reply(b'{"status": "EXECUTING", "data": []}', content_type="application/json")
    request = mast.search_request("Mast.Caom.Products", {"obsid": "1"})
    with (
        Emulator({"mast": lambda request, sky: running}, None) as emulator,
        pytest.raises(Transient, match="the search has not ended"),
    ):
        mast.search(fetcher(emulator.url), request)
