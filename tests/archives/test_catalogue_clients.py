import io
import json
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.response import HTTPResponse

from astrid.archives import Corrupt, Fetcher, Permanent, Transient, sesame, skybot, vizier, xmatch
from astrid.archives.rows import arrow_of
from astrid.archives.transport import PoliteAdapter
from astrid.archives.votables import VoTable, read_votable
from astrid.detection.crossmatch import MatchRule, lies_at, match
from astrid.detection.neighbours import Positions
from astrid.detection.reference import ALLWISE, CATALOGUES, GAIA, PS1, SDSS, SKYBOT, Kind
from astrid.errors import DataError
from astrid.workflow.archive_catalogues import ArchiveCatalogues
from astrid.workflow.catalogues import Request, read_parquet
from tests.archives.emulator import Sky
from tests.archives.emulator.catalogues import SEEN_MJD

NAME, RA, DEC = Sky().centres[0]
ARCSEC = 1 / 3600
EMPTY = (10.0, -60.0)


def data_of(package, name):
    """A recorded answer that ships with the tests of astroquery, else beside the real data."""
    import astroquery

    shipped = Path(astroquery.__file__).parent / package / "tests" / "data" / name
    if shipped.exists():
        return shipped
    repository = Path(__file__).resolve().parents[2]
    real = Path(os.environ.get("ASTRID_DATA") or repository.parent / "shared" / "data" / "real")
    kept = real.parent / "recorded" / package / name
    if not kept.exists():
        pytest.skip(f"{package}/{name} ships neither with astroquery nor beside the real data")
    return kept


@pytest.mark.parametrize("catalogue", [GAIA, SDSS, PS1, ALLWISE], ids=lambda one: one.name)
def test_a_cone_brings_the_columns_of_a_catalogue_and_no_others(catalogue, fetcher):
    path = vizier.cone(fetcher(timeout_s=20.0), catalogue, RA, DEC, 0.03)
    table = pq.ParquetFile(path).read()
    assert set(catalogue.required) <= set(table.column_names) <= set(catalogue.columns)
    sources = read_parquet(path, catalogue.name)
    assert len(sources) == len(table) > 50  # the service's own default would cut at 50
    away = np.hypot((sources.ra - RA) * np.cos(np.radians(DEC)), sources.dec - DEC)
    assert away.max() < 0.03 + 1e-4
    if catalogue.knows_galaxies:
        assert {Kind.STAR, Kind.GALAXY} <= set(sources.kind.tolist())


def test_rows_are_asked_for_once_and_say_where_they_come_from(emulator, fetcher):
    one = fetcher(emulator.fault("emptyx0", "once"), timeout_s=20.0)
    first = vizier.cone(one, GAIA, RA, DEC, 0.02)
    before = len(emulator.log)
    assert vizier.cone(one, GAIA, RA, DEC, 0.02) == first
    assert len(emulator.log) == before
    assert vizier.cone(one, GAIA, RA, DEC, 0.021) != first
    notes = [json.loads(path.read_text()) for path in (one.archive.folder / "index" / "vizier").glob("*/*.json")]
    note = next(note for note in notes if note["params"]["radius"] == 0.02)
    assert note["params"]["catalogue"] == "I/355/gaiadr3"
    assert note["emulator"]
    assert note["rows"] > 0
    assert "vizier" in note["about"]["acknowledgement"]


def test_the_query_says_who_asks_and_asks_for_all_rows_of_few_columns(emulator, fetcher):
    vizier.cone(fetcher(timeout_s=20.0), PS1, RA, DEC, 0.015)
    (last,) = emulator.requests("vizier")[-1:]
    assert last.headers["User-Agent"].startswith("astrid/")
    assert last.path == "/viz-bin/votable"


def test_where_a_catalogue_has_nothing_its_rows_are_none_and_read_as_such(fetcher):
    one = fetcher(timeout_s=20.0)
    for catalogue in (GAIA, SDSS, PS1, ALLWISE):
        assert len(read_parquet(vizier.cone(one, catalogue, *EMPTY, 0.02), catalogue.name)) == 0
    assert len(read_parquet(xmatch.around(one, GAIA, [EMPTY], 60.0), "gaia")) == 0
    assert len(read_parquet(skybot.moving(one, *EMPTY, 0.1, [59000.3]), "skybot")) == 0


def test_a_star_that_moves_is_found_where_the_images_show_it(fetcher):
    field = Sky().fields[0]
    sources = read_parquet(vizier.cone(fetcher(timeout_s=20.0), GAIA, RA, DEC, 0.08), "gaia")
    fast = np.flatnonzero(np.hypot(sources.pm_ra, sources.pm_dec) * 365.25 > 0.5)
    assert len(fast) > 3
    for index in fast:
        east = (field.stars.ra - sources.ra[index]) * np.cos(np.radians(DEC))
        nearest = np.argmin(np.hypot(east, field.stars.dec - sources.dec[index]))
        ra, dec = field.stars.ra[nearest], field.stars.dec[nearest]
        at = Positions(np.array([ra]), np.array([dec]), np.array([0.05]), np.array([SEEN_MJD]))
        found = match(at, sources, MatchRule())
        here = found.nearest["star"].separation[0]
        then = np.hypot(east[nearest], dec - sources.dec[index]) * 3600
        if found.nearest["star"].index[0] == index:
            assert here < 0.01
            assert then > 1.0
            assert lies_at(found, "star", MatchRule())[0]
            break
    else:
        pytest.fail("no star that moves was found at its image")


def test_the_cross_match_service_brings_what_the_cone_brings_around_places(fetcher):
    one = fetcher(timeout_s=20.0)
    places = [(RA, DEC), (RA + 200 * ARCSEC, DEC), (RA, DEC + 10 * ARCSEC)]
    found = read_parquet(xmatch.around(one, PS1, places, 60.0), "ps1")
    whole = read_parquet(vizier.cone(one, PS1, RA, DEC, 0.1), "ps1")
    cos = np.cos(np.radians(whole.dec))
    near = [np.hypot((whole.ra - ra) * cos, whole.dec - dec) < 60 * ARCSEC for ra, dec in places]
    assert sorted(found.id) == sorted(whole.id[np.any(near, axis=0)])  # each once, though two places see it


def test_jobs_go_to_the_cross_match_service_one_at_a_time_and_a_ban_stops_it(emulator, fetcher):
    from concurrent.futures import ThreadPoolExecutor

    one = fetcher(timeout_s=20.0)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda k: xmatch.around(one, GAIA, [(RA, DEC + k * ARCSEC)], 30.0), range(3)))
    assert emulator.most_running["xmatch"] == 1
    assert len(emulator.requests("xmatch", "tables")) == 0  # the list of all tables is not asked for
    banned = fetcher(emulator.fault("403", "ban"), breaker_failures=1)
    with pytest.raises(Permanent, match="403"):
        xmatch.around(banned, GAIA, [(RA, DEC)], 31.0)
    before = len(emulator.requests("xmatch"))
    with pytest.raises(Transient, match="left alone"):
        xmatch.around(banned, GAIA, [(RA, DEC)], 32.0)
    assert len(emulator.requests("xmatch")) == before


@pytest.mark.parametrize(
    ("places", "radius", "what"),
    [([], 10.0, "no places"), ([(1.0, 2.0)], 181.0, "181"), ([(1.0, 2.0)], 0.0, "above 0")],
)
def test_what_cannot_be_cross_matched_is_refused(places, radius, what, fetcher):
    with pytest.raises(ValueError, match=what):
        xmatch.around(fetcher(), GAIA, places, radius)
    with pytest.raises(ValueError, match="no table of VizieR"):
        xmatch.around(fetcher(), SKYBOT, [(1.0, 2.0)], 10.0)


def test_asteroids_are_asked_for_once_per_time_and_move_between(emulator, fetcher):
    one = fetcher(timeout_s=20.0)
    path = skybot.moving(one, RA, DEC, 0.1, [59000.3, 59000.32], observatory="I41")
    bodies = read_parquet(path, "skybot")
    assert len(bodies) == 2
    assert set(bodies.epoch) == {59000.3, 59000.32}
    assert abs(bodies.dec[0] - bodies.dec[1]) * 3600 == pytest.approx(8 * 0.48, rel=0.01)
    before = len(emulator.log)
    skybot.moving(one, RA, DEC, 0.1, [59000.32], observatory="I41")
    assert len(emulator.log) == before


def test_exposures_of_one_visit_are_one_question():
    assert skybot.exposures([59000.105, 59000.1, 59000.2]) == [59000.1025, 59000.2]
    times = np.random.default_rng(3).uniform(59000, 59000.5, 200)
    asked = np.array(skybot.exposures(times.tolist()))
    assert np.abs(times[:, None] - asked).min(axis=1).max() < 0.0036
    assert len(asked) < 80


def test_an_error_of_skybot_is_none_of_its_nothing_there():
    answer = VoTable(nothing=skybot.NOTHING)
    told = b'<?xml version="1.0"?><VOTABLE><INFO name="QUERY_STATUS" value="ERROR">%s</INFO></VOTABLE>'
    assert len(answer.read(told % b"No solar system object was found in the requested FOV")) == 0
    for text in (b"epoch of computation not covered by the orbit", b"MySQL server (asterws3): "):
        with pytest.raises(Exception, match="error"):
            answer.read(told % text)
    with pytest.raises(Exception, match="error"):  # cut short: what it says is not all that it would have said
        answer.read((told % b"No solar system object was found in the requested FOV")[:-12])


def test_names_have_positions_where_a_database_knows_them(emulator, fetcher):
    one = fetcher(timeout_s=20.0)
    assert sesame.resolve(one, NAME) == pytest.approx((RA, DEC))
    assert sesame.resolve(one, "Nobody's star 17") is None


@pytest.mark.parametrize("text", ["# M31\n%J 10.68 +41.2", "# M31\n#=S=Simbad\n", "   \n"])
def test_an_answer_of_the_name_service_that_ends_early_is_damaged(text, tmp_path):
    path = tmp_path / "answer"
    path.write_text(text)
    with pytest.raises(Exception, match=r"empty|does not end") as caught:
        sesame.SesameAnswer()(path)
    assert caught.value.outcome is Corrupt


def test_a_name_service_whose_databases_failed_does_not_say_that_nobody_knows(tmp_path):
    path = tmp_path / "answer"
    path.write_text("# M31\n#!SIMBAD: timeout\n#====Done (2026)====\n")
    with pytest.raises(Exception, match="does not say why") as caught:
        sesame.SesameAnswer()(path)
    assert caught.value.outcome is Transient


@pytest.mark.parametrize(
    ("name", "rows"), [("kang2010.xml", 1), ("afgl2591_iram.xml", 1), ("find_kangapj70683.xml", 0)]
)
def test_real_answers_of_vizier_read(name, rows):
    table = read_votable(data_of("vizier", name).read_bytes())
    assert len(table) >= rows
    kept = arrow_of(table)
    assert kept.num_rows == len(table)
    assert kept.column_names == table.colnames
    if name == "kang2010.xml":
        assert any((field.metadata or {}).get(b"unit") for field in kept.schema)


def test_half_of_a_real_answer_of_vizier_is_damaged():
    raw = data_of("vizier", "kang2010.xml").read_bytes()
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(Exception, match="does not read"):
            read_votable(raw[: int(len(raw) * part)])


def test_a_real_answer_of_skybot_becomes_rows_with_units_and_bodies():
    raw = data_of("imcce", "skybot_query.vot").read_bytes()
    table = arrow_of(VoTable(("Name", "dRAcosDec", "dDEC"), nothing=skybot.NOTHING).read(raw))
    table = table.append_column(pa.field("mjd", pa.float64()), pa.array([60677.0] * len(table)))
    units = {field.name: (field.metadata or {}).get(b"unit") for field in table.schema}
    assert units["dRAcosDec"] == b"arcsec / h"
    from astrid.detection.reference import read_sources

    columns = {name: table[name].to_pylist() for name in table.column_names}
    bodies = read_sources(SKYBOT, columns, {name: unit.decode() for name, unit in units.items() if unit})
    assert len(bodies) == len(table) > 0
    assert abs(bodies.ra - 81.2833).max() < 0.5
    assert (np.hypot(bodies.pm_ra, bodies.pm_dec) > 1).all()  # arcsec per day


def test_a_real_answer_of_the_cross_match_service_has_the_columns_of_vizier_beside_ours():
    from astropy.table import Table

    table = Table.read(data_of("xmatch", "query_res.csv"), format="ascii.csv")
    assert {"angDist", "RAJ2000", "DEJ2000", "2MASS"} <= set(table.colnames)
    assert arrow_of(table).num_rows == len(table)


def test_every_catalogue_of_vizier_can_be_asked_of_both_services():
    assert [one.vizier for one in CATALOGUES.values() if one is not SKYBOT] == [
        "I/355/gaiadr3",
        "V/154/sdss16",
        "II/389/ps1_dr2",
        "II/328/allwise",
    ]


def test_a_source_that_is_sent_to_a_worker_asks_the_same_server(fetcher):
    source = ArchiveCatalogues(["gaia"]).connected(fetcher(timeout_s=20.0), "ztf")
    sent = pickle.loads(pickle.dumps(source))
    request = Request("gaia", RA, DEC, 0.01, (59000.3,), ((RA, DEC),))
    assert sent.rows(request) == source.rows(request)
    assert sent.version == source.version
    assert sent.observatory == "I41"
    assert replace(source, through="xmatch").version != source.version
    with pytest.raises(DataError, match="not connected"):
        ArchiveCatalogues(["gaia"]).rows(request)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"catalogues": ["gaia", "usno"]}, "usno"),
        ({"through": "tap"}, "tap"),
        ({"light_curves": -1}, "light_curves must be 0 or more"),
        ({"light_curves_arcsec": 700.0}, "700"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(options, what):
    with pytest.raises(ValueError, match=what):
        ArchiveCatalogues(**options)


def test_an_answer_that_drips_ends_at_the_deadline(emulator, fetcher):
    slow = fetcher(emulator.fault("drip", "drips"), attempts=1, deadline_s=0.3, timeout_s=2.0)
    started = time.monotonic()
    with pytest.raises(Transient, match=r"not complete after 0\.3 s"):
        vizier.cone(slow, GAIA, RA, DEC, 0.02)
    assert time.monotonic() - started < 3.0


@pytest.mark.parametrize("to", ["https://ssp.imcce.fr/moved/here", "http://vo.imcce.fr/elsewhere"])
def test_a_service_that_moved_is_followed_within_our_limits(to, fetcher, monkeypatch):
    asked = []

    def send(self, request, **options):
        asked.append((request.url, options["timeout"]))
        response = requests.Response()
        response.request, response.url = request, request.url
        body = b"" if len(asked) == 1 else b"answer"
        response.status_code = 302 if len(asked) == 1 else 200
        if len(asked) == 1:
            response.headers["Location"] = to
        response.raw = HTTPResponse(io.BytesIO(body), status=response.status_code, preload_content=False)
        return response

    monkeypatch.setattr(HTTPAdapter, "send", send)
    one = Fetcher(replace(fetcher().archive, base_url=None))
    session = requests.Session()
    PoliteAdapter(one.transport, "skybot").mount(session)
    assert session.get("https://ssp.imcce.fr/old").content == b"answer"
    assert [url for url, _ in asked] == ["https://ssp.imcce.fr/old", to]
    assert all(timeout == (0.5, 0.5) for _, timeout in asked)
