"""What the asset's page shows: figures, schemas, lineage and a table of them. Never a person's data."""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import dagster as dg

from eb_dagster.contacts.schema import CONTACT_COLUMNS, ListsChoice, added_columns, arrow_schema
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.report import Report

Figures = dict[str, int | float]

PREFIX = "exactbuyer/"

# What somebody looks at over time, those first that people look for, and beside them `matched_email` and so
# on. The rest is nearly always zero, or the same as one of these or as Dagster's row count: a plot of each
# would hide those that move.
_PLOTTED = (
    "match_rate", "credits_charged", "credits_saved", "credits_in_doubt", "matched", "not_found", "invalid",
    "not_asked", "in_doubt", "from_ledger", "requests", "drift", "seconds", "plan_credits_at_most",
)  # fmt: skip
_EVERY = PREFIX + "figures"
_SPENT = ("credits_charged", "credits_in_doubt", "requests", "seconds")
# What they count is shown one by one.
_NOT_SUMMED = ("filled", "matched_by", "answered_by")
_BAR = 20
_STATUSES = {
    "matched": "#2b8a3e", "not_found": "#868e96", "invalid": "#f08c00", "suppressed": "#495057",
    "not_asked": "#74c0fc", "in_doubt": "#e03131", "unreadable": "#9c36b5",
}  # fmt: skip


def column_schema(
    inputs: Mapping[str, str],
    *,
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
    lists: ListsChoice = "list",
    with_agrees: bool = False,
) -> dg.TableSchema:
    """The columns of the input, by name and type, and the added ones with their descriptions."""
    passed = [dg.TableColumn(name, kind) for name, kind in inputs.items()]
    added = [
        dg.TableColumn(
            one.name, str(one.type), one.metadata[b"description"].decode(),
            dg.TableColumnConstraints(nullable=one.nullable),
        )
        for one in cast(
            "Any", arrow_schema(prefix=prefix, columns=columns, lists=lists, with_agrees=with_agrees)
        )
    ]  # fmt: skip
    return dg.TableSchema(columns=[*passed, *added])


def column_lineage(
    inputs: Iterable[str],
    *,
    source: dg.AssetKey,
    identifiers: Iterable[str],
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
    with_agrees: bool = False,
) -> dg.TableColumnLineage:
    """Columns of the input come from themselves; what was bought comes from the identifiers."""
    asked = [dg.TableColumnDep(asset_key=source, column_name=name) for name in identifiers]
    passed = {name: [dg.TableColumnDep(asset_key=source, column_name=name)] for name in inputs}
    chosen = added_columns(prefix=prefix, columns=columns, with_agrees=with_agrees)
    added = {prefix + one.name: asked for one in chosen}
    return dg.TableColumnLineage(deps_by_column={**passed, **added})


def storage_kind(path: object) -> dict[str, str]:
    """What keeps the table. Of one that goes to an I/O manager, only its owner knows."""
    return {} if path is None else {"dagster/storage_kind": "parquet"}


def report_figures(report: Report) -> Figures:
    """The report as numbers."""
    figures: Figures = {} if report.match_rate is None else {"match_rate": round(report.match_rate, 4)}
    for one in fields(report):
        value = getattr(report, one.name)
        if isinstance(value, Counter):
            if one.name not in _NOT_SUMMED:
                figures[one.name] = sum(cast("Counter[str]", value).values())
        elif isinstance(value, int | float):
            figures[one.name] = value
    figures["seconds"] = round(report.seconds, 1)
    # Also of a kind that was asked and found nobody: a plot should fall to zero, not break off.
    return figures | {f"matched_{kind}": report.matched_by[kind] for kind in report.answered_by}


def spent_figures(figures: Figures) -> Figures:
    """Those of a run that ended early. What became of its rows is not known, so none are counted.

    Each is one that is plotted: the page draws them in one line with those of the whole runs.
    """
    return {name: figures[name] for name in _SPENT}


def plan_figures(plan: Plan) -> Figures:
    """What a run would ask, and cost at most."""
    return {
        "plan_credits_at_most": plan.credits_at_most,
        "plan_identifiers": plan.to_ask,
        "plan_requests": plan.requests,
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


def plotted(figures: Mapping[str, int | float]) -> dict[str, Any]:
    """The figures of a table that was made: Dagster plots each number over time, and keeps the rest in one."""
    steps = [name for name in figures if name.startswith("matched_")]
    shown = {name: figures[name] for name in (*_PLOTTED, *steps) if name in figures}
    return {**named(shown), _EVERY: dg.MetadataValue.json(dict(figures))}


def figures_in(metadata: Mapping[str, Any]) -> Figures:
    """The figures back from what the asset's page shows."""
    numbers = {
        name.removeprefix(PREFIX): one.value for name, one in metadata.items() if name.startswith(PREFIX)
    }
    every: Mapping[str, Any] = metadata[_EVERY].value if _EVERY in metadata else {}
    return {name: value for name, value in {**numbers, **every}.items() if isinstance(value, int | float)}


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


def found_by(report: Report) -> dg.MarkdownMetadataValue:
    """What each kind of identifier was asked and found."""
    lines = ["| asked by | rows that asked | matched | |", "|---|--:|--:|:--|"]
    for kind, asked in report.answered_by.most_common():
        matched = report.matched_by[kind]
        lines.append(f"| {kind} | {asked:,} | {matched:,} | {_bar(matched, asked)} |")
    return dg.MetadataValue.md("\n".join(lines))


def fill_rates(report: Report, *, prefix: str = "eb_") -> dg.MarkdownMetadataValue:
    """How many of the matched rows hold a value, by column."""
    lines = ["| column | filled | of all matched |", "|---|--:|:--|"]
    for one in CONTACT_COLUMNS:
        if one.name in report.filled:
            count = report.filled[one.name]
            lines.append(f"| {prefix}{one.name} | {count:,} | {_bar(count, report.matched)} |")
    return dg.MetadataValue.md("\n".join(lines))


def picture(report: Report) -> dg.MarkdownMetadataValue:
    """What became of the rows, as a bar.

    Dagster's page shows a picture that is in the text itself, and without a click if the text is
    shorter than 1000 characters.
    """
    counts = {name: getattr(report, name) for name in _STATUSES}
    counts["invalid"] = sum(report.invalid.values())
    whole, at, bars, words = max(report.rows, 1), 0.0, "", ""
    for name, count in counts.items():
        if count:
            width = 440 * count / whole
            bars += f'<path fill="{_STATUSES[name]}" d="M{at:.0f} 0h{max(width, 1):.0f}v16h-{max(width, 1):.0f}"/>'
            words += f'<tspan fill="{_STATUSES[name]}">{name} {count / whole:.0%} </tspan>'
            at += width
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="490" height="36">'
        f'{bars}<text y="32" style="font:11px sans-serif">{words}</text></svg>'
    )
    return dg.MetadataValue.md(f"![rows](data:image/svg+xml;base64,{b64encode(drawing.encode()).decode()})")


def plan_table(plan: Plan) -> dg.MarkdownMetadataValue:
    """The plan as it prints, as a table."""
    lines = ["| the plan | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in plan.facts())]
    return dg.MetadataValue.md("\n".join(lines))


def _bar(count: int, whole: int) -> str:
    share = count / whole if whole else 0.0
    full = round(share * _BAR)
    return f"`{'█' * full}{'░' * (_BAR - full)}` {share:.0%}"
