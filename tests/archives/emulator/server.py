"""The server: services by path prefix, faults by path prefix, everything on loopback.

    http://127.0.0.1:PORT/<service>/<path of the public address>
    http://127.0.0.1:PORT/fault/<kind>[x<N>][@<text>]/<case>/<service>/...

``kind`` is one of `FAULTS`; ``x3`` spoils only the first three requests of a ``case`` (any word, one per test),
``@mskimg`` only those whose address contains the text, or one of several: ``@skyview|hips2fits``.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, unquote, urlsplit

FAULTS = ("429", "500", "503", "404", "silent", "drop", "html", "short", "empty", "zero", "403", "drip")
HTML = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>The service is busy.</body></html>\n"
_FAULT = re.compile(r"(?P<kind>[0-9a-z]+?)(?:x(?P<times>\d+))?(?:@(?P<text>.*))?")


@dataclass(frozen=True)
class Request:
    """What a client asked of a service.

    Attributes
    ----------
    path : str
        What follows the service's address, unquoted, without the query.
    query, form : dict
        Last value of each name of the query and of a form in the body.
    empty : bool
        Asks for the service's own well-formed "nothing there".
    """

    method: str
    service: str
    path: str
    query: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]
    empty: bool = False

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("latin-1"), keep_blank_values=True))


@dataclass(frozen=True)
class Reply:
    """What a service answers; ``whole`` for a file that lies there: it has an ETag and can be had in parts."""

    body: bytes
    status: int = 200
    content_type: str = "application/octet-stream"
    whole: bool = False


Answer = Callable[[Request, object], Reply]


@dataclass
class Logged:
    """One request that came, and how it was answered."""

    service: str
    path: str
    fault: str
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0


class Emulator:
    """A server in threads of this process; a context manager."""

    def __init__(self, services: Mapping[str, Answer], sky: object, *, port: int = 0, retry_after: str = "1") -> None:
        self.services, self.sky, self.retry_after = dict(services), sky, retry_after
        self.log: list[Logged] = []
        self.spoilt: Counter[str] = Counter()
        self.running, self.most_running = Counter[str](), Counter[str]()
        self.stop = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"emulator": self})
        self.server = _Server(("127.0.0.1", port), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def fault(self, kind: str, case: str) -> str:
        """The base URL under which requests go wrong."""
        return f"{self.url}/fault/{kind}/{case}"

    def requests(self, service: str | None = None, text: str = "") -> list[Logged]:
        """What came, of one service or whose path holds a text."""
        return [one for one in self.log if service in (None, one.service) and text in one.path]

    def __enter__(self) -> Emulator:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def takes(self, fault: str, case: str, address: str) -> str:
        """Return the kind of fault that strikes a request, "" for none."""
        match = _FAULT.fullmatch(fault)
        if match is None or match["kind"] not in FAULTS:
            return "404"
        if match["text"] and not any(text in address for text in match["text"].split("|")):
            return ""
        with self.lock:
            count = self.spoilt[f"{fault}/{case}"]
            if match["times"] is not None and count >= int(match["times"]):
                return ""
            self.spoilt[f"{fault}/{case}"] += 1
        return match["kind"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away: many do here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    emulator: Emulator
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        split = urlsplit(self.path)
        parts = split.path.lstrip("/").split("/")
        fault = case = ""
        if parts[0] == "fault" and len(parts) > 3:
            fault, case, parts = unquote(parts[1]), parts[2], parts[3:]
        service, path = parts[0], "/" + unquote("/".join(parts[1:]))
        kind = self.emulator.takes(fault, case, self.path.split(case, 1)[-1]) if fault else ""
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        request = Request(self.command, service, path, query, body, dict(self.headers))
        self.logged = Logged(service, path, kind, request.headers)
        self.emulator.log.append(self.logged)
        try:
            self._send(request, kind)
        except ConnectionError:
            self.close_connection = True

    def _send(self, request: Request, kind: str) -> None:
        """Send the answer, or the fault."""
        if kind == "silent":
            self.emulator.stop.wait(5.0)
            self.close_connection = True
            return None
        if kind.isdigit():
            extra = {"Retry-After": self.emulator.retry_after} if kind == "429" else {}
            return self._reply(Reply(f"error {kind}\n".encode(), int(kind), "text/plain"), extra)
        if kind == "html":
            return self._reply(Reply(HTML, content_type="text/html; charset=utf-8"))
        reply = self._of_service(replace(request, empty=kind == "empty"))
        if kind == "zero":
            return self._reply(replace(reply, body=b"", whole=False))
        if kind == "short":
            return self._reply(replace(reply, body=reply.body[: len(reply.body) // 2], whole=False))
        return self._reply(reply, kind=kind)

    def _of_service(self, request: Request) -> Reply:
        answer = self.emulator.services.get(request.service)
        if answer is None:
            names = ", ".join(sorted(self.emulator.services))
            return Reply(f"no service {request.service!r}; there are {names}\n".encode(), 404, "text/plain")
        running, most, name = self.emulator.running, self.emulator.most_running, request.service
        with self.emulator.lock:
            running[name] += 1
            most[name] = max(running[name], most[name])
        try:
            return answer(request, self.emulator.sky)
        finally:
            with self.emulator.lock:
                running[name] -= 1

    def _reply(self, reply: Reply, extra: Mapping[str, str] | None = None, kind: str = "") -> None:
        body, status, headers = reply.body, reply.status, dict(extra or {})
        if reply.whole:
            etag = f'"{sha256(reply.body).hexdigest()[:16]}"'
            headers |= {"ETag": etag, "Accept-Ranges": "bytes"}
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted and self.headers.get("If-Range", etag) == etag:
                start = int(wanted[1])
                if start >= len(body):
                    return self._reply(Reply(b"", 416, "text/plain"))
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body, status = body[start:], 206
        if kind == "drop":
            self.close_connection = True
        self.logged.status, self.logged.sent = status, len(body) // 2 if kind == "drop" else len(body)
        self.send_response(status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if kind == "drip":
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                if self.emulator.stop.wait(0.05):
                    break
        else:
            self.wfile.write(body[: self.logged.sent])
