from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from astrid.report.data import Events
from astrid.report.events import (
    draw_curve,
    event_caption,
    event_title,
    left_out,
    tabulate_agreement,
    tabulate_counts,
    write_agreement,
)
from astrid.report.page import render_report
from astrid.report.pictures import draw_panels, orientation, upright

from .conftest import make_stamps

ALERT = {
    "object_id": "ZTF20abfcszi", "band": "r", "mjd": 59066.46, "kind": "transient", "label": "SN Ia",
    "label_basis": "catalogue:transient", "is_detected": True, "own_significance": 24.5, "survey_significance": 20.1,
    "own_flux": 158489.3, "survey_flux": 150000.0, "flux_unit": "nJy", "survey_score": 0.98, "mask_bits": 0,
}  # fmt: skip
AGREEMENT = [
    {"object_id": "a", "n_alerts": 4, "n": 3, "median": -0.05, "rms": 0.08, "robust_rms": 0.03}
    | {"n_without_zero_point": 0},
    {"object_id": "all", "n_alerts": 4, "n": 3, "median": -0.05, "rms": 0.08, "robust_rms": 0.03}
    | {"n_without_zero_point": 0},
]


def point(mjd, flux, survey_flux=120.0, **changes):
    return {
        "object_id": "a", "exposure_id": f"{mjd}", "mjd": mjd, "band": "g", "flux": flux, "flux_error": 4.0,
        "flux_unit": "nJy", "survey_flux": survey_flux, "survey_magnitude": 18.2, "survey_magnitude_error": 0.1,
        **changes,
    }  # fmt: skip


def past(mjd, flux=None, limit=None):
    return {"object_id": "a", "mjd": mjd, "band": "g", "survey_flux": flux, "survey_flux_error": 3.0} | {
        "survey_limit": limit
    }


@pytest.mark.parametrize("angle", [0, 30, -40, 90, 135, 180, 250])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_north_is_up_and_east_left_as_nearly_as_mirroring_can_do(angle, is_mirrored):
    turn = np.deg2rad(angle)
    cd = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ np.diag(
        [1 if is_mirrored else -1, 1]
    )
    rows, columns = np.indices((9, 9)) - 4
    east = upright(cd[0, 0] * columns + cd[0, 1] * rows, cd.ravel())
    north = upright(cd[1, 0] * columns + cd[1, 1] * rows, cd.ravel())
    middle = 4
    assert north[-1, middle] - north[0, middle] >= abs(north[middle, -1] - north[middle, 0]) - 1e-9
    assert east[middle, 0] > east[middle, -1]
    words = orientation(cd.ravel())
    assert words == "north up, east left" if angle % 90 == 0 else words.startswith("north ")


def test_words_say_to_which_side_north_leans():
    step = 2**-0.5
    cd = (-step, step, step, step)  # x and y both grow to the north
    pixels = np.zeros((9, 9))
    pixels[8, 8] = 1  # the corner that is farthest north
    turned = upright(pixels, cd)
    assert orientation(cd) == "north 45° right of up"
    assert turned[8, 8] == 1
    assert orientation(None) == "north up, east left"


def test_the_survey_s_difference_is_drawn_on_the_scale_of_the_own(data):
    stamps = make_stamps(np.random.default_rng(2), title="a")
    both = replace(stamps, survey_difference=stamps.difference + np.float32(3.0) - np.median(stamps.difference))
    own = replace(stamps, difference=stamps.difference - np.median(stamps.difference))
    panels = dict(draw_panels(replace(both, difference=own.difference), side=96, cut=True))
    assert list(panels) == ["science", "template", "difference", "survey's", "score"]
    assert panels["survey's"] == panels["difference"]  # a constant level is no event
    with pytest.raises(ValueError, match="survey_difference"):
        replace(stamps, survey_difference=np.zeros((3, 3), np.float32))


def test_an_alert_is_named_by_object_band_date_kind_and_whether_it_was_found():
    assert event_title(ALERT) == "ZTF20abfcszi · r · 2020-08-05 · transient · detected"
    bogus = {**ALERT, "kind": None, "label": "bogus", "label_basis": "score:drb<0.3", "is_detected": False}
    assert event_title(bogus) == "ZTF20abfcszi · r · 2020-08-05 · bogus (score:drb<0.3) · MISSED"
    assert "no label" in event_title({**ALERT, "kind": None, "label": None, "label_basis": None})


def test_a_caption_has_own_and_the_survey_s_numbers():
    caption = event_caption(ALERT, {"survey_magnitude": 18.456})
    assert caption == "S/N +24.5, survey +20.1 · 18.40 mag, survey 18.46 mag · the survey's score 0.98"
    faded = {**ALERT, "own_flux": -158489.3, "survey_flux": -1.5e5, "own_significance": -24.5, "mask_bits": 4}
    words = event_caption(faded, {})
    assert "S/N \N{MINUS SIGN}24.5" in words
    assert "fading, 18.40 mag, survey fading, 18.46 mag" in words
    assert "masked (bits 4)" in words
    bare = dict.fromkeys(ALERT) | {"flux_unit": "count/s"}
    assert event_caption(bare, {}) == "S/N –, survey – · – count/s, survey – mag"


def test_own_points_are_filled_packet_points_hollow_and_limits_arrows():
    figure = draw_curve("a", [point(10.0, 100.0), point(11.0, 130.0, None)], [past(5.0, 60.0), past(6.0, limit=50.0)],
                        {"g": 0}, AGREEMENT[0])  # fmt: skip
    assert figure is not None
    svg = str(figure.svg)
    assert svg.count('class="fill c0"') == 2
    assert svg.count('class="hollow c0"') == 2  # one packet point, one of the history
    assert svg.count('class="hollow faint c0"') == 1
    assert "below 50.0 nJy" in svg
    assert "rms 0.080 (robust 0.030) of 3 points" in figure.caption


def test_a_shallow_limit_does_not_squeeze_the_chart():
    points = [point(10.0, 100.0), point(11.0, 130.0)]
    figure = draw_curve("a", points, [past(6.0, limit=9000.0)], {"g": 0})
    assert figure is not None
    assert "hollow faint" not in str(figure.svg)
    assert "1 shallow limit above the chart" in figure.caption
    assert draw_curve("a", [point(1.0, None)], [], {}) is None


def test_counts_and_agreement_become_rows():
    row = {"label_basis": "catalogue:transient", "kind": "", "n": 75, "n_objects": 31, "detected": 0.96,
           "detected_ci": [0.91, 0.99], "detected_by_object": 0.97, "correlation": None}  # fmt: skip
    cells = tabulate_counts([row, {"label_basis": "all", "n": 80}]).rows
    assert [cells[0][i].text for i in (0, 2, 3, 4, 7)] == ["catalogue:transient", "75", "96.0 %", "97.0 %", "–"]
    assert (cells[0][2].below, cells[0][3].below, cells[1][0].text) == ("31", "91.0 to 99.0", "all alerts")
    assert tabulate_counts(None).rows == ()
    assert [c.text for c in tabulate_agreement(AGREEMENT).rows[0]][2:6] == [
        "3",
        "\N{MINUS SIGN}0.050",
        "0.030",
        "0.080",
    ]
    assert "scatter by 0.080 mag" in write_agreement(AGREEMENT)
    assert write_agreement([]) == ""


def test_a_report_without_alerts_has_no_section_on_events(empty):
    assert 'id="events"' not in render_report(empty)
    nothing = pa.table({"is_detected": pa.array([True, False, False])})
    curves = pa.table({"object_id": pa.array([], pa.string()), "band": pa.array([], pa.string())})
    events = Events(nothing, (), 0, curves, curves, ())
    page = render_report(replace(empty, events=events))
    assert 'id="events"' in page
    assert "No alert to show." in page
    assert "No object has three alerts." in page
    assert left_out(events) == "3 further alerts not shown, 2 missed ones among them; all are in alerts.parquet."
