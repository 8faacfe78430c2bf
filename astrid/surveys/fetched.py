"""What surveys that fetch share: places are planned, their files fetched, and the exposures registered.

A survey says what there is at some places (`FetchedSurvey.plan`) and makes an exposure of the
files of each (`register`); fetching and recording is the workflow's. What is registered is
listed and read like the exposures of any survey.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astrid.archives import Download, Fetched, Fetcher
from astrid.errors import DataError
from astrid.image import Exposure, ExposureInfo, FloatArray, MaskArray
from astrid.schema import MaskBit
from astrid.surveys.base import Listing, Survey
from astrid.surveys.companions import read_companion
from astrid.surveys.fits import read_pixels
from astrid.surveys.headers import Headers

REGISTERED = "registered"


@dataclass(frozen=True)
class Place:
    """A square of sky whose images are wanted: the core of a tile.

    Attributes
    ----------
    name : str
        Unique; part of the ids of its exposures.
    ra, dec : float
        Centre, ICRS degrees.
    size_arcsec : float
        Side of the square.
    margin_arcsec : float
        What is fetched beyond it on each side: the border of the tile.
    mjd_min, mjd_max : float
        Images outside these times are not wanted.
    """

    name: str
    ra: float
    dec: float
    size_arcsec: float
    margin_arcsec: float = 0.0
    mjd_min: float = -np.inf
    mjd_max: float = np.inf

    @property
    def fetched_arcsec(self) -> float:
        """Side of the square that is fetched."""
        return self.size_arcsec + 2 * self.margin_arcsec


@dataclass(frozen=True)
class Wanted:
    """One exposure at one place, before its files are there. Small and picklable.

    Attributes
    ----------
    exposure_id : str
        Unique within the survey.
    place : str
        Name of the place; the exposure fills cells of its tile only.
    band, mjd, exposure_time : str, float, float
        As in `astrid.image.ExposureInfo`; the final ones come from the files.
    files : mapping
        Downloads by kind; "science" must be there, the others are the survey's ("mask", "psf", "template").
    seeing_arcsec, limiting_magnitude : float
        For the rules of a mission; NaN where the archive does not say.
    mjd_is_planned : bool
        Whether ``mjd`` is what a schedule says, days off; the rules then judge what the file says.
    extra : mapping
        Plain values that the survey needs to register the exposure.
    """

    exposure_id: str
    place: str
    band: str
    mjd: float
    exposure_time: float
    files: Mapping[str, Download]
    seeing_arcsec: float = float("nan")
    limiting_magnitude: float = float("nan")
    mjd_is_planned: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.exposure_id


@dataclass(frozen=True)
class Plan:
    """What a survey has at some places.

    Attributes
    ----------
    wanted : tuple of Wanted
        In order of time.
    rejected : mapping
        Number of images left out, by reason.
    """

    wanted: tuple[Wanted, ...]
    rejected: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class FetchedSurvey(Survey, Protocol):
    """A survey whose files come from an archive. Derive from `FetchedFiles`.

    ``cutout_arcsec`` is the side of the square about a point, ``largest_arcsec`` that of the largest
    square: larger regions are cut into several. Each square is a tile, and what is fetched of
    it is larger by the tile's border.
    """

    @property
    def cutout_arcsec(self) -> float:
        """Side of the square about a point."""

    @property
    def largest_arcsec(self) -> float:
        """Side of the largest square."""

    @property
    def pixel_scale_arcsec(self) -> float:
        """Of the survey's pixels."""

    def plan(self, place: Place, fetcher: Fetcher) -> Plan:
        """Say which exposures there are at a place, asking the archive for metadata only.

        Raises
        ------
        ArchiveError
            If the archive does not answer.
        """

    def register(self, wanted: Wanted, files: Mapping[str, Path]) -> ExposureInfo:
        """Make the description of an exposure from its files; those that are optional may be missing.

        Raises
        ------
        DataError
            If a file lacks what is needed: the message names file and key.
        """


class FetchedFiles:
    """The part of `FetchedSurvey` that does not depend on the survey."""

    name: str

    def list_exposures(self, folder: Path) -> Listing:
        """List what is registered."""
        exposures = [info for info in read_registered(folder).values()]
        if not exposures:
            raise DataError(
                f"{folder}: no exposure of survey {self.name} is there; give targets=..., and `astrid plan survey="
                f"{self.name} targets=...` to see what there would be"
            )
        return Listing(tuple(sorted(exposures, key=order_of_time)))

    def read_template(self, info: ExposureInfo) -> Exposure | None:
        """Return None: the templates are made from the exposures."""
        return None

    def known_events(self, folder: Path) -> pa.Table | None:
        """Return None: an archive of images does not say."""
        return None

    def true_psf(self, info: ExposureInfo, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Return None: nobody knows the true PSF of a real image."""
        return None


def read_science(info: ExposureInfo) -> tuple[FloatArray, MaskArray]:
    """Read the pixels of an exposure; those without data are NaN and masked.

    Raises
    ------
    DataError
        If the file is gone, or has no finite pixel.
    """
    path = Path(info.path)
    if not path.exists():
        raise DataError(f"{path}: is gone from the cache; `astrid ingest` with the same options fetches it again")
    flux = read_pixels(path, info.hdu)[0].astype(np.float32)
    finite = np.isfinite(flux)
    if not finite.any():
        raise DataError(f"{path}: no finite pixel in HDU {info.hdu}")
    flux[~finite] = np.nan
    return flux, np.where(finite, 0, MaskBit.NO_DATA).astype(np.uint16)


def read_bits(info: ExposureInfo) -> NDArray[np.int64]:
    """Read the mask file of an exposure; cutouts may have NaN where there is no flaw."""
    stored = read_companion(info, "mask")
    return np.where(np.isfinite(stored), stored, 0).astype(np.int64)


def required_number(path: Path, headers: Headers, key: str) -> float:
    """Return a number from a header.

    Raises
    ------
    DataError
        If it is not there; the message names file and key.
    """
    found = headers.first_number([key])
    if found is None:
        raise DataError(f"{path}: no {key} in the header, without which the image has no calibration; it is left out")
    return found[1]


def order_of_time(one: Wanted | ExposureInfo) -> tuple[float, str]:
    """Return what exposures are sorted by; those without a time come last."""
    return np.inf if np.isnan(one.mjd) else one.mjd, one.exposure_id


def with_answers(wanted: Wanted, fetched: Mapping[str, Fetched]) -> Wanted:
    """Record in ``extra["answered"]`` which service sent a file, where several could, and what it said of it."""
    answered = {
        kind: {"service": file.note["service"], "url": file.note["url"], **file.note.get("found", {})}
        for kind, file in fetched.items()
        if wanted.files[kind].otherwise
    }
    return replace(wanted, extra={**wanted.extra, "answered": answered}) if answered else wanted


def merged(plans: Sequence[Plan]) -> Plan:
    """Join the plans of several places, in order of time."""
    rejected: Counter[str] = Counter()
    for plan in plans:
        rejected.update(plan.rejected)
    wanted = sorted((one for plan in plans for one in plan.wanted), key=order_of_time)
    return Plan(tuple(wanted), dict(rejected))


def files_of(info: ExposureInfo) -> list[Path]:
    """Return the files that an exposure is read from."""
    return [Path(path) for path in (info.path, *info.companions.values())]


def write_registered(folder: Path, info: ExposureInfo) -> None:
    """Record an exposure whose files are all there; it appears in one step."""
    path = _record(folder, info.exposure_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(asdict(info), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_registered(folder: Path) -> dict[str, ExposureInfo]:
    """Return the exposures that are registered, by id."""
    found = {}
    for path in sorted((Path(folder) / REGISTERED).glob("*.json")):
        try:
            values = json.loads(path.read_bytes())
            values["shape"] = tuple(values["shape"])
            info = ExposureInfo(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: damaged ({error}); delete it and run again") from error
        found[info.exposure_id] = info
    return found


def is_registered(folder: Path, exposure_id: str) -> bool:
    """Return whether an exposure is registered."""
    return _record(folder, exposure_id).exists()


def _record(folder: Path, exposure_id: str) -> Path:
    return Path(folder) / REGISTERED / f"{hashlib.sha256(exposure_id.encode()).hexdigest()[:32]}.json"
