from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import yaml

from astrid.surveys.fetched import FetchedSurvey

REPOSITORY = Path(__file__).resolve().parents[2]


def fetched_surveys():
    """Those of conf/survey that fetch, by word."""
    found = {}
    for path in sorted((REPOSITORY / "conf" / "survey").glob("*.yaml")):
        values = yaml.safe_load(path.read_text())
        values = values.get("survey", values)  # some bring defaults of other groups, too
        module, _, name = values.pop("_target_").rpartition(".")
        kind = getattr(import_module(module), name)
        if hasattr(kind, "plan"):
            found[path.stem] = kind(**values)
    return found


TABLE = pd.read_csv(REPOSITORY / "catalogs" / "surveys.csv", comment="#").set_index("survey")


@pytest.mark.parametrize("word", fetched_surveys())
def test_every_survey_of_an_archive_is_in_the_catalogue(word):
    survey = fetched_surveys()[word]
    assert isinstance(survey, FetchedSurvey)
    assert survey.name == word
    assert TABLE.pixel_scale_arcsec[word] == pytest.approx(survey.pixel_scale_arcsec)
    assert isinstance(TABLE.sources[word], str)
    assert set(survey.bands) <= set(TABLE.bands[word].split())
    assert len(survey.acknowledgement) > 60


def test_the_catalogue_names_no_other_survey():
    assert set(TABLE.index) == set(fetched_surveys())
