"""Tables and streams that cannot be enriched as they come."""

from collections.abc import Iterator

import pandas as pd
import polars as pl
import pyarrow as pa

from eb_dagster.definitions import upstream
from eb_dagster.identifiers.columns import find_layout
from eb_dagster.identifiers.rows import read_batch
from eb_dagster.tables.files import file_source
from eb_dagster.tables.query import read_query
from tests.messages.scene import Provocations, Scene, leads


def publish(scene: Scene, column: pa.Array, name: str) -> None:
    table = pa.Table.from_arrays([pa.array(["+12025550100"]), pa.nulls(1), column], ["phone", "email", name])
    enricher = scene.enricher(identifiers={"phone": "phone"})
    enricher.write(enricher.enrich_batches(table), scene.folder / "table.parquet")


def query(where: object, sql: str = "SELECT 1 AS a") -> object:
    return read_query(sql, where).read_all()


def broken_stream() -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"email": ["a@canary.example"]})
        raise pa.ArrowInvalid("canary.example")

    return pa.RecordBatchReader.from_batches(pa.schema([("email", pa.string())]), batches())


PROVOCATIONS: Provocations = {
    "a stream that breaks off": lambda s: s.enricher().enrich_batches(broken_stream()).read_all(),
    "no query": lambda s: query(s.postgresql.url(), " "),
    "a query of a table that is not there": lambda s: query(s.postgresql.url(), "SELECT * FROM leadz"),
    "a query without a right": lambda _: query("postgresql://u:canary-secret@127.0.0.1:1/x"),
    "a query of two columns of one name": lambda s: query(s.postgresql.url(), "SELECT 1 AS a, 2 AS a"),
    "a query with a value that does not fit": lambda s: query(s.postgresql.url(), "SELECT ARRAY[[1]] AS a"),
    "a query of SQLite that gives no table": lambda s: query(f"sqlite:///{s.file('x.db')}", "SAVEPOINT x"),
    "a query of a number": lambda _: query(3),
    "a query of a file that is not there": lambda _: query("nowhere.duckdb"),
    "a query of a DuckDB that is not there": lambda _: query("duckdb:///nowhere.duckdb"),
    "a query of a SQLite that is not there": lambda _: query("sqlite:///nowhere.db"),
    "a query by no URL": lambda _: query("postgresql://u:canary@secret:x/y"),
    "a query by a URL with an option too many": lambda s: query(f"sqlite:///{s.file('x.db')}?timeout=x"),
    "a query without its driver": lambda _: query("mysql://u:canary-secret@h/x"),
    "a file of another kind": lambda s: file_source(s.file("leads.xls")),
    "a compressed file that is torn": lambda s: file_source(s.file("leads.csv.gz", b"PK")),
    "a compressed file that is not there": lambda s: file_source(s.folder / "leads.csv.gz"),
    "no table at all": lambda s: s.enrich(3),
    "no identifier columns": lambda s: s.enrich(leads().rename(columns={"email": "Work mail"})),
    "a column that is not there": lambda s: s.enrich(identifiers={"email": "E-mail"}),
    "two columns of one name": lambda s: s.enrich(pd.concat([leads(), leads()], axis="columns")),
    "numbers for addresses": lambda s: s.enrich(pd.DataFrame({"email": [1, 2]})),
    "numbers in an Arrow table": lambda _: read_batch(
        pa.record_batch({"email": [1]}), find_layout(["email"], None), default_region=None
    ),
    "a clash of names": lambda s: s.enrich(leads().assign(eb_status=1)),
    "a column that does not say what it holds": lambda s: s.enrich(pl.Series("x", ["jane@canary.example"])),
    "a list of nobody knows what": lambda s: s.enrich(["jane@canary.example"]),
    "a column for a stream": lambda s: s.enricher().enrich_batches(
        pa.chunked_array([["jane@canary.example"]])
    ),
    "a list of dicts": lambda s: s.enrich([{"email": "jane@canary.example"}]),
    "a list of numbers": lambda s: s.enrich([12025550100]),
    "an unknown kind of column": lambda s: s.enricher().plan(["jane@canary.example"], kind="fax"),  # pyright: ignore[reportArgumentType]
    "a kind for a table": lambda s: s.enricher().plan(leads(), kind="email"),
    "a dict and no table": lambda s: s.enrich({"email": ["jane@canary.example"]}),
    "a report that is no page": lambda s: s.enricher().report.save(s.folder / "report.csv"),
    "a report in another file's place": lambda s: s.enricher().report.save(s.file("a.html", b"canary")),
    "Python objects in Polars": lambda s: s.enrich(
        pl.DataFrame({"email": pl.Series([{1}], dtype=pl.Object)})
    ),
    "a type that Parquet lacks": lambda s: publish(s, pa.nulls(1, pa.month_day_nano_interval()), "since"),
    "two columns of one name for Parquet": lambda s: publish(s, pa.nulls(1), "email"),
    "a path for a stream": lambda s: s.enricher().enrich_batches("leads.parquet"),
    "a number for a stream": lambda s: s.enricher().enrich_batches(3),
    "a stream of nothing": lambda s: s.enricher().enrich_batches([]),
    "an asset that gives a number": lambda _: upstream.read_upstream(3),
    "an asset that gives many partitions": lambda _: upstream.read_upstream({"a": leads(), "b": leads()}),
    "an asset with two columns of one name": lambda _: upstream.read_upstream(
        pd.concat([leads(), leads()], axis="columns")
    ),
    "an asset with a mixed column": lambda _: upstream.read_upstream(
        leads(2).assign(x=[1, "canary.example"])
    ),
    "a plan above the cap": lambda s: s.enrich(max_credits=5, over_budget="refuse"),
}
