"""The table that an upstream asset gives, as a stream of batches that can be read any number of times."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pandas as pd
import pyarrow as pa

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import listed
from eb_dagster.tables.object_store import ObjectPath, Place, place
from eb_dagster.tables.parquet import open_parquet, read_batches
from eb_dagster.tables.source import Source, collected, is_polars, is_readable, read_table

_BATCH_ROWS = 8_192


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A table of identifiers. Nothing is copied before a batch is asked for."""

    rows: int
    columns: Mapping[str, str]
    """Names and types."""
    batches: Callable[[], Source] = field(repr=False)
    """Reads the table from its start, each time it is called."""
    value: Any = field(repr=False)
    """What the upstream asset gave, or the table that was read from it if it can be read only once."""


def read_upstream(value: Any) -> Upstream:
    """Read a pandas or Polars dataframe, an Arrow table, a DuckDB relation, or the path of a Parquet file.

    Raises:
        InputError: it is something else, or has a column that no table can hold.

    """
    if isinstance(value, pd.DataFrame):
        return _pandas(value)
    if isinstance(value, str | os.PathLike | ObjectPath):
        return _parquet(place(cast("str", value)))
    if is_readable(value):
        frame = collected(value)
        table = read_table(frame)
        return _arrow(frame if is_polars(frame) else table, table)
    if isinstance(value, Mapping):
        count = len(cast("Mapping[Any, Any]", value))
        raise InputError(
            f"the upstream asset gives {count} partitions at once, which one table cannot keep apart; give this "
            "asset the same partitions_def and run one partition at a time, with "
            "backfill_policy=dg.BackfillPolicy.multi_run(), or add an asset that joins them into one table"
        )
    raise InputError(
        f"the upstream asset gives {type(value).__name__}, which cannot be enriched; give a pandas or Polars "
        "dataframe, an Arrow table, a DuckDB relation, or the path of a Parquet file"
    )


def _parquet(path: Place) -> Upstream:
    with open_parquet(path) as file:
        schema, rows = file.schema_arrow.remove_metadata(), file.metadata.num_rows

    def batches() -> Iterator[pa.RecordBatch]:
        with open_parquet(path) as file:
            yield from read_batches(file, _BATCH_ROWS)

    return _stream(path, schema, rows, batches)


def _arrow(value: Any, table: pa.Table) -> Upstream:
    schema = table.schema.remove_metadata()
    without_metadata = table.replace_schema_metadata(None)
    return _stream(value, schema, table.num_rows, lambda: iter(without_metadata.to_batches(_BATCH_ROWS)))


def _pandas(frame: pd.DataFrame) -> Upstream:
    view = frame.copy(deep=False)
    view.columns = pd.Index([str(name) for name in frame.columns])
    # An index without a name is just row numbers; an index with a name is data.
    keep_index = any(name is not None for name in frame.index.names)
    schema = _schema(view, keep_index=keep_index)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(view), _BATCH_ROWS):
            piece = view.iloc[start : start + _BATCH_ROWS]
            yield pa.RecordBatch.from_pandas(piece, schema=schema, preserve_index=keep_index)

    return _stream(frame, schema, len(frame), batches)


def _schema(frame: pd.DataFrame, *, keep_index: bool) -> pa.Schema:
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise InputError(
            f"the dataframe has columns of the same name: [{listed(repeated)}]; rename or drop one"
        )
    try:
        return pa.Schema.from_pandas(frame, preserve_index=keep_index).remove_metadata()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # The text of the error quotes a value, so the error is not chained.
        mixed = [str(name) for name in frame.columns if not _has_one_type(frame[name])]
        columns = f"[{listed(mixed)}]" if mixed else "of the index"
        raise InputError(
            f"columns {columns} hold values of several types, or of a type that no table has, such as complex "
            "numbers; make them text, or leave them out"
        ) from None


def _has_one_type(column: Any) -> bool:
    try:
        cast("Any", pa).Array.from_pandas(column)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _stream(
    value: Any, schema: pa.Schema, rows: int, batches: Callable[[], Iterator[pa.RecordBatch]]
) -> Upstream:
    return Upstream(
        rows=rows,
        columns=dict(zip(schema.names, map(str, schema.types), strict=True)),
        batches=lambda: Source(schema, rows, batches),
        value=value,
    )
