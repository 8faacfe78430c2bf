"""What a user may write after ``targets=``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from astrid.errors import DataError, UsageError
from astrid.targets.regions import LARGEST_RADIUS, Target, Targets, separation
from astrid.targets.tables import NAMES, Row, angle_of, read_rows

Resolver = Callable[[str], tuple[float, float] | None]

EXAMPLES = (
    "names (M101,SN 2023ixf), a cone (210.8,+54.3,0.2deg), a polygon (polygon(210 54, 211 54, 211 55)) "
    "or a table (fields.csv)"
)
SYNONYMS: dict[str, tuple[str, ...]] = {
    "name": NAMES,
    "radius": ("radius", "radiusdeg", "radiusarcmin", "radiusarcsec", "searchradius", "sr", "size"),
    "mjd_min": ("mjdmin", "start", "startmjd", "mjdstart", "begin", "tmin", "tstart", "datemin", "startdate"),
    "mjd_max": ("mjdmax", "end", "endmjd", "mjdend", "stop", "tmax", "tend", "datemax", "enddate"),
    "magnitude": ("mag", "magnitude", "peakmag", "vmag", "gmag"),
}
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".vot", ".votable", ".xml", ".parquet", ".pq")
UNITS = {
    **dict.fromkeys(("", "d", "deg", "degree", "degrees", "°"), 1.0),
    **dict.fromkeys(("'", "arcmin", "amin", "min"), 1 / 60),
    **dict.fromkeys(('"', "arcsec", "asec"), 1 / 3600),
    "rad": math.degrees(1),
}
_ANGLE = r"[+-]?(?:\d+[h:d°]\s*\d+(?:[m:'′]\s*\d*\.?\d*[s\"″]?)?|\d+ \d+ \d+\.?\d*|\d*\.?\d+(?:[eE][+-]?\d+)?\.?d?)"
_RADIUS = re.compile(r"\s*(\d*\.?\d+(?:[eE][+-]?\d+)?)\s*([a-z°'\"]*)\s*", re.IGNORECASE)
_CONE = re.compile(rf"({_ANGLE})\s*,\s*({_ANGLE})(?:\s*,\s*([^,]+))?")
_PLAIN_CONE = re.compile(r"([+-]?\d+\.?\d*)\s+([+-]\d+\.?\d*|\d+\.?\d*)(?:\s+(\S+))?")
_CALL = re.compile(r"(polygon|circle|cone)\s*\((.*)\)", re.IGNORECASE | re.DOTALL)


def parse_targets(value: str | Sequence[str], *, root: Path | None = None, resolve: Resolver | None = None) -> Targets:
    """Read what ``targets=`` says.

    Parts are joined by semicolons; each is one of

    - a table: the path of a CSV, VOTable or Parquet file with ra and dec (degrees or sexagesimal), and where
      it has them a name, a radius, the times ``mjd_min`` and ``mjd_max``, a magnitude;
    - a cone: ``210.8,+54.3,0.2deg``, ``14:03:38,+54:18:42,5arcmin``; without a radius a point;
    - a polygon: ``polygon(210 54, 211 54, 211 55)``, corners joined by great circles;
    - names separated by commas: those that AstrID ships (``catalogs/pilot_fields.csv``,
      ``catalogs/pilot_events.csv``), else as the resolver says.

    Parameters
    ----------
    value : str or sequence of str
        What the user wrote; the items of a sequence count as parts.
    root : Path, optional
        Folder that paths of tables start from, by default the current one.
    resolve : callable, optional
        ``name -> (ra, dec)`` in degrees, None where the name is unknown; asked last.

    Returns
    -------
    Targets
        At least one, in the order given.

    Raises
    ------
    UsageError
        If a part cannot be understood or a name is unknown.
    DataError
        If a table cannot be used; the message names file, row, column and remedy.

    Examples
    --------
    >>> [(target.ra, target.dec, target.radius) for target in parse_targets("210.8,+54.3,6arcmin; 10,-20")]
    [(210.8, 54.3, 0.1), (10.0, -20.0, None)]
    """
    texts = [value] if isinstance(value, str) else [str(item) for item in value]
    parts = [part.strip() for text in texts for part in text.split(";") if part.strip()]
    if not parts:
        raise UsageError(f"targets is empty; give {EXAMPLES}")
    rows: list[Target] = []
    for part in parts:
        rows += _part(part, root or Path(), resolve)
    return Targets(tuple(rows))


def _part(text: str, root: Path, resolve: Resolver | None) -> list[Target]:
    call = _CALL.fullmatch(text)
    if call:
        return [_polygon(text, call[2]) if call[1].lower() == "polygon" else _cone(text, _tokens(call[2]))]
    path = root / Path(text).expanduser()
    if text.lower().endswith(TABLE_SUFFIXES) or path.is_file():
        return list(read_targets(path))
    cone = _CONE.fullmatch(text) or _PLAIN_CONE.fullmatch(text)
    if cone:
        return [_cone(text, [one for one in cone.groups() if one])]
    if re.match(r"[+-]?\d+\.?\d*\s*,", text) or text.count("(") != text.count(")"):
        raise UsageError(f"targets: {text!r} is no region; give {EXAMPLES}")
    return [_named(name.strip(), resolve) for name in text.split(",") if name.strip()]


def read_targets(path: Path) -> Targets:
    """Read a table of targets; see `parse_targets`.

    Raises
    ------
    DataError
        If the table cannot be used.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; targets= takes {EXAMPLES}")
    rows = read_rows(path, SYNONYMS)
    if not rows:
        raise DataError(f"{path} holds no row; give at least one position")
    return Targets(tuple(_of_row(row) for row in rows))


def _of_row(row: Row) -> Target:
    ra, dec = row.position()
    radius = None
    if "radius" in row.values:
        radius = _row_radius(row)
    times = {key: row.mjd(key) if key in row.values else None for key in ("mjd_min", "mjd_max")}
    magnitude = row.number_of("magnitude") if "magnitude" in row.values else None
    name = row.text("name") or f"{row.path.stem}-{row.number}"
    try:
        return Target(name, ra, dec, radius, (), times["mjd_min"], times["mjd_max"], magnitude)
    except ValueError as error:
        raise DataError(f"{row.path}, row {row.number}: {error}") from error


def _row_radius(row: Row) -> float:
    column = row.columns["radius"].lower()
    unit = row.unit("radius") or next((unit for unit in ("arcmin", "arcsec") if unit in column), "")
    match = _RADIUS.fullmatch(str(row.values["radius"]))
    factor = UNITS.get((match[2] or unit).lower()) if match else None
    if match is None or factor is None or not float(match[1]) > 0:
        raise row.error("radius", "is no radius; write it in degrees, or like 5arcmin")
    return float(match[1]) * factor


def _tokens(inside: str) -> list[str]:
    return [token for token in re.split(r"\s*,\s*" if "," in inside else r"\s+", inside.strip()) if token]


def _cone(text: str, tokens: Sequence[str]) -> Target:
    if not 2 <= len(tokens) <= 3:
        raise UsageError(f"targets: {text!r} is no cone; write ra,dec,radius like 210.8,+54.3,0.2deg")
    ra, dec = _position(text, tokens[0], tokens[1])
    radius = None
    if len(tokens) == 3:
        match = _RADIUS.fullmatch(tokens[2])
        factor = UNITS.get(match[2].lower()) if match else None
        if match is None or factor is None or not 0 < float(match[1]) * factor <= LARGEST_RADIUS:
            raise UsageError(
                f"targets: {tokens[2]!r} of {text!r} is no radius up to {LARGEST_RADIUS:g} degrees; "
                "write it like 0.2deg, 5arcmin or 90arcsec"
            )
        radius = float(match[1]) * factor
    return Target(_name_of(ra, dec), ra, dec, radius)


def _polygon(text: str, inside: str) -> Target:
    pieces = _tokens(inside)
    if "," in inside and all(len(piece.split()) == 2 for piece in pieces):
        pieces = [token for piece in pieces for token in piece.split()]
    if len(pieces) % 2 or len(pieces) < 6:
        raise UsageError(
            f"targets: {text!r} needs three corners or more of two numbers each: polygon(ra dec, ra dec, ra dec)"
        )
    corners = [_position(text, ra, dec) for ra, dec in zip(pieces[::2], pieces[1::2], strict=True)]
    ra, dec = np.radians(np.array(corners)).T
    centre = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]).mean(axis=1)
    ra0 = math.degrees(math.atan2(centre[1], centre[0])) % 360
    dec0 = math.degrees(math.atan2(centre[2], math.hypot(centre[0], centre[1])))
    radius = float(separation(np.degrees(ra), np.degrees(dec), ra0, dec0).max())
    if not 0 < radius <= LARGEST_RADIUS or len(set(corners)) < 3:
        raise UsageError(
            f"targets: the corners of {text!r} must differ and lie within {LARGEST_RADIUS:g} degrees of their middle, "
            f"the farthest is {radius:.4g} away; split it into smaller polygons"
        )
    return Target(f"polygon {_name_of(ra0, dec0)}", ra0, dec0, radius, tuple(corners))


def _position(text: str, ra: str, dec: str) -> tuple[float, float]:
    try:
        degrees = angle_of(_plain(ra), is_ra=True), angle_of(_plain(dec), is_ra=False)
    except ValueError as error:
        raise UsageError(
            f"targets: {ra!r}, {dec!r} of {text!r} is no position; write it like 210.8,+54.3 or 14:03:38,+54:18:42"
        ) from error
    if not -180 <= degrees[0] <= 360 or not -90 <= degrees[1] <= 90:
        raise UsageError(f"targets: {text!r} is not on the sky; ra is 0 to 360 and dec -90 to 90 degrees")
    return degrees[0] % 360, degrees[1]


def _plain(text: str) -> str:
    """Return an angle as astropy reads it: signs of minutes and seconds, and a d after plain degrees."""
    text = text.translate(str.maketrans("°′'″\"", "dmmss")).strip()
    return text[:-1] if re.fullmatch(r"[+-]?\d*\.?\d+\.?d", text) else text


def _name_of(ra: float, dec: float) -> str:
    return f"{ra:.5f}{dec:+.5f}"


def _named(name: str, resolve: Resolver | None) -> Target:
    known = shipped_targets()
    if _key(name) in known:
        return known[_key(name)]
    found = resolve(name) if resolve is not None else None
    if found is not None:
        return Target(name, *found)
    names = sorted(target.name for target in known.values())
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    asked = "" if resolve is None else ", nor does the name service know it"
    raise UsageError(
        f"targets: no object {name!r} in catalogs/pilot_fields.csv or pilot_events.csv{asked}{hint}; "
        f"give its position instead, like 210.8,+54.3,0.2deg, or {EXAMPLES}"
    )


def _key(name: str) -> str:
    """Return a name as it is compared: no case, spaces or signs, no SN or AT before a year."""
    plain = re.sub(r"[\s_\-]", "", name).lower()
    return re.sub(r"^(sn|at)(?=\d{4})", "", plain)


@lru_cache(maxsize=1)
def shipped_targets() -> dict[str, Target]:
    """Return the fields and events that AstrID ships, by the key of their name; fields count first."""
    folder = catalog_folder()
    events = read_targets(folder / "pilot_events.csv")
    fields = read_targets(folder / "pilot_fields.csv")
    return {_key(target.name): target for target in (*events, *fields)}


def catalog_folder() -> Path:
    """Return the folder of the catalogues: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "catalogs", package.parent / "catalogs"):
        if (folder / "pilot_fields.csv").is_file():
            return folder
    raise DataError(f"the folder catalogs/ is missing beside {package}; install astrid again")
