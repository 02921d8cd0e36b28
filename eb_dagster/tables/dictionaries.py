"""Columns of codes: a null may be a code that is null, or the code of an entry that is null.

Arrow neither writes the second kind to Parquet nor joins such dictionaries, and says so only once it has the values.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from eb_dagster.identifiers.arrays import number_array


def without_null_entries(column: pa.Array) -> pa.Array:
    """The column with dictionaries in which no entry is null, also inside lists and structs."""
    if not _has_null_entries(column):
        return column
    # A copy: what is inside a slice are the values of all rows that it was cut from.
    return _recoded(pa.concat_arrays([column]))


def _has_null_entries(column: pa.Array) -> bool:
    if isinstance(column, pa.DictionaryArray):
        return column.dictionary.null_count > 0
    return any(map(_has_null_entries, _inside(column)))


def _inside(column: pa.Array) -> list[pa.Array]:
    """The columns that a column is made of; none if it holds plain values."""
    if isinstance(column, pa.ExtensionArray):
        return [column.storage]
    if isinstance(column, pa.StructArray):
        return [column.field(index) for index in range(column.type.num_fields)]
    # Every kind of list has them, and so has a map.
    entries: pa.Array | None = getattr(column, "values", None) if pa.types.is_nested(column.type) else None
    return [] if entries is None else [entries]


def _recoded(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.DictionaryArray):
        return _without_nulls(column)
    inside = [_recoded(part) for part in _inside(column)]
    if not inside:
        return column
    if isinstance(column, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(column.type, *inside)
    if isinstance(column, pa.StructArray):
        return pa.StructArray.from_arrays(
            inside, fields=[*column.type], mask=column.is_null() if column.null_count else None
        )
    own_buffers = column.buffers()[: column.type.num_buffers]
    return pa.Array.from_buffers(
        column.type, len(column), own_buffers, column.null_count, column.offset, inside
    )


def _without_nulls(column: pa.DictionaryArray) -> pa.Array:
    if not column.dictionary.null_count:
        return column
    is_there = column.dictionary.is_valid()
    moved = number_array(np.cumsum(is_there) - 1, pa.int64(), is_null=~np.asarray(is_there))
    codes = moved.take(column.indices).cast(column.type.index_type)
    return pa.DictionaryArray.from_arrays(codes, column.dictionary.drop_null(), ordered=column.type.ordered)
