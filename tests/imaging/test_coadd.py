import numpy as np
import pytest

from astrid.errors import CellSkipped
from astrid.image import Image
from astrid.imaging.coadd import Coadd, EpochQuality, coadd, without
from astrid.schema import MaskBit

PSF = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).astype(np.float32)


def images(n: int, *, sigma: float = 2.0, seed: int = 0) -> list[Image]:
    sky = np.random.default_rng(99).uniform(0, 500, (40, 50))
    rng = np.random.default_rng(seed)
    return [
        Image(
            (sky + rng.normal(0, sigma, sky.shape)).astype(np.float32),
            np.full(sky.shape, sigma**2, np.float32),
            np.zeros(sky.shape, np.uint16),
            PSF,
        )
        for _ in range(n)
    ]


def quality(
    epoch: int, seeing: float, *, rms: float = 1.0, coverage: float = 1.0, mjd: float = 58000.0
) -> EpochQuality:
    return EpochQuality(epoch, mjd + epoch, seeing, rms, coverage, 0.01)


def test_the_coadd_has_the_noise_it_claims():
    first, second = (coadd(images(8, seed=seed).__getitem__, range(8)).image for seed in (1, 2))
    assert np.median(first.variance) == pytest.approx(4.0 / 8, rel=1e-3)
    scatter = (first.flux - second.flux) / np.sqrt(first.variance + second.variance)
    assert np.std(scatter) == pytest.approx(1.0, abs=0.05)


def test_a_coadd_without_an_epoch_is_the_coadd_of_the_others():
    stack = images(6)
    sums = coadd(stack.__getitem__, range(6))
    rest = coadd([*stack[:2], *stack[3:]].__getitem__, range(5))
    again = without(sums, 2, stack[2])
    np.testing.assert_allclose(again.flux, rest.image.flux, atol=1.0)
    assert np.median(np.abs(again.flux - rest.image.flux)) < 1e-3
    np.testing.assert_allclose(np.median(again.variance), np.median(rest.image.variance), rtol=1e-3)
    np.testing.assert_allclose(again.psf, PSF, atol=1e-6)


def test_a_cosmic_ray_in_one_epoch_does_not_reach_the_template():
    stack = images(6)
    hit = stack[3].flux.copy()
    hit[20, 20] += 5000
    stack[3] = Image(hit, stack[3].variance, stack[3].mask, PSF)
    sums = coadd(stack.__getitem__, range(6))
    others = np.mean([image.flux[20, 20] for i, image in enumerate(stack) if i != 3])
    assert abs(sums.image.flux[20, 20] - others) < 5


def seeing_images(widths: list[float]) -> list[Image]:
    """One star of S/N 1500 at its peak, in another seeing each time."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[-20:21, -20:21]
    stack = []
    for width in widths:
        psf = (1 + (y**2 + x**2) / (0.92 * width) ** 2) ** -3.5
        psf = (psf / psf.sum()).astype(np.float32)
        flux = 1500 * psf / np.mean([0.4 / w**2 for w in widths]) + rng.normal(0, 1, psf.shape)
        stack.append(
            Image(flux.astype(np.float32), np.ones(psf.shape, np.float32), np.zeros(psf.shape, np.uint16), psf)
        )
    return stack


def test_a_bright_star_keeps_its_wings_where_the_seeing_differs():
    image = coadd(seeing_images([2.0, 2.1, 2.2, 3.0, 3.6]).__getitem__, range(5)).image
    y, x = np.mgrid[-20:21, -20:21]
    flux = image.flux[18:23, 18:23].sum() / image.psf[18:23, 18:23].sum()
    for radius in range(3, 9):
        ring = np.abs(np.hypot(y, x) - radius) < 0.5
        noise = 3 * float(np.sqrt(image.variance[ring].sum()))
        assert image.flux[ring].sum() == pytest.approx(flux * image.psf[ring].sum(), rel=0.01, abs=noise)


def test_a_flash_beside_a_bright_star_is_left_out_where_the_seeing_is_the_same():
    stack = seeing_images([2.5] * 5)
    before = coadd(stack.__getitem__, range(5)).image.flux.copy()
    stack[2].flux[24, 20] += 0.2 * stack[2].flux.max()
    assert coadd(stack.__getitem__, range(5)).image.flux[24, 20] == pytest.approx(before[24, 20], abs=2)


def test_a_trail_is_left_out_with_its_wings():
    stack = seeing_images([2.5] * 8)
    before = coadd(stack.__getitem__, range(8)).image.flux
    y, x = np.mgrid[:41, :41]
    from_trail = np.abs(y - 4 - 0.3 * x)
    stack[3].flux[:] += 40 * np.exp(-0.5 * (from_trail / 1.1) ** 2).astype(np.float32)
    left = (coadd(stack.__getitem__, range(8)).image.flux - before)[from_trail < 6]
    assert np.mean(left) == pytest.approx(0, abs=0.1)
    assert np.max(left) < 1  # in one epoch of eight, each of noise one


def test_a_star_that_is_saturated_in_some_epochs_is_masked_with_and_without_one():
    stack = images(6)
    for one in stack[:2]:
        one.mask[10:14, 20:24] = MaskBit.SATURATED
    sums = coadd(stack.__getitem__, range(6))
    for image in (sums.image, without(sums, 5, stack[5])):
        assert (image.mask[10:14, 20:24] == MaskBit.SATURATED).all()
        assert np.count_nonzero(image.mask) == 16


def test_masked_pixels_do_not_count_and_holes_are_marked():
    stack = images(3)
    for i, image in enumerate(stack):
        image.mask[5, 5] = 4
        if i == 0:
            image.mask[6, 6] = 2
            image.flux[6, 6] = 1e6
    sums = coadd(stack.__getitem__, range(3))
    assert sums.image.mask[5, 5] == 4
    assert sums.image.mask[6, 6] == 0
    assert sums.image.flux[6, 6] < 1000
    assert np.isfinite(sums.image.flux).all()
    assert (sums.image.variance > 0).all()


def test_the_only_epoch_cannot_be_taken_out():
    stack = images(1)
    sums = coadd(stack.__getitem__, [0])
    with pytest.raises(CellSkipped, match="only epoch"):
        without(sums, 0, stack[0])
    with pytest.raises(ValueError, match="epoch 3 is not in"):
        without(sums, 3, stack[0])


def test_no_epoch_is_no_template():
    with pytest.raises(CellSkipped, match="no usable epoch"):
        coadd(images(1).__getitem__, [])


def test_the_best_half_is_chosen():
    epochs = [quality(0, 3.0), quality(1, 2.0), quality(2, 2.5), quality(3, 4.0), quality(4, 2.1)]
    assert Coadd().choose(epochs) == (1, 4)
    assert Coadd(fraction=1.0, max_epochs=3).choose(epochs) == (1, 4, 2)
    assert Coadd().choose(epochs[:2]) == (1,)


def test_a_date_range_takes_all_of_it():
    epochs = [quality(i, 3.0 - 0.1 * i) for i in range(6)]
    assert Coadd(end="2017-09-07").choose(epochs) == (2, 1, 0)  # MJD 58003


def test_epochs_that_miss_the_tile_are_left_out():
    epochs = [quality(0, 1.0, coverage=0.2), quality(1, 3.0), quality(2, 3.0), quality(3, 3.0)]
    assert 0 not in Coadd().choose(epochs)


@pytest.mark.parametrize("wrong", [{"fraction": 0}, {"fraction": 2}, {"max_epochs": 0}, {"start": "soon"}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"template\."):
        Coadd(**wrong)
