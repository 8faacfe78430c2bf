from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import fftconvolve
from scipy.special import ndtr

from astrid.detection.lines import line_sums, outstanding_segments
from astrid.detection.streaks import find_streaks, flag_streaks
from astrid.detection.trails import pixels_of
from astrid.image import Difference, Image
from astrid.schema import MaskBit

FWHM = 3.0
SIGMA = FWHM / 2.3548


def gaussian(fwhm=FWHM, side=25):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


PSF = gaussian()
SCORE_OF_FLUX = 1 / np.sqrt(4 * np.pi * SIGMA**2) / np.sqrt((PSF**2).sum())  # of the axis, per flux per px of length


def noise(seed, side=512):
    return np.random.default_rng(seed).normal(size=(side, side))


def matched(flux, psf=PSF, mask=None):
    score = fftconvolve(flux, psf[::-1, ::-1], mode="same") / np.sqrt((psf**2).sum())
    mask = np.zeros(flux.shape, np.uint16) if mask is None else mask
    return Difference(flux.astype(np.float32), np.ones(flux.shape, np.float32), mask, psf, score.astype(np.float32))


def trail(shape, start, stop, score, sigma=SIGMA):
    """Flux of a trail between two places whose axis has a score."""
    y, x = np.indices(shape)
    (y0, x0), along = start, np.subtract(stop, start)
    length = np.hypot(*along)
    dy, dx = along / length
    t, u = (y - y0) * dy + (x - x0) * dx, (y - y0) * dx - (x - x0) * dy
    across = np.exp(-((u / sigma) ** 2) / 2) / np.sqrt(2 * np.pi) / sigma
    return score / SCORE_OF_FLUX * across * (ndtr(t / sigma) - ndtr((t - length) / sigma))


def ends_of(length, degrees, middle=(256, 250)):
    half = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))]) * length / 2
    return middle - half, middle + half


def scattered(seed, n, stamp, heights, side=512):
    rng, half = np.random.default_rng(seed), stamp.shape[0] // 2
    image = np.zeros((side, side))
    for y, x, height in zip(*rng.integers(half, side - half, (2, n)), heights(rng, n), strict=True):
        image[y - half : y + half + 1, x - half : x + half + 1] += height * stamp
    return image


@pytest.mark.parametrize("degrees", [0, 17, 45, 63, 90, 110, 152])
@pytest.mark.parametrize(("score", "length"), [(2.0, 400), (3.0, 150), (6.0, 100), (60.0, 300)])
def test_a_trail_that_ends_in_the_image_is_found_where_it_is(degrees, score, length):
    start, stop = ends_of(length, degrees)
    (found,) = find_streaks(matched(noise(degrees) + trail((512, 512), start, stop, score)))
    ends = np.array([[found.y0, found.x0], [found.y1, found.x1]])
    if np.hypot(*(ends[0] - start)) > np.hypot(*(ends[0] - stop)):
        ends = ends[::-1]
    along = (stop - start) / length
    off = ends - [start, stop]
    across = off @ [along[1], -along[0]]
    assert np.abs(across).max() < (3.0 if score < 3 else 1.5)
    assert np.abs(off @ along).max() < (0.2 * length if score < 3 else 18 if score < 10 else 6)
    assert abs((found.angle - degrees + 90) % 180 - 90) < (1.5 if score < 5 else 1)


@pytest.mark.parametrize("score", [1.7, 3.0, 300.0])
def test_a_trail_through_the_image_is_one_record_from_border_to_border(score):
    image = trail((512, 512), (60, -300), (440, 900), score)
    (found,) = find_streaks(matched(noise(3) + image))
    assert found.length == pytest.approx(512 / np.cos(np.arctan2(380, 1200)), abs=60 if score < 2 else 12)


def test_width_and_flux_per_length_are_those_put_in():
    start, stop = ends_of(400, 30)
    sky = trail((512, 512), start, stop, 20.0)
    (found,) = find_streaks(matched(noise(4) + sky))
    assert found.flux_per_length == pytest.approx(20 / SCORE_OF_FLUX, rel=0.05)
    assert found.width == pytest.approx(FWHM, rel=0.15)
    (wide,) = find_streaks(matched(noise(4) + trail((512, 512), start, stop, 20.0, sigma=2 * SIGMA)))
    assert wide.width == pytest.approx(2 * FWHM, rel=0.15)


def test_a_trail_of_the_template_is_negative():
    start, stop = ends_of(300, 70)
    (found,) = find_streaks(matched(noise(5) - trail((512, 512), start, stop, 5.0)))
    assert found.flux_per_length < 0
    assert found.significance < 0


def test_two_crossing_trails_are_two():
    image = trail((512, 512), (-100, 30), (600, 470), 5.0) + trail((512, 512), (480, -50), (60, 600), 8.0)
    first, second = find_streaks(matched(noise(6) + image))
    assert sorted(one.angle for one in (first, second)) == pytest.approx([57.9, 147.1], abs=0.5)


def test_pure_noise_has_no_trail():
    assert sum(len(find_streaks(matched(noise(seed, 300)))) for seed in range(100)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_stars_leave_is_no_trail(seed):
    def of_both_signs(rng, n):
        return rng.choice([-1, 1], n) * rng.exponential(400, n)

    def positive(rng, n):
        return rng.exponential(400, n)

    pair = np.roll(PSF, 1, axis=0) - np.roll(PSF, -1, axis=0)
    for stamp, heights in ((PSF, of_both_signs), (pair, positive)):
        assert not find_streaks(matched(noise(seed) + scattered(seed, 400, stamp, heights)))


def test_a_row_of_stars_is_no_trail():
    image = noise(7)
    for i in range(12, 490, 22):
        y = 100 + i // 2
        image[y - 12 : y + 13, i - 12 : i + 13] += 100 * PSF
    assert not find_streaks(matched(image))


def test_the_spikes_of_a_star_are_no_trails():
    image = noise(8)
    y, x = np.indices(image.shape)
    for across, along in ((y - 250, x - 200), (x - 200, y - 250)):
        image += np.exp(-(across**2) / (2 * 1.3**2)) * 3000 / (1 + np.abs(along)) ** 1.5
    assert not find_streaks(matched(image))


@pytest.mark.parametrize("length", [12, 30, 60])
def test_stars_of_an_exposure_that_was_not_tracked_are_no_trails(length):
    side = 2 * (length // 2 + 10) + 1
    start, stop = ends_of(length, 40, (side // 2, side // 2))
    psf = trail((side, side), start, stop, 1.0).astype(np.float32)
    psf /= psf.sum()
    for seed in range(4):
        stars = scattered(seed, 80, psf, lambda rng, n: rng.choice([-1, 1], n, p=[0.2, 0.8]) * rng.exponential(1000, n))
        assert not find_streaks(matched(noise(seed) + stars, psf))


def test_many_short_parallel_ones_are_trailed_stars_and_long_ones_a_train_of_satellites():
    for length, expected in ((100, 0), (400, 5)):
        image = noise(9)
        for i in range(5):
            image += trail((512, 512), *ends_of(length, 20, (60 + 90 * i, 256)), 8.0)
        assert len(find_streaks(matched(image))) == expected


def test_what_the_other_image_shows_too_is_no_trail():
    spike = trail((512, 512), *ends_of(200, 0), 30.0)
    difference = matched(noise(10) + spike)
    variance = np.ones((512, 512), np.float32)
    empty, same = (
        Image(flux.astype(np.float32), variance, np.zeros((512, 512), np.uint16), PSF)
        for flux in (noise(11), noise(11) + spike)
    )
    assert len(find_streaks(difference, science=empty, template=empty)) == 1
    assert not find_streaks(difference, science=empty, template=same)


def test_what_is_narrower_than_a_star_is_of_the_detector():
    image = noise(18)
    image[40:470, 301] += 6
    assert not find_streaks(matched(image))


def test_a_trail_ends_where_the_data_end():
    mask = np.zeros((512, 512), np.uint16)
    mask[:, :100] = mask[:, 400:] = MaskBit.NO_DATA
    (found,) = find_streaks(matched(noise(19) + trail((512, 512), (100, -50), (400, 600), 10.0), mask=mask))
    assert (found.x0, found.x1) == pytest.approx((100, 399), abs=8)


def test_masked_pixels_do_not_count():
    image = noise(12)
    mask = np.zeros(image.shape, np.uint16)
    image[:, 200:204] += 50
    mask[:, 190:214] = MaskBit.BAD
    assert not find_streaks(matched(image, mask=mask))


def test_its_pixels_are_flagged_and_the_others_are_not():
    sky = np.zeros((512, 512), np.float32)
    empty = Image(sky, sky + 1, sky.astype(np.uint16), PSF)
    difference = matched(noise(13) + trail((512, 512), *ends_of(300, 25), 10.0))
    difference.mask[250:260, 240:250] = MaskBit.COSMIC_RAY
    before = difference.mask.copy()
    flagged, (streak,) = flag_streaks(difference, empty, empty)
    on = (flagged.mask & MaskBit.STREAK) != 0
    assert np.array_equal(flagged.mask & ~np.uint16(MaskBit.STREAK), before)
    assert np.array_equal(difference.mask, before)
    assert on.sum() == pytest.approx(2 * streak.half_width * streak.length, rel=0.2)
    truth = trail((512, 512), *ends_of(300, 25), 10.0)
    assert on[truth > truth.max() / 2].mean() > 0.95
    again, same = flag_streaks(flagged, empty, empty)
    assert same == (streak,)
    assert np.array_equal(again.mask, flagged.mask)


def test_peaks_on_a_trail_are_counted():
    (found,) = find_streaks(matched(noise(14) + trail((512, 512), *ends_of(400, 25), 8.0)))
    assert found.n_peaks > 20


def test_stamps_and_images_without_a_good_pixel_have_none():
    assert not find_streaks(matched(noise(15, 63)))
    blank = matched(noise(16))
    assert not find_streaks(replace(blank, mask=np.full_like(blank.mask, MaskBit.NO_DATA)))
    assert not find_streaks(replace(blank, significance=np.zeros_like(blank.significance)))


def test_pixels_beyond_the_image_are_left_out():
    (found,) = find_streaks(matched(noise(17) + trail((512, 512), (-50, -50), (600, 600), 8.0)))
    rows, columns = pixels_of(found, (512, 512))
    assert min(rows.min(), columns.min()) >= 0
    assert max(rows.max(), columns.max()) < 512


@pytest.mark.parametrize("shape", [(16, 16), (21, 30), (37, 11)])
def test_a_line_sum_is_the_sum_of_its_pixels(shape):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for length, sums in line_sums(image):
        assert sums.shape == (-(-shape[0] // length), length, shape[1] + length)
        straight = np.zeros((sums.shape[0] * length, shape[1]), np.float32)
        straight[: shape[0]] = image
        expected = straight.reshape(-1, length, shape[1]).sum(axis=1)
        assert np.allclose(sums[:, 0, length:], expected, atol=1e-4)
        assert np.allclose(sums.sum(axis=2), expected.sum(axis=1)[:, None], atol=1e-3)


@pytest.mark.parametrize("slope", [-2.5, -0.8, -0.2, 0.3, 1.0, 3.0])
def test_a_line_of_any_slope_stands_out(slope):
    image = np.random.default_rng(2).normal(size=(128, 128)).astype(np.float32)
    t = np.arange(-63, 64)
    y, x = (t, t / slope) if abs(slope) > 1 else (t * slope, t)
    image[64 + np.rint(y).astype(int), 64 + np.rint(x).astype(int)] += 1.5
    best = outstanding_segments(image, shortest=16, threshold=6.0)[0]
    assert (best.y1 - best.y0) / (best.x1 - best.x0) == pytest.approx(slope, rel=0.1, abs=0.05)
