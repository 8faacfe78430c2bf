from dataclasses import replace

import numpy as np
import pytest

from astrid.evaluation.compared import curves, paired, resampled
from astrid.evaluation.places import PLACES, completeness_by_place
from astrid.evaluation.ranked import Ranked
from astrid.report.page import render_report
from astrid.report.rankings import draw_rankings, write_differences

from .test_page import check, words


@pytest.fixture(scope="module")
def metrics():
    """What evaluation writes of two detectors over 30 cells."""
    rng = np.random.default_rng(1)
    weights, area = resampled(30, rng, 100), np.full(30, 0.2)
    rankings, said = {}, {}
    for name, part in (("unet", 0.9), ("matched_filter", 0.6)):
        hit = rng.random(300) < part
        score = np.r_[rng.uniform(0.5, 1, hit.sum()), rng.uniform(0.2, 0.9, 60)]
        true = np.r_[np.ones(hit.sum(), bool), np.zeros(60, bool)]
        tile = np.r_[np.flatnonzero(hit) // 10, rng.integers(30, size=60)]
        rankings[name] = Ranked(score, true, tile, np.full(30, 10))
        said[name] = curves(rankings[name], area, weights, score if name == "unet" else None)
    gains = paired(rankings["unet"], rankings["matched_filter"], area, weights)
    pair = {"detector": "unet", "against": "matched_filter", "average_precision": gains[0].as_dict()}
    snr = np.exp(rng.uniform(1, 4, 300))
    by_place = completeness_by_place(
        snr, rng.random(300) < 1 / (1 + (6 / snr) ** 6), np.array(PLACES)[np.arange(300) % 3]
    )
    return {
        "curves": said,
        "paired": [pair | {"recall_at_false_alarms": gains[1].as_dict()}],
        "completeness_apart": {"unet": {"place": by_place, "magnitude": {"magnitude_50": 21.37}}},
    }


def test_every_curve_is_drawn_with_its_numbers(metrics):
    figures = {figure.title: figure for figure in draw_rankings(metrics)}
    assert list(figures) == ["Precision and recall", "False alarms", "Probability", "By place: unet"]
    value = metrics["curves"]["unet"]["average_precision"]["value"]
    assert f"unet {value:.3f} (" in figures["Precision and recall"].caption
    assert figures["False alarms"].svg.count("polyline") == 2
    assert "matched_filter" not in figures["Probability"].caption  # it states no probability
    assert "near a bright star (diamonds): half at S/N" in figures["By place: unet"].caption
    assert "magnitude 21.37" in figures["By place: unet"].caption


def test_a_difference_is_said_with_its_interval_and_what_it_means(metrics):
    (sentence,) = write_differences(metrics)
    assert sentence.startswith("unet against matched_filter on the same images: average precision +0.")
    assert "which tells them apart" in sentence
    none = {"value": 0.1, "low": None, "high": None}
    pair = {"detector": "a", "against": "b", "average_precision": none, "recall_at_false_alarms": none}
    assert "too few images" in write_differences({"paired": [pair]})[0]
    level = {"value": 0.01, "low": -0.1, "high": 0.1}
    assert "does not tell them apart" in write_differences({"paired": [pair | {"average_precision": level}]})[0]


def test_a_report_with_curves_is_well_formed(data, metrics):
    text = render_report(replace(data, metrics={**data.metrics, **metrics}, best=(), worst=(), example=None))
    check(text)
    assert "At every threshold" in words(text)


def test_without_curves_nothing_is_drawn(data):
    assert draw_rankings({}) == []
    assert draw_rankings({"curves": {}, "paired": [], "completeness_apart": {}}) == []
    empty = Ranked(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.array([1]))
    said = curves(empty, [1.0], np.ones((1, 1), int))
    assert draw_rankings({"curves": {"a": said}}) == []
