import numpy as np
import pytest

from astrid.detection.base import Detections
from astrid.detection.features import measure_candidates
from astrid.detection.glints import is_glint
from astrid.image import Difference, Image
from astrid.schema import CandidateFlag, MaskBit

SIDE = 1024
FWHM = 3.0


def strewn(rng, n):
    return rng.uniform(20, SIDE - 20, (2, n))


def row(n, step, *, angle=0.4, start=(150.0, 130.0), scatter=0.0, rng=None):
    along = np.arange(n) * step + (0 if rng is None else rng.normal(0, scatter, n))
    return start[0] + along * np.sin(angle), start[1] + along * np.cos(angle)


def found(*parts):
    y, x = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    return is_glint(y, x, np.linspace(30, 10, len(y)), fwhm=FWHM, area=SIDE**2)


@pytest.mark.parametrize(("n_glints", "n_others"), [(3, 2), (4, 10), (5, 20), (8, 50)])
def test_glints_in_a_row_are_named_and_others_are_not(n_glints, n_others):
    rng = np.random.default_rng(n_glints)
    glints = np.array(row(n_glints, 60.0)) + rng.normal(0, 0.2, (2, n_glints))
    is_one = found(glints, strewn(rng, n_others))
    assert is_one[:n_glints].all()
    assert is_one[n_glints:].sum() <= 1


def test_a_row_without_a_beat_needs_more_glints():
    rng = np.random.default_rng(3)
    others = strewn(rng, 10)
    assert found(row(6, 60.0, scatter=15.0, rng=rng), others)[:6].all()
    uneven = np.array(row(3, 100.0)) + np.array([[0, 0.3, 0]] * 2) * 100 * np.array([[np.sin(0.4)], [np.cos(0.4)]])
    assert not found(uneven, others).any()


@pytest.mark.parametrize("n", [3, 6, 12, 60])
def test_chance_makes_rows_in_fewer_images_than_the_bound_says(n):
    rng = np.random.default_rng(n)
    images = 100
    false = sum(found(strewn(rng, n)).any() for _ in range(images))
    assert false <= 3  # 0.5 expected at most; 4 or more has a chance of 0.2 %


def test_pieces_of_one_source_are_no_row():
    rng = np.random.default_rng(1)
    assert not found(row(6, 4.0), strewn(rng, 3)).any()


@pytest.mark.parametrize("why", ["", "template", "streak", "signs"])
def test_rows_of_what_has_another_reason_are_not_named(why):
    """Stars of the template, peaks of a streak, and candidates of mixed sign."""
    y, x = np.array(row(4, 60.0))
    axis = np.arange(25) - 12.0
    psf = np.exp(-(axis[:, None] ** 2 + axis**2) * 4 * np.log(2) / FWHM**2)
    psf = (psf / psf.sum()).astype(np.float32)
    mask, one = np.zeros((512, 512), np.uint16), np.ones((512, 512), np.float32)
    noise = np.random.default_rng(1).normal(size=mask.shape).astype(np.float32)
    flux = noise.copy()
    for row_of, column in zip(np.rint(y).astype(int), np.rint(x).astype(int), strict=True):
        flux[row_of - 12 : row_of + 13, column - 12 : column + 13] += 100 * psf
    if why == "streak":
        mask[np.rint(y).astype(int), np.rint(x).astype(int)] = MaskBit.STREAK
    template = Image(flux if why == "template" else noise, one, 0 * mask, psf)
    difference = Difference(flux, one, mask, psf, flux)
    signs = np.array([1, -1, -1, 1]) if why == "signs" else np.ones(4)
    flags = measure_candidates(difference, Image(flux, one, 0 * mask, psf), template, Detections(y, x, 20.0 * signs))
    assert ((flags["flags"] & CandidateFlag.GLINT) != 0).tolist() == [why == ""] * 4
