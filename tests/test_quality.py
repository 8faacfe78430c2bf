from dataclasses import replace

import numpy as np
import pytest

from astrid.imaging.photometry import equivalent_fwhm
from astrid.subtraction.calibration import subtract_calibrated
from astrid.subtraction.direct import Direct
from astrid.subtraction.zogy import Zogy
from benchmarks.quality.measures import judge, measure, with_measured_psf
from benchmarks.quality.scenes import VARIANTS, make_scene


@pytest.fixture(scope="module")
def scene():
    return make_scene(replace(VARIANTS["base"], variation=0.0), 3, side=512)


def test_the_best_statistic_is_reached_with_the_true_psfs_and_not_without_a_psf(scene):
    best = judge(scene, subtract_calibrated(Zogy(), scene.science, scene.template)[0], 1.0)
    assert best.width == pytest.approx(1.0, abs=0.04)
    assert best.efficiency == pytest.approx(1.0, abs=0.04)
    assert best.completeness > 0.85
    plain = judge(scene, subtract_calibrated(Direct(), scene.science, scene.template)[0], 1.0)
    assert plain.star_95 > 5 * best.star_95  # what a difference of unlike PSFs leaves
    assert plain.false_negative > best.false_negative


def test_the_psf_of_a_field_of_galaxies_is_that_of_its_stars(scene):
    measured = with_measured_psf(scene.science)
    assert equivalent_fwhm(measured.psf) == pytest.approx(equivalent_fwhm(scene.science.psf), rel=0.03)
    quality = measure(scene, Zogy())
    assert abs(quality.flux_bias) < 0.06
    assert quality.efficiency > 0.95


def test_a_damaged_scene_has_what_it_says():
    damaged = make_scene(VARIANTS["nan"], 1, side=256)
    assert np.isnan(damaged.science.flux).any()
    assert (damaged.science.mask[np.isnan(damaged.science.flux)] != 0).all()
