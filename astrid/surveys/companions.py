"""Files that belong to an exposure: variance or sigma, mask, point-spread function, template."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import ExposureInfo, FloatArray
from astrid.surveys import fits

COMPANIONS = ("variance", "sigma", "mask", "psf", "template")
_HDU = re.compile(r"\[(\w+)\]$")


def find_companions(patterns: Mapping[str, str | None], path: Path) -> dict[str, str]:
    """Find the companions of an exposure.

    Parameters
    ----------
    patterns : mapping
        Path pattern by kind. ``{stem}``, ``{name}`` and ``{folder}`` are those of the exposure, relative
        patterns start in its folder, ``*`` and ``?`` match, ``[SCI]`` or ``[2]`` at the end is an HDU.
    path : Path
        The exposure.

    Returns
    -------
    dict
        Path by kind, those that exist; the HDU still at the end. A pattern that leads to the
        exposure itself counts only if it names an HDU.
    """
    found: dict[str, str] = {}
    for kind, pattern in patterns.items():
        if not pattern:
            continue
        chosen = _HDU.search(pattern)
        name, folder = path.name, str(path.parent)
        escaped = {"stem": fits.stem_of(name), "name": name, "folder": folder}
        filled = (pattern[: chosen.start()] if chosen else pattern).format(
            **{key: glob.escape(value) for key, value in escaped.items()}
        )
        filled = os.path.expanduser(filled)
        if not os.path.isabs(filled):
            filled = os.path.join(glob.escape(folder), filled)
        matches = sorted(glob.glob(filled))
        if matches and (chosen or os.path.normpath(matches[0]) != os.path.normpath(path)):
            found[kind] = os.path.normpath(matches[0]) + (chosen.group() if chosen else "")
    return found


def split_hdu(name: str) -> tuple[str, int | str | None]:
    """Split "file.fits[SCI]" into file and HDU."""
    chosen = _HDU.search(name)
    if chosen is None or os.path.exists(name):
        return name, None
    hdu = chosen.group(1)
    return name[: chosen.start()], int(hdu) if hdu.isdigit() else hdu


def read_companion(info: ExposureInfo, kind: str) -> NDArray[Any]:
    """Read a companion with the pixels of its exposure; DataError if its shape is another."""
    name, hdu = split_hdu(info.companions[kind])
    pixels, _ = fits.read_pixels(Path(name), hdu)
    if pixels.shape != info.shape:
        raise DataError(f"{name}: the {kind} is {pixels.shape} but its exposure {info.exposure_id} is {info.shape}")
    return np.asarray(pixels, np.float64)


def read_psf(name: str, hdu: int | str | None = None) -> FloatArray:
    """Read a point-spread function; odd-sided (a row or column of zeros is added) and summing to one.

    Raises
    ------
    DataError
        If it is no image of finite values with a positive sum.
    """
    pixels, _ = fits.read_pixels(Path(name), hdu)
    psf = np.asarray(pixels, np.float64)
    if not np.isfinite(psf).all() or psf.sum() <= 0:
        raise DataError(f"{name}: a PSF must be finite with a positive sum, this one sums to {psf.sum():.6g}")
    for axis in range(2):
        n = psf.shape[axis]
        if n % 2 == 0:
            profile = np.clip(psf.sum(axis=1 - axis), 0, None)
            centroid = float((profile * np.arange(n)).sum() / profile.sum())
            side = (0, 1) if centroid > (n - 1) / 2 else (1, 0)
            psf = np.pad(psf, [side if a == axis else (0, 0) for a in range(2)])
    return np.asarray(psf / psf.sum(), np.float32)
