"""What every subtraction method does."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from astrid.image import Difference, Image


@runtime_checkable
class Subtractor(Protocol):
    """A frozen, picklable dataclass that subtracts a template from a science image."""

    def __call__(self, science: Image, template: Image) -> Difference:
        """Subtract.

        Raises
        ------
        ValueError
            If the images differ in shape.
        AlgorithmError
            If no honest difference is possible; the message holds the numbers.
        """
