"""A query becomes enriched tables in one call, and a load that failed is finished by the next one for nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest

from eb_dagster.errors import ConfigError, InputError
from tests.databases import PostgreSQL

pytest.importorskip("dlt")
from eb_dagster.warehouse import enrich_query
from tests.warehouse.enriched_tables import TABLES
from tests.warehouse.warehouses import IGNORED_WARNINGS

pytestmark = IGNORED_WARNINGS
SQL = "SELECT * FROM leads ORDER BY id"
LEADS = "CREATE TABLE leads AS SELECT {i} AS id, 'lead' || {i} || '@canary.example' AS email FROM {rows}"


class Database:
    """One database that holds leads, and takes contacts."""

    def __init__(
        self, url: str, into: str, dataset: str, ask: Callable[[str], list[tuple[Any, ...]]]
    ) -> None:
        self.url, self.into, self.dataset, self.ask = url, into, dataset, ask

    def counts(self) -> list[int]:
        return [self.ask(f"SELECT count(*) FROM {self.dataset}.{name}")[0][0] for name in TABLES]


def on_postgresql(server: PostgreSQL) -> Database:
    url = server.new_database()
    parts = urlsplit(url)
    name = parts.path.strip("/")
    server.run(LEADS.format(i="i", rows="generate_series(1, 40) i"), name=name)
    # In dlt's own form, an address has a host and a password.
    into = f"postgresql://{parts.username or 'postgres'}:none@localhost{parts.path}?{parts.query}"
    return Database(url, into, "crm", lambda query: server.run(query, name=name))


def on_duckdb(folder: Path) -> Database:
    path = str(folder / "warehouse.duckdb")

    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(path) as connection:
            return connection.execute(query).fetchall()

    ask(LEADS.format(i="i", rows="range(1, 41) r(i)"))
    return Database(f"duckdb:///{path}", f"duckdb:///{path}", "crm", ask)


def on_sqlite(folder: Path) -> Database:
    path = str(folder / "warehouse.sqlite")

    def ask(query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    ask(
        LEADS.format(
            i="i",
            rows="(WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r LIMIT 40) SELECT i FROM r)",
        )
    )
    return Database(f"sqlite:///{path}", f"sqlite:///{path}", "main", ask)


@pytest.fixture(params=["postgresql", "duckdb", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "postgresql":
        return on_postgresql(request.getfixturevalue("postgresql"))
    return on_duckdb(tmp_path) if request.param == "duckdb" else on_sqlite(tmp_path)


def options(api: Any, folder: Path) -> dict[str, Any]:
    return {
        "api_key": "canary-key", "base_url": api.url, "ledger": folder / "ledger.db", "progress": False,
        "requests_per_minute": 60_000, "partition_size": 8,
    }  # fmt: skip


def test_a_query_becomes_tables_and_a_second_call_adds_nothing_and_costs_nothing(
    database, stand_in, tmp_path
):
    api = stand_in()
    settings = options(api, tmp_path)
    for call in (1, 2):
        done = enrich_query(
            SQL, database.url, destination=database.into, dataset=database.dataset, key="id", **settings
        )
        counts = database.counts()
        assert counts[0] == api.credits() == done.report.matched > 0
        assert done.rows["contacts"] == counts[0]
        assert done.report.from_ledger == (0 if call == 1 else 40)
        assert min(counts[1:3]) > 0


KILLED = """
import os, signal, sys
import dlt
from eb_dagster.warehouse import enrich_query
dlt.Pipeline.load = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
url, into, dataset, api, ledger = sys.argv[1:]
enrich_query("SELECT * FROM leads", url, destination=into, dataset=dataset, key="id", api_key="canary-key",
    base_url=api, ledger=ledger, progress=False, requests_per_minute=60_000)
"""


def test_what_a_killed_load_has_bought_is_loaded_by_the_next_call_for_nothing(database, stand_in, tmp_path):
    api = stand_in()
    settings = options(api, tmp_path)
    words = [database.url, database.into, database.dataset, api.url, str(settings["ledger"])]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *words],
        env={**os.environ, "TMPDIR": str(scratch)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    bought = api.credits()
    assert bought > 0
    done = enrich_query(
        SQL, database.url, destination=database.into, dataset=database.dataset, key="id", **settings
    )
    assert api.credits() == bought == done.report.matched == database.counts()[0]


def test_a_load_that_fails_says_what_was_spent_and_the_next_one_spends_nothing(stand_in, tmp_path):
    database = on_duckdb(tmp_path)
    database.ask("CREATE SCHEMA crm; CREATE TABLE crm.contacts (contact_id TEXT, eb_full_name INT)")
    api = stand_in(match_rate=1.0)
    call: dict[str, Any] = {
        "sql": SQL, "connection": database.url, "destination": database.into, **options(api, tmp_path)
    }  # fmt: skip
    with pytest.raises(ConfigError, match="This run was charged 40 credits"):
        enrich_query(dataset="crm", **call)
    assert enrich_query(dataset="sales", **call).report.from_ledger == 40
    assert api.credits() == 40


def test_what_can_be_known_before_is_refused_before_anything_is_bought(stand_in, tmp_path, postgresql):
    api = stand_in(match_rate=1.0)
    database, settings = on_postgresql(postgresql), options(api, tmp_path)
    postgresql.run("CREATE ROLE canary_guest LOGIN")
    guest = database.into.replace("//postgres:", "//canary_guest:")
    refused: list[tuple[str, str, type[Exception], str]] = [
        (SQL, guest, ConfigError, "the warehouse refused"),
        (SQL, "postgresql://u:canary-secret@127.0.0.1:1/x", ConfigError, "check its address"),
        (SQL, "oracle://u:canary-secret@h/x", ConfigError, "not known here"),
        ("SELECT * FROM nobody", database.into, InputError, "UndefinedTable"),
        ("SELECT id, 1 / (id - 40) AS x, email FROM leads", database.into, InputError, "DivisionByZero"),
        ("SELECT id FROM leads", database.into, InputError, "identif"),
    ]
    for sql, into, kind, says in refused:
        with pytest.raises(kind, match=rf"{says}.*Nothing was sent") as caught:
            enrich_query(sql, database.url, destination=into, dataset="crm", **settings)
        assert "canary-secret" not in str(caught.value)
    unreadable = database.url.replace("//postgres:", "//canary_guest:")
    with pytest.raises(ConfigError, match=r"InsufficientPrivilege.*Nothing was sent"):
        enrich_query(SQL, unreadable, destination=database.into, dataset="crm", **settings)
    with pytest.raises(InputError, match=r"key: no columns 'LeadNumber'.*Nothing was sent"):
        enrich_query(
            SQL, database.url, destination=database.into, dataset="crm", key="LeadNumber", **settings
        )
    assert api.requests() == 0
