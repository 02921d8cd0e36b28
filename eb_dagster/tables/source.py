"""Tables that are not pandas: read as Arrow, and given back as the kind that came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, cast

import pyarrow as pa

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import listed


class Source:
    """A table that can be read more than once: its schema, its rows, and what gives its batches anew."""

    def __init__(
        self, schema: pa.Schema, rows: int | None, batches: Callable[[], Iterator[pa.RecordBatch]]
    ) -> None:
        self.schema = schema
        self.num_rows = rows
        self._batches = batches

    def reader(self) -> pa.RecordBatchReader:
        """Its rows from the first on."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def read_all(self) -> pa.Table:
        """The whole table."""
        return self.reader().read_all()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return cast("Any", self.reader()).__arrow_c_stream__(requested_schema)


def is_rereadable(value: Any) -> bool:
    """Whether it gives the same rows once more, at no more cost than memory or a file: no query, no stream."""
    return isinstance(value, Source | pa.Table | pa.RecordBatch) or (
        is_polars(value) and not hasattr(value, "collect")
    )


def is_polars(value: Any) -> bool:
    """Whether it is a Polars frame. Polars itself need not be there to know."""
    return type(value).__module__.partition(".")[0] == "polars" and hasattr(value, "collect_schema")


def is_readable(value: Any) -> bool:
    """Whether it is a table by Arrow's protocol, as a DuckDB relation is, or a Polars frame."""
    return is_polars(value) or hasattr(value, "__arrow_c_stream__")


def collected(value: Any) -> Any:
    """A lazy Polars frame as one that is there; anything else as it is."""
    return value.collect() if is_polars(value) and hasattr(value, "collect") else value


def read_table(value: Any) -> pa.Table:
    """The whole table. Raises `InputError` if it is one column and no table, or Arrow has no such type."""
    if isinstance(value, pa.Table):
        return value
    if not is_polars(value):
        return open_reader(value).read_all()
    frame = collected(value)
    if odd := [name for name in frame.columns if not _has_arrow_type(frame.select(name).clear())]:
        # What stands in brackets may be values, as of an Enum.
        kinds = ", ".join(sorted({str(frame.schema[name]).partition("(")[0] for name in odd}))
        raise InputError(
            f"Arrow and Parquet have no type for columns {listed(odd)} ({kinds}); leave them out, or cast "
            "them to text"
        )
    # What Arrow's own protocol hands over holds string views, which few readers of Parquet know.
    return frame.to_arrow()


def _has_arrow_type(empty: Any) -> bool:
    # Of a column of Python objects, Polars would hand over their addresses in memory.
    if "Object" in str(empty.dtypes[0]):
        return False
    try:
        empty.to_arrow()
    except (pa.ArrowException, TypeError):
        return False
    return True


def open_reader(value: Any) -> pa.RecordBatchReader:
    """The table as a stream; of a lazy one, nothing is held. Raises as `read_table` does."""
    if is_polars(value) or isinstance(value, pa.Table):
        # Not through the protocol, which keeps no type that nobody registered.
        return read_table(value).to_reader()
    try:
        return pa.RecordBatchReader.from_stream(value)
    except (pa.ArrowException, TypeError, ValueError):
        # Its text may quote a value.
        raise InputError(
            f"this {type(value).__name__} is no table with named columns; make it a dataframe"
        ) from None


def with_columns(frame: Any, columns: pa.Table) -> Any:
    """The Polars frame with these columns beside its own, of which none is converted."""
    return frame.hstack(import_module("polars").from_arrow(columns))
