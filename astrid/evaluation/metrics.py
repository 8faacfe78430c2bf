"""The numbers of a run: one row of ``metrics.json`` per data set and method."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.evaluation.completeness import completeness
from astrid.evaluation.intervals import poisson, wilson

IGNORED_BELOW_SNR = 5.0
DEEP_SNR = 8.0


@dataclass(frozen=True, eq=False)
class Truths:
    """True transients and what became of them.

    Attributes
    ----------
    snr : (n,) float64 array
        True S/N; NaN where unknown (known events): these count.
    mask_bits : (n,) int array
        Bits at the position; not zero means masked.
    is_recovered : (n,) bool array
        Whether a detection was matched.
    iou : (n,) float64 array
        Intersection over union of the detection; read only where recovered.
    dy, dx : (n,) float64 arrays
        Detected minus true position, in pixels; read only where recovered.
    """

    snr: NDArray[np.float64]
    mask_bits: NDArray[np.integer]
    is_recovered: NDArray[np.bool_]
    iou: NDArray[np.float64]
    dy: NDArray[np.float64]
    dx: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = {name: value.shape for name, value in vars(self).items()}
        if len(set(shapes.values())) != 1 or self.snr.ndim != 1:
            raise ValueError(f"truths must be vectors of one length, got {shapes}")
        placed = np.stack([self.iou, self.dy, self.dx])[:, self.is_recovered]
        if not np.all(np.isfinite(placed)):
            raise ValueError("a recovered truth has an iou, dy or dx that is not finite")

    def __len__(self) -> int:
        return len(self.snr)

    @property
    def is_masked(self) -> NDArray[np.bool_]:
        """Whether each truth lies on a masked pixel: excluded and counted."""
        return np.asarray(self.mask_bits != 0)

    @property
    def is_faint(self) -> NDArray[np.bool_]:
        """Whether each truth is too faint to count as missed, or its detection as false."""
        return np.asarray(self.snr < IGNORED_BELOW_SNR)

    @property
    def is_counted(self) -> NDArray[np.bool_]:
        """Whether each truth enters precision and recall."""
        return ~self.is_masked & ~self.is_faint

    @classmethod
    def empty(cls) -> Truths:
        """No truths."""
        none = np.empty(0)
        return cls(none, np.empty(0, int), np.empty(0, bool), none, none, none)

    @classmethod
    def joined(cls, parts: Iterable[Truths]) -> Truths:
        """Join the truths of several cells."""
        every = [cls.empty(), *parts]
        return cls(*(np.concatenate([getattr(part, name) for part in every]) for name in cls.__dataclass_fields__))


def metrics_row(
    truths: Truths,
    *,
    dataset: str,
    truth: str,
    subtraction: str,
    detector: str,
    n_false: int,
    n_images: int,
    megapixels: float,
    cpu_seconds: float | None,
    n_false_near_stars: int = 0,
    n_ignored: int = 0,
    n_duplicates: int = 0,
    threshold: float | None = None,
    is_preselected: bool = False,
) -> dict[str, Any]:
    """Make one row of ``metrics.json``.

    Truths below S/N 5 are neither missed nor recovered, truths on masked pixels are
    excluded; both are counted apart. Precision is recovered truths over recovered truths plus
    false alarms of the same images plus second detections of one truth; it depends
    on how many truths there are per megapixel, which is stated beside it.

    Parameters
    ----------
    truths : Truths
        Injections or known events of every image.
    dataset, truth, subtraction, detector : str
        What was measured; ``truth`` is "injections" or "known_events".
    n_false : int
        False alarms of the pass without injections.
    n_images : int
        Cells that were searched.
    megapixels : float
        Area searched, in all cells together.
    cpu_seconds : float or None
        CPU seconds of preprocess, subtract and detect without injections, in all cells together.
    n_false_near_stars : int
        Those of them near bright sources of the template; see `astrid.detection.sources.Sources.is_near_star`.
    n_ignored : int
        Detections at catalogued variables, AGN and asteroids, on streaks, or at known events too faint to count.
    n_duplicates : int
        Second detections of one truth.
    threshold : float, optional
        Of the detector, in its own score.
    is_preselected : bool
        Whether the images were chosen because something was detected there: their
        precision and false alarms mean nothing and are null.

    Returns
    -------
    dict
        Plain JSON values; None where a number does not exist.
    """
    if truth not in ("injections", "known_events"):
        raise ValueError(f'truth must be "injections" or "known_events", got {truth!r}')
    for name, count in (("n_false", n_false), ("n_images", n_images), ("n_ignored", n_ignored)):
        if count < 0:
            raise ValueError(f"{name} must not be negative, got {count}")
    if not 0 <= n_false_near_stars <= n_false:
        raise ValueError(f"n_false_near_stars must be from 0 to n_false ({n_false}), got {n_false_near_stars}")
    if not 0 <= megapixels < np.inf:
        raise ValueError(f"megapixels must not be negative, got {megapixels}")

    counted = truths.is_counted
    recovered = counted & truths.is_recovered
    n_true, n_recovered = int(counted.sum()), int(recovered.sum())
    deep = ~truths.is_masked & (truths.snr >= DEEP_SNR)
    n_deep, n_deep_recovered = int(deep.sum()), int((deep & truths.is_recovered).sum())
    n_claimed = n_recovered + n_false + n_duplicates
    usable = ~truths.is_masked & (truths.snr > 0)
    curve = completeness(truths.snr[usable], truths.is_recovered[usable])
    honest = not is_preselected
    false_low_high = poisson(n_false)
    return {
        "dataset": dataset,
        "truth": truth,
        "subtraction": subtraction,
        "detector": detector,
        "precision": _ratio(n_recovered, n_claimed) if honest else None,
        "recall": _ratio(n_recovered, n_true),
        "localization": _mean_percent(truths.iou[recovered]),
        "localization_all": _mean_percent(np.where(recovered, truths.iou, 0.0)[counted]),
        "false_alarms_per_image": _ratio(n_false, n_images) if honest else None,
        "false_alarms_near_stars": _ratio(n_false_near_stars, n_images) if honest else None,
        "seconds_per_image": _ratio(cpu_seconds, n_images),
        "threshold": _number(threshold),
        "precision_ci": _pair(wilson(n_recovered, n_claimed)) if honest else None,
        "recall_ci": _pair(wilson(n_recovered, n_true)),
        "recall_snr8": _ratio(n_deep_recovered, n_deep),
        "recall_snr8_ci": _pair(wilson(n_deep_recovered, n_deep)),
        "n_true_snr8": n_deep,
        "n_recovered_snr8": n_deep_recovered,
        "position_rms_px": position_rms(truths.dy[recovered], truths.dx[recovered]),
        "false_alarms_per_megapixel": _ratio(n_false, megapixels) if honest else None,
        "false_alarms_per_image_ci": ([bound / n_images for bound in false_low_high] if honest and n_images else None),
        "seconds_per_megapixel": _ratio(cpu_seconds, megapixels),
        "completeness_50_snr": curve.snr_50,
        "completeness_50_snr_error": curve.snr_50_error,
        "completeness_plateau": curve.plateau,
        "n_images": n_images,
        "n_true": n_true,
        "n_recovered": n_recovered,
        "n_false": n_false if honest else None,
        "n_false_near_stars": n_false_near_stars if honest else None,
        "n_duplicates": n_duplicates,
        "n_ignored": n_ignored,
        "n_masked": int(truths.is_masked.sum()),
        "n_faint": int((truths.is_faint & ~truths.is_masked).sum()),
        "megapixels": float(megapixels),
        "injected_per_megapixel": _ratio(n_true, megapixels) if truth == "injections" else None,
    }


def position_rms(dy: NDArray[np.float64], dx: NDArray[np.float64]) -> float | None:
    """Rms position error per axis, ``sqrt(mean((dy^2 + dx^2) / 2))``, in pixels; None without pairs."""
    if len(dy) == 0:
        return None
    return float(np.sqrt(np.mean((dy**2 + dx**2) / 2)))


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or whole == 0 else _number(part / whole)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _mean_percent(values: NDArray[np.float64]) -> float | None:
    return 100.0 * float(np.mean(values)) if len(values) else None


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
