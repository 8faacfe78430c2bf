import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from astrid.detection.base import Detector
from astrid.detection.matched_filter import MatchedFilter, find_peaks
from astrid.image import Difference
from astrid.schema import MaskBit


def gaussian(fwhm=3.0, side=21):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


def make_difference(score, mask=None):
    score = score.astype(np.float32)
    mask = np.zeros(score.shape, np.uint16) if mask is None else mask
    return Difference(score, np.ones_like(score), mask, gaussian(), score)


def blob(y, x, height, n=64, sigma=1.8):
    rows, columns = np.mgrid[:n, :n]
    return height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


@given(shift_y=st.integers(-20, 20), shift_x=st.integers(-20, 20))
def test_peaks_move_with_the_image(shift_y, shift_x):
    image = np.zeros((64, 64), np.float32)
    image[30, 33] = 9.0
    moved = np.roll(image, (shift_y, shift_x), axis=(0, 1))
    assert find_peaks(moved, mask=moved < 0).tolist() == [[30 + shift_y, 33 + shift_x]]


@given(seed=st.integers(0, 10_000), radius=st.integers(1, 5), threshold=st.floats(0.5, 3.0))
def test_peaks_are_the_maxima_of_their_squares(seed, radius, threshold):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(40, 50)).astype(np.float32)
    mask = rng.random(image.shape) < 0.1
    image[rng.random(image.shape) < 0.02] = np.nan
    found = find_peaks(image, mask, threshold=threshold, radius=radius)
    usable = np.where(mask | ~np.isfinite(image), -np.inf, image)
    expected = (usable == ndimage.maximum_filter(usable, size=2 * radius + 1)) & (usable >= threshold)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, np.argwhere(expected).tolist()))
    assert (np.diff(image[tuple(found.T)]) <= 0).all()


def test_of_equal_neighbours_one_is_a_peak():
    image = np.zeros((20, 20), np.float32)
    image[5, 5:8] = 7.0
    assert len(find_peaks(image, image < 0)) == 1


def test_peaks_of_a_mask_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(5, 5\)"):
        find_peaks(np.zeros((4, 4), np.float32), np.zeros((5, 5), bool))


def test_a_matched_filter_is_a_detector_that_survives_pickling():
    detector = MatchedFilter(threshold=6.0)
    assert isinstance(detector, Detector)
    assert pickle.loads(pickle.dumps(detector)) == detector
    assert (detector.name, detector.threshold) == ("matched_filter", 6.0)


@given(y=st.floats(10, 53), x=st.floats(10, 53), height=st.floats(6, 1e4), sign=st.sampled_from([-1, 1]))
def test_a_source_of_either_sign_is_found_where_it_is(y, x, height, sign):
    found = MatchedFilter(threshold=5.0, max_chi2=None)(make_difference(sign * blob(y, x, height)))
    assert len(found) == 1
    assert abs(found.y[0] - y) < 0.01
    assert abs(found.x[0] - x) < 0.01
    assert np.sign(found.significance[0]) == sign


def test_negative_sources_are_left_out_on_request():
    difference = make_difference(blob(20, 20, 9) - blob(40, 40, 12))
    assert MatchedFilter(both_signs=False, max_chi2=None)(difference).significance.min() > 0
    both = MatchedFilter(max_chi2=None)(difference)
    assert both.significance.tolist() == pytest.approx([-12, 9], rel=1e-3)


@pytest.mark.parametrize("bit", [bit for bit in MaskBit if bit != MaskBit.STREAK])
def test_nothing_is_found_on_masked_pixels_nor_on_their_flanks(bit):
    score = blob(30, 30, 400)
    mask = np.zeros(score.shape, np.uint16)
    mask[27:34, 27:34] = bit
    assert score[mask == 0].max() > 5
    assert len(MatchedFilter(max_chi2=None)(make_difference(score, mask))) == 0


def test_a_source_beside_a_bad_pixel_is_found():
    score = blob(30, 30, 12)
    mask = np.zeros(score.shape, np.uint16)
    mask[30, 31] = MaskBit.BAD
    assert len(MatchedFilter(max_chi2=None)(make_difference(score, mask))) == 1


def test_detections_are_at_least_a_fwhm_apart():
    score = np.random.default_rng(1).normal(size=(256, 256))
    found = MatchedFilter(threshold=2.0, both_signs=False, max_chi2=None)(make_difference(score))
    y, x = np.rint(found.y), np.rint(found.x)
    apart = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x)) + 99 * np.eye(len(y))
    assert len(found) > 50
    assert apart.min() >= 3


def test_an_empty_difference_gives_no_detections():
    assert len(MatchedFilter()(make_difference(np.zeros((32, 32))))) == 0


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"radius": 0}, {"max_chi2": 0.0}])
def test_senseless_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MatchedFilter(**options)


def ridge(height, n=64):
    rows = np.arange(n)[:, None] * np.ones((1, n))
    score = height * np.exp(-((rows - 30) ** 2) / (2 * 2.1**2))
    mask = np.where(np.abs(rows - 30) <= 5, MaskBit.STREAK, 0).astype(np.uint16)
    return score, mask


@pytest.mark.parametrize("height", [6.0, 60.0])
def test_a_streak_itself_is_no_detection_and_what_stands_out_from_it_is(height):
    score, mask = ridge(height)
    rng = np.random.default_rng(1)
    score += ndimage.gaussian_filter(rng.normal(size=score.shape), 1.3) * 4.6
    finder = MatchedFilter(max_chi2=None)
    assert len(finder(make_difference(score, np.zeros_like(mask)))) > 0
    assert len(finder(make_difference(score, mask))) == 0
    found = finder(make_difference(score + blob(30, 40, 15 + 0.5 * height), mask))
    assert (round(found.y[0]), round(found.x[0])) == (30, 40)
    assert len(found) == 1


def test_beside_a_streak_detection_is_as_elsewhere():
    score, mask = ridge(20.0)
    plain = MatchedFilter(max_chi2=None)(make_difference(score * 0 + blob(50, 40, 7)))
    beside = MatchedFilter(max_chi2=None)(make_difference(score + blob(50, 40, 7), mask))
    assert beside.significance.tolist() == pytest.approx(plain.significance.tolist(), rel=1e-3)


@pytest.mark.parametrize("radius", [1, 3])
@pytest.mark.parametrize("threshold", [1.0, 3.0])  # the first is reached by more pixels than are looked at one by one
def test_peaks_are_the_highest_usable_pixels_of_their_squares_and_of_equal_ones_the_first(radius, threshold):
    rng = np.random.default_rng(4)
    score = np.round(rng.normal(0, 1.5, (60, 70)) * 4).astype(np.float32) / 4
    score[5, 6], score[50, 0] = np.inf, np.nan
    mask = rng.random(score.shape) < 0.05
    usable = np.where(mask | ~np.isfinite(score) | (score < threshold), -np.inf, score)
    expected = set()
    for y, x in np.argwhere(usable > -np.inf):
        rows, columns = slice(max(y - radius, 0), y + radius + 1), slice(max(x - radius, 0), x + radius + 1)
        highest = np.argwhere(usable[rows, columns] == usable[rows, columns].max())[0]
        if (rows.start + highest[0], columns.start + highest[1]) == (y, x):
            expected.add((y, x))
    found = [tuple(p) for p in find_peaks(score, mask, threshold=threshold, radius=radius).tolist()]
    assert set(found) == expected
    assert [score[p] for p in found] == sorted((score[p] for p in found), reverse=True)
