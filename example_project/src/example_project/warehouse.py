"""The warehouse: dlt's tables in the schema `main` of whatever $EXAMPLE_WAREHOUSE names."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Before dlt, which would report each run of a pipeline to its makers.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

import dlt  # isort: split

from dlt.destinations.exceptions import DatabaseUndefinedRelation

from example_project.paths import TABLE, WAREHOUSE

SCHEMA = "main"
JOB_CHANGES = pa.schema(
    {
        "lead_id": pa.string(), "name": pa.string(), "old_company": pa.string(), "old_title": pa.string(),
        "new_company": pa.string(), "new_title": pa.string(), "seen_at": pa.timestamp("us", "UTC"),
    }
)  # fmt: skip


def bought() -> pa.Table:
    """The leads that were found."""
    return pq.read_table(TABLE, filters=pc.field("eb_matched"))


def add_job_changes(changes: pd.DataFrame, *, known: set[str]) -> None:
    """Add what is new, and keep of what there was the leads that are still known."""
    before = ask("SELECT * FROM job_changes")
    kept = before[before["lead_id"].isin(known)] if len(before) else before
    whole = pd.concat([kept.reindex(columns=JOB_CHANGES.names), changes[JOB_CHANGES.names]])
    whole["seen_at"] = pd.to_datetime(whole["seen_at"], utc=True)
    rows = pa.Table.from_pandas(whole, schema=JOB_CHANGES, preserve_index=False)
    with pipeline() as one:
        one.run([rows], table_name="job_changes", write_disposition="replace")


def ask(query: str) -> pd.DataFrame:
    """What the warehouse answers of `contacts`: no rows before the first load."""
    with pipeline() as one, one.sql_client() as client:
        try:
            with client.execute_query(query) as cursor:
                names = [column[0] for column in cursor.description]
                return pd.DataFrame(cursor.fetchall(), columns=names)
        except DatabaseUndefinedRelation:
            return pd.DataFrame(columns=["lead_id", "old_company", "old_title", "bought_at"])


def destination() -> Any:
    kind = WAREHOUSE.partition(":")[0].replace("postgresql", "postgres")
    return dlt.destinations.__dict__[kind](WAREHOUSE)


@contextmanager
def pipeline() -> Iterator[dlt.Pipeline]:
    with tempfile.TemporaryDirectory() as private:
        yield dlt.pipeline(
            "job_changes", destination=destination(), dataset_name=SCHEMA, pipelines_dir=private
        )
