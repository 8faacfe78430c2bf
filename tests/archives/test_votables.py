import os
from pathlib import Path

import numpy as np
import pytest

from astrid.archives import Corrupt, Transient
from astrid.archives.checks import Unfit
from astrid.archives.votables import VoTable, read_votable
from astrid.archives.ztf_light_curves import LIGHT_CURVES, light_curves, light_curves_request
from tests.archives.emulator import Sky

TABLE = b"""<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="OK"/><TABLE><FIELD name="a" datatype="int"/><FIELD name="b" datatype="double"/>
<DATA><TABLEDATA><TR><TD>1</TD><TD>2.5</TD></TR><TR><TD>3</TD><TD/></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>
"""
ERROR = TABLE.replace(b'value="OK"/>', b'value="ERROR">Server overloaded</INFO>')
OVERFLOW = TABLE.replace(b'value="OK"/>', b'value="OVERFLOW"/>')


def outcome(raw, columns=()):
    with pytest.raises(Unfit) as caught:
        read_votable(raw, columns)
    return caught.value.outcome, caught.value.reason


def test_a_whole_table_reads():
    table = read_votable(TABLE, ("a", "b"))
    assert list(table["a"]) == [1, 3]
    assert np.ma.getmaskarray(np.ma.asarray(table["b"])).tolist() == [False, True] or np.isnan(table["b"][1])


@pytest.mark.parametrize("length", range(len(TABLE) // 4, len(TABLE) - 12, 23))
def test_a_table_that_ends_early_is_damaged(length):
    assert outcome(TABLE[:length])[0] is Corrupt


@pytest.mark.parametrize(
    ("raw", "columns", "kind", "said"),
    [
        (b"", (), Corrupt, "empty"),
        (b"<html></html>", (), Transient, "web page"),
        (ERROR, (), Transient, "Server overloaded"),
        (OVERFLOW, (), Corrupt, "row limit"),
        (TABLE, ("c",), Corrupt, "column 'c' is not in the table; its columns: a, b"),
        (b"no xml", (), Corrupt, "does not read"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(raw, columns, kind, said):
    found = outcome(raw, columns)
    assert found[0] is kind
    assert said in found[1]


def test_an_answer_cut_at_the_row_limit_can_be_allowed():
    assert len(read_votable(OVERFLOW, allow_overflow=True)) == 2


def recorded(kind):
    """Real answers of services, kept outside of the source tree."""
    repository = Path(__file__).resolve().parents[2]
    real = Path(os.environ.get("ASTRID_DATA") or repository.parent / "shared" / "data" / "real")
    return sorted((real.parent / "recorded" / kind).glob("*.xml"))


@pytest.mark.data
@pytest.mark.parametrize("name", ["Cone.xml", "Box.xml", "Polygon.xml"])
def test_real_answers_of_irsa_read(name):
    paths = [path for path in recorded("irsa") if path.name == name]
    if not paths:
        pytest.skip(f"no recorded answers of archives: {name} is not beside the real data")
    assert len(read_votable(paths[0].read_bytes())) > 0
    assert VoTable()(paths[0])


@pytest.mark.data
def test_the_real_answer_of_an_overloaded_service_is_transient():
    paths = [path for path in recorded("vizier") if path.name == "no_server_error.xml"]
    if not paths:
        pytest.skip("no recorded answers of archives: vizier/no_server_error.xml is not beside the real data")
    assert outcome(paths[0].read_bytes())[0] is Transient


def test_the_light_curve_of_a_transient_rises(emulator, fetcher):
    event = Sky().fields[0].transients[0]
    request = light_curves_request(event.ra, event.dec, 3.0, ("r",))
    table = light_curves(fetcher(timeout_s=20.0), request)
    assert table.schema == LIGHT_CURVES
    assert set(table["band"].to_pylist()) == {"r"}
    newest = [row for row in table.to_pylist() if abs(row["ra"] - event.ra) < 1e-5]
    assert min(row["mjd"] for row in newest) > Sky().rise_mjd - 10
    assert newest[0]["magnitude"] > newest[-1]["magnitude"]


def test_where_nothing_was_measured_the_table_is_empty(fetcher):
    table = light_curves(fetcher(timeout_s=20.0), light_curves_request(10.0, -60.0, 5.0))
    assert table.schema == LIGHT_CURVES
    assert len(table) == 0


def test_a_radius_beyond_what_the_service_takes_is_refused():
    with pytest.raises(ValueError, match="radius_arcsec"):
        light_curves_request(10.0, 0.0, 1000.0)
