"""Plain subtraction, for images with one and the same PSF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import oaconvolve

from astrid.errors import AlgorithmError
from astrid.image import Difference, Image
from astrid.subtraction.masks import difference_mask, good_pixels


@dataclass(frozen=True)
class Direct:
    """Subtract the template as it is, for images with one and the same PSF.

    Attributes
    ----------
    flux_ratio : float
        Template flux times this equals science flux.
    neighbour_fraction : float
        A pixel gets `MaskBit.NEIGHBOUR` where more than this part of the
        squared PSF around it lies on masked pixels or outside the image.
    """

    flux_ratio: float = 1.0
    neighbour_fraction: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.flux_ratio < np.inf:
            raise ValueError(f"flux_ratio must be positive and finite, got {self.flux_ratio}")
        if not 0 < self.neighbour_fraction <= 1:
            raise ValueError(f"neighbour_fraction must lie in (0, 1], got {self.neighbour_fraction}")

    def __call__(self, science: Image, template: Image) -> Difference:
        """Subtract; the score is the difference filtered with the science PSF over its noise.

        Raises
        ------
        ValueError
            If the images differ in shape.
        AlgorithmError
            If either image, or what they share, has next to no good pixels.
        """
        if science.flux.shape != template.flux.shape:
            raise ValueError(f"science is {science.flux.shape} but template is {template.flux.shape}")
        good_science, good_template = good_pixels(science, "science"), good_pixels(template, "template")
        good = good_science & good_template
        if not good.any():
            raise AlgorithmError(
                f"0 of {good.size} pixels are good in both science ({np.count_nonzero(good_science)}) and "
                f"template ({np.count_nonzero(good_template)})"
            )
        ratio = np.float32(self.flux_ratio)
        flux = np.where(good, science.flux - ratio * template.flux, 0)
        noise_science = science.variance * np.float32(science.noise_correlation**2)
        noise_template = template.variance * np.float32((self.flux_ratio * template.noise_correlation) ** 2)
        variance = np.where(good, noise_science + noise_template, 0)

        matched = science.psf[::-1, ::-1]
        signal = oaconvolve(flux, matched, mode="same")
        noise = oaconvolve(variance, matched**2, mode="same")
        smallest = 1e-3 * float(np.median(variance[good])) * float((matched**2).sum())
        significance = np.where(noise > smallest, signal / np.sqrt(np.maximum(noise, smallest)), 0)
        return Difference(
            flux=flux.astype(np.float32),
            variance=np.where(good, variance, np.median(variance[good])).astype(np.float32),
            mask=difference_mask(science, good_science, good_template, science.psf, self.neighbour_fraction),
            psf=science.psf.copy(),
            significance=significance.astype(np.float32),
        )
