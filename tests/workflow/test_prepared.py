from dataclasses import fields, replace

import numpy as np
import pytest

from astrid.image import Difference, Image
from astrid.imaging.psf import moffat
from astrid.schema import MaskBit
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.subtraction.calibration import subtract_calibrated
from astrid.subtraction.direct import Direct
from astrid.subtraction.zogy import Zogy
from astrid.workflow.prepared import _prepared, with_prepared

SIDE = 160


def image(seed: int, fwhm: float, *, empty: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    sky = np.random.default_rng(99)
    flux = np.zeros((SIDE, SIDE))
    add_points(flux, *sky.uniform(0, SIDE, (2, 30)), 10 ** sky.uniform(3, 4.5, 30), MoffatPsf(fwhm, 3.5))
    variance = (4 + flux).astype(np.float32)
    flux += rng.normal(0, np.sqrt(variance))
    mask = np.zeros(flux.shape, np.uint16)
    mask[:empty] = MaskBit.NO_DATA
    return Image(flux.astype(np.float32), variance, mask, moffat(21, fwhm))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    """The templates that were prepared."""
    seen: list[Image] = []
    prepare = Zogy.prepare

    def counted(self: Zogy, template: Image, science_psf_side: int = 0):
        seen.append(template)
        return prepare(self, template, science_psf_side)

    monkeypatch.setattr(Zogy, "prepare", counted)
    _prepared.cache_clear()
    return seen


def assert_same(one: Difference, other: Difference) -> None:
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("empty", [0, 40])
def test_the_template_of_a_series_is_prepared_once_and_the_differences_are_the_same_to_the_last_bit(calls, empty):
    template = image(1, 2.5, empty=empty)  # with empty rows, what both images share is cut out
    epochs = [image(seed, 3.0) for seed in range(2, 6)]
    plain = [subtract_calibrated(Zogy(), science, template) for science in epochs]
    assert len(calls) >= len(epochs)
    calls.clear()
    shared = [subtract_calibrated(with_prepared(Zogy()), science, template) for science in epochs]
    assert len([one for one in calls if one.noise_correlation == 1]) == 1
    for (one, width), (other, same_width) in zip(plain, shared, strict=True):
        assert_same(one, other)
        assert width == same_width


def test_another_template_setting_or_psf_side_is_prepared_anew(calls):
    science, first, second = image(2, 3.0), image(1, 2.5), image(1, 2.5)
    method = with_prepared(Zogy())
    for template in (first, second, first):  # equal pixels elsewhere in memory are another template
        assert_same(method(science, template), Zogy()(science, template, Zogy().prepare(template, 21)))
    with_prepared(Zogy(flux_ratio=0.9))(science, first)
    wide = replace(science, psf=moffat(31, 3.0))
    assert_same(with_prepared(Zogy())(wide, first), Zogy()(wide, first))
    _prepared.cache_clear()
    calls.clear()
    for template in (first, second, first):
        method(science, template)
    assert len(calls) == 3  # one template is kept, not two


def test_a_method_that_prepares_nothing_is_left_as_it_is():
    method = Direct()
    assert with_prepared(method) is method
