"""Two tables as one, row by row by a key: a table of today, and what was made of an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.errors import InputError, closest, counted
from eb_dagster.identifiers.columns import listed
from eb_dagster.tables.dictionaries import without_null_entries

_MOST_ROWS_NAMED: Final = 10
NO_ROW: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class KeyedRows:
    """The rows of both tables, each once: those of the earlier table in its order, then the new ones in theirs."""

    table: pa.Table
    """The columns of the table of today, then those that only the earlier one has. A row of both has today's cells."""
    earlier_row: npt.NDArray[np.int64]
    """For each row, its row in the earlier table; `NO_ROW` for a new one."""
    is_gone: npt.NDArray[np.bool_]
    """Which rows the table of today no longer has."""

    @property
    def is_new(self) -> npt.NDArray[np.bool_]:
        """Which rows the earlier table did not have."""
        return self.earlier_row == NO_ROW


def keyed_rows(today: pa.Table, earlier: pa.Table, *, key: str) -> KeyedRows:
    """Match the rows of two tables by the column `key`, which names each row once in both.

    Raises:
        InputError: the key is not there, blank or there twice, or a column has another type in the earlier table.

    """
    _check_names(today, "the input")
    _check_names(earlier, "the table to update")
    keys = _keys_of(today, key, "the input")
    earlier_keys = _keys_of(earlier, key, "the table to update")
    row_today = _indices(earlier_keys, among=keys)
    new_rows = np.flatnonzero(_indices(keys, among=earlier_keys) == NO_ROW)
    is_gone = np.concatenate([row_today == NO_ROW, np.zeros(len(new_rows), dtype=np.bool_)])
    earlier_row = np.concatenate(
        [np.arange(earlier.num_rows, dtype=np.int64), np.full(len(new_rows), NO_ROW, dtype=np.int64)]
    )
    # In a table with today's rows and then the earlier ones.
    gone_rows = np.arange(earlier.num_rows, dtype=np.int64) + today.num_rows
    rows = np.concatenate([np.where(row_today == NO_ROW, gone_rows, row_today), new_rows])
    table = _merged(today, earlier, rows, earlier_row, has_gone=bool(is_gone.any()))
    return KeyedRows(table, earlier_row, is_gone)


def texts_in(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as texts, blank ones as null."""
    texts = column.cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), None, texts)


def _check_names(table: pa.Table, what: str) -> None:
    names = table.column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{what} has more than one column called [{listed(twice)}]; rename one")


def _keys_of(table: pa.Table, key: str, what: str) -> pa.Array:
    """The keys of a table as texts, each of them once."""
    names = table.column_names
    if key not in names:
        close = closest(key, names)
        meant = (
            f"name one of {listed(names)}"
            if close is None
            else f"check the spelling: did you mean {listed([close])}?"
        )
        raise InputError(f"{what} has no column {listed([key])} to tell its rows apart; {meant}")
    column = table[key]
    try:
        # Whole numbers become fractions where one of a column was blank once.
        keys = texts_in(column.cast(pa.int64()) if pa.types.is_floating(column.type) else column)
    except (pa.ArrowException, NotImplementedError):
        raise InputError(
            f"the key {listed([key])} of {what} is neither text nor whole numbers; name another column"
        ) from None
    # Whatever it came in, it is looked for as a whole.
    whole = pa.concat_arrays(keys.chunks) if keys.num_chunks else pa.array([], type=pa.string())
    _check_unique(whole, key, what)
    return whole


def _check_unique(keys: pa.Array, key: str, what: str) -> None:
    is_blank = np.asarray(keys.is_null())
    if is_blank.any():
        raise InputError(
            f"the key {listed([key])} is blank in {_rows(is_blank)} of {what}; give every row a key of its own"
        )
    codes = np.asarray(keys.dictionary_encode().indices)
    is_repeated = np.bincount(codes, minlength=1)[codes] > 1
    if is_repeated.any():
        raise InputError(
            f"the key {listed([key])} does not tell {_rows(is_repeated)} of {what} apart from others; name a column "
            "that is different in every row"
        )


def _rows(mask: npt.NDArray[np.bool_]) -> str:
    positions = (np.flatnonzero(mask) + 1).tolist()
    some = ", ".join(f"{position:,}" for position in positions[:_MOST_ROWS_NAMED])
    more = ", …" if len(positions) > _MOST_ROWS_NAMED else ""
    return f"{counted(len(positions), 'row')} ({some}{more}, counted from 1 below the header)"


def _indices(keys: pa.Array, *, among: pa.Array) -> npt.NDArray[np.int64]:
    indices = pc.index_in(keys, value_set=among).cast(pa.int64())
    return np.asarray(indices.fill_null(NO_ROW), dtype=np.int64)


def _merged(
    today: pa.Table,
    earlier: pa.Table,
    rows: npt.NDArray[np.int64],
    earlier_row: npt.NDArray[np.int64],
    *,
    has_gone: bool,
) -> pa.Table:
    columns = {
        field.name: _both(today[field.name], _as_today(earlier, field, is_read=has_gone)).take(pa.array(rows))
        for field in today.schema
    }
    indices = pa.array(earlier_row, mask=earlier_row == NO_ROW)
    for field in earlier.schema:
        if field.name not in columns:
            columns[field.name] = earlier[field.name].take(indices)
    return pa.table(columns)


def _both(today: pa.ChunkedArray, earlier: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = map(without_null_entries, [*today.chunks, *earlier.chunks])
    return pa.chunked_array([*chunks], type=today.type)


def _as_today(earlier: pa.Table, field: pa.Field, *, is_read: bool) -> pa.ChunkedArray:
    """A column of the earlier table with today's type; nulls if it has none."""
    if not is_read or field.name not in earlier.column_names:
        return pa.chunked_array([pa.nulls(earlier.num_rows, field.type)])
    column = earlier[field.name]
    try:
        return column.cast(field.type)
    except (pa.ArrowException, NotImplementedError):
        # Its text may quote a value.
        raise InputError(
            f"the column {listed([field.name])} is {field.type} in the input and {column.type} in the table to update, "
            "and some of its values cannot be both; give it the same type again"
        ) from None
