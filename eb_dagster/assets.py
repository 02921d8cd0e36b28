"""The asset: a table of identifiers in, a Parquet table of contacts out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dagster import AssetExecutionContext

from eb_dagster.contacts import CONTACT_COLUMNS, SCHEMA_VERSION, STATUS_COLUMNS, select
from eb_dagster.enrich import Enricher
from eb_dagster.errors import Busy, EnrichError, InputError
from eb_dagster.report import Report

_PROGRESS_SECONDS = 2.0
_DEFAULT_DESCRIPTION = "Contacts bought from ExactBuyer, one row for each input row."


def build_enriched_contacts_asset(
    *,
    name: str,
    source: str | Sequence[str] | dg.AssetKey,
    path: str | Path,
    resource_key: str = "exactbuyer",
    min_match_rate: float = 0.0,
    max_match_rate: float = 1.0,
    settings: Mapping[str, Any] | None = None,
    description: str = _DEFAULT_DESCRIPTION,
    group_name: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    **enrichment_and_asset: Any,
) -> dg.AssetsDefinition:
    """An asset that enriches the dataframe (or the Parquet file at the path) that `source` gives.

    Args:
        name: of the asset.
        source: the upstream asset: a pandas dataframe, or the path of a Parquet file, streamed.
        path: the Parquet table. With Dagster partitions, a folder with one file for each.
        resource_key: of the `ExactBuyerResource`.
        min_match_rate, max_match_rate: the check `match_rate` fails outside of them.
        settings: the same as the keywords below, as a mapping.
        description, group_name, partitions_def: as in `dg.asset`.
        **enrichment_and_asset: any keyword of `Enricher` but key, address and ledger; any other
            keyword goes to `dg.asset` (owners, tags, retry_policy, automation_condition, …).

    """
    wishes = {**(settings or {}), **enrichment_and_asset}
    chosen = {key: wishes.pop(key) for key in _ENRICHMENT & set(wishes)}
    prefix, columns = chosen.get("prefix", "eb_"), chosen.get("columns")

    # Typed by hand: the overloads of `dg.asset` cannot tell which one `**wishes` asks for.
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = cast(Any, dg.asset)(
        name=name,
        ins={"identifiers": dg.AssetIn(key=dg.AssetKey.from_coercible(source))},
        description=description,
        group_name=group_name,
        partitions_def=partitions_def,
        required_resource_keys={resource_key},
        metadata={"dagster/column_schema": column_schema(prefix=prefix, columns=columns)},
        kinds={"parquet", "exactbuyer"},
        check_specs=[dg.AssetCheckSpec("match_rate", asset=name)],
        code_version=wishes.pop("code_version", str(SCHEMA_VERSION)),
        **wishes,
    )

    def enriched_contacts(
        context: AssetExecutionContext, identifiers: Any
    ) -> Iterator[dg.MaterializeResult[Any]]:
        target = _target(Path(path), context.partition_key if context.has_partition_key else None)
        wishes_here = {"progress": _progress_log(context), **chosen}
        with getattr(context.resources, resource_key).enricher(**wishes_here) as enricher:
            try:
                schema = _enrich(enricher, identifiers, target)
            except EnrichError as error:
                # An error's cause may quote a person; its message never does.
                raise _failure(context, enricher.report, error) from None
        report = enricher.report
        rate = report.match_rate
        passed = rate is None or min_match_rate <= rate <= max_match_rate
        yield dg.MaterializeResult(
            metadata={
                _row_count_key(context): report.rows,
                "dagster/column_schema": _table_schema(schema),
                "dagster/uri": target.resolve().as_uri(),
                **report_metadata(report),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="match_rate",
                    passed=passed,
                    metadata={"min": min_match_rate, "max": max_match_rate}
                    | ({} if rate is None else {"match_rate": rate}),
                )
            ],
        )

    return decorate(enriched_contacts)


_ENRICHMENT = frozenset({
    "required_fields", "identifiers", "default_region", "max_credits", "over_budget", "max_age",
    "retry_misses_after", "partition_size", "aliases", "prefix", "columns", "progress",
})  # fmt: skip


def column_schema(*, prefix: str = "eb_", columns: list[str] | None = None) -> dg.TableSchema:
    """The added columns with their descriptions, as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                prefix + one.name, str(_untyped(one.type)), one.description,
                dg.TableColumnConstraints(nullable=one.nullable),
            )
            for one in (*STATUS_COLUMNS, *select(columns))
        ]
    )  # fmt: skip


def report_metadata(report: Report) -> dict[str, float | int]:
    """The report as numbers that Dagster plots over time."""
    numbers: dict[str, float | int] = {
        f"exactbuyer/{name}": getattr(report, name)
        for name in (
            "credits_charged", "credits_saved", "credits_in_doubt", "requests", "matched",
            "not_found", "in_doubt", "unreadable", "not_asked", "from_ledger", "seconds",
        )
    }  # fmt: skip
    numbers["exactbuyer/invalid"] = sum(report.invalid.values())
    if report.match_rate is not None:
        numbers["exactbuyer/match_rate"] = report.match_rate
    return numbers


def _enrich(enricher: Enricher, identifiers: Any, target: Path) -> pa.Schema:
    if isinstance(identifiers, str | Path):
        enricher.enrich_parquet(identifiers, target)
        return _untyped(pq).read_schema(target)
    if not isinstance(identifiers, pd.DataFrame):
        kind = type(identifiers).__name__
        raise InputError(f"the upstream asset gives a {kind}, not a dataframe or a Parquet path")
    # Before anything is sent: a table that cannot be written is no reason to buy.
    enricher.check_target(target)
    table = enricher.to_table(enricher.enrich_dataframe(identifiers))
    enricher.write(table.to_reader(), target)
    return table.schema


def _failure(context: AssetExecutionContext, report: Report, error: EnrichError) -> dg.Failure:
    # Output metadata of a failed step is lost; an observation stays on the asset's page.
    context.log_event(
        dg.AssetObservation(
            asset_key=context.asset_key,
            description="what a failed run spent",
            metadata=report_metadata(report),
            partition=context.partition_key if context.has_partition_key else None,
        )
    )
    return dg.Failure(
        f"{type(error).__name__}: {error}",
        metadata=report_metadata(report),
        allow_retries=isinstance(error, Busy),
    )


def _target(path: Path, partition: str | None) -> Path:
    if partition is None:
        return path
    # A key may hold slashes and dots, and be longer than a file name.
    name = quote(partition, safe="").replace(".", "%2E")
    if len(name) > 150:
        name = f"{name[:80]}-{sha256(partition.encode()).hexdigest()[:32]}"
    return path / f"{name}.parquet"


def _progress_log(context: AssetExecutionContext) -> Callable[[Report], None]:
    """One line in the event log every few seconds, however many requests there are."""
    last = time.monotonic()

    def show(report: Report) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            context.log.info(
                f"{report.requests:,} requests sent, {report.rows:,} rows done, {report.matched:,} matched"
            )

    return show


def _untyped(one: object) -> Any:
    # pyarrow-stubs leaves the type parameters of fields and schemas unknown.
    return one


def _row_count_key(context: AssetExecutionContext) -> str:
    partitioned = context.has_partition_key
    return "dagster/partition_row_count" if partitioned else "dagster/row_count"


def _table_schema(schema: pa.Schema) -> dg.TableSchema:
    added = {column.name: column.description for column in (*STATUS_COLUMNS, *CONTACT_COLUMNS)}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                str(field.type),
                next((text for name, text in added.items() if field.name.endswith(name)), None)
                if field.metadata or field.name.startswith("eb_")
                else None,
            )
            for field in _untyped(schema)
        ]
    )
