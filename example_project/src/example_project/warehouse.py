"""The warehouse: dlt's tables in the schema `main` of whatever $EXAMPLE_WAREHOUSE names."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Before dlt, whose telemetry and log it switches off.
from eb_dagster.warehouse import load_contacts  # isort: split

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from example_project.paths import TABLE, WAREHOUSE

SCHEMA = "main"
JOB_CHANGES = pa.schema(
    {
        "person": pa.string(), "name": pa.string(), "old_company": pa.string(), "old_title": pa.string(),
        "new_company": pa.string(), "new_title": pa.string(), "seen_at": pa.timestamp("us", "UTC"),
    }
)  # fmt: skip


def bought() -> pa.Table:
    """One row a person, whatever identifier found them: the one that is newest.

    The identifier may be another one next time; their profile is not.
    """
    table = pq.read_table(TABLE, filters=pc.field("eb_matched"))
    person = pc.coalesce(table["eb_linkedin_url"], table["eb_work_email"], table["eb_query"])
    table = table.append_column("person", person)
    table = table.sort_by([("eb_enriched_at", "descending"), ("LeadId", "ascending")])
    return table.filter(pa.array(~table["person"].to_pandas().duplicated()))


def load() -> int:
    """Merge `contacts` and its parts; who is not in the Parquet table any more is deleted."""
    rows = load_contacts(bought().to_reader(), destination(), dataset=SCHEMA, key="person", is_whole=True)
    with pipeline() as one, one.sql_client() as client, suppress(DatabaseUndefinedRelation):
        client.execute_sql("DELETE FROM job_changes WHERE person NOT IN (SELECT person FROM contacts)")
    return rows["contacts"]


def add_job_changes(changes: pd.DataFrame) -> None:
    rows = pa.Table.from_pandas(changes, schema=JOB_CHANGES, preserve_index=False)
    with pipeline() as one:
        one.run(
            [rows], table_name="job_changes", write_disposition="merge", primary_key=("person", "seen_at")
        )


def ask(query: str) -> pd.DataFrame:
    """What the warehouse answers of `contacts`: no rows before the first load."""
    with pipeline() as one, one.sql_client() as client:
        try:
            with client.execute_query(query) as cursor:
                names = [column[0] for column in cursor.description]
                return pd.DataFrame(cursor.fetchall(), columns=names)
        except DatabaseUndefinedRelation:
            return pd.DataFrame(columns=["person", "old_company", "old_title", "bought_at"])


def destination() -> Any:
    kind = WAREHOUSE.partition(":")[0].replace("postgresql", "postgres")
    return dlt.destinations.__dict__[kind](WAREHOUSE)


@contextmanager
def pipeline() -> Iterator[dlt.Pipeline]:
    with tempfile.TemporaryDirectory() as private:
        yield dlt.pipeline(
            "job_changes", destination=destination(), dataset_name=SCHEMA, pipelines_dir=private
        )
