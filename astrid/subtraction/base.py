"""What every subtraction method does."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class InSteps(Subtractor, Protocol):
    """A method that need not do everything again where the noise turns out to be larger than was thought."""

    def parts(self, science: Image, template: Image) -> Any:
        """Do all that does not depend on how large the noise is."""

    def finished(self, parts: Any, noise: float) -> Difference:
        """Return the difference for a noise so many times larger."""
