"""What an upstream asset may give, as a table that can be read any number of times."""

import os
from collections.abc import Mapping
from typing import Any, cast

from eb_dagster.errors import InputError
from eb_dagster.tables.object_store import ObjectPath, place
from eb_dagster.tables.parquet import parquet_source
from eb_dagster.tables.source import Source, source_of


def is_path(value: object) -> bool:
    """Whether an asset gave the path or the address of a file."""
    return isinstance(value, str | os.PathLike | ObjectPath)


def read_upstream(value: Any) -> Source:
    """Understand what an asset gave: a pandas or Polars dataframe, an Arrow table, a DuckDB relation, or a Parquet file's path.

    Raises:
        InputError: it is something else, or holds a column that no table can hold.

    """
    source = parquet_source(place(value)) if is_path(value) else source_of(value)
    if source is not None:
        source = source.held()
        # Now rather than when the first batch is read: a column that no table can hold is no reason to buy.
        _ = source.schema
        return source
    if isinstance(value, Mapping):
        count = len(cast("Mapping[Any, Any]", value))
        raise InputError(
            f"the upstream asset gives {count} partitions at once, which one table cannot keep apart; give this "
            "asset the same partitions_def and run one partition at a time, with "
            "backfill_policy=dg.BackfillPolicy.multi_run(), or put them together in an asset between"
        )
    raise InputError(
        f"the upstream asset gives {type(value).__name__}, which cannot be enriched; give a pandas or Polars "
        "dataframe, an Arrow table, a DuckDB relation, or the path of a Parquet file"
    )


def column_types(source: Source) -> dict[str, str]:
    """The names of a table's columns, with their types."""
    return dict(zip(source.schema.names, map(str, source.schema.types), strict=True))
