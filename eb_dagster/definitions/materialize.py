"""A run of the asset: enrich, and report to Dagster what came of it, even if the run ends early."""

import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import dagster as dg
from pydantic import Field, field_validator

from eb_dagster.definitions.checks import EnrichmentChecks
from eb_dagster.definitions.history import Earlier, comparable, earlier
from eb_dagster.definitions.metadata import (
    PREFIX,
    Figures,
    add_up,
    column_lineage,
    column_schema,
    fill_rates,
    found_by,
    named,
    picture,
    plan_figures,
    plan_table,
    plotted,
    remaining_figures,
    report_figures,
    spent_figures,
    storage_kind,
)
from eb_dagster.definitions.resource import ExactBuyerResource
from eb_dagster.definitions.spend import cost_center_metadata
from eb_dagster.definitions.table_source import known_columns
from eb_dagster.definitions.upstream import column_types, is_path, read_upstream, to_frame
from eb_dagster.enricher import Enricher
from eb_dagster.errors import Busy, ConfigError, EnrichError, InputError, counted
from eb_dagster.identifiers.columns import find_layout
from eb_dagster.pipeline.opening import Opening
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.progress import Lines, log_words
from eb_dagster.pipeline.report import Report
from eb_dagster.settings import SETTINGS, AssetOptions, days
from eb_dagster.tables.object_store import Place
from eb_dagster.tables.source import Source

Event = dg.MaterializeResult[Any] | dg.AssetObservation | dg.AssetCheckResult

# Reading more rows than this would keep a cancelled run waiting for the plan of what is left.
_ROWS_PLANNED_WHEN_CANCELLED = 100_000
_LONGEST_NAME = 150


def _instead_of(name: str) -> str:
    setting = SETTINGS[name]
    return f"{setting.help} Default: what the asset says."


class LaunchConfig(dg.Config):
    """What may be chosen when a run is launched. Only the resource says which key, address and ledger it uses."""

    max_credits: int | None = Field(default=None, description=_instead_of("max_credits"))
    max_age_days: float | None = Field(default=None, description=_instead_of("max_age"))
    dry_run: bool = Field(
        default=False, description="Show the plan and what it costs at most. Sends and writes nothing."
    )

    @field_validator("max_credits")
    @classmethod
    def _check_credits(cls, given: int | None) -> int | None:
        if given is not None and given < 0:
            raise ConfigError(f"max_credits is {given:,}; choose a number of at least 0, or leave it out")
        return given

    @field_validator("max_age_days")
    @classmethod
    def _check_age(cls, given: float | None) -> float | None:
        days("max_age_days", given)
        return given

    def settings(self, usual: AssetOptions) -> AssetOptions:
        """The asset's usual settings with what was chosen at launch."""
        chosen = usual.copy()
        if self.max_credits is not None:
            chosen["max_credits"] = self.max_credits
        if self.max_age_days is not None:
            chosen["max_age"] = days("max_age_days", self.max_age_days)
        return chosen


@dataclass(frozen=True, kw_only=True)
class Enrichment:
    """What a run of the asset is about to do. `materialize` does it."""

    exactbuyer: ExactBuyerResource
    key: dg.AssetKey
    sources: Sequence[dg.AssetKey]
    path: Place | None
    settings: AssetOptions
    checks: EnrichmentChecks
    partitions_def: dg.PartitionsDefinition[str] | None = None
    dry_run: bool = False
    is_table_source: bool = False
    """Whether the identifiers come from a query or a function, so that the sources are dependencies only."""
    source_columns: Mapping[dg.AssetKey, Sequence[str]] = field(
        default_factory=dict[dg.AssetKey, Sequence[str]]
    )
    """The columns of the sources, as far as their definitions say."""

    def materialize(self, context: dg.AssetExecutionContext, identifiers: Any) -> Iterator[Event]:
        """Enrich what the upstream asset gave: one table, or one for each partition of the run."""
        if not context.selected_asset_keys:
            # Only checks were asked for, and a check is no reason to buy.
            yield from self._check_again(context)
            return
        tables: dict[str | None, _EnrichedTable] = {}
        try:
            yield from self._enrich_all(context, self._inputs(context, identifiers), tables)
            if tables:
                yield self._result(context, list(tables.values()))
            elif self.dry_run:
                yield from self._check_as_before(context)
        except BaseException:
            # Another partition failed, or the I/O manager did, which ends this generator. Dagster keeps no
            # metadata of the tables that were ready.
            for partition, table in tables.items():
                context.log_event(self._observe_discarded(partition, table.figures))
            raise

    def _enrich_all(
        self,
        context: dg.AssetExecutionContext,
        inputs: Sequence[tuple[str | None, Any]],
        tables: "dict[str | None, _EnrichedTable]",
    ) -> Iterator[Event]:
        """Enrich one table after the other within one budget, and collect those that are ready."""
        for partition, value in inputs:
            # What is in doubt counts as spent, as it does within a table.
            spent = sum(
                table.figures["credits_charged"] + table.figures["credits_in_doubt"]
                for table in tables.values()
            )
            table = yield from _TableRun(self._after_spending(int(spent)), context, partition).enrich(value)
            if table is not None:
                tables[partition] = table
                if len(inputs) > 1:
                    context.add_asset_metadata(table.metadata, asset_key=self.key, partition_key=partition)

    def _observe_discarded(self, partition: str | None, figures: Figures) -> dg.AssetObservation:
        return dg.AssetObservation(
            self.key,
            description="what a failed run spent on a table that was ready",
            metadata=named({**spent_figures(figures), "input_rows": figures["input_rows"]}),
            partition=partition,
        )

    def _inputs(self, context: dg.AssetExecutionContext, value: Any) -> list[tuple[str | None, Any]]:
        """The tables to enrich, each with its partition key."""
        if self.partitions_def is None:
            return [(None, value)]
        keys = self._partitions(context)
        if not keys:
            raise dg.Failure(
                "the asset is partitioned, but this run is not of a partition; launch it for one. Nothing was sent",
                allow_retries=False,
            )
        if context.has_partition_key:
            return [(context.partition_key, value)]
        if self.path is None:
            # An I/O manager that loads the rows of many partitions at once also takes them at once.
            return [(None, value)]
        return _tables_by_partition(value, keys)

    def _partitions(self, context: dg.AssetExecutionContext) -> list[str]:
        """The asset's partitions in this run. A run may be of partitions that only other assets have."""
        has_partitions = context.has_partition_key or context.has_partition_key_range
        if not self.partitions_def or not has_partitions:
            return []
        return [str(key) for key in context.partition_keys]

    def _after_spending(self, spent: int) -> "Enrichment":
        """The same enrichment with what is left of the budget."""
        settings = self.settings.copy()
        cap = settings.get("max_credits")
        if cap is not None:
            settings["max_credits"] = max(0, cap - spent)
        return replace(self, settings=settings)

    def _result(self, context: dg.AssetExecutionContext, tables: "list[_EnrichedTable]") -> Event:
        if len(tables) == 1:
            figures, metadata = tables[0].figures, tables[0].metadata
        else:
            # Each partition has metadata of its own. Dagster would fill its gaps from what is given here.
            figures, metadata = add_up([table.figures for table in tables]), {}
        rates = self._match_rates(earlier(context.instance, self.key), self._partitions(context))
        checks = list(self._check(context, figures, rates))
        if self.path is not None:
            return dg.MaterializeResult(asset_key=self.key, metadata=metadata, check_results=checks)
        return dg.MaterializeResult(
            asset_key=self.key, value=tables[0].value, metadata=metadata, check_results=checks
        )

    def _check_again(self, context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Check the newest materialization, of whichever partition: a run of checks alone is of none."""
        materializations = earlier(context.instance, self.key)
        newest = next(materializations, None)
        if newest is None:
            raise dg.Failure(
                "there is no materialization to check yet; materialize the asset first. Nothing was sent",
                allow_retries=False,
            )
        partitions = [] if newest.partition is None else [newest.partition]
        rates = self._match_rates(materializations, partitions)
        yield from self._check(context, newest.figures, rates)

    def _check_as_before(self, context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """What the checks said last, once more: a dry run says nothing new, and Dagster shows the last run's."""
        if next(earlier(context.instance, self.key), None) is not None:
            yield from self._check_again(context)

    def _match_rates(self, materializations: Iterable[Earlier], partitions: Sequence[str]) -> list[float]:
        """Earlier match rates to compare with, newest first."""
        history = self.checks.match_rate_history
        if history is None:
            return []
        alike = comparable(materializations, partitions=partitions, definition=self.partitions_def)
        rates = (
            materialization.figures["match_rate"]
            for materialization in alike
            if "match_rate" in materialization.figures
        )
        return list(islice(rates, history.runs))

    def _check(
        self, context: dg.AssetExecutionContext, figures: Figures, match_rates: Sequence[float]
    ) -> Iterator[dg.AssetCheckResult]:
        selected = frozenset(check.name for check in context.selected_asset_check_keys)
        return self.checks.results(figures, match_rates, asset=self.key, selected=selected)


def partition_file(partition: str) -> str:
    """A file name for a partition key, which may hold slashes and dots and be too long for a name."""
    name = quote(partition, safe="").replace(".", "%2E")
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2]}-{sha256(partition.encode()).hexdigest()}"
    return f"{name}.parquet"


@dataclass(frozen=True, kw_only=True)
class _EnrichedTable:
    """A table that is ready: written to its path, or held for the I/O manager."""

    figures: Figures
    metadata: dict[str, Any]
    value: Any = field(repr=False)


@dataclass(frozen=True)
class _TableRun:
    """The enrichment of one table: the whole one, or that of a Dagster partition."""

    enrichment: Enrichment
    context: dg.AssetExecutionContext
    partition: str | None

    def enrich(self, value: Any) -> Generator[Event, None, _EnrichedTable | None]:
        """Enrich the table, unless this is a dry run. Yields observations of what else happened."""
        try:
            return (yield from self._enrich(value))
        except dg.Failure:
            raise
        except Exception as error:
            # It was raised while the ledger was opened or closed, so there are no figures to add.
            raise failure(error, {}) from None

    def _enrich(self, value: Any) -> Generator[Event, None, _EnrichedTable | None]:
        max_credits = self.enrichment.settings.get("max_credits")
        progress = Lines(0, max_credits=max_credits, say=self.context.log.info, words=log_words)
        upstream: Source | None = None
        settings = self.enrichment.settings
        with self.enrichment.exactbuyer.enricher(progress=progress, **settings) as enricher:
            try:
                upstream = read_upstream(value)
                self._say(enricher.opening)
                if self._target is not None and not self.enrichment.dry_run:
                    # A table that cannot be written is found out before anything is sent.
                    enricher.check_target(self._target)
                plan = self._plan(enricher, upstream)
                progress.expect(upstream.rows or 0, plan)
                table = None if self.enrichment.dry_run else self._buy(enricher, upstream, plan, given=value)
            except Exception as error:
                figures = self._spent(enricher, upstream, error)
                figures |= self._remaining(enricher, upstream, error)
                yield self._observe("what a failed run spent", named(figures))
                yield from self._check_early_end(figures)
                # The causes of an error may quote a person; our own messages never do.
                raise failure(error, figures) from None
            except BaseException as error:
                figures = self._spent(enricher, upstream, error)
                # This is yielded first, because the process may be killed before there is more to tell.
                yield self._observe("what a cancelled run spent", named(figures))
                yield from self._check_early_end(figures)
                remaining = self._remaining(enricher, upstream, error)
                if remaining:
                    yield self._observe("what a cancelled run left to do", named(figures | remaining))
                raise
        if plan is not None and self.enrichment.dry_run:
            yield self._observe_plan(plan)
        return table

    def _say(self, opening: Opening) -> None:
        for line in opening.lines:
            self.context.log.info(line)
        if opening.warning is not None:
            self.context.log.warning(opening.warning)

    def _check_early_end(self, figures: Figures) -> Iterator[dg.AssetCheckResult]:
        """A run that made no table fails the check that everything was asked, and says nothing of the others."""
        name = "everything_asked"
        selected = {check.name for check in self.context.selected_asset_check_keys} & {name}
        if selected and not self.enrichment.dry_run:
            yield from self.enrichment.checks.results(
                {**figures, "ended_early": 1}, (), asset=self.enrichment.key, selected=frozenset(selected)
            )

    def _observe_plan(self, plan: Plan) -> Event:
        cost = named(plan_figures(plan))
        return self._observe(
            "the plan of a dry run: nothing was sent, nothing was written",
            {**cost, PREFIX + "plan": plan_table(plan)},
        )

    @property
    def _target(self) -> Place | None:
        path = self.enrichment.path
        if path is None or self.partition is None:
            return path
        return path / partition_file(self.partition)

    def _plan(self, enricher: Enricher, upstream: Source) -> Plan | None:
        if self.enrichment.dry_run or self.enrichment.checks.credits_within_plan is not None:
            return enricher.plan(upstream)
        return None

    def _buy(self, enricher: Enricher, upstream: Source, plan: Plan | None, *, given: Any) -> _EnrichedTable:
        value = None
        if self._target is not None:
            rows = enricher.write(enricher.enrich_batches(upstream), self._target)
        else:
            is_frame = not (is_path(given) or isinstance(given, Source))
            value = enricher.enrich_dataframe(upstream if is_frame else to_frame(upstream))
            rows = len(value)
        report = enricher.report
        if report.stopped:
            self.context.log.warning(f"{report.stopped} (not asked: {counted(report.not_asked, 'row')})")
        for reason, count in report.retries.items():
            self.context.log.info(
                f"sent again: {counted(count, 'request')} ({reason}); nothing was charged for that"
            )
        figures = report_figures(report) | {"input_rows": upstream.rows or 0, "rows": rows}
        if plan is not None:
            figures |= plan_figures(plan)
        metadata = self._metadata(upstream, report, figures)
        return _EnrichedTable(figures=figures, metadata=metadata, value=value)

    def _metadata(self, upstream: Source, report: Report, figures: Figures) -> dict[str, Any]:
        settings, target = self.enrichment.settings, self._target
        types = column_types(upstream)
        layout = find_layout(list(types), settings.get("identifiers"))
        has_partitions = self.enrichment.partitions_def is not None
        rows = "dagster/partition_row_count" if has_partitions else "dagster/row_count"
        lineage = column_lineage(types, settings, origins=self._origins(types), identifiers=layout.names)
        metadata: dict[str, Any] = {
            rows: figures["rows"],
            "dagster/column_schema": column_schema(types, settings),
            "dagster/column_lineage": lineage,
            **storage_kind(target),
            PREFIX + "picture": picture(report),
            PREFIX + "found_by": found_by(report),
            PREFIX + "fill_rates": fill_rates(report, prefix=settings.get("prefix", "eb_")),
            **plotted(figures),
            **cost_center_metadata(self.context, self.enrichment.key),
        }
        if report.stopped:
            metadata[PREFIX + "stopped"] = report.stopped
        if target is not None:
            metadata["dagster/uri"] = target.resolve().as_uri()
        return metadata

    def _origins(self, columns: Iterable[str]) -> dict[str, list[dg.AssetKey]]:
        """By column of the input, the assets that it comes from."""
        sources = self.enrichment.sources
        if not self.enrichment.is_table_source:
            return {name: list(sources) for name in columns}
        # A query may have made the column, or renamed it: only what the sources are known to have is theirs.
        known = known_columns(self.context.instance, sources, self.enrichment.source_columns)
        return {name: [key for key, names in known.items() if name in names] for name in columns}

    def _spent(self, enricher: Enricher, upstream: Source | None, error: BaseException) -> Figures:
        # The report is complete only when the streams have ended that the frames of the error still hold open.
        traceback.clear_frames(error.__traceback__)
        spent = spent_figures(report_figures(enricher.report))
        return spent if upstream is None else {**spent, "input_rows": upstream.rows or 0}

    def _remaining(self, enricher: Enricher, upstream: Source | None, error: BaseException) -> Figures:
        """What is left to do and what it costs at most. Sends nothing."""
        if upstream is None:
            return {}
        if isinstance(error, ConfigError | InputError) and not enricher.report.requests:
            # Wrong settings and wrong tables have no plan.
            return {}
        is_cancelled = not isinstance(error, Exception)
        if is_cancelled and (upstream.rows or 0) > _ROWS_PLANNED_WHEN_CANCELLED:
            return {}
        try:
            return remaining_figures(enricher.plan(upstream))
        except EnrichError:
            # The first error is the one to report.
            return {}

    def _observe(self, description: str, metadata: Mapping[str, Any]) -> dg.AssetObservation:
        # Output metadata of a failed step is lost; an observation stays on the asset's page.
        cost_center = cost_center_metadata(self.context, self.enrichment.key)
        return dg.AssetObservation(
            self.enrichment.key,
            description=description,
            metadata={**metadata, **cost_center},
            partition=self.partition,
        )


def _tables_by_partition(value: Any, keys: Sequence[str]) -> list[tuple[str | None, Any]]:
    if not isinstance(value, Mapping) or not set(keys) <= set(cast("Mapping[str, Any]", value)):
        raise dg.Failure(
            f"the upstream asset does not give a table for each of the {len(keys)} partitions of this "
            "run; run one partition at a time, with backfill_policy=dg.BackfillPolicy.multi_run(). Nothing was sent",
            allow_retries=False,
        )
    return [(key, value[key]) for key in keys]


def failure(error: Exception, figures: Figures) -> dg.Failure:
    """What Dagster is told: our own message, or the type and place of a foreign error, never its text.

    Only `Busy` may pass by itself, so only that is worth a retry.
    """
    if isinstance(error, EnrichError):
        message = f"{type(error).__name__}: {error}"
        return dg.Failure(message, metadata=named(figures), allow_retries=isinstance(error, Busy))
    places = " ← ".join(
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
    )
    reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
    return dg.Failure(
        f"{type(error).__name__}{reason} at {places}. Its text is withheld, because it may quote a person. "
        "Fix what is wrong there, then run again: what was bought is in the ledger",
        metadata=named(figures),
    )
