import numpy as np
import pytest
import torch

from astrid.image import Image
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.subtraction.core_sfft import core_sfft, fit_kernel, residual
from astrid.subtraction.sfft import Sfft

SIDE, HALF = 192, 5
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NEW = (100, 60)  # where the science image has a source more


@pytest.fixture(scope="module")
def pair():
    """Template and science image, their variances and PSFs, and which pixels hold sources."""
    rng = np.random.default_rng(4)
    psfs = MoffatPsf(2.2), MoffatPsf(3.0)
    y, x = rng.uniform(12, SIDE - 12, (2, 120))
    flux = 10 ** rng.uniform(3.2, 4.6, 120)
    images, variances = [], []
    for psf, sigma in zip(psfs, (3.0, 6.0), strict=True):
        light = np.zeros((SIDE, SIDE))
        add_points(light, y, x, flux, psf)
        if psf is psfs[1]:
            add_points(light, np.array([NEW[0]]), np.array([NEW[1]]), np.array([900.0]), psf)
        variances.append((sigma**2 + light).astype(np.float32))
        images.append((light + rng.normal(size=light.shape) * np.sqrt(variances[-1])).astype(np.float32))
    fitted = np.zeros((SIDE, SIDE), np.float32)
    for row, column in zip(np.rint(y).astype(int), np.rint(x).astype(int), strict=True):
        fitted[max(0, row - 9) : row + 10, max(0, column - 9) : column + 10] = 1
    return images, variances, [psf.image((31, 31)) for psf in psfs], fitted


def run(pair, convert=lambda array: array):
    """Fit and subtract, all arrays converted before."""
    images, variances, psfs, fitted = pair
    template, science = map(convert, images)
    kernel = fit_kernel(template, science, convert(fitted), half=HALF, order=1)
    return kernel, core_sfft(template, science, tuple(map(convert, variances)), kernel, tuple(psfs), (9.0, 36.0))


def test_what_is_left_is_noise_and_the_new_source(pair):
    kernel, (d, _, score) = run(pair)
    assert kernel.middle.sum() == pytest.approx(1, abs=0.01)
    inner = np.s_[15:-15, 15:-15]
    assert 1.4826 * np.median(np.abs(score[inner])) == pytest.approx(1, abs=0.05)
    empty = (pair[1][0] + pair[1][1])[inner] < 46
    assert d[inner][empty].std() == pytest.approx(np.sqrt(36 + 9), rel=0.05)
    assert np.unravel_index(score[inner].argmax(), score[inner].shape) == (NEW[0] - 15, NEW[1] - 15)
    assert score.max() > 12


def test_it_agrees_with_the_method_of_a_run(pair):
    images, variances, psfs, _ = pair
    template, science = (
        Image(flux, variance, np.zeros(flux.shape, np.uint16), psf)
        for flux, variance, psf in zip(images, variances, psfs, strict=True)
    )
    whole = Sfft(model_error=0.0)(science, template).significance
    _, (_, _, score) = run(pair)
    inner = np.s_[25:-25, 25:-25]
    assert np.corrcoef(whole[inner].ravel(), score[inner].ravel())[0, 1] > 0.95
    assert score[NEW] == pytest.approx(whole[NEW], rel=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_and_tensors_give_the_same(pair, device):
    expected_kernel, expected = run(pair)
    kernel, found = run(pair, lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device))
    np.testing.assert_allclose(kernel.stamps, expected_kernel.stamps, atol=1e-6)
    for a, b in zip(expected, found, strict=True):
        assert b.device.type == device
        assert a.dtype == np.float32
        assert b.dtype == torch.float32
        np.testing.assert_allclose(a, b.cpu().numpy(), atol=2e-5 * np.abs(a).max())


def test_a_kernel_that_varies_and_a_background_are_found():
    """The target is the image, one half brighter by a slope, on a background: all of it is explained."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(96, 128))
    slope = 1 + 0.1 * np.linspace(-1, 1, 128)
    target = np.roll(image * slope, (1, -2), axis=(0, 1)) + 3
    kernel = fit_kernel(image, target, np.ones_like(image), half=3, order=1)
    assert np.abs(residual(image, target, kernel)).max() < 1e-4
    assert kernel.background == pytest.approx([3], abs=1e-5)
    peak = np.unravel_index(kernel.middle.argmax(), kernel.middle.shape)
    assert peak == (4, 1)
