import copy

import numpy as np
import pytest
import torch

from astrid.detection.unet.detector import outputs
from astrid.detection.unet.network import build


def trained_a_bit(architecture="small"):
    torch.manual_seed(1)
    network = build(architecture)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 5, 64, 64))
    return network.eval()


@pytest.mark.parametrize(("architecture", "most"), [("small", 130_000), ("base", 500_000)])
def test_networks_are_small(architecture, most):
    assert sum(p.numel() for p in build(architecture).parameters()) <= most


def test_there_is_no_other_architecture():
    with pytest.raises(ValueError, match="small, base"):
        build("huge")


def test_folding_changes_nothing_but_the_time():
    network = trained_a_bit()
    planes = torch.randn(1, 5, 72, 64)
    with torch.inference_mode():
        before = network(planes)
        after = copy.deepcopy(network).folded()(planes)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(300, 700), (61, 63), (8, 256), (5, 9)])
def test_images_of_any_size_are_done_square_by_square(shape):
    network = trained_a_bit().folded()
    planes = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    output = outputs(network, planes)
    assert output.shape == shape
    assert ((output > 0) & (output < 1)).all()


def test_squares_leave_no_seams():
    network = trained_a_bit().folded()
    planes = np.random.default_rng(2).normal(size=(5, 512, 512)).astype(np.float32)
    with torch.inference_mode():
        whole = torch.sigmoid(network(torch.from_numpy(planes)[None]))[0].numpy()
    output = outputs(network, planes)
    assert np.abs(output - whole)[64:-64, 64:-64].max() < 0.05
    assert np.abs(output - whole).mean() < 2e-3
