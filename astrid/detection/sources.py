"""The sources of a template, and what is near them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from astrid.detection.matched_filter import find_peaks
from astrid.image import Image
from astrid.imaging.photometry import FWHM_PER_SIGMA, equivalent_fwhm

FARTHEST_SOURCE = 100.0  # pixels
NEAR_SNR = 50.0  # of a source beside which residuals are expected
NEAR_FWHM = 3.0  # of the template: how far that reaches
HALO_SNR = 200.0  # of a very bright star
HALO_FWHM = 3.0  # of the template: radius of the halo of such a star;
HALO_GROWTH = 2 / 3  # power of the S/N by which it grows, for wings that fall off with the cube of the distance,
LARGEST_HALO_FWHM = 15.0  # and no farther


@dataclass(frozen=True, eq=False)
class Sources:
    """The peaks of a template, the brightest first.

    Attributes
    ----------
    places : (n, 2) int array
        Pixels ``(y, x)``.
    snr : (n,) array
        Signal-to-noise ratio in the template, the source's own noise included.
    fwhm : float
        Of the template, in pixels.
    """

    places: NDArray[np.intp]
    snr: NDArray[np.float64]
    fwhm: float

    @classmethod
    def none(cls) -> Sources:
        """No sources."""
        return cls(np.empty((0, 2), np.intp), np.empty(0), 1.0)

    def distance(self, y: NDArray[np.float64], x: NDArray[np.float64], *, brighter: float = 0.0) -> NDArray[np.float64]:
        """Distance of each position to the nearest source of at least an S/N, at most 100 pixels."""
        places = self.places[self.snr >= brighter]
        if len(places) == 0 or len(y) == 0:
            return np.full(len(y), FARTHEST_SOURCE)
        distance, _ = cKDTree(places).query(np.column_stack([y, x]))
        return np.asarray(np.minimum(distance, FARTHEST_SOURCE), np.float64)

    def is_near_star(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each position lies within 3 FWHM of a source of S/N 50, where stars leave residuals."""
        return self.distance(y, x, brighter=NEAR_SNR) <= NEAR_FWHM * self.fwhm

    def is_in_halo(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each position lies in the halo of a very bright source.

        That of S/N 200 reaches 3 FWHM; it grows with the S/N to the power of 2/3, up to 15 FWHM.
        """
        inside = np.zeros(len(y), bool)
        for (row, column), snr in zip(self.places, self.snr, strict=True):
            if snr < HALO_SNR:
                break
            radius = min(HALO_FWHM * (snr / HALO_SNR) ** HALO_GROWTH, LARGEST_HALO_FWHM) * self.fwhm
            inside |= np.hypot(y - row, x - column) <= radius
        return inside


def find_sources(template: Image) -> Sources:
    """Find the 5 sigma peaks of a template."""
    width = equivalent_fwhm(template.psf)
    sigma = width / FWHM_PER_SIGMA
    good = (template.mask == 0) & np.isfinite(template.flux)
    smooth = ndimage.gaussian_filter(np.where(good, template.flux, 0).astype(np.float32), sigma, truncate=3.0)
    noise = np.sqrt(template.variance) * np.float32(template.noise_correlation / np.sqrt(4 * np.pi * sigma**2))
    significance = smooth / noise
    peaks = find_peaks(significance, ~good, radius=max(1, round(width)))
    return Sources(peaks, significance[tuple(peaks.T)].astype(np.float64), width)
