import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.evaluation.localization import disk_iou, disk_radius, footprint_iou, localize


def test_a_shift_of_one_pixel_brings_a_disk_of_1_5_px_to_0_41():
    assert disk_iou(1.0, 1.5) == pytest.approx(0.40, abs=0.06)
    assert localize([5.0], [5.0], [5.0], [6.0], fwhm=2.0)[0] == pytest.approx(0.40, abs=0.06)


def test_the_radius_is_the_larger_of_1_5_px_and_three_quarters_of_the_fwhm():
    assert disk_radius(1.0) == 1.5
    assert disk_radius(4.0) == 3.0


@given(distance=st.floats(0, 5), radius=st.floats(1.5, 4))
def test_the_formula_for_disks_agrees_with_counting_points(distance, radius):
    side = np.linspace(-4, 9, 800)
    y, x = np.meshgrid(np.linspace(-4, 4, 500), side, indexing="ij")
    one, other = y**2 + x**2 <= radius**2, y**2 + (x - distance) ** 2 <= radius**2
    assert disk_iou(distance, radius) == pytest.approx((one & other).sum() / (one | other).sum(), abs=0.01)


@given(y=st.floats(8, 10), x=st.floats(8, 10), radius=st.floats(1.5, 4))
def test_the_overlap_of_pixels_agrees_with_counting_points(y, x, radius):
    rows, columns = np.mgrid[:19, :19]
    footprint = np.argwhere(np.hypot(rows - 9, columns - 9) <= 2.5)
    fine = (np.arange(19 * 20) + 0.5) / 20 - 0.5
    fy, fx = np.meshgrid(fine, fine, indexing="ij")
    disk = np.hypot(fy - y, fx - x) <= radius
    covered = np.zeros((19, 19), bool)
    covered[tuple(footprint.T)] = True
    covered = np.repeat(np.repeat(covered, 20, axis=0), 20, axis=1)
    expected = (disk & covered).sum() / (disk | covered).sum()
    assert footprint_iou(footprint, y, x, radius) == pytest.approx(expected, abs=0.01)


def test_a_repeated_pixel_counts_once_and_no_pixel_gives_zero():
    square = np.argwhere(np.ones((3, 3), bool))
    assert footprint_iou(np.vstack([square, square]), 1, 1, 1.5) == footprint_iou(square, 1, 1, 1.5)
    assert footprint_iou(square, 1, 1, 1.5) == pytest.approx(7.0686 / 9, rel=0.01)
    assert footprint_iou(np.empty((0, 2), int), 1, 1, 1.5) == 0.0
    assert footprint_iou(square, 40, 40, 1.5) == 0.0


def test_footprints_are_used_where_there_are_any():
    square = np.argwhere(np.ones((3, 3), bool)) + 4
    with_pixels = localize([5.0], [5.0], [5.0], [5.0], fwhm=2.0, footprints=(square,))
    assert with_pixels[0] == pytest.approx(0.785, abs=0.01)
    with pytest.raises(ValueError, match="1 footprints for 2"):
        localize([5.0, 6.0], [5.0, 6.0], [5.0, 6.0], [5.0, 6.0], fwhm=2.0, footprints=(square,))
