from dataclasses import replace

import numpy as np
import pytest

from astrid.detection.base import Detections
from astrid.detection.features import measure_candidates
from astrid.detection.flags import candidate_flags
from astrid.detection.sources import Sources, find_sources
from astrid.image import Difference, Image
from astrid.schema import CandidateFlag, MaskBit

SIDE = 160
Y, X = 80.0, 75.0


def gaussian(fwhm=3.0, side=25):
    r = np.arange(side) - side // 2
    psf = np.exp(-(r[:, None] ** 2 + r**2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


PSF = gaussian()


def sky(seed=None):
    flux = np.zeros((SIDE, SIDE), np.float32)
    if seed is not None:
        flux += np.random.default_rng(seed).normal(size=flux.shape).astype(np.float32)
    return Image(flux, np.ones_like(flux), np.zeros(flux.shape, np.uint16), PSF)


def put(image, y, x, flux):
    image.flux[y - 12 : y + 13, x - 12 : x + 13] += flux * PSF


def flag_of(*, science=None, template=None, mask=None, places=((Y, X),), height=100.0, beside=0.0):
    """Flags of candidates of an otherwise clean difference."""
    science, template = science or sky(), template or sky()
    difference = sky()
    y, x = np.array(places, float).T
    for row, column in zip(np.rint(y).astype(int), np.rint(x).astype(int), strict=True):
        if min(row, column) >= 12 and max(row, column) < SIDE - 12:
            put(difference, row, column, height)
    put(difference, int(Y) + 5, int(X), beside)
    score = difference.flux / np.sqrt((PSF**2).sum())
    bits = np.zeros((SIDE, SIDE), np.uint16) if mask is None else mask
    whole = Difference(difference.flux, difference.variance, bits | science.mask, PSF, score)
    found = Detections(y, x, np.full(len(y), 20.0 if height > 0 else -20.0))
    return [CandidateFlag(int(flags)) for flags in measure_candidates(whole, science, template, found)["flags"]]


def masked(bit, dy, dx):
    mask = np.zeros((SIDE, SIDE), np.uint16)
    mask[int(Y) + dy, int(X) + dx] = bit
    return mask


def test_a_clean_candidate_has_no_flag():
    assert flag_of() == [CandidateFlag(0)]


@pytest.mark.parametrize(
    ("bit", "flag", "near", "far"),
    [
        (MaskBit.COSMIC_RAY, CandidateFlag.COSMIC_RAY, 2, 5),
        (MaskBit.BAD, CandidateFlag.BAD_PIXEL, 2, 5),
        (MaskBit.TEMPLATE, CandidateFlag.TEMPLATE_HOLE, 2, 5),
        (MaskBit.STREAK, CandidateFlag.STREAK, 0, 2),
    ],
)
def test_masked_pixels_are_named_when_they_are_near(bit, flag, near, far):
    assert flag_of(mask=masked(bit, near, 0)) == [flag]
    assert flag_of(mask=masked(bit, far, 0)) == [CandidateFlag(0)]


def test_a_candidate_on_a_streak_is_measured_all_the_same():
    clean, streaked = (
        measure_candidates(
            Difference(image.flux, image.variance, mask, PSF, image.flux * 5),
            sky(1),
            sky(2),
            Detections(np.array([Y]), np.array([X]), np.array([20.0])),
        )
        for image in [sky(3)]
        for mask in (np.zeros((SIDE, SIDE), np.uint16), np.full((SIDE, SIDE), MaskBit.STREAK, np.uint16))
    )
    assert streaked["flags"][0] & ~clean["flags"][0] == CandidateFlag.STREAK
    assert streaked["mask_bits"].tolist() == [MaskBit.STREAK]
    for name in clean:
        if name not in ("flags", "mask_bits"):
            assert np.array_equal(clean[name], streaked[name]), name


@pytest.mark.parametrize("which", ["science", "template"])
def test_saturated_pixels_and_their_halo_are_named_in_either_image(which):
    def flags(distance):
        return flag_of(**{which: replace(sky(), mask=masked(MaskBit.SATURATED, 0, distance))})[0]

    assert flags(5) & CandidateFlag.SATURATED
    assert flags(5) & CandidateFlag.HALO
    assert flags(10) == CandidateFlag.HALO
    assert flags(20) == CandidateFlag(0)


@pytest.mark.parametrize(("flux", "distance", "is_in_halo"), [(1e4, 0, False), (2e5, 6, True), (2e5, 30, False)])
def test_very_bright_stars_have_a_halo(flux, distance, is_in_halo):
    template = sky(4)
    put(template, int(Y), int(X) + distance, flux)
    template = replace(template, variance=template.variance + np.maximum(template.flux, 0))
    assert bool(flag_of(template=template)[0] & CandidateFlag.HALO) == is_in_halo


def test_halos_grow_with_the_star():
    def radius(snr):
        sources = Sources(np.array([[0, 0]]), np.array([snr]), 3.0)
        x = np.arange(0, 90, 0.25)
        inside = sources.is_in_halo(np.zeros_like(x), x)
        return x[inside].max() if inside.any() else 0.0

    assert radius(150.0) == 0
    assert radius(200.0) == pytest.approx(9, abs=0.3)
    assert radius(1600.0) == pytest.approx(36, abs=0.3)
    assert radius(1e6) == pytest.approx(45, abs=0.3)


def test_edges_of_data_and_of_the_image_are_named():
    places = [(Y, X), (3.0, X), (Y, SIDE - 4.0)]
    assert flag_of(places=places) == [CandidateFlag(0), CandidateFlag.EDGE, CandidateFlag.EDGE]
    for which in ("science", "template"):
        missing = replace(sky(), mask=masked(MaskBit.NO_DATA, 0, 4))
        assert flag_of(**{which: missing}) == [CandidateFlag.EDGE]


def test_as_much_light_of_the_other_sign_is_a_dipole_and_little_is_not():
    assert flag_of(beside=-80.0) == [CandidateFlag.DIPOLE]
    assert flag_of(beside=-10.0) == [CandidateFlag(0)]
    columns = {
        "y": np.array([Y, Y]), "x": np.array([X, X]), "mask_bits": np.zeros(2, np.int32),
        "dipole": np.array([0.5, 0.5]), "significance": np.array([5.0, 10.0]), "is_negative": np.zeros(2, bool),
    }  # fmt: skip
    empty = sky()
    whole = Difference(empty.flux, empty.variance, empty.mask, PSF, empty.flux)
    flags = candidate_flags(whole, empty, empty, Sources.none(), columns)
    assert flags.tolist() == [0, CandidateFlag.DIPOLE]  # noise of 2.5 sigma beside five is none


def test_what_is_fainter_than_in_the_template_fades():
    assert flag_of(height=-100.0) == [CandidateFlag.FADING]


def test_no_candidates_have_no_flags():
    assert flag_of(places=np.empty((0, 2))) == []


def test_near_a_star_is_within_three_widths_of_one_that_is_bright():
    template = sky(5)
    put(template, 80, 40, 2000.0)
    put(template, 80, 110, 50.0)
    sources = find_sources(template)
    assert sources.snr[0] > 50 > sources.snr[1]
    places = np.array([[80, 44], [80, 60], [80, 112]], float)
    assert sources.is_near_star(*places.T).tolist() == [True, False, False]
