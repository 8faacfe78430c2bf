from dataclasses import replace

import numpy as np
import pytest

from astrid.evaluation.alerts import judge_alert, summarise_alerts
from astrid.image import Difference, Image
from astrid.imaging.stamps import moffat_stamp

SIDE = 63
PSF = moffat_stamp(21, 2.2, 3.0).astype(np.float32)


def difference(peaks, *, seed=0, mask=None):
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 0.5, (SIDE, SIDE)).astype(np.float32)
    flux = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    for y, x, value in peaks:
        score[y, x] = value
        flux[y - 10 : y + 11, x - 10 : x + 11] += 10 * value * PSF
    empty = np.zeros((SIDE, SIDE), np.uint16) if mask is None else mask
    return Difference(flux, np.ones((SIDE, SIDE), np.float32), empty, PSF, score)


TEMPLATE = Image(
    np.zeros((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint16), PSF
)


def judged(made, theirs=None, **options):
    return judge_alert(made, TEMPLATE, theirs, 31.0, 31.0, **{"is_negative": False, **options})


def test_a_detection_is_a_peak_of_the_right_sign_near_the_event():
    assert judged(difference([(32, 32, 8.0)])).is_detected
    assert judged(difference([(32, 32, 8.0)])).own_significance == 8.0
    assert not judged(difference([(34, 31, 8.0)])).is_detected
    assert not judged(difference([(31, 31, -8.0)])).is_detected
    fading = judged(difference([(31, 31, -8.0)]), is_negative=True)
    assert fading.is_detected
    assert fading.own_significance == -8.0
    assert fading.own_flux == pytest.approx(-80, rel=0.2)


def test_peaks_far_from_the_event_are_counted_once_each_of_either_sign():
    made = judged(difference([(31, 31, 9.0), (10, 10, 6.0), (11, 11, 5.5), (50, 20, -7.0), (31, 36, 6.0)]))
    assert made.n_off_centre == 2
    mask = np.zeros((SIDE, SIDE), np.uint16)
    mask[10, 10] = 1
    assert judged(difference([(10, 10, 9.0)], mask=mask)).n_off_centre == 0


def test_the_same_difference_correlates_fully_and_has_the_same_noise():
    made = difference([(31, 31, 9.0)])
    result = judged(made, made.flux.copy())
    assert result.correlation == pytest.approx(1)
    assert result.noise_ratio == pytest.approx(1)
    other = difference([], seed=5).flux * 2
    assert judged(made, other).noise_ratio == pytest.approx(0.5, rel=0.1)
    assert np.isnan(judged(made).correlation)


def test_objects_with_many_alerts_weigh_as_much_as_others():
    n = 4
    columns = {
        "object_id": ["a", "a", "a", "b"],
        "kind": ["transient"] * n,
        "label_basis": ["catalogue:transient"] * n,
        "is_detected": [True, True, True, False],
        "n_off_centre": [0, 1, 2, 1],
        "score_width": [1.0, 1.0, 1.0, 1.5],
        "correlation": [None, 0.9, 0.8, 1.0],
        "noise_ratio": [1.0] * n,
        "star_residual": [None] * n,
        "own_flux": [11.0, 20.0, -9.0, float("nan")],
        "own_flux_error": [1.0] * n,
        "survey_flux": [10.0, 20.0, -10.0, 5.0],
        "survey_significance": [10.0, 21.0, -12.0, 6.0],
        "is_dipole": [None] * n,
    }
    row, everything = summarise_alerts(columns)
    assert row["flux_ratio"] == 1.0
    assert row["significance_ratio"] == pytest.approx(20 / 21)
    assert (row["n"], row["n_objects"]) == (4, 2)
    assert row["detected"] == 0.75
    assert row["detected_by_object"] == 0.5
    assert row["off_centre_per_stamp"] == 1.0
    assert row["share_of_widths_0p8_to_1p2_by_object"] == 0.5
    assert row["correlation"] == 0.9
    assert row["star_residual"] is None
    assert everything["label_basis"] == "all"
    rows = summarise_alerts({**columns, "is_dipole": [False, True, False, None]})
    assert {r["label_basis"]: r["n"] for r in rows[1:]} == {
        "survey: dipole": 1, "survey: S/N >= 8": 2, "survey: fainter": 1, "all": 4,
    }  # fmt: skip


def test_the_event_of_a_wide_psf_may_lie_further_off():
    made = difference([(31, 35, 8.0)])
    assert not judged(made).is_detected
    wide = replace(made, psf=moffat_stamp(21, 6.0, 3.0).astype(np.float32))
    assert judged(wide).is_detected
