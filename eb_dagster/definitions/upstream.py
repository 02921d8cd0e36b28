"""The table that an upstream asset gives. It can be read any number of times."""

import os
from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

from eb_dagster.errors import InputError
from eb_dagster.tables.files import file_source
from eb_dagster.tables.object_store import ObjectPath
from eb_dagster.tables.source import Source, source_of


def is_path(value: object) -> bool:
    """Whether an asset gave the path or the address of a file."""
    return isinstance(value, str | os.PathLike | ObjectPath)


def read_upstream(value: Any) -> Source:
    """Read a pandas or Polars dataframe, an Arrow table, a DuckDB relation, or the path of a Parquet or CSV file.

    Raises:
        InputError: it is something else, or has a column that no table can hold.

    """
    source = file_source(value) if is_path(value) else source_of(value)
    if source is not None:
        source = source.held()
        # Read now, so that a column that no table can hold is refused before anything is bought.
        _ = source.schema
        return source
    if isinstance(value, Mapping):
        count = len(cast("Mapping[Any, Any]", value))
        raise InputError(
            f"the source gives {count} partitions at once, which one table cannot keep apart; give this "
            "asset the same partitions_def and run one partition at a time, with "
            "backfill_policy=dg.BackfillPolicy.multi_run(), or add an asset that joins them into one table"
        )
    raise InputError(
        f"the source gives {type(value).__name__}, which cannot be enriched; give a pandas or Polars "
        "dataframe, an Arrow table, a DuckDB relation, or the path of a Parquet or CSV file. If it is a table of a "
        "warehouse, give this asset query= and connection="
    )


def to_frame(source: Source) -> pd.DataFrame:
    """The whole table as pandas has it, for an I/O manager."""
    return source.read_all().to_pandas()


def column_types(source: Source) -> dict[str, str]:
    """The names of a table's columns, with their types."""
    return dict(zip(source.schema.names, map(str, source.schema.types), strict=True))
