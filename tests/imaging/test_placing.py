import numpy as np
import pytest

from astrid.imaging.photometry import shifted_psfs
from astrid.imaging.placing import placed
from astrid.simulation.psf import MoffatPsf

PSF = MoffatPsf(3.0, 3.5, 0.1, 0.4)
STAMP = PSF.image((31, 31)).astype(np.float64)


def test_a_psf_is_where_it_is_placed_in_windows_of_any_size():
    y, x = np.array([0.3, -4.7, 2.0]), np.array([-0.2, 1.4, 6.1])
    for half in (4, 12, 20):
        images = placed(STAMP, y, x, half)[:, 0]
        whole = np.zeros((3, 81, 81))
        for image, at_y, at_x in zip(whole, np.rint(y).astype(int), np.rint(x).astype(int), strict=True):
            image[25 + at_y : 56 + at_y, 25 + at_x : 56 + at_x] = STAMP
        moved = np.stack(
            [shifted_psfs(i, *(p[None] - np.rint(p) for p in (v, u)))[0] for i, v, u in zip(whole, y, x, strict=True)]
        )
        near = slice(40 - half, 41 + half)
        assert np.abs(images - moved[:, near, near]).max() < 1e-4 * STAMP.max()


def test_slopes_are_the_changes_with_the_place():
    rng = np.random.default_rng(1)
    y, x = rng.uniform(-3, 3, (2, 20))
    y[0] = x[0] = 0.0
    step = 1e-4
    found = placed(STAMP, y, x, 8)
    by_y = (placed(STAMP, y + step, x, 8)[:, 0] - placed(STAMP, y - step, x, 8)[:, 0]) / (2 * step)
    by_x = (placed(STAMP, y, x + step, 8)[:, 0] - placed(STAMP, y, x - step, 8)[:, 0]) / (2 * step)
    np.testing.assert_allclose(found[:, 1], by_y, atol=1e-7)
    np.testing.assert_allclose(found[:, 2], by_x, atol=1e-7)


@pytest.mark.parametrize("half", [3, 9])
def test_each_place_may_have_a_psf_of_its_own(half):
    y, x = np.array([0.2, -0.4]), np.array([0.1, 0.3])
    other = MoffatPsf(4.0, 3.0).image((31, 31)).astype(np.float64)
    found = placed(np.stack([STAMP, other]), y, x, half)
    np.testing.assert_allclose(found[0], placed(STAMP, y[:1], x[:1], half)[0], atol=1e-12)
    np.testing.assert_allclose(found[1], placed(other, y[1:], x[1:], half)[0], atol=1e-12)
