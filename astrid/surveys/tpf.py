"""Target pixel files of TESS and Kepler: a small image at each cadence.

TESS Archive Manual, section 5; Kepler Archive Manual, section 2.3.2. TIME is barycentric (TDB); without TIMECORR it
is that at the spacecraft.
"""

from __future__ import annotations

import gzip
import io
import re
import warnings
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.image import FloatArray
from astrid.surveys.headers import Headers, celestial_header


@dataclass(frozen=True, eq=False)
class TargetPixels:
    """What a target pixel file holds.

    Attributes
    ----------
    mjd : (n,) float array
        Middle of each cadence at the spacecraft, UTC; NaN where there is no time.
    flux, error : (n, ny, nx) float32 arrays
        Electrons per second, background included; NaN where there is no data.
    quality : (n,) int array
        Flags; 0 is good.
    cadence_s : float
        Seconds that one cadence collects light.
    wcs_header : str or None
        FITS header text.
    place : (float, float) or None
        Right ascension and declination of what was asked for, ICRS degrees.
    """

    mjd: NDArray[np.float64]
    flux: FloatArray
    error: FloatArray
    quality: NDArray[np.int64]
    cadence_s: float
    wcs_header: str | None
    place: tuple[float, float] | None

    def holds_its_place(self) -> bool:
        """Return whether the WCS puts what was asked for on the image; that of cutouts of 2018 did not."""
        if self.wcs_header is None or self.place is None:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, y = WCS(fits.Header.fromstring(self.wcs_header)).all_world2pix([self.place[0]], [self.place[1]], 0)
        ny, nx = self.flux.shape[1:]
        return bool(-1 < x[0] < nx and -1 < y[0] < ny)


@lru_cache(maxsize=2)
def read_target_pixels(path: Path, changed: int = 0) -> TargetPixels:
    """Read a target pixel file, or the only one in a zip.

    Parameters
    ----------
    path : Path
        ``.fits``, ``.fits.gz`` or a zip.
    changed : int
        When the file was written; another value reads it again.

    Raises
    ------
    DataError
        If it is none; the message names file and what is missing.
    """
    try:
        with fits.open(io.BytesIO(_content(path))) as file:
            table = next((hdu for hdu in file if getattr(hdu, "columns", None) and "FLUX" in hdu.columns.names), None)
            aperture = next((hdu for hdu in file if hdu.name == "APERTURE"), None)
            if table is None or aperture is None:
                raise DataError(f"{path}: no target pixel file: no table with FLUX, or no APERTURE")
            return _read(path, table, file[0].header, aperture.header)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: the target pixel file does not read ({error}); fetch it again") from error


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        return gzip.decompress(raw)
    if raw[:2] != b"PK":
        return raw
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".fits")]
        if len(names) != 1:
            raise DataError(f"{path}: {len(names)} target pixel files in the zip, where one was asked for")
        return archive.read(names[0])


def _read(path: Path, table: fits.BinTableHDU, primary: fits.Header, aperture: fits.Header) -> TargetPixels:
    headers = Headers((table.header, primary))
    data = table.data
    names = table.columns.names
    for name in ("TIME", "QUALITY"):
        if name not in names:
            raise DataError(f"{path}: no column {name}; there are {', '.join(names)}")
    zero = headers.first_number(["BJDREFI"])
    said = re.match(r"BJD\s*-\s*(\d+)", str(table.columns["TIME"].unit or ""))  # early cutouts say it there only
    if zero is None and said is None:
        raise DataError(f"{path}: neither BJDREFI nor the unit of TIME says since when it counts")
    fraction = headers.first_number(["BJDREFF"])
    scale = headers.text("TIMESYS")
    if scale is not None and scale.upper() != "TDB":
        raise DataError(f"{path}: TIMESYS is {scale!r}, not TDB")
    time = np.asarray(data["TIME"], float)
    light = np.asarray(data["TIMECORR"], float) if "TIMECORR" in names else np.zeros(len(time))
    known = np.isfinite(time)
    mjd = np.full(len(time), np.nan)
    reference = zero[1] if zero else float(said[1]) if said else 0.0
    offset = reference + (fraction[1] if fraction else 0.0) - 2400000.5
    mjd[known] = Time((time - np.nan_to_num(light))[known] + offset, format="mjd", scale="tdb").utc.mjd
    flux = np.asarray(data["FLUX"], np.float32)
    error = np.asarray(data["FLUX_ERR"], np.float32) if "FLUX_ERR" in names else np.full_like(flux, np.nan)
    frames, seconds = headers.first_number(["NUM_FRM"]), headers.first_number(["INT_TIME"])
    spacing = headers.first_number(["TIMEDEL"])
    if frames and seconds:
        cadence = frames[1] * seconds[1]
    elif spacing:
        cadence = spacing[1] * 86400
    elif known.sum() > 1:  # early cutouts
        cadence = float(np.median(np.diff(mjd[known]))) * 86400
    else:
        raise DataError(f"{path}: neither NUM_FRM and INT_TIME nor TIMEDEL say how long a cadence is")
    shape = flux.shape[1], flux.shape[2]
    header = aperture.copy()
    header.setdefault("RADESYS", primary.get("RADESYS", "ICRS"))
    at = [headers.first_number([key]) for key in ("RA_OBJ", "DEC_OBJ")]
    place = (at[0][1], at[1][1]) if at[0] and at[1] else None
    quality = np.asarray(data["QUALITY"], np.int64)
    return TargetPixels(mjd, flux, error, quality, cadence, celestial_header(header, shape), place)
