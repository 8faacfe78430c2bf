import pytest

from astrid.detection.unet import weights
from astrid.detection.unet.examples import Examples
from astrid.evaluation.ranked import average_precision, calibration_error, recall_at
from astrid.workflow.examples import HarshShard, ShardKey, shard_path
from astrid.workflow.train import ranked_peaks

TILES = 20  # in a shard: the first 40 tiles that the weights were validated on
RECORDED = {"average_precision": 0.9459, "recall_at_0.1": 0.9355}  # of them, by the weights in the package


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    keys = [ShardKey("validation", number) for number in range(2)]
    for key in keys:
        HarshShard(folder, seed=1, tiles=TILES)(key)
    examples = Examples(tuple(shard_path(folder, key.part, key.number) for key in keys))
    return ranked_peaks(weights.read("base")[0], examples)


def test_the_weights_in_the_package_do_what_is_recorded_of_them(ranked):
    assert ranked.n_tiles == 40
    assert average_precision(ranked) == pytest.approx(RECORDED["average_precision"], abs=0.02)
    assert recall_at(ranked, 0.1) == pytest.approx(RECORDED["recall_at_0.1"], abs=0.04)


def test_their_score_is_a_probability(ranked):
    card = weights.read("base")[1]
    assert calibration_error(card.calibrated(ranked.score), ranked.is_true) < 0.08  # of a hundred detections


def test_their_card_says_how_they_were_made_and_how_good_they_are():
    card = weights.read_card(weights.path_of("base"))
    assert weights.shipped() == ["base"]
    assert weights.path_of("base").stat().st_size <= 4e6
    assert card.training["source"] == "harsh"
    assert card.training["seed"] == 1
    assert card.metrics["average_precision"] > 0.9
    assert 0 < card.threshold < 1
