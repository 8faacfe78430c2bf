import numpy as np
import pytest
import torch

from astrid.image import Image
from astrid.subtraction.core import core_difference, core_kernels, core_template, proper_parts
from astrid.subtraction.zogy import Zogy

SIDE = 128


def gaussian(fwhm, side=25):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


@pytest.fixture
def pair():
    """Science image, template, their PSFs, and the noise of their skies."""
    rng = np.random.default_rng(1)
    images = []
    for fwhm, sigma in ((3.2, 5.0), (2.5, 3.0)):
        light = np.zeros((SIDE, SIDE), np.float32)
        light[40:65, 50:75] += 5000 * gaussian(fwhm)
        noise = rng.normal(0, 1, light.shape) * np.sqrt(sigma**2 + light)
        images.append(((light + noise).astype(np.float32), (sigma**2 + light).astype(np.float32)))
    images[0][0][80:105, 20:45] += 900 * gaussian(3.2)
    return images, [gaussian(3.2), gaussian(2.5)], (5.0, 3.0)


def run(pair, convert=lambda array: array):
    (science, template), psfs, noise = pair
    prepared = core_template(*map(convert, template), psfs[1])
    return core_difference(*map(convert, science), core_kernels(prepared, psfs[0], *noise))


def test_the_core_is_what_zogy_does_far_from_the_edges(pair):
    (science, template), _, _ = pair
    images = [
        Image(flux, variance, np.zeros(flux.shape, np.uint16), gaussian(fwhm))
        for (flux, variance), fwhm in zip((science, template), (3.2, 2.5), strict=True)
    ]
    whole = Zogy(align=False, adapt=False, model_error=0.0)(*images)
    _, _, score = run(pair)
    inner = np.s_[25:-25, 25:-25]
    np.testing.assert_allclose(score[inner], whole.significance[inner], atol=0.1, rtol=0.01)
    assert np.unravel_index(score.argmax(), score.shape) == (92, 32)


def devices():
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def test_arrays_and_tensors_give_the_same(pair):
    expected = run(pair)
    for device in devices():
        found = run(pair, lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device))  # noqa: B023
        for a, b in zip(expected, found, strict=True):
            assert b.device.type == device
            np.testing.assert_allclose(a, b.cpu().numpy(), atol=2e-5 * np.abs(a).max())


def test_the_parts_of_difference_and_score_run_on_tensors():
    rng = np.random.default_rng(3)
    arrays = [np.fft.rfft2(rng.normal(size=(16, 16))) for _ in range(4)]
    expected = proper_parts(*arrays, 1.0, 2.0)
    tensors = proper_parts(*(torch.from_numpy(a) for a in arrays), 1.0, 2.0)
    for a, b in zip(expected, tensors, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-10)
