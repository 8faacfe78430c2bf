import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from astrid.cli import run_command
from astrid.detection.unet import weights
from astrid.detection.unet.export import export
from astrid.detection.unet.network import build
from astrid.errors import DataError, UsageError


@pytest.fixture(scope="module", params=["small", "base"])
def stored(request, tmp_path_factory):
    """Weights on disk whose normalisations have seen something, so that folding them matters."""
    torch.manual_seed(5)
    network = build(request.param)
    with torch.no_grad():
        for _ in range(3):
            network(3 * torch.randn(2, 5, 32, 32) + 1)
        network.last.weight *= 40
    path = tmp_path_factory.mktemp("models") / f"{request.param}.safetensors"
    weights.write(path, network, weights.Card(request.param, 0.5, (0.0, 0.5, 1.0), (0.0, 0.4, 0.9)))
    return path


@pytest.fixture(scope="module")
def exported(stored):
    path = export(str(stored), stored.with_suffix(".onnx"))
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [(1, 5, 64, 96), (3, 5, 40, 24)])
def test_the_file_says_what_the_network_says(stored, exported, shape):
    planes = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
    network = weights.read(str(stored))[0]
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(planes))).numpy()
    (found,) = exported.run(["output"], {"planes": planes})
    assert found.shape == (shape[0], *shape[2:])
    assert expected.std() > 0.01  # something to agree on
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_threshold_and_calibration_travel_with_the_file(stored, exported):
    about = exported.get_modelmeta().custom_metadata_map
    card = weights.read_card(stored)
    said = json.loads(about["card"])
    assert (said["threshold"], tuple(said["outputs"]), said["sha256"]) == (card.threshold, card.outputs, card.sha256)
    assert about["channels"].split(",") == list(card.channels)


def test_the_same_weights_make_the_same_file(stored, tmp_path):
    first, second = (export(str(stored), tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second


def test_weights_that_were_changed_are_not_exported(stored, tmp_path):
    path = tmp_path / stored.name
    path.write_bytes(stored.read_bytes()[:-4] + b"\0\0\0\1")
    path.with_suffix(".json").write_text(stored.with_suffix(".json").read_text())
    with pytest.raises(DataError, match="damaged or changed"):
        export(str(path), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_missing_package_is_named(stored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'astrid\[onnx\]'"):
        export(str(stored), tmp_path / "x.onnx")


def test_the_command_writes_the_file(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(["export", f"model={stored}"]) == 0
    assert (tmp_path / f"{stored.stem}.onnx").exists()
    assert f"{stored.stem}.onnx" in capsys.readouterr().out
