import numpy as np
import pytest

from astrid.evaluation.losses import STEPS, highest_score, lost_in


def score_with(*peaks):
    score = np.zeros((60, 60), np.float32)
    for y, x, height in peaks:
        score[y, x] = height
    return score


def test_each_step_is_named_where_it_lost_a_truth():
    score = score_with((10, 10, 9.0), (10, 30, 9.0), (10, 50, 4.0), (40, 10, 9.0), (40, 30, 9.0))
    named = lost_in(
        [10, 10, 10, 40, 40],
        [10, 30, 50, 10, 30],
        [0, 0, 0, 64, 0],
        [True, False, False, False, False],
        score,
        np.ones(score.shape, bool),
        [10.0, 41.0],
        [10.0, 31.0],
        threshold=5.0,
        radius=3.0,
    )
    assert named == ["", "detection", "subtraction", "masked", "matching"]
    assert set(named[1:]) == set(STEPS)


def test_masked_score_and_score_beyond_the_radius_do_not_count():
    score = score_with((20, 20, 8.0), (20, 24, 9.0))
    usable = np.ones(score.shape, bool)
    assert highest_score(score, usable, 20.0, 20.0, 3.0) == 8
    assert highest_score(score, usable, 20.0, 21.5, 2.6) == 9
    usable[20, 20] = False
    assert highest_score(score, usable, 20.0, 20.0, 3.0) == 0
    assert highest_score(score, usable & False, 20.0, 20.0, 3.0) == -np.inf


@pytest.mark.parametrize("place", [(0.0, 0.0), (59.0, 59.0), (0.4, 58.8)])
def test_truths_at_the_edge_are_looked_at(place):
    assert highest_score(score_with((0, 0, 7), (59, 59, 7), (0, 59, 7)), np.ones((60, 60), bool), *place, 2.0) == 7


def test_no_truths_are_lost_nowhere():
    assert lost_in([], [], [], [], score_with(), np.ones((60, 60), bool), [], [], threshold=5.0, radius=2.0) == []
