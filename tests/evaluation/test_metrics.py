import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.evaluation.localization import localize
from astrid.evaluation.matching import match
from astrid.evaluation.metrics import Truths, metrics_row, position_rms

NAMES = {"dataset": "sample", "truth": "injections", "subtraction": "zogy", "detector": "matched_filter"}
COST = {"n_images": 4, "megapixels": 2.0, "cpu_seconds": 8.0}


def truths(snr, recovered, *, mask_bits=None, dy=0.0, dx=0.0, iou=1.0):
    n = len(snr)
    bits = np.zeros(n, int) if mask_bits is None else np.asarray(mask_bits)
    values = [np.full(n, value) for value in (iou, dy, dx)]
    return Truths(np.asarray(snr, float), bits, np.asarray(recovered, bool), *values)


def test_a_perfect_detector_has_precision_and_recall_one_and_localization_100():
    rng = np.random.default_rng(1)
    y, x = np.arange(20) * 30.0 + rng.random(20), rng.random(20) * 500
    found = match(y, x, y[::-1], x[::-1], rng.random(20), radius=3.0)
    iou = localize(y, x, y[::-1][found.detection], x[::-1][found.detection], fwhm=3.0)
    zero = np.zeros(20)
    all_found = Truths(np.full(20, 10.0), np.zeros(20, int), found.is_recovered, iou, zero, zero)
    row = metrics_row(all_found, **NAMES, **COST, n_false=0, threshold=5.0)
    assert (row["precision"], row["recall"], row["localization"], row["localization_all"]) == (1, 1, 100, 100)
    assert row["position_rms_px"] == 0
    assert row["recall_ci"][0] < 1 == row["recall_ci"][1]
    assert (row["seconds_per_image"], row["seconds_per_megapixel"], row["injected_per_megapixel"]) == (2, 4, 10)


def test_faint_truths_are_ignored_and_masked_ones_excluded_and_counted():
    some = truths([3, 4, 6, 9, 20, 30], [1, 0, 0, 1, 1, 1], mask_bits=[0, 0, 0, 0, 0, 4])
    row = metrics_row(some, **NAMES, **COST, n_false=2, n_duplicates=1, n_ignored=3)
    assert (row["n_true"], row["n_recovered"], row["n_faint"], row["n_masked"], row["n_ignored"]) == (3, 2, 2, 1, 3)
    assert row["recall"] == pytest.approx(2 / 3)
    assert row["precision"] == pytest.approx(2 / 5)
    assert (row["recall_snr8"], row["n_true_snr8"], row["n_recovered_snr8"]) == (1.0, 2, 2)
    assert row["localization_all"] == pytest.approx(200 / 3)
    assert (row["false_alarms_per_image"], row["false_alarms_per_megapixel"]) == (0.5, 1.0)
    assert row["false_alarms_per_image_ci"][0] < 0.5 < row["false_alarms_per_image_ci"][1]


def test_preselected_stamps_have_no_precision_and_no_false_alarms():
    row = metrics_row(truths([9, 9], [1, 0]), **NAMES, **COST, n_false=1, is_preselected=True)
    assert row["recall"] == 0.5
    for name in ("precision", "precision_ci", "false_alarms_per_image", "false_alarms_per_megapixel", "n_false"):
        assert row[name] is None


def test_a_run_without_truths_or_images_is_null_and_not_nan():
    row = metrics_row(Truths.empty(), **NAMES, n_false=0, n_images=0, megapixels=0.0, cpu_seconds=None)
    for name in ("precision", "recall", "localization", "seconds_per_image", "position_rms_px", "recall_snr8_ci"):
        assert row[name] is None
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_known_events_without_a_known_snr_count():
    row = metrics_row(truths([np.nan, np.nan], [1, 0]), **{**NAMES, "truth": "known_events"}, **COST, n_false=0)
    assert (row["recall"], row["n_true_snr8"], row["injected_per_megapixel"]) == (0.5, 0, None)


@given(n=st.integers(0, 40), n_false=st.integers(0, 9), seed=st.integers(0, 99))
def test_every_row_is_plain_json_with_fractions_between_zero_and_one(n, n_false, seed):
    rng = np.random.default_rng(seed)
    some = truths(rng.uniform(3, 50, n), rng.random(n) < 0.6, mask_bits=rng.integers(0, 2, n), iou=0.5)
    row = metrics_row(some, **NAMES, **COST, n_false=n_false)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    for name in ("precision", "recall", "recall_snr8"):
        assert row[name] is None or 0 <= row[name] <= 1
    assert row["n_true"] + row["n_masked"] + row["n_faint"] == n


def test_joining_cells_and_counting_equals_counting_joined_cells():
    parts = [truths([6, 9], [1, 0]), Truths.empty(), truths([12], [1])]
    assert metrics_row(Truths.joined(parts), **NAMES, **COST, n_false=1)["n_recovered"] == 2
    assert len(Truths.joined([])) == 0


def test_position_rms_is_per_axis():
    rng = np.random.default_rng(2)
    assert position_rms(rng.normal(0, 0.3, 5000), rng.normal(0, 0.3, 5000)) == pytest.approx(0.3, rel=0.03)
    assert position_rms(np.empty(0), np.empty(0)) is None


def test_false_alarms_near_stars_are_counted_apart_and_among_all():
    row = metrics_row(truths([10.0], [True]), **NAMES, **COST, n_false=6, n_false_near_stars=4)
    assert row["false_alarms_near_stars"] == 4 / row["n_images"]
    assert (row["n_false"], row["n_false_near_stars"]) == (6, 4)
    with pytest.raises(ValueError, match=r"n_false_near_stars.*\(6\), got 7"):
        metrics_row(truths([10.0], [True]), **NAMES, **COST, n_false=6, n_false_near_stars=7)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="one length"):
        Truths(np.ones(2), np.ones(1, int), np.ones(2, bool), np.ones(2), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="not finite"):
        truths([9.0], [1], dy=np.nan)
    with pytest.raises(ValueError, match="known_events"):
        metrics_row(Truths.empty(), **{**NAMES, "truth": "guess"}, **COST, n_false=0)
