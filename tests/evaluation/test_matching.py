import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from astrid.evaluation.matching import Verdict, classify, duplicates, match, match_radius

positions = hnp.arrays(float, st.tuples(st.integers(0, 12), st.just(2)), elements=st.floats(0, 20))


@given(truths=positions, found=positions, radius=st.floats(0.5, 6), seed=st.integers(0, 1000))
def test_matching_is_one_to_one_within_the_radius_and_leaves_no_free_pair(truths, found, radius, seed):
    score = np.random.default_rng(seed).random(len(found))
    result = match(*truths.T, *found.T, score, radius=radius)
    for truth, detection in enumerate(result.detection):
        if detection >= 0:
            assert result.truth[detection] == truth
            assert np.hypot(*(truths[truth] - found[detection])) <= radius * (1 + 1e-9)
    assert result.is_recovered.sum() == result.is_matched.sum()
    for truth in truths[~result.is_recovered]:
        for detection in found[~result.is_matched]:
            assert np.hypot(*(truth - detection)) >= radius * (1 - 1e-9)


@given(truths=positions, found=positions, seed=st.integers(0, 1000))
def test_matching_does_not_depend_on_the_order(truths, found, seed):
    rng = np.random.default_rng(seed)
    score = rng.random(len(found))
    result = match(*truths.T, *found.T, score, radius=3.0)
    p, q = rng.permutation(len(truths)), rng.permutation(len(found))
    other = match(*truths[p].T, *found[q].T, score[q], radius=3.0)

    def pairs(matches, a, b):
        taken = matches.is_recovered
        return sorted((*a[i], *b[matches.detection[i]]) for i in np.flatnonzero(taken))

    assert pairs(result, truths, found) == pairs(other, truths[p], found[q])


def test_the_higher_score_wins_and_the_second_detection_is_a_duplicate():
    truth_y, truth_x, y, x = [10.0], [10.0], [10.1, 11.0, 30.0], [10.0, 10.0, 30.0]
    result = match(truth_y, truth_x, y, x, [5.0, 9.0, 7.0], radius=2.0)
    assert result.detection.tolist() == [1]
    assert result.is_matched.tolist() == [False, True, False]
    assert duplicates(truth_y, truth_x, y, x, result, radius=2.0).tolist() == [True, False, False]


def test_a_detection_is_true_once_ignored_at_variables_and_false_elsewhere():
    y, x = [10.0, 10.5, 50.0, 51.0, 80.0], [10.0, 10.0, 50.0, 50.0, 80.0]
    verdict = classify(y, x, [9, 8, 7, 6, 5], radius=2.0, known=[[10.2, 10.0]], ignored=[[50.0, 50.0]])
    assert verdict.tolist() == [Verdict.TRUE, Verdict.FALSE, Verdict.IGNORED, Verdict.IGNORED, Verdict.FALSE]
    assert classify([], [], [], radius=2.0).tolist() == []
    assert classify([1.0], [1.0], [9.0], radius=2.0).tolist() == [Verdict.FALSE]


def test_the_radius_is_the_larger_of_two_pixels_and_the_fwhm():
    assert match_radius(1.5) == 2.0
    assert match_radius(3.2) == 3.2
    with pytest.raises(ValueError, match="fwhm"):
        match_radius(float("nan"))


def test_positions_that_are_not_finite_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="y holds 1 values that are not finite"):
        match([1.0], [1.0], [np.nan], [1.0], [1.0], radius=2.0)
    with pytest.raises(ValueError, match="vectors of one length"):
        match([1.0], [1.0, 2.0], [1.0], [1.0], [1.0], radius=2.0)
