from dataclasses import replace

import numpy as np
import pytest

from astrid.image import Image
from astrid.schema import MaskBit
from astrid.simulation.hosts import find_galaxies

FWHM = 3.0


def gaussian(fwhm, side=25):
    y, x = np.mgrid[:side, :side] - side // 2
    psf = np.exp(-0.5 * (y**2 + x**2) * (2.3548 / fwhm) ** 2)
    return (psf / psf.sum()).astype(np.float32)


def sky(sources, side=256, seed=6, noise=1.0):
    rows, columns = np.mgrid[:side, :side]
    flux = np.random.default_rng(seed).normal(0, noise, (side, side))
    for y, x, total, sigma in sources:
        flux += total / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / sigma**2)
    variance = np.full((side, side), noise**2, np.float32)
    return Image(flux.astype(np.float32), variance, np.zeros((side, side), np.uint16), gaussian(FWHM))


GALAXIES = [(40, 50, 6000, 3.5), (100.4, 180.2, 6000, 3.5), (200, 90, 6000, 3.5)]
STARS = [(60, 200, 6000, FWHM / 2.3548), (150, 30, 6000, FWHM / 2.3548), (220, 220.5, 90000, FWHM / 2.3548)]


def test_galaxies_are_found_with_their_half_light_radius_and_stars_are_not():
    found = find_galaxies(sky(GALAXIES + STARS))
    assert len(found) == 3
    np.testing.assert_allclose(sorted(found[:, 0]), [40, 100.4, 200], atol=0.3)
    np.testing.assert_allclose(found[:, 2], 3.5 * 1.177, rtol=0.1)


def test_few_stars_of_a_rich_field_are_taken_for_galaxies():
    rng = np.random.default_rng(2)
    stars = [(*rng.uniform(8, 248, 2), total, FWHM / 2.3548) for total in 10 ** rng.uniform(2.5, 4.5, 150)]
    assert len(find_galaxies(sky(stars))) <= 12


def test_a_saturated_star_is_no_galaxy():
    image = sky(GALAXIES)
    image.mask[98:103, 178:183] = MaskBit.SATURATED
    np.testing.assert_allclose(sorted(find_galaxies(image)[:, 0]), [40, 200], atol=0.3)


def test_an_empty_image_has_no_galaxies():
    assert find_galaxies(sky([])).shape == (0, 5)


@pytest.mark.parametrize("brightness", [5.0, 500.0])
def test_a_nebula_that_fills_the_image_is_no_trouble(brightness):
    image = sky([], side=700)
    rows, columns = np.mgrid[:700, :700] - 350
    nebula = (
        brightness * np.exp(-0.5 * (rows**2 + columns**2) / 300**2) * (1 + 0.3 * np.sin(rows / 5) * np.sin(columns / 5))
    )
    found = find_galaxies(replace(image, flux=(image.flux + nebula).astype(np.float32)))
    assert np.all(np.isfinite(found))
