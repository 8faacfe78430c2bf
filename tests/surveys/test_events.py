import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.table import QTable

from astrid.errors import DataError
from astrid.schema import KNOWN_EVENTS
from astrid.surveys.events import read_events


def csv(tmp_path, text):
    path = tmp_path / "events.csv"
    path.write_text(text)
    return path


def test_two_columns_are_enough(tmp_path):
    table = read_events(csv(tmp_path, "ra,dec\n10.5,-20\n11,-21\n"))
    assert table.schema.equals(KNOWN_EVENTS)
    rows = table.to_pylist()
    assert [(row["event_id"], row["ra"], row["dec"]) for row in rows] == [
        ("events-1", 10.5, -20),
        ("events-2", 11, -21),
    ]
    assert all(row[name] is None for row in rows for name in ("kind", "band", "mjd", "flux"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_names_count_whatever_their_case_and_as_archives_spell_them(tmp_path, separator):
    names = "# a comment\nObjID,RAJ2000,DEJ2000,Discovery Date (UT),Obj. Type,Filter,Mag\n"
    text = f"{names}SN x,10,20,2020-01-01,SN Ia,g,31.4\n".replace(",", separator)
    (row,) = read_events(csv(tmp_path, text)).to_pylist()
    assert row["flux"] == pytest.approx(1.0)
    assert {name: row[name] for name in ("event_id", "kind", "band", "ra", "dec", "mjd")} == {
        "event_id": "SN x", "kind": "SN Ia", "band": "g", "ra": 10.0, "dec": 20.0, "mjd": 58849.0,
    }  # fmt: skip


@pytest.mark.parametrize("ra", ["14:03:38.6", "14 03 38.6", "14h03m38.6s", "210.910833"])
@pytest.mark.parametrize("dec", ["+54:18:42.1", "54 18 42.1", "54d18m42.1s", "54.311694"])
def test_sexagesimal_positions_are_hours_and_degrees(tmp_path, ra, dec):
    (row,) = read_events(csv(tmp_path, f"ra,dec\n{ra},{dec}\n")).to_pylist()
    assert (row["ra"], row["dec"]) == (pytest.approx(210.910833, abs=1e-5), pytest.approx(54.311694, abs=1e-5))


def test_an_angle_south_of_the_equator_by_less_than_a_degree_stays_there(tmp_path):
    (row,) = read_events(csv(tmp_path, "ra,dec\n0:0:1,-00:30:00\n")).to_pylist()
    assert row["dec"] == -0.5


@pytest.mark.parametrize("time", ["60083.727", "2460084.227", "2023-05-19T17:26:52.8", "2023-05-19 17:26:52.8"])
def test_times_are_mjd_or_jd_by_their_size_or_dates(tmp_path, time):
    (row,) = read_events(csv(tmp_path, f"ra,dec,time\n1,2,{time}\n")).to_pylist()
    assert row["mjd"] == pytest.approx(60083.727, abs=1e-6)


def test_a_votable_says_its_units_and_gaps(tmp_path):
    table = QTable({"RA": [1.0, 2.0] * units.deg, "Dec": [3.0, 4.0] * units.deg, "flux": [1.0, 2.0] * units.uJy})
    table["name"] = ["a", "b"]
    table["mjd"] = np.ma.array([60000.0, 0.0], mask=[False, True])
    path = tmp_path / "events.vot"
    table.write(path, format="votable")
    rows = read_events(path).to_pylist()
    assert [row["flux"] for row in rows] == pytest.approx([1000.0, 2000.0])
    assert [row["mjd"] for row in rows] == [60000.0, None]
    assert [row["event_id"] for row in rows] == ["a", "b"]


def test_parquet_with_real_dates_and_nulls(tmp_path):
    when = datetime.datetime(2023, 5, 19, 12)
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"ra": [1.0, 2.0], "dec": [3.0, 4.0], "date": [when, None], "band": ["r", None]}), path)
    rows = read_events(path).to_pylist()
    assert [(row["mjd"], row["band"]) for row in rows] == [(60083.5, "r"), (None, None)]


def test_known_events_of_a_survey_can_be_given_back(tmp_path):
    path = tmp_path / "known.parquet"
    table = pa.table(
        {"event_id": ["a"], "kind": [None], "ra": [1.0], "dec": [2.0], "band": ["g"], "mjd": [60000.0], "flux": [5.0]}
    ).cast(KNOWN_EVENTS)
    pq.write_table(table, path)
    assert read_events(path).equals(table)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ra,declinatio\n1,2\n", ["no column dec", "declinatio"]),
        ("ra,dec\n1,2\n3,95\n", ["row 2", "column dec", "'95'", "-90 and 90"]),
        ("ra,dec\n1,2\nfoo,5\n", ["row 2", "column ra", "'foo'", "14:03:38.6"]),
        ("RA,Dec\n,2\n", ["row 1", "column RA", "empty"]),
        ("ra,dec\n12:99:10,2\n", ["row 1", "column ra", "12:99:10"]),
        ("ra,dec,mjd\n1,2,17\n", ["row 1", "column mjd", "'17'", "MJD"]),
        ("ra,dec,mag\n1,2,bright\n", ["row 1", "column mag", "'bright'", "empty"]),
        ("ra,dec\n1,2,3\n", ["row 1", "3 values for 2 columns"]),
        ("ra,dec\n", ["no row"]),
        ("", ["empty"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_remedy(tmp_path, text, parts):
    path = csv(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_events(path)
    assert all(part in str(caught.value) for part in [str(path), *parts]), str(caught.value)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        read_events(tmp_path / "nothing.csv")
    for name, content in (("a.parquet", b"PAR1 and no more"), ("a.vot", b"<VOTABLE><RES"), ("a.csv", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_events(tmp_path / name)
