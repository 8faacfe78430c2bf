"""A detector whose candidates are ranked anew."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from astrid.detection import Detections, Detector
from astrid.detection.features import measure_candidates
from astrid.detection.unet.detector import Unet
from astrid.image import Difference
from astrid.imaging.photometry import cut_windows, equivalent_fwhm
from astrid.ranking.rankers import Ranker
from astrid.workflow.placement import prepare

NEAR = 5  # px, side of the square in which the highest output of the network counts


@dataclass(frozen=True)
class RankedDetector:
    """Find candidates with one, score them with the other, keep what reaches its threshold.

    Attributes
    ----------
    detector : Detector
        What finds them.
    ranker : Ranker
        What scores them.
    network : Unet
        Whose output a ranker that needs one sees.
    """

    detector: Detector
    ranker: Ranker
    network: Unet = field(default_factory=Unet)

    @property
    def name(self) -> str:
        """Both words."""
        return f"{self.detector.name}+{self.ranker.name}"

    @property
    def threshold(self) -> float:
        """What a candidate must reach, in the score of the ranker."""
        return self.ranker.threshold

    @property
    def uses_gpu(self) -> bool:
        """Whether a GPU is of use to it."""
        return bool(getattr(self.detector, "uses_gpu", False)) or (self.ranker.needs_network and self.network.uses_gpu)

    def prepare(self) -> None:
        """Read the models of both, which this process keeps; raises what a call raises."""
        prepare(self.detector)
        self.ranker.prepare()
        if self.ranker.needs_network:
            self.network.prepare()

    def __call__(self, difference: Difference) -> Detections:
        """Find candidates, the likeliest first; raises what detector and ranker raise."""
        found, score = self.scored(difference)
        kept = np.flatnonzero(score >= self.threshold)
        return found.chosen(kept[np.argsort(-score[kept], kind="stable")])

    def scored(self, difference: Difference) -> tuple[Detections, NDArray[np.float64]]:
        """Return all candidates of the detector, their ``score`` the ranker's probability, and its score."""
        if difference.science is None or difference.template is None:
            raise ValueError("ranking looks at the science image and the template too, and this difference holds none")
        found = self.detector(difference)
        columns = measure_candidates(difference, difference.science, difference.template, found)
        network = None
        if self.ranker.needs_network:
            network = network_at(self.network, difference, found)
        score = self.ranker.score(columns, equivalent_fwhm(difference.psf), network)
        probability = self.ranker.probability(score)
        return Detections(found.y, found.x, found.significance, found.footprint, probability), score


def network_at(network: Unet, difference: Difference, found: Detections) -> NDArray[np.float64]:
    """Return the highest output of a U-Net within 2 px of each candidate."""
    if not len(found):
        return np.zeros(0)
    near = cut_windows(network.probability(difference), found.y, found.x, (NEAR, NEAR))
    return np.asarray(near.max(axis=(1, 2)), np.float64)
