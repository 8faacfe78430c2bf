import pytest

from benchmarks.noise_honesty import measure


def test_five_sigma_are_five_sigma(tmp_path):
    found = measure(tmp_path, seeds=[1], n_epochs=4)
    assert found.megapixels > 3
    assert found.width == pytest.approx(1, abs=0.03)
    # three times the count of white noise, and three sigma of Poisson noise on what is a handful
    allowed = 3 * found.white_peaks["5"]
    assert found.peaks["5"] <= allowed + 3 * max(allowed, 1) ** 0.5, found.worst


@pytest.mark.slow
def test_thirty_megapixels_hold_no_more_peaks_than_white_noise_explains(tmp_path):
    found = measure(tmp_path, seeds=range(1, 6), n_epochs=8)
    assert found.megapixels > 30
    assert found.width == pytest.approx(1, abs=0.03)
    assert 0.97 < found.smallest_width < found.largest_width < 1.03
    assert found.peaks["5"] <= 3 * found.white_peaks["5"], found.worst
