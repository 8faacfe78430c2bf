import numpy as np
import pytest

from astrid.evaluation.compared import curves, froc, measured, paired, resampled, weighted
from astrid.evaluation.ranked import Ranked, average_precision, recall_at

AREA = 256**2 / 1e6


def ranking(seed, separation, n_tiles=80, false_per_tile=4):
    """Tiles with two transients each, found with a score that stands out by so many sigma."""
    rng = np.random.default_rng(seed)
    scores, true, tile = [], [], []
    for number in range(n_tiles):
        n_false = rng.poisson(false_per_tile)
        scores += [*rng.normal(separation, 1, 2), *rng.normal(0, 1, n_false)]
        true += [True, True] + [False] * n_false
        tile += [number] * (2 + n_false)
    return Ranked(np.round(scores, 1), np.array(true), np.array(tile), np.full(n_tiles, 2))


def ones(ranked):
    return np.ones((1, ranked.n_tiles), int)


def test_each_tile_once_gives_the_numbers_of_the_ranking():
    ranked = ranking(1, 2.0)
    precision, recall = weighted(ranked, np.full(80, AREA), ones(ranked))
    assert precision[0] == pytest.approx(average_precision(ranked))
    assert recall[0] == pytest.approx(recall_at(ranked, 0.1))


def test_a_weight_is_the_number_of_times_a_tile_is_there():
    ranked = ranking(2, 1.5, n_tiles=20)
    drawn = np.random.default_rng(3).integers(20, size=20)
    weights = np.bincount(drawn, minlength=20)[None]
    precision, recall = weighted(ranked, np.full(20, AREA), weights)
    sample = ranked.of_tiles(drawn)
    assert precision[0] == pytest.approx(average_precision(sample))
    assert recall[0] == pytest.approx(recall_at(sample, 0.1))


def test_large_tiles_may_hold_more_false_alarms():
    ranked = Ranked(np.array([4.0, 3, 2, 1]), np.array([False, True, False, True]), np.zeros(4, int), np.array([2]))
    recalls = [weighted(ranked, [area], ones(ranked))[1][0] for area in (AREA, 10 * AREA, 20 * AREA)]
    assert recalls == [0.0, 0.5, 1.0]


def test_the_interval_of_a_mean_of_tiles_is_that_of_statistics():
    n = 400
    hit = np.random.default_rng(4).random(n) < 0.7
    ranked = Ranked(np.ones(hit.sum()), np.ones(hit.sum(), bool), np.flatnonzero(hit), np.ones(n, int))
    recall = measured(ranked, np.full(n, AREA), resampled(n, np.random.default_rng(5)))[1]
    error = np.sqrt(hit.mean() * (1 - hit.mean()) / n)
    assert recall.value == pytest.approx(hit.mean())
    assert recall.high - recall.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_a_better_ranking_is_told_from_a_worse_one_and_not_from_its_like():
    weights = resampled(80, np.random.default_rng(6), 300)
    area = np.full(80, AREA)
    gain = paired(ranking(7, 3.0), ranking(7, 1.5), area, weights)[0]
    assert 0 < gain.low < gain.value < gain.high
    same = paired(ranking(8, 2.0), ranking(9, 2.0), area, weights)[0]
    assert same.low < 0 < same.high


def test_the_interval_of_a_difference_is_narrower_where_the_tiles_decide_both():
    first = ranking(10, 2.0)
    second = Ranked(first.score + 0.2 * first.is_true, first.is_true, first.tile, first.n_true)
    weights = resampled(80, np.random.default_rng(11), 300)
    gain = paired(second, first, np.full(80, AREA), weights)[0]
    alone = measured(second, np.full(80, AREA), weights)[0]
    assert gain.high - gain.low < 0.5 * (alone.high - alone.low)
    assert gain.low > 0


def test_false_alarms_per_megapixel_and_recall_grow_together():
    ranked = ranking(12, 2.0)
    score, false, recall = froc(ranked, np.full(80, AREA))
    assert (np.diff(score) < 0).all()
    assert (np.diff(false) >= 0).all()
    assert (np.diff(recall) >= 0).all()
    assert false[-1] == pytest.approx((~ranked.is_true).sum() / (80 * AREA))
    assert recall[-1] == 1


def test_what_is_said_of_a_ranking_fits_into_json_and_ends_at_all_detections():
    ranked = ranking(13, 2.0)
    probability = 1 / (1 + np.exp(-2 * (ranked.score - 1)))
    said = curves(ranked, np.full(80, AREA), resampled(80, np.random.default_rng(1), 50), probability)
    assert len(said["score"]) == len(said["recall"]) == len(said["false_alarms_per_megapixel"]) <= 200
    assert said["recall"][-1] == 1
    assert said["precision"][-1] == pytest.approx(ranked.is_true.mean())
    assert sum(said["reliability"]["n"]) == len(ranked.score)
    assert 0 <= said["calibration_error"] < 0.3
    assert curves(ranked, np.full(80, AREA), ones(ranked))["reliability"] is None


def test_too_few_tiles_for_samples_give_no_interval():
    ranked = ranking(15, 2.0, n_tiles=3)
    none = np.zeros((0, 3), int)
    said = curves(ranked, np.full(3, AREA), none)["average_precision"]
    assert said == {"value": pytest.approx(average_precision(ranked)), "low": None, "high": None}
    assert paired(ranked, ranked, np.full(3, AREA), none)[1].as_dict() == {"value": 0.0, "low": None, "high": None}


def test_no_detections_are_no_error():
    nothing = Ranked(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.array([2, 0]))
    said = curves(nothing, [AREA, AREA], resampled(2, np.random.default_rng(1), 10), np.zeros(0))
    assert said["average_precision"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert said["score"] == []


def test_tiles_that_do_not_fit_are_refused():
    ranked = ranking(14, 2.0)
    with pytest.raises(ValueError, match="80 tiles, but megapixels of"):
        weighted(ranked, [1.0], ones(ranked))
    with pytest.raises(ValueError, match="must be the same, got 80 and 20"):
        paired(ranked, ranking(14, 2.0, n_tiles=20), np.full(80, AREA), ones(ranked))
    with pytest.raises(ValueError, match="needs tiles, got 0"):
        resampled(0, np.random.default_rng(1))
