"""The cells of one open group: whole chunks of pixels, and blocks of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import StorePath

from astrid.errors import CellSkipped, DataError, SchemaError
from astrid.schema import CELL_DIMS
from astrid.stores.layout import array_of, check_version

Numbers = Mapping[str, float | int | str]

_MOST_KEPT = 100_000  # numbers of one name in memory


class Cells:
    """The arrays of an open group, checked once; of a state that cannot change, numbers are read once."""

    def __init__(self, group: zarr.Group, where: str, *, unchanging: bool = False) -> None:
        self._unchanging = unchanging
        self._known: dict[str, NDArray[Any]] = {}
        check_version(group, where)
        self.where = f"{where}/{group.path}"
        names: Any = group.attrs["variables"]
        self.arrays = {name: array_of(group, name) for name in names}
        dims: dict[str, Any] = {
            name: array.metadata.to_dict()["dimension_names"] for name, array in self.arrays.items()
        }
        self.cell_dims = tuple(dim for dim in dims[names[0]] if dim in CELL_DIMS)
        self.pixels = [name for name in names if len(dims[name]) > len(self.cell_dims)]
        self.numbers = [name for name in names if len(dims[name]) == len(self.cell_dims)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the cell axes."""
        return tuple(self.arrays[self.pixels[0]].shape[: len(self.cell_dims)])

    def check_index(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Return the position of a cell as plain ints; SchemaError if it is outside the axes."""
        sizes = self.shape
        index = tuple(map(int, index))
        if len(index) != len(sizes) or not all(0 <= i < size for i, size in zip(index, sizes, strict=False)):
            raise SchemaError(
                f"{self.where}: no cell {index}, the axes {self.cell_dims} have lengths {sizes}; "
                "create the group with a longer epoch axis and take a new ticket"
            )
        return index

    def check_names(self, names: Sequence[str], known: Sequence[str]) -> None:
        """Raise SchemaError unless all names are known."""
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise SchemaError(f"{self.where}: no variable {', '.join(unknown)}; there are {', '.join(known)}")

    def write(self, index: tuple[int, ...], values: Mapping[str, NDArray[Any]]) -> None:
        """Write whole chunks of one cell, the group's first variable last."""
        index = self.check_index(index)
        self.check_names(list(values), self.pixels)
        if self.pixels[0] not in values:
            raise SchemaError(f"{self.where}: cell {index} without {self.pixels[0]}, which marks it as written")
        for name, value in values.items():
            array = self.arrays[name]
            shape = array.shape[len(index) :]
            if value.shape != shape:
                raise SchemaError(f"{self.where}: {name} of cell {index} is {value.shape}, the chunk {shape}")
            if value.dtype != array.dtype:
                raise SchemaError(f"{self.where}: {name} of cell {index} is {value.dtype}, the store {array.dtype}")
        for name in sorted(values, key=lambda name: name == self.pixels[0]):  # the mark of the cell comes last
            self.arrays[name][index] = values[name]

    def write_numbers(self, cells: Mapping[tuple[int, ...], Numbers]) -> None:
        """Set numbers of several cells, touching each stored block once."""
        for index, numbers in cells.items():
            self.check_index(index)
            self.check_names(list(numbers), self.numbers)
        for name in self.numbers:
            array = self.arrays[name]
            blocks: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
            for index in (index for index, numbers in cells.items() if name in numbers):
                blocks.setdefault(tuple(i // n for i, n in zip(index, array.chunks, strict=True)), []).append(index)
            for block, indices in blocks.items():
                corner = tuple(b * n for b, n in zip(block, array.chunks, strict=True))
                region = tuple(slice(c, c + n) for c, n in zip(corner, array.chunks, strict=True))
                values = np.array(array[region])
                for index in indices:
                    value = cells[index][name]
                    if isinstance(value, str) != isinstance(array.dtype, np.dtypes.StringDType):
                        raise SchemaError(f"{self.where}: {name} of cell {index} is {value!r}, not {array.dtype}")
                    values[tuple(i - c for i, c in zip(index, corner, strict=True))] = value
                array[region] = values

    def has(self, name: str, index: tuple[int, ...]) -> bool:
        """Return whether a per-pixel variable of a cell was written: whether its chunk exists."""
        return bool(sync(self._chunk(name, index).exists()))

    def copy(self, source: Cells, index: tuple[int, ...], names: Sequence[str]) -> None:
        """Copy the stored bytes of one cell from another state of the same group."""
        for name in names:
            stored = sync(source._chunk(name, index).get())
            if stored is None:
                raise DataError(f"{self.where}: {name} of cell {index} vanished before its commit; make the cell anew")
            sync(self._chunk(name, index).set(stored))

    def _chunk(self, name: str, index: tuple[int, ...]) -> StorePath:
        array = self.arrays[name]
        position = index + (0,) * (array.ndim - len(index))
        return array.store_path / array.metadata.encode_chunk_key(position)

    def read(self, index: tuple[int, ...], names: Sequence[str] | None) -> dict[str, Any]:
        """Return variables of one cell, all that were stored if no names are given."""
        index = self.check_index(index)
        if names is not None:
            self.check_names(names, [*self.pixels, *self.numbers])
        if not self.has(self.pixels[0], index):
            raise CellSkipped(f"cell {dict(zip(self.cell_dims, index, strict=True))} was never observed")
        cell: dict[str, Any] = {}
        for name in self.pixels if names is None else [name for name in names if name in self.pixels]:
            if name == self.pixels[0] or self.has(name, index):
                cell[name] = np.asarray(self.arrays[name][index])
            elif names is not None:
                raise DataError(f"{self.where}: {name} of cell {index} was not stored; make the cell anew")
        for name in self.numbers if names is None else [name for name in names if name in self.numbers]:
            cell[name] = self._number(name, index)
        return cell

    def _number(self, name: str, index: tuple[int, ...]) -> float | int | str:
        array = self.arrays[name]
        if self._unchanging and name not in self._known and array.size <= _MOST_KEPT:
            self._known[name] = np.asarray(array[:])
        stored = self._known[name][index] if name in self._known else array[index]
        value: float | int | str = np.asarray(stored).item()
        return value
