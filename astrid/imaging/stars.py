"""Point-like sources of an image, for registration, PSF and flux scale."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import sep
from numpy.typing import NDArray
from scipy import spatial

from astrid.image import FloatArray, MaskArray
from astrid.schema import MaskBit

FWHM_PER_SIGMA = 2.3548
MAX_STARS = 5000

TOO_SHARP = 1.2  # px of FWHM: no star
FEWEST_FOR_MODE = 10
SPREAD = 0.08  # of the widths of stars, relative
CROWD = 0.5  # of the largest crowd: a sharper one that is at least so large is that of the stars


@dataclass(frozen=True, eq=False)
class StarList:
    """Sources of an image, brightest first; all attributes are (n,) arrays.

    Attributes
    ----------
    y, x : float64
        Windowed centroids, in pixels.
    flux, flux_error : float64
        In an aperture, in the image's unit.
    fwhm : float64
        Of the Gaussian with the measured second moments, in pixels.
    elongation : float64
        Major over minor axis.
    peak : float64
        Brightest pixel.
    is_clean : bool
        Unmasked, unsaturated and with no neighbour that matters.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    elongation: NDArray[np.float64]
    peak: NDArray[np.float64]
    is_clean: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, keep: NDArray[np.bool_] | NDArray[np.intp] | slice) -> StarList:
        return StarList(*(getattr(self, f.name)[keep] for f in fields(self)))

    @property
    def snr(self) -> NDArray[np.float64]:
        """Flux over its error."""
        return self.flux / self.flux_error

    def moved(self, y: NDArray[np.float64], x: NDArray[np.float64], scale: float = 1.0) -> StarList:
        """Return the same stars at other positions and with scaled fluxes."""
        rest = {f.name: getattr(self, f.name) for f in fields(self)}
        rest.update(y=y, x=x)
        for name in ("flux", "flux_error", "peak"):
            rest[name] = rest[name] * scale
        return StarList(**rest)

    def to_table(self) -> pa.Table:
        """Return the stars as a table."""
        return pa.table({f.name: pa.array(getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def from_table(cls, table: pa.Table) -> StarList:
        """Return the stars of a table made by `to_table`."""
        return cls(*(table[f.name].to_numpy(zero_copy_only=False).copy() for f in fields(cls)))


def find_stars(
    flux: FloatArray, sigma: FloatArray, mask: MaskArray, *, threshold: float = 5.0, aperture_fwhm: float = 1.5
) -> StarList:
    """Find sources above a threshold and measure them.

    Parameters
    ----------
    flux, sigma : (ny, nx) float32 arrays
        Background-subtracted flux and noise of the background.
    mask : (ny, nx) uint16 array
        Any bit excludes a pixel.
    threshold : float
        In sigma per pixel of the filtered image.
    aperture_fwhm : float
        Radius of the aperture in units of the median FWHM.

    Returns
    -------
    StarList
        At most 5000, brightest first.
    """
    data = np.ascontiguousarray(flux, np.float32)
    noise = np.ascontiguousarray(sigma, np.float32)
    bad = mask != 0
    try:
        found = sep.extract(data, threshold, err=noise, mask=bad, minarea=5, deblend_cont=0.005)
    except Exception:  # sep raises a bare Exception when its deblending overflows: take blends as they are
        found = sep.extract(data, threshold, err=noise, mask=bad, minarea=5, deblend_cont=1.0)
    found = found[np.argsort(-found["flux"], kind="stable")][:MAX_STARS]
    if not len(found):
        empty = np.empty(0)
        return StarList(empty, empty, empty, empty, empty, empty, empty, np.empty(0, bool))
    fwhm = FWHM_PER_SIGMA * np.sqrt(0.5 * (found["a"] ** 2 + found["b"] ** 2))
    width = typical_fwhm(fwhm)
    x, y, _ = sep.winpos(data, found["x"], found["y"], np.full(len(found), width / FWHM_PER_SIGMA), mask=bad)
    lost = ~np.isfinite(x + y) | (np.hypot(x - found["x"], y - found["y"]) > width)
    x[lost], y[lost] = found["x"][lost], found["y"][lost]
    total, error, flag = sep.sum_circle(data, x, y, aperture_fwhm * width, err=noise, mask=bad)
    near_saturated = _near(y, x, (mask & MaskBit.SATURATED.value) != 0, radius=1.5 * width)
    isolated = _isolated(y, x, total, radius=4 * width)
    round_enough = (found["a"] < 1.6 * found["b"]) & (flag == 0)
    clean = round_enough & isolated & ~near_saturated & ~lost
    return StarList(
        y.astype(np.float64),
        x.astype(np.float64),
        total.astype(np.float64),
        error.astype(np.float64),
        fwhm.astype(np.float64),
        (found["a"] / np.maximum(found["b"], 1e-3)).astype(np.float64),
        found["peak"].astype(np.float64),
        clean,
    )


def stellar_fwhm(fwhm: NDArray[np.floating]) -> float:
    """Return the width of the stars among sources: stars crowd at one width, galaxies and blends are wider and do not.

    Of all intervals of 8 % of the width, it is the middle of the sharpest that holds at least half as many sources as
    the fullest; of fewer than ten sources that are not too sharp, their median.
    """
    sharp = np.sort(fwhm[fwhm > TOO_SHARP])
    if len(sharp) < FEWEST_FOR_MODE:
        return typical_fwhm(fwhm)
    held = np.searchsorted(sharp, sharp * (1 + SPREAD), side="right") - np.arange(len(sharp))
    first = int(np.flatnonzero(held >= CROWD * held.max())[0])
    near = held[first : first + held[first]]  # from here the crowd may still grow
    first += int(np.argmax(near))
    return float(np.clip(np.median(sharp[first : first + held[first]]), 1.5, 12.0))


def typical_fwhm(fwhm: NDArray[np.floating]) -> float:
    """Return the width of the middle source of those that are not too sharp."""
    sharp = fwhm[fwhm > TOO_SHARP]
    return float(np.clip(np.median(sharp), 1.5, 12.0)) if len(sharp) else 2.5


def _isolated(
    y: NDArray[np.float64], x: NDArray[np.float64], flux: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Whether no source of more than 5 % of the flux lies within a radius."""
    places = np.column_stack([y, x])
    alone = np.ones(len(y), bool)
    for i, j in spatial.cKDTree(places).query_pairs(radius, output_type="ndarray"):
        if flux[j] > 0.05 * flux[i]:
            alone[i] = False
        if flux[i] > 0.05 * flux[j]:
            alone[j] = False
    return alone


def _near(y: NDArray[np.float64], x: NDArray[np.float64], where: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    spots = np.argwhere(where)
    if not len(spots):
        return np.zeros(len(y), bool)
    distance, _ = spatial.cKDTree(spots).query(np.column_stack([y, x]))
    return np.asarray(distance < radius, bool)
