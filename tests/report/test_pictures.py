from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from matplotlib.image import imread

from astrid.report.pictures import DIVERGING, GREY, NO_DATA_COLOUR, draw_panels, encode_png, shrink
from astrid.schema import MaskBit

from .conftest import make_stamps


def decode(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/png;base64,")
    image = imread(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])), format="png")
    return np.rint(image[..., :3] * 255).astype(int)


def test_a_png_decodes_to_the_colours_that_went_in():
    index = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
    assert np.array_equal(decode(encode_png(index, GREY)), GREY[index])


def test_pictures_are_upright_and_a_positive_difference_is_red():
    stamps = make_stamps(np.random.default_rng(2), title="a", side=41)
    difference = np.zeros((41, 41), np.float32)
    difference[:] = np.random.default_rng(3).normal(0, 1, difference.shape)
    difference[35, 5], difference[5, 35] = 40, -40
    picture = decode(dict(draw_panels(replace(stamps, difference=difference), side=96, cut=True))["difference"])
    assert np.array_equal(picture[40 - 35, 5], DIVERGING[254])  # y = 35 is near the top
    assert np.array_equal(picture[40 - 5, 35], DIVERGING[0])


def test_science_and_template_share_one_scale():
    stamps = make_stamps(np.random.default_rng(2), title="a", side=41, amplitude=0)
    panels = dict(draw_panels(replace(stamps, template=stamps.science), side=96, cut=True))
    assert panels["science"] == panels["template"]
    brighter = dict(draw_panels(replace(stamps, template=stamps.science + 30), side=96, cut=True))
    assert decode(brighter["template"]).mean() > decode(brighter["science"]).mean() + 20


def test_pixels_without_data_have_their_own_colour():
    stamps = make_stamps(np.random.default_rng(2), title="a", side=21)
    mask = np.zeros((21, 21), np.uint16)
    mask[0, 0] = MaskBit.NO_DATA
    mask[1, 1] = MaskBit.COSMIC_RAY
    for _, uri in draw_panels(replace(stamps, mask=mask), side=96, cut=True):
        picture = decode(uri)
        assert tuple(picture[20, 0]) == NO_DATA_COLOUR
        assert tuple(picture[19, 1]) != NO_DATA_COLOUR


def test_large_stamps_are_cut_around_their_centre_and_examples_averaged():
    stamps = make_stamps(np.random.default_rng(2), title="a", side=101)
    assert decode(draw_panels(stamps, side=31, cut=True)[0][1]).shape == (31, 31, 3)
    assert decode(draw_panels(stamps, side=31, cut=False)[0][1]).shape == (26, 26, 3)
    score = np.zeros((101, 101), np.float32)
    score[50, 50] = 10
    centre = decode(dict(draw_panels(replace(stamps, significance=score), side=31, cut=True))["score"])
    assert np.array_equal(centre[15, 15], DIVERGING[254])


def test_averaging_keeps_the_mean_and_spreads_no_nan():
    image = np.arange(30.0).reshape(5, 6)
    image[0, 0] = np.nan
    small = shrink(image, 3)
    assert small.shape == (3, 3)
    assert small[0, 0] == np.nanmean(image[:2, :2])
    assert small[2, 2] == image[4, 4:].mean()
