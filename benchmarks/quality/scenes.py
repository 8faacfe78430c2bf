"""Pairs of images of the same sky of which everything is known.

1024 x 1024 pixels, sky noise of 10 per pixel, one electron per count. The science image is blurred more (Moffat,
3.1 px FWHM, elliptical) than the template (2.2 px), and both PSFs vary slowly over the field. 200 transients of S/N 3
to 50, a third of them on galaxies, are in the science image alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from astrid.image import Image
from astrid.schema import MaskBit
from astrid.simulation.galaxies import Galaxies, add_galaxies
from astrid.simulation.psf import MoffatPsf, add_points

Floats = NDArray[np.float64]
PsfOf = Callable[[float, float], MoffatPsf]

SIDE = 1024
SKY = 100.0  # electrons per pixel of the science image
SATURATION = 60_000.0
PSF_SIDE = 41
BLOCKS = 16  # faint stars and galaxies share the PSF of a block
N_TRANSIENTS = 200
ON_GALAXIES = 67
EDGE = 40


@dataclass(frozen=True)
class Variant:
    """How a scene differs from the first one."""

    name: str
    n_stars: int = 800
    template_noise: float = 1 / 9  # its variance over that of the science image
    shift: float = 0.0  # px, of the science image against where it should be
    variation: float = 0.05  # of the FWHM over the field
    is_damaged: bool = False  # NaN pixels, bad columns, saturated stars


VARIANTS = {
    one.name: one
    for one in (
        Variant("base"),
        Variant("shift", shift=0.14),
        Variant("eqnoise", template_noise=1.0),
        Variant("nan", is_damaged=True),
        Variant("crowded", n_stars=6000),
        Variant("varying", variation=0.15),
    )
}


@dataclass(frozen=True, eq=False)
class Scene:
    """A pair and what is in it.

    Attributes
    ----------
    science, template : Image
        Variances are sky and what was measured of the sources; the PSFs are those of the centre of the field.
    y, x, flux : (n,) arrays
        Transients.
    best_snr : (n,) array
        S/N that the best linear statistic of both images reaches on each, its own photons included.
    on_galaxy : (n,) bool array
        Which lie on galaxies.
    star_y, star_x, star_flux : (m,) arrays
        Stars of the science image.
    """

    science: Image
    template: Image
    y: Floats
    x: Floats
    flux: Floats
    best_snr: Floats
    on_galaxy: NDArray[np.bool_]
    star_y: Floats
    star_x: Floats
    star_flux: Floats


def make_scene(variant: Variant, seed: int, side: int = SIDE) -> Scene:
    """Make a pair.

    Parameters
    ----------
    variant : Variant
        Which kind.
    seed : int
        Decides everything.
    side : int
        Pixels.
    """
    rng = np.random.default_rng([seed, side])
    area = (side / SIDE) ** 2
    n_stars = round(variant.n_stars * area)
    star_y, star_x = rng.uniform(-20, side + 20, (2, n_stars))
    star_flux = _fluxes(rng, n_stars, faintest=200.0, brightest=1e6, slope=0.25)
    n = round(150 * area)
    where = rng.uniform(EDGE, side - EDGE, (2, n))
    galaxies = Galaxies(
        np.zeros(n), np.zeros(n), _fluxes(rng, n, faintest=5e3, brightest=2e5, slope=0.3)[None],
        rng.uniform(2.0, 6.0, n), rng.uniform(0.4, 1.0, n), rng.uniform(0, 180, n), rng.uniform(size=n) < 0.3,
    )  # fmt: skip
    sharp, blurred = _psfs(variant, side)
    offset = variant.shift / np.sqrt(2)
    light = {}
    for name, psf_of, moved in (("science", blurred, offset), ("template", sharp, 0.0)):
        image = np.zeros((side, side))
        _add_stars(image, star_y + moved, star_x + moved, star_flux, psf_of)
        _add_galaxies(image, where + moved, galaxies, psf_of)
        light[name] = image
    y, x, on_galaxy = _places(rng, side, where, galaxies, star_y, star_x, star_flux, round(N_TRANSIENTS * area))
    snr = np.exp(rng.uniform(np.log(3), np.log(50), len(y)))
    noise = {name: 1.0 if name == "science" else variant.template_noise for name in light}
    flux, best = np.empty(len(y)), np.empty(len(y))
    for i in range(len(y)):
        psfs = blurred(y[i], x[i]), sharp(y[i], x[i])
        background = [
            noise[name] * (SKY + _around(light[name], y[i], x[i], psf))
            for name, psf in zip(("science", "template"), psfs, strict=True)
        ]
        flux[i], best[i] = _flux_of(snr[i], psfs, background)
    new = np.zeros((side, side))
    for i in range(len(y)):
        add_points(new, y[i : i + 1] + offset, x[i : i + 1] + offset, flux[i : i + 1], blurred(y[i], x[i]))
    images = {}
    for name, extra in (("science", new), ("template", 0.0)):
        expected = light[name] + extra
        counts = rng.normal(expected, np.sqrt(noise[name] * (SKY + expected)))
        images[name] = _image(rng, variant, counts, noise[name], (blurred if name == "science" else sharp), side)
    return Scene(
        images["science"], images["template"], y + offset, x + offset, flux, best, on_galaxy,
        star_y + offset, star_x + offset, star_flux,
    )  # fmt: skip


def _psfs(variant: Variant, side: int) -> tuple[PsfOf, PsfOf]:
    def sharp(y: float, x: float) -> MoffatPsf:
        return MoffatPsf(2.2 * (1 + variant.variation * 0.5 * (x / side - 0.5)), 3.0, 0.03, 60.0)

    def blurred(y: float, x: float) -> MoffatPsf:
        u, v = x / side - 0.5, y / side - 0.5
        fwhm = 3.1 * (1 + variant.variation * (0.7 * u + 0.3 * v + 0.6 * (u * u + v * v)))
        return MoffatPsf(fwhm, 3.0, 0.10 + variant.variation * v, 30.0 + 200 * variant.variation * u)

    return sharp, blurred


def _fluxes(rng: np.random.Generator, n: int, *, faintest: float, brightest: float, slope: float) -> Floats:
    """Draw fluxes of sources whose number grows by ``slope`` dex for each magnitude."""
    k = slope * 2.5
    u = rng.uniform(size=n)
    return np.asarray((faintest**-k + u * (brightest**-k - faintest**-k)) ** (-1 / k))


def _add_stars(image: Floats, y: Floats, x: Floats, flux: Floats, psf_of: PsfOf) -> None:
    side = len(image)
    bright = flux > 3e4
    for i in np.flatnonzero(bright):
        add_points(image, y[i : i + 1], x[i : i + 1], flux[i : i + 1], psf_of(y[i], x[i]))
    for rows, middle in _blocks(y, x, ~bright, side):
        add_points(image, y[rows], x[rows], flux[rows], psf_of(*middle))


def _add_galaxies(image: Floats, where: Floats, galaxies: Galaxies, psf_of: PsfOf) -> None:
    y, x = where
    for rows, middle in _blocks(y, x, np.ones(len(y), bool), len(image)):
        part = replace(
            galaxies,
            **{name: getattr(galaxies, name)[..., rows] for name in galaxies.__dataclass_fields__},
        )
        add_galaxies(image, y[rows], x[rows], part.flux[0], part, psf_of(*middle))


def _blocks(
    y: Floats, x: Floats, use: NDArray[np.bool_], side: int
) -> list[tuple[NDArray[np.intp], tuple[float, float]]]:
    size = side / BLOCKS
    number = np.clip(y // size, 0, BLOCKS - 1) * BLOCKS + np.clip(x // size, 0, BLOCKS - 1)
    return [
        (np.flatnonzero(use & (number == one)), ((one // BLOCKS + 0.5) * size, (one % BLOCKS + 0.5) * size))
        for one in np.unique(number[use])
    ]


def _places(
    rng: np.random.Generator, side: int, galaxy_at: Floats, galaxies: Galaxies, star_y: Floats, star_x: Floats,
    star_flux: Floats, n: int,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:  # fmt: skip
    """Choose places at least 20 px apart and 10 px from bright stars, a third within the light of galaxies."""
    bright = star_flux > 2e4
    places: list[tuple[float, float]] = []
    n_hosted = round(n * ON_GALAXIES / N_TRANSIENTS)
    order = rng.permutation(galaxy_at.shape[1])
    tries = 0
    while len(places) < n and tries < 100_000:
        tries += 1
        if len(places) < n_hosted:
            host = order[tries % len(order)]
            distance, angle = rng.uniform(0, 1.5) * galaxies.radius[host], rng.uniform(0, 2 * np.pi)
            at = galaxy_at[0, host] + distance * np.sin(angle), galaxy_at[1, host] + distance * np.cos(angle)
        else:
            at = float(rng.uniform(EDGE, side - EDGE)), float(rng.uniform(EDGE, side - EDGE))
        if not (EDGE <= at[0] <= side - EDGE and EDGE <= at[1] <= side - EDGE):
            continue
        if np.hypot(star_y[bright] - at[0], star_x[bright] - at[1]).min(initial=np.inf) < 10:
            continue
        if any(np.hypot(at[0] - y, at[1] - x) < 20 for y, x in places):
            continue
        places.append(at)
    y, x = np.array(places).T
    return y, x, np.arange(len(places)) < n_hosted


def _around(light: Floats, y: float, x: float, psf: MoffatPsf) -> float:
    """Return the light below a source, averaged with its squared PSF."""
    stamp = psf.image((15, 15)).astype(float) ** 2
    row, column = round(y), round(x)
    return float((light[row - 7 : row + 8, column - 7 : column + 8] * stamp).sum() / stamp.sum())


def _flux_of(snr: float, psfs: tuple[MoffatPsf, MoffatPsf], background: list[float]) -> tuple[float, float]:
    """Return the flux with a S/N by the best linear statistic (Zackay et al. 2016, eq. 12), and that S/N."""
    n = 64
    hats = [np.abs(fft.fft2(np.pad(psf.image((41, 41)).astype(float), ((0, n - 41),) * 2))) ** 2 for psf in psfs]
    square = float((psfs[0].image((41, 41)).astype(float) ** 3).sum() / (psfs[0].image((41, 41)) ** 2).sum())

    def reached(flux: float) -> float:
        science = background[0] + flux * square  # its own photons, where its light is
        power = hats[0] * hats[1] / (background[1] * hats[0] + science * hats[1])
        return flux * float(np.sqrt(power.mean()))

    low, high = 1.0, 1e7
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if reached(middle) < snr else (low, middle)
    return float(low), reached(low)


def _image(rng: np.random.Generator, variant: Variant, counts: Floats, noise: float, psf_of: PsfOf, side: int) -> Image:
    mask = np.zeros(counts.shape, np.uint16)
    flux = counts.astype(np.float32)
    variance = (noise * (SKY + np.maximum(counts, 0))).astype(np.float32)
    if variant.is_damaged:
        mask[flux > SATURATION] |= np.uint16(MaskBit.SATURATED)
        holes = rng.uniform(size=counts.shape) < 1e-3
        for column in rng.integers(0, side, 5):
            holes[:, column] = True
        mask[holes] |= np.uint16(MaskBit.BAD)
        flux[holes] = np.nan
    psf = psf_of(side / 2, side / 2).image((PSF_SIDE, PSF_SIDE))
    return Image(flux, variance, mask, psf)
