import numpy as np
import pytest
import torch

from astrid.detection.unet.examples import Example, Examples, write_shard
from astrid.detection.unet.training import Loop, _turned, loss_of, rate, targets_of, train
from astrid.errors import DataError


def examples(folder, name, count, seed):
    """Tiles where a transient is a blob of the difference alone and a star is one of all planes."""
    rng = np.random.default_rng(seed)
    made = []
    rows, columns = np.indices((64, 64))
    for number in range(count):
        planes = rng.normal(0, 0.5, (5, 64, 64))
        planes[4] = 0
        y, x = rng.uniform(10, 54, 2)
        blob = 3 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 4)
        planes[[0, 2, 3]] += blob
        star = 3 * np.exp(-((rows - rng.uniform(5, 59)) ** 2 + (columns - rng.uniform(5, 59)) ** 2) / 4)
        planes[:4] += star
        made.append(Example(planes, np.array([y]), np.array([x]), np.array([20.0]), 3.0, f"tile {number}"))
    write_shard(folder / name, made)
    return Examples((folder / name,))


@pytest.fixture
def sets(tmp_path):
    return examples(tmp_path, "training", 40, 1), examples(tmp_path, "validation", 8, 2)


def test_examples_come_back_from_disk(sets):
    assert len(sets[0]) == 40
    one = sets[0][3]
    assert one.planes.shape == (5, 64, 64)
    assert one.source == "tile 3"
    assert one.snr.tolist() == [20.0]


def test_damaged_examples_are_named(sets):
    shard = sets[0].shards[0]
    shard.with_suffix(".npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"training\.npy"):
        Examples((shard,))[0]
    shard.with_suffix(".json").write_text("[")
    with pytest.raises(DataError, match=r"training\.json"):
        len(Examples((shard,)))


def test_a_network_learns_and_an_interrupted_training_ends_the_same(sets, tmp_path):
    loop = Loop(steps=32, batch=4, check_every=8, learning_rate=5e-3)
    whole, history = train("small", *sets, loop, tmp_path / "whole.pt")
    assert history["validation_loss"][-1] < history["validation_loss"][0] - 0.1

    class Killed(Exception):
        pass

    def kill(step, numbers):
        if step == 16:
            raise Killed

    with pytest.raises(Killed):
        train("small", *sets, loop, tmp_path / "part.pt", report=kill)
    again, _ = train("small", *sets, loop, tmp_path / "part.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_checkpoint_of_another_training_is_refused(sets, tmp_path):
    train("small", *sets, Loop(steps=2, batch=2, check_every=1), tmp_path / "a.pt")
    with pytest.raises(DataError, match="another batch"):
        train("small", *sets, Loop(steps=2, batch=3, check_every=1), tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match="does not read"):
        train("small", *sets, Loop(steps=2, batch=2, check_every=1), tmp_path / "a.pt")


def test_it_stops_when_validation_gets_no_better(sets, tmp_path):
    loop = Loop(steps=60, batch=2, check_every=2, patience=3, learning_rate=0.5)
    _, history = train("small", *sets, loop, tmp_path / "a.pt")
    assert history["step"][-1] < 60


def test_targets_are_disks_and_faint_ones_are_left_out():
    target, weight = targets_of((40, 40), np.array([10.0, 30.0]), np.array([10.0, 30.0]), np.array([20.0, 4.0]), 4.0)
    assert target.sum() == pytest.approx(np.pi * 9, rel=0.1)
    assert target[10, 10] == 1
    assert target[30, 30] == weight[30, 30] == 0
    assert weight[10, 10] == weight[20, 20] == 1


def test_the_loss_is_lowest_where_the_target_is():
    target = torch.zeros(1, 16, 16)
    target[0, 4:8, 4:8] = 1
    weight = torch.ones_like(target)
    right = loss_of(20 * (target - 0.5), target, weight, 1.0)
    wrong = loss_of(20 * (0.5 - target), target, weight, 1.0)
    assert right < 0.01 < wrong
    weight[0, 8:] = 0
    other = target.clone()
    other[0, 10] = 1 - other[0, 10]
    torch.testing.assert_close(loss_of(other - 0.5, target, weight, 1.0), loss_of(target - 0.5, target, weight, 1.0))


def test_the_eight_turns_move_planes_target_and_weight_alike():
    planes, target = np.random.default_rng(1).normal(size=(5, 8, 8)), np.arange(64.0).reshape(8, 8)
    planes[2] = target
    seen = set()
    for turn in range(8):
        turned = _turned(planes, target, target, turn)
        np.testing.assert_array_equal(turned[0][2], turned[1])
        seen.add(turned[1].tobytes())
    assert len(seen) == 8


def test_the_rate_rises_and_falls():
    rates = [rate(step, 100) for step in range(100)]
    assert max(rates) == 1
    assert rates[0] < 0.5
    assert rates[-1] < 0.01


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0}, {"dice": -1}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Loop(**wrong)
