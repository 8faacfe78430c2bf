import numpy as np

from astrid.imaging.badpixels import bad_pixel_map, find_suspects
from astrid.simulation.psf import MoffatPsf, add_points

SHAPE = (200, 220)
SIGMA = np.ones(SHAPE, np.float32)
NOTHING = np.zeros(SHAPE, bool)


def field(seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Stars in white and photon noise, and their PSF."""
    rng = np.random.default_rng(seed)
    psf = MoffatPsf(2.4, 3.5, 0.0, 0.0)
    flux = np.zeros(SHAPE)
    add_points(flux, rng.uniform(0, SHAPE[0], n), rng.uniform(0, SHAPE[1], n), 10 ** rng.uniform(1.5, 4, n), psf)
    flux += rng.normal(0, 1, SHAPE) * np.sqrt(1 + flux / 20)
    return flux.astype(np.float32), psf.image((25, 25))


def test_hot_and_dead_pixels_are_suspects_and_stars_are_not():
    flux, psf = field(4)
    assert (
        len(find_suspects(flux, SIGMA, NOTHING, psf=psf)) <= 60
    )  # blends and photon noise, of the 5000 pixels that stars cover
    places = [(20, 20), (100, 7), (150, 210)]
    for (row, column), value in zip(places, (50, 300, -40), strict=True):
        flux[row - 1 : row + 2, column - 1 : column + 2] = 0
        flux[row, column] = value
    found = {tuple(place) for place in find_suspects(flux, SIGMA, NOTHING, psf=psf).tolist()}
    assert set(places) <= found


def test_masked_pixels_are_no_suspects():
    flux, psf = field(5, n=0)
    mask = NOTHING.copy()
    flux[30, 40], mask[30, 40] = 500, True
    assert [30, 40] not in find_suspects(flux, SIGMA, mask, psf=psf).tolist()


def test_a_pixel_that_is_suspect_in_most_exposures_is_bad_and_chance_ones_are_not():
    rng = np.random.default_rng(5)
    hot = rng.integers(0, 200, (100, 2)).astype(np.int16)
    suspects = [
        np.concatenate([hot[rng.random(100) < 0.8], rng.integers(0, 200, (40, 2)).astype(np.int16)]) for _ in range(20)
    ]
    bad = bad_pixel_map(suspects, SHAPE)
    truth = np.zeros(SHAPE, bool)
    truth[tuple(hot.T)] = True
    assert np.mean(bad[truth]) > 0.98
    assert not (bad & ~truth).any()


def test_two_exposures_are_too_few_for_a_map():
    place = np.array([[3, 4]], np.int16)
    assert not bad_pixel_map([place, place], SHAPE).any()


def test_exposures_without_suspects_have_no_bad_pixels():
    assert not bad_pixel_map([np.empty((0, 2), np.int16)] * 5, SHAPE).any()
