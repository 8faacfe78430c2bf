"""One module per survey: list its exposures, read one."""

from astrid.surveys.base import Listing, Problem, Survey

__all__ = ["Listing", "Problem", "Survey"]
