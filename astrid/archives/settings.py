"""Where the archives are and how politely they are asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Service:
    """One service of an archive.

    Attributes
    ----------
    url : str
        Public address that every request begins with.
    concurrency : int
        Largest number of requests at a time, of all workers together.
    interval_s : float
        Least seconds between the starts of two requests.
    timeout_s : float
        Longest silence of the service.
    deadline_s : float
        Longest duration of one answer, for a service that sends a byte now and then; what comes at 100 kB/s or more
        may take longer.
    attempts : int
        How often a request that failed for a reason that may pass is sent.
    backoff_s : float
        Longest wait before the second attempt; it doubles with each, and the wait is drawn at random below it.
    breaker_failures : int
        After so many requests in a row that failed with all their attempts, the service is left alone ...
    breaker_s : float
        ... for so many seconds.
    ban_s : float
        How long the service is left alone once it says 403, for one that shuts out who asks too much; 0 where a 403
        is about one file only.
    resume : bool
        Whether an interrupted file may go on where it stopped (the service honours Range and If-Range).
    """

    url: str
    concurrency: int = 2
    interval_s: float = 0.5
    timeout_s: float = 60.0
    deadline_s: float = 900.0
    attempts: int = 5
    backoff_s: float = 1.0
    breaker_failures: int = 5
    breaker_s: float = 300.0
    ban_s: float = 0.0
    resume: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"url must begin with http:// or https://, got {self.url!r}")
        for name in ("concurrency", "attempts", "breaker_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("timeout_s", "deadline_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("interval_s", "backoff_s", "breaker_s", "ban_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class Archive:
    """Addresses and limits of the services, and where what they send is kept. Picklable.

    Attributes
    ----------
    services : mapping
        `Service` or its fields by name.
    contact : str
        Who asks: an address or page that the User-Agent names, so that an archive can write before it blocks.
    cache : str
        Folder of what was fetched; by default the one that ASTRID_CACHE names, else ``~/.cache/astrid``.
    metadata_days : float
        How long the answer to a search is used again.
    no_coverage_days : float
        How long "nothing there" is believed.
    base_url : str or None
        Asks ``<base_url>/<service>`` instead of the public host of each service.
    """

    services: Mapping[str, Any]
    contact: str = ""
    cache: str = ""
    metadata_days: float = 1.0
    no_coverage_days: float = 30.0
    base_url: str | None = None

    def __post_init__(self) -> None:
        built = {}
        for name, values in self.services.items():
            try:
                built[name] = values if isinstance(values, Service) else Service(**values)
            except (TypeError, ValueError) as error:
                raise ValueError(f"services.{name}: {error}") from error
        object.__setattr__(self, "services", built)
        if self.base_url is not None:
            object.__setattr__(self, "base_url", str(self.base_url).rstrip("/"))
            parts = urlsplit(self.base_url or "")
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ValueError(f"base_url must begin with http:// or https://, got {self.base_url!r}")
        if any(character in self.contact for character in "\r\n"):
            raise ValueError(f"contact must be one line, got {self.contact!r}")
        folder = self.cache or os.environ.get("ASTRID_CACHE") or "~/.cache/astrid"
        object.__setattr__(self, "cache", os.path.abspath(os.path.expanduser(folder)))

    @property
    def folder(self) -> Path:
        """Folder of what was fetched."""
        return Path(self.cache)

    @property
    def user_agent(self) -> str:
        """What requests say of themselves."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            release = version("astrid")
        except PackageNotFoundError:
            release = "0"
        return f"astrid/{release}" + (f" (+{self.contact})" if self.contact else "")

    def service(self, name: str) -> Service:
        """Return the limits of a service.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        try:
            found: Service = self.services[name]
        except KeyError:
            known = ", ".join(sorted(self.services))
            raise ValueError(f"no archive service {name!r}; conf/archive/public.yaml has {known}") from None
        return found

    def url(self, name: str, path: str = "") -> str:
        """Return the address of a path of a service: the public one, unless ``base_url`` is set."""
        return self.redirected(name, self.service(name).url.rstrip("/") + path)

    def redirected(self, name: str, url: str) -> str:
        """Return where a public address is asked for: itself, or its path below ``<base_url>/<service>``."""
        if self.base_url is None:
            return url
        parts = urlsplit(url)
        return f"{self.base_url}/{name}{parts.path}" + (f"?{parts.query}" if parts.query else "")
