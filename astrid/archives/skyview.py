"""SkyView: images of many surveys about a place, resampled on request.

Three requests: the form, whose fields have defaults that the image is made with; the query, which answers with a web
page; the FITS file that the page links to, which is there for a while only. Together they are one download, found in
the cache by what was asked for.

https://skyview.gsfc.nasa.gov/current/help/fields.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from astrid.archives.checks import FitsImage, Unfit
from astrid.archives.fetch import Download, Fetcher
from astrid.archives.outcomes import Corrupt, NoCoverage, Permanent, Transient
from astrid.archives.transport import Answer

SERVICE = "skyview"
FORM = "/current/cgi/basicform.pl"
QUERY = "/current/cgi/runquery.pl"
MAX_PIXELS = 3000  # side; larger ones are what the service asks not to request
FOUND = ("epoch", "pixelunits", "pixelscale", "coverage", "provenance", "copyright", "resolution")
_SETTING = re.compile(r"x\['([\w.]+)'\]='(.*)'\s*$", re.MULTILINE)
_TITLE = re.compile(r"<title>\s*SkyView\b", re.IGNORECASE)
_RESULTS_TITLE = re.compile(r"<title>\s*SkyView\s+images\b", re.IGNORECASE)
_END = re.compile(r"</html>|document\.domain\s*=", re.IGNORECASE)  # the page of results has no closing tag


@dataclass(frozen=True)
class Form:
    """What the query form offers.

    Attributes
    ----------
    defaults : mapping
        Value by field, of those that have one.
    surveys : frozenset of str
        Names of the surveys.
    """

    defaults: Mapping[str, str]
    surveys: frozenset[str]


@dataclass(frozen=True)
class Result:
    """What the page of results says.

    Attributes
    ----------
    path : str
        Of the FITS file at the service.
    found : mapping
        What the service says of the survey: its epoch, units, provenance...
    """

    path: str
    found: Mapping[str, str]


def cutout(survey: str, ra: float, dec: float, size_pixels: int, size_deg: float, *, size: int | None = None,
           about: Mapping[str, object] | None = None) -> Download:  # fmt: skip
    """Return the download of a square about a place, in a gnomonic projection, north up.

    Parameters
    ----------
    survey : str
        As the service names it: "DSS2 Red", "SDSSr", "2MASS-J".
    ra, dec : float
        Centre, ICRS degrees.
    size_pixels, size_deg : int, float
        Side.
    size : int, optional
        Expected bytes.
    about : mapping, optional
        For the note beside the file.

    Raises
    ------
    ValueError
        If the square is too large for the service.
    """
    if not 0 < size_pixels <= MAX_PIXELS:
        raise ValueError(f"size_pixels must be from 1 to {MAX_PIXELS}, got {size_pixels}")
    params = (
        ("Position", f"{ra:.6f}, {dec:.6f}"), ("survey", survey), ("coordinates", "ICRS"), ("projection", "Tan"),
        ("pixels", str(size_pixels)), ("size", f"{size_deg:.8f}"), ("scaling", "Linear"), ("float", "on"),
    )  # fmt: skip
    return Download(
        SERVICE,
        QUERY,
        params,
        check=FitsImage(ra, dec, may_be_constant=False),
        size=size,
        way=ByForm(),
        about={"acknowledgement": "skyview", **(about or {})},
    )


def form_request() -> Download:
    """Return the request for the form."""
    return Download(SERVICE, FORM, check=FormPage(), is_search=True, html=True, about={"acknowledgement": "skyview"})


@dataclass(frozen=True)
class ByForm:
    """Gets an image by the three requests."""

    def __call__(self, fetcher: Fetcher, download: Download, part: Path) -> Answer:
        """Write the image to ``part``."""
        form = read_form(fetcher.read(form_request()))
        asked = dict(download.params)
        url = fetcher.archive.url(SERVICE, QUERY)
        if asked["survey"] not in form.surveys:
            near = sorted(name for name in form.surveys if name[:3].lower() == asked["survey"][:3].lower())
            reason = f"no survey {asked['survey']!r} is in its form" + (
                f"; there are {', '.join(near)}" if near else ""
            )
            raise Permanent(SERVICE, url, reason)
        page_part = fetcher.cache.part()
        try:
            page = fetcher.transport.fetch(
                SERVICE, QUERY, page_part, ResultPage(), params=tuple({**form.defaults, **asked}.items()), html=True
            )
            result = read_result(page_part.read_bytes())
        finally:
            page_part.unlink(missing_ok=True)
        answer = fetcher.transport.fetch(SERVICE, result.path, part, download.check)
        return replace(answer, url=page.url, found={"file": answer.url, **result.found})


@dataclass(frozen=True)
class FormPage:
    """A page that holds the form with its surveys."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Read the form."""
        return (f"a form with {len(read_form(path.read_bytes()).surveys)} surveys",)


@dataclass(frozen=True)
class ResultPage:
    """A page of results that links to a FITS file."""

    def __call__(self, path: Path) -> tuple[str, ...]:
        """Find the link."""
        read_result(path.read_bytes())
        return ("a link to a FITS file",)


def read_form(page: bytes) -> Form:
    """Read the form.

    Raises
    ------
    Unfit
        Transient if this is another page, Corrupt if it is cut short.
    """
    text = _decoded(page)
    if not _TITLE.search(text):
        raise Unfit(Transient, "a page of another kind came")
    parser = _FormParser()
    parser.feed(text)
    if not parser.ends or not parser.surveys:
        raise Unfit(Corrupt, f"the form is not complete: {len(parser.surveys)} surveys in {len(page)} bytes")
    return Form(parser.defaults, frozenset(parser.surveys))


def read_result(page: bytes) -> Result:
    """Read the page of results.

    Raises
    ------
    Unfit
        NoCoverage if it is a complete page of results that links to no FITS file, Transient if it is another page,
        Corrupt if it is cut short.
    """
    text = _decoded(page)
    parser = _LinkParser()
    parser.feed(text)
    if not parser.links and not _END.search(text):
        raise Unfit(Corrupt, f"the page of results is cut short after {len(page)} bytes")
    if not _RESULTS_TITLE.search(text):
        raise Unfit(Transient, "a page came that is no page of results")
    if not parser.links:
        raise Unfit(NoCoverage, "the page of results links to no FITS file")
    public = urljoin(f"https://skyview{QUERY}", parser.links[0])
    settings = dict(reversed(_SETTING.findall(text)))  # of the first image, where there are several
    found = {key: settings[f"_meta_{key}"] for key in FOUND if settings.get(f"_meta_{key}")}
    return Result(urlsplit(public).path, found)


def _decoded(page: bytes) -> str:
    if not page:
        raise Unfit(Corrupt, "the answer is empty")
    return page.decode("utf-8", errors="replace")


class _LinkParser(HTMLParser):
    """Collects the addresses of the links named FITS."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self._address = ""

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._address = dict(attrs).get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._address = ""

    def handle_data(self, data: str) -> None:
        if data.strip() == "FITS" and self._address:
            self.links.append(self._address)


class _FormParser(HTMLParser):
    """Collects the defaults of the first form and the names of its surveys, as a browser would send them."""

    def __init__(self) -> None:
        super().__init__()
        self.defaults: dict[str, str] = {}
        self.surveys: list[str] = []
        self.ends = False
        self._select = self._option = None  # type: str | None
        self._is_overlay = self._is_selected = False
        self._said = ""

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self.ends:
            return
        if tag == "input":
            self._input(given)
        elif tag == "select":
            self._select = given.get("name")
            self._is_overlay = "overlay" in (given.get("id") or "")
        elif tag == "option":
            self._close_option()
            self._option, self._is_selected, self._said = given.get("value") or "", "selected" in given, ""

    def handle_data(self, data: str) -> None:
        if self._option is not None:
            self._said += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("option", "select"):
            self._close_option()
        if tag == "select":
            self._select = None
        if tag == "form":
            self.ends = True

    def _close_option(self) -> None:
        """End an option where the next begins: many are not closed."""
        if self._option is not None and self._select and not self.ends:
            name = self._said.strip()
            if self._select == "survey" and not self._is_overlay and name:
                self.surveys.append(name)
            elif self._is_selected and self._select != "survey":
                self._default(self._select, self._option or name)
        self._option = None

    def _input(self, given: Mapping[str, str | None]) -> None:
        kind, name, value = (given.get("type") or "text").lower(), given.get("name"), given.get("value")
        if kind in ("checkbox", "radio") and "checked" in given:
            value = value or "on"
        elif kind != "text":
            return
        if name:
            self._default(name, value)

    def _default(self, name: str, value: str | None) -> None:
        if value and value != "null":
            self.defaults[name] = value
