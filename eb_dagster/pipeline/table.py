"""Entries with fields, an array for each field.

Numpy's structured arrays keep the fields of an entry together, and copy and search them ten times slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.offers import Numbers

_Array = npt.NDArray[Any]


class Table:
    """Arrays of one length, by the name of the field. What is set by name is set in all entries."""

    def __init__(self, fields: Mapping[str, _Array]) -> None:
        self._fields = dict(fields)

    @classmethod
    def zeros(cls, dtype: np.dtype[Any], length: int) -> Table:
        """A table with the fields of a structured type."""
        return cls({name: np.zeros(length, dtype[name]) for name in dtype.names or ()})

    def __len__(self) -> int:
        return len(next(iter(self._fields.values())))

    @overload
    def __getitem__(self, chosen: str) -> _Array: ...
    @overload
    def __getitem__(self, chosen: Numbers | slice) -> Table: ...
    def __getitem__(self, chosen: str | Numbers | slice) -> _Array | Table:
        if isinstance(chosen, str):
            return self._fields[chosen]
        return Table({name: array[chosen] for name, array in self._fields.items()})

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        self._fields[name][...] = values

    def put(self, places: Numbers, entries: Table) -> None:
        """Put entries in these places."""
        for name, array in self._fields.items():
            array[places] = entries[name]

    def append(self, entries: Table) -> None:
        """Add entries at the end."""
        self._fields = {name: np.concatenate([array, entries[name]]) for name, array in self._fields.items()}
