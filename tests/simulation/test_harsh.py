import numpy as np
import pytest
from scipy import ndimage

from astrid.detection.matched_filter import find_peaks
from astrid.simulation.harsh import APART, MARGIN, SNR, harsh_tile
from astrid.simulation.seeds import seed_of
from astrid.workflow.examples import harsh_difference


def test_a_tile_follows_from_its_seed():
    first, again, other = harsh_tile(5, side=128), harsh_tile(5, side=128), harsh_tile(6, side=128)
    np.testing.assert_array_equal(first.science.flux, again.science.flux)
    np.testing.assert_array_equal(first.template.flux, again.template.flux)
    assert first.flux.tolist() != other.flux.tolist()


def test_transients_are_inside_apart_and_of_the_brightness_asked_for():
    tiles = [harsh_tile(seed, transients=4) for seed in range(8)]
    for tile in tiles:
        assert len(tile.y) == 4
        assert min(tile.y.min(), tile.x.min()) > MARGIN - 1
        assert max(tile.y.max(), tile.x.max()) < 256 - MARGIN
        away = np.hypot(tile.y[:, None] - tile.y, tile.x[:, None] - tile.x) + 1e3 * np.eye(4)
        assert away.min() >= APART
        assert SNR[0] <= tile.snr.min() <= tile.snr.max() <= SNR[1]
    assert 0.3 < np.mean([tile.on_galaxy for tile in tiles]) < 0.8


def test_measured_significance_is_the_true_one_where_nothing_is_wrong():
    pulls = []
    for number in range(12):
        tile = harsh_tile(seed_of(3, number), artefacts=False, sources=False)
        difference = harsh_difference(tile)
        for y, x, snr in zip(tile.y, tile.x, tile.snr, strict=True):
            near = difference.significance[int(y) - 1 : int(y) + 3, int(x) - 1 : int(x) + 3]
            pulls.append(near.max() - snr * np.sqrt(1 / (1 + 0.001 * snr)))
    assert abs(np.median(pulls)) < 1.5


@pytest.mark.parametrize("sources", [False, True])
def test_without_transients_and_flaws_the_score_is_gaussian(sources):
    widths, n_above = [], 0
    for number in range(12):
        tile = harsh_tile(seed_of(77, number), transients=0, artefacts=False, sources=sources)
        difference = harsh_difference(tile)
        bled = ndimage.binary_dilation((tile.science.mask | tile.template.mask) != 0, iterations=12)
        good = (difference.mask == 0) & ~bled
        widths.append(1.4826 * np.median(np.abs(difference.significance[good])))
        for sign in (1, -1):
            n_above += len(find_peaks(sign * difference.significance, ~good, threshold=4.5))
    assert abs(np.mean(widths) - 1) < 0.02
    assert (
        n_above <= 12
    )  # of some 12 * 2 * 65536 / 10 independent values, 3.4e-6 exceed it: 0.5 on each side, and tails


def test_a_harsh_tile_has_twenty_candidates_and_nine_of_ten_are_artefacts():
    n, false = 0, 0
    for number in range(16):
        tile = harsh_tile(seed_of(9, number))
        difference = harsh_difference(tile)
        peaks = find_peaks(difference.significance, difference.mask != 0, threshold=4.0, radius=3)
        away = np.hypot(peaks[:, :1] - tile.y, peaks[:, 1:] - tile.x)
        n, false = n + len(peaks), false + int((away.min(axis=1) > 3).sum())
    assert n >= 15 * 16
    assert false >= 0.88 * n
