import numpy as np
import pytest
from scipy.signal import convolve2d

from astrid.subtraction.fourier import pad, transform
from astrid.subtraction.kernels import SpatialKernel, kernel_between, usual_half_width


def gaussian(fwhm, side=25):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return psf / psf.sum()


def test_equal_psfs_need_a_point():
    kernel = kernel_between(gaussian(3.0), gaussian(3.0), 5)
    assert kernel[5, 5] == pytest.approx(1.0, abs=1e-9)
    assert kernel.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("fwhms", [(2.2, 3.1), (3.0, 4.0), (3.0, 2.9)])
def test_the_kernel_between_two_psfs_gives_one_the_shape_of_the_other(fwhms):
    sharp, broad = gaussian(fwhms[0]), gaussian(fwhms[1])
    made = convolve2d(sharp, kernel_between(sharp, broad, 8), mode="same")
    assert np.abs(made - broad).max() < 2e-3 * broad.max()


def test_a_broader_kernel_gets_more_pixels():
    widths = [usual_half_width(gaussian(2.5), gaussian(fwhm)) for fwhm in (2.5, 3.5, 5.0, 20.0)]
    assert widths == sorted(widths)
    assert widths[0] == 4
    assert widths[-1] == 8


def test_a_kernel_is_applied_as_it_stands_at_each_place():
    shape, grid = (64, 80), (96, 108)
    stamps = np.zeros((3, 3, 3))
    stamps[0, 1, 1], stamps[1, 1, 2], stamps[2, 0, 1] = 1.0, 0.5, -0.25  # x and y terms of order one
    kernel = SpatialKernel(stamps, 1, np.array([2.0]), 0, shape)
    image = np.zeros(shape, np.float32)
    image[20, 60] = image[40, 10] = 100.0
    out = kernel.applied(transform(pad(image, grid)), grid)
    for y, x in ((20, 60), (40, 10)):
        expected = [[kernel.at(y + dy, x + dx)[dy + 1, dx + 1] for dx in (-1, 0, 1)] for dy in (-1, 0, 1)]
        np.testing.assert_allclose(out[y - 1 : y + 2, x - 1 : x + 2], 2 + 100 * np.array(expected), atol=1e-3)
    np.testing.assert_allclose(kernel.sums()[20, 60], kernel.at(20, 60).sum(), rtol=1e-5)
