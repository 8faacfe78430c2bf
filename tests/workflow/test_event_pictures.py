import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid.stores.tables import read_json
from astrid.workflow.event_pictures import SHOWN, choose_events, cut_out
from tests.surveys.packet_builders import alert, flat


def row(number, *, found=True, basis="catalogue:transient", significance=10.0, name=None):
    return {
        "exposure_id": f"e{number:04d}", "object_id": name or f"o{number}", "is_detected": found,
        "label_basis": basis, "own_significance": significance,
    }  # fmt: skip


def test_every_missed_alert_that_a_catalogue_knows_is_shown_and_others_come_after():
    strong = [row(i, significance=1000.0 - i) for i in range(100)]
    missed = [row(200 + i, found=False, significance=-1.0 - 0.1 * i) for i in range(9)]
    bogus = [row(300 + i, basis="score:drb<0.3", significance=5000.0, found=i % 2 == 0) for i in range(50)]
    shown = choose_events([*bogus, *missed, *strong])
    ids = [r["exposure_id"] for r in shown]
    assert len(ids) == len(set(ids)) == SHOWN
    assert {r["exposure_id"] for r in missed} <= set(ids)
    known = [r["label_basis"].startswith("catalogue:") for r in shown]
    assert known == sorted(known, reverse=True)
    strengths = [abs(r["own_significance"]) for r, k in zip(shown, known, strict=True) if k]
    assert strengths == sorted(strengths, reverse=True)
    assert 0 < sum(not k for k in known) < 20


def test_another_object_comes_before_another_alert_of_the_same():
    many = [row(i, significance=500.0 - i, name="busy") for i in range(SHOWN)]
    one = row(900, significance=6.0)
    assert "e0900" in [r["exposure_id"] for r in choose_events([*many, one])]


def test_few_alerts_are_all_shown_also_without_label_or_significance():
    rows = [row(1, basis=None, significance=None), row(2, significance=float("nan")), row(3)]
    assert [r["exposure_id"] for r in choose_events(rows)] == ["e0003", "e0002", "e0001"]
    assert choose_events([]) == []


def test_what_lies_beyond_the_image_is_no_data():
    cut = cut_out(np.ones((9, 9), np.float32), 0.2, 8.4, 3)
    assert cut.shape == (7, 7)
    assert np.isnan(cut[:3]).all()
    assert (cut[3:, :4] == 1).all()


@pytest.fixture(scope="module")
def alerts_run(tmp_path_factory):
    """A run on three alerts of one object and one of another, whose own difference stamp is broken."""
    from tests.workflow.conftest import Place

    place = Place(tmp_path_factory.mktemp("alerts"))
    packets = [alert(n, name="ZTF21synaaaa") for n in (1, 2, 3)]
    packets.append(alert(4, name="ZTF21synbbbb", positive=False))
    rows = [flat(p) | {"label": "SN", "label_basis": "catalogue:transient"} for p in packets]
    rows[3]["cutoutDifference"] = b"no FITS"
    pq.write_table(pa.Table.from_pylist(rows), place.folder / "alerts.parquet")
    ended = place("run", "survey=ztf_alerts", f"survey.path={place.folder}/alerts.parquet", "cluster=inline", "name=n")
    logging.getLogger("astrid").handlers.clear()
    return place, ended


def test_a_run_on_alerts_writes_light_curves_that_agree_with_what_was_put_in(alerts_run):
    place, ended = alerts_run
    assert ended.code == 0, ended.out + ended.err
    curves = pq.read_table(place.run("n") / "alert_light_curves.parquet").to_pylist()
    assert [c["object_id"] for c in curves] == ["ZTF21synaaaa"] * 3
    for point in curves:  # 5000 counts at a zero point of 26 are magnitude 16.75
        assert point["magnitude"] == pytest.approx(16.75, abs=0.1)
        assert point["significance"] > 20


def test_the_report_shows_the_events_beside_the_survey_s_difference(alerts_run):
    place, _ = alerts_run
    page = (place.run("n") / "report.html").read_text()
    section = page.split('<section id="events">')[1].split("</section>")[0]
    assert section.count("ZTF21synaaaa · ") == 3 * (1 + 5)  # a title, and words for each picture
    assert section.count("ZTF21synbbbb · ") == 1 + 4  # no picture of what cannot be read
    assert "north up, east left" in section
    assert "· transient · detected" in section
    assert "All are shown." in section
    assert "light curve of ZTF21synaaaa" in section
    counted = {r["label_basis"]: r["n"] for r in read_json(place.run("n") / "metrics.json")["alerts"]}
    assert counted["catalogue:transient"] == 4


def test_other_surveys_have_no_events(undisturbed):
    assert 'id="events"' not in (undisturbed.run("night") / "report.html").read_text()
