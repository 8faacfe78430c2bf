import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from astrid.evaluation.ranked import (
    Ranked,
    average_precision,
    bootstrapped,
    calibration_error,
    isotonic,
    judged,
    logistic,
    precision_recall,
    recall_at,
    reliability,
    threshold_at,
)


def ranking(score, is_true, tile=None, n_true=None):
    tile = np.zeros(len(score), int) if tile is None else np.array(tile)
    n_true = np.array([int(np.sum(is_true))]) if n_true is None else np.array(n_true)
    return Ranked(np.array(score, float), np.array(is_true, bool), tile, n_true)


def test_average_precision_is_that_of_scikit_learn_where_all_are_found():
    rng = np.random.default_rng(1)
    is_true = rng.random(300) < 0.3
    score = np.round(rng.normal(is_true, 1.0), 1)  # with ties
    assert average_precision(ranking(score, is_true)) == pytest.approx(average_precision_score(is_true, score))


def test_transients_never_found_lower_the_average_precision():
    ranked = ranking([3, 2], [True, True], n_true=[4])
    assert average_precision(ranked) == pytest.approx(0.5)


def test_precision_and_recall_by_hand():
    score, precision, recall = precision_recall(ranking([5, 4, 4, 1], [True, False, True, True], n_true=[4]))
    assert score.tolist() == [5, 4, 1]
    np.testing.assert_allclose(precision, [1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(recall, [0.25, 0.5, 0.75])


def test_the_threshold_keeps_false_alarms_per_tile():
    ranked = ranking([9, 8, 7, 6, 5], [True, False, True, False, True], tile=[0, 0, 1, 2, 3], n_true=[1, 1, 0, 1])
    assert threshold_at(ranked, 0.25) == 7
    assert recall_at(ranked, 0.25) == pytest.approx(2 / 3)
    assert recall_at(ranked, 0.0) == pytest.approx(1 / 3)
    assert threshold_at(ranking([1.0], [False]), 0.1) == np.inf


def test_detections_are_judged_one_to_one_and_faint_transients_count_for_nothing():
    hit, ignored = judged(
        [10, 11, 30, 50], [10, 10, 30, 50], [0.9, 0.8, 0.7, 0.6], [10.2, 30], [10, 30.5], [True, False], radius=2
    )
    assert hit.tolist() == [True, False, False, False]  # the second of one transient is false
    assert ignored.tolist() == [False, False, True, False]


def test_a_calibration_tells_how_likely_a_score_is_real_and_keeps_the_order():
    rng = np.random.default_rng(2)
    score = rng.random(20000)
    is_true = rng.random(20000) < score**2
    at, probability = isotonic(score[::2], is_true[::2])
    assert (np.diff(at) > 0).all()
    assert (np.diff(probability) > 0).all()
    found = np.interp(score[1::2], at, probability)
    assert calibration_error(found, is_true[1::2]) < 0.02
    assert calibration_error(score, is_true) > 0.1
    mean, real, count = reliability(found, is_true[1::2])
    assert count.sum() == 10000
    assert np.nanmax(np.abs(mean - real)) < 0.06


def test_few_detections_calibrate_an_output_that_is_nearly_a_probability():
    rng = np.random.default_rng(3)
    odds = rng.normal(0, 3, 4000)
    score, truth = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(-(0.6 * odds - 1)))
    at, probability = logistic(score[:1000], rng.random(1000) < truth[:1000])
    assert len(at) == 65
    assert (np.diff(at) > 0).all()
    assert np.abs(np.interp(score, at, probability) - truth).max() < 0.06
    assert np.abs(score - truth).max() > 0.2


@pytest.mark.parametrize("calibrate", [isotonic, logistic])
def test_a_calibration_needs_both_kinds(calibrate):
    with pytest.raises(ValueError, match="true and false"):
        calibrate(np.array([0.1, 0.2]), np.array([True, True]))


def test_the_bootstrap_draws_whole_tiles():
    rng = np.random.default_rng(3)
    tile = np.repeat(np.arange(100), 3)
    is_true = np.tile([True, False, False], 100)
    score = np.where(is_true, 1.0, 0.0) + rng.normal(0, 0.5, 300)
    ranked = ranking(score, is_true, tile, np.ones(100, int))
    precision, recall = bootstrapped(ranked, rng, 50)
    assert precision.std() < 0.1
    assert abs(precision.mean() - average_precision(ranked)) < 0.03
    assert abs(recall.mean() - recall_at(ranked, 0.1)) < 0.06
