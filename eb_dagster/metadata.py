"""What the asset's page shows: figures, schemas, lineage and a table of them. Never a person's data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import dagster as dg

from eb_dagster.contacts import CONTACT_COLUMNS, STATUS_COLUMNS, select
from eb_dagster.plan import Plan
from eb_dagster.report import Report

Figures = dict[str, int | float]

PREFIX = "exactbuyer/"
_BAR = 20


def column_schema(
    inputs: Mapping[str, str], *, prefix: str = "eb_", columns: Sequence[str] | None = None
) -> dg.TableSchema:
    """The columns of the input, by name and type, and the added ones with their descriptions."""
    passed = [dg.TableColumn(name, kind) for name, kind in inputs.items()]
    added = [
        dg.TableColumn(
            prefix + one.name, str(one.type), one.description,
            dg.TableColumnConstraints(nullable=one.nullable),
        )
        for one in (*STATUS_COLUMNS, *select(columns))
    ]  # fmt: skip
    return dg.TableSchema(columns=[*passed, *added])


def column_lineage(
    inputs: Iterable[str],
    *,
    source: dg.AssetKey,
    identifiers: Iterable[str],
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
) -> dg.TableColumnLineage:
    """Columns of the input come from themselves; what was bought comes from the identifiers."""
    asked = [dg.TableColumnDep(asset_key=source, column_name=name) for name in identifiers]
    passed = {name: [dg.TableColumnDep(asset_key=source, column_name=name)] for name in inputs}
    added = {prefix + one.name: asked for one in (*STATUS_COLUMNS, *select(columns))}
    return dg.TableColumnLineage(deps_by_column={**passed, **added})


def report_figures(report: Report) -> Figures:
    """Every number of the report, and the sum of every count. Dagster plots them over time."""
    figures: Figures = {}
    for one in fields(report):
        if one.name == "filled":
            # A sum over the columns says nothing.
            continue
        value = getattr(report, one.name)
        if isinstance(value, Counter):
            figures[one.name] = sum(cast("Counter[str]", value).values())
        elif isinstance(value, int | float):
            figures[one.name] = value
    figures |= {f"matched_by_{kind}": count for kind, count in report.matched_by.items()}
    if report.match_rate is not None:
        figures["match_rate"] = report.match_rate
    return figures


def plan_figures(plan: Plan) -> Figures:
    """What a run would ask, and cost at most."""
    return {
        "plan_rows": plan.rows,
        "plan_identifiers_to_ask": plan.to_ask,
        "plan_identifiers_to_ask_at_most": plan.to_ask_at_most,
        "plan_requests": plan.requests,
        "plan_requests_at_most": plan.requests_at_most,
        "plan_credits_at_most": plan.credits_at_most,
    }


def remaining_figures(plan: Plan) -> Figures:
    """What a run that ended early leaves to do."""
    return {
        "remaining_identifiers": plan.to_ask,
        "remaining_requests": plan.requests,
        "credits_to_finish_at_most": plan.credits_at_most,
    }


def named(figures: Mapping[str, int | float]) -> Figures:
    """Figures under the keys that the asset's page shows."""
    return {PREFIX + name: value for name, value in figures.items()}


def figures_in(metadata: Mapping[str, Any]) -> Figures:
    """The figures back from what the asset's page shows."""
    numbers = {name: one.value for name, one in metadata.items() if name.startswith(PREFIX)}
    return {
        name.removeprefix(PREFIX): value for name, value in numbers.items() if isinstance(value, int | float)
    }


def add_up(parts: Sequence[Mapping[str, int | float]]) -> Figures:
    """The figures of several partitions as those of one run."""
    total: Figures = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    total.pop("match_rate", None)
    known = total.get("matched", 0) + total.get("not_found", 0)
    if known:
        total["match_rate"] = total.get("matched", 0) / known
    return total


def overview(report: Report, *, prefix: str = "eb_") -> dg.MarkdownMetadataValue:
    """What each kind of identifier found, and how full the bought columns are, as tables with bars.

    Bars of letters: Dagster's page shows no picture that comes with the text.
    """
    lines = ["| asked by | rows that asked | matched | |", "|---|--:|--:|:--|"]
    for kind, asked in report.answered_by.most_common():
        matched = report.matched_by[kind]
        lines.append(f"| {kind} | {asked:,} | {matched:,} | {_bar(matched, asked)} |")
    lines += ["", "| column | filled | of all matched |", "|---|--:|:--|"]
    for one in CONTACT_COLUMNS:
        if one.name in report.filled:
            count = report.filled[one.name]
            lines.append(f"| {prefix}{one.name} | {count:,} | {_bar(count, report.matched)} |")
    return dg.MetadataValue.md("\n".join(lines))


def plan_table(plan: Plan) -> dg.MarkdownMetadataValue:
    """The plan as it prints, as a table."""
    lines = ["| the plan | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in plan.facts())]
    return dg.MetadataValue.md("\n".join(lines))


def _bar(count: int, whole: int) -> str:
    share = count / whole if whole else 0.0
    full = round(share * _BAR)
    return f"`{'█' * full}{'░' * (_BAR - full)}` {share:.0%}"
