"""Positions by a fit of the PSF to the difference.

The peak of a score is not where a source is: the score is divided by its noise, which rises towards a galaxy or a star
beside the source and under the source itself, and a parabola through three pixels is not the shape of a PSF.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.image import Difference
from astrid.imaging.photometry import cut_windows, equivalent_fwhm

Floats = NDArray[np.float64]

REACH = 1.5  # FWHM from the start within which pixels are fitted
FARTHEST = 0.5  # FWHM from the start, beyond which a fit has left its source
ROUNDS = 3
SHAPE_REACH = 3.0  # FWHM of the PSF that are moved: what comes from farther does not change the fit
LONGEST_STEP = 0.5  # px
AT_A_TIME = 512


def centred(difference: Difference, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Move positions to where a point source fits the difference best.

    Gauss-Newton steps of least squares in flux and position over the usable pixels within 1.5 FWHM, all with one
    weight: where the noise varies little, its errors are those of `astrid.detection.features.measure_candidates`.

    Parameters
    ----------
    difference : Difference
        Where they are.
    y, x : (n,) float arrays
        Positions to start from, in pixels.

    Returns
    -------
    (y, x) : two (n,) float arrays
        The start where the fit fails or ends farther from it than half a FWHM.
    """
    parts = [slice(i, i + AT_A_TIME) for i in range(0, max(len(y), 1), AT_A_TIME)]
    moved = [_centred(difference, y[part], x[part]) for part in parts]
    return np.concatenate([one[0] for one in moved]), np.concatenate([one[1] for one in moved])


def _centred(difference: Difference, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    width = equivalent_fwhm(difference.psf)
    half = int(np.ceil(REACH * width)) + 1
    side = (2 * half + 1, 2 * half + 1)
    pixel_y, pixel_x = np.rint(y), np.rint(x)
    row = np.arange(-half, half + 1)[None, :, None] + (pixel_y - y)[:, None, None]
    column = np.arange(-half, half + 1)[None, None, :] + (pixel_x - x)[:, None, None]
    good = cut_windows(difference.unusable == 0, y, x, side, fill=False)
    good &= np.hypot(row, column) <= REACH * width
    data = np.where(good, cut_windows(difference.flux, y, x, side), 0).astype(np.float64)
    psf = difference.psf if difference.psf_terms is None else difference.psf_at(y, x)
    psf = _cut(psf, max(half, int(np.ceil(SHAPE_REACH * width))))
    dy, dx = y - pixel_y, x - pixel_x
    fine = good.sum(axis=(1, 2)) > 3
    for _ in range(ROUNDS):
        design = _design(psf, dy, dx, half) * good[:, None]
        normal = np.einsum("nkyx,nlyx->nkl", design, design)
        normal += np.eye(3) * (1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-300)[:, None, None]
        flux, by_y, by_x = np.linalg.solve(normal, np.einsum("nkyx,nyx->nk", design, data)[..., None])[..., 0].T
        with np.errstate(invalid="ignore", divide="ignore"):
            step = np.stack([by_y, by_x]) / flux
        fine &= np.isfinite(step).all(axis=0)
        dy, dx = np.stack([dy, dx]) + np.where(fine, np.clip(step, -LONGEST_STEP, LONGEST_STEP), 0)
    new_y, new_x = pixel_y + dy, pixel_x + dx
    fine &= np.hypot(new_y - y, new_x - x) <= FARTHEST * width
    return np.where(fine, new_y, y), np.where(fine, new_x, x)


def _cut(psf: NDArray[Any], half: int) -> NDArray[Any]:
    """Cut or pad stamps to a half side."""
    for axis in (-2, -1):
        have = psf.shape[axis] // 2
        psf = np.moveaxis(psf, axis, 0)[max(0, have - half) : have + min(have, half) + 1]
        psf = np.moveaxis(np.pad(psf, [(max(0, half - have),) * 2] + [(0, 0)] * (psf.ndim - 1)), 0, axis)
    return psf


def _design(psf: NDArray[Any], dy: Floats, dx: Floats, half: int) -> Floats:
    """PSF moved by each offset, and its two derivatives by the offset: (n, 3, side, side)."""
    hat = np.fft.rfft2(psf.astype(np.float64))
    fy = 2 * np.pi * np.fft.fftfreq(psf.shape[-2])[:, None]
    fx = 2 * np.pi * np.fft.rfftfreq(psf.shape[-1])[None, :]
    moved = hat * np.exp(-1j * (dy[:, None, None] * fy + dx[:, None, None] * fx))
    images = np.fft.irfft2(np.stack([moved, -1j * fy * moved, -1j * fx * moved], axis=1), psf.shape[-2:])
    cy, cx = psf.shape[-2] // 2, psf.shape[-1] // 2
    return np.asarray(images[:, :, cy - half : cy + half + 1, cx - half : cx + half + 1])
