"""Candidates of harsh tiles, measured, judged and scored: what rankers are fitted and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from astrid.detection import Detections
from astrid.detection.features import measure_candidates
from astrid.detection.matched_filter import MatchedFilter
from astrid.detection.unet.detector import Unet
from astrid.evaluation.matching import match_radius
from astrid.evaluation.ranked import judged
from astrid.image import Difference
from astrid.imaging.photometry import equivalent_fwhm, psf_flux
from astrid.ranking.features import features_of
from astrid.schema import MaskBit
from astrid.simulation.harsh import HarshTile, harsh_tile
from astrid.simulation.seeds import seed_of
from astrid.workflow.examples import AS_IT_IS, harsh_difference
from astrid.workflow.ranked import network_at

FAINTEST = 5.0  # S/N of a transient that counts
EVERYTHING = MatchedFilter(threshold=4.0, both_signs=False, max_chi2=None, deblend=False)
STAR_MASK = 3.0  # FWHM about saturated pixels


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections of some tiles by one method: what `astrid.evaluation.ranked.Ranked` is made of, and where they are."""

    score: np.ndarray[Any, Any]
    is_true: np.ndarray[Any, Any]
    tile: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    x: np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Searched:
    """One tile, what is there, and its candidates.

    Attributes
    ----------
    tile, difference : HarshTile, Difference
        As simulated and subtracted.
    counts : (n,) bool array
        Transients that are bright enough and not masked.
    candidates : Detections
        Everything above 4 sigma.
    features : (m, 17) or (m, 18) array
        Of the candidates, with the output of the network where there is one.
    """

    tile: HarshTile
    difference: Difference
    counts: np.ndarray[Any, Any]
    candidates: Detections
    features: np.ndarray[Any, Any]

    @property
    def fwhm(self) -> float:
        """Of the difference, in pixels."""
        return equivalent_fwhm(self.difference.psf)

    def judge(self, found: Detections, score: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """Say which detections are true, and which count for nothing."""
        return judged(
            found.y, found.x, score, self.tile.y, self.tile.x, self.counts, radius=match_radius(self.fwhm)
        )  # fmt: skip


def searched(part: str, seed: int, number: int, *, plain: bool | None = True, network: Unet | None = None,
             measured: bool = True) -> Searched:  # fmt: skip
    """Simulate and subtract a tile and find its candidates.

    Parameters
    ----------
    part : str
        Which tiles: those of another part have other seeds.
    seed, number : int
        Of all tiles, and of this one.
    plain : bool or None
        How it is subtracted; None draws, as for the training of the network.
    network : Unet, optional
        Whose output is the last feature.
    measured : bool
        Whether to find candidates and their features.
    """
    own = seed_of(seed, "harsh", part, number)
    tile = harsh_tile(own)
    if plain is None:
        plain = bool(np.random.default_rng([own, 1]).random() < AS_IT_IS)
    difference = harsh_difference(tile, plain=plain)
    pixels = tuple(np.clip(np.rint([tile.y, tile.x]).astype(int), 0, difference.mask.shape[0] - 1))
    counts = (tile.snr >= FAINTEST) & (difference.unusable[pixels] == 0)
    if not measured:
        return Searched(tile, difference, counts, Detections(*np.empty((3, 0))), np.empty((0, 0)))
    found = EVERYTHING(difference)
    columns = measure_candidates(difference, tile.science, tile.template, found)
    output = None if network is None else network_at(network, difference, found)
    features = features_of(columns, equivalent_fwhm(difference.psf), output)
    return Searched(tile, difference, counts, found, features)


def matched_snr(one: Searched) -> np.ndarray[Any, Any]:
    """Return the S/N of the flux of each candidate: what a matched filter says without noise of sources."""
    d = one.difference
    sky = np.full_like(d.variance, np.median(d.variance[d.mask == 0]))
    fit = psf_flux(d.flux, sky, d.unusable, d.psf, one.candidates.y, one.candidates.x)
    return np.nan_to_num(fit.flux / fit.error)


def off_stars(one: Searched) -> np.ndarray[Any, Any]:
    """Return the score of each candidate, zero within 3 FWHM of saturated pixels."""
    saturated = ((one.tile.science.mask | one.tile.template.mask) & MaskBit.SATURATED) != 0
    away = ndimage.distance_transform_edt(~saturated) if saturated.any() else np.full(saturated.shape, np.inf)
    at = tuple(np.clip(np.rint([one.candidates.y, one.candidates.x]).astype(int), 0, saturated.shape[0] - 1))
    return np.where(away[at] <= STAR_MASK * one.fwhm, 0.0, one.candidates.significance)
