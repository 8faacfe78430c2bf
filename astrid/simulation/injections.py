"""Put synthetic transients into real pixels.

`plan_injections` says where and how bright, `inject` adds them to the science
image. The true signal-to-noise ratio of an injection is its flux over the error of
PSF flux at its place in the difference, from science and template noise alone: it
owes nothing to any detector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrid.errors import CellSkipped
from astrid.image import Difference, FloatArray, Image
from astrid.schema import MaskBit
from astrid.simulation.hosts import find_galaxies
from astrid.simulation.stamps import perturb_psf, psf_flux_error, psf_fwhm, stamp_at

__all__ = [
    "InjectionRecipe",
    "Injections",
    "inject",
    "perturb_psf",
    "perturbed_psfs",
    "plan_injections",
    "psf_flux_error",
]

SMALL_STAMP = 128  # px; a smaller core gets one injection
CENTRE_DISTANCE = 10.0  # px; from the centre of a small stamp, where its event sits
_TRIES = 50  # per block, before it is left empty

Box = tuple[int, int, int, int]
Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class InjectionRecipe:
    """How many transients are injected, how bright and where.

    Attributes
    ----------
    seed : int
        Of the run; each cell derives its own from it.
    snr_min, snr_max : float
        Range of the true S/N, drawn log-uniform.
    block : int
        Side in pixels of the square that holds at most one injection.
    min_separation : float
        Smallest distance between two injections, in pixels.
    density : float
        Fraction of the blocks that get an injection.
    host_fraction : float
        Fraction put on galaxies, as far as there are galaxies.
    psf_uncertainty : float
        Relative 1-sigma error of the width of a measured PSF, see
        `astrid.simulation.stamps.perturb_psf`.
    """

    seed: int = 1
    snr_min: float = 3.0
    snr_max: float = 50.0
    block: int = 64
    min_separation: float = 10.0
    density: float = 1.0
    host_fraction: float = 0.5
    psf_uncertainty: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.snr_min <= self.snr_max < np.inf:
            raise ValueError(f"0 < snr_min <= snr_max is needed, got {self.snr_min} and {self.snr_max}")
        if self.block < 1:
            raise ValueError(f"block must be at least 1 px, got {self.block}")
        if not self.min_separation >= 0:
            raise ValueError(f"min_separation must not be negative, got {self.min_separation}")
        if not 0 < self.density <= 1:
            raise ValueError(f"density is a fraction of the blocks in (0, 1], got {self.density}")
        if not 0 <= self.host_fraction <= 1:
            raise ValueError(f"host_fraction must be in [0, 1], got {self.host_fraction}")
        if not 0 <= self.psf_uncertainty < 0.3:
            raise ValueError(f"psf_uncertainty must be in [0, 0.3), got {self.psf_uncertainty}")


@dataclass(frozen=True, eq=False)
class Injections:
    """Synthetic transients of one cell.

    Attributes
    ----------
    y, x : (n,) float64 arrays
        Sub-pixel positions.
    flux : (n,) float64 array
        Total flux, in the unit of the image.
    flux_error : (n,) float64 array
        Error of PSF flux at the position, without the transient's own noise.
    snr : (n,) float64 array
        True signal-to-noise ratio: ``flux / flux_error``.
    host : tuple of str
        "galaxy" where put on one, else "field": a random place.
    mask_bits : (n,) int32 array
        Bits of science and difference at the nearest pixel, before injection.
    seed : int
        What they were drawn from.
    """

    y: Float64Array
    x: Float64Array
    flux: Float64Array
    flux_error: Float64Array
    snr: Float64Array
    host: tuple[str, ...]
    mask_bits: NDArray[np.int32]
    seed: int

    def __len__(self) -> int:
        return len(self.y)


def plan_injections(
    science: Image,
    difference: Difference,
    *,
    seed: int,
    core: Box | None = None,
    avoid: ArrayLike | None = None,
    recipe: InjectionRecipe | None = None,
) -> Injections:
    """Choose positions and fluxes of the transients to put into a science image.

    At most one per block, at least ``min_separation`` apart, never within 2 FWHM of
    a position of ``avoid``, never where there is no data. A core smaller than 128 px
    gets exactly one, more than 10 px from its centre.

    Parameters
    ----------
    science : Image
        The cell before injection.
    difference : Difference
        Its difference before injection: its PSF and variance define the S/N.
    seed : int
        Decides everything; see `astrid.simulation.seeds.seed_of`.
    core : tuple of int, optional
        ``(y0, y1, x0, x1)``, half open; default the whole image.
    avoid : (n, 2) array, optional
        Positions ``(y, x)`` of known events.
    recipe : InjectionRecipe, optional
        How many, how bright, where.

    Returns
    -------
    Injections
        Sorted by (y, x).

    Raises
    ------
    CellSkipped
        If a small stamp has no room for its one injection.
    """
    recipe = recipe or InjectionRecipe()
    if science.flux.shape != difference.flux.shape:
        raise ValueError(f"science is {science.flux.shape} but difference is {difference.flux.shape}")
    box = _checked_core(core, science.flux.shape)
    rng = np.random.default_rng(seed)
    fwhm = max(psf_fwhm(science.psf), psf_fwhm(difference.psf))
    rules = _Rules.of(science, box, avoid, min_separation=recipe.min_separation, fwhm=fwhm)
    galaxies = find_galaxies(science) if recipe.host_fraction > 0 else np.empty((0, 5))

    if min(box[1] - box[0], box[3] - box[2]) < SMALL_STAMP:
        places = [_place_in_stamp(rules, box, galaxies, rng, recipe.host_fraction)]
    else:
        places = _place_in_blocks(rules, box, galaxies, rng, recipe)
    places.sort()
    y = np.array([place[0] for place in places], dtype=np.float64)
    x = np.array([place[1] for place in places], dtype=np.float64)
    snr = np.exp(rng.uniform(np.log(recipe.snr_min), np.log(recipe.snr_max), len(places)))
    errors = [
        psf_flux_error(difference.variance, psf, *at, mask=difference.mask)
        for psf, *at in zip(difference.psf_at(y, x), y, x, strict=True)
    ]
    flux_error = np.array(errors, dtype=np.float64)
    pixels = np.rint(y).astype(int), np.rint(x).astype(int)
    mask_bits = (science.mask[pixels] | difference.mask[pixels]).astype(np.int32)
    host = tuple(place[2] for place in places)
    return Injections(y, x, snr * flux_error, flux_error, snr, host, mask_bits, seed)


def inject(
    science: Image,
    injections: Injections,
    psf: FloatArray,
    *,
    rng: np.random.Generator,
    variance_per_flux: float | NDArray[np.floating] | None = None,
    saturation: float | None = None,
) -> Image:
    """Add transients to a science image.

    Parameters
    ----------
    science : Image
        The cell; it is not modified.
    injections : Injections
        What to add.
    psf : (py, px) or (n, py, px) array
        PSF of the transients, or of each, summing to one: the true one for simulated skies,
        otherwise perturbed measured ones (`perturbed_psfs`).
    rng : numpy.random.Generator
        For the transients' own photon noise.
    variance_per_flux : float or (ny, nx) array, optional
        Variance that one unit of flux brings (flux unit over electrons per flux
        unit). None where the gain is unknown: no noise of their own is added.
    saturation : float, optional
        Flux, above background, from which a touched pixel becomes saturated.

    Returns
    -------
    Image
        With the transients and their noise in ``flux`` and ``variance``; ``psf`` and
        the rest are those of ``science``.
    """
    added = np.zeros(science.flux.shape, dtype=np.float64)
    psfs = psf if psf.ndim == 3 else np.broadcast_to(psf, (len(injections), *psf.shape))
    for y, x, flux, own in zip(injections.y, injections.x, injections.flux, psfs, strict=True):
        stamp, place, inside = stamp_at(own, y, x, science.flux.shape)
        added[place] += flux * stamp[inside]
    flux = science.flux.astype(np.float64) + added
    variance = science.variance
    if variance_per_flux is not None:
        slope = np.broadcast_to(np.asarray(variance_per_flux, dtype=np.float64), added.shape)
        if not np.all((slope > 0) & np.isfinite(slope)):
            raise ValueError("variance_per_flux must be positive and finite; give None where the gain is unknown")
        signal = np.maximum(added, 0.0)
        touched = signal > 0
        photons = rng.poisson(signal[touched] / slope[touched])
        flux[touched] += photons * slope[touched] - signal[touched]
        variance = (science.variance + signal * slope).astype(np.float32)
    mask = science.mask
    if saturation is not None:
        peak = float(np.max(np.abs(injections.flux), initial=0.0)) * float(np.max(psf))
        mask = mask.copy()
        mask[(np.abs(added) > 1e-6 * peak) & (flux >= saturation)] |= np.uint16(MaskBit.SATURATED)
    return replace(science, flux=flux.astype(np.float32), variance=variance, mask=mask)


def perturbed_psfs(science: Image, injections: Injections, uncertainty: float, rng: np.random.Generator) -> FloatArray:
    """Return the PSF of a science image at each injection, all as different from the measured one as the true may be.

    Parameters
    ----------
    science : Image
        The cell.
    injections : Injections
        Where.
    uncertainty : float
        Relative 1-sigma error of the width, drawn once for the image.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    (py, px) or (n, py, px) array
        One for all where the PSF is not known to vary.
    """
    if science.psf_terms is None or not len(injections):
        return perturb_psf(science.psf, uncertainty, rng)
    seed = int(rng.integers(2**63))
    local = science.psf_at(injections.y, injections.x)
    return np.stack([perturb_psf(psf, uncertainty, np.random.default_rng(seed)) for psf in local])


def _checked_core(core: Box | None, shape: tuple[int, ...]) -> Box:
    box = (0, shape[0], 0, shape[1]) if core is None else core
    if not (0 <= box[0] < box[1] <= shape[0] and 0 <= box[2] < box[3] <= shape[1]):
        raise ValueError(f"core (y0, y1, x0, x1) = {box} does not lie in an image of shape {shape}")
    return box


@dataclass(eq=False)
class _Rules:
    """Where an injection may go, given those already placed."""

    no_data: NDArray[np.bool_]
    box: tuple[float, float, float, float]
    avoid: Float64Array
    avoid_radius: float
    min_separation: float
    placed: list[tuple[float, float]]

    @classmethod
    def of(cls, science: Image, box: Box, avoid: ArrayLike | None, *, min_separation: float, fwhm: float) -> _Rules:
        margin = max(2.0, fwhm)  # a detection within the matching radius must still lie in the core
        inner = (box[0] + margin, box[1] - 1 - margin, box[2] + margin, box[3] - 1 - margin)
        points = np.empty((0, 2)) if avoid is None else np.asarray(avoid, dtype=np.float64).reshape(-1, 2)
        no_data = (science.mask & MaskBit.NO_DATA) != 0
        return cls(no_data, inner, points, 2.0 * fwhm, min_separation, [])

    def accept(self, y: float, x: float) -> bool:
        y0, y1, x0, x1 = self.box
        if not (y0 <= y <= y1 and x0 <= x <= x1) or self.no_data[int(np.rint(y)), int(np.rint(x))]:
            return False
        if np.any(np.hypot(self.avoid[:, 0] - y, self.avoid[:, 1] - x) < self.avoid_radius):
            return False
        return all(np.hypot(y - other_y, x - other_x) >= self.min_separation for other_y, other_x in self.placed)


def _place_in_blocks(
    rules: _Rules, box: Box, galaxies: Float64Array, rng: np.random.Generator, recipe: InjectionRecipe
) -> list[tuple[float, float, str]]:
    """One position for each chosen block; blocks divide the core evenly and are never smaller than asked."""
    edges_y = np.linspace(box[0] - 0.5, box[1] - 0.5, max(1, (box[1] - box[0]) // recipe.block) + 1)
    edges_x = np.linspace(box[2] - 0.5, box[3] - 0.5, max(1, (box[3] - box[2]) // recipe.block) + 1)
    n_x = len(edges_x) - 1
    n_blocks = (len(edges_y) - 1) * n_x
    chosen = np.flatnonzero(rng.random(n_blocks) < recipe.density)
    rows = np.searchsorted(edges_y, galaxies[:, 0], side="right") - 1
    columns = np.searchsorted(edges_x, galaxies[:, 1], side="right") - 1
    in_core = (rows >= 0) & (rows < len(edges_y) - 1) & (columns >= 0) & (columns < n_x)
    block_of_galaxy = np.where(in_core, rows * n_x + columns, -1)
    with_galaxy = rng.permutation(np.intersect1d(chosen, block_of_galaxy))
    for_galaxy = set(with_galaxy[: rng.binomial(len(chosen), recipe.host_fraction)].tolist())

    places: list[tuple[float, float, str]] = []
    for block in rng.permutation(chosen).tolist():
        row, column = divmod(block, n_x)
        low, high = (edges_y[row], edges_x[column]), (edges_y[row + 1], edges_x[column + 1])
        hosts = galaxies[block_of_galaxy == block] if block in for_galaxy else galaxies[:0]
        for attempt in range(_TRIES):
            use_host = len(hosts) > 0 and attempt < _TRIES // 2
            y, x = _near_galaxy(hosts, rng) if use_host else _uniform(low, high, rng)
            if low[0] <= y < high[0] and low[1] <= x < high[1] and rules.accept(y, x):
                rules.placed.append((y, x))
                places.append((y, x, "galaxy" if use_host else "field"))
                break
    return places


def _place_in_stamp(
    rules: _Rules, box: Box, galaxies: Float64Array, rng: np.random.Generator, host_fraction: float
) -> tuple[float, float, str]:
    centre_y, centre_x = (box[0] + box[1] - 1) / 2, (box[2] + box[3] - 1) / 2
    on_galaxy = len(galaxies) > 0 and rng.random() < host_fraction
    y0, y1, x0, x1 = rules.box
    tries = 40 * _TRIES
    if y0 <= y1 and x0 <= x1:
        for attempt in range(tries):
            use_host = on_galaxy and attempt < tries // 2
            y, x = _near_galaxy(galaxies, rng) if use_host else _uniform((y0, x0), (y1, x1), rng)
            if np.hypot(y - centre_y, x - centre_x) > CENTRE_DISTANCE and rules.accept(y, x):
                return y, x, "galaxy" if use_host else "field"
    raise CellSkipped(
        f"no room for an injection: core of {box[1] - box[0]} x {box[3] - box[2]} px, "
        f"more than {CENTRE_DISTANCE:g} px off centre, {len(rules.avoid)} positions to avoid"
    )


def _uniform(low: tuple[float, float], high: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(low[0], high[0])), float(rng.uniform(low[1], high[1]))


def _near_galaxy(galaxies: Float64Array, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point uniform in the half-light ellipse of one of the galaxies."""
    y, x, radius, axis_ratio, theta = galaxies[rng.integers(len(galaxies))]
    angle, distance = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
    along = distance * np.cos(angle) / np.sqrt(axis_ratio)
    across = distance * np.sin(angle) * np.sqrt(axis_ratio)
    dx = along * np.cos(theta) - across * np.sin(theta)
    dy = along * np.sin(theta) + across * np.cos(theta)
    return float(y + dy), float(x + dx)
