"""What intake calls to open a cube or a list of events; only intake imports this module."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr
from intake.readers.readers import BaseReader

from astrid.stores.cube import CubeStore, Engine


class CubeReader(BaseReader):  # type: ignore[misc, unused-ignore]
    """Opens a group of cells as a lazy Dataset."""

    output_instance = "xarray:Dataset"

    def _read(
        self, path: str, engine: Engine = "icechunk", group: str = "cube", snapshot: str | None = None, **_: Any
    ) -> xr.Dataset:
        return CubeStore(path, engine).dataset(group, snapshot)


class EventsReader(BaseReader):  # type: ignore[misc, unused-ignore]
    """Opens a list of events as a table."""

    output_instance = "pandas:DataFrame"

    def _read(self, path: str, **_: Any) -> pd.DataFrame:
        return pd.read_csv(path, comment="#")
