"""What the noise of a score is made of beside the sky: filled pixels, edges, registration, and a template that errs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from astrid.schema import MaskBit
from astrid.subtraction.masks import SMALLEST_CORE, pixel_stencil, row_strips, running_maximum

BACKGROUND_PERCENTILE = 25.0  # of the variance: the sky even where half the pixels hold sources
FILL_ERROR = 0.5  # relative error of what is put into a masked pixel
LARGEST_FILL_ERROR = 1000.0  # in sigmas of the sky; keeps the variance within single precision
STAR_SNR = 50.0  # stars from which the model error is measured
MOST_STARS = 200
FEWEST_STARS = 5
PRIOR_STARS = 2.0  # how many stars the usual model error counts for
EDGE_REACH = 16  # pixels
WING_RINGS = (3, 5, 7, 9, 11, 13, 15)  # px about a star, between which its wings are judged
WING_LIGHT = 0.3  # of a star's peak: less than this near it is its wing
WING_CHANCE = 0.5  # times the noise: what a ring may show by chance
MEDIAN_CHI2 = 0.4549  # median of chi-squared with one degree of freedom

Peaks = tuple[NDArray[np.intp], NDArray[np.intp]]  # rows and columns


def sky_variance(variance: NDArray[Any], good: NDArray[np.bool_]) -> float:
    """Variance of source-free pixels: a low percentile, for sources only ever add."""
    sample = variance[::3, ::3][good[::3, ::3]]
    if sample.size < 1000:
        sample = variance[good]
    return float(np.percentile(sample, BACKGROUND_PERCENTILE))


def fill_variance(flux: NDArray[np.float32], sky: float) -> NDArray[np.float32]:
    """Variance of filled pixels: what was put in may be wrong, and the score beside them has to know."""
    added: NDArray[np.float32] = np.minimum((FILL_ERROR * flux) ** 2, np.float32(sky * LARGEST_FILL_ERROR**2))
    return added + np.float32(sky)


def correct_edges(v: NDArray[np.float32], *kernels: NDArray[np.float64]) -> None:
    """Multiply V(S) near the edges, in place, for noise that the mirror there counts twice, coherently."""
    centre = len(kernels[0]) // 2
    total = sum(float((k**2).sum()) for k in kernels)
    for axis in (0, 1):
        reach = min(EDGE_REACH, v.shape[axis] // 2)
        factor, near = np.ones(reach), min(reach, centre)
        for k in kernels:  # what a pixel and its mirror both add, twice their product, is the kernel folded on itself
            n = int(fft.next_fast_len(2 * len(k), real=True))
            folded = fft.irfft((fft.rfft(k, n, axis=axis) ** 2).sum(axis=1 - axis), n)
            factor[:near] += folded[2 * (centre - np.arange(near)) - 1] / total
        low, high = (np.s_[:reach], np.s_[-reach:]) if axis == 0 else (np.s_[:, :reach], np.s_[:, -reach:])
        column = (factor[:, None] if axis == 0 else factor[None, :]).astype(np.float32)
        v[low] *= column
        v[high] *= np.flip(column, axis)


def astrometric_variance(
    part: NDArray[np.float32], kernel: NDArray[np.float64], sigma: float, rms: float
) -> NDArray[np.float32]:
    """Variance from registration errors (eq 30, 32), less what the noise adds to the squared gradient."""
    gradient = np.zeros_like(part)
    gradient[1:-1] = ((part[2:] - part[:-2]) / 2) ** 2
    gradient[:, 1:-1] += ((part[:, 2:] - part[:, :-2]) / 2) ** 2
    noise = sum(float((((np.roll(kernel, -1, a) - np.roll(kernel, 1, a)) / 2) ** 2).sum()) for a in (0, 1))
    excess: NDArray[np.float32] = np.maximum(gradient - np.float32(noise * sigma**2), 0)
    return excess * np.float32(rms**2)


def bright_peaks(
    steady: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_] | None = None,
    least_snr: float = STAR_SNR,
) -> Peaks:
    """Return pixels of the brightest peaks present in both images, brightest first."""
    nx, least = steady.shape[1], np.float32(least_snr**2)
    variance = np.broadcast_to(variance, steady.shape)
    found = []
    for rows in row_strips(len(steady)):
        part = steady[rows]
        bright = np.abs(part) * part > least * variance[rows]
        if usable is not None:
            bright &= usable[rows]
        found.append(np.flatnonzero(bright) + rows.start * nx)
    y, x = np.divmod(np.concatenate(found), nx)
    inside = (y > 6) & (y < len(steady) - 7) & (x > 6) & (x < nx - 7)
    at = (y * nx + x)[inside]
    flat = steady.ravel()
    for dy, dx in sorted(pixel_stencil(3), key=lambda offset: offset[0] ** 2 + offset[1] ** 2):
        at = at[flat[at] >= flat[at + dy * nx + dx]]  # few are left after the nearest
    at = at[np.argsort(-flat[at], kind="stable")[:MOST_STARS]]
    y, x = np.divmod(at, nx)
    return y, x


def saturated_cores(mask: NDArray[np.uint16]) -> Peaks:
    """Return the middles of groups of four and more saturated pixels: stars whose peaks are not seen."""
    saturated = (mask & np.uint16(MaskBit.SATURATED)) != 0
    if not saturated.any():
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    labels, _ = ndimage.label(saturated, structure=np.ones((3, 3)))
    large = np.bincount(labels.ravel())[1:] >= SMALLEST_CORE
    boxes = [box for box, counts in zip(ndimage.find_objects(labels), large, strict=True) if counts]
    rows, columns = (
        np.array([(box[axis].start + box[axis].stop - 1) // 2 for box in boxes], np.intp) for axis in (0, 1)
    )
    return rows, columns


def joined(first: Peaks, second: Peaks) -> Peaks:
    """Return both."""
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def measure_model_error(
    s: NDArray[np.float32],
    around: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    peaks: Peaks,
    prior: float,
) -> float:
    """Relative residual of bright sources beyond their noise, robust over sources.

    For each of the brightest peaks of the part of the score present in both
    images the mean of S**2 minus its variance is compared with the
    mean of ``around**2`` in 7x7 pixels. The median over peaks, divided by the
    median of chi-squared, is the squared error: one varying star does not move it.
    """
    y, x = peaks
    excess, light = np.zeros(len(y)), np.zeros(len(y))
    for dy, dx in pixel_stencil(3):
        at = y + dy, x + dx
        excess += np.where(usable[at], s[at].astype(np.float64) ** 2 - variance[at], 0)
        light += np.where(usable[at], around[at].astype(np.float64) ** 2, 0)
    relative = excess / light
    if len(relative) >= FEWEST_STARS:
        return float(np.sqrt(max(float(np.median(relative)) / MEDIAN_CHI2, 0.0)))
    # the largest may be a varying star
    others = np.sort(relative)[:-1]
    return float(np.sqrt(max((PRIOR_STARS * prior**2 + others.sum()) / (PRIOR_STARS + len(others)), 0.0)))


def wing_variance(
    s: NDArray[np.float32],
    around: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    peaks: Peaks,
) -> NDArray[np.float32]:
    """Return what the wings of bright stars leave in S beyond its noise, ring by ring; zero elsewhere.

    Wings are known less well than cores, and differ more where the PSF varies. Each ring about a star has what the
    median of its own pixels shows, which a transient there does not move.
    """
    wings = np.multiply(running_maximum(around, 2 * WING_RINGS[-1] - 1), np.float32(WING_LIGHT)) > around
    wings &= usable
    y, x = peaks
    offsets = np.array(list(pixel_stencil(WING_RINGS[-1])))
    distance = np.hypot(offsets[:, 0], offsets[:, 1])
    ny, nx = s.shape
    out = np.zeros(s.size, np.float32)
    for low, high in pairwise(WING_RINGS):
        ring = offsets[(distance >= low) & (distance < high)]
        rows, columns = y[:, None] + ring[:, 0], x[:, None] + ring[:, 1]
        inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
        at = np.where(inside, rows * nx + columns, 0)
        there = inside & wings.ravel()[at]
        count = there.sum(axis=1)
        square = np.where(there, s.ravel()[at] ** 2, np.inf)
        square.sort(axis=1)
        median = square[np.arange(len(y)), np.maximum(count - 1, 0) // 2]
        noise = np.where(there, variance.ravel()[at], 0).sum(axis=1) / np.maximum(count, 1)
        excess = median / MEDIAN_CHI2 - noise
        sure = np.clip(excess / (WING_CHANCE * np.maximum(noise, 1e-30)) - 1, 0, 1)  # of what is no chance
        told = (count >= len(ring) / 3) & (sure > 0)
        excess *= sure
        for star in np.flatnonzero(told):
            pixels = at[star][there[star]]
            out[pixels] = np.maximum(out[pixels], np.float32(excess[star]))
    return out.reshape(s.shape)
