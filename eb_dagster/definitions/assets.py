"""The asset factory: what Dagster needs to know before anything runs."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, TypedDict, Unpack, cast

import dagster as dg
from pydantic import ValidationError

from eb_dagster.definitions.checks import EnrichmentChecks, NamesAgree
from eb_dagster.definitions.materialize import Enrichment, EnrichmentSettings, Event, LaunchConfig, failure
from eb_dagster.definitions.metadata import column_schema, storage_kind
from eb_dagster.errors import ConfigError, shown, shown_list
from eb_dagster.identifiers.columns import find_layout
from eb_dagster.settings import VENDOR_URL, read_settings
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


class AssetKeywords(EnrichmentSettings, SpecAttributes, OpAttributes, total=False):
    """Everything that `build_enriched_contacts_asset` passes on."""


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
    execute: Execute | None = None,
    **keywords: Unpack[AssetKeywords],
) -> dg.AssetsDefinition:
    """An asset that enriches the table of identifiers that `source` gives.

    The value of `source` is a pandas dataframe, a Polars or Arrow table, or the path of a Parquet
    file. It is read in batches: beyond the value itself, memory does not grow with the rows.

    Args:
        source: the upstream asset; a `dg.AssetDep` if it needs a partition mapping.
        path: the Parquet table, which may be in an object store (s3://bucket/table.parquet); with
            Dagster partitions, a folder with a file for each. None hands
            the enriched table to an I/O manager, as the kind of table that came in (pandas for the
            path of a file); it then has to fit into memory.
        name: of the asset, after `key_prefix`.
        key_prefix: of the asset's key.
        spec: a whole `dg.AssetSpec` in place of name, prefix and attributes.
        deps: more assets that this one waits for.
        resource_key: of the `ExactBuyerResource`.
        io_manager_key: of the I/O manager that takes the table if `path` is None.
        min_match_rate: the check `match_rate` fails below it.
        max_match_rate: the check `match_rate` fails above it.
        checks: see `EnrichmentChecks`; a mapping changes what it names, such as
            `{"nothing_in_doubt": {"severity": "ERROR", "blocking": True}, "schema_drift": None}`.
        execute: called in place of `Enrichment.materialize`, with the context, the `Enrichment` and
            the value of `source`.
        **keywords: the keywords of `Enricher` but key, address, ledger and progress; and of those of
            `dg.asset`: description, metadata, group_name, owners, tags, kinds, code_version,
            partitions_def, automation_condition, freshness_policy, backfill_policy, pool,
            retry_policy, op_tags, hooks.

    Raises:
        ConfigError: a keyword or its value is wrong.

    """
    settings, attributes, of_op = _sort(keywords)
    table = None if path is None else place(path)
    dep = dg.AssetDep.from_coercible(source)
    if path is not None and io_manager_key is not None:
        raise ConfigError("the table goes to path or to the I/O manager: give one of them")
    named = _named_spec(spec, name=name, key_prefix=key_prefix, attributes=attributes)
    whole = _complete(named, [dep, *deps], settings=settings, path=path)
    if path is None:
        whole = whole.with_io_manager_key(io_manager_key or "io_manager")
    chosen = _read_checks(checks, {"min": min_match_rate, "max": max_match_rate})
    if settings.get("person") is not None and "names_agree" not in _named_checks(checks):
        chosen = chosen.model_copy(update={"names_agree": NamesAgree()})

    @dg.multi_asset(
        name=whole.key.to_python_identifier(),
        specs=[whole],
        check_specs=chosen.specs(whole.key),
        ins={"identifiers": dg.AssetIn(key=dep.asset_key, partition_mapping=dep.partition_mapping)},
        required_resource_keys={resource_key},
        # Read in the step itself, where what is wrong can be said once and is not tried again.
        config_schema=LaunchConfig.to_fields_dict(),
        # So that a dry run need not pretend that it made the table.
        can_subset=True,
        **of_op,
    )
    def enriched_contacts(context: dg.AssetExecutionContext, identifiers: Any) -> Iterator[Event]:
        try:
            config = LaunchConfig(**context.op_execution_context.op_config)
        except ConfigError as error:
            raise failure(error, {}) from None
        enrichment = Enrichment(
            exactbuyer=getattr(context.resources, resource_key), key=whole.key, source=dep.asset_key,
            path=table, settings=config.settings(settings), checks=chosen,
            partitions_def=whole.partitions_def, dry_run=config.dry_run,
        )  # fmt: skip
        if execute is not None:
            yield from execute(context, enrichment, identifiers)
        else:
            yield from enrichment.materialize(context, identifiers)

    return enriched_contacts


def _sort(keywords: AssetKeywords) -> tuple[EnrichmentSettings, SpecAttributes, OpAttributes]:
    unknown = sorted(set(keywords) - set(AssetKeywords.__annotations__))
    if unknown:
        raise ConfigError(
            f"no such keyword: {shown_list(unknown)}; choose from {sorted(AssetKeywords.__annotations__)}"
        )

    def of(kind: type) -> Any:
        return {name: value for name, value in keywords.items() if name in kind.__annotations__}

    settings = of(EnrichmentSettings)
    _check_settings(settings)
    return settings, of(SpecAttributes), of(OpAttributes)


def _check_settings(settings: EnrichmentSettings) -> None:
    """Find a wrong setting when the definitions load, not when a run has begun."""
    unset: dict[str, Any] = {
        "required_fields": (), "identifiers": None, "default_region": None, "max_credits": None,
        "over_budget": "stop", "max_age": None, "retry_misses_after": None, "partition_size": 1000,
        "aliases": (), "prefix": "eb_", "columns": None,
    }  # fmt: skip
    read_settings(
        api_key="the resource's", base_url=VENDOR_URL, proxy="", ca_bundle="", requests_per_minute=198.0, timeout=300.0,
        max_credits_at_risk=1, max_credits_per_day=None, max_credits_per_month=None, in_doubt="hold",
        progress=None, **(unset | dict[str, Any](settings)),
    )  # fmt: skip
    identifiers = settings.get("identifiers")
    if identifiers is not None:
        named = [[one] if isinstance(one, str) else one for one in identifiers.values()]
        find_layout(list(dict.fromkeys(name for names in named for name in names)), identifiers)


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
    prefix = [key_prefix] if isinstance(key_prefix, str) else [*(key_prefix or ())]
    return dg.AssetSpec([*prefix, name], **attributes)


def _complete(
    spec: dg.AssetSpec, deps: Sequence[Any], *, settings: EnrichmentSettings, path: object
) -> dg.AssetSpec:
    """The spec with what it does not say itself."""
    schema = column_schema(
        {},
        prefix=settings.get("prefix", "eb_"),
        columns=settings.get("columns"),
        lists=settings.get("lists", "list"),
        with_agrees=settings.get("person") is not None,
    )
    mine = [dg.AssetDep.from_coercible(one) for one in deps]
    others = [one for one in spec.deps if one.asset_key not in {each.asset_key for each in mine}]
    # Dagster leaves parameters of its types partly untyped.
    return cast("Any", spec).replace_attributes(
        deps=[*others, *mine],
        description=spec.description or _DESCRIPTION,
        code_version=spec.code_version or str(SCHEMA_VERSION),
        metadata={"dagster/column_schema": schema, **storage_kind(path), **spec.metadata},
        tags={name: value for name, value in spec.tags.items() if not name.startswith(_KIND_TAG)},
        kinds=spec.kinds or ({"exactbuyer"} if path is None else {"exactbuyer", "parquet"}),
    )


def _read_checks(
    checks: EnrichmentChecks | Mapping[str, Any] | None, bounds: Mapping[str, float | None]
) -> EnrichmentChecks:
    given = {name: value for name, value in bounds.items() if value is not None}
    try:
        chosen = EnrichmentChecks.model_validate(checks or {})
        if not given:
            return chosen
        whole = {name: getattr(chosen, name) for name in type(chosen).model_fields}
        of_match_rate = chosen.match_rate.model_dump() if chosen.match_rate is not None else {}
        return EnrichmentChecks.model_validate({**whole, "match_rate": {**of_match_rate, **given}})
    except ValidationError as error:
        faults = [f"{_where(one['loc'])}: {one['msg']}" for one in error.errors()]
        raise ConfigError(
            f"checks: {'; '.join(faults)}; choose from {sorted(EnrichmentChecks.model_fields)}"
        ) from None


def _named_checks(checks: EnrichmentChecks | Mapping[str, Any] | None) -> Set[str]:
    """Which checks the user spoke of."""
    return checks.model_fields_set if isinstance(checks, EnrichmentChecks) else {*(checks or {})}


def _where(location: Sequence[int | str]) -> str:
    # A key of the user's may be anything.
    return ".".join(shown(part).strip("'") for part in location) or "checks"
