import numpy as np
import pytest

from astrid.simulation.psf import MoffatPsf, add_points
from astrid.subtraction.field import surface
from astrid.subtraction.residual import PRIORS, STARS_PER_ORDER, ResidualKernel, derivatives, fit_residual_kernel

SIDE = 400


def sky(psf_of, n=120, seed=1, places=None):
    """Stars whose PSF is that of their place; where they are, and their fluxes."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(20, SIDE - 20, (2, n)) if places is None else places[:2]
    flux = 10 ** rng.uniform(4, 5.5, n) if places is None else places[2]
    image = np.zeros((SIDE, SIDE))
    for i in range(len(y)):
        add_points(image, y[i : i + 1], x[i : i + 1], flux[i : i + 1], psf_of(y[i], x[i]))
    return image.astype(np.float32), (y, x, flux)


def fitted(science, template, places, noise=1.0, keep=slice(None)):
    y, x = (np.rint(v).astype(np.intp)[keep] for v in places[:2])
    usable = np.ones(science.shape, bool)
    variance = np.full(science.shape, noise**2, np.float32)
    return fit_residual_kernel(science - template, template, variance, usable, y, x)


def test_a_psf_that_varies_over_the_field_leaves_a_tenth():
    template, places = sky(lambda y, x: MoffatPsf(4.0, 3.0))
    science, _ = sky(
        lambda y, x: MoffatPsf(4.0 * (1 + 0.1 * (x / SIDE - 0.5)), 3.0, 0.04 * y / SIDE, 40.0), places=places
    )
    kernel = fitted(science, template, places)
    assert kernel.order == 2
    assert kernel.n_stars > 100
    left = science - template - kernel.applied(template)
    assert np.sqrt(np.mean(left**2)) < 0.12 * np.sqrt(np.mean((science - template) ** 2))


def test_a_displacement_and_a_scale_are_found():
    template, places = sky(lambda y, x: MoffatPsf(4.0, 3.0))
    moved = places[0] + 0.05, places[1] - 0.03, places[2] * 1.01
    science, _ = sky(lambda y, x: MoffatPsf(4.0, 3.0), places=moved)
    weights = fitted(science, template, places).weights[:, 0]
    assert weights[0] == pytest.approx(0.01, abs=0.002)
    assert weights[1] == pytest.approx(-0.05, abs=0.005)
    assert weights[2] == pytest.approx(0.03, abs=0.005)


def test_a_varying_star_does_not_decide_and_is_not_taken_away():
    template, places = sky(lambda y, x: MoffatPsf(4.0, 3.0), n=40)
    changed = places[2].copy()
    changed[3] *= 1.5
    science, _ = sky(lambda y, x: MoffatPsf(4.0, 3.0), places=(*places[:2], changed))
    kernel = fitted(science, template, places)
    assert kernel.n_stars == 39
    left = science - template - kernel.applied(template)
    assert left.max() == pytest.approx((science - template).max(), rel=0.02)


@pytest.mark.parametrize(("n", "order"), [(4, None), (5, 0), (19, 0), (20, 1), (59, 1), (60, 2)])
def test_polynomials_have_as_high_an_order_as_there_are_stars_for(n, order):
    template, places = sky(lambda y, x: MoffatPsf(4.0, 3.0))
    kernel = fitted(template * np.float32(1.01), template, places, keep=slice(n))
    assert (kernel.order if kernel else None) == order
    assert STARS_PER_ORDER == (5, 20, 60)


def test_derivatives_are_those_of_a_parabola():
    y, x = np.indices((12, 12)).astype(np.float32)
    parts = list(derivatives(3 * y**2 + x**2 + 2 * y * x + y))
    inner = np.s_[3:-3, 3:-3]
    assert np.allclose(parts[1][inner], (6 * y + 2 * x + 1)[inner])
    assert np.allclose(parts[2][inner], (2 * x + 2 * y)[inner])
    assert np.allclose(parts[3][inner], 8)
    assert np.allclose(parts[4][inner], 4)
    assert np.allclose(parts[5][inner], 2)
    assert np.allclose(parts[6][inner], 0)


def test_what_is_taken_away_is_made_of_the_derivatives_up_to_the_edges():
    rng = np.random.default_rng(4)
    image, other = rng.normal(size=(2, 90, 70)).astype(np.float32)
    kernel = ResidualKernel(rng.normal(size=(len(PRIORS), 6)), 2, image.shape, 1)
    expected = sum(
        surface(one, 2, image.shape) * part for one, part in zip(kernel.weights, derivatives(image), strict=True)
    )
    found = other.copy()
    kernel.take_away((found, image), (np.zeros_like(other), other))
    np.testing.assert_allclose(found, other - expected, atol=1e-4)
    np.testing.assert_allclose(kernel.applied(image), expected, atol=1e-4)
