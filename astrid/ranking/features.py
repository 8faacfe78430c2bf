"""What rankers look at: numbers without a unit, made of the columns of candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.schema import MaskBit

Floats = NDArray[np.float64]

FEATURES = (
    "significance",
    "flux_significance",
    "psf_chi2",
    "width",
    "elongation",
    "sharpness",
    "negative_fraction",
    "dipole",
    "flux_ratio_aperture",
    "science_light",
    "template_light",
    "template_share",
    "science_share",
    "distance_to_source",
    "masked",
    "saturated",
    "seeing",
)
NETWORK = "network"  # of the combined ranker, behind the others


def features_of(columns: Mapping[str, NDArray[Any]], fwhm: float, network: Floats | None = None) -> Floats:
    """Return the features of candidates.

    With s the significance, f, e flux and its error, f_N and f_R the PSF fluxes of science image and template there, W
    the FWHM of the difference; the other columns are those of `astrid.detection.features.measure_candidates`:

    - ``significance``: ``log10 |s|``
    - ``flux_significance``: ``|f| / (e |s|)``: below one where the score is damped
    - ``psf_chi2``: ``log(1 + chi2)``
    - ``width``: ``fwhm / W``
    - ``elongation, sharpness, negative_fraction, dipole, flux_ratio_aperture``: as they are
    - ``science_light, template_light``: ``asinh(f_N / e)``, ``asinh(f_R / e)``
    - ``template_share``: ``asinh(f_R / |f|)``; ``science_share``: ``f_N / f``, within +-5
    - ``distance_to_source``: over W, at most 20
    - ``masked``: masked pixels over those within W; ``saturated``: whether any of them is saturated
    - ``seeing``: W in pixels
    - ``network``, if given: the highest output of the U-Net within 2 px

    Parameters
    ----------
    columns : mapping of (n,) arrays
        Candidates, as measured.
    fwhm : float
        W, in pixels.
    network : (n,) array, optional
        Output of the U-Net at them.

    Returns
    -------
    (n, 17) or (n, 18) float64 array
        Finite: what cannot be measured is zero.
    """
    s = np.abs(np.asarray(columns["significance"], np.float64))
    flux, error = (np.asarray(columns[name], np.float64) for name in ("flux", "flux_error"))
    science, template = (np.asarray(columns[name], np.float64) for name in ("science_flux", "template_flux"))
    bits = np.asarray(columns["mask_bits"])
    with np.errstate(invalid="ignore", divide="ignore"):
        made = [
            np.log10(s),
            np.abs(flux) / (error * s),
            np.log1p(np.asarray(columns["psf_chi2"], np.float64)),
            np.asarray(columns["fwhm"], np.float64) / fwhm,
            *(np.asarray(columns[name], np.float64) for name in
              ("elongation", "sharpness", "negative_fraction", "dipole", "flux_ratio_aperture")),
            np.arcsinh(science / error),
            np.arcsinh(template / error),
            np.arcsinh(template / np.abs(flux)),
            np.clip(science / flux, -5, 5),
            np.minimum(np.asarray(columns["distance_to_source"], np.float64) / fwhm, 20),
            np.asarray(columns["n_masked"], np.float64) / (np.pi * fwhm**2),
            ((bits & MaskBit.SATURATED) != 0).astype(np.float64),
            np.full(len(s), fwhm),
        ]  # fmt: skip
    if network is not None:
        made.append(np.asarray(network, np.float64))
    return np.asarray(np.nan_to_num(np.column_stack(made), nan=0.0, posinf=0.0, neginf=0.0), np.float64)
