"""What a cube is made of: its tiles, epochs and bands, and the empty arrays that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from astrid.errors import DataError, SchemaError
from astrid.schema import CELL_DIMS, N_FIELD_TERMS, SCHEMA_VERSION, MaskBit, Variable
from astrid.skygrid import Tile

_OWN_ATTRIBUTES: tuple[str, ...] = (
    "schema_version",
    "flux_unit",
    "core",
    "border",
    "pixel_scale",
    "frame",
    "projection",
)
_OWN_ATTRIBUTES += ("cd", "psf_shape", "n_epochs", "bands", "variables", "complete")
_MARKER = "schema_version"
_NUMBERS_CHUNK = {"tile": 64, "epoch": 256}


@dataclass(frozen=True)
class CubeLayout:
    """The axes of a cube and what all of its groups share.

    Attributes
    ----------
    tiles : tuple of Tile
        Numbered from 0, all of one shape, pixel scale and frame.
    n_epochs : int
        Length of the epoch axis, which may grow later.
    bands : tuple of str
        Names along the band axis.
    psf_shape : (int, int)
        (py, px) of every stored PSF.
    flux_unit : str
        Unit of flux, "nJy" or "count/s".
    attributes : dict
        More attributes of the cube, such as survey, acknowledgement and configuration.
    """

    tiles: tuple[Tile, ...]
    n_epochs: int
    bands: tuple[str, ...]
    psf_shape: tuple[int, int]
    flux_unit: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tiles or not self.bands or self.n_epochs < 1:
            raise ValueError(
                f"a cube needs a tile, an epoch and a band, got {len(self.tiles)}, {self.n_epochs}, {len(self.bands)}"
            )
        if [tile.index for tile in self.tiles] != list(range(len(self.tiles))):
            raise ValueError(f"tiles must be numbered from 0, got {[tile.index for tile in self.tiles][:10]}")
        if len({_common(tile) for tile in self.tiles}) > 1:
            raise ValueError("tiles of one cube must have the same core, border, pixel scale and frame")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands must differ, got {self.bands}")
        if any(name in self.attributes for name in _OWN_ATTRIBUTES):
            raise ValueError(f"attributes may not hold {sorted(set(_OWN_ATTRIBUTES) & set(self.attributes))}")

    def sizes(self) -> dict[str, int]:
        """Return the length of every dimension."""
        ny, nx = self.tiles[0].shape
        py, px = self.psf_shape
        lengths = {"tile": len(self.tiles), "epoch": self.n_epochs, "band": len(self.bands)}
        return lengths | {"y": ny, "x": nx, "py": py, "px": px, "pterm": N_FIELD_TERMS}


def cell_dims(variables: Sequence[Variable]) -> tuple[str, ...]:
    """Return the dimensions that number the cells of a group, in order."""
    return tuple(dim for dim in variables[0].dims if dim in CELL_DIMS)


def create_group(
    root: zarr.Group, name: str, variables: tuple[Variable, ...], layout: CubeLayout, *, compress: bool, where: str
) -> None:
    """Make the arrays of a group, without pixels, or grow the group that is there.

    A creation that was cut short is done again.

    Raises
    ------
    SchemaError
        If the group exists with another schema version or layout.
    """
    existing = root.get(name)
    if existing is not None and not isinstance(existing, zarr.Group):
        raise SchemaError(f"{where}: {name} is an array and not a group of cells; choose another name")
    if existing is not None and existing.attrs.get("complete"):
        check_version(existing, where)
        grow(existing, variables, layout, where)
        return
    if existing is not None and _MARKER not in existing.attrs and any(True for _ in existing.arrays()):
        raise SchemaError(f"{where}: {name} exists and was not written by AstrID; choose another path")
    group = root.require_group(name)
    group.attrs.update({_MARKER: SCHEMA_VERSION, "complete": False})
    sizes = layout.sizes()
    codecs = [BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")] if compress else None
    for variable in variables:
        group.create_array(
            variable.name,
            shape=tuple(sizes[dim] for dim in variable.dims),
            chunks=_chunk(variable, sizes),
            dtype=variable.dtype,
            fill_value=_fill_value(variable),
            dimension_names=variable.dims,
            attributes=_attributes(variable, layout.flux_unit),
            compressors=codecs,
            overwrite=True,
        )
    _write_coordinates(group, cell_dims(variables), layout)
    group.attrs.update(
        _json_ready({**layout.attributes, **_own_attributes(layout), "variables": [v.name for v in variables]})
    )
    group.attrs["complete"] = True


def grow(group: zarr.Group, variables: tuple[Variable, ...], layout: CubeLayout, where: str) -> None:
    """Check that a group holds this layout and lengthen its epoch axis if it is shorter."""
    stored = read_layout(group, where)
    for what, found, expected in (
        ("tiles", stored.tiles, tuple(replace(tile, cd=None) for tile in layout.tiles)),
        ("bands", stored.bands, layout.bands),
        ("psf_shape", stored.psf_shape, layout.psf_shape),
        ("flux_unit", stored.flux_unit, layout.flux_unit),
        ("variables", tuple(group.attrs["variables"]), tuple(v.name for v in variables)),  # type: ignore[arg-type]
    ):
        if repr(found) != repr(expected):  # NaN equals NaN
            short = [text if len(text) < 200 else text[:200] + "..." for text in (repr(found), repr(expected))]
            raise SchemaError(
                f"{where}: {what} of group {group.name} are {short[0]}, expected {short[1]}; "
                "only the epoch axis of a cube can change: choose another path or delete the cube"
            )
    for variable in variables:
        array = array_of(group, variable.name)
        if array.dtype != (np.dtypes.StringDType() if variable.dtype == "str" else np.dtype(variable.dtype)):
            raise SchemaError(f"{where}: {array.name} has dtype {array.dtype}, expected {variable.dtype}; make it anew")
    if "epoch" not in cell_dims(variables):
        return
    n_epochs = max(stored.n_epochs, layout.n_epochs)
    for variable in variables:
        array = array_of(group, variable.name)
        axis = variable.dims.index("epoch")
        if array.shape[axis] < n_epochs:
            array.resize(tuple(n_epochs if i == axis else size for i, size in enumerate(array.shape)))
    epoch = array_of(group, "epoch")
    if epoch.shape[0] < n_epochs:
        epoch.resize((n_epochs,))
        epoch[:] = np.arange(n_epochs, dtype=np.int64)
    if stored.n_epochs < n_epochs:
        group.attrs["n_epochs"] = n_epochs


def check_version(group: zarr.Group, where: str) -> None:
    """Raise SchemaError unless the group was written by this version of the schema."""
    found = group.attrs.get(_MARKER)
    if found is None:
        raise SchemaError(f"{where}: group {group.name} was not written by AstrID; name a cube")
    if found != SCHEMA_VERSION:
        raise SchemaError(
            f"{where}: group {group.name} has schema version {found}, expected {SCHEMA_VERSION}; "
            "make the cube anew under another path, or use the AstrID that wrote it"
        )
    if not group.attrs.get("complete"):
        raise SchemaError(f"{where}: group {group.name} was not completed; run the step that writes it again")


def read_layout(group: zarr.Group, where: str) -> CubeLayout:
    """Return the layout that a group was made with."""
    check_version(group, where)
    attributes: dict[str, Any] = dict(group.attrs)
    core, psf_shape = tuple(attributes["core"]), tuple(attributes["psf_shape"])
    scale = math.nan if attributes["pixel_scale"] is None else float(attributes["pixel_scale"])
    centres = zip(np.asarray(array_of(group, "tile_ra")[:]), np.asarray(array_of(group, "tile_dec")[:]), strict=True)
    tiles = tuple(
        Tile(i, (core[0], core[1]), attributes["border"], float(ra), float(dec), scale, attributes["frame"])
        for i, (ra, dec) in enumerate(centres)
    )
    more = {name: value for name, value in attributes.items() if name not in _OWN_ATTRIBUTES}
    bands = tuple(attributes["bands"])
    return CubeLayout(tiles, attributes["n_epochs"], bands, (psf_shape[0], psf_shape[1]), attributes["flux_unit"], more)


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group, set to store chunks that hold nothing but the fill value."""
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise DataError(f"{group.store_path}: no array {name}; the store is damaged: make it anew")
    return array.with_config({"write_empty_chunks": True})


def _common(tile: Tile) -> tuple[str, ...]:
    return tuple(map(repr, (tile.core, tile.border, tile.pixel_scale, tile.frame)))


def _own_attributes(layout: CubeLayout) -> dict[str, Any]:
    tile = layout.tiles[0]
    one_orientation = all(other.cd == tile.cd for other in layout.tiles)
    return {
        **({"cd": list(tile.cd)} if tile.cd is not None and one_orientation else {}),
        "flux_unit": layout.flux_unit,
        "core": list(tile.core),
        "border": tile.border,
        "pixel_scale": tile.pixel_scale,
        "frame": tile.frame,
        "projection": "TAN" if tile.frame == "sky" else "none",
        "psf_shape": list(layout.psf_shape),
        "n_epochs": layout.n_epochs,
        "bands": list(layout.bands),
    }


def _attributes(variable: Variable, flux_unit: str) -> dict[str, Any]:
    unit = variable.unit
    if "{flux}" in unit:
        simple = unit == "{flux}" or flux_unit.isalnum()
        unit = unit.replace("{flux}", flux_unit if simple else f"({flux_unit})")
    attributes: dict[str, Any] = {"long_name": variable.description}
    if unit:
        attributes["units"] = unit
    if variable.name == "mask":
        attributes["flag_masks"] = [int(bit) for bit in MaskBit]
        attributes["flag_meanings"] = " ".join(str(bit.name).lower() for bit in MaskBit)
    return attributes


def _fill_value(variable: Variable) -> Any:
    if variable.name == "mask":
        return int(MaskBit.NO_DATA)
    if variable.dtype == "str":
        return ""
    return math.nan if variable.dtype.startswith("float") else 0


def _chunk(variable: Variable, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if variable.is_per_pixel:
        return tuple(1 if dim in CELL_DIMS else sizes[dim] for dim in variable.dims)
    return tuple(_NUMBERS_CHUNK.get(dim, sizes[dim]) for dim in variable.dims)


def _write_coordinates(group: zarr.Group, dims: tuple[str, ...], layout: CubeLayout) -> None:
    tiles = layout.tiles
    coordinates: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("tile", "tile", np.arange(len(tiles), dtype=np.int64), {"long_name": "tile number"}),
        ("band", "band", np.array(layout.bands, dtype=np.dtypes.StringDType()), {"long_name": "band"}),
        ("tile_ra", "tile", np.array([t.ra for t in tiles]), {"long_name": "ICRS right ascension", "units": "deg"}),
        ("tile_dec", "tile", np.array([t.dec for t in tiles]), {"long_name": "ICRS declination", "units": "deg"}),
    ]
    if "epoch" in dims:
        epochs = np.arange(layout.n_epochs, dtype=np.int64)
        coordinates.append(("epoch", "epoch", epochs, {"long_name": "ordinal of the exposure; the time is mjd"}))
    for name, dim, values, attributes in coordinates:
        is_float = values.dtype.kind == "f"
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=(max(len(values), 1024),),  # the epoch axis may grow
            dtype="str" if name == "band" else values.dtype,
            fill_value=math.nan if is_float else ("" if name == "band" else -1),
            dimension_names=(dim,),
            attributes=attributes,
            overwrite=True,
        )
        array[:] = values


def _json_ready(value: Any) -> Any:
    """Replace what JSON cannot hold: NaN and infinity become None, tuples lists, NumPy scalars numbers."""
    if isinstance(value, Mapping):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    if isinstance(value, np.generic):
        return _json_ready(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
