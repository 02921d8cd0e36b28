"""The component for `dg`: the asset factory, from YAML."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import dagster as dg
from dagster.components.resolved.core_models import OpSpec
from pydantic import BaseModel, Field

from eb_dagster.contacts.schema import ListsChoice
from eb_dagster.definitions.assets import build_enriched_contacts_asset
from eb_dagster.definitions.checks import EnrichmentChecks, described
from eb_dagster.definitions.materialize import Enrichment, Event
from eb_dagster.definitions.spelling import Spelled
from eb_dagster.errors import ConfigError
from eb_dagster.identifiers.model import FieldType
from eb_dagster.settings import SETTINGS, OverBudgetChoice, TableOptions, days
from eb_dagster.tables.object_store import Place, place

RequiredField = Literal["email", "work_email", "personal_email", "phone", "social_profile"]
PersonPart = Literal["name", "first_name", "last_name", "company"]


class ScaffoldParams(BaseModel):
    """The options of `dg scaffold defs eb_dagster.EnrichedContactsComponent`."""

    source: str = Field(default="leads", description="Key of the asset that gives the identifiers.")
    social_profile: str | None = Field(default=None, description="Column of profiles.")
    email: str | None = Field(default=None, description="Column of e-mail addresses.")
    phone: str | None = Field(default=None, description="Column of phone numbers.")
    query: str | None = Field(default=None, description="SELECT that gives the identifiers.")
    connection_env: str | None = Field(
        default=None, description="Environment variable with the URL of the query's database."
    )


class EnrichedContactsScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a defs.yaml that loads, with a note on what to set next."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:  # noqa: D102
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:  # noqa: D102
        name, params = request.target_path.name, request.params
        kinds = ("social_profile", "email", "phone")
        columns = {kind: getattr(params, kind) for kind in kinds if getattr(params, kind)}
        table = {"query": params.query, "connection_env": params.connection_env}
        attributes = {
            "asset": {"key": name, "group_name": "contacts"},
            "source": params.source,
            **{field: value for field, value in table.items() if value},
            "path": f"data/{name}.parquet",
            "identifiers": columns or {"social_profile": "linkedin_url", "email": "email"},
            "max_credits": 1000,
            "checks": {"match_rate": {"min": 0.3}},
        }
        scaffold_with_note(request, attributes, _SCAFFOLD_NOTE)


def scaffold_with_note(request: dg.ScaffoldRequest[Any], attributes: Mapping[str, Any], note: str) -> None:
    """Write a defs.yaml with a note above it."""
    dg.scaffold_component(request, attributes)
    if request.scaffold_format == "yaml" and not request.append:
        file = request.target_path / "defs.yaml"
        file.write_text(note + file.read_text("utf-8"), "utf-8")


_SCAFFOLD_NOTE = """\
# Set: source, the asset with the identifiers; identifiers, its columns in the order of asking;
# path, relative to the project; max_credits. If the source is a table of a warehouse, set query and
# connection_env, the environment variable with its address. The project needs the resource once:
#   dg scaffold defs eb_dagster.ExactBuyerResourceComponent exactbuyer
# A first run with the config {"dry_run": true} shows what it may cost, and sends nothing.
"""


def setting(name: str) -> dg.Resolver:
    """What the YAML schema says about a setting, from the table of settings."""
    return described(SETTINGS[name].description)


def _columns_of(what: str) -> dg.Resolver:
    return described(
        f"Columns of {what}, in place of identifiers. Profiles are asked first, phone numbers last; identifiers can "
        "choose another order. Default: none."
    )


def _choice_of(literal: Any) -> Any:
    """One of these words. dg itself lets any text pass, for it may be a template."""
    return Field(json_schema_extra={"pattern": rf"^({'|'.join(get_args(literal))}|\{{\{{.*)$"})


# `dg check yaml` checks these and shows the line. When the component is loaded, an error says it in words.
ABOVE_0 = Field(json_schema_extra={"exclusiveMinimum": 0})
FROM_0 = Field(json_schema_extra={"minimum": 0})
_IN_A_REQUEST = Field(json_schema_extra={"minimum": 1, "maximum": 1000})
_TWO_LETTERS = Field(json_schema_extra={"pattern": r"^([A-Za-z]{2}|\{\{.*)$"})


@dg.scaffold_with(EnrichedContactsScaffolder)
class EnrichedContactsComponent(dg.Component, dg.Model, Spelled):
    """Enrich the identifiers that an asset gives: buy each contact once, write a Parquet table.

    The project defines the `ExactBuyerResource`, once, under `resource_key`. A subclass may override
    `get_asset_spec` and `execute`.
    """

    asset: Annotated[dg.ResolvedAssetSpec, described("Key and attributes of the asset.")]
    source: Annotated[
        str | list[str],
        described(
            "Key of the asset that gives the identifiers; with a query, keys of the assets that it depends on."
        ),
    ]
    path: Annotated[
        str | None,
        described(
            "The Parquet table, or a folder with a file for each Dagster partition; relative to the "
            "project. null hands the table to the I/O manager."
        ),
    ]
    query: Annotated[
        str | None, described("SELECT that gives the identifiers, if the source is a table of a warehouse.")
    ] = None
    connection_env: Annotated[
        str | None, described("Environment variable with the URL of the query's database.")
    ] = None
    connection_resource: Annotated[
        str | None,
        described("Key of the project's resource that runs the query, such as a DuckDBResource."),
    ] = None
    io_manager_key: Annotated[
        str | None, described("Key of the I/O manager that takes the table if path is null.")
    ] = None
    resource_key: Annotated[str, described("Key of the project's ExactBuyerResource.")] = "exactbuyer"
    identifiers: Annotated[dict[FieldType, str | list[str]] | None, setting("identifiers")] = None
    social_profile: Annotated[str | list[str] | None, _columns_of("profiles")] = None
    email: Annotated[str | list[str] | None, _columns_of("e-mail addresses")] = None
    phone: Annotated[str | list[str] | None, _columns_of("phone numbers")] = None
    person: Annotated[dict[PersonPart, str] | None, setting("person")] = None
    required_fields: Annotated[Sequence[RequiredField], setting("required_fields")] = ()
    default_region: Annotated[str | None, _TWO_LETTERS, setting("default_region")] = None
    max_credits: Annotated[int | None, FROM_0, setting("max_credits")] = None
    over_budget: Annotated[OverBudgetChoice, _choice_of(OverBudgetChoice), setting("over_budget")] = "stop"
    max_age_days: Annotated[float | None, ABOVE_0, setting("max_age")] = None
    retry_misses_after_days: Annotated[float | None, ABOVE_0, setting("retry_misses_after")] = None
    partition_size: Annotated[int, _IN_A_REQUEST, setting("partition_size")] = 1000
    aliases: Annotated[Sequence[FieldType], setting("aliases")] = ("email", "social_profile")
    prefix: Annotated[str, setting("prefix")] = "eb_"
    columns: Annotated[list[str] | None, setting("columns")] = None
    lists: Annotated[ListsChoice, _choice_of(ListsChoice), setting("lists")] = "list"
    checks: Annotated[
        EnrichmentChecks, described("Bounds, severity and blocking of each check; null leaves a check out.")
    ] = EnrichmentChecks()
    cost_center: Annotated[
        str | None, described("Who pays: a tag of the asset, shown with what each run spent.")
    ] = None
    op: Annotated[OpSpec | None, described("Tags, pool and backfill policy of the step.")] = None
    max_retries: Annotated[
        int,
        described("How often a step is retried if the API was busy; what was bought is not bought again."),
    ] = 0

    def get_asset_spec(self) -> dg.AssetSpec:
        """The spec of the asset. Override it to change the key, to add tags, and so on."""
        return self.asset

    def execute(
        self, context: dg.AssetExecutionContext, enrichment: Enrichment, identifiers: Any
    ) -> Iterator[Event]:
        """Enrich the value of the source. Override it to do more before or afterwards."""
        yield from enrichment.materialize(context, identifiers)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The asset and its checks."""
        op = self.op or OpSpec()
        asset = build_enriched_contacts_asset(
            spec=self.get_asset_spec(),
            source=self._sources(),
            query=self.query,
            connection=self._connection(),
            path=None if self.path is None else in_project(context, self.path),
            resource_key=self.resource_key,
            io_manager_key=self.io_manager_key,
            checks=self.checks,
            cost_center=self.cost_center,
            execute=self.execute,
            pool=op.pool,
            op_tags=op.tags,
            backfill_policy=op.backfill_policy,
            retry_policy=dg.RetryPolicy(max_retries=self.max_retries, delay=60) if self.max_retries else None,
            **self._settings(),
        )
        return dg.Definitions(assets=[asset])

    def _sources(self) -> Any:
        if isinstance(self.source, str):
            return dg.AssetKey.from_user_string(self.source)
        if self.query is None:
            raise ConfigError("several sources do not make one table; give one, or a query that joins them")
        return [dg.AssetKey.from_user_string(key) for key in self.source]

    def _connection(self) -> Any:
        if self.connection_env is not None and self.connection_resource is not None:
            raise ConfigError("a query runs on connection_env or connection_resource: give one of them")
        return self.connection_resource if self.connection_env is None else dg.EnvVar(self.connection_env)

    def _settings(self) -> TableOptions:
        return {
            "identifiers": self.identifiers,
            "social_profile": self.social_profile,
            "email": self.email,
            "phone": self.phone,
            "person": cast("Mapping[str, str] | None", self.person),
            "required_fields": self.required_fields,
            "default_region": self.default_region,
            "max_credits": self.max_credits,
            "over_budget": self.over_budget,
            "max_age": days("max_age_days", self.max_age_days),
            "retry_misses_after": days("retry_misses_after_days", self.retry_misses_after_days),
            "partition_size": self.partition_size,
            "aliases": self.aliases,
            "prefix": self.prefix,
            "columns": self.columns,
            "lists": self.lists,
        }


def in_project(context: dg.ComponentLoadContext, path: str) -> Place:
    """The place of a table: a path is relative to the project."""
    table = place(path)
    # A run may start in any folder, so the path is made absolute.
    return context.project_root / table.expanduser() if isinstance(table, Path) else table
