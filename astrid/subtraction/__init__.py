"""One module per differencing method."""

from astrid.subtraction.base import Subtractor

__all__ = ["Subtractor"]
