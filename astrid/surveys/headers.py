"""What a header says: band, gain, exposure time, saturation, zero point, unit, sky position."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astrid.errors import DataError

COMMON_KEYWORDS: dict[str, tuple[str, ...]] = {
    "band": ("FILTER", "FILTNAM", "FILTERID", "FILTER1+FILTER2", "FILTER1", "FILTER2", "BAND", "INSFLNAM"),
    "gain": ("EGAIN", "GAIN", "CCDGAIN", "ATODGAIN", "GAINEFF"),
    "exposure_time": ("EXPTIME", "EXPOSURE", "TEXPTIME", "XPOSURE", "EXP_TIME", "ITIME"),
    "saturation": ("SATURATE", "SATLEVEL", "SATURAT", "SATLVL", "SATURLEV"),
    "zero_point": ("MAGZERO", "MAGZPT", "MAGZP", "ABMAGZP", "PHOTZP", "ZP", "ZPT", "ZEROPT", "ZEROPNT"),
    "unit": ("BUNIT",),
    "detector": ("DETECTOR", "CCDNAME", "DETNAM", "CCD_ID", "CCDID", "INSTRUME+CAMERA", "INSTRUME"),
}

_NUMBER = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")
_CLEAR = re.compile(r"(?:clear.*|open|empty|none|n/?a|)$", re.IGNORECASE)
_WCS_CARD = re.compile(
    r"(?:C(?:TYPE|UNIT|RVAL|RPIX|DELT|ROTA)[12]|(?:CD|PC)[12]_[12]|PC00[12]00[12]|P[VS][12]_\d+|LONPOLE|LATPOLE"
    r"|RADE(?:C?SYS)|EQUINOX|EPOCH|[AB]P?_(?:ORDER|DMAX|\d_\d))$"
)
_RENAMED = {"RADECSYS": "RADESYS", "EPOCH": "EQUINOX"}
_OLD_PC = re.compile(r"PC00([12])00([12])")  # as Pan-STARRS writes it
_SCALE_ARCSEC = (1e-3, 1800.0)

_COUNT = {"", "ADU", "ADUS", "DN", "DU", "COUNT", "COUNTS", "CT", "CTS"}
_ELECTRON = {"ELECTRON", "ELECTRONS", "E-", "E", "EL", "PHOTON", "PHOTONS", "PHOTOELECTRON", "PHOTOELECTRONS"}
_JANSKY = {"": 1e9, "n": 1.0, "u": 1e3, "\u00b5": 1e3, "m": 1e6, "k": 1e12, "M": 1e15}
_PER_SECOND = re.compile(r"(?:\s*/\s*s(?:ec(?:onds?)?)?|[\s*.]+s(?:ec)?(?:\^|\*\*)?\(?-1\)?)$", re.IGNORECASE)
_FLUX_DENSITY = re.compile(
    r"(?P<prefix>[num\u00b5kM]?)Jy\s*(?:(?:/|per)\s*(?P<per>[A-Za-z]+2?|arcsec(?:\^|\*\*)2)|\s(?P<inverse>sr|arcsec)[-^*]*-[12])?$"
)
UNITS = ("count", "count/s", "electron", "electron/s", "nJy")


@dataclass(frozen=True, eq=False)
class Headers:
    """Headers in order of precedence: the image's own, then the file's primary header."""

    headers: tuple[fits.Header, ...]

    def card(self, keyword: str) -> fits.Card | None:
        """Return the first card of that name that holds a value."""
        for header in self.headers:
            if keyword not in header:
                continue
            try:
                card = header.cards[keyword]
                value = card.value
            except (fits.VerifyError, ValueError):
                continue  # not a FITS card; as good as absent
            if isinstance(value, fits.card.Undefined) or (isinstance(value, str) and not value.strip()):
                continue
            return card
        return None

    def text(self, keyword: str) -> str | None:
        """Return a value as it is written in the header, digits and all."""
        card = self.card(keyword)
        if card is None:
            return None
        if isinstance(card.value, str):
            return card.value.strip()
        written = re.match(r"[^=]*=\s*([^/]*)", str(card.image))
        return written.group(1).strip() if written else str(card.value)

    def joined(self, keyword: str) -> str | None:
        """Return a value, or for ``A+B`` the values that are there and not clear, joined by +."""
        texts = [self.text(part) for part in keyword.split("+")]
        if "+" not in keyword:
            return texts[0]
        if any(text is None for text in texts):
            return None
        kept = [text for text in texts if text is not None and not _CLEAR.match(text)]
        return "+".join(kept) or texts[0]

    def first_text(self, keywords: Sequence[str]) -> str | None:
        """Return the first value that is there."""
        return next((text for keyword in keywords if (text := self.joined(keyword))), None)

    def first_number(self, keywords: Sequence[str]) -> tuple[str, float] | None:
        """Return keyword and value of the first that holds a finite number."""
        for keyword in keywords:
            text = self.text(keyword)
            match = _NUMBER.match(text) if text is not None else None
            if match:
                value = float(match.group().replace("D", "E").replace("d", "e"))
                if math.isfinite(value):
                    return keyword, value
        return None

    def exposure_seconds(self, keywords: Sequence[str]) -> float | None:
        """Return the exposure time in seconds; minutes or milliseconds where the comment says so."""
        for keyword in keywords:
            found = self.first_number([keyword])
            card = self.card(keyword)
            if found is None or card is None or found[1] <= 0:
                continue
            comment = str(card.comment)
            if re.search(r"\[min(?:utes?)?\]|\bminutes\b", comment, re.IGNORECASE):
                return found[1] * 60
            if re.search(r"\[ms(?:ec)?\]|\bmilli-?sec", comment, re.IGNORECASE):
                return found[1] / 1000
            return found[1]
        return None


def keyword_table(keywords: Mapping[str, str | Sequence[str] | None]) -> dict[str, tuple[str, ...]]:
    """Return the keywords to look for by meaning: the given ones, else the common ones (``time`` apart).

    Raises
    ------
    ValueError
        If a meaning is unknown.
    """
    unknown = sorted(set(keywords) - set(COMMON_KEYWORDS) - {"time"})
    if unknown:
        known = ", ".join(sorted([*COMMON_KEYWORDS, "time"]))
        raise ValueError(f"keywords: {', '.join(unknown)} is not one of {known}")
    table = dict(COMMON_KEYWORDS)
    for meaning, names in keywords.items():
        if names:
            table[meaning] = (names,) if isinstance(names, str) else tuple(names)
    return table


def parse_unit(text: str | None) -> tuple[str, float, str]:
    """Say what a BUNIT means.

    Returns
    -------
    unit : str
        One of `UNITS`.
    factor : float
        Stored values times this are in ``unit`` (per solid angle, where that is left to do).
    per : str
        "" or the solid angle the values are per: "sr", "arcsec2".

    Raises
    ------
    ValueError
        If the unit is unknown.

    Examples
    --------
    >>> parse_unit("MJy/sr"), parse_unit("ADU"), parse_unit("electrons/s")
    (('nJy', 1000000000000000.0, 'sr'), ('count', 1.0, ''), ('electron/s', 1.0, ''))
    """
    unit = (text or "").strip()
    flux_density = _FLUX_DENSITY.match(unit)
    if flux_density:
        per = (flux_density["per"] or flux_density["inverse"] or "").lower().replace("^", "").replace("**", "")
        per = {"pix": "", "pixel": "", "pixel2": "", "pix2": "", "arcsec": "arcsec2"}.get(per, per)
        if per in ("", "sr", "arcsec2"):
            return "nJy", _JANSKY[flux_density["prefix"]], per
        raise ValueError(f"{unit!r} is no unit of flux or counts that AstrID knows")
    if unit.lower().rstrip("s") in ("nanomaggy", "nanomaggie", "nmgy"):
        return "nJy", 3631.0, ""
    if unit.upper() in ("CPS", "C/S", "CT/S"):
        return "count/s", 1.0, ""
    per_second = _PER_SECOND.search(unit)
    base = (unit[: per_second.start()] if per_second else unit).strip().upper()
    base = re.sub(r"\s*(?:/|PER)\s*PIX(?:EL)?$", "", base)
    rate = "/s" if per_second else ""
    if base in _COUNT and (base or not per_second):
        return "count" + rate, 1.0, ""
    if base in _ELECTRON:
        return "electron" + rate, 1.0, ""
    raise ValueError(f"{unit!r} is no unit of flux or counts that AstrID knows")


def celestial_header(header: fits.Header, shape: tuple[int, int]) -> str | None:
    """Return the celestial WCS of a header as FITS header text, None where there is none to rely on.

    Only the cards of a two-dimensional WCS are kept, as written. It counts if it is celestial,
    turns pixels into sky and back, and has a scale between 0.001 and 1800 arcsec per pixel.
    """
    if not str(header.get("CTYPE1", "")).strip():
        return None
    cards = [fits.Card("NAXIS", 2), fits.Card("NAXIS1", shape[1]), fits.Card("NAXIS2", shape[0])]
    images = [card.image for card in cards]
    for keyword in dict.fromkeys(header.keys()):
        if not _WCS_CARD.match(keyword):
            continue
        name, image = _RENAMED.get(keyword, keyword), str(header.cards[keyword].image)
        name = _OLD_PC.sub(r"PC\1_\2", name)
        if name != keyword and name in header:
            continue
        if name.startswith("CUNIT") and str(header[keyword]).strip().lower() in ("degree", "degrees"):
            image = fits.Card(name, "deg").image
        images.append(name.ljust(8) + image[8:80].ljust(72))
    text = "".join(images)
    return text if _is_reliable(text, shape) else None


def pixel_area_sr(headers: Headers, wcs_header: str | None) -> float:
    """Return the solid angle of a pixel in steradians, from the WCS, else PIXAR_SR or PIXAR_A2.

    The WCS comes first: an image that was resampled often keeps the PIXAR_SR of the one it was made from.

    Raises
    ------
    DataError
        If none of them is there.
    """
    if wcs_header is not None:
        return abs(float(np.linalg.det(_wcs(wcs_header).pixel_scale_matrix))) * math.radians(1) ** 2
    for keyword, factor in (("PIXAR_SR", 1.0), ("PIXAR_A2", math.radians(1 / 3600) ** 2)):
        found = headers.first_number([keyword])
        if found and found[1] > 0:
            return found[1] * factor
    raise DataError("flux is per solid angle but neither a WCS, PIXAR_SR nor PIXAR_A2 says how large a pixel is")


def _wcs(text: str) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(fits.Header.fromstring(text))


def _is_reliable(text: str, shape: tuple[int, int]) -> bool:
    try:
        wcs = _wcs(text)
        if not wcs.has_celestial or wcs.naxis != 2:
            return False
        scale = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600
        if not _SCALE_ARCSEC[0] < scale < _SCALE_ARCSEC[1]:
            return False
        y, x = (np.array([0.25, 0.5, 0.75]) * (n - 1) for n in shape)
        sky = wcs.all_pix2world(x, y, 0)
        back = wcs.all_world2pix(*sky, 0, tolerance=1e-3, quiet=True)
    except Exception:  # wcslib has a dozen ways to refuse a header: then it is none to rely on
        return False
    return bool(np.isfinite(sky).all() and np.allclose(back, [x, y], atol=0.1))
