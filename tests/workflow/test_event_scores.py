from dataclasses import replace

import numpy as np
import pytest

from astrid.detection.matched_filter import MatchedFilter
from astrid.detection.unet.detector import Unet, turned
from astrid.simulation.harsh import harsh_tile
from astrid.workflow.event_scores import at_event, event_scores
from astrid.workflow.examples import harsh_difference


@pytest.fixture(scope="module")
def shown():
    """A tile of noise with one bright transient, and its difference."""
    tile = next(
        made
        for seed in range(40)
        if (made := harsh_tile(seed, side=128, transients=1, artefacts=False, sources=False)).snr[0] > 20
    )
    return tile, harsh_difference(tile)


def test_an_event_is_scored_where_the_difference_is_highest_near_it(shown):
    tile, difference = shown
    found = at_event(difference, tile.y[0] + 1.0, tile.x[0] - 1.0)
    assert np.hypot(found.y[0] - tile.y[0], found.x[0] - tile.x[0]) < 0.3
    assert found.significance[0] == pytest.approx(tile.snr[0], rel=0.2)


def test_real_light_is_likelier_than_an_empty_place(shown):
    tile, difference = shown
    scorers = (MatchedFilter(), Unet())
    real = event_scores(scorers, difference, tile.y[0], tile.x[0])
    empty = event_scores(scorers, difference, (tile.y[0] + 64) % 100 + 10, (tile.x[0] + 64) % 100 + 10)
    assert list(real) == ["matched_filter", "unet"]
    for name in real:
        assert real[name].score > empty[name].score
    assert real["unet"].probability > 0.5 > empty["unet"].probability
    assert np.isnan(real["matched_filter"].probability)  # significance is no probability


def test_what_has_faded_is_scored_as_what_is_new_with_the_images_exchanged(shown):
    tile, difference = shown
    scorers = (MatchedFilter(), Unet())
    new = event_scores(scorers, difference, tile.y[0], tile.x[0])
    faded = event_scores(scorers, turned(difference), tile.y[0], tile.x[0], is_negative=True)
    assert faded["unet"].score == pytest.approx(new["unet"].score, abs=1e-5)
    assert faded["matched_filter"].score == pytest.approx(new["matched_filter"].score)


def test_an_event_outside_and_a_difference_without_images_are_refused(shown):
    _, difference = shown
    with pytest.raises(ValueError, match="is not on the difference of"):
        at_event(difference, -30.0, 5.0)
    with pytest.raises(ValueError, match="holds none"):
        event_scores((MatchedFilter(),), replace(difference, science=None), 60.0, 60.0)
