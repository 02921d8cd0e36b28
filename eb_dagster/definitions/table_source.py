"""Sources that are tables: a query of a warehouse, or a function of the user's, read when the asset runs."""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, cast

import dagster as dg

from eb_dagster.definitions.upstream import is_path
from eb_dagster.errors import ConfigError, InputError
from eb_dagster.tables.query import query_source
from eb_dagster.tables.source import Source, batches_source, source_of
from eb_dagster.tables.spool import spooled

ReadTable = Callable[[dg.AssetExecutionContext], Any]
"""Gives the table of identifiers: whatever an upstream asset may give, or batches of Arrow."""
Query = str | Callable[[dg.AssetExecutionContext], str]
"""SQL, or a function that writes it, such as for the partition of the run."""

_COLUMN_SCHEMA = "dagster/column_schema"


@dataclass(frozen=True, kw_only=True)
class QuerySource:
    """Rows of a warehouse. They are kept on disk while the run lasts, so that the query runs once."""

    query: Query
    # The address of a database may hold a password.
    connection: Any = field(repr=False)

    def __post_init__(self) -> None:
        if not (callable(self.query) or self.query.strip()):
            raise ConfigError("query is empty; give a SELECT, or leave it out")

    @property
    def resource_key(self) -> str | None:
        """The key of the project's resource that connects; None if it is an address, a path or a variable."""
        given = self.connection
        # The name of a variable is a text too.
        is_text = isinstance(given, str) and not isinstance(given, dg.EnvVar)
        return given if is_text and given.isidentifier() else None

    def read(self, context: dg.AssetExecutionContext) -> Source:
        """Run the query. Raises `ConfigError` or `InputError` if it fails; nothing was sent by then."""
        query = self.query(context) if callable(self.query) else self.query
        with contextlib.ExitStack() as stack:
            return query_source(query, self._connect(context, stack)).held()

    def _connect(self, context: dg.AssetExecutionContext, stack: contextlib.ExitStack) -> Any:
        given = self.connection
        if self.resource_key is not None:
            given = getattr(context.resources, self.resource_key)
        elif isinstance(given, dg.EnvVar):
            given = variable_value(given, of="connection")
        elif isinstance(given, dg.ConfigurableResource):
            # Outside the project's resources, nobody has read its environment yet.
            given = cast("Any", given).process_config_and_initialize()
        # As the resources of dagster-duckdb, dagster-snowflake and dagster-gcp offer it.
        for opener in ("get_connection", "get_client"):
            if hasattr(given, opener):
                return stack.enter_context(getattr(given, opener)())
        return given


@dataclass(frozen=True, kw_only=True)
class FunctionSource:
    """What a function of the user's gives when the asset runs."""

    function: ReadTable

    @property
    def resource_key(self) -> None:
        """None: what the function needs, it finds in its context."""

    def read(self, context: dg.AssetExecutionContext) -> Any:
        """Call it. A stream is kept on disk while the run lasts, so that it can be read again."""
        value = self.function(context)
        if is_path(value) or _is_mapping(value):
            return value
        source = source_of(value)
        if source is None and _is_iterable(value):
            source = batches_source(value)
        if source is None:
            raise InputError(
                f"read gives {type(value).__name__}, which cannot be enriched; return a dataframe, Arrow data, a "
                "DuckDB relation, or the path of a Parquet or CSV file"
            )
        return spooled(source)


TableSource = QuerySource | FunctionSource


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_iterable(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable)


def table_source_of(
    *, query: Query | None, connection: Any, read: ReadTable | None
) -> QuerySource | FunctionSource | None:
    """The source that is a table; None if it is the value of the asset upstream.

    Raises:
        ConfigError: these do not go together.

    """
    if query is not None and read is not None:
        raise ConfigError("the table comes from query or from read: give one of them")
    if (query is None) != (connection is None):
        raise ConfigError("query and connection go together; give both, or neither")
    if query is not None:
        return QuerySource(query=query, connection=connection)
    return None if read is None else FunctionSource(function=read)


def variable_value(variable: dg.EnvVar, *, of: str) -> str:
    """What the environment says now. Raises `ConfigError` that names the variable."""
    value = os.environ.get(variable.env_var_name, "")
    if not value:
        raise ConfigError(
            f"{of} comes from the environment variable {variable.env_var_name}, which is not set where this run "
            "is; set it there"
        )
    return value


def known_columns(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey], declared: Mapping[dg.AssetKey, Sequence[str]]
) -> dict[dg.AssetKey, Sequence[str]]:
    """The columns of these assets, as far as their definition or their newest materialization says so."""
    columns = dict(declared)
    for key in keys:
        event = instance.get_latest_materialization_event(key)
        made = None if event is None else event.asset_materialization
        schema = None if made is None else made.metadata.get(_COLUMN_SCHEMA)
        if isinstance(schema, dg.TableSchemaMetadataValue):
            columns[key] = [column.name for column in schema.schema.columns]
    return columns


def declared_columns(source: object) -> dict[dg.AssetKey, Sequence[str]]:
    """The columns that the specs of an asset, or of each of several, declare."""
    # Dagster's own records are tuples too.
    if type(source) in (list, tuple):
        parts = [declared_columns(each) for each in cast("Sequence[object]", source)]
        return {key: names for part in parts for key, names in part.items()}
    if isinstance(source, dg.AssetSpec):
        specs: Iterable[dg.AssetSpec] = [source]
    else:
        specs = source.specs if isinstance(source, dg.AssetsDefinition) else ()
    return {
        spec.key: [column.name for column in schema.columns]
        for spec in specs
        if isinstance(schema := _table_schema(spec), dg.TableSchema)
    }


def _table_schema(spec: dg.AssetSpec) -> object:
    value = spec.metadata.get(_COLUMN_SCHEMA)
    return value.schema if isinstance(value, dg.TableSchemaMetadataValue) else value
