"""Small tiles of a harsh sky: what detectors that learn are trained and judged on.

Each is a pair of images in electrons with two transients in the science image and all that makes false alarms: stars
up to saturation with bleeding, galaxies, a science image that is out of place and of another brightness than is said,
PSFs that are not quite those given, cosmic rays, trails, bad columns, hot pixels, ghosts, and flaws of the template.
Only saturated pixels are masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrid.image import Image
from astrid.schema import MaskBit
from astrid.simulation.artefacts import bleed, cosmic_rays, make_defects, satellite_trail
from astrid.simulation.galaxies import Galaxies, add_galaxies
from astrid.simulation.psf import MoffatPsf, add_points

Floats = NDArray[np.float64]

READ_NOISE = 8.0  # electrons
FULL_WELL = 60_000.0  # electrons
SKY = (150.0, 900.0)  # electrons per pixel
TEMPLATE_DEPTH = (1.0, 6.0)  # exposures of equal length in a template
FWHM_SCIENCE, FWHM_TEMPLATE = (1.6, 3.8), (1.6, 2.4)  # px
BETA = 3.5
STARS = (40, 500)  # in 256 x 256 px
GALAXIES = 14
STAR_FLUX = (300.0, 3e6)  # electrons, a power law between
SHIFT, PSF_ERROR, GAIN_ERROR = 0.12, 0.02, 0.006  # rms: px on each axis, of the width, of the brightness
COSMIC_RAYS = 2.5
TRAILS, BAD_COLUMNS, HOT_PIXELS = 0.12, 0.3, 4.0  # part of the tiles; mean number
GHOSTS = 0.25  # part of the tiles
TEMPLATE_FLAWS = 1.5  # mean number: residuals of cosmic rays, blobs of either sign
SNR = (3.0, 60.0)  # log-uniform
HOSTED = 0.55
MARGIN = 8.0  # px between a transient and the edge
APART = 20.0  # px between transients
PSF_SIDE = 31


@dataclass(frozen=True, eq=False)
class HarshTile:
    """A pair of images and its transients.

    Attributes
    ----------
    science, template : Image
        In electrons; the PSFs are those given, not quite the true ones.
    y, x : (n,) float64 arrays
        Where the transients are, in pixels.
    flux, snr : (n,) float64 arrays
        Electrons, and over the error of the best linear measurement in the local noise of both images
        (Zackay et al. 2016, ADS 2016ApJ...830...27Z, eq. 18 at one frequency after the other).
    on_galaxy : (n,) bool array
        Whether put on a galaxy.
    fwhm : float
        Of the science image, in pixels.
    """

    science: Image
    template: Image
    y: Floats
    x: Floats
    flux: Floats
    snr: Floats
    on_galaxy: NDArray[np.bool_]
    fwhm: float


def harsh_tile(
    seed: int, *, side: int = 256, transients: int = 2, artefacts: bool = True, sources: bool = True
) -> HarshTile:
    """Make a tile; everything follows from its seed.

    Parameters
    ----------
    seed : int
        Of this tile; see `astrid.simulation.seeds.seed_of`.
    side : int
        Pixels along each axis; numbers of sources and flaws go with the area.
    transients : int
        How many.
    artefacts : bool
        Whether anything but noise and an exact subtraction is to be expected: flaws of detector and template, errors
        of registration, PSF and brightness.
    sources : bool
        Whether there are stars and galaxies.
    """
    rng = np.random.default_rng(seed)
    sky_rng, star_rng, flaw_rng, transient_rng, noise_rng = rng.spawn(5)
    shape, area = (side, side), (side / 256) ** 2
    psf, psf_template = (
        MoffatPsf(
            float(sky_rng.uniform(*limits)), BETA, float(sky_rng.uniform(0, 0.12)), float(sky_rng.uniform(0, 180))
        )
        for limits in (FWHM_SCIENCE, FWHM_TEMPLATE)
    )
    sky, depth = float(sky_rng.uniform(*SKY)), float(sky_rng.uniform(*TEMPLATE_DEPTH))
    stars = _stars(star_rng, side, area) if sources else (np.empty(0),) * 3
    galaxies, at = _galaxies(star_rng, side, area if sources else 0.0)
    dy, dx = flaw_rng.normal(0, SHIFT, 2) if artefacts else (0.0, 0.0)
    gain = 1 + (flaw_rng.normal(0, GAIN_ERROR) if artefacts else 0.0)
    steady = gain * _scene(shape, stars, galaxies, at, psf, dy, dx)
    reference = _scene(shape, stars, galaxies, at, psf_template, 0.0, 0.0)

    noise = steady + sky + READ_NOISE**2, (reference + sky + READ_NOISE**2) / depth
    y, x, on_galaxy = _places(transient_rng, side, transients, galaxies, at)
    low, high = np.log(SNR)
    snr = np.exp(transient_rng.uniform(low, high, transients))
    pixels = np.rint(y).astype(int), np.rint(x).astype(int)
    flux = snr * np.array(
        [_flux_error(psf, psf_template, v, w) for v, w in zip(*(n[pixels] for n in noise), strict=True)]
    )
    new = np.zeros(shape)
    add_points(new, y + dy, x + dx, flux, psf)

    flaws = _flaws(flaw_rng, shape, area, psf, sky, stars) if artefacts else np.zeros(shape)
    counts = noise_rng.poisson(np.maximum(steady + new + sky + flaws, 0)) + noise_rng.normal(0, READ_NOISE, shape)
    if artefacts:
        counts = counts + cosmic_rays(flaw_rng, shape, count=COSMIC_RAYS * area)
        defects = make_defects(
            flaw_rng,
            shape,
            bad_columns=int(flaw_rng.random() < BAD_COLUMNS),
            hot_pixels=int(flaw_rng.poisson(HOT_PIXELS * area)),
        )
        counts = counts * defects.sensitivity + defects.dark + (1 - defects.sensitivity) * 0.8 * sky
    counts = bleed(counts, FULL_WELL)
    saturated = counts >= FULL_WELL
    coadd = noise_rng.poisson(depth * (reference + sky)) / depth + noise_rng.normal(
        0, READ_NOISE / np.sqrt(depth), shape
    )
    if artefacts:
        coadd += _template_flaws(flaw_rng, shape, area, psf_template, sky, depth)
    lost = bleed(reference + sky, FULL_WELL) >= FULL_WELL

    def given(true: MoffatPsf) -> NDArray[np.float32]:
        wrong = 1 + (flaw_rng.normal(0, PSF_ERROR) if artefacts else 0.0)
        return MoffatPsf(max(1.0, true.fwhm * wrong), BETA, true.ellipticity, true.angle).image((PSF_SIDE, PSF_SIDE))

    science = _image(counts - sky, noise[0], saturated, given(psf))
    template = _image(coadd - sky, noise[1], lost, given(psf_template))
    return HarshTile(science, template, y + dy, x + dx, flux, snr, on_galaxy, psf.fwhm)


def _image(flux: Floats, variance: Floats, saturated: NDArray[np.bool_], psf: NDArray[np.float32]) -> Image:
    mask = np.where(saturated, np.uint16(MaskBit.SATURATED), np.uint16(0)).astype(np.uint16)
    return Image(flux.astype(np.float32), variance.astype(np.float32), mask, psf)


def _stars(rng: np.random.Generator, side: int, area: float) -> tuple[Floats, Floats, Floats]:
    count = int(np.exp(rng.uniform(*np.log(STARS))) * area)
    low, high = (value**-0.8 for value in STAR_FLUX)
    flux = rng.uniform(high, low, count) ** (-1 / 0.8)
    y, x = rng.uniform(-10, side + 9, (2, count))
    return y, x, flux


def _galaxies(rng: np.random.Generator, side: int, area: float) -> tuple[Galaxies, Floats]:
    count = round(GALAXIES * area)
    flux = 10 ** rng.uniform(3.3, 5.3, count)
    shapes = Galaxies(
        ra=np.zeros(count),
        dec=np.zeros(count),
        flux=flux[None],
        radius=np.clip(rng.lognormal(np.log(3.0), 0.5, count), 1.0, 12.0),
        axis_ratio=rng.uniform(0.3, 1.0, count),
        angle=rng.uniform(0, 180, count),
        is_bulge=rng.random(count) < 0.4,
    )
    return shapes, rng.uniform(0, side - 1, (2, count))


def _scene(
    shape: tuple[int, int],
    stars: tuple[Floats, Floats, Floats],
    galaxies: Galaxies,
    at: Floats,
    psf: MoffatPsf,
    dy: float,
    dx: float,
) -> Floats:
    image = np.zeros(shape)
    add_points(image, stars[0] + dy, stars[1] + dx, stars[2], psf)
    add_galaxies(image, at[0] + dy, at[1] + dx, galaxies.flux[0], galaxies, psf)
    return np.maximum(image, 0)


def _places(
    rng: np.random.Generator, side: int, count: int, galaxies: Galaxies, at: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Draw places apart from each other, some on galaxies."""
    places: list[tuple[float, float, bool]] = []
    while len(places) < count:
        hosted = len(galaxies) > 0 and rng.random() < HOSTED
        y, x = rng.uniform(MARGIN, side - 1 - MARGIN, 2)
        if hosted:
            one = int(rng.integers(len(galaxies)))
            y, x = at[:, one] + rng.normal(0, 0.7 * galaxies.radius[one], 2)
        inside = min(y, x) >= MARGIN and max(y, x) <= side - 1 - MARGIN
        if inside and all(np.hypot(y - v, x - u) >= APART for v, u, _ in places):
            places.append((float(y), float(x), bool(hosted)))
    found = np.array(places, float).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2] > 0


def _flux_error(psf: MoffatPsf, template: MoffatPsf, variance: float, variance_template: float) -> float:
    """Return the error of the flux of a new source by the best linear combination of both images."""
    n, r = (np.abs(np.fft.fft2(one.image((63, 63)))) ** 2 for one in (psf, template))
    return float(1 / np.sqrt(np.mean(n * r / (variance * r + variance_template * n + 1e-12))))


def _flaws(
    rng: np.random.Generator,
    shape: tuple[int, int],
    area: float,
    psf: MoffatPsf,
    sky: float,
    stars: tuple[Floats, Floats, Floats],
) -> Floats:
    """Make the expected electrons of trails and of ghosts, rings of light of a bright star elsewhere."""
    image, noise = np.zeros(shape), np.sqrt(sky + READ_NOISE**2)
    if rng.random() < TRAILS * area:
        image += satellite_trail(rng, shape, fwhm=psf.fwhm, brightness=float(rng.uniform(2, 30)) * noise)
    if rng.random() < GHOSTS * area and len(stars[2]):
        y, x = rng.uniform(0, shape[0] - 1, 2)
        radius = float(rng.uniform(6, 25))
        distance = np.hypot(*(np.indices(shape) - np.array([y, x])[:, None, None]))
        outer, inner = (np.exp(np.minimum((distance - part * radius) / 0.7, 600)) for part in (1.0, 0.4))
        ring = 1 / (1 + outer) - 0.7 / (1 + inner)
        image += float(rng.uniform(1, 8)) * noise * np.maximum(ring, 0)
    return image


def _template_flaws(
    rng: np.random.Generator, shape: tuple[int, int], area: float, psf: MoffatPsf, sky: float, depth: float
) -> Floats:
    """Make what a coadd holds and the sky does not: pieces of cosmic rays, and blobs of either sign, sharp or wide."""
    noise = float(np.sqrt((sky + READ_NOISE**2) / depth))
    image = cosmic_rays(rng, shape, count=0.5 * COSMIC_RAYS * area) / max(depth, 2.0)
    for _ in range(int(rng.poisson(TEMPLATE_FLAWS * area))):
        y, x = rng.uniform(0, np.array(shape) - 1)
        blob = MoffatPsf(max(1.0, psf.fwhm * float(np.exp(rng.uniform(np.log(0.5), np.log(2.5))))), 3.0)
        flux = float(rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(20), np.log(300)))) * noise * psf.fwhm
        add_points(image, np.array([y]), np.array([x]), np.array([flux]), blob)
    return image
