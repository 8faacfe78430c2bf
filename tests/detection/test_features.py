import numpy as np
import pytest

from astrid import schema
from astrid.detection.base import Detections
from astrid.detection.features import measure_candidates
from astrid.image import Difference, Image
from astrid.imaging.photometry import shifted_psfs

COLUMNS = [
    "y",
    "x",
    "y_error",
    "x_error",
    "flux",
    "flux_error",
    "significance",
    "is_negative",
    "fwhm",
    "elongation",
    "psf_chi2",
    "sharpness",
    "negative_fraction",
    "dipole",
    "flux_ratio_aperture",
    "science_flux",
    "template_flux",
    "distance_to_source",
    "n_masked",
    "mask_bits",
    "flags",
]


def gaussian(fwhm=3.0, side=25, stretch=1.0):
    r = np.arange(side) - side // 2
    psf = np.exp(-((r[:, None] * stretch) ** 2 + (r / stretch) ** 2) * 4 * np.log(2) / fwhm**2)
    return (psf / psf.sum()).astype(np.float32)


def put(image, y, x, flux, psf):
    half = psf.shape[0] // 2
    cy, cx = round(y), round(x)
    image[cy - half : cy + half + 1, cx - half : cx + half + 1] += (
        flux * shifted_psfs(psf, np.array([y]), np.array([x]))[0]
    )


def measure(sources, y, x, significance, *, sigma=1.0, n=128, stars=(), bad=(), seed=1, astrometric_rms=0.0):
    """Features on a difference that holds (y, x, flux, psf) sources and a template that holds stars."""
    rng = np.random.default_rng(seed)
    planes = [rng.normal(0, sigma, (n, n)).astype(np.float32) for _ in range(3)]
    for cy, cx, flux, psf in sources:
        put(planes[0], cy, cx, flux, psf)
        put(planes[1], cy, cx, flux, psf)
    for cy, cx, flux in stars:
        put(planes[1], cy, cx, flux, gaussian())
        put(planes[2], cy, cx, flux, gaussian())
    variance = np.full((n, n), sigma**2, np.float32)
    mask = np.zeros((n, n), np.uint16)
    for cy, cx, bit in bad:
        mask[cy, cx] = bit
    power = np.sqrt((gaussian() ** 2).sum())
    score = np.zeros((n, n), np.float32)
    for cy, cx, flux, _ in sources:
        put(score, cy, cx, flux / sigma / power * 40, gaussian(4.2))
    difference = Difference(planes[0], variance, mask, gaussian(), score)
    science = Image(planes[1], variance, mask, gaussian(), astrometric_rms=astrometric_rms)
    template = Image(planes[2], variance, np.zeros_like(mask), gaussian())
    at = Detections(*(np.atleast_1d(np.asarray(a, np.float64)) for a in (y, x, significance)))
    return measure_candidates(difference, science, template, at)


def test_the_columns_are_those_of_the_candidates():
    columns = measure([(60.3, 64.7, 500, gaussian())], 60.3, 64.7, 50)
    assert set(columns) == set(COLUMNS)
    assert set(columns) <= set(schema.CANDIDATES.names)
    assert {v.shape for v in columns.values()} == {(1,)}


def test_no_detections_give_empty_columns():
    columns = measure([], [], [], [])
    assert set(columns) == set(COLUMNS)
    assert {v.shape for v in columns.values()} == {(0,)}
    assert columns["is_negative"].dtype == bool
    assert columns["mask_bits"].dtype == columns["n_masked"].dtype == np.int32


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_point_source_looks_like_one(sign):
    c = {k: v[0] for k, v in measure([(60.3, 64.7, sign * 3000, gaussian())], 60.3, 64.7, sign * 300).items()}
    assert c["is_negative"] == (sign < 0)
    assert c["flux"] == pytest.approx(sign * 3000, abs=5 * c["flux_error"])
    assert c["science_flux"] == pytest.approx(sign * 3000, abs=30)
    assert abs(c["template_flux"]) < 30
    assert c["fwhm"] == pytest.approx(3.0, rel=0.03)
    assert c["elongation"] < 1.05
    assert c["psf_chi2"] == pytest.approx(1, abs=0.5)
    assert c["sharpness"] == pytest.approx(1, abs=0.05)
    assert c["flux_ratio_aperture"] == pytest.approx(1, abs=0.05)
    assert c["negative_fraction"] < 0.02
    assert c["dipole"] < 0.01
    assert (c["n_masked"], c["mask_bits"]) == (0, 0)


def test_an_elongated_source_is_elongated_and_wide():
    columns = measure([(60, 64, 5000, gaussian(3.0, stretch=1.3))], 60, 64, 300)
    assert columns["elongation"][0] == pytest.approx(1.69, rel=0.1)
    wide = measure([(60, 64, 5000, gaussian(5.0))], 60, 64, 300)
    assert wide["fwhm"][0] == pytest.approx(5.0, rel=0.05)
    assert 1.15 < wide["flux_ratio_aperture"][0] < 1.3
    assert wide["sharpness"][0] < 0.7


def test_a_hot_pixel_is_sharp():
    spike = np.zeros((25, 25), np.float32)
    spike[12, 12] = 1
    columns = measure([(60, 64, 200, spike)], 60, 64, 40)
    assert columns["sharpness"][0] > 2
    assert columns["fwhm"][0] < 1.5
    assert columns["psf_chi2"][0] > 10


def test_a_dipole_shows_its_other_pole():
    sources = [(60, 62, 2000, gaussian()), (60, 66, -2000, gaussian())]
    columns = measure(sources, 60, 62, 150)
    assert columns["dipole"][0] > 0.3
    assert columns["negative_fraction"][0] > 0.2


def test_position_errors_are_the_scatter_of_positions():
    columns = measure([(60, 64, 100, gaussian())], 60, 64, 20, sigma=1.0)
    relative = columns["flux_error"][0] / columns["flux"][0]
    # for a Gaussian the error is its width over the signal-to-noise ratio, times the square root of two
    assert columns["y_error"][0] == pytest.approx(np.sqrt(2) * 3.0 / 2.3548 * relative, rel=0.1)
    registered = measure([(60, 64, 100, gaussian())], 60, 64, 20, astrometric_rms=0.5)
    assert registered["x_error"][0] == pytest.approx(np.hypot(columns["x_error"][0], 0.5))


def test_the_distance_is_to_the_nearest_star_of_the_template():
    stars = [(60, 70, 3000), (30, 30, 3000)]
    columns = measure([], [60, 33, 100], [64, 34, 100], [6, 6, 6], stars=stars)
    assert columns["distance_to_source"][:2] == pytest.approx([6, 5], abs=0.8)
    assert columns["template_flux"].shape == (3,)
    alone = measure([], [60], [64], [6])
    assert alone["distance_to_source"][0] == 100


def test_masked_pixels_are_counted_and_their_bits_joined():
    bad = [(60, 65, 2), (61, 64, 12), (60, 90, 1)]
    columns = measure([(60, 64, 500, gaussian())], 60, 64, 50, bad=bad)
    assert (columns["n_masked"][0], columns["mask_bits"][0]) == (2, 14)


def test_every_number_is_finite_even_where_nothing_can_be_measured():
    n = 128
    rng = np.random.default_rng(0)
    y, x = rng.uniform(0, n - 1, (2, 600))
    columns = measure([], y, x, rng.choice([-6.0, 6.0], 600), sigma=3.0)
    for name, values in columns.items():
        assert np.isfinite(values).all(), name
    bad = [(r, c, 2) for r in range(40, 80) for c in range(40, 80)]
    columns = measure([], [60], [60], [6], bad=bad)
    for name, values in columns.items():
        assert np.isfinite(values).all() or name in ("flux", "flux_error", "science_flux"), name


def test_images_of_other_shapes_are_refused():
    image = np.zeros((8, 8), np.float32)
    small = Image(image, image + 1, np.zeros((8, 8), np.uint16), gaussian())
    big = np.zeros((9, 9), np.float32)
    difference = Difference(big, big + 1, np.zeros((9, 9), np.uint16), gaussian(), big)
    none = Detections(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match=r"\(9, 9\).*\(8, 8\)"):
        measure_candidates(difference, small, small, none)
