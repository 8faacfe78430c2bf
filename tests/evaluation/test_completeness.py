import json

import numpy as np
import pytest
from scipy import special

from astrid.evaluation.completeness import completeness


def drawn(rng, n, snr_50=5.5, width=0.12, plateau=0.97):
    snr = np.exp(rng.uniform(np.log(3), np.log(50), n))
    c = np.log(snr_50) + width * np.log(2 * plateau - 1)
    return snr, rng.random(n) < plateau * special.expit((np.log(snr) - c) / width)


def test_the_50_per_cent_point_and_plateau_are_recovered_within_their_errors():
    pulls, plateaus = [], []
    for seed in range(12):
        curve = completeness(*drawn(np.random.default_rng(seed), 600))
        pulls.append((curve.snr_50 - 5.5) / curve.snr_50_error)
        plateaus.append(curve.plateau)
    assert abs(np.mean(pulls)) < 1.0
    assert 0.5 < np.std(pulls) < 1.7
    assert np.mean(plateaus) == pytest.approx(0.97, abs=0.01)


def test_a_sharp_step_has_its_50_per_cent_point_in_the_gap():
    snr = np.geomspace(3, 50, 200)
    curve = completeness(snr, snr > 6.0)
    assert curve.snr_50 == pytest.approx(6.0, rel=0.03)
    assert 0 < curve.snr_50_error < 0.3
    assert curve.curve([curve.snr_50])[0] == pytest.approx(0.5)


@pytest.mark.parametrize("recovered", [True, False])
def test_all_or_none_recovered_gives_no_fit_but_bins(recovered):
    curve = completeness(np.geomspace(3, 50, 50), np.full(50, recovered))
    assert curve.snr_50 is None
    assert curve.plateau is None
    assert curve.curve([5.0]) is None
    assert [one.fraction for one in curve.bins] == [float(recovered)] * 10


def test_a_fraction_that_never_reaches_one_half_has_no_50_per_cent_point():
    rng = np.random.default_rng(3)
    snr = np.geomspace(3, 50, 300)
    assert completeness(snr, rng.random(300) < 0.3).snr_50 is None


def test_bins_count_every_truth_once():
    snr, found = drawn(np.random.default_rng(4), 500)
    bins = completeness(snr, found).bins
    assert sum(one.n for one in bins) == 500
    assert sum(one.n_recovered for one in bins) == found.sum()
    assert all(one.interval[0] <= one.fraction <= one.interval[1] for one in bins)
    given = completeness(snr, found, edges=[5, 10, 20, 40, 60, 70]).bins
    assert (given[-1].n, given[-1].fraction, given[-1].interval) == (0, None, None)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_few_truths_are_no_trouble_and_everything_is_json(n):
    curve = completeness(np.full(n, 7.0), np.ones(n, bool))
    assert json.loads(json.dumps(curve.as_dict(), allow_nan=False))["snr_50"] is None


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="positive and finite"):
        completeness([np.nan], [True])
    with pytest.raises(ValueError, match="one length"):
        completeness([5.0], [True, False])
    with pytest.raises(ValueError, match="edges must increase"):
        completeness([5.0], [True], edges=[3, 2])
