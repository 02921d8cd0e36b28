"""Sources that are tables: nobody hands over a value, and the rows are read where they are."""

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from eb_dagster import ConfigError, ExactBuyerResource, build_enriched_contacts_asset

PASSWORD = "canary-pass-77"
ROWS = 30
QUERY = "SELECT id, mail AS email FROM leads ORDER BY id"
LEADS = dg.AssetSpec(
    "leads_table",
    metadata={
        "dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn(name) for name in ("id", "mail")])
    },
)
OTHER = dg.AssetSpec("other_table")


@pytest.fixture
def run(stand_in, tmp_path, instance):
    """Materialize an asset whose source is a table."""
    usual = stand_in(match_rate=1.0)

    def start(*, api=usual, config=None, resources=None, others=(), selection=None, run=(), **keywords):
        keywords = {"name": "enriched", "source": "leads_table", "path": tmp_path / "out.parquet", **keywords}
        exactbuyer = ExactBuyerResource(
            api_key="key",
            base_url=api.url,
            ledger=str(tmp_path / "ledger.db"),
            requests_per_minute=60_000,
        )
        return dg.materialize(
            [build_enriched_contacts_asset(**keywords), *others],
            resources={"exactbuyer": exactbuyer, "io_manager": dg.mem_io_manager, **(resources or {})},
            run_config={"ops": {"enriched": {"config": config}}} if config else {},
            raise_on_error=False, instance=instance, selection=selection, **dict(run),
        )  # fmt: skip

    return start


@pytest.fixture
def sqlite(tmp_path):
    path = tmp_path / "crm.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE leads (id INTEGER, mail TEXT)")
        database.executemany("INSERT INTO leads VALUES (?, ?)", enumerate(people()))
    database.close()
    return f"sqlite:///{path}"


@pytest.fixture
def duck(tmp_path):
    path = tmp_path / "crm.duckdb"
    frame = pd.DataFrame({"id": range(ROWS), "mail": people()})
    with duckdb.connect(str(path)) as database:
        database.sql("CREATE TABLE leads AS FROM frame")
    assert len(frame) == ROWS
    return str(path)


def people(start: int = 0) -> list[str]:
    return [f"p{number}@firm.example" for number in range(start, start + ROWS)]


def made_by(result) -> dict[str, Any]:
    assert result.success
    (made,) = result.asset_materializations_for_node("enriched")
    return {name: value.value for name, value in made.metadata.items()}


def error_of(result) -> str:
    return str(result.failure_data_for_node("enriched").error)


def test_a_query_is_enriched_and_its_source_is_a_dependency_only(
    run, sqlite, stand_in, tmp_path, monkeypatch
):
    monkeypatch.setenv("CRM", sqlite)
    api = stand_in(match_rate=1.0)
    settings = {"source": [LEADS, "other_table"], "query": QUERY, "connection": dg.EnvVar("CRM")}
    made = made_by(run(api=api, others=[OTHER], **settings))
    table = pq.read_table(tmp_path / "out.parquet")
    assert made["dagster/row_count"] == ROWS
    assert table.column_names[:2] == ["id", "email"]
    assert table["email"].to_pylist() == people()
    assert api.credits() == ROWS
    # A path is the name of a file, not of a table.
    assert "dagster/table_name" not in made
    asset = build_enriched_contacts_asset(name="enriched", path="x", **settings)
    assert {dep.asset_key for dep in next(iter(asset.specs)).deps} == {LEADS.key, OTHER.key}
    # What the query calls otherwise than the table comes from nowhere that is known.
    lineage = made["dagster/column_lineage"].deps_by_column
    assert [(dep.asset_key, dep.column_name) for dep in lineage["id"]] == [(LEADS.key, "id")]
    assert lineage["email"] == lineage["eb_city"] == []


def test_a_resource_connects_by_its_key_or_as_it_is(run, duck):
    resource = DuckDBResource(database=duck)
    by_key = made_by(run(query=QUERY, connection="warehouse", resources={"warehouse": resource}))
    as_it_is = made_by(run(query=QUERY, connection=resource))
    by_address = made_by(run(query=QUERY, connection=f"duckdb:///{duck}"))
    assert [made["dagster/row_count"] for made in (by_key, as_it_is, by_address)] == [ROWS] * 3
    assert [made["exactbuyer/credits_charged"] for made in (by_key, as_it_is, by_address)] == [ROWS, 0, 0]


def test_a_postgresql_table_is_read_and_its_password_is_nowhere(run, postgresql, instance):
    name = postgresql.new_database()
    database = urlsplit(name).path.strip("/")
    postgresql.run("CREATE TABLE leads AS SELECT 1 AS id, 'ada@firm.example'::text AS mail", name=database)
    made = made_by(run(query=QUERY, connection=name))
    assert made["dagster/row_count"] == 1
    refused = run(query=QUERY, connection=f"postgresql://eve:{PASSWORD}@127.0.0.1:1/crm")
    assert "ConfigError" in error_of(refused)
    assert "Nothing was sent" in error_of(refused)
    asset = build_enriched_contacts_asset(
        name="a", source="b", path="x", query=QUERY, connection=f"postgresql://eve:{PASSWORD}@127.0.0.1:1/crm"
    )
    for text in (repr(asset), *map(repr, asset.specs), repr(instance.all_logs(refused.run_id))):
        assert PASSWORD not in text


def test_a_function_of_the_context_gives_the_table(run, tmp_path):
    days = dg.StaticPartitionsDefinition(["a", "b"])

    def batches(context: dg.AssetExecutionContext):
        start = {"a": 0, "b": 10}[context.partition_key]
        yield pa.RecordBatch.from_pydict({"email": people(start)[:20]})
        yield pa.RecordBatch.from_pydict({"email": people(start)[20:]})

    settings = {"read": batches, "partitions_def": days, "path": tmp_path / "out"}
    counts = [made_by(run(run={"partition_key": day}, **settings)) for day in ("a", "b")]
    assert [made["dagster/partition_row_count"] for made in counts] == [ROWS, ROWS]
    assert [made["exactbuyer/credits_charged"] for made in counts] == [ROWS, 10]


def test_a_query_may_be_of_the_partition(run, sqlite, tmp_path):
    def query(context: dg.AssetExecutionContext) -> str:
        return f"SELECT mail AS email FROM leads WHERE id % 2 = {int(context.partition_key)}"

    made = made_by(
        run(
            query=query, connection=sqlite, path=tmp_path / "out",
            partitions_def=dg.StaticPartitionsDefinition(["0", "1"]), run={"partition_key": "1"},
        )
    )  # fmt: skip
    assert made["dagster/partition_row_count"] == ROWS // 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_path_may_be_read_or_handed_over_and_may_be_a_csv(run, tmp_path, suffix):
    path = tmp_path / f"leads.{suffix}"
    frame = pd.DataFrame({"email": people(), "zip": ["01067"] * ROWS})
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)

    @dg.asset(name="leads")
    def handed() -> str:
        return str(path)

    for settings in ({"read": lambda _: path}, {"source": "leads", "others": [handed]}):
        assert made_by(run(**settings))["dagster/row_count"] == ROWS
        assert pq.read_table(tmp_path / "out.parquet")["zip"].to_pylist() == ["01067"] * ROWS
    given = run(read=lambda _: path, path=None).asset_value("enriched")
    assert isinstance(given, pd.DataFrame)
    assert given["zip"].tolist() == ["01067"] * ROWS


def test_a_dry_run_plans_a_query_and_sends_nothing(run, sqlite, stand_in, instance):
    api = stand_in()
    assert run(api=api, query=QUERY, connection=sqlite, config={"dry_run": True}).success
    (seen,) = instance.fetch_observations(dg.AssetKey("enriched"), limit=5).records
    plan = seen.event_log_entry.asset_observation.metadata
    assert plan["exactbuyer/plan_credits_at_most"].value == ROWS
    assert api.requests() == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT nothing FROM nowhere", "InputError"),
        ("SELECT id FROM leads", "no identifier columns"),
        (f"SELECT mail AS email, abs(-9223372036854775808 + (id = {ROWS - 1}) - 1) FROM leads", "Error"),
    ],
)
def test_a_query_that_fails_costs_nothing(run, sqlite, stand_in, query, words):
    api = stand_in()
    result = run(api=api, query=query, connection=sqlite)
    assert not result.success
    assert words in error_of(result)
    assert api.requests() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"connection": dg.EnvVar("NOT_SET_ANYWHERE")}, "NOT_SET_ANYWHERE, which is not set"),
        ({"query": None, "connection": None, "read": lambda _: 7}, "read gives int"),
        ({"query": None, "connection": None, "read": lambda _: 1 / 0}, "ZeroDivisionError"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_in_words(run, stand_in, settings, words):
    api = stand_in()
    result = run(api=api, **{"query": QUERY, **settings})
    assert words in error_of(result)
    assert api.requests() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"query": QUERY}, "query and connection go together"),
        ({"connection": "sqlite://"}, "query and connection go together"),
        ({"query": QUERY, "connection": "x", "read": print}, "give one of them"),
        ({"query": " ", "connection": "x"}, "query is empty"),
        ({"source": [LEADS, OTHER]}, "several sources"),
        ({"source": ""}, "source is empty"),
        ({"source": LEADS, "identifiers": {"email": "Email"}}, "source leads_table: .*Email"),
    ],
)
def test_settings_that_do_not_go_together_are_found_when_the_definitions_load(settings, words):
    given: dict[str, Any] = {"name": "enriched", "source": "leads", "path": "x", **settings}
    with pytest.raises(ConfigError, match=words):
        build_enriched_contacts_asset(**given)


def test_checks_alone_ask_no_database(run, sqlite, tmp_path):
    assert run(query=QUERY, connection=sqlite).success
    (tmp_path / "crm.db").unlink()
    only = dg.AssetSelection.checks_for_assets("enriched")
    result = run(query=QUERY, connection=sqlite, selection=only)
    assert result.success
    assert len(result.get_asset_check_evaluations()) > 3


def test_definitions_point_into_the_users_own_file_and_miss_their_resource():
    asset = build_enriched_contacts_asset(
        name="enriched", source="leads", path="x", query=QUERY, connection="crm"
    )
    (spec,) = asset.specs
    (reference,) = spec.metadata["dagster/code_references"].code_references
    assert reference.file_path == __file__
    assert (
        Path(__file__)
        .read_text()
        .splitlines()[reference.line_number - 1]
        .lstrip()
        .startswith("asset = build")
    )
    for resources in ({}, {"exactbuyer": dg.ResourceDefinition.none_resource()}):
        missing = "crm" if resources else "crm|exactbuyer"
        with pytest.raises(dg.DagsterInvalidDefinitionError, match=missing):
            dg.Definitions.validate_loadable(dg.Definitions([asset], resources=resources))
