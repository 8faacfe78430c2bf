"""Which targets and images a mission wants; every one left out is reported with its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrid.targets.regions import Targets
from astrid.targets.tables import mjd_of


@dataclass(frozen=True)
class Rejection:
    """One target or image that was left out, and the number that decided it.

    Attributes
    ----------
    name : str
        The target or image.
    rule : str
        The setting that left it out.
    value, limit : float
        What it has and what is asked; ``value`` is NaN where it is unknown.
    """

    name: str
    rule: str
    value: float
    limit: float

    def __str__(self) -> str:
        found = "is unknown" if np.isnan(self.value) else f"= {self.value:.6g}"
        return f"{self.name}: {_WORDS[self.rule]} {found}, {_ASKS[self.rule]} {self.limit:.6g} (selection.{self.rule})"


_WORDS = {
    "min_galactic_latitude": "galactic latitude |b|",
    "brightest": "magnitude",
    "faintest": "magnitude",
    "start": "MJD",
    "end": "MJD",
    "max_seeing_arcsec": "seeing in arcsec",
    "min_limiting_magnitude": "limiting magnitude",
    "max_images_per_band": "number in its band",
}
_ASKS = dict.fromkeys(_WORDS, "at least") | dict.fromkeys(
    ("faintest", "end", "max_seeing_arcsec", "max_images_per_band"), "at most"
)


@dataclass(frozen=True, eq=False)
class Images:
    """What is known of images before they are fetched.

    Attributes
    ----------
    names, bands : (n,) sequences of str
        Of each image.
    mjd : (n,) float array
        Time, MJD.
    seeing_arcsec, limiting_magnitude : (n,) float arrays
        NaN where the archive does not say.
    """

    names: Sequence[str]
    bands: Sequence[str]
    mjd: NDArray[np.float64]
    seeing_arcsec: NDArray[np.float64]
    limiting_magnitude: NDArray[np.float64]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(lengths) > 1:
            raise ValueError(f"images: columns have different lengths, {sorted(lengths)}")
        if not np.isfinite(self.mjd).all():
            bad = int(np.flatnonzero(~np.isfinite(self.mjd))[0])
            raise ValueError(f"images: mjd of {self.names[bad]} is {self.mjd[bad]}")


@dataclass(frozen=True)
class Selection:
    """The rules of a mission: what it looks at and which images it takes.

    Attributes
    ----------
    min_galactic_latitude : float
        Targets nearer to the plane of the Galaxy are left out, degrees.
    brightest, faintest : float, optional
        Limits on the magnitude of targets; a target without one is kept.
    start, end : float or str, optional
        First and last time of images, MJD or date.
    max_seeing_arcsec : float, optional
        Images with worse seeing are left out; one whose seeing is unknown is kept.
    min_limiting_magnitude : float, optional
        Shallower images are left out; one whose limit is unknown is kept.
    max_images_per_band : int, optional
        Of each target and band, evenly spread over those that pass, first and last included.
    """

    min_galactic_latitude: float = 20.0
    brightest: float | None = None
    faintest: float | None = None
    start: float | str | None = None
    end: float | str | None = None
    max_seeing_arcsec: float | None = None
    min_limiting_magnitude: float | None = None
    max_images_per_band: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_galactic_latitude < 90:
            raise ValueError(
                f"selection.min_galactic_latitude must be within 0 and 90, got {self.min_galactic_latitude}"
            )
        if self.max_seeing_arcsec is not None and not self.max_seeing_arcsec > 0:
            raise ValueError(f"selection.max_seeing_arcsec must be positive, got {self.max_seeing_arcsec}")
        if self.max_images_per_band is not None and self.max_images_per_band < 1:
            raise ValueError(f"selection.max_images_per_band must be at least 1, got {self.max_images_per_band}")
        if self.brightest is not None and self.faintest is not None and self.brightest > self.faintest:
            raise ValueError(
                f"selection.brightest must not be above faintest, got {self.brightest} and {self.faintest}"
            )
        start, end = self.mjd_range
        if start > end:
            raise ValueError(f"selection.start must not be after end, got {self.start} and {self.end}")

    @property
    def mjd_range(self) -> tuple[float, float]:
        """First and last MJD of images; infinite where open."""
        values = []
        for name, open_end in (("start", -np.inf), ("end", np.inf)):
            value = getattr(self, name)
            try:
                values.append(open_end if value is None else mjd_of(value))
            except ValueError as error:
                raise ValueError(f"selection.{name} must be an MJD or a date like 2020-01-31, got {value!r}") from error
        return float(values[0]), float(values[1])

    def of_targets(self, targets: Targets) -> tuple[Targets, tuple[Rejection, ...]]:
        """Return the targets that pass, and why the others do not."""
        kept, out = [], []
        for target in targets:
            latitude = abs(target.galactic_latitude)
            magnitude = target.magnitude
            if latitude < self.min_galactic_latitude:
                out.append(Rejection(target.name, "min_galactic_latitude", latitude, self.min_galactic_latitude))
            elif magnitude is not None and self.brightest is not None and magnitude < self.brightest:
                out.append(Rejection(target.name, "brightest", magnitude, self.brightest))
            elif magnitude is not None and self.faintest is not None and magnitude > self.faintest:
                out.append(Rejection(target.name, "faintest", magnitude, self.faintest))
            else:
                kept.append(target)
        return Targets(tuple(kept)), tuple(out)

    def of_images(
        self, images: Images, *, mjd_min: float | None = None, mjd_max: float | None = None
    ) -> tuple[NDArray[np.bool_], tuple[Rejection, ...]]:
        """Return which images of one target pass, and why the others do not.

        Parameters
        ----------
        images : Images
            Of one target, all bands.
        mjd_min, mjd_max : float, optional
            Times that the target itself asks for, besides those of the rules.

        Returns
        -------
        (n,) bool array, tuple of Rejection
            The first rule that an image breaks is the one reported.
        """
        start, end = self.mjd_range
        rules = (
            ("start", images.mjd, max(start, -np.inf if mjd_min is None else mjd_min)),
            ("end", images.mjd, min(end, np.inf if mjd_max is None else mjd_max)),
            ("max_seeing_arcsec", images.seeing_arcsec, self.max_seeing_arcsec),
            ("min_limiting_magnitude", images.limiting_magnitude, self.min_limiting_magnitude),
        )
        keep = np.ones(len(images.mjd), bool)
        out: list[tuple[int, Rejection]] = []
        for rule, values, limit in rules:
            if limit is None:
                continue
            with np.errstate(invalid="ignore"):
                broken = keep & (values > limit if _ASKS[rule] == "at most" else values < limit)
            out += [(i, Rejection(images.names[i], rule, float(values[i]), float(limit))) for i in _where(broken)]
            keep &= ~broken
        if self.max_images_per_band is not None:
            for band in sorted(set(images.bands)):
                here = _where(keep & np.array([one == band for one in images.bands], bool))
                here = sorted(here, key=lambda i: (images.mjd[i], images.names[i]))
                taken = set(_spread(len(here), self.max_images_per_band))
                for place, i in enumerate(here):
                    if place not in taken:
                        keep[i] = False
                        limit = float(self.max_images_per_band)
                        out.append((i, Rejection(images.names[i], "max_images_per_band", float(len(here)), limit)))
        return keep, tuple(one for _, one in sorted(out, key=lambda pair: pair[0]))


def summarise(rejections: Sequence[Rejection], total: int) -> str:
    """Return one line on what was left out and by which rule; empty where nothing was.

    Examples
    --------
    >>> summarise([Rejection("a", "max_seeing_arcsec", 4.2, 4.0)], 3)
    '1 of 3 left out: 1 by max_seeing_arcsec'
    """
    if not rejections:
        return ""
    counts = Counter(one.rule for one in rejections)
    rules = ", ".join(f"{count} by {rule}" for rule, count in sorted(counts.items()))
    return f"{len(rejections)} of {total} left out: {rules}"


def _where(chosen: NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(chosen)]


def _spread(n: int, wanted: int) -> list[int]:
    """Return at most ``wanted`` of ``n`` places, evenly spread, first and last included."""
    if n <= wanted:
        return list(range(n))
    if wanted == 1:
        return [n // 2]
    return [int(place) for place in np.rint(np.linspace(0, n - 1, wanted))]
