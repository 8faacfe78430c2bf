from dataclasses import replace

import numpy as np
import pytest

from astrid.detection.centring import centred
from astrid.detection.features import measure_candidates
from astrid.detection.matched_filter import MatchedFilter
from astrid.image import Difference
from astrid.schema import MaskBit
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.subtraction.zogy import Zogy
from benchmarks.quality.scenes import VARIANTS, make_scene

SIDE = 64
PSF = MoffatPsf(3.0, 3.0, 0.1, 30.0)


def difference_of(y, x, flux=1000.0, background=0.0):
    image = np.zeros((SIDE, SIDE))
    add_points(image, np.array([y]), np.array([x]), np.array([flux]), PSF)
    image = (image + background).astype(np.float32)
    zero, one = np.zeros((SIDE, SIDE), np.uint16), np.ones((SIDE, SIDE), np.float32)
    return Difference(image, one, zero, PSF.image((25, 25)), image)


@pytest.mark.parametrize("flux", [1000.0, -1000.0])
@pytest.mark.parametrize(("y", "x"), [(30.2, 31.4), (30.5, 31.5), (2.3, 61.8)])
def test_a_point_is_found_where_it_is_from_half_a_pixel_away(flux, y, x):
    difference = difference_of(y, x, flux)
    at = centred(difference, np.array([y + 0.4]), np.array([x - 0.4]))
    assert np.abs(np.array(at)[:, 0] - (y, x)).max() < 0.02


def test_masked_pixels_do_not_count():
    difference = difference_of(30.2, 31.4)
    difference.flux[31, 32], difference.mask[31, 32] = 1e5, MaskBit.COSMIC_RAY
    y, x = centred(difference, np.array([30.0]), np.array([31.6]))
    assert np.hypot(y[0] - 30.2, x[0] - 31.4) < 0.02


def test_what_is_no_source_stays_where_it_was():
    empty = difference_of(30.0, 30.0, 0.0)
    masked = replace(difference_of(30.2, 31.4), mask=np.full((SIDE, SIDE), MaskBit.BAD, np.uint16))
    for difference in (empty, masked):
        y, x = centred(difference, np.array([30.0]), np.array([30.2]))
        assert (y[0], x[0]) == (30.0, 30.2)
    assert [len(one) for one in centred(empty, np.empty(0), np.empty(0))] == [0, 0]


@pytest.fixture(scope="module")
def pulls():
    """Pulls of positions and fluxes of injected transients that were detected, by their S/N."""
    rows = []
    for seed in (1, 2, 3):
        scene = make_scene(VARIANTS["base"], seed, 768)
        difference = Zogy()(scene.science, scene.template)
        found = measure_candidates(difference, scene.science, scene.template, MatchedFilter(deblend=False)(difference))
        distance = np.hypot(scene.y[:, None] - found["y"], scene.x[:, None] - found["x"])
        for i in np.flatnonzero((distance.min(axis=1) < 2) & (scene.best_snr >= 6)):
            one = {name: values[distance[i].argmin()] for name, values in found.items()}
            rows.append(
                (
                    scene.best_snr[i],
                    (one["y"] - scene.y[i]) / one["y_error"],
                    (one["x"] - scene.x[i]) / one["x_error"],
                    (one["flux"] - scene.flux[i]) / one["flux_error"],
                )
            )
    return np.array(rows)


def width_of(pulls):
    low, high = np.percentile(pulls, (15.87, 84.13))
    return (high - low) / 2


def test_errors_of_positions_and_fluxes_are_what_they_say(pulls):
    assert len(pulls) > 200
    assert width_of(pulls[:, 1:3]) == pytest.approx(1, abs=0.1)
    assert width_of(pulls[:, 3]) == pytest.approx(1, abs=0.1)
    assert np.abs(np.median(pulls[:, 1:], axis=0)).max() < 0.3
    bright = pulls[pulls[:, 0] > 20]
    assert width_of(bright[:, 1:3]) == pytest.approx(1, abs=0.2)
    assert np.abs(bright[:, 1:3]).max() < 5
