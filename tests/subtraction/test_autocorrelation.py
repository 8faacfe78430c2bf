import numpy as np
import pytest
from scipy import ndimage

from astrid.subtraction.autocorrelation import autocorrelation, noise_matrix

SIDE = 300


def correlated(weights, seed=1):
    """Noise of unit variance before it is added up with these weights, and what its autocovariance then is."""
    white = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    made = ndimage.convolve(white, weights, mode="wrap").astype(np.float32)
    grid = np.pad(weights, 4)
    expected = np.fft.fftshift(np.fft.irfft2(np.abs(np.fft.rfft2(grid)) ** 2, grid.shape))
    middle = np.array(grid.shape) // 2
    return made, expected[middle[0] - 2 : middle[0] + 3, middle[1] - 2 : middle[1] + 3]


def plain():
    return np.ones((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), np.float32)


@pytest.mark.parametrize(
    "weights",
    [np.ones((1, 1)), np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]), np.array([[0.1, 0.6, 0.1], [0.0, 0.4, 0.2]])],
    ids=["white", "smooth", "lopsided"],
)
def test_the_autocovariance_of_noise_is_found_at_each_lag(weights):
    noise, expected = correlated(np.pad(weights, ((0, weights.shape[0] % 2 == 0), (0, 0))))
    found = autocorrelation(noise, *plain(), 10.0, 2)
    np.testing.assert_allclose(found, expected, atol=0.02)
    np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-6)


def test_white_noise_is_a_diagonal():
    noise, _ = correlated(np.ones((1, 1)))
    matrix = noise_matrix(noise, *plain(), 10.0, 1)
    assert matrix.shape == (9, 9)
    off = matrix[~np.eye(9, dtype=bool)]
    assert np.diag(matrix) == pytest.approx(1, abs=0.02)
    assert np.mean(off == 0) > 0.9  # what chance makes of a lag is none


def test_sources_and_masked_pixels_are_no_noise():
    noise, _ = correlated(np.ones((1, 1)))
    variance, good, steady = plain()
    noise[100:120, 100:120] += 50
    steady[100:120, 100:120] = 20
    noise[200:210] = 1e6
    good[200:210] = False
    found = autocorrelation(noise, variance, good, steady, 10.0, 2)
    assert found[2, 2] == pytest.approx(1, abs=0.02)
    assert np.abs(found[0]).max() < 0.02


def test_without_empty_pixels_noise_is_taken_as_white():
    noise, _ = correlated(np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]))
    variance, good, steady = plain()
    found = autocorrelation(noise, variance, good, steady + 5, 10.0, 2)
    assert found[2, 2] == 1
    assert found.sum() == 1
