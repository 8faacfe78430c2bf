import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.simulation.artefacts import bleed, cosmic_rays, make_defects, satellite_trail


@given(charge=st.floats(0, 5000), row=st.integers(15, 25))
def test_bleeding_keeps_the_charge_in_its_column(charge, row):
    image = np.full((41, 5), 10.0)
    image[row, 2] = charge
    result = bleed(image, 500.0)
    assert result.max() <= 500.0
    assert result.sum() == pytest.approx(image.sum())
    assert (result[:, [0, 1, 3, 4]] == 10).all()


def test_bleeding_goes_up_and_down_alike():
    image = np.zeros((41, 3))
    image[20, 1] = 2100.0
    full = np.flatnonzero(bleed(image, 500.0)[:, 1] == 500.0)
    assert full.tolist() == [19, 20, 21]


def test_an_image_below_the_full_well_does_not_bleed():
    image = np.random.default_rng(1).uniform(0, 400, (20, 20))
    assert (bleed(image, 500.0) == image).all()


def test_charge_that_reaches_the_edge_is_lost():
    image = np.zeros((5, 1))
    image[0, 0] = 1e6
    assert (bleed(image, 500.0) == 500.0).all()


def test_cosmic_rays_are_sharp_tracks_of_the_expected_number():
    rng = np.random.default_rng(5)
    hits = [np.count_nonzero(cosmic_rays(rng, (200, 200), count=10)) for _ in range(30)]
    assert 20 < np.mean(hits) < 120
    assert cosmic_rays(rng, (50, 50), count=0).sum() == 0


def test_defects_are_as_many_as_asked():
    defects = make_defects(np.random.default_rng(2), (60, 80), bad_columns=3, hot_pixels=7)
    dead = (defects.sensitivity < 1).any(axis=0)
    bright = (defects.dark > 0).sum(axis=0) > 20
    assert dead.sum() == 2
    assert bright.sum() == 1
    alone = make_defects(np.random.default_rng(2), (60, 80), bad_columns=0, hot_pixels=7)
    assert np.count_nonzero(alone.dark) == 7
    assert (alone.sensitivity == 1).all()


def test_a_trail_crosses_the_image_with_its_width():
    trail = satellite_trail(np.random.default_rng(7), (100, 120), fwhm=3.0, brightness=50.0)
    assert trail.max() == pytest.approx(50.0, rel=0.05)
    bright = trail > 25
    edges = [bright[0], bright[-1], bright[:, 0], bright[:, -1]]
    assert sum(bool(edge.any()) for edge in edges) == 2
    length = np.ptp(np.argwhere(bright), axis=0)
    assert 2 < bright.sum() / np.hypot(*length) < 5
