"""One module per detector."""

from astrid.detection.base import Detections, Detector

__all__ = ["Detections", "Detector"]
