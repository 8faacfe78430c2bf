import numpy as np
import pytest
from scipy import ndimage, signal

from astrid.evaluation.false_peaks import expected_false_peaks, threshold_note


def gaussian(fwhm, side=15):
    y, x = np.mgrid[:side, :side] - side // 2
    psf = np.exp(-0.5 * (y**2 + x**2) * (2.3548 / fwhm) ** 2)
    return (psf / psf.sum()).astype(np.float32)


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("threshold", [2.0, 3.0])
def test_the_expected_number_is_that_of_simulated_noise(fwhm, threshold):
    psf = gaussian(fwhm)
    noise = np.random.default_rng(1).standard_normal((1200, 1200))
    score = signal.fftconvolve(noise, psf, mode="valid") / np.sqrt(np.sum(psf.astype(float) ** 2))
    above = (score >= threshold) & (score == ndimage.maximum_filter(score, 3))
    below = (score <= -threshold) & (score == ndimage.minimum_filter(score, 3))
    found = int(above.sum() + below.sum())
    expected = expected_false_peaks(psf, threshold) * score.size / 1e6
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected) + 0.02 * expected)


def test_five_sigma_makes_less_than_one_peak_per_megapixel_and_falls_with_the_threshold():
    five, six = (expected_false_peaks(gaussian(3.0), t) for t in (5.0, 6.0))
    assert 0.1 < five < 0.58
    assert six < five / 100
    assert expected_false_peaks(gaussian(3.0), 5.0, both_signs=False) == pytest.approx(five / 2)


def test_the_note_says_what_was_expected_and_what_was_measured():
    note = threshold_note(
        5.0, gaussian(3.0), how="fixed before the run", false_alarms_per_megapixel=1.25, megapixels=30
    )
    assert note.startswith("A detection must reach 5 standard deviations of the score. It was fixed before the run.")
    assert "1.2 per megapixel were found on 30 megapixels" in note
    unknown = threshold_note(5.0, gaussian(3.0), how="fixed", false_alarms_per_megapixel=None, megapixels=0.0)
    assert "could not be measured" in unknown
    with pytest.raises(ValueError, match="threshold"):
        expected_false_peaks(gaussian(3.0), -1.0)
