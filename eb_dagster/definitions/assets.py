"""The asset factory: what Dagster needs to know before anything runs."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any, TypedDict, Unpack, cast

import dagster as dg
from pydantic import ValidationError

from eb_dagster.definitions.checks import EnrichmentChecks, NamesAgree
from eb_dagster.definitions.materialize import Enrichment, Event, LaunchConfig, failure
from eb_dagster.definitions.metadata import column_schema, storage_kind
from eb_dagster.definitions.spend import COST_CENTER
from eb_dagster.errors import ConfigError, did_you_mean, shown, shown_list
from eb_dagster.identifiers.columns import find_layout
from eb_dagster.settings import VENDOR_URL, AssetOptions, read_settings
from eb_dagster.tables.object_store import ObjectPath, place
from eb_dagster.tables.parquet import SCHEMA_VERSION

Execute = Callable[[dg.AssetExecutionContext, Enrichment, Any], Iterator[Event]]

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


class AssetKeywords(AssetOptions, SpecAttributes, OpAttributes, total=False):
    """All keywords that `build_enriched_contacts_asset` passes on."""


def build_enriched_contacts_asset(
    *,
    source: str | Sequence[str] | dg.AssetKey | dg.AssetDep | dg.AssetSpec | dg.AssetsDefinition,
    path: str | os.PathLike[str] | ObjectPath | None,
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
    Parquet file. It is read in batches: beyond the value itself, memory does not grow with the rows.

    Args:
        source: the upstream asset; a `dg.AssetDep` if it needs a partition mapping.
        path: the Parquet table to write, which may be in an object store (s3://bucket/table.parquet); with
            Dagster partitions, a folder with a file for each. None hands the enriched table to an I/O manager,
            as the kind of table that came in (pandas if that was the path of a file); it then has to fit into
            memory.
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
        **keywords: keywords of `Enricher` (those in `AssetOptions`), and of `dg.asset`: description, metadata,
            group_name, owners, tags, kinds, code_version, partitions_def, automation_condition,
            freshness_policy, backfill_policy, pool, retry_policy, op_tags, hooks.

    Raises:
        ConfigError: a keyword or its value is wrong.

    """
    settings = _settings(keywords)
    source_dep = dg.AssetDep.from_coercible(source)
    if path is not None and io_manager_key is not None:
        raise ConfigError("the table goes to path or to the I/O manager: give one of them")
    named_spec = _named_spec(
        spec, name=name, key_prefix=key_prefix, attributes=_among(keywords, SpecAttributes)
    )
    asset_spec = _complete_spec(named_spec, [source_dep, *deps], settings=settings, path=path)
    if cost_center is not None:
        asset_spec = asset_spec.merge_attributes(tags={COST_CENTER: cost_center})
    if path is None:
        asset_spec = asset_spec.with_io_manager_key(io_manager_key or "io_manager")
    chosen_checks = _read_checks(checks, {"min": min_match_rate, "max": max_match_rate})
    if settings.get("person") is not None and "names_agree" not in _named_checks(checks):
        chosen_checks = chosen_checks.model_copy(update={"names_agree": NamesAgree()})
    table_path = None if path is None else place(path)

    @dg.multi_asset(
        name=asset_spec.key.to_python_identifier(),
        specs=[asset_spec],
        check_specs=chosen_checks.specs(asset_spec.key),
        ins={
            "identifiers": dg.AssetIn(
                key=source_dep.asset_key, partition_mapping=source_dep.partition_mapping
            )
        },
        required_resource_keys={resource_key},
        # The config is read in the step itself, where a mistake is reported once and not retried.
        config_schema=LaunchConfig.to_fields_dict(),
        # A dry run makes no table, and need not pretend that it did.
        can_subset=True,
        **_among(keywords, OpAttributes),
    )
    def enriched_contacts(context: dg.AssetExecutionContext, identifiers: Any) -> Iterator[Event]:
        config = _launch_config(context)
        enrichment = Enrichment(
            exactbuyer=getattr(context.resources, resource_key),
            key=asset_spec.key,
            source=source_dep.asset_key,
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

    return enriched_contacts


def _settings(keywords: AssetKeywords) -> AssetOptions:
    known = AssetKeywords.__annotations__
    unknown = sorted(set(keywords) - set(known))
    if unknown:
        meant = did_you_mean(unknown, sorted(known))
        raise ConfigError(f"no such keyword: {shown_list(unknown)}; choose from {sorted(known)}{meant}")
    settings: AssetOptions = _among(keywords, AssetOptions)
    _check_settings(settings)
    return settings


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
        raise ConfigError(
            f"checks: {'; '.join(faults)}; choose from {sorted(EnrichmentChecks.model_fields)}"
        ) from None


def _named_checks(checks: EnrichmentChecks | Mapping[str, Any] | None) -> Set[str]:
    """The checks that the user named, on or off."""
    return checks.model_fields_set if isinstance(checks, EnrichmentChecks) else {*(checks or {})}


def _location(location: Sequence[int | str]) -> str:
    # A key that the user gave may be anything, so it is shown as values are.
    return ".".join(shown(part).strip("'") for part in location) or "checks"
