import math

import pyarrow as pa
import pytest

from astrid.image import ExposureInfo
from astrid.schema import ALERTS
from astrid.surveys.alerts import HISTORY
from astrid.workflow.alert_curves import alert_light_curves, context_of, magnitude_agreement

ZERO_POINT = 31.4


def nanojansky(magnitude):
    return 10 ** (-0.4 * (magnitude - ZERO_POINT))


def listed(number, name, *, magnitude=18.0, is_negative=False, zero_point=22.6, band="g"):
    extra = {"object_id": name, "survey_magnitude": magnitude, "survey_magnitude_error": 0.1}
    extra["is_negative"] = is_negative
    return ExposureInfo(
        f"e{number}", "", band, 59000.0 + number, 30.0, (63, 63), None, "count", zero_point, extra=extra
    )


def curves_of(*pairs):
    """Light curves of (exposure, own flux, own error)."""
    rows = [
        {"exposure_id": i.exposure_id, "object_id": i.extra["object_id"], "band": i.band, "flux_unit": "nJy"}
        | {"own_flux": flux, "own_flux_error": error}
        for i, flux, error in pairs
    ]
    table = pa.Table.from_pylist([{name: row.get(name) for name in ALERTS.names} for row in rows], schema=ALERTS)
    infos = {info.exposure_id: info for info, _, _ in pairs}
    return alert_light_curves(table, infos, dict.fromkeys(infos, ZERO_POINT))


def series(name, first, offsets, *, error=100.0, **options):
    return [(listed(first + i, name, **options), nanojansky(18.0 + offset), error) for i, offset in enumerate(offsets)]


def test_only_objects_of_three_alerts_have_a_light_curve():
    curves = curves_of(*series("often", 0, (0, 0, 0)), *series("twice", 10, (0, 0)))
    assert curves["object_id"].to_pylist() == ["often"] * 3
    assert curves["mjd"].to_pylist() == [59000.0, 59001.0, 59002.0]


def test_own_and_packet_values_are_of_one_unit_and_sign():
    faded = [(info, -flux, error) for info, flux, error in series("a", 0, (0.1, 0.1, 0.1), is_negative=True)]
    row = curves_of(*faded).to_pylist()[0]
    assert row["flux"] == pytest.approx(-nanojansky(18.1))
    assert row["survey_flux"] == pytest.approx(-nanojansky(18.0))
    assert row["magnitude"] - row["survey_magnitude"] == pytest.approx(0.1)
    assert row["significance"] == pytest.approx(-nanojansky(18.1) / 100)
    assert row["magnitude_error"] == pytest.approx(2.5 / math.log(10) * 100 / nanojansky(18.1))


def test_rms_is_about_zero_and_the_robust_one_about_the_median():
    curves = curves_of(*series("a", 0, (0.1, 0.1, 0.1, 0.1, 1.1)), *series("b", 10, (-0.3, -0.3, -0.3)))
    a, b, every = magnitude_agreement(curves)
    assert (a["object_id"], a["n"], b["n"], every["object_id"], every["n"]) == ("a", 5, 3, "all", 8)
    assert a["median"] == pytest.approx(0.1)
    assert a["robust_rms"] == pytest.approx(0.0, abs=1e-9)
    assert a["rms"] == pytest.approx(math.sqrt((4 * 0.01 + 1.21) / 5))
    assert b["rms"] == pytest.approx(0.3)


def test_faint_points_and_points_of_another_sign_are_not_compared():
    faint = series("a", 0, (0.0, 0.0), error=nanojansky(18.0) / 7)
    other = [(info, -flux, error) for info, flux, error in series("a", 5, (0.0,))]
    masked = [(listed(8, "a"), math.nan, math.nan), (listed(9, "a", magnitude=None), nanojansky(18), 1.0)]
    curves = curves_of(*faint, *other, *masked)
    assert len(curves) == 5
    row = magnitude_agreement(curves)[0]
    assert (row["n_alerts"], row["n"], row["rms"], row["median"]) == (5, 0, None, None)


def test_alerts_without_a_zero_point_are_counted():
    curves = curves_of(*series("a", 0, (0.1, 0.1)), *series("a", 5, (0.1,), zero_point=None))
    assert [row["n_without_zero_point"] for row in magnitude_agreement(curves)] == [1, 1]


def test_no_object_of_three_alerts_gives_no_row():
    curves = curves_of(*series("a", 0, (0.1,)))
    assert len(curves) == 0
    assert magnitude_agreement(curves) == []


def test_history_becomes_fluxes_and_limits_less_what_the_alerts_measured():
    curves = curves_of(*series("a", 0, (0, 0, 0)))
    past = [
        {"mjd": 58990.0, "magnitude": 19.0, "magnitude_error": 0.1, "limiting_magnitude": 20.5, "is_negative": True},
        {"mjd": 58991.0, "magnitude": None, "magnitude_error": None, "limiting_magnitude": 20.0, "is_negative": None},
        {"mjd": 58992.0, "magnitude": None, "magnitude_error": None, "limiting_magnitude": None, "is_negative": None},
        {"mjd": 59001.0, "magnitude": 18.0, "magnitude_error": 0.1, "limiting_magnitude": 20.5, "is_negative": False},
    ]
    history = pa.Table.from_pylist([{"object_id": "a", "band": "g", **row} for row in past], schema=HISTORY)
    detection, limit = context_of(history, curves, ZERO_POINT).to_pylist()
    assert detection["survey_flux"] == pytest.approx(-nanojansky(19.0))
    assert detection["survey_flux_error"] == pytest.approx(0.1 * math.log(10) / 2.5 * nanojansky(19.0))
    assert detection["survey_limit"] is None
    assert (limit["survey_flux"], limit["survey_limit"]) == (None, pytest.approx(nanojansky(20.0)))
    assert len(context_of(history, curves, math.nan)) == 0
