import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.evaluation.intervals import poisson, wilson


@pytest.mark.parametrize("fraction", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("trials", [30, 300])
def test_wilson_intervals_hold_the_truth_as_often_as_they_say(fraction, trials):
    drawn = np.random.default_rng(1).binomial(trials, fraction, 4000)
    bounds = {int(k): wilson(int(k), trials) for k in np.unique(drawn)}
    held = np.mean([bounds[int(k)][0] <= fraction <= bounds[int(k)][1] for k in drawn])
    assert held == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("mean", [0.5, 4.0, 40.0])
def test_poisson_intervals_hold_the_truth_at_least_as_often_as_they_say(mean):
    drawn = np.random.default_rng(2).poisson(mean, 4000)
    bounds = {int(k): poisson(int(k)) for k in np.unique(drawn)}
    held = np.mean([bounds[int(k)][0] <= mean <= bounds[int(k)][1] for k in drawn])
    assert held >= 0.94


@given(trials=st.integers(1, 500), data=st.data())
def test_an_interval_holds_its_own_fraction(trials, data):
    k = data.draw(st.integers(0, trials))
    low, high = wilson(k, trials)
    assert 0 <= low <= k / trials <= high <= 1
    assert low < high


def test_nothing_tried_has_no_interval_and_nonsense_is_refused():
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="successes <= trials"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=1.0)
    with pytest.raises(ValueError, match="count"):
        poisson(-1)
