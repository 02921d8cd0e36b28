"""Queries as tables: of PostgreSQL, SQLite, DuckDB and ADBC for real."""

from __future__ import annotations

import datetime as dt
import gzip
import sqlite3
import subprocess
import sys
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa

from eb_dagster import ConfigError, EnrichError, InputError, read_query
from eb_dagster.tables.files import file_source
from eb_dagster.tables.query import query_source
from eb_dagster.tables.spool import spooled
from tests.databases import PostgreSQL

LEADS = """
CREATE TABLE leads AS SELECT i AS id, 'p' || i || '@canary.example' AS mail, (i * 1.5)::numeric(10, 2) AS price,
    i * 1.5::numeric AS free, timestamptz '2026-05-04 03:02:01.5+02' AS at, timestamp '2026-05-04 03:02:01' AS local,
    date '2026-05-04' AS day, i % 2 = 0 AS flag, '{"a": [1, "ä"]}'::jsonb AS data, '\\x00ff'::bytea AS raw,
    NULL::text AS nothing, CASE WHEN i > 9000 THEN i END AS late, 'ok'::mood AS mood, ARRAY['a', NULL] AS tags,
    uuid '34f91def-a0b8-4e84-a877-173b1c20180f' AS number
FROM generate_series(1, 10000) i"""


@pytest.fixture(scope="module")
def warehouse(postgresql: PostgreSQL) -> str:
    url = postgresql.database("queries")
    postgresql.run("CREATE TYPE mood AS ENUM ('ok', 'sad')", LEADS, name="queries")
    return url


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_a_query_of_postgresql_has_its_types_whatever_the_first_rows_hold(warehouse, driver):
    url = warehouse.replace("postgresql", driver, 1)
    reader = read_query("SELECT * FROM leads WHERE mail LIKE 'p%' ORDER BY id;", url)
    assert {field.name: str(field.type) for field in reader.schema} == {
        "id": "int32", "mail": "string", "price": "decimal128(10, 2)", "free": "string",
        "at": "timestamp[us, tz=UTC]", "local": "timestamp[us]", "day": "date32[day]", "flag": "bool",
        "data": "string", "raw": "binary", "nothing": "string", "late": "int32", "mood": "string",
        "tags": "list<item: string>", "number": "string",
    }  # fmt: skip
    table = reader.read_all()
    assert table.num_rows == 10_000
    assert table.slice(9_999).to_pylist() == [
        {
            "id": 10_000, "mail": "p10000@canary.example", "price": Decimal("15000.00"), "free": "15000.0",
            "at": dt.datetime(2026, 5, 4, 1, 2, 1, 500_000, dt.UTC), "local": dt.datetime(2026, 5, 4, 3, 2, 1),
            "day": dt.date(2026, 5, 4), "flag": True, "data": '{"a":[1,"ä"]}', "raw": b"\0\xff", "nothing": None,
            "late": 10_000, "mood": "ok", "tags": ["a", None], "number": "34f91def-a0b8-4e84-a877-173b1c20180f",
        }
    ]  # fmt: skip
    nobody = read_query("SELECT * FROM leads WHERE id < 0", url)
    assert nobody.schema == reader.schema
    assert nobody.read_all().num_rows == 0


def test_a_query_leaves_no_session_behind_even_if_nobody_reads_it_to_its_end(warehouse, postgresql):
    for read in (
        lambda _: None,
        lambda reader: reader.read_next_batch(),
        lambda reader: reader.read_all(),
    ):
        read(read_query("SELECT * FROM leads", warehouse))
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'queries'"
    assert postgresql.run(sessions) == [(0,)]


def test_an_engine_and_a_connection_of_sqlalchemys_can_be_asked_and_go_on(warehouse):
    engine = sa.create_engine(warehouse.replace("postgresql", "postgresql+psycopg", 1))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE mine AS SELECT 7 AS id")
        assert read_query("SELECT * FROM mine", connection).read_all().to_pylist() == [{"id": 7}]
        assert connection.exec_driver_sql("SELECT id FROM mine").scalar() == 7
    assert read_query("SELECT 1 AS id", engine).read_all().to_pylist() == [{"id": 1}]
    engine.dispose()


def test_memory_stays_flat_over_a_million_rows(warehouse):
    program = (
        "import sys, resource, eb_dagster\n"
        "def rows(n): return sum(b.num_rows for b in eb_dagster.read_query(\n"
        "    f\"SELECT i AS id, 'p' || i AS mail FROM generate_series(1, {n}) i\", sys.argv[1]))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "rows(20_000); before = peak(); assert rows(200_000) == 200_000; print(peak() - before)"
    )
    grown = subprocess.check_output([sys.executable, "-c", program, warehouse], text=True)
    assert int(grown) < 20, "MiB"


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "crm.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE leads (id INTEGER, mail TEXT, amount DECIMAL(10, 2), mixed, nil INT, raw BLOB)"
        )
        connection.executemany(
            "INSERT INTO leads VALUES (?, ?, ?, ?, NULL, ?)",
            [(i, f"p{i}@canary.example", i, i if i < 19_999 else "late", b"\0") for i in range(20_000)],
        )
    connection.close()
    return path


@pytest.mark.parametrize("as_url", [True, False])
def test_a_query_of_sqlite_has_the_types_of_all_its_rows_and_of_its_declarations(sqlite_file, as_url):
    where = f"sqlite:///{sqlite_file}" if as_url else sqlite_file
    table = read_query("SELECT * FROM leads -- all of them", where).read_all()
    assert [str(type_) for type_ in table.schema.types] == [
        "int64", "string", "double", "string", "int64", "binary",
    ]  # fmt: skip
    assert table.column("mixed").to_pylist()[-2:] == ["19998", "late"]
    empty = read_query("SELECT * FROM leads WHERE id < 0", where).schema
    assert [str(type_) for type_ in empty.types] == ["int64", "string", "double", "null", "int64", "binary"]


def test_duckdb_and_adbc_hand_over_their_own_types(tmp_path, warehouse):
    path = tmp_path / "crm.duckdb"
    sql = "SELECT id, 'p' || id AS mail, id::DECIMAL(9, 2) AS price, uuid()::TEXT AS number FROM range(20000) r(id)"
    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE TABLE leads AS {sql}")
        connection.execute("CREATE TEMP TABLE mine AS SELECT 7 AS id")
        assert read_query("SELECT * FROM mine", connection).read_all().to_pylist() == [{"id": 7}]
        wanted = [
            ("id", pa.int64()),
            ("mail", pa.string()),
            ("price", pa.decimal128(9, 2)),
            ("number", pa.string()),
        ]
        assert read_query("FROM leads", connection).schema == pa.schema(wanted)
    for where in (path, str(path), f"duckdb:///{path}"):
        assert read_query("FROM leads", where).read_all().num_rows == 20_000
    adbc = pytest.importorskip("adbc_driver_postgresql.dbapi")
    with adbc.connect(warehouse) as connection:
        table = read_query("SELECT id, mail, price FROM leads", connection).read_all()
        assert table.schema == pa.schema([("id", pa.int32()), ("mail", pa.string()), ("price", pa.string())])
        assert table.num_rows == 10_000
        with pytest.raises(InputError, match="leadz"):
            read_query("SELECT * FROM leadz", connection)


def broken(warehouse: str, folder: Path) -> dict[str, tuple[str, Any, type[EnrichError], str]]:
    (folder / "crm.sqlite").write_bytes(b"")
    sqlite3.connect(folder / "crm.sqlite").execute("VACUUM").close()
    return {
        "no such table": ("SELECT * FROM leadz", warehouse, InputError, "UndefinedTable: leadz"),
        "no such table in SQLite": ("SELECT * FROM leadz", f"sqlite:///{folder}/crm.sqlite", InputError, "leadz"),
        "no such table in DuckDB": ("SELECT * FROM leadz", duckdb.connect(), InputError, "CatalogException: leadz"),
        "a value in the database's words": ("SELECT mail::int FROM leads", warehouse, InputError, "cast|correct"),
        "a failure after many rows": ("SELECT 1 / (id - 9999) AS x FROM leads", warehouse, InputError, "DivisionBy"),
        "no such day": ("SELECT 'infinity'::date AS day", warehouse, InputError, "DataError"),
        "no place for a value": ("SELECT ARRAY[[1, 2]] AS price", warehouse, InputError, "price"),
        "two columns of one name": ("SELECT 1 AS a, 2 AS a", warehouse, InputError, "'a'"),
        "no rows": ("SAVEPOINT x", f"sqlite:///{folder}/crm.sqlite", InputError, "SELECT"),
        "no query": (" ", warehouse, ConfigError, "SELECT"),
        "a refused connection": ("SELECT 1", "postgresql://u:canary-secret@127.0.0.1:1/x", ConfigError, "address"),
        "no such file": ("SELECT 1", f"sqlite:///{folder}/canary.sqlite", ConfigError, "no SQLite file"),
        "no such DuckDB": ("SELECT 1", "duckdb:///nowhere.duckdb", ConfigError, "no DuckDB file"),
        "no such path": ("SELECT 1", "nowhere.duckdb", ConfigError, "no database file"),
        "a missing driver": ("SELECT 1", "mysql://u:canary-secret@h/x", ConfigError, "pip install pymysql"),
        "an unknown database": ("SELECT 1", "nodb://u:canary-secret@h/x", ConfigError, "dialect"),
        "no URL": ("SELECT 1", "postgresql://u:canary@secret:x/y", ConfigError, "no URL"),
        "no connection": ("SELECT 1", 3, ConfigError, "int"),
    }  # fmt: skip


def test_what_goes_wrong_is_said_without_passwords_or_rows(warehouse, tmp_path):
    for name, (sql, where, kind, says) in broken(warehouse, tmp_path).items():
        with pytest.raises(kind, match=says) as caught:
            read_query(sql, where).read_all()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert "canary.example" not in shown, name
        assert "canary-secret" not in str(caught.value), name
        assert str(caught.value).endswith("Nothing was sent"), name


def test_a_right_that_is_missing_is_a_setting_to_mend(warehouse, postgresql):
    postgresql.run("CREATE ROLE reader", name="queries")
    engine = sa.create_engine(warehouse.replace("postgresql", "postgresql+psycopg", 1), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET ROLE reader")
        with pytest.raises(ConfigError, match="rights"):
            read_query("SELECT * FROM leads", connection)


def test_a_query_is_enriched_as_a_stream_and_planned_as_a_table(stand_in, enricher, warehouse):
    run = enricher(stand_in(), identifiers={"email": "mail"})
    sql = "SELECT id, mail FROM leads ORDER BY id LIMIT 20"
    assert run.plan(query_source(sql, warehouse)).spends_at_most == 20
    first = run.enrich_batches(read_query(sql, warehouse)).read_all()
    again = run.enrich_batches(query_source(sql, warehouse)).read_all()
    assert first.column("id").to_pylist() == again.column("id").to_pylist() == list(range(1, 21))
    assert run.report.from_ledger == 20
    assert run.enrich_dataframe(query_source(sql, warehouse)).num_rows == 20


def test_a_query_that_breaks_off_in_a_run_is_told_as_it_is_and_with_what_was_spent(
    stand_in, enricher, warehouse
):
    # The last one comes when the first are bought.
    sql = "SELECT mail, 1 / (9999 - i) AS x FROM (SELECT id AS i, mail FROM leads LIMIT 10000) l"
    api = stand_in()
    run = enricher(api, identifiers={"email": "mail"}, max_credits_at_risk=1000)
    with pytest.raises(InputError, match="DivisionByZero") as caught:
        run.enrich_batches(read_query(sql, warehouse)).read_all()
    assert (api.credits() > 0) == ("This run was charged" in str(caught.value))


def test_a_source_on_disk_can_be_read_several_times_at_once(warehouse):
    source = query_source("SELECT id, mood FROM leads ORDER BY id", warehouse)
    assert source.rows is None
    assert not source.is_rereadable
    kept = spooled(source)
    assert (kept.rows, kept.is_rereadable) == (10_000, True)
    assert spooled(kept) is kept
    pairs = [*zip(kept.batches(), kept.batches(), strict=True)]
    assert len(pairs) > 1
    assert all(first.equals(second) for first, second in pairs)
    assert kept.read_all().column("id").to_pylist() == list(range(1, 10_001))


def test_a_file_is_opened_by_its_ending_and_its_notes_are_told(tmp_path):
    text = "Mail;Name\np0@canary.example;Zoë\n".encode()
    (tmp_path / "leads.csv").write_bytes(text)
    (tmp_path / "leads.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(text)[:-9])
    for name in ("leads.csv", "leads.csv.gz"):
        source = file_source(tmp_path / name)
        assert source.notes == ["its cells are separated by semicolon"]
        assert source.read_all().to_pylist() == [{"Mail": "p0@canary.example", "Name": "Zoë"}]
    with pytest.raises(InputError, match=r"torn\.csv\.gz"):
        file_source(tmp_path / "torn.csv.gz")
    with pytest.raises(InputError, match="ending"):
        file_source(tmp_path / "leads.xls")
