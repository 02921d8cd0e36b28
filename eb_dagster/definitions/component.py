"""The component for `dg`: the asset factory, from YAML."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import dagster as dg
from dagster.components.resolved.core_models import OpSpec
from pydantic import BaseModel, Field

from eb_dagster.definitions.assets import build_enriched_contacts_asset
from eb_dagster.definitions.checks import EnrichmentChecks
from eb_dagster.definitions.materialize import Enrichment, EnrichmentSettings, Event, days
from eb_dagster.identifiers.model import FieldType
from eb_dagster.tables.object_store import Place, place

RequiredField = Literal["email", "work_email", "personal_email", "phone", "social_profile"]


class ScaffoldParams(BaseModel):
    """What `dg scaffold defs eb_dagster.EnrichedContactsComponent` may be told."""

    source: str = Field(default="leads", description="Key of the asset that gives the identifiers.")


class EnrichedContactsScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a defs.yaml that loads, and names what to look at next."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:  # noqa: D102
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:  # noqa: D102
        name = request.target_path.name
        attributes = {
            "asset": {"key": name, "group_name": "contacts"},
            "source": request.params.source,
            "path": f"data/{name}.parquet",
            "identifiers": {"social_profile": "linkedin_url", "email": "email"},
            "max_credits": 1000,
            "checks": {"match_rate": {"min": 0.3}},
        }
        dg.scaffold_component(request, attributes)
        if request.scaffold_format == "yaml" and not request.append:
            file = request.target_path / "defs.yaml"
            file.write_text(_SCAFFOLD_NOTE + file.read_text("utf-8"), "utf-8")


_SCAFFOLD_NOTE = """\
# Set: source, the asset with the identifiers; identifiers, its columns in the order of asking;
# path, relative to the project; max_credits. The project needs the resource once, in a file such
# as defs/resources.py:
#   defs = dg.Definitions(resources={"exactbuyer": eb_dagster.ExactBuyerResource(
#       api_key=dg.EnvVar("EXACTBUYER_API_KEY"), ledger=dg.EnvVar("EB_DAGSTER_LEDGER"))})
# A first run with the config {"dry_run": true} shows what it may cost, and sends nothing.
"""


def _says(description: str) -> dg.Resolver:
    return dg.Resolver.default(description=description)


# For `dg check yaml`, which shows the line; whoever loads it is told in words.
_ABOVE_0 = Field(json_schema_extra={"exclusiveMinimum": 0})


@dg.scaffold_with(EnrichedContactsScaffolder)
class EnrichedContactsComponent(dg.Component, dg.Model, dg.Resolvable):
    """Enrich the identifiers that an asset gives: buy each contact once, write a Parquet table.

    The project defines the `ExactBuyerResource`, once, under `resource_key`. A subclass may override
    `get_asset_spec` and `execute`.
    """

    asset: Annotated[dg.ResolvedAssetSpec, _says("Key and attributes of the asset.")]
    source: Annotated[dg.ResolvedAssetKey, _says("Key of the asset that gives the identifiers.")]
    path: Annotated[
        str | None,
        _says(
            "The Parquet table, or a folder with a file for each Dagster partition; relative to the "
            "project. null hands the table to the I/O manager."
        ),
    ]
    io_manager_key: Annotated[
        str | None, _says("Key of the I/O manager that takes the table if path is null.")
    ] = None
    resource_key: Annotated[str, _says("Key of the project's ExactBuyerResource.")] = "exactbuyer"
    identifiers: Annotated[
        dict[FieldType, str | list[str]] | None,
        _says(
            "Columns with social_profile, email and phone, in the order of asking; found by their "
            "names if not given."
        ),
    ] = None
    person: Annotated[
        dict[Literal["name", "first_name", "last_name", "company"], str] | None,
        _says(
            "Columns with the name and company of whom a row is about; compared, never sent. Adds eb_agrees."
        ),
    ] = None
    required_fields: Annotated[
        Sequence[RequiredField],
        _says("Fields that a contact must hold to count as found, and to be charged."),
    ] = ()
    default_region: Annotated[str | None, _says("Two-letter country for phones without a country code.")] = (
        None
    )
    max_credits: Annotated[int | None, _says("Credits that a run may spend; null for no cap.")] = None
    over_budget: Annotated[
        Literal["stop", "refuse"],
        _says("stop buys in order up to max_credits; refuse sends nothing if the plan costs more."),
    ] = "stop"
    max_age_days: Annotated[
        float | None, _ABOVE_0, _says("Buy contacts again that are older; null for never.")
    ] = None
    retry_misses_after_days: Annotated[
        float | None, _ABOVE_0, _says("Ask again for misses that are older; null for never.")
    ] = None
    partition_size: Annotated[int, _says("Identifiers in one request, 1 to 1000.")] = 1000
    aliases: Annotated[
        Sequence[FieldType], _says("Kinds of identifiers inside a bought contact that answer for it.")
    ] = ("email", "social_profile")
    prefix: Annotated[str, _says("Of every column that is added.")] = "eb_"
    columns: Annotated[list[str] | None, _says("Contact columns to keep; null for all.")] = None
    lists: Annotated[
        Literal["list", "json"], _says("json writes lists as JSON text, for databases without arrays.")
    ] = "list"
    checks: Annotated[
        EnrichmentChecks, _says("Bounds, severity and blocking of each check; null leaves one out.")
    ] = EnrichmentChecks()
    op: Annotated[OpSpec | None, _says("Tags, pool and backfill policy of the step.")] = None
    max_retries: Annotated[
        int, _says("Of a step that failed because the API was busy; what was bought is not bought again.")
    ] = 0

    def get_asset_spec(self) -> dg.AssetSpec:
        """The spec of the asset. Override it to change the key, add tags, and so on."""
        return self.asset

    def execute(
        self, context: dg.AssetExecutionContext, enrichment: Enrichment, identifiers: Any
    ) -> Iterator[Event]:
        """Enrich the value of the source. Override it to do something before, after or in between."""
        yield from enrichment.materialize(context, identifiers)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The asset and its checks."""
        op = self.op or OpSpec()
        asset = build_enriched_contacts_asset(
            spec=self.get_asset_spec(),
            source=self.source,
            path=None if self.path is None else _in_project(context, self.path),
            resource_key=self.resource_key,
            io_manager_key=self.io_manager_key,
            checks=self.checks,
            execute=self.execute,
            pool=op.pool,
            op_tags=op.tags,
            backfill_policy=op.backfill_policy,
            retry_policy=dg.RetryPolicy(max_retries=self.max_retries, delay=60) if self.max_retries else None,
            **self._settings(),
        )
        return dg.Definitions(assets=[asset])

    def _settings(self) -> EnrichmentSettings:
        return {
            "identifiers": self.identifiers,
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


def _in_project(context: dg.ComponentLoadContext, path: str) -> Place:
    found = place(path)
    # A run may start in any folder.
    return context.project_root / found.expanduser() if isinstance(found, Path) else found
