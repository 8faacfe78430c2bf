import numpy as np
import pytest

from astrid.evaluation.cell import recover
from astrid.evaluation.metrics import metrics_row


def test_a_cell_gives_truths_matches_and_duplicates():
    result = recover(
        [10.0, 40.0, 70.0, 90.0],
        [10.0, 40.0, 70.0, 90.0],
        [20.0, 9.0, 4.0, 30.0],
        [0, 0, 0, 2],
        [10.3, 11.5, 40.0, 69.9, 70.9, 90.0],
        [10.0, 10.0, 40.0, 70.0, 70.0, 90.0],
        [18.0, 6.0, -9.0, 5.5, 5.1, 29.0],
        fwhm=2.5,
    )
    assert result.matches.detection.tolist() == [0, -1, 3, 5]
    assert result.matches.truth.tolist() == [0, -1, -1, 2, -1, 3]
    assert result.n_duplicates == 1  # neither the pair on a faint truth nor the negative on a missed one
    assert result.truths.dy[0] == pytest.approx(0.3)
    assert 0.7 < result.truths.iou[0] < 0.9
    row = metrics_row(
        result.truths,
        dataset="a",
        truth="injections",
        subtraction="zogy",
        detector="matched_filter",
        n_false=0,
        n_duplicates=result.n_duplicates,
        n_images=1,
        megapixels=1.0,
        cpu_seconds=1.0,
    )
    assert (row["n_true"], row["n_recovered"], row["n_faint"], row["n_masked"]) == (2, 1, 1, 1)
    assert row["precision"] == 0.5


def test_a_negative_detection_recovers_nothing():
    result = recover([10.0], [10.0], [20.0], [0], [10.0], [10.0], [-18.0], fwhm=2.5)
    assert not result.truths.is_recovered.any()


def test_footprints_and_scores_follow_their_detections():
    square = np.argwhere(np.ones((3, 3), bool))
    result = recover(
        [20.0],
        [20.0],
        [9.0],
        [0],
        [50.0, 20.0, 20.5],
        [50.0, 20.0, 20.0],
        [30.0, 6.0, 8.0],
        fwhm=2.0,
        footprints=(square + 49, square + 19, square + 30),
        score=[0.1, 0.9, 0.2],
    )
    assert result.matches.detection.tolist() == [1]
    assert result.truths.iou[0] == pytest.approx(0.785, abs=0.01)


def test_a_cell_without_truths_or_detections_is_no_trouble():
    assert len(recover([], [], [], [], [], [], [], fwhm=2.0).truths) == 0
    missed = recover([5.0], [5.0], [9.0], [0], [], [], [], fwhm=2.0)
    assert missed.matches.detection.tolist() == [-1]
