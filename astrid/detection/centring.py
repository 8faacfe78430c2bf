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
from astrid.imaging.placing import placed
from astrid.schema import MaskBit

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
    if not len(y):
        return y, x
    parts = [slice(i, i + AT_A_TIME) for i in range(0, len(y), AT_A_TIME)]
    moved = [_centred(difference, y[part], x[part]) for part in parts]
    return np.concatenate([one[0] for one in moved]), np.concatenate([one[1] for one in moved])


def _centred(difference: Difference, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    width = equivalent_fwhm(difference.psf)
    half = int(np.ceil(REACH * width)) + 1
    side = (2 * half + 1, 2 * half + 1)
    pixel_y, pixel_x = np.rint(y), np.rint(x)
    row = np.arange(-half, half + 1)[None, :, None] + (pixel_y - y)[:, None, None]
    column = np.arange(-half, half + 1)[None, None, :] + (pixel_x - x)[:, None, None]
    good = (cut_windows(difference.mask, y, x, side, fill=1) & ~np.uint16(MaskBit.STREAK)) == 0
    good &= np.hypot(row, column) <= REACH * width
    data = np.where(good, cut_windows(difference.flux, y, x, side), 0).astype(np.float64).reshape(len(y), -1)
    psf = difference.psf if difference.psf_terms is None else difference.psf_at(y, x)
    psf = _cut(psf, max(half, int(np.ceil(SHAPE_REACH * width))))
    dy, dx = y - pixel_y, x - pixel_x
    good = good.reshape(len(y), 1, -1)
    fine = good.sum(axis=(1, 2)) > 3
    for _ in range(ROUNDS):
        design = placed(psf, dy, dx, half).reshape(len(y), 3, -1) * good
        normal = design @ design.transpose(0, 2, 1)
        normal += np.eye(3) * (1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-300)[:, None, None]
        flux, by_y, by_x = np.linalg.solve(normal, design @ data[..., None])[..., 0].T
        with np.errstate(invalid="ignore", divide="ignore"):
            step = np.stack([by_y, by_x]) / flux
        fine &= np.isfinite(step).all(axis=0)
        dy, dx = np.stack([dy, dx]) + np.where(fine, np.clip(step, -LONGEST_STEP, LONGEST_STEP), 0)
    new_y, new_x = pixel_y + dy, pixel_x + dx
    fine &= np.hypot(new_y - y, new_x - x) <= FARTHEST * width
    return np.where(fine, new_y, y), np.where(fine, new_x, x)


def _cut(psf: NDArray[Any], half: int) -> NDArray[Any]:
    """Leave out what is farther than a half side from the middle of stamps."""
    rows, columns = (slice(max(0, n // 2 - half), n // 2 + half + 1) for n in psf.shape[-2:])
    return psf[..., rows, columns]
