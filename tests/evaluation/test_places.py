import numpy as np
import pytest

from astrid.evaluation.places import PLACES, completeness_by_magnitude, completeness_by_place, place_of


def test_a_host_near_a_bright_star_counts_as_near_the_star():
    said = place_of(["field", "galaxy", "galaxy", "field"], [False, False, True, True])
    assert said.tolist() == ["empty field", "galaxy", "near a bright star", "near a bright star"]


def test_each_place_has_a_curve_of_its_own():
    rng = np.random.default_rng(1)
    snr = np.exp(rng.uniform(np.log(3), np.log(60), 3000))
    place = np.array(PLACES)[rng.integers(3, size=3000)]
    half = {"empty field": 5.0, "galaxy": 7.0, "near a bright star": 15.0}
    found = rng.random(3000) < 1 / (1 + (np.array([half[p] for p in place]) / snr) ** 8)
    said = completeness_by_place(snr, found, place)
    assert list(said) == list(PLACES)
    for name, expected in half.items():
        assert said[name]["snr_50"] == pytest.approx(expected, rel=0.08)
    assert sum(one["n"] for one in said.values()) == 3000
    assert list(completeness_by_place(snr, found, np.full(3000, "galaxy"))) == ["galaxy"]


def test_half_of_the_transients_of_the_true_limit_are_found():
    rng = np.random.default_rng(2)
    magnitudes = rng.uniform(18, 23, 4000)
    zero_point = rng.choice([25.0, 31.4], 4000)  # cells of several units
    found = rng.random(4000) < 1 / (1 + 10 ** (2 * (magnitudes - 20.7)))
    said = completeness_by_magnitude(10 ** (-0.4 * (magnitudes - zero_point)), zero_point, found)
    assert said["magnitude_50"] == pytest.approx(20.7, abs=0.06)
    assert 0 < said["magnitude_50_error"] < 0.06
    edges = [one["magnitude_bright"] for one in said["bins"]]
    assert edges == sorted(edges)
    assert said["bins"][0]["fraction"] > 0.95 > 0.05 > said["bins"][-1]["fraction"]
    assert sum(one["n"] for one in said["bins"]) == 4000


def test_without_a_zero_point_there_are_no_magnitudes():
    assert completeness_by_magnitude([1.0, 2.0], [np.nan, np.nan], [True, False]) is None
