"""One module per survey: list its exposures, read one."""

from astrid.surveys.base import ContextSurvey, Listing, Problem, StampSurvey, Survey

__all__ = ["ContextSurvey", "Listing", "Problem", "StampSurvey", "Survey"]
