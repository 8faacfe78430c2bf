"""Small cubes on both engines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astrid.schema import CUBE
from astrid.skygrid import Tile
from astrid.stores.cube import CubeLayout, CubeStore


@pytest.fixture(params=["icechunk", "zarr"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CubeStore:
    return CubeStore(str(tmp_path / "cube"), request.param)


@pytest.fixture
def icechunk_store(tmp_path: Path) -> CubeStore:
    return CubeStore(str(tmp_path / "cube"), "icechunk")


@pytest.fixture
def layout() -> Callable[..., CubeLayout]:
    def make(n_tiles: int = 2, n_epochs: int = 3, bands: tuple[str, ...] = ("g", "r"), **options: Any) -> CubeLayout:
        tiles = tuple(Tile(i, (16, 16), 2, 10.0 + i, -20.0, 0.3) for i in range(n_tiles))
        return CubeLayout(tiles, n_epochs, bands, (5, 5), "nJy", {"survey": "simulated"}, **options)

    return make


@pytest.fixture
def cube(store: CubeStore, layout: Callable[..., CubeLayout]) -> CubeStore:
    """A cube without any cell."""
    store.create("cube", CUBE, layout())
    return store


@pytest.fixture
def pixels() -> Callable[[float], dict[str, Any]]:
    def make(value: float) -> dict[str, Any]:
        rng = np.random.default_rng(int(value))
        return {
            "flux": rng.normal(value, 1, (20, 20)).astype(np.float32),
            "variance": np.full((20, 20), 1 + value, np.float32),
            "mask": rng.integers(0, 3, (20, 20)).astype(np.uint16),
            "psf": np.full((5, 5), 1 / 25, np.float32),
        }

    return make
