from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.errors import CellSkipped
from astrid.image import Difference, Image
from astrid.schema import MaskBit
from astrid.simulation.injections import InjectionRecipe, Injections, inject, plan_injections
from astrid.simulation.seeds import seed_of
from astrid.simulation.stamps import perturb_psf, psf_flux_error, psf_fwhm, shift_psf, stamp_at


def gaussian(fwhm, side=25, dy=0.0, dx=0.0):
    sigma = fwhm / 2.3548
    y, x = np.mgrid[:side, :side] - side // 2
    psf = np.exp(-0.5 * ((y - dy) ** 2 + (x - dx) ** 2) / sigma**2)
    return (psf / psf.sum()).astype(np.float32)


def cell(ny, nx, fwhm=3.0, noise=2.0):
    flux = np.zeros((ny, nx), np.float32)
    variance = np.full((ny, nx), noise**2, np.float32)
    mask = np.zeros((ny, nx), np.uint16)
    science = Image(flux, variance, mask, gaussian(fwhm))
    return science, Difference(flux, variance, mask, gaussian(fwhm), flux)


def one(y, x, flux):
    value = [np.array([number], float) for number in (y, x, flux, 1.0, flux)]
    return Injections(*value, ("field",), np.zeros(1, np.int32), 1)


@given(seed=st.integers(0, 2**62), density=st.floats(0.2, 1.0))
@settings(max_examples=25, deadline=None)
def test_spacing_rules_hold_for_any_seed(seed, density):
    science, difference = cell(300, 333)
    known = np.array([[60.0, 60.0], [200.3, 150.2]])
    core = (20, 280, 22, 310)
    recipe = InjectionRecipe(density=density)
    planned = plan_injections(science, difference, seed=seed, core=core, avoid=known, recipe=recipe)
    assert len(planned) <= 16
    distance = np.hypot(np.subtract.outer(planned.y, planned.y), np.subtract.outer(planned.x, planned.x))
    np.fill_diagonal(distance, np.inf)
    assert distance.min(initial=np.inf) >= 10
    for y, x in known:
        assert np.hypot(planned.y - y, planned.x - x).min(initial=np.inf) >= 2 * 2.99
    rows = np.floor((planned.y + 0.5 - core[0]) / 65).astype(int)
    columns = np.floor((planned.x + 0.5 - core[2]) / 72).astype(int)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(planned)
    assert np.all((planned.y >= 20) & (planned.y <= 279) & (planned.x >= 22) & (planned.x <= 309))
    assert np.all((planned.snr >= 3) & (planned.snr <= 50))
    np.testing.assert_allclose(planned.flux, planned.snr * planned.flux_error)


@given(seed=st.integers(0, 2**62))
@settings(max_examples=25, deadline=None)
def test_a_small_stamp_gets_exactly_one_off_centre(seed):
    science, difference = cell(63, 63)
    planned = plan_injections(science, difference, seed=seed)
    assert len(planned) == 1
    assert np.hypot(planned.y[0] - 31, planned.x[0] - 31) > 10


def test_a_stamp_without_room_is_skipped_with_the_reason():
    with pytest.raises(CellSkipped, match="no room for an injection: core of 15 x 15 px"):
        plan_injections(*cell(15, 15), seed=1)


def test_full_density_fills_nearly_every_block_and_log_snr_is_uniform():
    planned = plan_injections(*cell(1024, 1024), seed=5)
    assert 250 <= len(planned) <= 256
    quantile = (np.log(planned.snr) - np.log(3)) / (np.log(50) - np.log(3))
    assert abs(quantile.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 256)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    science, difference = cell(256, 256)
    first, again, other = (plan_injections(science, difference, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.flux, again.flux)
    np.testing.assert_array_equal(first.y, again.y)
    assert not np.array_equal(first.y, other.y)


def test_snr_is_that_of_psf_flux_in_the_noise_of_the_difference():
    rng = np.random.default_rng(3)
    psf = gaussian(3.3)
    y, x = 30.3, 29.6
    sigma = (1.0 + 0.03 * np.arange(61))[:, None] * np.ones(61)
    stamp, place, inside = stamp_at(psf, y, x, (61, 61))
    weight = np.zeros((61, 61))
    weight[place] = stamp[inside]
    noise = rng.standard_normal((4000, 61, 61)).astype(np.float32) * sigma.astype(np.float32)
    measured = np.tensordot(noise, weight, 2) / np.sum(weight**2)
    expected = psf_flux_error((sigma**2).astype(np.float32), psf, y, x)
    assert measured.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * 4000))


def test_masked_pixels_do_not_enter_the_error_unless_they_are_most_of_the_psf():
    variance = np.full((61, 61), 4.0, np.float32)
    mask = np.zeros((61, 61), np.uint16)
    clean = psf_flux_error(variance, gaussian(3.0), 30, 30)
    assert clean == pytest.approx(2.0 / np.sqrt(np.sum(gaussian(3.0).astype(float) ** 2)), rel=1e-5)
    variance[31, 30], mask[31, 30] = 1e12, MaskBit.BAD
    assert clean < psf_flux_error(variance, gaussian(3.0), 30, 30, mask=mask) < 1.2 * clean
    mask[:] = MaskBit.BAD
    assert psf_flux_error(variance, gaussian(3.0), 30, 30, mask=mask) > 1e4


@given(y=st.floats(20, 40), x=st.floats(20, 40), fwhm=st.floats(2.5, 5.0))
@settings(max_examples=30, deadline=None)
def test_injected_flux_and_position_are_those_planned(y, x, fwhm):
    science, _ = cell(61, 61)
    out = inject(science, one(y, x, 1000.0), gaussian(fwhm), rng=np.random.default_rng(1))
    rows, columns = np.mgrid[:61, :61]
    total = out.flux.sum(dtype=float)
    assert total == pytest.approx(1000, rel=1e-3)
    assert np.sum(out.flux * rows) / total == pytest.approx(y, abs=0.01)
    assert np.sum(out.flux * columns) / total == pytest.approx(x, abs=0.01)
    truth = gaussian(fwhm, 25, y - np.rint(y), x - np.rint(x))
    top, left = int(np.rint(y)) - 12, int(np.rint(x)) - 12
    psf_flux = np.sum(out.flux[top : top + 25, left : left + 25] * truth) / np.sum(truth.astype(float) ** 2)
    assert psf_flux == pytest.approx(1000, rel=1e-3)
    assert out.variance is science.variance
    assert not science.flux.any()


@pytest.mark.parametrize(("fwhm", "largest"), [(2.0, 0.002), (2.5, 0.001), (4.0, 0.0001)])
def test_a_shifted_psf_is_the_psf_at_that_place(fwhm, largest):
    for dy, dx in [(0.5, 0.5), (0.37, -0.5), (0.0, 0.21)]:
        shifted = shift_psf(gaussian(fwhm), dy, dx)
        rows, columns = np.mgrid[:33, :33] - 16
        assert shifted.sum() == pytest.approx(1, abs=1e-6)
        assert np.sum(shifted * rows) == pytest.approx(dy, abs=1e-3)
        assert np.sum(shifted * columns) == pytest.approx(dx, abs=1e-3)
        truth = gaussian(fwhm, 33, dy, dx).astype(float)
        assert np.sum(shifted * truth) / np.sum(truth**2) == pytest.approx(1, abs=largest)


def test_a_transient_brings_its_own_photon_noise():
    science, _ = cell(61, 61)
    slope, flux = 0.5, 2000.0
    rng = np.random.default_rng(4)
    plain = inject(science, one(30, 30, flux), science.psf, rng=rng)
    noisy = [inject(science, one(30, 30, flux), science.psf, rng=rng, variance_per_flux=slope) for _ in range(400)]
    pulls = np.array([(out.flux - plain.flux)[30, 30] for out in noisy])
    added = (noisy[0].variance - science.variance)[30, 30]
    assert added == pytest.approx(slope * flux * science.psf.max(), rel=1e-3)
    assert pulls.var() == pytest.approx(added, rel=4 * np.sqrt(2 / 400))
    assert abs(pulls.mean()) < 4 * np.sqrt(added / 400)


def test_only_pixels_pushed_over_the_level_become_saturated():
    science, _ = cell(61, 61)
    science.flux[5, 5] = 900.0
    out = inject(science, one(30, 30, 5000.0), science.psf, rng=np.random.default_rng(1), saturation=300.0)
    assert out.mask[30, 30] == MaskBit.SATURATED
    assert out.mask[5, 5] == 0
    assert out.mask[20, 20] == 0
    assert not science.mask.any()


def test_no_injection_lands_where_there_is_no_data_and_mask_bits_are_told():
    science, difference = cell(192, 192)
    science.mask[:, 96:] = MaskBit.NO_DATA
    difference = replace(difference, mask=np.full_like(science.mask, MaskBit.TEMPLATE))
    planned = plan_injections(science, difference, seed=2)
    assert len(planned) > 3
    assert planned.x.max() < 96
    assert np.all(planned.mask_bits == MaskBit.TEMPLATE)


def scene(rng, galaxies, stars):
    science, difference = cell(256, 256, fwhm=3.0, noise=1.0)
    rows, columns = np.mgrid[:256, :256]
    flux = rng.standard_normal((256, 256))
    for y, x in galaxies:
        s = 3.5
        flux += 6000 / (2 * np.pi * s * s) * np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / s**2)
    for y, x in stars:
        s = 3.0 / 2.3548
        flux += 6000 / (2 * np.pi * s * s) * np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / s**2)
    science = replace(science, flux=flux.astype(np.float32))
    return science, difference


def test_injections_on_galaxies_lie_within_the_half_light_radius():
    galaxies = np.array([(40, 50), (100, 180), (200, 90)])
    science, difference = scene(np.random.default_rng(6), galaxies, [])
    planned = plan_injections(science, difference, seed=8, recipe=InjectionRecipe(host_fraction=1.0))
    hosted = np.array(planned.host) == "galaxy"
    assert hosted.sum() == 3
    away = np.hypot(planned.y[hosted, None] - galaxies[:, 0], planned.x[hosted, None] - galaxies[:, 1]).min(axis=1)
    assert away.max() < 1.2 * 3.5 * 1.18
    none = plan_injections(*cell(256, 256), seed=8, recipe=InjectionRecipe(host_fraction=1.0))
    assert set(none.host) == {"field"}


def test_a_perturbed_psf_has_the_width_scatter_asked_for():
    psf = gaussian(3.0)
    drawn = [perturb_psf(psf, 0.05, np.random.default_rng(s)) for s in range(300)]
    assert all(p.sum() == pytest.approx(1, abs=1e-5) for p in drawn)
    widths = np.array([psf_fwhm(p) for p in drawn])
    assert widths.std() / 3.0 == pytest.approx(0.05, rel=0.2)
    assert widths.mean() == pytest.approx(3.0, rel=0.01)
    np.testing.assert_allclose(perturb_psf(psf, 0.0, np.random.default_rng(1)), psf, rtol=1e-5)


def test_seeds_depend_on_every_word_and_nothing_else():
    assert seed_of(7, "injections", 3, "r") == seed_of(7, "injections", np.int64(3), "r")
    others = [(8, "injections", 3, "r"), (7, "injection", 3, "r"), (7, "injections", 3), (7, "injections", "3", "r")]
    seeds = {seed_of(*key) for key in [*others, (7, "injections", 3, "r"), (7, "injections3", "r")]}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, "a") == 294328509404019414


@pytest.mark.parametrize(
    "wrong", [{"snr_min": 0.0}, {"snr_max": 1.0}, {"density": 0.0}, {"host_fraction": 1.5}, {"block": 0}]
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InjectionRecipe(**wrong)


def test_images_and_cores_that_do_not_fit_are_refused():
    science, difference = cell(64, 64)
    with pytest.raises(ValueError, match="does not lie in an image"):
        plan_injections(science, difference, seed=1, core=(0, 65, 0, 64))
    with pytest.raises(ValueError, match="but difference is"):
        plan_injections(science, cell(64, 65)[1], seed=1)
