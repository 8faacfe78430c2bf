import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from astrid.detection.unet import weights
from astrid.detection.unet.network import build
from astrid.errors import DataError

CARD = weights.Card("small", 0.5, (0.1, 0.9), (0.2, 0.8))


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(1)
    weights.write(tmp_path / "own.safetensors", build("small"), CARD)
    return tmp_path / "own.safetensors"


def test_weights_come_back_as_they_were(path):
    network, card = weights.checked(path)
    torch.manual_seed(1)
    for name, value in build("small").state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert (card.threshold, card.outputs, card.probabilities) == (0.5, (0.1, 0.9), (0.2, 0.8))


def test_a_score_is_read_off_the_calibration(path):
    card = weights.read_card(path)
    assert card.calibrated([0.05, 0.5, 0.95]).tolist() == pytest.approx([0.2, 0.5, 0.8])


def test_what_was_changed_is_refused(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="sha256"):
        weights.read(str(path))


def test_a_truncated_file_is_refused_even_with_its_own_checksum(path):
    import hashlib

    path.write_bytes(path.read_bytes()[:1000])
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="not a safetensors file"):
        weights.read(str(path))


class Bomb:
    def __reduce__(self):
        raise_error = "raise RuntimeError('unpickled')"
        return exec, (raise_error,)


@pytest.mark.parametrize("name", ["weights.pt", "weights.pkl", "weights.safetensors"])
def test_nothing_is_unpickled(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="pickled weights could run code"):
        weights.read(str(path))


def test_what_torch_saves_is_refused(tmp_path):
    torch.save(build("small").state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match="pickled"):
        weights.read(str(tmp_path / "weights.safetensors"))


def test_weights_of_another_architecture_are_refused(path):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "architecture": "base"}))
    with pytest.raises(DataError, match="not of the architecture 'base'"):
        weights.read(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"architecture": "huge"}, "'huge'"),
        ({"channels": ["science"]}, "seeing science"),
        ({"probabilities": [0.9, 0.1]}, "does not rise"),
        ({"outputs": [0.1]}, "does not rise"),
    ],
)
def test_a_card_of_another_version_is_refused(path, change, message):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **change}))
    with pytest.raises(DataError, match=message):
        weights.read(str(path))


def test_a_missing_card_and_a_missing_file_are_named(path, tmp_path):
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"own\.json: the card"):
        weights.read(str(path))
    with pytest.raises(DataError, match="no model 'nowhere'"):
        weights.read("nowhere")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = build("small")
    with torch.no_grad():
        network.last.bias.fill_(float("nan"))
    weights.write(tmp_path / "nan.safetensors", network, replace(CARD))
    with pytest.raises(DataError, match="not finite"):
        weights.read(str(tmp_path / "nan.safetensors"))


def test_other_tensors_are_named(tmp_path):
    import hashlib

    path = tmp_path / "other.safetensors"
    save_file({"layer": torch.zeros(3)}, path)
    card = {**vars(CARD), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="not of the architecture"):
        weights.read(str(path))
