from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from astrid.detection.features import measure_candidates
from astrid.detection.ghosts import is_on_ghost
from astrid.detection.matched_filter import MatchedFilter
from astrid.image import Difference, Image
from astrid.schema import CandidateFlag

SIDE = 400
Y, X, RADIUS = 180.0, 220.0, 40.0
AXIS = np.arange(25) - 12.0
PSF = np.exp(-(AXIS[:, None] ** 2 + AXIS**2) * 4 * np.log(2) / 9)
PSF = (PSF / PSF.sum()).astype(np.float32)
UNIT = float(np.sqrt((PSF.astype(float) ** 2).sum()))  # surface brightness that scores one where the noise is one
EVERY_PEAK = MatchedFilter(max_chi2=None, deblend=False)
ROWS, COLUMNS = np.indices((SIDE, SIDE))
DISTANCE = np.hypot(ROWS - Y, COLUMNS - X)


def disc():
    return (DISTANCE < RADIUS).astype(float)


def ring():
    return disc() - (DISTANCE < 0.5 * RADIUS)


def difference_of(light, seed=1):
    """A difference with light in it, its matched-filter score, and two images that made it."""
    flux = np.random.default_rng(seed).normal(size=(SIDE, SIDE)) + light
    score = ndimage.convolve(flux, PSF / UNIT, mode="constant")
    zero, one = np.zeros((SIDE, SIDE), np.uint16), np.ones((SIDE, SIDE), np.float32)
    sky = Image(0 * one, one, zero, PSF)
    return Difference(flux.astype(np.float32), one, zero, PSF, score.astype(np.float32)), sky


def point(y, x, snr):
    light = np.zeros((SIDE, SIDE))
    light[y - 12 : y + 13, x - 12 : x + 13] = snr / UNIT * PSF
    return light


def ghosts_of(difference, science, template, detector=EVERY_PEAK):
    found = detector(difference)
    flags = measure_candidates(difference, science, template, found)["flags"]
    return found, (flags & CandidateFlag.GHOST) != 0


@pytest.mark.parametrize("shape", [disc, ring])
@pytest.mark.parametrize("level", [4.0, 12.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_peaks_of_a_ghost_are_named_whatever_its_shape_and_sign(shape, level, sign):
    difference, sky = difference_of(sign * level * UNIT * shape())
    found, is_ghost = ghosts_of(difference, sky, sky)
    on = np.hypot(found.y - Y, found.x - X) < RADIUS + 2
    assert on.sum() >= 5
    assert is_ghost[on].mean() >= 0.9
    assert not is_ghost[~on].any()


def test_a_transient_that_stands_out_of_a_ghost_is_none():
    difference, sky = difference_of(4 * UNIT * disc() + point(180, 215, 30) + point(60, 60, 30))
    found, is_ghost = ghosts_of(difference, sky, sky, MatchedFilter())
    assert not is_ghost[np.abs(found.significance) > 25].any()
    assert np.sum(found.significance > 25) == 2


@pytest.mark.parametrize(
    "light",
    [
        1000 * np.exp(-(DISTANCE**2) / 2 / 1.5**2),  # a bright point
        40 / (1 + (DISTANCE / 4) ** 2) ** 2,  # the wings of one
        4 * UNIT * (np.abs(ROWS - Y) < 20),  # a band through the image
        4 * UNIT * (ROWS > 200),  # half of the image: its background
        20 * UNIT * np.exp(-DISTANCE / 10),  # an exponential disc
        4 * UNIT * (DISTANCE < 6),  # too small
    ],
    ids=["point", "wings", "band", "background", "galaxy", "small"],
)
def test_other_light_is_no_ghost(light):
    difference, sky = difference_of(light)
    found, is_ghost = ghosts_of(difference, sky, sky)
    assert len(found)
    assert not is_ghost.any()


def test_what_the_template_has_too_is_no_ghost():
    difference, sky = difference_of(4 * UNIT * disc())
    template = replace(sky, flux=(2 * UNIT * 4 * disc()).astype(np.float32))
    _, is_ghost = ghosts_of(difference, sky, template)
    assert not is_ghost.any()


def test_no_candidates_and_no_light_are_no_ghosts():
    difference, sky = difference_of(0.0)
    none = np.empty(0)
    assert len(is_on_ghost(difference, sky, sky, none, none, none)) == 0
    at = np.array([50.0])
    assert not is_on_ghost(replace(difference, significance=0 * difference.flux), sky, sky, at, at, at).any()
