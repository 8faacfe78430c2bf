"""AstrID finds transients in astronomical imaging time series.

In a notebook::

    import astrid

    science, template = astrid.read_pair("night2.fits", "night1.fits")
    difference = astrid.subtract(science, template, "zogy")
    found = astrid.detect(difference)
    cube = astrid.open_cube("cubes/simulated-1a2b3c4d")
"""

from typing import Any

__all__ = ["detect", "open_cube", "read_pair", "subtract"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported late: the command line must answer at once
        from astrid import api

        return getattr(api, name)
    raise AttributeError(f"module 'astrid' has no attribute {name!r}")
