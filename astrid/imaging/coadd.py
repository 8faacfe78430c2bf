"""Templates: which epochs go into a coadd, and the coadd itself.

The coadd is an inverse-variance weighted mean with one weight per exposure, so
that its PSF is the same weighted mean of the PSFs; a star that is saturated in
some of them is masked, for what is left of it has another PSF. Its sums are kept,
and the coadd without one of its own epochs follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, runtime_checkable

import numpy as np
from astropy.time import Time
from numpy.typing import NDArray
from scipy import ndimage

from astrid.errors import CellSkipped
from astrid.image import Image
from astrid.imaging.psf import psf_fwhm
from astrid.schema import MaskBit

REJECT_SIGMA = 6.0  # a pixel this far from the others' mean is left out ...
REJECT_FRACTION = 0.5  # ... beyond this fraction of the mean, for sources vary ...
REJECT_PSF = 1.5  # ... and this many times what another PSF makes of the light about it
REJECT_REACH = 1.0  # FWHM about such a pixel is left out with it: a trail is wider than what stands out of it
SATURATED_SHARE = 0.1  # of the weight: with more, the star is not that of the PSF
PSF_REACH = 2  # px, from which a PSF may bring light
PSF_FLOOR = 5e-4  # of the peak of a PSF, below which its differences do not count
_DISK = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class EpochQuality:
    """What decides whether an epoch goes into the template."""

    epoch: int
    mjd: float
    seeing_fwhm: float
    background_rms: float
    coverage: float
    astrometric_rms: float


@runtime_checkable
class TemplateRule(Protocol):
    """Where the template of a series comes from."""

    @property
    def provided(self) -> bool:
        """Whether each cell brings its own template."""

    def choose(self, epochs: Sequence[EpochQuality]) -> tuple[int, ...]:
        """Return the epochs of a series that go into its template, best first."""


@dataclass(frozen=True)
class Provided:
    """Each cell brings its own template, from the survey."""

    @property
    def provided(self) -> bool:
        """Whether each cell brings its own template."""
        return True

    def choose(self, epochs: Sequence[EpochQuality]) -> tuple[int, ...]:
        """Return nothing: there is nothing to choose."""
        return ()


@dataclass(frozen=True)
class Coadd:
    """A coadd of the best-seeing epochs, at most half of them, or of a date range.

    Attributes
    ----------
    fraction : float
        Largest share of the epochs of a series.
    max_epochs : int
        Largest number of epochs.
    min_coverage : float
        Smallest share of the tile that an epoch must cover, relative to the best.
    start, end : str, optional
        Only epochs from the first of these dates to before the second; all of
        them then, up to ``max_epochs``.
    """

    fraction: float = 0.5
    max_epochs: int = 30
    min_coverage: float = 0.7
    start: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"template.fraction must be within 0 and 1, got {self.fraction}")
        if self.max_epochs < 1:
            raise ValueError(f"template.max_epochs must be at least 1, got {self.max_epochs}")
        for name in ("start", "end"):
            _mjd(f"template.{name}", getattr(self, name))

    @property
    def provided(self) -> bool:
        """Whether each cell brings its own template."""
        return False

    def choose(self, epochs: Sequence[EpochQuality]) -> tuple[int, ...]:
        """Return the epochs that go into the template, best seeing first."""
        fullest = max((e.coverage for e in epochs), default=0.0)
        usable = [e for e in epochs if e.coverage >= self.min_coverage * fullest and math.isfinite(e.seeing_fwhm)]
        limit = max(1, int(self.fraction * len(epochs)))
        low, high = _mjd("template.start", self.start), _mjd("template.end", self.end)
        if low is not None or high is not None:
            usable = [e for e in usable if (low is None or e.mjd >= low) and (high is None or e.mjd < high)]
            limit = len(usable)
        # the variance of a point source's flux goes as the noise times the width of the PSF
        best = sorted(usable, key=lambda e: (e.seeing_fwhm * e.background_rms**0.5, e.epoch))
        return tuple(e.epoch for e in best[: min(limit, self.max_epochs)])


def _mjd(key: str, text: object) -> float | None:
    if text is None:
        return None
    if isinstance(text, date | datetime):
        text = text.isoformat()
    try:
        return float(Time(str(text)).mjd)
    except ValueError as error:
        raise ValueError(f"{key} must be a date like 2018-03-01, got {text!r}") from error


@dataclass(frozen=True, eq=False)
class CoaddSums:
    """A coadd and the sums it was made from.

    Attributes
    ----------
    image : Image
        The coadd.
    weight_sum : (ny, nx) float32 array
        Sum of weights of the good pixels.
    weight2_variance_sum : (ny, nx) float32 array
        Sum of squared weights times variance.
    center : (ny, nx) float32 array
        The mean that outlying pixels were judged by.
    weights : dict
        Weight of each epoch.
    """

    image: Image
    weight_sum: NDArray[np.float32]
    weight2_variance_sum: NDArray[np.float32]
    center: NDArray[np.float32]
    weights: Mapping[int, float]


def weight_of(image: Image) -> float:
    """Return the weight of an image in a coadd: one over its typical variance."""
    good = image.mask == 0
    if not good.any():
        raise CellSkipped("every pixel is masked")
    return float(1.0 / np.median(image.variance[good]))


def coadd(read: Callable[[int], Image], epochs: Sequence[int]) -> CoaddSums:
    """Coadd the epochs of a series, reading one at a time (twice).

    Parameters
    ----------
    read : callable
        Returns the image of an epoch.
    epochs : sequence of int
        Which ones; at least one.

    Raises
    ------
    CellSkipped
        If there is no epoch.
    """
    if not epochs:
        raise CellSkipped("no template: no usable epoch")
    weights: dict[int, float] = {}
    center, psf = _center(read, epochs, weights)
    flux = np.zeros_like(center)
    weight_sum = np.zeros_like(center)
    variance_sum = np.zeros_like(center)
    saturated = np.zeros_like(center)
    bits = np.zeros(center.shape, np.uint16)
    astrometric = 0.0
    for epoch in epochs:
        image, weight = read(epoch), np.float32(weights[epoch])
        good = usable(image, center, psf, n_epochs=len(epochs))
        flux += np.where(good, weight * image.flux, 0)
        weight_sum += np.where(good, weight, 0)
        variance_sum += np.where(good, weight**2 * image.variance, 0)
        saturated += np.where((image.mask & np.uint16(MaskBit.SATURATED)) != 0, weight, 0)
        bits |= image.mask
        astrometric += (float(weight) * image.astrometric_rms) ** 2
    total = sum(weights.values())
    incomplete = saturated > SATURATED_SHARE * total
    return CoaddSums(
        _finish(flux, weight_sum, variance_sum, bits, incomplete, psf, math.sqrt(astrometric) / total),
        weight_sum,
        variance_sum,
        center,
        weights,
    )


def without(sums: CoaddSums, epoch: int, image: Image) -> Image:
    """Return the coadd without one of its epochs.

    Raises
    ------
    CellSkipped
        If that was the only one.
    """
    if epoch not in sums.weights:
        raise ValueError(f"epoch {epoch} is not in the coadd of {sorted(sums.weights)}")
    rest = {other: weight for other, weight in sums.weights.items() if other != epoch}
    if not rest:
        raise CellSkipped("no template: its only epoch is this one")
    weight = np.float32(sums.weights[epoch])
    good = usable(image, sums.center, sums.image.psf, n_epochs=len(sums.weights))
    weight_sum = sums.weight_sum - np.where(good, weight, 0)
    weight_sum[weight_sum < 1e-3 * weight] = 0
    flux = sums.image.flux * sums.weight_sum - np.where(good, weight * image.flux, 0)
    variance_sum = np.maximum(sums.weight2_variance_sum - np.where(good, weight**2 * image.variance, 0), 0)
    total = sum(sums.weights.values())
    psf = sums.image.psf * np.float32(total) - image.psf * weight
    psf = (psf / psf.sum()).astype(np.float32)
    rms = math.sqrt(max((sums.image.astrometric_rms * total) ** 2 - (float(weight) * image.astrometric_rms) ** 2, 0))
    bits = sums.image.mask
    incomplete = (bits & np.uint16(MaskBit.SATURATED)) != 0
    return _finish(flux, weight_sum, variance_sum, bits, incomplete, psf, rms / (total - float(weight)))


def usable(image: Image, center: NDArray[np.float32], psf: NDArray[np.float32], *, n_epochs: int) -> NDArray[np.bool_]:
    """Return the pixels of an epoch that go into the coadd: unmasked and like the others.

    A worse PSF takes light from the core of a star to its wings, where it is many times what a good one leaves there:
    what the PSF of the epoch and that of the coadd explain is no reason to leave a pixel out. What is left out goes
    with its surroundings, out to one FWHM.

    Parameters
    ----------
    image : Image
        The epoch.
    center : (ny, nx) array
        The mean to judge by; NaN where there is none.
    psf : (py, px) array
        Of the coadd, with sum one.
    n_epochs : int
        In the coadd; pixels of two cannot be judged.
    """
    good = image.mask == 0
    if n_epochs >= 3:
        known = np.nan_to_num(center)
        about = ndimage.maximum_filter(known, 2 * PSF_REACH + 1)
        spread = np.maximum(REJECT_FRACTION * np.abs(known), REJECT_PSF * psf_spread(image.psf, psf) * about)
        limit = REJECT_SIGMA * np.sqrt(image.variance) + spread
        unlike = good & (np.abs(image.flux - center) > limit)
        if unlike.any():
            reach = round(REJECT_REACH * psf_fwhm(psf))
            good &= ~ndimage.binary_dilation(unlike, _DISK, iterations=reach)
    return np.asarray(good, bool)


def psf_spread(psf: NDArray[np.float32], other: NDArray[np.float32]) -> np.float32:
    """Return by how much two PSFs of one shape differ at most, over the light of the second within two pixels."""
    change = np.abs(psf - other)
    about = ndimage.maximum_filter(other, 2 * PSF_REACH + 1)
    counts = change > PSF_FLOOR * other.max()
    return np.float32(np.max(change[counts] / about[counts], initial=0))


def _center(
    read: Callable[[int], Image], epochs: Sequence[int], weights: dict[int, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of each pixel over the epochs, without its lowest and highest where there are three, and the mean PSF."""
    total: NDArray[Any] | None = None
    psf: NDArray[np.float32] = np.zeros((1, 1), np.float32)
    low = high = count = np.empty(0)
    for epoch in epochs:
        image = read(epoch)
        weights[epoch] = weight_of(image)
        psf = psf + image.psf * np.float32(weights[epoch])
        good = image.mask == 0
        value = np.where(good, image.flux, 0)
        if total is None:
            total, count = value, good.astype(np.float64)
            low = np.where(good, image.flux, np.inf)
            high = np.where(good, image.flux, -np.inf)
        else:
            total = total + value
            count = count + good
            low = np.minimum(low, np.where(good, image.flux, np.inf))
            high = np.maximum(high, np.where(good, image.flux, -np.inf))
    if total is None:
        raise CellSkipped("no template: no usable epoch")
    trimmed = count >= 3
    with np.errstate(invalid="ignore", divide="ignore"):
        center = np.where(trimmed, (total - low - high) / (count - 2), np.nan)
    return center.astype(np.float32), (psf / psf.sum()).astype(np.float32)


def _finish(
    flux_sum: NDArray[np.float32],
    weight_sum: NDArray[np.float32],
    variance_sum: NDArray[np.float32],
    bits: NDArray[np.uint16],
    incomplete: NDArray[np.bool_],
    psf: NDArray[np.float32],
    astrometric_rms: float,
) -> Image:
    seen = weight_sum > 0
    safe = np.where(seen, weight_sum, 1)
    variance = variance_sum / safe**2
    typical = float(np.median(variance[seen])) if seen.any() else 1.0
    hole = np.where(bits == 0, np.uint16(MaskBit.NO_DATA), bits)
    return Image(
        np.where(seen, flux_sum / safe, 0).astype(np.float32),
        np.where(seen & (variance > 0), variance, typical).astype(np.float32),
        np.where(seen, np.where(incomplete, np.uint16(MaskBit.SATURATED), 0), hole).astype(np.uint16),
        psf,
        astrometric_rms=astrometric_rms,
    )
