import dataclasses

import numpy as np
import pytest

from astrid.simulation import field, sky
from astrid.simulation.artefacts import Defects, make_defects
from astrid.simulation.psf import MoffatPsf
from astrid.simulation.transients import Transient

CAMERA = sky.Camera(
    shape=(200, 240),
    pixel_scale=0.5,
    exposure_time=60.0,
    zero_point=25.0,
    gain=2.0,
    read_noise=5.0,
    saturation=40000.0,
)
CONDITIONS = sky.Conditions(
    mjd=60000.0,
    psf=MoffatPsf(2.5),
    sky=200.0,
    sky_slope=(0.0, 0.0),
    transparency=0.9,
    ra=150.0,
    dec=2.0,
    rotation=0.3,
    pointing_error=(0.0, 0.0),
)
NO_DEFECTS = Defects(np.ones(CAMERA.shape), np.zeros(CAMERA.shape))
NOTHING = np.zeros(CAMERA.shape)


def expose(seed=0, **changes):
    arguments = {
        "static": sky.expected_sky(CAMERA, CONDITIONS),
        "transient": NOTHING,
        "defects": NO_DEFECTS,
    } | changes
    return sky.expose(np.random.default_rng(seed), CAMERA, CONDITIONS, **arguments)


def test_noise_follows_gain_read_noise_and_sky():
    image = expose().astype(float)
    expected = 200 / 2.0 + (5.0 / 2.0) ** 2
    assert image.mean() == pytest.approx(200, abs=5 * np.sqrt(expected / image.size))
    assert image.var() == pytest.approx(expected, rel=0.03)


def test_noise_of_neighbouring_pixels_is_independent():
    image = expose().astype(float) - 200
    correlation = (image[:, 1:] * image[:, :-1]).mean() / image.var()
    assert abs(correlation) < 0.02


def test_an_exposure_without_noise_is_its_expectation():
    assert np.allclose(expose(noise=False), 200.0)


def test_flux_put_in_comes_out_of_the_pixels():
    wcs = sky.field_wcs(150.0, 2.0, CAMERA.shape, 0.5, rotation=0.3)
    ra, dec = wcs.pixel_to_world_values(100.3, 80.6)
    stars = field.Stars(np.array([ra]), np.array([dec]), np.array([[3.63e5]]))  # 17.5 mag
    plane = sky.field_wcs(150.0, 2.0, CAMERA.shape, 0.5)
    none = field.make_galaxies(np.random.default_rng(0), plane, 0, brightest=18, faintest=20, n_bands=1, margin=0)
    image = expose(
        static=sky.expected_sky(CAMERA, CONDITIONS) + sky.expected_sources(CAMERA, CONDITIONS, stars, none, band=0)
    )
    rows, columns = np.indices(image.shape)
    inside = np.hypot(rows - 80.6, columns - 100.3) < 12
    counts = (image[inside] - 200.0).sum()
    expected = 3.63e5 * 10 ** (-0.4 * (31.4 - 25.0)) * 60 * 0.9
    assert counts == pytest.approx(expected, rel=0.005)
    weight = sky.expected_sources(CAMERA, CONDITIONS, stars, none, band=0)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(100.3, abs=0.02)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(80.6, abs=0.02)


def test_a_transient_appears_at_its_place_with_the_flux_of_its_light_curve():
    event = Transient("a", "supernova", 150.0, 2.0, 60000.0, 2.0, 10.0, (1000.0, 4000.0))
    image = sky.expected_transients(CAMERA, CONDITIONS, [event], band=1)
    expected = CAMERA.electrons(np.array(4000.0), 0.9)
    assert image.sum() == pytest.approx(float(expected), rel=5e-3)
    rows = np.indices(image.shape)[0]
    assert (image * rows).sum() / image.sum() == pytest.approx(99.5, abs=0.01)
    later = dataclasses.replace(CONDITIONS, mjd=60010.0)
    faded = sky.expected_transients(CAMERA, later, [event], band=1)
    assert faded.sum() / image.sum() == pytest.approx(event.flux_at(60010.0, 1) / 4000.0, rel=5e-3)


def test_saturated_pixels_hold_the_saturation_level_exactly():
    static = sky.expected_sky(CAMERA, CONDITIONS)
    static[100, 100] += 3e5
    image = expose(static=static)
    assert image.max() == 40000.0
    assert (image[:, 100] == 40000.0).sum() == 3
    assert (np.delete(image, 100, axis=1) < 1000).all()


def test_switching_an_artefact_on_leaves_the_other_pixels_as_they_were():
    plain = expose(3)
    hit = expose(3, cosmic_ray_count=4.0)
    changed = plain != hit
    assert 0 < changed.sum() < 200
    assert (hit[changed] > plain[changed]).all()
    trail = expose(3, trail_probability=1.0)
    assert 0 < (trail != plain).mean() < 0.3
    defects = make_defects(np.random.default_rng(1), CAMERA.shape, bad_columns=0, hot_pixels=9)
    assert (expose(3, defects=defects) != plain).sum() == 9


def test_dead_columns_see_less_sky():
    defects = make_defects(np.random.default_rng(1), CAMERA.shape, bad_columns=1, hot_pixels=0)
    column = int(np.argmin(defects.sensitivity.min(axis=0)))
    image = expose(defects=defects)
    assert np.median(image[-50:, column]) < 0.7 * np.median(image)


def test_star_counts_are_a_power_law():
    magnitudes = field.draw_magnitudes(np.random.default_rng(0), 40000, slope=0.3, brightest=14, faintest=24)
    assert magnitudes.min() >= 14
    assert magnitudes.max() <= 24
    ratio = (magnitudes < 23).sum() / (magnitudes < 21).sum()
    assert ratio == pytest.approx(10 ** (0.3 * 2), rel=0.05)


def test_wrong_counts_are_refused():
    with pytest.raises(ValueError, match="slope > 0"):
        field.draw_magnitudes(np.random.default_rng(0), 3, slope=0.0, brightest=14, faintest=24)


def test_transients_keep_apart_and_off_the_edges():
    plane = sky.field_wcs(150.0, 2.0, (300, 300), 0.5)
    rng = np.random.default_rng(0)
    stars = field.make_stars(rng, plane, 300, slope=0.3, brightest=14, faintest=22, n_bands=1, margin=10)
    galaxies = field.make_galaxies(rng, plane, 30, brightest=18, faintest=22, n_bands=1, margin=10)
    places, hosted = field.place_transients(rng, plane, 6, stars=stars, galaxies=galaxies, margin=20)
    assert len(places) == 6
    ra, dec = np.concatenate([places, hosted]).T
    x, y = plane.world_to_pixel_values(ra, dec)
    assert min(x.min(), y.min()) >= 20 - 1e-6
    assert max(x.max(), y.max()) <= 279 + 1e-6
    distance = np.hypot(y[:, None] - y, x[:, None] - x) + 1000 * np.eye(len(x))
    assert distance.min() > 24.9


def test_too_many_transients_are_refused():
    plane = sky.field_wcs(150.0, 2.0, (100, 100), 0.5)
    rng = np.random.default_rng(0)
    stars = field.make_stars(rng, plane, 0, slope=0.3, brightest=14, faintest=22, n_bands=1, margin=0)
    galaxies = field.make_galaxies(rng, plane, 0, brightest=18, faintest=22, n_bands=1, margin=0)
    with pytest.raises(ValueError, match="no room for 50 transients"):
        field.place_transients(rng, plane, 50, stars=stars, galaxies=galaxies, margin=20)
