import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from astrid.detection.unet import weights
from astrid.detection.unet.examples import Examples
from astrid.workflow.examples import ShardKey, tiles_of
from astrid.workflow.train import Training, ranked_peaks
from tests.workflow.conftest import night

TINY = (
    "cluster=inline",
    "training.source=harsh",
    "training.side=128",
    "training.harsh_tiles=250",
    "training.validation_tiles=75",
    "training.architecture=small",
    "training.loop.steps=320",
    "training.loop.check_every=160",
    "training.loop.learning_rate=0.005",
)


def test_a_tiny_model_learns_what_no_broken_pipeline_could(place):
    ended = place("train", "name=tiny", *TINY)
    assert ended.code == 0, ended.out + ended.err
    folder = place.run("tiny")
    network, card = weights.checked(folder / "weights.safetensors")
    assert card.metrics["average_precision"] > 0.4  # the score alone reaches 0.07
    assert card.metrics["calibration_error"] < 0.1
    assert 0 < card.threshold < 1
    assert "average precision" in (folder / "weights.md").read_text()
    shards = sorted(path.with_suffix("") for path in (folder / "examples").glob("validation-*.json"))
    again = ranked_peaks(network.folded(), Examples(tuple(shards)))
    assert again.n_tiles == 75
    sources = [{one["source"] for path in (folder / "examples").glob(f"{part}-*.json")
                for one in json.loads(path.read_text())} for part in ("training", "validation")]  # fmt: skip
    assert not sources[0] & sources[1]


def test_a_survey_gives_examples_of_its_own_cells(done_before):
    words = ("training.source=cells", "training.architecture=small", "training.loop.steps=4", "training.loop.batch=2",
             "training.loop.check_every=2", "evaluation.snr_min=20", "evaluation.seed=4")  # fmt: skip
    ended = done_before("train", *night("own", *words))
    assert ended.code == 0, ended.out + ended.err
    found = sorted(done_before.run("own").glob("examples/cell-*.json"))
    assert len(found) == 4
    examples = Examples(tuple(path.with_suffix("") for path in found))
    assert all(len(examples[i].y) and (examples[i].snr >= 20).all() for i in range(len(examples)))


def test_training_goes_on_from_weights_of_before(done_before):
    words = ("training.source=cells", "training.start=base", "training.loop.steps=2", "training.loop.batch=2",
             "training.loop.check_every=1", "training.loop.learning_rate=1e-9", "evaluation.snr_min=20",
             "evaluation.seed=4")  # fmt: skip
    ended = done_before("train", *night("further", *words))
    assert ended.code == 0, ended.out + ended.err
    before, after = weights.checked(weights.path_of("base"))[0], weights.checked(
        done_before.run("further") / "weights.safetensors")[0]  # fmt: skip
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert all(same)
    assert "start" in weights.read_card(done_before.run("further") / "weights.safetensors").training


def test_weights_of_another_architecture_are_no_start(place):
    ended = place("train", "name=wrong", *TINY, "training.start=base")
    assert ended.code == 2
    assert "training.architecture=base" in ended.err


def test_an_image_is_divided_into_tiles_that_cover_it():
    for shape in ((256, 256), (300, 700), (1088, 1088), (63, 63)):
        covered = np.zeros(shape, bool)
        for rows, columns in tiles_of(shape):
            covered[rows, columns] = True
            assert (rows.stop - rows.start) % 8 == (columns.stop - columns.start) % 8 == 0
        assert covered[: shape[0] - shape[0] % 8, : shape[1] - shape[1] % 8].all()


@pytest.mark.parametrize(
    "wrong", [{"source": "dreams"}, {"side": 100}, {"harsh_tiles": 0}, {"shard": 0}, {"blank": ("colour",)}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(Training(), **wrong)


def test_shards_have_names():
    assert str(ShardKey("training", 3)) == "training 3"
