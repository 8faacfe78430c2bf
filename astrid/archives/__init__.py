"""Clients of the remote services: how they are asked, how politely, and what counts as an answer."""

from astrid.archives.acknowledgements import acknowledgement
from astrid.archives.fetch import Download, Fetched, Fetcher
from astrid.archives.limiter import FileLimiter, Limiter
from astrid.archives.outcomes import ArchiveError, Corrupt, NoCoverage, Permanent, Transient
from astrid.archives.settings import Archive, Service

__all__ = [
    "Archive",
    "ArchiveError",
    "Corrupt",
    "Download",
    "Fetched",
    "Fetcher",
    "FileLimiter",
    "Limiter",
    "NoCoverage",
    "Permanent",
    "Service",
    "Transient",
    "acknowledgement",
]
