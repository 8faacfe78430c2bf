"""The noise of an image that is convolved, and what it adds to the fit of a kernel.

A least-squares fit takes the noise of the convolved image for light, and makes every kernel too flat. What it adds to
the normal matrix is known where the noise is: its autocorrelation, measured between the sources. Images that were
resampled, drizzled or coadded have noise that is far from white.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.subtraction.masks import running_maximum

EMPTY_SNR = 3.0  # of the sources, matched with the PSF, below which a pixel is empty
OUTLYING = 4.0  # sigmas, of single pixels that are no noise
FEWEST_PIXELS = 1000  # without as many empty ones, noise is taken as white
SURE = 3.0  # standard errors: a correlation below is taken as none


def noise_matrix(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    good: NDArray[np.bool_],
    steady: NDArray[np.float32],
    source_snr: float,
    half: int,
) -> NDArray[np.float64]:
    """Return the correlation of the noise of the displaced images that a kernel of free pixels adds up.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
        What is convolved, and the variance that is said of its pixels.
    good : (ny, nx) bool array
        Pixels that count.
    steady : (ny, nx) float32 array
        S/N of the sources.
    source_snr : float
        Of a source, from which its wings are left out too.
    half : int
        Half-width of the kernel, in pixels.

    Returns
    -------
    (n, n) float64 array
        For the n pixels of the kernel: covariance of the noise of two displacements, over ``variance``.
    """
    side = 2 * half + 1
    y, x = (index.ravel() for index in np.mgrid[:side, :side])
    found = autocorrelation(image, variance, good, steady, source_snr, 2 * half)
    return np.asarray(found[y[:, None] - y + 2 * half, x[:, None] - x + 2 * half])


def autocorrelation(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    good: NDArray[np.bool_],
    steady: NDArray[np.float32],
    source_snr: float,
    reach: int,
) -> NDArray[np.float64]:
    """Return the autocovariance of noise over its variance, (2 reach + 1, 2 reach + 1), lag zero in the middle.

    Parameters are those of `noise_matrix`, lags reach ``reach`` pixels.
    """
    white = np.zeros((2 * reach + 1,) * 2)
    white[reach, reach] = 1.0
    empty = good & (steady < EMPTY_SNR)
    empty &= ~running_maximum(steady > source_snr, 2 * reach + 1)
    if np.count_nonzero(empty) < FEWEST_PIXELS:
        return white
    noise = np.asarray(image / np.sqrt(variance), np.float32)
    noise -= np.median(noise[empty][::5])
    empty &= np.abs(noise) < OUTLYING
    noise[~empty] = 0
    grid = [int(fft.next_fast_len(n + reach, real=True)) for n in image.shape]
    pairs = np.maximum(_sums(empty.astype(np.float32), grid, reach), 1)
    found = _sums(noise, grid, reach) / pairs
    unsure = np.abs(found) < SURE * found[reach, reach] / np.sqrt(pairs)
    unsure[reach, reach] = False
    return np.where(unsure, 0.0, found)


def _sums(image: NDArray[np.float32], grid: list[int], reach: int) -> NDArray[np.float64]:
    """Return sums of ``image(z) image(z + lag)``; outside it is zero."""
    hat = fft.rfft2(image, grid, workers=1)
    power = hat.real**2 + hat.imag**2
    lags = np.arange(-reach, reach + 1)
    down = fft.ifft(power, axis=0, workers=1)[lags]
    return np.asarray(fft.irfft(down, grid[1], axis=1, workers=1)[:, lags], np.float64)
