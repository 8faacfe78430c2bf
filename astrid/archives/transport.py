"""Requests that always end: in an answer that passed its check, or in one of four outcomes."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import requests
import urllib3
from requests.adapters import HTTPAdapter

from astrid.archives.checks import Check, Unfit, is_html
from astrid.archives.limiter import LONGEST_DOWNLOAD, LONGEST_WAIT, Limiter
from astrid.archives.outcomes import ArchiveError, Corrupt, NoCoverage, Paused, Permanent, Transient
from astrid.archives.settings import Archive, Service

T = TypeVar("T")
CONNECT_SECONDS = 10.0
LONGEST_BACKOFF = 60.0  # seconds
SLOWEST_RATE = 1e5  # bytes per second at which a large file may take longer than other answers
BLOCK = 1 << 18
_PASSING = {408, 416, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529}
_KEPT_HEADERS = ("ETag", "Last-Modified", "Content-Type", "Date")


@dataclass(frozen=True)
class Answer:
    """What came, complete and checked.

    Attributes
    ----------
    url : str
        What was asked, parameters included.
    size, sha256 : int, str
        Of the file.
    checks : tuple of str
        What was found to be true of it.
    headers : mapping
        What identifies the version that the service sent.
    resumed_at : int
        Bytes that were there from an interrupted attempt.
    found : mapping
        What the service said of the file elsewhere, as text.
    """

    url: str
    size: int
    sha256: str
    checks: tuple[str, ...]
    headers: Mapping[str, str]
    resumed_at: int = 0
    found: Mapping[str, str] = field(default_factory=dict)


class Transport:
    """Sends requests within the limits of each service. One per process; it pickles as its settings.

    Parameters
    ----------
    archive : Archive
        Addresses and limits.
    limiter : Limiter
        Shares the limits with all others who ask.
    """

    def __init__(self, archive: Archive, limiter: Limiter) -> None:
        self.archive, self.limiter = archive, limiter
        self._local = threading.local()

    def __reduce__(self) -> tuple[type[Transport], tuple[Archive, Limiter]]:
        return Transport, (self.archive, self.limiter)

    def session(self, name: str) -> requests.Session:
        """Return this thread's session for a service."""
        sessions: dict[str, requests.Session] = self._local.__dict__.setdefault("sessions", {})
        if name not in sessions:
            session = requests.Session()
            session.headers["User-Agent"] = self.archive.user_agent
            session.headers["Accept-Encoding"] = "identity"  # lengths, ranges and checksums of what is sent
            session.trust_env = not _is_loopback(self.archive.url(name))
            sessions[name] = session
        return sessions[name]

    def fetch(
        self,
        name: str,
        path: str,
        part: Path,
        check: Check,
        *,
        params: Sequence[tuple[str, str]] = (),
        data: str | Sequence[tuple[str, str]] | None = None,
        nothing: Sequence[int] = (),
        resume: bool = False,
        html: bool = False,
    ) -> Answer:
        """Ask a service and write what it sends to a file.

        Parameters
        ----------
        name, path : str
            Service, and what follows its address.
        part : Path
            File to write; gone if the request fails, except where it can go on later.
        check : Check
            What must be true of the file.
        params : sequence of (str, str)
            Query of the address.
        data : str or sequence of (str, str), optional
            Body of a POST; text is sent as it is, pairs as a form.
        nothing : sequence of int
            Status codes by which this service says that it has nothing there.
        resume : bool
            Whether to go on with a part that is there.
        html : bool
            Whether a web page is an answer; the check must then tell it from others.

        Raises
        ------
        Transient, NoCoverage, Permanent, Corrupt
            The outcomes of `astrid.archives.outcomes`.
        """
        service = self.archive.service(name)
        method = "GET" if data is None else "POST"
        url = str(requests.Request(method, self.archive.url(name, path), params=list(params)).prepare().url)
        resume = resume and service.resume

        def once() -> Answer:
            answer = self._receive(name, service, method, url, data, part, nothing, resume, html)
            try:
                return Answer(url, answer.size, answer.sha256, check(part), answer.headers, answer.resumed_at)
            except Unfit as error:
                _forget(part)
                raise error.outcome(name, url, error.reason) from None

        try:
            return self.retried(name, url, once)
        except BaseException as error:
            if not resume or (isinstance(error, ArchiveError) and not isinstance(error, Transient)):
                _forget(part)
            raise

    def retried(self, name: str, url: str, once: Callable[[], T]) -> T:
        """Do something that asks a service, within its limits, again where a failure may pass.

        Parameters
        ----------
        name, url : str
            Service, and what is asked, for messages.
        once : callable
            Sends the request once; raises one of the four outcomes, or what `requests` raises.
        """
        service = self.archive.service(name)
        attempt, corrupt = 0, False
        while True:
            attempt += 1
            try:
                with self.limiter.slot(name, service):
                    result = _translated(name, url, service, once)
                self.limiter.succeeded(name)
                return result
            except Paused:
                raise
            except Transient as error:
                asked = error.retry_after or 0.0
                if asked > 0:
                    self.limiter.penalise(name, asked)
                if attempt == service.attempts or asked > LONGEST_WAIT:
                    self.limiter.failed(name, service)
                    raise type(error)(
                        name, url, f"{error.reason}, after {_times(attempt)}", error.retry_after
                    ) from error
                rng = np.random.default_rng([os.getpid(), threading.get_ident(), attempt])  # no two wait alike
                time.sleep(float(rng.uniform(0, min(LONGEST_BACKOFF, service.backoff_s * 2 ** (attempt - 1)))))
            except Corrupt:
                self.limiter.succeeded(name)
                if corrupt or attempt == service.attempts:
                    raise
                corrupt = True
            except NoCoverage:
                self.limiter.succeeded(name)
                raise
            except Permanent as error:
                if error.reason.startswith("status 403"):  # often a ban: do not go on asking
                    if service.ban_s > 0:
                        self.limiter.penalise(name, service.ban_s)
                    else:
                        self.limiter.failed(name, service)
                raise

    def _receive(
        self,
        name: str,
        service: Service,
        method: str,
        url: str,
        data: Any,
        part: Path,
        nothing: Sequence[int],
        resume: bool,
        html: bool,
    ) -> Answer:
        """Send a request once and write its body to ``part``."""
        started = time.monotonic()
        headers, offset = _range_of(part) if resume else ({}, 0)
        timeout = (min(CONNECT_SECONDS, service.timeout_s), service.timeout_s)
        with self.session(name).request(
            method, url, data=data, headers=headers, stream=True, timeout=timeout
        ) as response:
            if response.status_code == 416:  # what was there of the file is not a part of the present one
                _forget(part)
            judge(name, url, response, nothing, html=html)
            if response.status_code == 206 and offset == 0:
                raise Corrupt(name, url, "a part came where the whole was asked for")
            if response.status_code != 206:
                offset = 0
            etag = response.headers.get("ETag", "")
            if resume and etag and not etag.startswith("W/"):
                part.with_suffix(".etag").write_text(etag)
            digest, size = hashlib.sha256(), offset
            if offset:
                with open(part, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
            with open(part, "r+b" if offset else "wb") as file:
                file.seek(offset)
                for block in _blocks(response):
                    file.write(block)
                    digest.update(block)
                    size += len(block)
                    seconds = time.monotonic() - started
                    if _takes_too_long(service, seconds, size - offset):
                        raise Transient(name, url, f"not complete after {seconds:.3g} s")
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            part.with_suffix(".etag").unlink(missing_ok=True)
            kept = {key: response.headers[key] for key in _KEPT_HEADERS if key in response.headers}
            return Answer(url, size, digest.hexdigest(), (), kept, offset)


class PoliteAdapter(HTTPAdapter):
    """Gives the session of another library our addresses, time limits, rates and outcomes.

    ``PoliteAdapter(transport, "vizier").mount(session)``

    Parameters
    ----------
    transport : Transport
        Sends the requests.
    name : str
        The service.
    html : bool
        Whether web pages are answers.
    check : callable, optional
        Looks at the content of an answer before the library does; raises `astrid.archives.checks.Unfit`.
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "transport", "name", "html", "check"]  # noqa: RUF012 as the base class has it

    def __init__(
        self, transport: Transport, name: str, *, html: bool = False, check: Callable[[bytes], object] | None = None
    ) -> None:
        self.transport, self.name, self.html, self.check = transport, name, html, check
        super().__init__(max_retries=0)

    def mount(self, session: requests.Session) -> None:
        """Let everything that a session asks, redirections included, pass through here."""
        for scheme in ("https://", "http://"):
            session.mount(scheme, self)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, again where a failure may pass; raises the four outcomes."""
        archive = self.transport.archive
        service = archive.service(self.name)
        if archive.base_url is None or not str(request.url).startswith(archive.base_url):
            request.url = archive.redirected(self.name, str(request.url))
        request.headers["User-Agent"] = archive.user_agent
        kwargs["timeout"] = (min(CONNECT_SECONDS, service.timeout_s), service.timeout_s)
        if _is_loopback(str(request.url)):
            kwargs["proxies"] = {}
        send = super().send

        def once() -> requests.Response:
            started = time.monotonic()
            response = send(request, *args, **kwargs)
            blocks = []
            for block in _blocks(response):
                blocks.append(block)
                if time.monotonic() - started > service.deadline_s:
                    raise Transient(self.name, str(request.url), f"not complete after {service.deadline_s:g} s")
            body = b"".join(blocks)
            response._content, response._content_consumed = body, True
            if response.is_redirect:  # the session asks there, through an adapter again
                return response
            judge(self.name, str(request.url), response, (), html=self.html)
            if not self.html and is_html(body[:1024]):
                raise Transient(self.name, str(request.url), "a web page came instead of data")
            if self.check is not None:
                try:
                    self.check(body)
                except Unfit as error:
                    raise error.outcome(self.name, str(request.url), error.reason) from None
            return response

        return self.transport.retried(self.name, str(request.url), once)


def judge(name: str, url: str, response: requests.Response, nothing: Sequence[int], *, html: bool = False) -> None:
    """Raise the outcome that a status or content type stands for."""
    status = response.status_code
    said = f"status {status}" + (f" ({response.reason})" if response.reason else "")
    if status in nothing:
        text = " ".join(response.raw.read(500, decode_content=True).decode("utf-8", errors="replace").split())
        raise NoCoverage(name, url, f"nothing there: {said}" + (f": {text[:150]}" if text else ""))
    if status in (200, 206):
        if not html and response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise Transient(name, url, "a web page came instead of data")
        return
    if status in _PASSING or status >= 500:
        raise Transient(name, url, said, retry_after(response.headers.get("Retry-After")))
    if status == 204:
        raise NoCoverage(name, url, f"nothing there: {said}")
    raise Permanent(name, url, said)


def retry_after(text: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number or a date; None where it says nothing."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _translated(name: str, url: str, service: Service, once: Callable[[], T]) -> T:
    """Turn what requests and urllib3 raise into an outcome."""
    try:
        return once()
    except ArchiveError:
        raise
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise Transient(name, url, f"silent for {service.timeout_s:g} s") from error
    except requests.TooManyRedirects as error:
        raise Permanent(name, url, "it redirects without end") from error
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise Transient(name, url, _connection_reason(error, service)) from error
    except (requests.exceptions.ContentDecodingError, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Transient(name, url, _connection_reason(error, service)) from error


def _connection_reason(error: Exception, service: Service) -> str:
    text = str(error)
    if "timed out" in text.lower():
        return f"silent for {service.timeout_s:g} s"
    for sign, reason in (
        ("NameResolution", "its name is not known here; is there a network?"),
        ("refused", "the connection was refused"),
        ("SSL", f"no secure connection ({text[:150]})"),
    ):
        if sign in text:
            return reason
    return f"the connection broke ({type(error).__name__})"


def _blocks(response: requests.Response) -> Any:
    """Yield the body as it comes: a service that sends a byte now and then is seen to do so."""
    if response.headers.get("Content-Encoding"):
        yield from response.iter_content(BLOCK)
        return
    while block := response.raw.read1(BLOCK):
        yield block


def _takes_too_long(service: Service, seconds: float, received: int) -> bool:
    """Return whether to give up an answer: its time is over, unless it is large and comes along."""
    comes_along = seconds < LONGEST_DOWNLOAD and received > SLOWEST_RATE * seconds
    return seconds > service.deadline_s and not comes_along


def _range_of(part: Path) -> tuple[dict[str, str], int]:
    """Return the headers that ask for the rest of a part, and where it begins."""
    try:
        etag = part.with_suffix(".etag").read_text()
        size = part.stat().st_size
    except FileNotFoundError:
        return {}, 0
    return ({"Range": f"bytes={size}-", "If-Range": etag}, size) if size and etag else ({}, 0)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def _times(number: int) -> str:
    return "one attempt" if number == 1 else f"{number} attempts"


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
