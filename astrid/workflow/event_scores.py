"""How likely a detector or ranker calls what an alert stamp shows at its event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from astrid.detection import Detections, Detector
from astrid.detection.centring import centred
from astrid.detection.features import measure_candidates
from astrid.detection.unet import weights
from astrid.detection.unet.detector import Unet, turned
from astrid.evaluation.alerts import EVENT_RADIUS, EVENT_RADIUS_FWHM
from astrid.image import Difference
from astrid.imaging.photometry import equivalent_fwhm
from astrid.ranking.rankers import Ranker
from astrid.workflow.ranked import RankedDetector, network_at


@dataclass(frozen=True)
class EventScore:
    """What is said of one event.

    Attributes
    ----------
    score : float
        What ranks events: output of the model or network, or the significance.
    probability : float
        The same by the recorded calibration, made on images and not on stamps that somebody chose; NaN without one.
    """

    score: float
    probability: float


def at_event(difference: Difference, y: float, x: float) -> Detections:
    """Return the highest score within 2 px, or 0.75 FWHM, of an event as a detection, whatever it reaches.

    Masked pixels count too, for the event is there; its position is fitted as that of any detection.
    """
    radius = max(EVENT_RADIUS, EVENT_RADIUS_FWHM * equivalent_fwhm(difference.psf))
    score = difference.significance
    rows, columns = np.indices(score.shape)
    near = np.where((np.hypot(rows - y, columns - x) <= radius) & np.isfinite(score), score, -np.inf)
    if not np.isfinite(near).any():
        raise ValueError(f"the event at y {y}, x {x} is not on the difference of {score.shape} pixels")
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    place = centred(difference, np.array([float(row)]), np.array([float(column)]))
    return Detections(place[0], place[1], np.array([float(score[row, column])]))


def event_scores(
    scorers: Sequence[Detector | Ranker], difference: Difference, y: float, x: float, *, is_negative: bool = False
) -> Mapping[str, EventScore]:
    """Score one event by each of some detectors and rankers.

    Parameters
    ----------
    scorers : sequence of detectors and rankers
        A ranker, or that of a `RankedDetector`, is asked about the place of the event; of a U-Net the highest
        output within 2 px counts; of any other detector the significance.
    difference : Difference
        Of the stamp, with the images it was made from.
    y, x : float
        The event, in pixels.
    is_negative : bool
        Whether it has faded: the images then change places.

    Returns
    -------
    dict
        By name; a ranker that needs the output of a network gets that of the package.
    """
    shown = turned(difference) if is_negative else difference
    if shown.science is None or shown.template is None:
        raise ValueError("scoring an event looks at the science image and the template, and this difference holds none")
    found = at_event(shown, y, x)
    columns = measure_candidates(shown, shown.science, shown.template, found)
    width = equivalent_fwhm(shown.psf)
    outputs: dict[Unet, float] = {}

    def output(network: Unet) -> float:
        if network not in outputs:
            outputs[network] = float(network_at(network, shown, found)[0])
        return outputs[network]

    said = {}
    for one in scorers:
        ranker = one.ranker if isinstance(one, RankedDetector) else one
        if isinstance(ranker, Ranker):
            network = one.network if isinstance(one, RankedDetector) else Unet()
            given = np.array([output(network)]) if ranker.needs_network else None
            score = ranker.score(columns, width, given)
            said[one.name] = EventScore(float(score[0]), float(ranker.probability(score)[0]))
        elif isinstance(one, Unet):
            value = output(one)
            said[one.name] = EventScore(value, float(weights.read(one.model)[1].calibrated(np.array([value]))[0]))
        else:
            said[one.name] = EventScore(float(found.significance[0]), float("nan"))
    return said
