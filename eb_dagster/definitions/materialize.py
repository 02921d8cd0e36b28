"""One run of the asset: enrich, and tell Dagster what came of it, also when it ends early."""

import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, cast
from urllib.parse import quote

import dagster as dg
import pandas as pd
from pydantic import Field, field_validator

from eb_dagster.contacts.schema import ListsChoice
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
from eb_dagster.definitions.upstream import column_types, is_path, read_upstream
from eb_dagster.enricher import Enricher
from eb_dagster.errors import Busy, ConfigError, EnrichError, InputError
from eb_dagster.identifiers.model import FieldType, find_layout
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.progress import Lines, log_words
from eb_dagster.pipeline.report import Report
from eb_dagster.settings import OverBudgetChoice
from eb_dagster.tables.object_store import Place, place
from eb_dagster.tables.source import Source

Event = dg.MaterializeResult[Any] | dg.AssetObservation | dg.AssetCheckResult

# Whoever cancels does not want to wait for the plan of what is left.
_ROWS_PLANNED_WHEN_CANCELLED = 100_000
_LONGEST_NAME = 150


class EnrichmentSettings(TypedDict, total=False):
    """What can be chosen about an enrichment; `Enricher` says what each one means."""

    required_fields: Sequence[str]
    identifiers: Mapping[FieldType, str | Sequence[str]] | None
    default_region: str | None
    max_credits: int | None
    over_budget: OverBudgetChoice
    max_age: timedelta | None
    retry_misses_after: timedelta | None
    partition_size: int
    aliases: Sequence[FieldType]
    prefix: str
    columns: Sequence[str] | None
    lists: ListsChoice
    person: Mapping[str, str] | None


class LaunchConfig(dg.Config):
    """What whoever launches a run may choose. Key, address and ledger are the resource's alone."""

    max_credits: int | None = Field(
        default=None, description="Credits that this run may spend, in place of the asset's own cap."
    )
    dry_run: bool = Field(
        default=False, description="Show the plan and what it costs at most. Sends and writes nothing."
    )
    max_age_days: float | None = Field(
        default=None,
        description="Buy contacts again that are older than so many days, in place of the asset's own max_age.",
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

    def settings(self, usual: EnrichmentSettings) -> EnrichmentSettings:
        """The asset's usual settings with what was chosen at launch."""
        chosen = usual.copy()
        if self.max_credits is not None:
            chosen["max_credits"] = self.max_credits
        if self.max_age_days is not None:
            chosen["max_age"] = days("max_age_days", self.max_age_days)
        return chosen


def days(setting: str, count: float | None) -> timedelta | None:
    """What a setting that can only be a number means, where Python takes a timedelta.

    Raises:
        ConfigError: the number is no age.

    """
    if count is None:
        return None
    if not 0 < count <= timedelta.max.days:
        raise ConfigError(
            f"{setting} is {count:g}; choose a number of days above 0, such as 90, or leave it out"
        )
    return timedelta(days=count)


@dataclass(frozen=True, kw_only=True)
class Enrichment:
    """What a run of the asset is about to do. `materialize` does it."""

    exactbuyer: ExactBuyerResource
    key: dg.AssetKey
    source: dg.AssetKey
    path: Place | None
    settings: EnrichmentSettings
    checks: EnrichmentChecks
    partitions_def: dg.PartitionsDefinition[str] | None = None
    dry_run: bool = False

    def materialize(self, context: dg.AssetExecutionContext, identifiers: Any) -> Iterator[Event]:
        """Enrich what the upstream asset gave: one table, or one for each partition of the run."""
        if not context.selected_asset_keys:
            # Only checks were asked for, and a check is no reason to buy.
            yield from self._judge_again(context)
            return
        made: dict[str | None, _Made] = {}
        try:
            yield from self._make(context, self._parts(context, identifiers), made)
            if made:
                yield self._result(context, list(made.values()))
        except BaseException:
            # Of these, Dagster keeps no metadata now: another partition failed, or the I/O manager did,
            # which ends this generator.
            for partition, one in made.items():
                context.log_event(self._made_in_vain(partition, one.figures))
            raise

    def _make(
        self,
        context: dg.AssetExecutionContext,
        parts: Sequence[tuple[str | None, Any]],
        made: "dict[str | None, _Made]",
    ) -> Iterator[Event]:
        for partition, value in parts:
            # What is in doubt counts as spent, as within a table.
            spent = sum(
                one.figures["credits_charged"] + one.figures["credits_in_doubt"] for one in made.values()
            )
            one = yield from _Table(self._within(int(spent)), context, partition).make(value)
            if one is not None:
                made[partition] = one
                if len(parts) > 1:
                    context.add_asset_metadata(one.metadata, asset_key=self.key, partition_key=partition)

    def _made_in_vain(self, partition: str | None, figures: Figures) -> dg.AssetObservation:
        return dg.AssetObservation(
            self.key,
            description="what a failed run spent on a table that was ready",
            metadata=named({**spent_figures(figures), "input_rows": figures["input_rows"]}),
            partition=partition,
        )

    def _parts(self, context: dg.AssetExecutionContext, value: Any) -> list[tuple[str | None, Any]]:
        """The tables to make, with their partition keys."""
        if self.partitions_def is None:
            return [(None, value)]
        keys = self._partitions(context)
        if not keys:
            raise dg.Failure(
                "the asset is partitioned, and this run is of no partition; launch it for one. Nothing was sent",
                allow_retries=False,
            )
        if context.has_partition_key:
            return [(context.partition_key, value)]
        if self.path is None:
            # An I/O manager that gives the rows of many partitions at once takes them so, too.
            return [(None, value)]
        if not isinstance(value, Mapping) or not set(keys) <= set(cast("Mapping[str, Any]", value)):
            raise dg.Failure(
                f"the upstream asset does not give a table for each of the {len(keys)} partitions of this "
                "run; run one partition at a time, with backfill_policy=dg.BackfillPolicy.multi_run(). Nothing was sent",
                allow_retries=False,
            )
        return [(key, value[key]) for key in keys]

    def _partitions(self, context: dg.AssetExecutionContext) -> list[str]:
        """Of the asset, those that the run is of. A run may be of partitions that only other assets have."""
        is_of_some = context.has_partition_key or context.has_partition_key_range
        return [str(key) for key in context.partition_keys] if self.partitions_def and is_of_some else []

    def _within(self, spent: int) -> "Enrichment":
        """The same with what is left of the budget."""
        settings = self.settings.copy()
        cap = settings.get("max_credits")
        if cap is not None:
            settings["max_credits"] = max(0, cap - spent)
        return replace(self, settings=settings)

    def _result(self, context: dg.AssetExecutionContext, made: "list[_Made]") -> Event:
        if len(made) == 1:
            figures, metadata = made[0].figures, made[0].metadata
        else:
            # Each partition has its own; what is given here would stand in for what one of them lacks.
            figures, metadata = add_up([one.figures for one in made]), {}
        rates = self._rates(earlier(context.instance, self.key), self._partitions(context))
        checks = list(self._judge(context, figures, rates))
        if self.path is not None:
            return dg.MaterializeResult(asset_key=self.key, metadata=metadata, check_results=checks)
        return dg.MaterializeResult(
            asset_key=self.key, value=made[0].value, metadata=metadata, check_results=checks
        )

    def _judge_again(self, context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """The checks on the newest materialization, of whichever partition: such a run is of none."""
        every = earlier(context.instance, self.key)
        newest = next(every, None)
        if newest is None:
            raise dg.Failure(
                "there is no materialization to check yet; materialize the asset first. Nothing was sent",
                allow_retries=False,
            )
        partitions = [] if newest.partition is None else [newest.partition]
        yield from self._judge(context, newest.figures, self._rates(every, partitions))

    def _rates(self, every: Iterable[Earlier], partitions: Sequence[str]) -> list[float]:
        """Earlier match rates to compare with, newest first."""
        if self.checks.match_rate_history is None:
            return []
        like = comparable(every, partitions=partitions, definition=self.partitions_def)
        rates = (one.figures["match_rate"] for one in like if "match_rate" in one.figures)
        return list(islice(rates, self.checks.match_rate_history.runs))

    def _judge(
        self, context: dg.AssetExecutionContext, figures: Figures, history: Sequence[float]
    ) -> Iterator[dg.AssetCheckResult]:
        asked = frozenset(one.name for one in context.selected_asset_check_keys)
        return self.checks.results(figures, history, asset=self.key, among=asked)


def partition_file(partition: str) -> str:
    """A file name for a partition key, which may hold slashes and dots and be longer than a name may be."""
    name = quote(partition, safe="").replace(".", "%2E")
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2]}-{sha256(partition.encode()).hexdigest()}"
    return f"{name}.parquet"


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A table that was made."""

    figures: Figures
    metadata: dict[str, Any]
    value: Any = field(repr=False)


@dataclass(frozen=True)
class _Table:
    """A table to make: the whole one, or that of a Dagster partition."""

    enrichment: Enrichment
    context: dg.AssetExecutionContext
    partition: str | None

    def make(self, value: Any) -> Generator[Event, None, "_Made | None"]:
        """Make it, unless this is a dry run. Yields observations of what else there is to tell."""
        try:
            return (yield from self._make(value))
        except dg.Failure:
            raise
        except Exception as error:
            # From opening or closing the ledger, before there was anything to tell or after all was told.
            raise failure(error, {}) from None

    def _make(self, value: Any) -> Generator[Event, None, "_Made | None"]:
        max_credits = self.enrichment.settings.get("max_credits")
        progress = Lines(0, max_credits=max_credits, say=self.context.log.info, words=log_words)
        upstream: Source | None = None
        settings = self.enrichment.settings
        with self.enrichment.exactbuyer.enricher(progress=progress, **settings) as enricher:
            try:
                upstream = read_upstream(value)
                if self._target is not None:
                    # Before anything is sent: a table that cannot be written is no reason to buy.
                    enricher.check_target(self._target)
                plan = self._plan(enricher, upstream)
                progress.expect(upstream.rows or 0, plan)
                made = None if self.enrichment.dry_run else self._enrich(enricher, upstream, plan, value)
            except Exception as error:
                figures = self._spent(enricher, upstream, error)
                figures |= self._remaining(enricher, upstream, error)
                yield self._observe("what a failed run spent", named(figures))
                # Its causes may quote a person; our own messages never do.
                raise failure(error, figures) from None
            except BaseException as error:
                figures = self._spent(enricher, upstream, error)
                # At once: whoever cancels may not leave the time for more.
                yield self._observe("what a cancelled run spent", named(figures))
                remaining = self._remaining(enricher, upstream, error)
                if remaining:
                    yield self._observe("what a cancelled run left to do", named(figures | remaining))
                raise
        if plan is not None and self.enrichment.dry_run:
            most = {"plan_credits_at_most": plan.credits_at_most}
            shown = {**named(most), PREFIX + "plan": plan_table(plan)}
            yield self._observe("the plan of a dry run: nothing was sent, nothing was written", shown)
        return made

    @property
    def _target(self) -> Place | None:
        path = self.enrichment.path
        return path if path is None or self.partition is None else path / partition_file(self.partition)

    def _plan(self, enricher: Enricher, upstream: Source) -> Plan | None:
        if self.enrichment.dry_run or self.enrichment.checks.credits_within_plan is not None:
            return enricher.plan(upstream)
        return None

    def _enrich(self, enricher: Enricher, upstream: Source, plan: Plan | None, given: Any) -> _Made:
        value = None
        if self._target is not None:
            rows = enricher.write(enricher.enrich_batches(upstream), self._target)
        else:
            value = enricher.enrich_dataframe(_read_parquet(given) if is_path(given) else upstream)
            rows = len(value)
        report = enricher.report
        if report.stopped:
            self.context.log.warning(f"{report.stopped} ({report.not_asked:,} rows were not asked)")
        figures = report_figures(report) | {"input_rows": upstream.rows or 0, "rows": rows}
        if plan is not None:
            figures |= plan_figures(plan)
        return _Made(figures=figures, metadata=self._metadata(upstream, report, figures), value=value)

    def _metadata(self, upstream: Source, report: Report, figures: Figures) -> dict[str, Any]:
        settings, target = self.enrichment.settings, self._target
        types = column_types(upstream)
        layout = find_layout(list(types), settings.get("identifiers"))
        prefix, columns = settings.get("prefix", "eb_"), settings.get("columns")
        whole = self.enrichment.partitions_def is None
        metadata: dict[str, Any] = {
            "dagster/row_count" if whole else "dagster/partition_row_count": figures["rows"],
            "dagster/column_schema": column_schema(
                types, prefix=prefix, columns=columns, lists=settings.get("lists", "list"),
                with_agrees=settings.get("person") is not None,
            ),
            "dagster/column_lineage": column_lineage(
                types, source=self.enrichment.source, identifiers=layout.names,
                prefix=prefix, columns=columns, with_agrees=settings.get("person") is not None,
            ),
            **storage_kind(target),
            PREFIX + "picture": picture(report),
            PREFIX + "found_by": found_by(report),
            PREFIX + "fill_rates": fill_rates(report, prefix=prefix),
            **plotted(figures),
        }  # fmt: skip
        if report.stopped:
            metadata[PREFIX + "stopped"] = report.stopped
        if target is not None and self.enrichment.path is not None:
            metadata["dagster/uri"] = target.resolve().as_uri()
            metadata["dagster/table_name"] = self.enrichment.path.stem
        return metadata

    def _spent(self, enricher: Enricher, upstream: Source | None, error: BaseException) -> Figures:
        # Ends the streams that the frames of the error still hold open: only then the report is whole.
        traceback.clear_frames(error.__traceback__)
        spent = spent_figures(report_figures(enricher.report))
        return spent if upstream is None else {**spent, "input_rows": upstream.rows or 0}

    def _remaining(self, enricher: Enricher, upstream: Source | None, error: BaseException) -> Figures:
        """What is left to do and what it costs at most. Sends nothing."""
        if upstream is None:
            return {}
        if isinstance(error, ConfigError | InputError) and not enricher.report.requests:
            # Of settings or a table that are wrong, there is no plan.
            return {}
        if not isinstance(error, Exception) and (upstream.rows or 0) > _ROWS_PLANNED_WHEN_CANCELLED:
            return {}
        try:
            return remaining_figures(enricher.plan(upstream))
        except EnrichError:
            # The first error is the one to tell.
            return {}

    def _observe(self, what: str, metadata: Mapping[str, Any]) -> dg.AssetObservation:
        # Output metadata of a failed step is lost; an observation stays on the asset's page.
        return dg.AssetObservation(
            self.enrichment.key, description=what, metadata=metadata, partition=self.partition
        )


def _read_parquet(path: object) -> pd.DataFrame:
    where = place(path)
    return pd.read_parquet(where if isinstance(where, Path) else where.open())


def failure(error: Exception, figures: Figures) -> dg.Failure:
    """What Dagster is told: our own words, or of a foreign error its kind and place. Never its text.

    Only what may pass by itself is worth a retry.
    """
    if isinstance(error, EnrichError):
        words = f"{type(error).__name__}: {error}"
        return dg.Failure(words, metadata=named(figures), allow_retries=isinstance(error, Busy))
    where = " ← ".join(
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
    )
    why = f" ({error.strerror})" if isinstance(error, OSError) else ""
    return dg.Failure(
        f"{type(error).__name__}{why} at {where}. Its text is withheld, because it may quote a person. "
        "Mend what is at that place, then run again: what was bought is in the ledger",
        metadata=named(figures),
    )
