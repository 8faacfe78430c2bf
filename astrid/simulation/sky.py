"""The pixels of a synthetic exposure: camera, conditions, expected light, noise and artefacts.

Fluxes of sources are in nJy, positions in ICRS degrees; images are in electrons
until `expose` divides by the gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.simulation.artefacts import Defects, bleed, cosmic_rays, satellite_trail
from astrid.simulation.field import Stars
from astrid.simulation.galaxies import Galaxies, add_galaxies
from astrid.simulation.psf import MoffatPsf, add_points
from astrid.simulation.transients import Transient


@dataclass(frozen=True)
class Camera:
    """What does not change between exposures.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of the detector.
    pixel_scale : float
        Arcseconds per pixel.
    exposure_time : float
        Seconds.
    zero_point : float
        AB magnitude of one count per second through a clear sky.
    gain : float
        Electrons per count.
    read_noise : float
        Electrons.
    saturation : float
        Counts from which a pixel is saturated.
    """

    shape: tuple[int, int]
    pixel_scale: float
    exposure_time: float
    zero_point: float
    gain: float
    read_noise: float
    saturation: float

    def electrons(self, flux: NDArray[np.float64], transparency: float) -> NDArray[np.float64]:
        """Return the expected electrons of fluxes in nJy."""
        counts_per_second = np.asarray(flux) * 10 ** (0.4 * (self.zero_point - 31.4))
        return np.asarray(counts_per_second * (self.exposure_time * self.gain * transparency))


@dataclass(frozen=True)
class Conditions:
    """What changes from one exposure to the next.

    Attributes
    ----------
    mjd : float
        Time of mid-exposure, MJD (UTC).
    psf : MoffatPsf
        The true PSF.
    sky : float
        Counts per pixel at the centre.
    sky_slope : tuple of float
        Relative change of the sky from edge to edge along y and x.
    transparency : float
        Fraction of the light that arrives.
    ra, dec : float
        Where the central pixel truly points, ICRS degrees.
    rotation : float
        Degrees.
    pointing_error : tuple of float
        (y, x) in pixels by which the WCS of the header is off.
    """

    mjd: float
    psf: MoffatPsf
    sky: float
    sky_slope: tuple[float, float]
    transparency: float
    ra: float
    dec: float
    rotation: float
    pointing_error: tuple[float, float]


def field_wcs(
    ra: float,
    dec: float,
    shape: tuple[int, int],
    pixel_scale: float,
    *,
    rotation: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> WCS:
    """Return a TAN WCS whose (central pixel + ``offset`` (y, x)) lies at (ra, dec)."""
    scale, angle = pixel_scale / 3600, math.radians(rotation)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(shape[1] + 1) / 2 + offset[1], (shape[0] + 1) / 2 + offset[0]]
    wcs.wcs.cd = scale * np.array(
        [[-math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]],
    )
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    wcs.array_shape = shape
    return wcs


def expected_sources(
    camera: Camera,
    conditions: Conditions,
    stars: Stars,
    galaxies: Galaxies,
    *,
    band: int,
) -> NDArray[np.float64]:
    """Return the expected electrons of stars and galaxies, (ny, nx)."""
    image = np.zeros(camera.shape)
    wcs = _true_wcs(camera, conditions)
    if len(stars.ra):
        x, y = wcs.world_to_pixel_values(stars.ra, stars.dec)
        add_points(image, y, x, camera.electrons(stars.flux[band], conditions.transparency), conditions.psf)
    if len(galaxies):
        x, y = wcs.world_to_pixel_values(galaxies.ra, galaxies.dec)
        flux = camera.electrons(galaxies.flux[band], conditions.transparency)
        angle = math.radians(conditions.rotation)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        add_galaxies(image, y, x, flux, galaxies, conditions.psf, jacobian=turn)
    return np.maximum(image, 0.0)


def expected_transients(
    camera: Camera,
    conditions: Conditions,
    transients: Sequence[Transient],
    *,
    band: int,
) -> NDArray[np.float64]:
    """Return the expected electrons of the transients above quiescence, (ny, nx)."""
    image = np.zeros(camera.shape)
    if transients:
        ra, dec = np.array([event.position_at(conditions.mjd) for event in transients]).T
        x, y = _true_wcs(camera, conditions).world_to_pixel_values(ra, dec)
        flux = np.array([event.flux_at(conditions.mjd, band) for event in transients])
        add_points(image, y, x, camera.electrons(flux, conditions.transparency), conditions.psf)
    return image


def expected_sky(camera: Camera, conditions: Conditions) -> NDArray[np.float64]:
    """Return the expected electrons of the sky, (ny, nx): a plane."""
    y, x = (np.linspace(-0.5, 0.5, side) for side in camera.shape)
    slope = conditions.sky_slope
    return np.asarray(conditions.sky * camera.gain * (1 + slope[0] * y[:, None] + slope[1] * x[None, :]))


def expose(
    rng: np.random.Generator,
    camera: Camera,
    conditions: Conditions,
    *,
    static: NDArray[np.float64],
    transient: NDArray[np.float64],
    defects: Defects,
    noise: bool = True,
    cosmic_ray_count: float = 0.0,
    trail_probability: float = 0.0,
) -> NDArray[np.float32]:
    """Turn expected electrons into the counts that the detector delivers.

    Every ingredient draws from a stream of its own, so that switching one off
    leaves the noise of the others as it was.

    Parameters
    ----------
    rng : Generator
        Of this exposure.
    camera, conditions : Camera, Conditions
        Detector and circumstances.
    static, transient : (ny, nx) arrays
        Expected electrons of sky and steady sources, and of the transients.
    defects : Defects
        Flaws of the detector.
    noise : bool
        Poisson and read noise; without it the expectation is returned.
    cosmic_ray_count : float
        Expected number of cosmic rays.
    trail_probability : float
        Chance of a satellite trail.

    Returns
    -------
    (ny, nx) float32 array
        Counts; a saturated pixel holds ``camera.saturation``.
    """
    static_rng, transient_rng, dark_rng, read_rng, cosmic_rng, trail_rng, defect_rng = rng.spawn(7)
    trail = np.zeros(camera.shape)
    if trail_rng.uniform() < trail_probability:
        brightness = trail_rng.uniform(3, 30) * math.sqrt(conditions.sky * camera.gain + camera.read_noise**2)
        trail = satellite_trail(trail_rng, camera.shape, fwhm=conditions.psf.fwhm, brightness=brightness)
    electrons = np.zeros(camera.shape)
    for expected, source in ((static, static_rng), (transient, transient_rng), (trail, trail_rng)):
        electrons += source.poisson(expected) if noise else expected
    blind = defects.sensitivity < 1  # what is left of a Poisson number is a Poisson number
    if noise:
        electrons[blind] = defect_rng.binomial(electrons[blind].astype(np.int64), defects.sensitivity[blind])
        electrons += dark_rng.poisson(defects.dark)
    else:
        electrons = electrons * defects.sensitivity + defects.dark
    if noise:
        electrons += read_rng.normal(0.0, camera.read_noise, camera.shape)
    if cosmic_ray_count > 0:
        electrons += cosmic_rays(cosmic_rng, camera.shape, count=cosmic_ray_count)
    full_well = camera.saturation * camera.gain
    electrons = bleed(electrons, full_well)
    return np.where(electrons >= full_well, camera.saturation, electrons / camera.gain).astype(np.float32)


def _true_wcs(camera: Camera, conditions: Conditions) -> WCS:
    return field_wcs(conditions.ra, conditions.dec, camera.shape, camera.pixel_scale, rotation=conditions.rotation)
