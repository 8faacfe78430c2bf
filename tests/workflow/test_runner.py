from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from astrid.errors import AlgorithmError, AstridError, CellSkipped, DataError
from astrid.stores.journal import Journal
from astrid.workflow.keys import Product
from astrid.workflow.runner import HOPELESS, Outcome, Runner

ROWS = pa.schema([("value", pa.int64())])


@dataclass
class Silent:
    notes: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def start(self, step: str, total: int, already: int = 0) -> None:
        self.notes.append(f"{step} {already}/{total}")

    def advance(self, step: str, outcome: Outcome) -> None:
        self.seen.append(outcome.key)

    def finish(self, step: str) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


@dataclass(frozen=True)
class Double:
    def __call__(self, key, ticket):
        if key == 3:
            raise CellSkipped("three is nothing to do")
        if key == 4:
            raise AlgorithmError("four did not converge: 7.2 after 30 steps")
        if key == 5:
            raise DataError("five.fits: not a FITS file")
        if key == 6:
            raise ZeroDivisionError("six")
        return Product(tables={"values": pa.table({"value": [2 * key]}, schema=ROWS)})


@dataclass(frozen=True)
class Broken:
    def __call__(self, key, ticket):
        raise KeyError("the same bug")


@pytest.fixture(params=["inline", "dask"])
def client(request):
    if request.param == "inline":
        yield None
    else:
        yield request.getfixturevalue("dask_client")


def statuses(journal):
    return {row["key"]: row["status"] for row in journal.ledger().to_pylist()}


def test_every_outcome_is_recorded_and_the_rest_goes_on(client, tmp_path):
    runner = Runner(client, Silent())
    with Journal(tmp_path) as journal:
        runner.run("double", Double(), range(9), journal)
        found = statuses(journal)
        assert {key for key, status in found.items() if status == "failed"} == {"4", "5", "6"}
        assert found["3"] == "skipped"
        assert sorted(journal.table("values", ROWS)["value"].to_pylist()) == [0, 2, 4, 14, 16]
        reasons = {row["key"]: row["reason"] for row in journal.ledger().to_pylist()}
        assert reasons["4"] == "four did not converge: 7.2 after 30 steps"
        assert reasons["6"] == "ZeroDivisionError: six"
    assert (runner.failures, runner.bugs) == (3, 1)


def test_a_second_run_does_only_what_is_missing(client, tmp_path):
    with Journal(tmp_path) as journal:
        Runner(client, Silent()).run("double", Double(), range(3), journal)
        progress = Silent()
        Runner(client, progress).run("double", Double(), range(5), journal)
        assert sorted(progress.seen) == ["3", "4"]
        again = Silent()
        Runner(client, again).run("double", Double(), range(5), journal)
        assert again.seen == ["4"]  # a failure is tried again, a skip is not
        assert len(journal.table("values", ROWS)) == 3


def test_the_same_bug_everywhere_stops_the_run(client, tmp_path):
    progress = Silent()
    with Journal(tmp_path) as journal, pytest.raises(AstridError, match="the same bug"):
        Runner(client, progress).run("broken", Broken(), range(10 * HOPELESS), journal)
    assert len(progress.seen) <= HOPELESS


def test_a_few_broken_keys_do_not_stop_the_run(client, tmp_path):
    with Journal(tmp_path) as journal:
        runner = Runner(client, Silent())
        runner.run("broken", Broken(), range(HOPELESS - 1), journal)
        assert runner.bugs == HOPELESS - 1
