import numpy as np
import pytest

from astrid.detection.features import measure_candidates
from astrid.detection.matched_filter import MatchedFilter
from astrid.image import Image
from astrid.schema import CandidateFlag
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.subtraction.zogy import Zogy

SIDE = 192
SKY = 100.0
STAR = 96.3, 95.8
PSF = MoffatPsf(3.0, 3.0, 0.05, 30.0)


def dipole_of(flux, shift, seed, detector):
    """Candidates about a star that the science image has off by ``shift`` pixels, and their flags."""
    rng = np.random.default_rng(seed)
    images = []
    for noise, moved in ((1.0, shift), (1 / 9, 0.0)):
        light = np.zeros((SIDE, SIDE))
        add_points(light, np.array([STAR[0] + 0.6 * moved]), np.array([STAR[1] + 0.8 * moved]), np.array([flux]), PSF)
        counts = rng.normal(light, np.sqrt(noise * (SKY + light))).astype(np.float32)
        variance = (noise * (SKY + np.maximum(counts, 0))).astype(np.float32)
        images.append(Image(counts, variance, np.zeros(counts.shape, np.uint16), PSF.image((41, 41))))
    difference = Zogy()(*images)
    found = measure_candidates(difference, *images, detector(difference))
    near = np.hypot(found["y"] - STAR[0], found["x"] - STAR[1]) < 12
    return (found["flags"][near] & CandidateFlag.DIPOLE) != 0, found["is_negative"][near]


@pytest.mark.parametrize("flux", [2e4, 3e5])
@pytest.mark.parametrize("shift", [0.25, 0.5, 1.2])
def test_a_bright_star_off_its_place_leaves_one_record_at_most_and_that_is_a_dipole(flux, shift):
    for seed in range(3):
        is_dipole, _ = dipole_of(flux, shift, seed, MatchedFilter())
        assert len(is_dipole) <= 1
        assert is_dipole.all()


def test_where_every_peak_is_wanted_both_halves_are_dipoles():
    is_dipole, is_negative = dipole_of(6e4, 0.5, 1, MatchedFilter(max_chi2=None))
    assert is_dipole.tolist() == [True, True]
    assert sorted(is_negative.tolist()) == [False, True]
