"""How well a detection sits on its truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LINES = 64  # lines per pixel along which the overlap with a disk is measured


def disk_radius(fwhm: float) -> float:
    """Radius of the disk that stands for a transient: the larger of 1.5 px and 0.75 FWHM."""
    if not 0 < fwhm < np.inf:
        raise ValueError(f"fwhm must be positive and finite, got {fwhm}")
    return max(1.5, 0.75 * float(fwhm))


def disk_iou(distance: ArrayLike, radius: float) -> NDArray[np.float64]:
    """Intersection over union of two disks of one radius.

    Parameters
    ----------
    distance : (n,) array
        Between the centres, in pixels.
    radius : float
        Of both disks, in pixels.

    Returns
    -------
    (n,) float64 array
        Between 0 and 1.

    Examples
    --------
    >>> disk_iou([0.0, 3.0], 1.5).tolist()
    [1.0, 0.0]
    """
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    half = np.clip(np.abs(np.asarray(distance, dtype=np.float64)) / (2 * radius), 0.0, 1.0)
    overlap = 2 * radius**2 * (np.arccos(half) - half * np.sqrt(1 - half**2))
    return np.asarray(overlap / (2 * np.pi * radius**2 - overlap), dtype=np.float64)


def footprint_iou(footprint: NDArray[np.integer], y: float, x: float, radius: float) -> float:
    """Intersection over union of a set of pixels and a disk.

    Parameters
    ----------
    footprint : (m, 2) int array
        Pixels ``(y, x)``; each covers half a pixel around its centre.
    y, x : float
        Centre of the disk.
    radius : float
        Of the disk, in pixels.

    Returns
    -------
    float
        Between 0 and 1; 0 for an empty footprint.
    """
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    if footprint.ndim != 2 or footprint.shape[1] != 2:
        raise ValueError(f"footprint must be (m, 2) pixels (y, x), got shape {footprint.shape}")
    pixels = np.unique(footprint, axis=0)
    if len(pixels) == 0:
        return 0.0
    lines = (np.arange(_LINES) + 0.5) / _LINES - 0.5
    dy = pixels[:, :1] + lines - y
    half_chord = np.sqrt(np.maximum(radius**2 - dy**2, 0.0))
    left = np.maximum(pixels[:, 1:] - 0.5 - x, -half_chord)
    right = np.minimum(pixels[:, 1:] + 0.5 - x, half_chord)
    overlap = float(np.sum(np.maximum(right - left, 0.0)) / _LINES)
    return min(1.0, overlap / (np.pi * radius**2 + len(pixels) - overlap))


def localize(
    truth_y: ArrayLike,
    truth_x: ArrayLike,
    y: ArrayLike,
    x: ArrayLike,
    *,
    fwhm: float,
    footprints: tuple[NDArray[np.intp], ...] | None = None,
) -> NDArray[np.float64]:
    """Intersection over union of each detection with the disk of its truth.

    Parameters
    ----------
    truth_y, truth_x, y, x : (n,) arrays
        Matched pairs, in pixels.
    fwhm : float
        Of the PSF of the difference, in pixels.
    footprints : tuple of (m, 2) int arrays, optional
        Pixels of each detection; without, a detection is the disk at its position.

    Returns
    -------
    (n,) float64 array
        Between 0 and 1.
    """
    ty, tx, dy, dx = (np.asarray(value, dtype=np.float64) for value in (truth_y, truth_x, y, x))
    if not ty.shape == tx.shape == dy.shape == dx.shape or ty.ndim != 1:
        shapes = [value.shape for value in (ty, tx, dy, dx)]
        raise ValueError(f"matched positions must be vectors of one length, got {shapes}")
    radius = disk_radius(fwhm)
    if footprints is None:
        return disk_iou(np.hypot(ty - dy, tx - dx), radius)
    if len(footprints) != len(ty):
        raise ValueError(f"{len(footprints)} footprints for {len(ty)} matched pairs")
    values = [footprint_iou(pixels, a, b, radius) for pixels, a, b in zip(footprints, ty, tx, strict=True)]
    return np.asarray(values, dtype=np.float64)
