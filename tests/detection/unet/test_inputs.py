from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from astrid.detection.unet.inputs import CHANNELS, inputs_of
from astrid.schema import MaskBit
from astrid.simulation.harsh import harsh_tile
from astrid.workflow.examples import harsh_difference


@pytest.fixture(scope="module")
def difference():
    return harsh_difference(harsh_tile(3, side=128))


def test_what_is_masked_is_zero_and_said_to_be(difference):
    mask = difference.mask.copy()
    mask[40:50, 40:50] = MaskBit.BAD
    planes = inputs_of(replace(difference, mask=mask))
    assert planes.shape == (len(CHANNELS), 128, 128)
    assert (planes[:4, 40:50, 40:50] == 0).all()
    assert (planes[4] == (mask != 0)).all()


def test_what_is_not_a_number_stays_where_it_is(difference):
    flux, score = difference.flux.copy(), difference.significance.copy()
    flux[60, 60], score[70, 70] = np.nan, np.inf
    planes = inputs_of(replace(difference, flux=flux, significance=score))
    assert np.isfinite(planes).all()
    assert planes[4, 60, 60] == planes[4, 70, 70] == 1
    usual = inputs_of(difference)
    same = np.ones((128, 128), bool)
    same[60, 60] = same[70, 70] = False
    np.testing.assert_allclose(planes[:, same], usual[:, same], rtol=0.01, atol=0.01)


def test_the_unit_of_the_images_changes_nothing(difference):
    def scaled(image, factor):
        return replace(image, flux=image.flux * factor, variance=image.variance * factor**2)

    other = replace(
        scaled(difference, np.float32(7)),
        science=scaled(difference.science, np.float32(7)),
        template=scaled(difference.template, np.float32(7)),
    )
    np.testing.assert_allclose(inputs_of(other), inputs_of(difference), rtol=1e-4, atol=1e-4)


def test_noise_has_unit_width_in_every_plane(difference):
    planes = inputs_of(difference)
    for plane in planes[:4]:
        width = 1.4826 * np.median(np.abs(plane - np.median(plane)))
        assert 0.7 < width < 1.2


def test_a_difference_without_images_is_refused_with_the_remedy(difference):
    with pytest.raises(ValueError, match=r"dataclasses\.replace"):
        inputs_of(replace(difference, science=None))


def test_nothing_but_masked_pixels_is_nothing_to_see(difference):
    planes = inputs_of(replace(difference, mask=np.full((128, 128), MaskBit.BAD, np.uint16)))
    assert (planes[:4] == 0).all()


def test_resampled_noise_is_not_blown_up_to_unit_width():
    tile = harsh_tile(4, side=128, transients=0, artefacts=False, sources=False)
    moved = ndimage.shift(tile.science.flux.astype(np.float64), 0.5, order=3, mode="mirror").astype(np.float32)
    planes = inputs_of(harsh_difference(replace(tile, science=replace(tile.science, flux=moved)), plain=False))
    for plane in (planes[0], planes[2]):
        assert 1.4826 * np.median(np.abs(plane - np.median(plane))) < 0.87
