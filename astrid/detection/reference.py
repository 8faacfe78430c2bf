"""Reference catalogues: what is asked of each, and what its columns say of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from astropy import units
from numpy.typing import ArrayLike, NDArray

from astrid.errors import DataError
from astrid.targets.tables import angle_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
GAIA_EPOCH = 57388.5  # MJD of J2016.0
_FILLER = -90.0  # magnitudes of -99 or -999 are none
SIGNIFICANT = 5.0  # sigma from which a parallax or a proper motion proves a star


class Kind(IntEnum):
    """What a source is."""

    UNKNOWN = 0
    STAR = 1
    GALAXY = 2


@dataclass(frozen=True, eq=False)
class Sources:
    """Rows of one reference catalogue.

    Attributes
    ----------
    id : (n,) str array
        Name in the catalogue.
    ra, dec : (n,) float arrays
        Degrees, at ``epoch``.
    error : (n,) float array
        Of the position, per axis, arcsec.
    epoch : (n,) float array
        MJD of the positions; NaN where they do not move.
    pm_ra, pm_dec, pm_error : (n,) float arrays
        Proper motion (right ascension times the cosine of the declination) and its error, arcsec per day; NaN
        where unknown.
    magnitude, colour, redshift : (n,) float arrays
        NaN where unknown.
    kind : (n,) int8 array
        `Kind`.
    is_variable, is_agn : (n,) bool arrays
        As the catalogue says.
    major, minor, angle : (n,) float arrays
        Half-light semi-axes in arcsec and position angle of the major axis, degrees east of north; NaN where
        the shape is unknown.
    """

    id: NDArray[np.str_]
    ra: Floats
    dec: Floats
    error: Floats
    epoch: Floats
    pm_ra: Floats
    pm_dec: Floats
    pm_error: Floats
    magnitude: Floats
    colour: Floats
    redshift: Floats
    kind: NDArray[np.int8]
    is_variable: Bools
    is_agn: Bools
    major: Floats
    minor: Floats
    angle: Floats

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name).shape != self.ra.shape:
                raise ValueError(f"sources: {name} is {getattr(self, name).shape} but ra is {self.ra.shape}")
        if not (np.isfinite(self.ra).all() and np.isfinite(self.dec).all()):
            raise ValueError("sources: ra and dec must be finite")

    def __len__(self) -> int:
        return len(self.ra)

    def part(self, chosen: NDArray[Any]) -> Sources:
        """Return the chosen rows."""
        return Sources(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


def make_sources(n: int, **columns: ArrayLike) -> Sources:
    """Return sources with the columns given; what is not given is unknown.

    Examples
    --------
    >>> len(make_sources(2, ra=[1.0, 2.0], dec=[3.0, 4.0]))
    2
    """
    dtypes = {"id": np.str_, "kind": np.int8, "is_variable": bool, "is_agn": bool}
    unknown: dict[str, Any] = {"id": "", "kind": Kind.UNKNOWN, "is_variable": False, "is_agn": False, "error": 0.0}
    return Sources(
        **{
            name: np.array(columns[name], dtypes.get(name, float))
            if name in columns
            else np.full(n, unknown.get(name, np.nan), dtypes.get(name, float))
            for name in Sources.__dataclass_fields__
        }
    )


@dataclass(frozen=True)
class ReferenceCatalogue:
    """One catalogue: where it is, what is asked of it, how its rows are read.

    Attributes
    ----------
    name, title : str
        The word after ``catalogues=`` and the name for people.
    vizier : str
        Table in VizieR; empty for SkyBoT.
    columns : dict
        ``column -> usual unit`` of what is asked for.
    required : tuple of str
        Columns without which the rows mean nothing.
    read : callable
        ``Rows -> columns of Sources``.
    system : "AB", "Vega" or ""
        Of its magnitudes.
    knows_galaxies : bool
        Whether finding none there means that there is none as bright.
    is_moving : bool
        Positions hold at their epoch only (asteroids).
    """

    name: str
    title: str
    vizier: str
    columns: Mapping[str, str]
    required: tuple[str, ...]
    read: Callable[[Rows], dict[str, Any]]
    system: str = ""
    knows_galaxies: bool = False
    is_moving: bool = False


class Rows:
    """Columns of a catalogue's answer, in the units they are needed in."""

    def __init__(self, values: Mapping[str, ArrayLike], unit_of: Mapping[str, str], catalogue: ReferenceCatalogue):
        self.values, self.unit_of, self.catalogue = values, unit_of, catalogue
        missing = [name for name in catalogue.required if name not in values]
        if missing:
            raise DataError(
                f"{catalogue.title}: no column {', '.join(missing)} in the answer; there are {', '.join(values)}"
            )
        self.n = len(np.asarray(values[catalogue.required[0]]))

    def number(self, name: str, unit: str = "") -> Floats:
        """Return a column of numbers in a unit; NaN where it is missing."""
        if name not in self.values:
            return np.full(self.n, np.nan)
        value = self.values[name]
        value = np.ma.filled(np.ma.asarray(value, float), np.nan) if np.ma.isMaskedArray(value) else value
        try:
            numbers = np.array([np.nan if v is None or str(v).strip() == "" else float(v) for v in np.asarray(value)])
        except ValueError as error:
            raise DataError(f"{self.catalogue.title}: column {name} holds no numbers: {error}") from error
        has = self.unit_of.get(name) or self.catalogue.columns.get(name, "")
        if self.catalogue.columns.get(name) == "mag":
            numbers[numbers < _FILLER] = np.nan
        return numbers.reshape(self.n) * _factor(has, unit, f"{self.catalogue.title}, column {name}")

    def text(self, name: str) -> NDArray[np.str_]:
        """Return a column of texts; empty where it is missing."""
        if name not in self.values:
            return np.full(self.n, "", np.str_)
        value = self.values[name]
        value = np.ma.filled(np.ma.asarray(value, object), "") if np.ma.isMaskedArray(value) else value
        return np.array(["" if v is None else str(v).strip() for v in np.asarray(value, object)], np.str_)

    def angle(self, name: str, *, is_ra: bool) -> Floats:
        """Return a column of angles in degrees, sexagesimal or not."""
        texts = self.text(name)
        unit = self.unit_of.get(name, "")
        try:
            return np.array([angle_of(one, is_ra=is_ra, unit=unit.split(":")[0]) for one in texts], float)
        except ValueError as error:
            raise DataError(f"{self.catalogue.title}: column {name} holds no angles: {error}") from error


def read_sources(
    catalogue: ReferenceCatalogue, values: Mapping[str, ArrayLike], unit_of: Mapping[str, str] | None = None
) -> Sources:
    """Read the rows of a catalogue; those without a position are left out.

    Parameters
    ----------
    catalogue : ReferenceCatalogue
        Which.
    values : mapping
        ``column -> values``, as the archive calls them.
    unit_of : mapping, optional
        ``column -> unit`` as the answer says; the usual units where it does not.

    Raises
    ------
    DataError
        If a column is missing, holds something else, or has another kind of unit.
    """
    rows = Rows(values, unit_of or {}, catalogue)
    columns = catalogue.read(rows)
    keep = np.isfinite(columns["ra"]) & np.isfinite(columns["dec"])
    keep &= columns.pop("keep", True)
    columns["error"] = np.nan_to_num(columns.get("error", np.zeros(rows.n)), nan=0.0)
    return make_sources(int(keep.sum()), **{name: np.asarray(column)[keep] for name, column in columns.items()})


def _factor(has: str, wanted: str, where: str) -> float:
    if not wanted or not has:
        return 1.0
    try:
        return float(units.Unit(has).to(units.Unit(wanted)))
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise DataError(f"{where}: unit {has!r} is no unit like {wanted}; the archive changed the table") from error


def _mean_error(rows: Rows, ra: str, dec: str) -> Floats:
    return np.asarray(np.sqrt(rows.number(ra, "arcsec") * rows.number(dec, "arcsec")), float)


def _gaia(rows: Rows) -> dict[str, Any]:
    """Gaia DR3: a significant parallax or motion, or the classifier (PSS, PGal, PQSO) over one half."""
    pm_ra, pm_dec = rows.number("pmRA", "arcsec/d"), rows.number("pmDE", "arcsec/d")
    e_ra, e_dec = rows.number("e_pmRA", "arcsec/d"), rows.number("e_pmDE", "arcsec/d")
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = np.hypot(pm_ra / e_ra, pm_dec / e_dec) > SIGNIFICANT
        near = rows.number("Plx") / rows.number("e_Plx") > SIGNIFICANT
        # RUWE beyond 1.4: the motion is not that of one star (Lindegren et al. 2018, GAIA-C3-TN-LU-LL-124)
        trusted = ~(rows.number("RUWE") > 1.4)
        star, galaxy, quasar = (rows.number(name) > 0.5 for name in ("PSS", "PGal", "PQSO"))
    is_star = ((moves | near) & trusted & ~galaxy & ~quasar) | star
    return {
        "id": rows.text("Source"),
        "ra": rows.number("RA_ICRS", "deg"),
        "dec": rows.number("DE_ICRS", "deg"),
        "error": _mean_error(rows, "e_RA_ICRS", "e_DE_ICRS"),
        "epoch": np.full(rows.n, GAIA_EPOCH),
        "pm_ra": pm_ra,
        "pm_dec": pm_dec,
        "pm_error": np.sqrt(e_ra * e_dec),
        "magnitude": rows.number("Gmag"),
        "colour": rows.number("BPmag") - rows.number("RPmag"),
        "kind": np.where(galaxy, Kind.GALAXY, np.where(is_star, Kind.STAR, Kind.UNKNOWN)),
        "is_variable": rows.text("VarFlag") == "VARIABLE",
        "is_agn": quasar,
    }


def _sdss(rows: Rows) -> dict[str, Any]:
    """SDSS DR16: ``class`` 3 is a galaxy, 6 a star; the class of a spectrum counts more; mode 1 is primary."""
    kind = np.select([rows.number("class") == 3, rows.number("class") == 6], [Kind.GALAXY, Kind.STAR], Kind.UNKNOWN)
    spectrum = np.char.upper(rows.text("spCl"))
    kind = np.where(spectrum == "GALAXY", Kind.GALAXY, np.where(spectrum == "STAR", Kind.STAR, kind))
    return {
        "id": rows.text("objID"),
        "ra": rows.number("RA_ICRS", "deg"),
        "dec": rows.number("DE_ICRS", "deg"),
        "error": _mean_error(rows, "e_RA_ICRS", "e_DE_ICRS"),
        "magnitude": rows.number("rmag"),
        "colour": rows.number("gmag") - rows.number("rmag"),
        "redshift": np.where(spectrum == "STAR", np.nan, rows.number("zsp")),
        "kind": np.where(spectrum == "QSO", Kind.UNKNOWN, kind),
        "is_agn": spectrum == "QSO",
        "keep": np.isnan(rows.number("mode")) | (rows.number("mode") == 1),
    }


def _ps1(rows: Rows) -> dict[str, Any]:
    """Pan-STARRS1 DR2: a star where i(PSF) - i(Kron) < 0.05, down to i = 21 where that still tells."""
    psf, kron = rows.number("imag"), rows.number("iKmag")
    with np.errstate(invalid="ignore"):
        tells = np.isfinite(psf - kron) & (psf < 21.0)
        kind = np.where(tells, np.where(psf - kron < 0.05, Kind.STAR, Kind.GALAXY), Kind.UNKNOWN)
    return {
        "id": rows.text("objID"),
        "ra": rows.number("RAJ2000", "deg"),
        "dec": rows.number("DEJ2000", "deg"),
        "error": _mean_error(rows, "e_RAJ2000", "e_DEJ2000"),
        "magnitude": np.where(np.isfinite(rows.number("rmag")), rows.number("rmag"), psf),
        "colour": rows.number("gmag") - rows.number("rmag"),
        "kind": kind,
    }


def _allwise(rows: Rows) -> dict[str, Any]:
    """AllWISE: AGN where W1 - W2 >= 0.8 and W2 < 15.05 (Stern et al. 2012); variable where a digit is 7 or more."""
    w1, w2 = rows.number("W1mag"), rows.number("W2mag")
    clean = np.array([flag[:2] in ("", "00") for flag in rows.text("ccf")], bool)
    variable = [any(digit.isdigit() and int(digit) >= 7 for digit in flag) for flag in rows.text("var")]
    with np.errstate(invalid="ignore"):
        agn = (w1 - w2 >= 0.8) & (w2 < 15.05) & clean
        extended = rows.number("ex") == 5  # on or beside an extended source of 2MASS
    return {
        "id": rows.text("AllWISE"),
        "ra": rows.number("RAJ2000", "deg"),
        "dec": rows.number("DEJ2000", "deg"),
        "error": np.full(rows.n, 0.1),
        "magnitude": w1,
        "colour": w1 - w2,
        "kind": np.where(extended, Kind.GALAXY, Kind.UNKNOWN),
        "is_variable": np.array(variable, bool),
        "is_agn": agn,
    }


def _skybot(rows: Rows) -> dict[str, Any]:
    """SkyBoT: asteroids and comets at the time of one exposure, which the column ``mjd`` holds."""
    decimal = "_RAJ2000" in rows.values and "_DECJ2000" in rows.values
    ra, dec = ("_RAJ2000", "_DECJ2000") if decimal else ("RA", "DEC")
    return {
        "id": rows.text("Name"),
        "ra": rows.number(ra, "deg") if decimal else rows.angle(ra, is_ra=True),
        "dec": rows.number(dec, "deg") if decimal else rows.angle(dec, is_ra=False),
        "error": rows.number("ErrPos", "arcsec"),
        "epoch": rows.number("mjd", "d"),
        "pm_ra": rows.number("dRAcosDec", "arcsec/d"),
        "pm_dec": rows.number("dDEC", "arcsec/d"),
        "magnitude": rows.number("Mv"),
    }


def _mags(names: str) -> dict[str, str]:
    return {name: "mag" for band in names.split() for name in (f"{band}mag", f"e_{band}mag")}


GAIA = ReferenceCatalogue(
    "gaia",
    "Gaia DR3",
    "I/355/gaiadr3",
    {
        **{"Source": "", "RA_ICRS": "deg", "DE_ICRS": "deg", "e_RA_ICRS": "mas", "e_DE_ICRS": "mas"},
        **{"Plx": "mas", "e_Plx": "mas", "pmRA": "mas/yr", "e_pmRA": "mas/yr", "pmDE": "mas/yr", "e_pmDE": "mas/yr"},
        **{"RUWE": "", "Gmag": "mag", "e_Gmag": "mag", "BPmag": "mag", "RPmag": "mag"},
        **{"VarFlag": "", "PQSO": "", "PGal": "", "PSS": ""},
    },
    ("Source", "RA_ICRS", "DE_ICRS", "pmRA", "pmDE", "Gmag"),
    _gaia,
    "Vega",
)
SDSS = ReferenceCatalogue(
    "sdss",
    "SDSS DR16",
    "V/154/sdss16",
    {
        **{"objID": "", "RA_ICRS": "deg", "DE_ICRS": "deg", "e_RA_ICRS": "arcsec", "e_DE_ICRS": "arcsec"},
        **{"mode": "", "class": "", "clean": "", "zsp": "", "spCl": ""},
        **_mags("u g r i z"),
    },
    ("objID", "RA_ICRS", "DE_ICRS", "class", "rmag"),
    _sdss,
    "AB",
    knows_galaxies=True,
)
PS1 = ReferenceCatalogue(
    "ps1",
    "Pan-STARRS1 DR2",
    "II/389/ps1_dr2",
    {
        **{"objID": "", "RAJ2000": "deg", "DEJ2000": "deg", "e_RAJ2000": "arcsec", "e_DEJ2000": "arcsec"},
        **{"gKmag": "mag", "rKmag": "mag", "iKmag": "mag", "zKmag": "mag", "yKmag": "mag", "Ns": "", "Nd": ""},
        **_mags("g r i z y"),
    },
    ("objID", "RAJ2000", "DEJ2000", "imag", "iKmag"),
    _ps1,
    "AB",
    knows_galaxies=True,
)
ALLWISE = ReferenceCatalogue(
    "allwise",
    "AllWISE",
    "II/328/allwise",
    {
        **{"AllWISE": "", "RAJ2000": "deg", "DEJ2000": "deg", "ccf": "", "ex": "", "var": "", "qph": ""},
        **{"pmRA": "mas/yr", "pmDE": "mas/yr"},
        **_mags("W1 W2 W3 W4"),
    },
    ("AllWISE", "RAJ2000", "DEJ2000", "W1mag", "W2mag"),
    _allwise,
    "Vega",
)
SKYBOT = ReferenceCatalogue(
    "skybot",
    "SkyBoT",
    "",
    {
        **{"Name": "", "RA": "h:m:s", "DEC": "d:m:s", "_RAJ2000": "deg", "_DECJ2000": "deg", "Mv": "mag"},
        **{"ErrPos": "arcsec", "dRAcosDec": "arcsec/h", "dDEC": "arcsec/h", "mjd": "d"},
    },
    ("Name", "mjd", "dRAcosDec", "dDEC"),
    _skybot,
    is_moving=True,
)
# in the order in which their word on star or galaxy counts
CATALOGUES: dict[str, ReferenceCatalogue] = {one.name: one for one in (GAIA, SDSS, PS1, ALLWISE, SKYBOT)}
