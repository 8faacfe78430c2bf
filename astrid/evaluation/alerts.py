"""Own differences of alert stamps beside those of the survey that sent them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.evaluation.intervals import wilson
from astrid.image import Difference, FloatArray, Image
from astrid.imaging.photometry import equivalent_fwhm, psf_flux

EVENT_RADIUS = 2.0  # px from the event within which a peak is its detection, or
EVENT_RADIUS_FWHM = 0.75  # of the FWHM of the difference where that is more, as for localization
EVENT_REACH = 6.0  # px around the event that belong to it
PEAK_SIDE = 5  # px; a peak is the highest of a square of this side
STAR_SNR = 20.0  # of a pixel, from which a star of the template is compared
STAR_HALF = 2
BRIGHT_SNR = 8.0  # of the survey; what is fainter is counted apart
FEWEST = 300  # source-free pixels that tell a noise


@dataclass(frozen=True)
class AlertResult:
    """What one difference says of the alert it belongs to.

    Attributes
    ----------
    is_detected : bool
        Whether a local maximum of the signed score reaches the threshold within 2 px, or 0.75 FWHM, of the event.
    own_significance : float
        Score there, or at the event's pixel where there is no such maximum.
    own_flux, own_flux_error : float
        PSF flux at the event, in the unit of the difference; NaN where it is masked.
    n_off_centre : int
        Unmasked peaks of either sign above the threshold more than 6 px from the event.
    score_width : float
        Robust standard deviation of the score more than 6 px from the event.
    correlation : float
        With the survey's difference within 6 px; NaN without one.
    noise_ratio : float
        Own noise over the survey's, between the sources.
    star_residual : float
        Own rms over the survey's in 5x5 px at stars of the template, median; NaN without stars.
    mask_bits : int
        At the event.
    """

    is_detected: bool
    own_significance: float
    own_flux: float
    own_flux_error: float
    n_off_centre: int
    score_width: float
    correlation: float
    noise_ratio: float
    star_residual: float
    mask_bits: int


def judge_alert(
    difference: Difference,
    template: Image,
    survey_difference: FloatArray | None,
    y: float,
    x: float,
    *,
    is_negative: bool,
    threshold: float = 5.0,
) -> AlertResult:
    """Compare an own difference with the alert and with the survey's own difference.

    Parameters
    ----------
    difference : Difference
        Own.
    template : Image
        What was subtracted; its sources are left out of the noise.
    survey_difference : (ny, nx) array or None
        The survey's, science minus template, in the unit of ``difference``; NaN where there is no pixel.
    y, x : float
        The event.
    is_negative : bool
        Whether the survey saw it fade.
    threshold : float
        Of a detection.
    """
    score, good = difference.significance, difference.mask == 0
    rows, columns = np.indices(score.shape)
    distance = np.hypot(rows - y, columns - x)
    sign = np.float32(-1 if is_negative else 1)
    radius = max(EVENT_RADIUS, EVENT_RADIUS_FWHM * equivalent_fwhm(difference.psf))
    signed = np.where(good | (distance < radius + 1), sign * score, -np.inf)
    near = distance <= radius
    peak = near & (signed == ndimage.maximum_filter(signed, PEAK_SIDE)) & (signed >= threshold)
    at = int(np.clip(round(y), 0, score.shape[0] - 1)), int(np.clip(round(x), 0, score.shape[1] - 1))
    is_detected = bool(peak.any())
    own = float(signed[peak].max()) if is_detected else float(sign * score[at])
    strength = np.where(good, np.abs(score), 0)
    others = (strength == ndimage.maximum_filter(strength, PEAK_SIDE)) & (strength >= threshold)
    away = good & (distance > EVENT_REACH)
    fit = psf_flux(difference.flux, difference.variance, difference.mask, difference.psf, np.array([y]), np.array([x]))
    correlation = noise_ratio = residual = float("nan")
    if survey_difference is not None:
        correlation, noise_ratio, residual = _beside(difference, template, survey_difference, distance, good)
    return AlertResult(
        is_detected,
        float(sign) * own,
        float(fit.flux[0]),
        float(fit.error[0]),
        int(np.sum(others & (distance > EVENT_REACH))),
        _width(score[away]),
        correlation,
        noise_ratio,
        residual,
        int(difference.mask[at]),
    )


def _beside(
    difference: Difference,
    template: Image,
    theirs: FloatArray,
    distance: NDArray[np.float64],
    good: NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Return correlation, ratio of noise and of star residuals of two differences."""
    both = good & np.isfinite(theirs)
    at_event = both & (distance <= EVENT_REACH)
    correlation = float("nan")
    if at_event.sum() > EVENT_REACH**2:
        a, b = difference.flux[at_event], theirs[at_event]
        if a.std() > 0 and b.std() > 0:
            correlation = float(np.corrcoef(a, b)[0, 1])
    sigma = np.sqrt(np.median(template.variance[template.mask == 0])) if (template.mask == 0).any() else np.inf
    smooth = ndimage.gaussian_filter(template.flux, 1.0)
    sky = both & (distance > EVENT_REACH) & ~ndimage.binary_dilation(smooth > sigma, iterations=2)
    if sky.sum() < FEWEST:
        sky = both & (distance > EVENT_REACH)
    own_noise, their_noise = _width(difference.flux[sky]), _width(theirs[sky])
    noise_ratio = own_noise / their_noise if their_noise > 0 else float("nan")
    level = float(np.median(theirs[sky])) if sky.any() else 0.0
    stars = (smooth == ndimage.maximum_filter(smooth, 9)) & (smooth > STAR_SNR * sigma) & (distance > EVENT_REACH + 2)
    ratios = []
    for y, x in np.argwhere(stars):
        box = np.s_[max(y - STAR_HALF, 0) : y + STAR_HALF + 1, max(x - STAR_HALF, 0) : x + STAR_HALF + 1]
        if both[box].size == (2 * STAR_HALF + 1) ** 2 and both[box].all():
            rms = float(np.sqrt(np.mean((theirs[box] - level) ** 2)))
            if rms > 0:
                ratios.append(float(np.sqrt(np.mean(difference.flux[box] ** 2))) / rms)
    return correlation, noise_ratio, float(np.median(ratios)) if ratios else float("nan")


def _width(values: NDArray[Any]) -> float:
    if not len(values):
        return float("nan")
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def summarise_alerts(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return one row per label and kind: how many alerts are found, and how clean their stamps are.

    Parameters
    ----------
    columns : mapping
        ``object_id, kind, label_basis, survey_flux, survey_significance, is_dipole`` (None where unknown) and
        the fields of `AlertResult`, one value per alert.

    Returns
    -------
    list of dict
        The last row is of all alerts. ``detected_by_object`` weighs each of the n alerts of an object
        with 1/n. Where the survey marks dipoles, rows "survey: ..." part them from sources of survey S/N of
        8 and more and from fainter ones. ``significance_ratio`` is the own S/N of the PSF flux over the
        survey's, median, ``flux_ratio`` that of the fluxes.
    """
    n = len(columns["object_id"])
    basis = np.array([value or "none" for value in columns["label_basis"]], dtype=object)
    kind = np.array([value or "" for value in columns["kind"]], dtype=object)
    objects = np.array(columns["object_id"], dtype=object)
    number = {
        name: np.array([np.nan if v is None else v for v in columns[name]], float)
        for name in (
            "n_off_centre", "score_width", "correlation", "noise_ratio", "star_residual",
            "own_flux", "own_flux_error", "survey_flux", "survey_significance",
        )
    }  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        flux_ratio = number["own_flux"] / number["survey_flux"]
        significance_ratio = number["own_flux"] / number["own_flux_error"] / number["survey_significance"]
    found = np.array(columns["is_detected"], bool)
    groups: list[tuple[str, str, NDArray[np.bool_]]] = []
    for name in sorted(set(basis)):
        of_name = basis == name
        groups.append((name, "", of_name))
        kinds = sorted(set(kind[of_name]) - {""})
        if len(kinds) > 1:
            groups += [(name, one, of_name & (kind == one)) for one in kinds]
    groups += _by_survey(columns["is_dipole"], number["survey_significance"])
    groups.append(("all", "", np.ones(n, bool)))
    rows = []
    for name, one, here in groups:
        if not here.any():
            continue
        _, inverse, count = np.unique(objects[here].astype(str), return_inverse=True, return_counts=True)
        weight = 1 / count[inverse]
        width = number["score_width"][here]
        interval = wilson(int(found[here].sum()), int(here.sum()))
        rows.append(
            {
                "label_basis": name,
                "kind": one,
                "n": int(here.sum()),
                "n_objects": len(count),
                "n_detected": int(found[here].sum()),
                "detected": float(found[here].mean()),
                "detected_ci": list(interval) if interval else None,
                "detected_by_object": float(np.average(found[here], weights=weight)),
                "off_centre_per_stamp": float(np.mean(number["n_off_centre"][here])),
                "score_width": _median(width),
                "share_of_widths_0p8_to_1p2_by_object": float(
                    np.average((width > 0.8) & (width < 1.2), weights=weight)
                ),
                "correlation": _median(number["correlation"][here]),
                "noise_ratio": _median(number["noise_ratio"][here]),
                "star_residual": _median(number["star_residual"][here]),
                "flux_ratio": _median(flux_ratio[here]),
                "significance_ratio": _median(significance_ratio[here]),
            }
        )
    return rows


def _by_survey(
    is_dipole: Sequence[bool | None], significance: NDArray[np.float64]
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Part the alerts of a survey that marks dipoles: those, bright sources, faint ones."""
    if all(value is None for value in is_dipole):
        return []
    dipole = np.array([bool(value) for value in is_dipole])
    bright = np.abs(significance) >= BRIGHT_SNR
    parts = (("dipole", dipole), (f"S/N >= {BRIGHT_SNR:g}", ~dipole & bright), ("fainter", ~dipole & ~bright))
    return [(f"survey: {name}", "", here) for name, here in parts]


def _median(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None
