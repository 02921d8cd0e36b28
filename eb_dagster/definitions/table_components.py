"""The components beside the enriched table: the project's resource, and the tables of a warehouse."""

from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.core_models import OpSpec, ResolvedAssetAttributes
from pydantic import BaseModel, Field

from eb_dagster.definitions.checks import described
from eb_dagster.definitions.component import ABOVE_0, FROM_0, in_project, scaffold_with_note, setting
from eb_dagster.definitions.contact_tables import build_contact_tables_asset
from eb_dagster.definitions.resource import ExactBuyerResource
from eb_dagster.definitions.spelling import Spelled
from eb_dagster.errors import ConfigError
from eb_dagster.settings import InDoubtChoice
from eb_dagster.settings.environment import BASE_URL_VARIABLE, KEY_VARIABLE, LEDGER_VARIABLE

_FROM_1 = Field(json_schema_extra={"minimum": 1})
_A_VARIABLE = Field(json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})


class ResourceScaffolder(dg.Scaffolder[Any]):
    """Writes a defs.yaml that names the three variables of the environment."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:  # noqa: D102
        attributes = {"api_key_env": KEY_VARIABLE, "ledger_env": LEDGER_VARIABLE}
        scaffold_with_note(request, attributes, _RESOURCE_NOTE)


_RESOURCE_NOTE = f"""\
# Once in a project. Secrets are given by the name of their environment variable, never as they are:
# the key, and the ledger, an absolute path or a database's URL. For the sandbox, add
# base_url_env: {BASE_URL_VARIABLE}
"""


@dg.scaffold_with(ResourceScaffolder)
class ExactBuyerResourceComponent(dg.Component, dg.Model, Spelled):
    """ExactBuyer's API and the ledger that pays for a contact once. Once in a project.

    Secrets are named by their environment variable, which is read when a run starts.
    """

    resource_key: Annotated[str, described("Key of the resource in the project.")] = "exactbuyer"
    api_key_env: Annotated[str, _A_VARIABLE, described("Environment variable with the API key.")] = (
        KEY_VARIABLE
    )
    ledger_env: Annotated[
        str, _A_VARIABLE, described("Environment variable with the ledger: an absolute path, or a URL.")
    ] = LEDGER_VARIABLE
    base_url_env: Annotated[
        str | None,
        _A_VARIABLE,
        described("Environment variable with the API's address, if it is not the vendor's."),
    ] = None
    proxy_env: Annotated[
        str | None, _A_VARIABLE, described("Environment variable with the proxy, which may hold a password.")
    ] = None
    ca_bundle: Annotated[str | None, setting("ca_bundle")] = None
    requests_per_minute: Annotated[float | None, ABOVE_0, setting("requests_per_minute")] = None
    max_credits_at_risk: Annotated[int | None, _FROM_1, setting("max_credits_at_risk")] = None
    max_credits_per_day: Annotated[int | None, FROM_0, setting("max_credits_per_day")] = None
    max_credits_per_month: Annotated[int | None, FROM_0, setting("max_credits_per_month")] = None
    timeout: Annotated[float | None, ABOVE_0, setting("timeout")] = None
    price: Annotated[float | None, FROM_0, setting("price")] = None
    in_doubt: Annotated[InDoubtChoice | None, setting("in_doubt")] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """The resource."""
        variables = {
            "api_key": self.api_key_env,
            "ledger": self.ledger_env,
            "base_url": self.base_url_env,
            "proxy": self.proxy_env,
        }
        plain: dict[str, Any] = {
            name: value
            for name, value in ((name, getattr(self, name, None)) for name in ExactBuyerResource.model_fields)
            if value is not None
        }
        secrets: dict[str, Any] = {
            name: dg.EnvVar(variable) for name, variable in variables.items() if variable
        }
        resource = ExactBuyerResource(**plain, **secrets)
        return dg.Definitions(resources={self.resource_key: resource})


class ContactTablesParams(BaseModel):
    """The options of `dg scaffold defs eb_dagster.ContactTablesComponent`."""

    source: str = Field(
        default="enriched_contacts", description="Key of the asset that writes the enriched table."
    )
    path: str | None = Field(default=None, description="The enriched table, relative to the project.")
    destination_env: str = Field(
        default="WAREHOUSE", description="Environment variable with the warehouse's URL."
    )
    dataset: str = Field(default="crm", description="Schema in the warehouse.")
    key: str | None = Field(default=None, description="Column of the input that tells one row from another.")


class ContactTablesScaffolder(dg.Scaffolder[ContactTablesParams]):
    """Writes a defs.yaml that loads."""

    @classmethod
    def get_scaffold_params(cls) -> type[ContactTablesParams]:  # noqa: D102
        return ContactTablesParams

    def scaffold(self, request: dg.ScaffoldRequest[ContactTablesParams]) -> None:  # noqa: D102
        params = request.params
        attributes = {
            "source": params.source,
            "path": params.path or f"data/{params.source.rpartition('/')[2]}.parquet",
            "destination_env": params.destination_env,
            "dataset": params.dataset,
            **({"key": params.key} if params.key else {}),
            "asset_attributes": {"group_name": "contacts"},
        }
        scaffold_with_note(request, attributes, _TABLES_NOTE)


_TABLES_NOTE = """\
# path is the table that source writes, relative to the project; destination_env is the environment
# variable with the warehouse's URL (postgresql://…, duckdb:///…); dataset is the schema there; key is the
# column of the input that tells one row from another.
"""


@dg.scaffold_with(ContactTablesScaffolder)
class ContactTablesComponent(dg.Component, dg.Model, Spelled):
    """The contacts as six tables of a warehouse, each an asset, loaded by dlt in one step."""

    source: Annotated[dg.ResolvedAssetKey, described("Key of the asset that writes the enriched table.")]
    path: Annotated[
        str, described("The enriched table, or its folder with Dagster partitions; relative to the project.")
    ]
    dataset: Annotated[str, described("Schema in the warehouse.")]
    destination_env: Annotated[
        str | None, _A_VARIABLE, described("Environment variable with the warehouse's URL.")
    ] = None
    destination: Annotated[
        str | None,
        described(
            "dlt's name of a destination, which dlt's own settings set up, or a URL without a password."
        ),
    ] = None
    key: Annotated[
        str | list[str],
        described("Columns of the input that tell rows apart; by default, the identifier that answered."),
    ] = ()  # pyright: ignore[reportAssignmentType]
    key_prefix: Annotated[str | list[str], described("Prefix of the assets' keys.")] = ""
    is_whole: Annotated[
        bool | None, described("Whether people who are not in the table are deleted from the warehouse.")
    ] = None
    history: Annotated[bool, described("Keep each contact's jobs over time as well.")] = False
    table_format: Annotated[
        Literal["delta", "iceberg"] | None, described("For a data lake: delta or iceberg.")
    ] = None
    prefix: Annotated[str, setting("prefix")] = "eb_"
    asset_attributes: Annotated[
        ResolvedAssetAttributes | None,
        described("Group, owners, tags, partitions and so on, of each table."),
    ] = None
    op: Annotated[OpSpec | None, described("Tags, pool and backfill policy of the step.")] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets and their checks."""
        op, destination = self.op or OpSpec(), self._destination()
        asset = build_contact_tables_asset(
            source=self.source,
            path=in_project(context, self.path),
            destination=destination,
            dataset=self.dataset,
            key=self.key,
            key_prefix=self.key_prefix or (),
            is_whole=self.is_whole,
            history=self.history,
            table_format=self.table_format,
            prefix=self.prefix,
            pool=op.pool,
            op_tags=op.tags,
            backfill_policy=op.backfill_policy,
            **self._attributes(),
        )
        return dg.Definitions(assets=[asset])

    def _destination(self) -> Any:
        if (self.destination is None) == (self.destination_env is None):
            raise ConfigError("the tables go to destination or destination_env: give one of them")
        return self.destination if self.destination_env is None else dg.EnvVar(self.destination_env)

    def _attributes(self) -> dict[str, Any]:
        given = self.asset_attributes or {}
        return {name: value for name, value in dict(given).items() if value is not None and name != "key"}
