"""Images of 2MASS, WISE, GALEX and photographic plates: what their headers say in words of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from astrid.surveys.headers import Headers
from astrid.targets.dates import mjd_of_number, parse_date

# Flux density in Jy of Vega magnitude zero. 2MASS: Cohen, Wheaton & Megeath 2003, AJ 126, 1090; WISE: Jarrett et al.
# 2011, ApJ 735, 112. For WISE it depends on the spectrum by 0.03 mag; this is for a flat one.
ZERO_MAGNITUDE_JY = {"J": 1594.0, "H": 1024.0, "K": 666.7, "W1": 309.54, "W2": 171.79, "W3": 31.676, "W4": 8.3635}
AB_ZERO_JY = 3631.0
# AB magnitude of one count per second. Morrissey et al. 2007, ApJS 173, 682.
GALEX_ZERO_POINT = {"NUV": 20.08, "FUV": 18.82}


@dataclass(frozen=True)
class Product:
    """What an image is; None leaves it to the common keywords.

    Attributes
    ----------
    band : str
        Name of the pass band.
    unit : str or None
        As in `astrid.image.ExposureInfo`, where the header has none.
    zero_point : float or None
        AB magnitude of one unit of the stored pixels.
    mjd : float or None
        Time of mid-exposure, MJD (UTC).
    is_photometric : bool
        Whether pixels are proportional to flux.
    notes : tuple of str
        What the user should know.
    """

    band: str
    unit: str | None = None
    zero_point: float | None = None
    mjd: float | None = None
    is_photometric: bool = True
    notes: tuple[str, ...] = ()


def recognise(headers: Headers) -> Product | None:
    """Return what an image is, None where its header is none of those that need it.

    Zero points in Vega magnitudes become AB magnitudes.
    """
    return next((product for look in _KINDS if (product := look(headers)) is not None), None)


def _two_mass(headers: Headers) -> Product | None:
    band = (headers.text("FILTER") or "").upper()
    if headers.text("ORIGIN") != "2MASS" or band not in ("J", "H", "K"):
        return None
    date, clock = headers.text("UT_DATE"), headers.text("UT")
    mjd = _mjd(f"{date}T{clock}") if date and clock else None
    return Product(band, zero_point=_from_vega(headers, band), mjd=mjd, notes=(_VEGA,))


def _wise(headers: Headers) -> Product | None:
    number = headers.first_number(["BAND"])
    if headers.text("TELESCOP") != "WISE" or number is None or number[1] not in (1, 2, 3, 4):
        return None
    band = f"W{int(number[1])}"
    first, middle, last = (headers.text(key) for key in ("DATEOBS1", "MIDOBS", "DATEOBS2"))
    span = (f"a coadd of exposures from {first} to {last}; its time is that of the middle one",) if middle else ()
    return Product(
        band, zero_point=_from_vega(headers, band), mjd=_mjd(middle) if middle else None, notes=(_VEGA, *span)
    )


def _galex(headers: Headers) -> Product | None:
    number = headers.first_number(["BAND"])
    if headers.text("MPSTYPE") is None or headers.text("TILENAME") is None or number is None:
        return None
    band = {1: "NUV", 2: "FUV"}.get(int(number[1]))
    if band is None:
        return None
    ends = [mjd_of_number(text) for key in ("EXPSTART", "EXPEND") if (text := headers.text(key))]
    times = [end[0] for end in ends if end is not None]
    unit, notes = None, ["zero point of GALEX intensity maps (-int), AB"]
    if headers.text("BUNIT") is None:
        unit = "count/s"
        notes.append("no unit; taken for an intensity map in count/s (survey.unit=count for count maps, -cnt)")
    if len(times) == 2:
        notes.append(f"a coadd of visits over {times[1] - times[0]:.2g} days; its time is the middle of them")
    mjd = sum(times) / 2 if len(times) == 2 else None
    return Product(band, unit, GALEX_ZERO_POINT[band], mjd, notes=tuple(notes))


def _plate(headers: Headers) -> Product | None:
    if headers.text("PLTLABEL") is None:
        return None
    note = "a scanned photographic plate: densities, not proportional to flux, without zero point"
    return Product(headers.first_text(["SURVEY", "FILTER"]) or "plate", is_photometric=False, notes=(note,))


_KINDS: tuple[Callable[[Headers], Product | None], ...] = (_two_mass, _wise, _galex, _plate)
_VEGA = "its zero point is a Vega magnitude, brought to AB"


def _from_vega(headers: Headers, band: str) -> float | None:
    found = headers.first_number(["MAGZP"])
    return None if found is None else found[1] + 2.5 * math.log10(AB_ZERO_JY / ZERO_MAGNITUDE_JY[band])


def _mjd(text: str) -> float | None:
    try:
        return parse_date(text)[0]
    except ValueError:
        return None
