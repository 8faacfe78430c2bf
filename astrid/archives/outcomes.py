"""How a request to an archive can end badly: four ways, each with its own remedy."""

from __future__ import annotations

from typing import ClassVar

from astrid.errors import DataError


class ArchiveError(DataError):
    """A request that brought nothing; the message names service, address and remedy.

    Attributes
    ----------
    service : str
        Name of the service in ``conf/archive/public.yaml``.
    url : str
        What was asked.
    reason : str
        What came back.
    retry_after : float or None
        Seconds that the service asked to wait.
    """

    remedy: ClassVar[str] = ""

    def __init__(self, service: str, url: str, reason: str, retry_after: float | None = None) -> None:
        self.service, self.url, self.reason, self.retry_after = service, url, reason, retry_after
        super().__init__(f"{service}: {reason} ({url}){'; ' if self.remedy else ''}{self.remedy}")

    def __reduce__(self) -> tuple[type[ArchiveError], tuple[str, str, str, float | None]]:
        return type(self), (self.service, self.url, self.reason, self.retry_after)


class Transient(ArchiveError):
    """The service is busy, down or silent; the same request may succeed later."""

    remedy = "run the same command again later"


class Paused(Transient):
    """The service failed so often in a row that it is left alone for a while."""

    remedy = "it is left alone for now; run the same command again later"


class NoCoverage(ArchiveError):
    """The service answered properly that it has nothing there."""


class Permanent(ArchiveError):
    """The service will not answer this request, however often it is asked."""

    remedy = "check the address and whether the data are public; `python -m benchmarks.live_check` tries each service"


class Corrupt(ArchiveError):
    """What came is damaged; it was not kept."""

    remedy = "it was not kept; run the same command again to fetch it anew"
