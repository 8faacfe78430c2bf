"""The emulator of the archives, for surveys that fetch."""

from tests.archives.conftest import archive, emulator, fetcher

__all__ = ["archive", "emulator", "fetcher"]
