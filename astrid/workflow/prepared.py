"""What the epochs of a series share in subtraction is done once by each worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from astrid.image import Difference, Image
from astrid.subtraction.base import InSteps, Subtractor


@runtime_checkable
class Preparing(InSteps, Protocol):
    """A method that can do the template's part of a subtraction beforehand."""

    def __hash__(self) -> int:
        """Alike for methods that are set alike."""

    def prepare(self, template: Image, science_psf_side: int) -> Any:
        """Do what all science images with PSFs of this side share; the result holds the template as ``image``."""

    def parts(self, science: Image, template: Image, prepared: Any = None) -> Any:
        """Do all that does not depend on how large the noise is."""


@dataclass(frozen=True)
class WithPrepared:
    """A method that keeps what it made of the last template; the result is the same to the last bit.

    The epochs of a series follow each other on a worker and share one template, which is read once
    (`astrid.workflow.images.Templates`); so does an epoch with and without injections. One template is kept for
    each process: what was made of it takes some five times the memory of its flux.

    Attributes
    ----------
    method : Preparing
        How to subtract.
    """

    method: Preparing

    def __call__(self, science: Image, template: Image) -> Difference:
        """Subtract; see `astrid.subtraction.base.Subtractor`."""
        return self.method.finished(self.parts(science, template), 1.0)

    def parts(self, science: Image, template: Image) -> Any:
        """Do all that does not depend on how large the noise is."""
        side = max(*science.psf.shape, *template.psf.shape)
        if template.noise_correlation != 1:  # measured on one epoch: no other has the same
            return self.method.parts(science, template)
        ready = _prepared(self.method, _Pixels(template), side)
        return self.method.parts(science, ready.image, ready)

    def finished(self, parts: Any, noise: float) -> Difference:
        """Return the difference for a noise so many times larger."""
        return self.method.finished(parts, noise)


def with_prepared(method: Subtractor) -> Subtractor:
    """Return a method that prepares each template once, where it can."""
    return WithPrepared(method) if isinstance(method, Preparing) else method


class _Pixels:
    """A template that equals another if it is made of the same memory; what is kept is not freed, so none is reused."""

    def __init__(self, image: Image) -> None:
        self.image = image
        arrays = (image.flux, image.variance, image.mask, image.psf)
        self.key = (*(_memory(a) for a in arrays), image.noise_correlation, image.astrometric_rms)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pixels) and self.key == other.key


def _memory(array: NDArray[Any]) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


@lru_cache(maxsize=1)
def _prepared(method: Preparing, template: _Pixels, side: int) -> Any:
    return method.prepare(template.image, side)
