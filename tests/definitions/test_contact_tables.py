"""The contacts as tables of a warehouse, seen by Dagster."""

import json
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from eb_dagster import ConfigError, build_contact_tables_asset
from eb_dagster.definitions.materialize import partition_file
from eb_dagster.tables.parquet import write_parquet
from tests.warehouse.enriched_tables import FULL, PEOPLE, TABLES, enriched, everybody, with_own

pytest.importorskip("dlt")
from tests.warehouse.warehouses import IGNORED_WARNINGS, postgres

pytestmark = IGNORED_WARNINGS
PASSWORD = "canary-pass-77"
ENRICHED = dg.AssetKey("enriched_contacts")


@pytest.fixture
def duck(tmp_path):
    return f"duckdb:///{tmp_path / 'warehouse.duckdb'}"


@pytest.fixture
def publish(tmp_path):
    def write(people, **more):
        table = enriched(people, **more)
        write_parquet(table.to_batches(max_chunksize=5), tmp_path / "enriched.parquet", schema=table.schema)
        return tmp_path / "enriched.parquet"

    return write


def load(asset: dg.AssetsDefinition, instance: dg.DagsterInstance, *names: str, **more: Any):
    selection = list(names) or None
    return dg.materialize([asset], instance=instance, selection=selection, raise_on_error=False, **more)


def made_by(result) -> dict[str, dict[str, Any]]:
    assert result.success, result.all_events
    return {
        event.asset_key.to_user_string(): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def verdicts(result) -> dict[tuple[str, str], bool]:
    return {
        (each.asset_key.to_user_string(), each.check_name): each.passed
        for each in result.get_asset_check_evaluations()
    }


def error_of(result) -> str:
    (failed,) = result.get_step_failure_events()
    return str(failed.step_failure_data.error)


def ask(duck: str, query: str) -> list[tuple]:
    with duckdb.connect(duck.removeprefix("duckdb:///")) as database:
        return database.execute(query).fetchall()


def test_one_step_makes_six_tables_twice_in_one_process(publish, duck, instance):
    asset = build_contact_tables_asset(
        path=publish(everybody()), destination=duck, dataset="crm", key="Lead Id", group_name="contacts"
    )
    assert {spec.key.path[-1] for spec in asset.specs} == set(TABLES)
    assert all({dep.asset_key for dep in spec.deps} == {ENRICHED} for spec in asset.specs)
    for _ in range(2):
        result = load(asset, instance)
        made = made_by(result)
        assert [made[name]["dagster/row_count"] for name in TABLES] == FULL
        assert [made[name]["dagster/table_name"] for name in TABLES] == [
            f"warehouse.crm.{name}" for name in TABLES
        ]
        assert {each["dagster/storage_kind"] for each in made.values()} == {"duckdb"}
        seen = verdicts(result)
        assert len(seen) == 11
        assert all(seen.values()), seen
    schema = {column.name: column for column in made["contacts"]["dagster/column_schema"].columns}
    assert schema["eb_job_title"].description == "Current job title."
    assert schema["lead_id"].type == "bigint"
    assert not schema["contact_id"].constraints.nullable
    lineage = {
        table: {
            name: {(dep.asset_key, dep.column_name) for dep in deps}
            for name, deps in values["dagster/column_lineage"].deps_by_column.items()
        }
        for table, values in made.items()
    }
    assert (
        lineage["contacts"]["lead_id"] == lineage["contact_emails"]["contact_id"] == {(ENRICHED, "Lead Id")}
    )
    assert lineage["contact_emails"]["position"] == {(ENRICHED, "eb_emails")}
    assert set(lineage["contacts"]) == {name for name in schema if not name.startswith("_dlt")}


def test_who_is_forgotten_is_gone_and_what_was_tampered_with_fails_its_check(publish, duck, instance):
    asset = build_contact_tables_asset(
        path=publish(everybody()), destination=duck, dataset="crm", history=True
    )
    load(asset, instance)
    publish(everybody(but=7))
    made = made_by(load(asset, instance))
    assert [made[name]["dagster/row_count"] for name in TABLES] == [11, 22, 11, 22, 22, 11]
    assert made["contact_job_history"]["dagster/row_count"] == 11
    ask(duck, "DELETE FROM crm.contacts WHERE lead_id = 3")
    alone = load(asset, instance, "contact_emails")
    assert list(made_by(alone)) == ["contact_emails"]
    assert verdicts(alone) == {
        ("contact_emails", "row_counts_agree"): True,
        ("contact_emails", "no_orphans"): False,
    }


def test_partitions_pass_through_and_replace_only_their_own_people(tmp_path, duck, instance):
    days = dg.StaticPartitionsDefinition(["a/1", "b"])
    for day, people in (("a/1", range(1, 8)), ("b", range(8, PEOPLE + 1))):
        table = enriched({n: person for n, person in everybody().items() if n in people})
        write_parquet(table.to_batches(), tmp_path / partition_file(day), schema=table.schema)
    asset = build_contact_tables_asset(path=tmp_path, destination=duck, dataset="crm", partitions_def=days)
    counts = [made_by(load(asset, instance, partition_key=day))["contacts"] for day in ("a/1", "b", "a/1")]
    assert [made["dagster/partition_row_count"] for made in counts] == [7, 5, 7]
    assert [made["dagster/row_count"] for made in counts] == [7, 12, 12]
    assert "launch it for one" in error_of(load(asset, instance))
    with pytest.raises(ConfigError, match="a partition is a part"):
        build_contact_tables_asset(
            path=tmp_path, destination=duck, dataset="crm", partitions_def=days, is_whole=True
        )


def test_postgresql_by_the_name_of_a_variable(publish, postgresql, instance, monkeypatch):
    name = postgresql.new_database()
    url = postgres(name).config_params["credentials"]
    monkeypatch.setenv("CRM_WAREHOUSE", str(url))
    asset = build_contact_tables_asset(
        path=publish(everybody()), destination=dg.EnvVar("CRM_WAREHOUSE"), dataset="crm", key_prefix="crm"
    )
    made = made_by(load(asset, instance))
    database = made["crm/contacts"]["dagster/table_name"].partition(".")[0]
    assert made["crm/contacts"]["dagster/table_name"] == f"{database}.crm.contacts"
    assert database in name
    assert [made[f"crm/{table}"]["dagster/row_count"] for table in TABLES] == FULL
    table = with_own(publish(everybody()), "photo", pa.array([b"x"] * (PEOPLE + 1)))
    assert "cast them to text" in error_of(load(asset, instance)), table


def test_what_is_wrong_is_said_before_anything_is_loaded(publish, duck, instance, tmp_path, monkeypatch):
    monkeypatch.setenv("BROKEN", f"postgresql://eve:{PASSWORD}@127.0.0.1:1/crm?connect_timeout=1")
    path = publish(everybody())
    cases = [
        ({"key": "LeadNumber"}, "key: no columns"),
        ({"path": tmp_path / "nowhere.parquet"}, "there is no file nowhere.parquet"),
        ({"destination": dg.EnvVar("NOT_SET_ANYWHERE")}, "NOT_SET_ANYWHERE, which is not set"),
        ({"destination": dg.EnvVar("BROKEN")}, "cannot be reached"),
    ]
    for settings, words in cases:
        given: dict[str, Any] = {"path": path, "destination": duck, "dataset": "crm", "key": (), **settings}
        asset = build_contact_tables_asset(**given)
        result = load(asset, instance)
        assert words in error_of(result)
        assert PASSWORD not in json.dumps(repr(instance.all_logs(result.run_id)))
    assert not (tmp_path / "warehouse.duckdb").exists() or ask(duck, "SHOW ALL TABLES") == []


def test_what_the_user_says_of_the_tables_stays(publish, duck):
    (spec, *_) = build_contact_tables_asset(
        path=publish(everybody()), destination=duck, dataset="crm", owners=["team:data"], kinds={"gold"},
        metadata={"dagster/table_name": "lake.gold.people"}, tags={"tier": "gold"}, source=dg.AssetKey(["a", "b"]),
    ).specs  # fmt: skip
    assert spec.metadata["dagster/table_name"] == "lake.gold.people"
    assert (spec.owners, spec.kinds, spec.tags["tier"]) == (["team:data"], {"gold"}, "gold")
    assert {dep.asset_key for dep in spec.deps} == {dg.AssetKey(["a", "b"])}
    with pytest.raises(ConfigError, match="no such keyword"):
        build_contact_tables_asset(path="x", destination=duck, dataset="crm", owner="me")  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigError, match="database that is not known"):
        build_contact_tables_asset(path="x", destination=f"oracle://a:{PASSWORD}@b/c", dataset="crm")
