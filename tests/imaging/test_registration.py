import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.errors import AlgorithmError
from astrid.imaging.registration import register
from astrid.imaging.stars import StarList


def star_list(y: np.ndarray, x: np.ndarray, flux: np.ndarray) -> StarList:
    order = np.argsort(-flux)
    n = len(y)
    return StarList(
        y[order],
        x[order],
        flux[order],
        np.full(n, 10.0),
        np.full(n, 2.4),
        np.full(n, 1.1),
        flux[order] / 6,
        np.ones(n, bool),
    )


def pair(
    seed: int, *, n: int = 200, shift=(0.0, 0.0), angle: float = 0.0, noise: float = 0.03
) -> tuple[StarList, StarList]:
    """An exposure and its reference: four stars in five are common, each has some of its own."""
    rng = np.random.default_rng(seed)
    y, x, flux = rng.uniform(0, 500, n), rng.uniform(0, 650, n), 10 ** rng.uniform(2, 5, n)
    v, u = y - 250, x - 325
    moved_y = 250 + shift[0] + v * np.cos(angle) - u * np.sin(angle) + rng.normal(0, noise, n)
    moved_x = 325 + shift[1] + v * np.sin(angle) + u * np.cos(angle) + rng.normal(0, noise, n)
    own = rng.random(n) < 0.2
    moved_y[own], moved_x[own] = rng.uniform(0, 500, own.sum()), rng.uniform(0, 650, own.sum())
    return star_list(moved_y, moved_x, flux * rng.normal(1, 0.05, n)), star_list(y, x, flux)


@settings(max_examples=15)
@given(dy=st.floats(-60, 60), dx=st.floats(-60, 60), angle=st.floats(-0.01, 0.01), seed=st.integers(0, 50))
def test_a_drift_is_found_from_the_star_pattern(dy, dx, angle, seed):
    stars, reference = pair(seed, shift=(dy, dx), angle=angle)
    found = register(stars, reference, None)
    y, x = found(np.array([100.0, 400.0]), np.array([100.0, 550.0]))
    v, u = np.array([-150.0, 150.0]), np.array([-225.0, 225.0])
    np.testing.assert_allclose(y, 250 + dy + v * np.cos(angle) - u * np.sin(angle), atol=0.05)
    np.testing.assert_allclose(x, 325 + dx + v * np.sin(angle) + u * np.cos(angle), atol=0.05)


def test_a_large_rotation_is_found_from_the_star_pattern():
    stars, reference = pair(7, shift=(12, -30), angle=0.6)
    y, x = register(stars, reference, None)(np.array([250.0]), np.array([325.0]))
    np.testing.assert_allclose([y[0], x[0]], [262, 295], atol=0.05)


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_the_rms_of_held_out_stars_is_the_centroid_error(noise):
    stars, reference = pair(3, n=400, shift=(3, 4), noise=noise)
    assert register(stars, reference, None).rms == pytest.approx(noise, rel=0.15)


def test_an_offset_wcs_is_corrected():
    stars, reference = pair(4, shift=(6.3, -7.7))
    y, x = register(stars, reference, lambda y, x: (y, x))(np.array([250.0]), np.array([325.0]))
    np.testing.assert_allclose([y[0], x[0]], [256.3, 317.3], atol=0.02)


def test_with_few_stars_the_wcs_is_used_as_it_is_and_no_rms_is_claimed():
    stars, reference = pair(5, n=4)
    found = register(stars, reference, lambda y, x: (y + 1, x))
    assert found(np.array([10.0]), np.array([20.0])) == (11, 20)
    assert np.isnan(found.rms)


def test_another_field_is_refused_with_the_numbers():
    stars, _ = pair(8)
    _, reference = pair(9)
    with pytest.raises(AlgorithmError, match=r"\d+"):
        register(stars, reference, None)
