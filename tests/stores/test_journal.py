import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrid.errors import DataError, SchemaError, UsageError
from astrid.schema import LEDGER
from astrid.stores.journal import Journal, keyed

ROWS = pa.schema([pa.field("value", pa.float64(), metadata={"unit": "nJy"}), pa.field("name", pa.string())])


def row(key, status="done", step="detect"):
    return {"step": step, "key": key, "status": status, "reason": "", "seconds": 1.5}


def rows(key, *values, step="detect"):
    table = pa.Table.from_pylist([{"value": value, "name": key} for value in values], schema=ROWS)
    return keyed(table, step, key)


def values_of(journal):
    return sorted(journal.table("candidates", ROWS)["value"].to_pylist())


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        yield journal


def test_what_is_appended_is_read_by_another(journal):
    journal.append([row("a"), row("b", "skipped"), row("c", "failed")], {"candidates": [rows("a", 1, 2)]})
    reader = Journal(journal.folder)
    assert reader.done("detect") == {"a", "b"}
    assert reader.done("subtract") == set()
    assert reader.table("candidates", ROWS).schema == ROWS
    assert reader.table("candidates", ROWS).schema.field("value").metadata == {b"unit": b"nJy"}
    assert values_of(reader) == [1, 2]
    assert reader.ledger().schema == LEDGER
    assert reader.ledger()["seconds"].to_pylist() == [1.5] * 3


def test_an_empty_journal_has_empty_tables(tmp_path):
    journal = Journal(tmp_path / "nothing")
    assert journal.done("detect") == set()
    assert len(journal.ledger()) == 0
    assert journal.table("candidates", ROWS).schema == ROWS
    assert not (tmp_path / "nothing").exists()  # looking leaves no trace


def test_a_key_done_again_never_doubles_its_rows(journal):
    journal.append([row("a"), row("b")], {"candidates": [rows("a", 1, 2), rows("b", 10)]})
    journal.append([row("a")], {"candidates": [rows("a", 3)]})
    assert values_of(journal) == [3, 10]
    journal.append([row("a", "skipped")], {})  # this time it found nothing
    assert values_of(journal) == [10]
    assert len(journal.ledger()) == 2


def test_a_key_that_failed_at_last_is_not_done(journal):
    journal.append([row("a")], {})
    journal.append([row("a", "failed")], {})
    assert journal.done("detect") == set()


def test_the_same_key_of_another_step_is_another(journal):
    journal.append([row("a"), row("a", step="link")], {"candidates": [rows("a", 1), rows("a", 2, step="link")]})
    journal.append([row("a", step="link")], {"candidates": [rows("a", 5, step="link")]})
    assert values_of(journal) == [1, 5]


batches = st.lists(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(st.sampled_from(["done", "skipped", "failed"]), st.lists(st.integers(0, 99), max_size=3)),
        max_size=4,
    ),
    max_size=6,
)


@given(batches=batches, compact_after=st.integers(0, 6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_only_the_last_word_on_every_key_counts(tmp_path_factory, batches, compact_after):
    expected = {}
    with Journal(tmp_path_factory.mktemp("journal")) as journal:
        for number, batch in enumerate(batches):
            journal.append(
                [row(key, status) for key, (status, _) in batch.items()],
                {"candidates": [rows(key, *values) for key, (_, values) in batch.items()]},
            )
            expected |= batch
            if number == compact_after:
                journal.compact()
        assert journal.done("detect") == {key for key, (status, _) in expected.items() if status != "failed"}
        assert values_of(journal) == sorted(value for _, values in expected.values() for value in values)
        assert len(journal.ledger()) == len(expected)


def test_compacting_leaves_one_batch_with_all_that_counts(journal):
    for number in range(5):
        journal.append([row("a"), row(f"k{number}")], {"candidates": [rows("a", number), rows(f"k{number}", 100)]})
    before = journal.ledger()
    journal.compact()
    assert [path.name for path in journal.folder.glob("batch-*")] == ["batch-000005"]
    assert values_of(journal) == [4, 100, 100, 100, 100, 100]
    assert journal.ledger().equals(before)


def test_a_compaction_cut_short_doubles_nothing(journal, monkeypatch):
    for number in range(3):
        journal.append([row(f"k{number}")], {"candidates": [rows(f"k{number}", number)]})
    monkeypatch.setattr(Journal, "_delete_replaced", lambda self: None)  # killed before this
    journal.compact()
    monkeypatch.undo()
    assert len(list(journal.folder.glob("batch-*"))) == 4
    assert values_of(journal) == [0, 1, 2]
    journal.close()
    journal.append([row("k3")], {"candidates": [rows("k3", 3)]})
    assert values_of(journal) == [0, 1, 2, 3]
    assert len(list(journal.folder.glob("batch-*"))) == 2


def test_what_a_crash_left_half_written_is_ignored_and_removed(journal):
    journal.append([row("a")], {"candidates": [rows("a", 1)]})
    (journal.folder / ".writing-000001").mkdir()
    (journal.folder / ".writing-000001" / "ledger.parquet").write_bytes(b"PAR1")
    journal.close()
    with Journal(journal.folder) as again:
        assert values_of(again) == [1]
        again.append([row("b")], {"candidates": [rows("b", 2)]})
        assert values_of(again) == [1, 2]
    assert not list(journal.folder.glob(".writing-*"))


def test_only_one_run_writes_and_the_other_is_told(journal):
    other = Journal(journal.folder)
    with pytest.raises(UsageError, match=f"another astrid run is using .*process {os.getpid()}"):
        other.append([row("a")], {})
    assert other.done("detect") == set()  # reading is free
    journal.close()
    other.append([row("a")], {})
    assert other.done("detect") == {"a"}
    other.close()


_PROGRAM = """
import os, signal, sys
import pyarrow as pa
from astrid.stores import journal as module
journal = module.Journal(sys.argv[1])
def batch(key, value):
    table = pa.table({"value": [float(value)], "name": [key]})
    row = {"step": "detect", "key": key, "status": "done"}
    journal.append([row], {"candidates": [module.keyed(table, "detect", key)]})
batch("a", 1)
synced = module.sync_to_disk
module.sync_to_disk = lambda path: os.kill(os.getpid(), signal.SIGKILL)
batch("b", 2)
"""


def test_a_kill_in_the_middle_of_a_batch_loses_only_that_batch(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.run([sys.executable, "-c", _PROGRAM, str(tmp_path)], env=environment, timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".writing-*"))
    with Journal(tmp_path) as journal:
        assert journal.done("detect") == {"a"}
        journal.append([row("b")], {"candidates": [rows("b", 3)]})
        assert values_of(journal) == [1, 3]


def test_rows_of_no_key_of_the_batch_are_refused(journal):
    with pytest.raises(ValueError, match="not in the batch"):
        journal.append([row("a")], {"candidates": [rows("b", 1)]})
    with pytest.raises(ValueError, match="without a ledger row"):
        journal.append([], {"candidates": [rows("b", 1)]})
    with pytest.raises(ValueError, match="keyed"):
        journal.append([row("a")], {"candidates": [ROWS.empty_table()]})
    with pytest.raises(ValueError, match="no two of a batch"):
        journal.append([row("a"), row("a")], {})
    assert not list(journal.folder.glob("batch-*"))


def test_an_unknown_column_is_refused(journal):
    with pytest.raises(SchemaError, match="secs"):
        journal.append([{"step": "detect", "key": "a", "secs": 1}], {})
    journal.append([row("a")], {"candidates": [rows("a", 1)]})
    with pytest.raises(SchemaError, match="missing: \\['flux'\\]"):
        journal.table("candidates", pa.schema([pa.field("flux", pa.float64()), *ROWS]))


def test_a_damaged_batch_is_named(journal):
    journal.append([row("a")], {})
    (journal.folder / "batch-000000" / "ledger.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"batch-000000/ledger\.parquet: damaged"):
        journal.ledger()
