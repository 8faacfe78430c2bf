import numpy as np
import pytest

from astrid.ranking.features import FEATURES, features_of
from astrid.schema import MaskBit


def columns(n=3, **changed):
    base = {
        "significance": 10.0, "flux": 100.0, "flux_error": 10.0, "psf_chi2": 1.0, "fwhm": 3.0, "elongation": 1.1,
        "sharpness": 1.0, "negative_fraction": 0.0, "dipole": 0.1, "flux_ratio_aperture": 1.0, "science_flux": 150.0,
        "template_flux": 50.0, "distance_to_source": 12.0, "n_masked": 0, "mask_bits": 0,
    }  # fmt: skip
    return {name: np.full(n, changed.get(name, value)) for name, value in base.items()}


def feature(name, **changed):
    return features_of(columns(1, **changed), 3.0)[0, FEATURES.index(name)]


def test_features_are_those_that_are_named():
    assert features_of(columns(), 3.0).shape == (3, len(FEATURES))
    assert features_of(columns(), 3.0, np.zeros(3)).shape == (3, len(FEATURES) + 1)


def test_features_by_hand():
    assert feature("significance") == pytest.approx(1.0)
    assert feature("flux_significance") == pytest.approx(1.0)
    assert feature("width", fwhm=6.0) == pytest.approx(2.0)
    assert feature("science_light") == pytest.approx(np.arcsinh(15))
    assert feature("template_share") == pytest.approx(np.arcsinh(0.5))
    assert feature("science_share", science_flux=1e9) == 5
    assert feature("distance_to_source") == pytest.approx(4.0)
    assert feature("masked", n_masked=9) == pytest.approx(1 / np.pi)
    assert feature("saturated", mask_bits=int(MaskBit.SATURATED | MaskBit.BAD)) == 1
    assert feature("saturated", mask_bits=int(MaskBit.BAD)) == 0


@pytest.mark.parametrize("name", ["flux", "flux_error", "science_flux", "template_flux"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_cannot_be_measured_is_a_number(name, value):
    assert np.isfinite(features_of(columns(**{name: value}), 3.0)).all()


def test_the_unit_of_the_flux_and_the_sign_change_nothing():
    names = ("flux", "flux_error", "science_flux", "template_flux")
    usual, other = columns(), columns()
    for name in names:
        other[name] = 7 * usual[name]
    np.testing.assert_allclose(features_of(other, 3.0), features_of(usual, 3.0))


def test_no_candidates_have_no_features():
    assert features_of(columns(0), 3.0).shape == (0, len(FEATURES))
