"""One module per survey: list its exposures, read one."""

from astrid.surveys.base import Listing, Problem, StampSurvey, Survey

__all__ = ["Listing", "Problem", "StampSurvey", "Survey"]
