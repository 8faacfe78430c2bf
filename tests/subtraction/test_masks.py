import numpy as np
import pytest
from scipy import ndimage

from astrid.schema import MaskBit
from astrid.subtraction.masks import mask_cut_stars, running_maximum


def flagged(star_at, *, edge=10, reach=4, shape=(40, 40), snr=9.0):
    missing, star = np.zeros(shape, bool), np.zeros(shape)
    missing[:, :edge] = True
    star[star_at] = snr
    mask = np.where(missing, MaskBit.NO_DATA.value, 0).astype(np.uint16)
    mask_cut_stars(mask, missing, star, reach)
    return mask


def test_a_star_at_the_edge_of_an_image_is_flagged_with_what_it_reaches():
    mask = flagged((20, 12))
    here = mask == MaskBit.NEIGHBOUR.value
    assert here[20, 10:14].all()
    assert not here[:, 14:].any()  # beyond the reach of the edge
    assert not here[26:].any()
    assert not here[:15].any()
    assert (mask[:, :10] == MaskBit.NO_DATA.value).all()


def test_a_star_away_from_the_edge_and_an_edge_without_stars_cost_nothing():
    assert not (flagged((20, 16)) == MaskBit.NEIGHBOUR.value).any()
    assert not (flagged((20, 12), edge=0)).any()


def test_a_brighter_star_reaches_further():
    faint, bright = (flagged((20, 12), snr=snr) == MaskBit.NEIGHBOUR.value for snr in (20.0, 100.0))
    assert bright[20, 10:18].all()
    assert not bright[:, 18:].any()
    assert not faint[:, 14:].any()
    assert not (flagged((20, 12), snr=7.0) == MaskBit.NEIGHBOUR.value).any()


@pytest.mark.parametrize("side", [1, 3, 5, 13, 29])
@pytest.mark.parametrize("shape", [(40, 61), (7, 90)])
def test_the_running_maximum_is_that_of_a_square_cut_at_the_edges(side, shape):
    values = np.random.default_rng(side).normal(size=shape).astype(np.float32)
    expected = ndimage.maximum_filter(values, side, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(running_maximum(values, side), expected)
    np.testing.assert_array_equal(running_maximum(values > 2, side), expected > 2)
