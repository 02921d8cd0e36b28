"""The contacts as tables of a warehouse: one asset for each table, made by one step."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Unpack

import dagster as dg

from eb_dagster.definitions.assets import OpAttributes, SpecAttributes
from eb_dagster.definitions.materialize import failure, partition_file
from eb_dagster.definitions.metadata import code_reference
from eb_dagster.definitions.table_source import variable_value
from eb_dagster.errors import ConfigError, counted, shown_list
from eb_dagster.tables.object_store import ObjectPath, Place, place

if TYPE_CHECKING:
    from eb_dagster.warehouse.load import LoadedTable
    from eb_dagster.warehouse.source import SourceSettings

_COUNTS_AGREE = "row_counts_agree"
_NO_ORPHANS = "no_orphans"

Event = dg.MaterializeResult[Any] | dg.AssetCheckResult


class ContactTablesKeywords(SpecAttributes, OpAttributes, total=False):
    """The keywords that `build_contact_tables_asset` passes on to every spec, and to the step."""


def build_contact_tables_asset(
    *,
    source: str
    | Sequence[str]
    | dg.AssetKey
    | dg.AssetDep
    | dg.AssetSpec
    | dg.AssetsDefinition = "enriched_contacts",
    path: str | os.PathLike[str] | ObjectPath,
    destination: Any,
    dataset: str,
    key: str | Sequence[str] = (),
    name: str | None = None,
    key_prefix: str | Sequence[str] = (),
    is_whole: bool | None = None,
    history: bool = False,
    table_format: Literal["delta", "iceberg"] | None = None,
    prefix: str = "eb_",
    folder: str | os.PathLike[str] | None = None,
    deps: Iterable[Any] = (),
    **keywords: Unpack[ContactTablesKeywords],
) -> dg.AssetsDefinition:
    """Assets for `contacts` and its five parts in a warehouse, loaded by dlt in one step.

    Each can be materialized alone. A second load adds no row; a contact that was bought again is replaced, parts
    included.

    Args:
        source: the asset that writes the enriched table.
        path: that table, as given to `build_enriched_contacts_asset`; with Dagster partitions, its folder.
        destination: a `dg.EnvVar` that holds a URL, a URL (postgresql://…, duckdb:///…), dlt's name of a
            destination, or one of `dlt.destinations`.
        dataset: the schema in the warehouse.
        key: the columns of the input that tell one row from another. By default, the identifier that answered.
        name: name of the step; by default that of the first asset.
        key_prefix: prefix of the assets' keys. The last part of a key is the name of the table.
        is_whole: the table has everybody, so who is not in it is deleted from the warehouse, above all a forgotten
            person. By default that is so without Dagster partitions; with them, each replaces the people in it.
        history: keep the table `contact_job_history` as well.
        table_format: for a data lake, "delta" or "iceberg".
        prefix: the one that the table was enriched with.
        folder: where dlt keeps people while it loads; by default, the system's folder for temporary files.
        deps: more assets that these wait for.
        **keywords: for every spec, as of `dg.AssetSpec`: description, metadata, group_name, owners, tags, kinds,
            code_version, partitions_def, automation_condition, freshness_policy; and for the step: backfill_policy,
            pool, retry_policy, op_tags, hooks.

    Raises:
        ConfigError: settings that do not go together.

    """
    _check_keywords(keywords)
    if not dataset:
        raise ConfigError("dataset is empty; give the schema in the warehouse")
    partitions_def = keywords.get("partitions_def")
    if partitions_def is not None and (is_whole or table_format):
        raise ConfigError(
            "a partition is a part: leave out is_whole=True and table_format, which replace whole tables"
        )
    source_dep = dg.AssetDep.from_coercible(source)
    load = _Load(
        source=source_dep.asset_key,
        path=place(path),
        destination=destination,
        dataset=dataset,
        settings={
            "key": key,
            "is_whole": partitions_def is None if is_whole is None else is_whole,
            "history": history,
            "table_format": table_format,
            "prefix": prefix,
        },
        folder=folder,
        partitions_def=partitions_def,
        is_named="dagster/table_name" in (keywords.get("metadata") or {}),
    )
    prefix_parts = [key_prefix] if isinstance(key_prefix, str) else [*key_prefix]
    specs = [
        _spec(table, [*prefix_parts, table], load, [source_dep, *deps], keywords)
        for table in load.table_names
    ]
    keys = {spec.key: table for spec, table in zip(specs, load.table_names, strict=True)}

    @dg.multi_asset(
        name=name or specs[0].key.to_python_identifier(),
        specs=specs,
        check_specs=[check for spec in specs for check in _check_specs(spec.key, keys[spec.key])],
        can_subset=True,
        **_step_keywords(keywords),
    )
    def contact_tables(context: dg.AssetExecutionContext) -> Iterator[Event]:
        yield from load.run(context, keys)

    return contact_tables


def _check_keywords(keywords: ContactTablesKeywords) -> None:
    known = ContactTablesKeywords.__annotations__
    if unknown := sorted(set(keywords) - set(known)):
        raise ConfigError(f"no such keyword: {shown_list(unknown)}; choose from {sorted(known)}")


def _step_keywords(keywords: ContactTablesKeywords) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if name in OpAttributes.__annotations__}


def _spec(
    table: str, key: Sequence[str], load: "_Load", deps: Iterable[Any], keywords: ContactTablesKeywords
) -> dg.AssetSpec:
    from eb_dagster.warehouse.tables import TABLE_DESCRIPTIONS

    given: dict[str, Any] = {
        name: value for name, value in keywords.items() if name in SpecAttributes.__annotations__
    }
    kind = load.storage_kind
    own: dict[str, Any] = {"dagster/column_schema": load.usual_columns(table), **code_reference()}
    if kind is not None:
        own["dagster/storage_kind"] = kind
    attributes: dict[str, Any] = {
        **given,
        "description": given.get("description") or TABLE_DESCRIPTIONS[table],
        # What the user says of the table stays.
        "metadata": {**own, **(given.get("metadata") or {})},
        "kinds": given.get("kinds") or {"dlt", *([kind] if kind else [])},
    }
    return dg.AssetSpec(key, deps=list(deps), **attributes)


def _check_specs(key: dg.AssetKey, table: str) -> Iterator[dg.AssetCheckSpec]:
    counts = "The warehouse has as many rows as the load gave it."
    yield dg.AssetCheckSpec(_COUNTS_AGREE, asset=key, description=counts)
    if table != "contacts":
        yield dg.AssetCheckSpec(
            _NO_ORPHANS, asset=key, description="Every row belongs to a row of the table of contacts."
        )


@dataclass(frozen=True, kw_only=True)
class _Load:
    """What a run of the step does."""

    source: dg.AssetKey
    path: Place
    # The address of a database may hold a password.
    destination: Any = field(repr=False)
    dataset: str
    settings: "SourceSettings"
    folder: str | os.PathLike[str] | None
    partitions_def: dg.PartitionsDefinition[Any] | None
    is_named: bool
    """Whether the user says what the tables are called."""

    @property
    def table_names(self) -> list[str]:
        """The tables of this load, contacts first."""
        from eb_dagster.warehouse.tables import CONTACTS, HISTORY, PARTS

        names = [CONTACTS, *(part.table for part in PARTS)]
        return [*names, HISTORY] if self.settings.get("history") else names

    @property
    def storage_kind(self) -> str | None:
        """The kind of warehouse, as far as it is known before a run."""
        from eb_dagster.warehouse.query import destination_of

        if isinstance(self.destination, dg.EnvVar):
            return None
        target = destination_of(self.destination)
        return target if isinstance(target, str) else target.destination_name

    def usual_columns(self, table: str) -> dg.TableSchema:
        """The columns that a table has whatever the user's own are."""
        from eb_dagster.contacts.schema import arrow_schema
        from eb_dagster.warehouse.tables import Layout, described, table_schemas

        prefix = self.settings.get("prefix", "eb_")
        schema = table_schemas(Layout.of(arrow_schema(prefix=prefix), key=(), prefix=prefix))[table]
        return dg.TableSchema(
            columns=[dg.TableColumn(each.name, str(each.type), described(each)) for each in schema]
        )

    def run(self, context: dg.AssetExecutionContext, keys: Mapping[dg.AssetKey, str]) -> Iterator[Event]:
        """Load the tables that are selected, one partition after the other."""
        selected = {key: name for key, name in keys.items() if key in context.selected_asset_keys}
        if not selected:
            raise dg.Failure(
                "these checks compare a load with the warehouse; materialize the tables to run them",
                allow_retries=False,
            )
        try:
            loads = {
                partition: self._load_file(file, list(selected.values()))
                for partition, file in self._files(context).items()
            }
        except Exception as error:
            # What a database says may quote a row.
            raise failure(error, {}) from None
        for key, name in selected.items():
            tables = {
                partition: table
                for partition, loaded in loads.items()
                for table in loaded
                if table.name == name
            }
            yield from self._results(context, key, tables)

    def _load_file(self, file: Place, names: Sequence[str]) -> "list[LoadedTable]":
        from eb_dagster.warehouse.load import load_tables
        from eb_dagster.warehouse.query import destination_of

        given = self.destination
        address = variable_value(given, of="destination") if isinstance(given, dg.EnvVar) else given
        return load_tables(
            file,
            destination_of(address),
            dataset=self.dataset,
            names=names,
            folder=self.folder,
            **self.settings,
        )

    def _files(self, context: dg.AssetExecutionContext) -> dict[str | None, Place]:
        if self.partitions_def is None:
            return {None: self.path}
        if not (context.has_partition_key or context.has_partition_key_range):
            raise ConfigError(
                "the tables are partitioned, but this run is not of a partition; launch it for one",
                spent="Nothing was changed",
            )
        return {key: self.path / partition_file(str(key)) for key in context.partition_keys}

    def _results(
        self,
        context: dg.AssetExecutionContext,
        key: dg.AssetKey,
        tables: "Mapping[str | None, LoadedTable]",
    ) -> Iterator[Event]:
        if not tables:
            # The enriched table was written without this column.
            context.log.warning(
                f"{key.to_user_string()} was not loaded: the enriched table has no such column"
            )
            return
        metadata = {partition: self._metadata(table) for partition, table in tables.items()}
        last = list(tables)[-1]
        if len(tables) > 1:
            for partition, values in metadata.items():
                context.add_asset_metadata(values, asset_key=key, partition_key=partition)
        selected = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
        yield dg.MaterializeResult(
            asset_key=key,
            metadata=metadata[last] if len(tables) == 1 else {},
            check_results=[
                result
                for result in self._check(key, tables[last], [table.given for table in tables.values()])
                if result.check_name in selected
            ],
        )

    def _metadata(self, table: "LoadedTable") -> dict[str, Any]:
        lineage = {
            column.name: [
                dg.TableColumnDep(asset_key=self.source, column_name=origin) for origin in column.origins
            ]
            for column in table.columns
        }
        columns = [
            dg.TableColumn(
                column.name,
                column.type,
                column.description,
                dg.TableColumnConstraints(nullable=column.is_nullable),
            )
            for column in table.columns
        ]
        metadata: dict[str, Any] = {
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "dagster/column_lineage": dg.TableColumnLineage(deps_by_column=lineage),
            "dagster/storage_kind": table.storage_kind,
            "exactbuyer/rows_loaded": table.given,
        }
        if self.partitions_def is not None:
            metadata["dagster/partition_row_count"] = table.given
        if table.rows is not None:
            metadata["dagster/row_count"] = table.rows
        if table.table_name is not None and not self.is_named:
            metadata["dagster/table_name"] = table.table_name
        return metadata

    def _check(
        self, key: dg.AssetKey, table: "LoadedTable", given: Sequence[int]
    ) -> Iterator[dg.AssetCheckResult]:
        rows, total = table.rows, sum(given)
        # A part of the people leaves the others as they are, and history keeps what it has.
        is_whole = self.settings.get("is_whole") and table.name != "contact_job_history"
        said = (
            "the destination cannot be asked how many there are"
            if rows is None
            else f"in the table: {rows:,}"
        )
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=_COUNTS_AGREE,
            passed=rows is None or (rows == total if is_whole else rows > 0 or not total),
            metadata={"given": total, **({} if rows is None else {"rows": rows})},
            description=f"given: {counted(total, 'row')}; {said}.",
        )
        if table.name != "contacts":
            orphans = table.orphans or 0
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=_NO_ORPHANS,
                passed=orphans == 0,
                metadata={"orphans": orphans},
                description=f"without a row of contacts: {counted(orphans, 'row')}.",
            )
