"""The asset's second form: the table goes to DuckDB's own I/O manager, the one that Dagster ships."""

from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars
import pytest
from dagster_duckdb import DuckDBResource
from dagster_duckdb_polars import DuckDBPolarsIOManager

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset

ENRICHED = dg.AssetKey(["crm", "enriched"])
REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])

reads_back = pytest.mark.skipif(
    not hasattr(duckdb.DuckDBPyConnection, "arrow"),
    reason="dagster-duckdb-polars reads by a method that DuckDB 2 has dropped",
)


@dg.asset(io_manager_key="warehouse", key_prefix="crm")
def leads() -> polars.DataFrame:
    return polars.DataFrame({"email": [f"p{n}@firm.example" for n in range(30)], "score": range(30)})


@dg.asset
def leads_in_memory() -> polars.DataFrame:
    return polars.DataFrame({"email": [f"p{n}@firm.example" for n in range(30)], "score": range(30)})


@dg.asset(partitions_def=REGIONS)
def leads_by_region(context: dg.AssetExecutionContext) -> polars.DataFrame:
    region = context.partition_key
    return polars.DataFrame(
        {"region": [region] * 10, "email": [f"{region}{n}@firm.example" for n in range(10)]}
    )


@pytest.fixture
def run(tmp_path, instance):
    """Materialize an asset that hands its table to DuckDB's I/O manager, and others beside it."""

    def start(api, *others: Any, source: Any = leads_in_memory, partition_key=None, **keywords):
        asset = build_enriched_contacts_asset(
            source=source, name="enriched", key_prefix="crm", path=None, io_manager_key="warehouse", **keywords
        )  # fmt: skip
        exactbuyer = ExactBuyerResource(
            api_key="canary-key-1234", base_url=api.url, ledger=str(tmp_path / "ledger.db"),
            requests_per_minute=60_000,
        )  # fmt: skip
        return dg.materialize(
            [source, asset, *others],
            resources={
                "exactbuyer": exactbuyer,
                "io_manager": dg.mem_io_manager,
                "database": DuckDBResource(database=str(tmp_path / "warehouse.duckdb")),
                "warehouse": DuckDBPolarsIOManager(database=str(tmp_path / "warehouse.duckdb")),
            },
            instance=instance, partition_key=partition_key, raise_on_error=False,
        )  # fmt: skip

    return start


@pytest.fixture
def ask(tmp_path):
    def answer(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as database:
            return database.execute(query).fetchall()

    return answer


def made_by(result) -> dict[str, Any]:
    (made,) = result.asset_materializations_for_node("crm__enriched")
    return {name: value.value for name, value in made.metadata.items()}


def test_the_table_is_there_in_sql_and_a_second_run_adds_no_row_and_pays_nothing(run, stand_in, ask):
    api = stand_in()
    first = made_by(run(api))
    assert first["dagster/row_count"] == 30
    assert first["dagster/table_name"].endswith("crm.enriched")
    assert not {"dagster/uri", "dagster/storage_kind"} & set(first)
    assert "| eb_full_name |" in first["exactbuyer/fill_rates"]
    count = "SELECT count(*), count(eb_full_name), sum(score) FROM crm.enriched"
    assert ask(count) == [(30, first["exactbuyer/matched"], sum(range(30)))]
    again = made_by(run(api))
    assert ask(count) == [(30, first["exactbuyer/matched"], sum(range(30)))]
    assert (again["exactbuyer/credits_charged"], api.charged_twice()) == (0, 0)


def test_its_lists_and_times_are_what_they_were(run, stand_in, ask):
    run(stand_in(match_rate=1.0))
    kinds = dict(ask("SELECT column_name, column_type FROM (DESCRIBE crm.enriched)"))
    assert kinds["eb_emails"] == "VARCHAR[]"
    assert kinds["eb_social_profiles"] == "STRUCT(network VARCHAR, url VARCHAR)[]"
    assert kinds["eb_enriched_at"] == "TIMESTAMP WITH TIME ZONE"
    assert ask("SELECT count(*) FROM crm.enriched WHERE list_contains(eb_emails, eb_work_email)") != [(0,)]


def test_each_partition_replaces_its_own_rows(run, stand_in, ask):
    api = stand_in(match_rate=1.0)
    for region in ("eu", "us", "eu"):
        result = run(
            api, source=leads_by_region, partitions_def=REGIONS, partition_key=region,
            metadata={"partition_expr": "region"},
        )  # fmt: skip
        assert made_by(result)["dagster/partition_row_count"] == 10
    by_region = "SELECT region, count(*), count(eb_full_name) FROM crm.enriched GROUP BY ALL ORDER BY ALL"
    assert ask(by_region) == [("eu", 10, 10), ("us", 10, 10)]
    assert api.credits() == 20


def test_an_asset_downstream_asks_it_in_sql(run, stand_in):
    @dg.asset(deps=[ENRICHED])
    def found(database: DuckDBResource) -> int:
        with database.get_connection() as connection:
            return connection.execute("SELECT count(*) FROM crm.enriched WHERE eb_matched").fetchone()[0]

    api = stand_in()
    assert run(api, found).output_for_node("found") == api.credits() > 0


@reads_back
def test_what_comes_from_it_is_enriched_and_read_back_downstream(run, stand_in):
    @dg.asset(ins={"enriched": dg.AssetIn(ENRICHED, input_manager_key="warehouse")})
    def found(enriched: polars.DataFrame) -> list[str]:
        return enriched.filter(polars.col("eb_matched")).sort("score")["eb_full_name"].to_list()

    api = stand_in()
    result = run(api, found, source=leads)
    names = result.output_for_node("found")
    assert len(names) == made_by(result)["exactbuyer/matched"] == api.credits() > 0
    assert all(names)


def test_a_table_that_the_manager_does_not_take_shows_what_was_spent(run, stand_in, instance):
    @dg.asset
    def in_pandas() -> pd.DataFrame:
        return pd.DataFrame({"email": [f"p{n}@firm.example" for n in range(30)]})

    api = stand_in()
    assert not run(api, source=in_pandas).success
    (record,) = instance.fetch_observations(ENRICHED, limit=10).records
    told = record.event_log_entry.asset_observation
    assert told.metadata["exactbuyer/credits_charged"].value == api.credits() > 0
    assert told.description == "what a failed run spent on a table that was ready"
    before = api.credits()
    assert run(api).success
    assert api.credits() == before
