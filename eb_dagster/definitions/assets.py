"""The asset factory: what Dagster needs to know before anything runs."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any, TypedDict, Unpack, cast

import dagster as dg
from pydantic import ValidationError

from eb_dagster.definitions.checks import EnrichmentChecks, NamesAgree
from eb_dagster.definitions.materialize import Enrichment, Event, LaunchConfig, failure
from eb_dagster.definitions.metadata import code_reference, column_schema, storage_kind
from eb_dagster.definitions.spend import COST_CENTER
from eb_dagster.definitions.table_source import (
    Query,
    ReadTable,
    TableSource,
    declared_columns,
    table_source_of,
)
from eb_dagster.errors import ConfigError, InputError, did_you_mean, shown, shown_list
from eb_dagster.identifiers.columns import find_layout, likely_kind
from eb_dagster.settings import VENDOR_URL, AssetOptions, TableOptions, read_settings, with_identifiers
from eb_dagster.tables.object_store import ObjectPath, place
from eb_dagster.tables.parquet import SCHEMA_VERSION
from eb_dagster.tables.source import InputColumns

Execute = Callable[[dg.AssetExecutionContext, Enrichment, Any], Iterator[Event]]
SourceAsset = str | Sequence[str] | dg.AssetKey | dg.AssetDep | dg.AssetSpec | dg.AssetsDefinition

_DESCRIPTION = "Contacts bought from ExactBuyer, one row for each row of the input."
_KIND_TAG = "dagster/kind/"


class SpecAttributes(TypedDict, total=False):
    """What `dg.AssetSpec` takes."""

    description: str | None
    metadata: Mapping[str, Any] | None
    group_name: str | None
    code_version: str | None
    automation_condition: dg.AutomationCondition[Any] | None
    freshness_policy: dg.FreshnessPolicy | None
    owners: Sequence[str] | None
    tags: Mapping[str, str] | None
    kinds: set[str] | None
    partitions_def: dg.PartitionsDefinition[Any] | None


class OpAttributes(TypedDict, total=False):
    """What `dg.multi_asset` takes."""

    backfill_policy: dg.BackfillPolicy | None
    hooks: Set[dg.HookDefinition] | None
    op_tags: Mapping[str, Any] | None
    pool: str | None
    retry_policy: dg.RetryPolicy | None


class AssetKeywords(TableOptions, SpecAttributes, OpAttributes, total=False):
    """All keywords that `build_enriched_contacts_asset` passes on."""


def build_enriched_contacts_asset(
    *,
    source: SourceAsset | Sequence[SourceAsset],
    path: str | os.PathLike[str] | ObjectPath | None,
    query: Query | None = None,
    connection: Any = None,
    read: ReadTable | None = None,
    name: str | None = None,
    key_prefix: str | Sequence[str] | None = None,
    spec: dg.AssetSpec | None = None,
    deps: Iterable[Any] = (),
    resource_key: str = "exactbuyer",
    io_manager_key: str | None = None,
    min_match_rate: float | None = None,
    max_match_rate: float | None = None,
    checks: EnrichmentChecks | Mapping[str, Any] | None = None,
    cost_center: str | None = None,
    execute: Execute | None = None,
    **keywords: Unpack[AssetKeywords],
) -> dg.AssetsDefinition:
    """An asset that enriches the table of identifiers from the asset `source`.

    The value of `source` is a pandas dataframe, a Polars or Arrow table, a DuckDB relation, or the path of a
    Parquet or CSV file. It is read in batches: beyond the value itself, memory does not grow with the rows.

    If `source` is a table that somebody else makes, as dbt, dlt, Fivetran, Sling or SQL do, it has no value: give
    `query` and `connection`, or `read`. Then `source` only says what this asset depends on. The rows are kept on
    disk, in a file without a name, while the run lasts; they are read once, before anything is sent.

    Args:
        source: the upstream asset; a `dg.AssetDep` if it needs a partition mapping. With `query` or `read` it may
            be a list of several assets, also of external ones.
        query: SQL that gives the identifiers, or a function of the context that returns it, as for a partition.
        connection: where it is asked: a `dg.EnvVar` or a URL (postgresql://…, snowflake://…, duckdb:///…), the key
            of a resource of the project or such a resource (as `DuckDBResource`), or what `read_query` takes.
        read: a function of the context that returns the table, in place of `query`.
        path: the Parquet table to write, which may be in an object store (s3://bucket/table.parquet); with
            Dagster partitions, a folder with a file for each. None hands the enriched table to an I/O manager,
            as the kind of table that came in (pandas if that was the path of a file, or a query); it then has to
            fit into memory.
        name: name of the asset, after `key_prefix`.
        key_prefix: prefix of the asset's key.
        spec: a whole `dg.AssetSpec` in place of name, prefix and attributes.
        deps: more assets that this one waits for.
        resource_key: key of the `ExactBuyerResource`.
        io_manager_key: key of the I/O manager that takes the table if `path` is None.
        min_match_rate: the check `match_rate` fails below this share.
        max_match_rate: the check `match_rate` fails above this share.
        checks: see `EnrichmentChecks`; a mapping changes the checks that it names, as in
            `{"nothing_in_doubt": {"severity": "ERROR", "blocking": True}, "schema_drift": None}`.
        cost_center: who pays, as the tag `cost_center`; it is shown with what each run spent, and
            `definitions.spend.spend_by_cost_center` adds that up.
        execute: called in place of `Enrichment.materialize`, with the context, the `Enrichment` and the value
            of `source`.
        **keywords: keywords of `Enricher` (those in `TableOptions`, such as `email=`), and of `dg.asset`: description, metadata,
            group_name, owners, tags, kinds, code_version, partitions_def, automation_condition,
            freshness_policy, backfill_policy, pool, retry_policy, op_tags, hooks.

    Raises:
        ConfigError: a keyword or its value is wrong.

    """
    settings = _settings(keywords)
    table_source = table_source_of(query=query, connection=connection, read=read)
    source_deps = _source_deps(source, table_source)
    columns = declared_columns(source)
    if table_source is None:
        _check_columns(columns, settings)
    if path is not None and io_manager_key is not None:
        raise ConfigError("the table goes to path or to the I/O manager: give one of them")
    named_spec = _named_spec(
        spec, name=name, key_prefix=key_prefix, attributes=_among(keywords, SpecAttributes)
    )
    asset_spec = _complete_spec(named_spec, [*source_deps, *deps], settings=settings, path=path)
    if cost_center is not None:
        asset_spec = asset_spec.merge_attributes(tags={COST_CENTER: cost_center})
    if path is None:
        asset_spec = asset_spec.with_io_manager_key(io_manager_key or "io_manager")
    chosen_checks = _read_checks(checks, {"min": min_match_rate, "max": max_match_rate})
    if settings.get("person") is not None and "names_agree" not in _named_checks(checks):
        chosen_checks = chosen_checks.model_copy(update={"names_agree": NamesAgree()})
    table_path = None if path is None else place(path)

    def run(context: dg.AssetExecutionContext, identifiers: Any) -> Iterator[Event]:
        config = _launch_config(context)
        enrichment = Enrichment(
            exactbuyer=getattr(context.resources, resource_key),
            key=asset_spec.key,
            sources=tuple(dep.asset_key for dep in source_deps),
            is_table_source=table_source is not None,
            source_columns=columns,
            path=table_path,
            settings=config.settings(settings),
            checks=chosen_checks,
            partitions_def=asset_spec.partitions_def,
            dry_run=config.dry_run,
        )
        if execute is not None:
            yield from execute(context, enrichment, identifiers)
        else:
            yield from enrichment.materialize(context, identifiers)

    options: dict[str, Any] = {
        "name": asset_spec.key.to_python_identifier(),
        "specs": [asset_spec],
        "check_specs": chosen_checks.specs(asset_spec.key),
        # The config is read in the step itself, where a mistake is reported once and not retried.
        "config_schema": LaunchConfig.to_fields_dict(),
        # A dry run makes no table, and need not pretend that it did.
        "can_subset": True,
        **_among(keywords, OpAttributes),
    }
    if table_source is not None:
        return _of_table(table_source, run, resource_key=resource_key, options=options)
    return _of_value(source_deps[0], run, resource_key=resource_key, options=options)


Run = Callable[[dg.AssetExecutionContext, Any], Iterator[Event]]


def _of_value(
    source: dg.AssetDep, run: Run, *, resource_key: str, options: Mapping[str, Any]
) -> dg.AssetsDefinition:
    """An asset that is given the value of the asset upstream."""
    identifiers_in = dg.AssetIn(key=source.asset_key, partition_mapping=source.partition_mapping)

    @dg.multi_asset(ins={"identifiers": identifiers_in}, required_resource_keys={resource_key}, **options)
    def enriched_contacts(context: dg.AssetExecutionContext, identifiers: Any) -> Iterator[Event]:
        yield from run(context, identifiers)

    return enriched_contacts


def _of_table(
    source: TableSource, run: Run, *, resource_key: str, options: Mapping[str, Any]
) -> dg.AssetsDefinition:
    """An asset that reads a table when it runs."""
    keys = {key for key in (resource_key, source.resource_key) if key}

    @dg.multi_asset(required_resource_keys=keys, **options)
    def enriched_contacts(context: dg.AssetExecutionContext) -> Iterator[Event]:
        # Checks alone look at figures, not at the table.
        identifiers = _read_table(source, context) if context.selected_asset_keys else None
        yield from run(context, identifiers)

    return enriched_contacts


def _read_table(source: TableSource, context: dg.AssetExecutionContext) -> Any:
    try:
        return source.read(context)
    except dg.Failure:
        raise
    except Exception as error:
        # A database's words may quote a row or an address.
        raise failure(error, {}) from None


def _source_deps(
    source: SourceAsset | Sequence[SourceAsset], table_source: TableSource | None
) -> list[dg.AssetDep]:
    """The assets upstream: several only where none of them has to give a value."""
    # Dagster's own records are tuples too.
    parts = cast("Sequence[SourceAsset]", source) if type(source) in (list, tuple) else None
    if parts is not None and table_source is not None:
        return [_source_dep(part) for part in parts]
    if parts is not None and not all(isinstance(part, str) for part in parts):
        raise ConfigError(
            "several sources do not make one table; say with query and connection, or with read, how it is made of them"
        )
    return [_source_dep(source)]


def _source_dep(source: Any) -> dg.AssetDep:
    if source in ("", [], ()):
        raise ConfigError("source is empty; give the key of the asset upstream")
    try:
        return dg.AssetDep.from_coercible(source)
    except (dg.DagsterInvalidDefinitionError, dg.DagsterInvariantViolationError):
        raise ConfigError(
            "source is a definition of several assets; give the key of the one that is meant"
        ) from None


def _check_columns(columns: Mapping[dg.AssetKey, Sequence[str]], settings: AssetOptions) -> None:
    """Find a column that the source says it does not have, when the definitions load."""
    for key, names in columns.items():
        try:
            InputColumns.find(
                names,
                identifiers=settings.get("identifiers"),
                person=settings.get("person"),
                default_region=settings.get("default_region"),
            )
        except InputError as error:
            raise ConfigError(f"source {key.to_user_string()}: {error.args[0]}") from None


def _settings(keywords: AssetKeywords) -> AssetOptions:
    known = AssetKeywords.__annotations__
    unknown = sorted(set(keywords) - set(known))
    if unknown:
        meant = did_you_mean(unknown, sorted(known)) or _meant_kinds(unknown)
        choices = f"; check the spelling{meant}" if meant else f"; choose from {sorted(known)}"
        raise ConfigError(f"no such keyword: {shown_list(unknown)}{choices}")
    settings = cast("AssetOptions", with_identifiers(_among(keywords, TableOptions)))
    _check_settings(settings)
    return settings


def _meant_kinds(names: Sequence[str]) -> str:
    kinds = dict.fromkeys(filter(None, map(likely_kind, names)))
    return f". Did you mean {' and '.join(map(repr, kinds))}?" if kinds else ""


def _among(keywords: AssetKeywords, group: type) -> Any:
    """The keywords that belong to a group of them."""
    return {name: value for name, value in keywords.items() if name in group.__annotations__}


def _check_settings(settings: AssetOptions) -> None:
    """Find a wrong setting when the definitions load, not when a run has begun."""
    # The resource has the other settings. Something stands for them here, so that no environment is read.
    read_settings(
        api_key="the resource's",
        base_url=VENDOR_URL,
        ledger="the resource's",
        proxy="",
        ca_bundle="",
        **settings,
    )
    identifiers = settings.get("identifiers")
    if identifiers is not None:
        columns = [[names] if isinstance(names, str) else names for names in identifiers.values()]
        find_layout(list(dict.fromkeys(chain.from_iterable(columns))), identifiers)


def _named_spec(
    spec: dg.AssetSpec | None,
    *,
    name: str | None,
    key_prefix: str | Sequence[str] | None,
    attributes: SpecAttributes,
) -> dg.AssetSpec:
    if spec is not None:
        if name is not None or key_prefix is not None or attributes:
            raise ConfigError("give a spec, or a name and attributes, not both")
        return spec
    if name is None:
        raise ConfigError("the asset has neither name nor spec; give one of them")
    return dg.AssetSpec([*_key_parts(key_prefix), name], **attributes)


def _launch_config(context: dg.AssetExecutionContext) -> LaunchConfig:
    try:
        return LaunchConfig(**context.op_execution_context.op_config)
    except ConfigError as error:
        raise failure(error, {}) from None


def _key_parts(prefix: str | Sequence[str] | None) -> list[str]:
    return [prefix] if isinstance(prefix, str) else [*(prefix or ())]


def _joined_deps(spec: dg.AssetSpec, deps: Sequence[Any]) -> list[dg.AssetDep]:
    """The dependencies of the spec and these, which come in the place of the spec's own on the same asset."""
    own_deps = [dg.AssetDep.from_coercible(dep) for dep in deps]
    own_keys = {dep.asset_key for dep in own_deps}
    return [*(dep for dep in spec.deps if dep.asset_key not in own_keys), *own_deps]


def _complete_spec(
    spec: dg.AssetSpec, deps: Sequence[Any], *, settings: AssetOptions, path: object
) -> dg.AssetSpec:
    """The spec, with what it does not say itself."""
    # Dagster leaves parameters of its types partly untyped.
    return cast("Any", spec).replace_attributes(
        deps=_joined_deps(spec, deps),
        description=spec.description or _DESCRIPTION,
        code_version=spec.code_version or str(SCHEMA_VERSION),
        metadata={
            "dagster/column_schema": column_schema({}, settings),
            **storage_kind(path),
            **code_reference(),
            **spec.metadata,
        },
        tags={name: value for name, value in spec.tags.items() if not name.startswith(_KIND_TAG)},
        kinds=spec.kinds or _kinds_of(path),
    )


def _kinds_of(path: object) -> set[str]:
    return {"exactbuyer"} if path is None else {"exactbuyer", "parquet"}


def _with_bounds(checks: EnrichmentChecks, bounds: Mapping[str, float]) -> EnrichmentChecks:
    values = {name: getattr(checks, name) for name in type(checks).model_fields}
    match_rate = checks.match_rate.model_dump() if checks.match_rate is not None else {}
    return EnrichmentChecks.model_validate({**values, "match_rate": {**match_rate, **bounds}})


def _read_checks(
    checks: EnrichmentChecks | Mapping[str, Any] | None, bounds: Mapping[str, float | None]
) -> EnrichmentChecks:
    given_bounds = {name: value for name, value in bounds.items() if value is not None}
    try:
        chosen = EnrichmentChecks.model_validate(checks or {})
        return _with_bounds(chosen, given_bounds) if given_bounds else chosen
    except ValidationError as error:
        faults = [f"{_location(fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        names = sorted(EnrichmentChecks.model_fields)
        meant = did_you_mean(_named_checks(checks) - {*names}, names)
        raise ConfigError(f"checks: {'; '.join(faults)}; choose from {names}{meant}") from None


def _named_checks(checks: EnrichmentChecks | Mapping[str, Any] | None) -> Set[str]:
    """The checks that the user named, on or off."""
    return checks.model_fields_set if isinstance(checks, EnrichmentChecks) else {*(checks or {})}


def _location(location: Sequence[int | str]) -> str:
    # A key that the user gave may be anything, so it is shown as values are.
    return ".".join(shown(part).strip("'") for part in location) or "checks"
