import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid.errors import DataError, SchemaError
from astrid.schema import CANDIDATES, OBJECTS, SCHEMA_VERSION
from astrid.stores.tables import read_json, read_table, replacing, table_of, write_json, write_table


def test_a_table_keeps_its_values_units_and_schema(tmp_path):
    table = table_of([{"object_id": "o1", "ra": 10.5, "n_epochs": 3}, {"object_id": "o2"}], OBJECTS)
    write_table(tmp_path / "deep" / "objects.parquet", table, OBJECTS)
    read = read_table(tmp_path / "deep" / "objects.parquet", OBJECTS)
    assert read.equals(table)
    assert read.schema.equals(OBJECTS, check_metadata=True)
    assert read.schema.field("ra").metadata == {b"unit": b"deg"}
    assert read["ra"].to_pylist() == [10.5, None]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["objects.parquet"]


def test_a_table_without_rows_is_a_table(tmp_path):
    write_table(tmp_path / "c.parquet", table_of([], CANDIDATES), CANDIDATES)
    assert len(read_table(tmp_path / "c.parquet", CANDIDATES)) == 0


def test_columns_come_in_the_order_of_the_schema(tmp_path):
    table = table_of([{"object_id": "o1"}], OBJECTS)
    write_table(tmp_path / "o.parquet", table.select(table.column_names[::-1]), OBJECTS)
    assert read_table(tmp_path / "o.parquet", OBJECTS).column_names == OBJECTS.names


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (table_of([], OBJECTS).drop_columns(["ra"]), r"missing: \['ra'\]"),
        (table_of([], OBJECTS).append_column("extra", pa.array([], pa.int8())), r"unknown: \['extra'\]"),
        (table_of([], OBJECTS).set_column(2, "ra", pa.array([], pa.list_(pa.int8()))), "column ra must be double"),
    ],
)
def test_a_table_that_breaks_the_schema_is_refused(tmp_path, table, message):
    with pytest.raises(SchemaError, match=message):
        write_table(tmp_path / "o.parquet", table, OBJECTS)
    assert not list(tmp_path.iterdir())


def test_rows_that_break_the_schema_are_refused():
    with pytest.raises(SchemaError, match="no column rightascension"):
        table_of([{"rightascension": 1.0}], OBJECTS)
    with pytest.raises(SchemaError, match="column ra must be double"):
        table_of([{"ra": "ten"}], OBJECTS)


def test_a_table_of_another_version_is_refused(tmp_path):
    old = table_of([], OBJECTS).replace_schema_metadata({"schema_version": "0"})
    pq.write_table(old, tmp_path / "o.parquet")
    with pytest.raises(SchemaError, match=f"version 0, expected {SCHEMA_VERSION}"):
        read_table(tmp_path / "o.parquet", OBJECTS)


def test_a_missing_or_damaged_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"o\.parquet: no such table"):
        read_table(tmp_path / "o.parquet", OBJECTS)
    (tmp_path / "o.parquet").write_text("text")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_table(tmp_path / "o.parquet", OBJECTS)


def test_json_has_null_where_a_number_is_not_finite(tmp_path):
    value = {"a": math.nan, "b": [np.float64(1.5), math.inf], "c": np.arange(2), "d": np.int32(3), "e": "é", "f": None}
    write_json(tmp_path / "m.json", value)
    assert "NaN" not in (tmp_path / "m.json").read_text()
    assert read_json(tmp_path / "m.json") == {"a": None, "b": [1.5, None], "c": [0, 1], "d": 3, "e": "é", "f": None}


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "m.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "m.json", {"new": object()})

    def fail():
        with replacing(tmp_path / "m.json") as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail()
    assert json.loads((tmp_path / "m.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_a_missing_or_damaged_json_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "m.json")
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(DataError, match="not a readable JSON"):
        read_json(tmp_path / "m.json")
