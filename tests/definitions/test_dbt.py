"""With dbt: a model is a source of the enriched table, and the tables of contacts are sources of models.

dbt pins much of what it needs, so it is in an environment of its own: `nox -s dbt`.
"""

import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import yaml
from click.testing import CliRunner

from eb_dagster import ExactBuyerResource, build_contact_tables_asset, build_enriched_contacts_asset
from eb_dagster.cli import main

pytest.importorskip("dlt")

ROWS = 12


def sources() -> str:
    done = CliRunner().invoke(main, ["dbt-sources", "--dataset", "crm", "--history", "--database", "w"])
    assert done.exit_code == 0, done.output
    return done.output


def test_dbt_sources_describe_every_column_of_every_table():
    (source,) = yaml.safe_load(sources())["sources"]
    assert (source["schema"], source["database"]) == ("crm", "w")
    tables = {table["name"]: table for table in source["tables"]}
    assert {"contacts", "contact_emails", "contact_job_history"} <= set(tables)
    assert len(tables) == 7
    assert all(column["description"] for table in tables.values() for column in table["columns"])
    (relation,) = [test for test in tables["contact_emails"]["columns"][0]["tests"] if isinstance(test, dict)]
    assert relation == {"relationships": {"to": "source('exactbuyer', 'contacts')", "field": "contact_id"}}


@pytest.fixture
def project(tmp_path) -> Path:
    """A dbt project on DuckDB: a model of leads, and one that reads the contacts."""
    folder = tmp_path / "dbt"
    (folder / "models").mkdir(parents=True)
    database = tmp_path / "w.duckdb"
    files = {
        "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\n",
        "profiles.yml": f"shop:\n  target: dev\n  outputs:\n    dev: {{type: duckdb, path: '{database}', schema: main}}\n",
        "models/leads.sql": f"select n as id, 'p' || n || '@firm.example' as email from range({ROWS}) t(n)",
        "models/found.sql": "select contact_id, id, eb_job_title from {{ source('exactbuyer', 'contacts') }}",
        "models/exactbuyer.yml": sources(),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_dbt_model_is_a_source_and_the_tables_are_sources_of_dbt(project, stand_in, tmp_path):
    dagster_dbt = pytest.importorskip("dagster_dbt", reason="dbt is in an environment of its own")
    database = tmp_path / "w.duckdb"
    program = str(Path(sys.executable).with_name("dbt"))
    dbt = dagster_dbt.DbtCliResource(
        project_dir=str(project), profiles_dir=str(project), dbt_executable=program
    )
    dbt.cli(["parse"], target_path=project / "target").wait()

    class OurKeys(dagster_dbt.DagsterDbtTranslator):
        def get_asset_key(self, properties):
            # As build_contact_tables_asset calls them.
            is_source = properties["resource_type"] == "source"
            return dg.AssetKey(properties["name"]) if is_source else super().get_asset_key(properties)

    @dagster_dbt.dbt_assets(manifest=project / "target" / "manifest.json", dagster_dbt_translator=OurKeys())
    def models(context: dg.AssetExecutionContext, dbt: dagster_dbt.DbtCliResource):  # pyright: ignore[reportInvalidTypeForm]
        yield from dbt.cli(["build"], context=context).stream()

    path = tmp_path / "enriched.parquet"
    enriched = build_enriched_contacts_asset(
        name="enriched_contacts",
        source="leads",
        path=path,
        query="SELECT * FROM leads",
        connection=f"duckdb:///{database}",
    )
    tables = build_contact_tables_asset(
        path=path, destination=f"duckdb:///{database}", dataset="crm", key="id", history=True
    )
    api = stand_in(match_rate=1.0)
    exactbuyer = ExactBuyerResource(
        api_key="key", base_url=api.url, ledger=str(tmp_path / "ledger.db"), requests_per_minute=60_000
    )
    resources = {"dbt": dbt, "exactbuyer": exactbuyer}
    graph = dg.Definitions([models, enriched, tables], resources=resources).resolve_asset_graph()
    assert graph.get(dg.AssetKey("found")).parent_keys == {dg.AssetKey("contacts")}
    for _ in range(2):
        assert dg.materialize([models, enriched, tables], resources=resources).success
    with duckdb.connect(str(database)) as warehouse:
        assert warehouse.execute("SELECT count(*) FROM main.found").fetchall() == [(ROWS,)]
    assert api.credits() == ROWS
