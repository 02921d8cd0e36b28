"""What Dagster's resource, runs and assets refuse."""

from typing import Any, cast

import dagster as dg

from eb_dagster import (
    ContactTablesComponent,
    EnrichedContactsComponent,
    ExactBuyerResource,
    LaunchConfig,
    build_contact_tables_asset,
    build_enriched_contacts_asset,
)
from eb_dagster.definitions.table_source import FunctionSource, variable_value
from tests.messages.scene import KEY, Act, Provocations, Scene


def launched(**chosen: str) -> Act:
    """A run that brings settings of its own for the resource."""

    def act(scene: Scene) -> Any:
        @dg.asset
        def uses(exactbuyer: ExactBuyerResource) -> None:
            exactbuyer.enricher()

        # Not in the environment once the definitions have loaded.
        resource = ExactBuyerResource(api_key=dg.EnvVar("CANARY_KEY"), ledger=str(scene.ledger))
        dg.materialize(
            [uses], resources={"exactbuyer": resource},
            run_config={"resources": {"exactbuyer": {"config": chosen}}},
        )  # fmt: skip

    return act


def masked(scene: Scene) -> Any:
    return ExactBuyerResource(api_key="********", ledger=str(scene.ledger)).enricher()


def asset(**chosen: Any) -> Act:
    return lambda _: build_enriched_contacts_asset(source="leads", **chosen)


PROVOCATIONS: Provocations = {
    "a ledger set at launch": lambda s: (
        s.monkeypatch.setenv("CANARY_KEY", KEY),
        launched(api_key=KEY, ledger="/other.db")(s),
    ),
    "a mask for a variable that is not set": launched(api_key="********", ledger="********"),
    "a mask for nothing that is known": masked,
    "a relative ledger for Dagster": lambda _: ExactBuyerResource(api_key=KEY, ledger="l.db"),
    "a launch with less than no credits": lambda _: LaunchConfig(max_credits=-1),
    "a launch with no age": lambda _: LaunchConfig(max_age_days=0),
    "an asset with a path and an I/O manager": asset(name="a", path="a", io_manager_key="b"),
    "yes for a number of the resource": lambda _: ExactBuyerResource(
        api_key=dg.EnvVar("KEY_VARIABLE"), ledger=dg.EnvVar("LEDGER"), timeout=True
    ),
    "a misspelt setting of the resource": lambda _: ExactBuyerResource(
        api_key=dg.EnvVar("CANARY_KEY"),
        ledger=dg.EnvVar("CANARY_LEDGER"),
        max_credit_per_day=5,  # pyright: ignore[reportCallIssue]
    ),
    "an asset with an unknown keyword": asset(path="a", name="a", max_credit=5),
    "an asset with a spec and a name": asset(path="a", name="a", spec=dg.AssetSpec("a")),
    "an asset without a name": asset(path="a"),
    "an asset with a check that is none": asset(path="a", name="a", checks={"match_rte": {}}),
    "an asset with bounds in the wrong order": asset(
        path="a", name="a", min_match_rate=0.9, max_match_rate=0.1
    ),
    "an asset of several sources without a query": lambda _: build_enriched_contacts_asset(
        source=[dg.AssetKey("a"), dg.AssetKey("b")], path="a", name="a"
    ),
    "an asset without a source": lambda _: build_enriched_contacts_asset(source="", path="a", name="a"),
    "an asset whose source lacks the column": lambda _: build_enriched_contacts_asset(
        source=dg.AssetSpec(
            "a", metadata={"dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn("id")])}
        ),
        path="a",
        name="a",
    ),
    "an asset with a query and a function": asset(path="a", name="a", query="q", connection="c", read=print),
    "an asset with a query and nobody to ask": asset(path="a", name="a", query="q"),
    "an asset with an empty query": asset(path="a", name="a", query=" ", connection="c"),
    "a function that gives no table": lambda _: FunctionSource(function=lambda _: 7).read(cast("Any", None)),
    "a variable that is not set where a run is": lambda _: variable_value(
        dg.EnvVar("NOT_SET"), of="connection"
    ),
    "a component of several sources without a query": lambda _: EnrichedContactsComponent(
        asset=dg.AssetSpec("a"), source=["a", "b"], path=None
    ).build_defs(cast("Any", None)),
    "a component with two connections": lambda _: EnrichedContactsComponent(
        asset=dg.AssetSpec("a"), source="a", path=None, query="q", connection_env="A", connection_resource="b"
    ).build_defs(cast("Any", None)),
    "a component of tables without a destination": lambda _: ContactTablesComponent(
        source=dg.AssetKey("a"), path="a", dataset="crm"
    ).build_defs(cast("Any", None)),
    "tables of contacts with an unknown keyword": lambda _: build_contact_tables_asset(
        path="a", destination="duckdb", dataset="crm", **cast("Any", {"owner": "me"})
    ),
    "tables of contacts without a dataset": lambda _: build_contact_tables_asset(
        path="a", destination="duckdb", dataset=""
    ),
    "tables of contacts that are parts and whole": lambda _: build_contact_tables_asset(
        path="a",
        destination="duckdb",
        dataset="crm",
        is_whole=True,
        partitions_def=dg.StaticPartitionsDefinition(["a"]),
    ),
}
