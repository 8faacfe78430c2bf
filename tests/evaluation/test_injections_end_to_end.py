import numpy as np
import pytest
from scipy import ndimage, signal

from astrid.evaluation.cell import recover
from astrid.evaluation.metrics import Truths, metrics_row
from astrid.image import Difference, Image
from astrid.simulation.injections import inject, plan_injections


def gaussian(fwhm, side=25):
    y, x = np.mgrid[:side, :side] - side // 2
    psf = np.exp(-0.5 * (y**2 + x**2) * (2.3548 / fwhm) ** 2)
    return (psf / psf.sum()).astype(np.float32)


def peaks(flux, psf, noise, threshold):
    score = signal.fftconvolve(flux, psf, mode="same") / (noise * np.sqrt(np.sum(psf.astype(float) ** 2)))
    y, x = np.nonzero((score == ndimage.maximum_filter(score, 5)) & (score >= threshold))
    left, right, down, up = score[y, x - 1], score[y, x + 1], score[y - 1, x], score[y + 1, x]
    top = score[y, x]
    dx, dy = (right - left) / (2 * (2 * top - left - right)), (up - down) / (2 * (2 * top - up - down))
    return y + dy, x + dx, top


def test_an_ideal_matched_filter_finds_half_of_the_injections_whose_snr_is_its_threshold():
    noise, psf = 7.0, gaussian(3.0)
    variance, mask = np.full((512, 512), noise**2, np.float32), np.zeros((512, 512), np.uint16)
    parts, n_false = [], 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        flux = rng.normal(0, noise, (512, 512)).astype(np.float32)
        science = Image(flux, variance, mask, psf)
        difference = Difference(flux, variance, mask, psf, np.zeros_like(flux))
        planned = plan_injections(science, difference, seed=seed, core=(32, 480, 32, 480))
        found = peaks(inject(science, planned, psf, rng=rng).flux, psf, noise, 5.0)
        clean_y, clean_x, _ = peaks(flux, psf, noise, 5.0)
        n_false += int(np.sum((clean_y > 31) & (clean_y < 480) & (clean_x > 31) & (clean_x < 480)))
        parts.append(recover(planned.y, planned.x, planned.snr, planned.mask_bits, *found, fwhm=3.0).truths)
    row = metrics_row(
        Truths.joined(parts),
        dataset="noise",
        truth="injections",
        subtraction="none",
        detector="ideal",
        n_false=n_false,
        n_images=8,
        megapixels=8 * 0.448**2,
        cpu_seconds=1.0,
        threshold=5.0,
    )
    # the highest of the pixels around a source of S/N s has on average sqrt(s^2 + 2)
    assert row["completeness_50_snr"] == pytest.approx(np.sqrt(25 - 2), abs=0.3)
    assert row["recall_snr8"] > 0.98
    assert row["recall"] > 0.85
    assert row["precision"] > 0.98
    assert row["n_false"] <= 4
    assert row["position_rms_px"] < 0.3
    assert row["localization"] > 80
    assert row["n_true"] > 200
