"""What the asset's page shows: figures, schemas, lineage and a table of them. Never a person's data."""

import inspect
import warnings
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from types import FrameType
from typing import Any, cast

import dagster as dg
import pyarrow as pa

from eb_dagster.contacts.schema import CONTACT_COLUMNS, added_columns, arrow_schema
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.report import Report
from eb_dagster.settings import AssetOptions

Figures = dict[str, int | float]

PREFIX = "exactbuyer/"

# The figures that are worth watching over time, the most wanted first, and beside them `matched_email` and so
# on. The others are nearly always zero, or repeat one of these or Dagster's row count; their plots would hide
# those that change.
_PLOTTED = (
    "match_rate",
    "cost",
    "credits_charged",
    "credits_saved",
    "credits_in_doubt",
    "matched",
    "not_found",
    "invalid",
    "not_asked",
    "in_doubt",
    "from_ledger",
    "requests",
    "drift",
    "seconds",
    "plan_credits_at_most",
)
_ALL_FIGURES = PREFIX + "figures"
_SPENT = ("cost", "credits_charged", "credits_in_doubt", "requests", "seconds")
# A sum of these counters means nothing; each count is shown by itself.
_NOT_SUMMED = ("filled", "matched_by", "answered_by")
_NO_FIGURES = ("price", "is_read_first")
_BAR_LENGTH = 20
_PICTURE_WIDTH = 440
_STATUS_COLORS = {
    "matched": "#2b8a3e",
    "not_found": "#868e96",
    "invalid": "#f08c00",
    "suppressed": "#495057",
    "not_asked": "#74c0fc",
    "in_doubt": "#e03131",
    "unreadable": "#9c36b5",
}


def column_schema(inputs: Mapping[str, str], options: AssetOptions) -> dg.TableSchema:
    """The columns of the input, by name and type, and the added ones with their descriptions."""
    schema = arrow_schema(
        prefix=options.get("prefix", "eb_"),
        columns=options.get("columns"),
        lists=options.get("lists", "list"),
        with_agrees=options.get("person") is not None,
    )
    input_columns = [dg.TableColumn(name, kind) for name, kind in inputs.items()]
    return dg.TableSchema(columns=[*input_columns, *map(_column, schema)])


def _column(field: "pa.Field") -> dg.TableColumn:
    metadata = field.metadata or {}
    return dg.TableColumn(
        field.name,
        str(field.type),
        metadata[b"description"].decode(),
        dg.TableColumnConstraints(nullable=field.nullable),
    )


def column_lineage(
    inputs: Iterable[str],
    options: AssetOptions,
    *,
    origins: Mapping[str, Sequence[dg.AssetKey]],
    identifiers: Iterable[str],
) -> dg.TableColumnLineage:
    """Input columns depend on themselves upstream; added columns depend on the columns with identifiers.

    `origins` are the assets that each input column comes from.
    """
    prefix = options.get("prefix", "eb_")
    same = {
        name: [dg.TableColumnDep(asset_key=key, column_name=name) for key in origins.get(name, ())]
        for name in inputs
    }
    asked = [dep for name in identifiers for dep in same.get(name, ())]
    new_columns = added_columns(
        prefix=prefix, columns=options.get("columns"), with_agrees=options.get("person") is not None
    )
    bought = {prefix + column.name: asked for column in new_columns}
    return dg.TableColumnLineage(deps_by_column={**same, **bought})


def code_reference() -> dict[str, dg.CodeReferencesMetadataValue]:
    """Where the user's own file calls a factory of ours; nothing where dg does, which knows the line of its YAML."""
    frame = inspect.currentframe()
    while frame is not None and _module_of(frame) == "eb_dagster":
        frame = frame.f_back
    if frame is None or _module_of(frame) == "dagster":
        return {}
    with warnings.catch_warnings():
        # Users need not be told that Dagster calls this a beta.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=frame.f_code.co_filename, line_number=frame.f_lineno)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def storage_kind(path: object) -> dict[str, str]:
    """The kind of storage of the table. If an I/O manager takes it, only that knows."""
    return {} if path is None else {"dagster/storage_kind": "parquet"}


def _counts(report: Report) -> Figures:
    counts: Figures = {}
    for name in (field.name for field in fields(report) if field.name not in _NO_FIGURES):
        value = getattr(report, name)
        if isinstance(value, int | float):
            counts[name] = value
        elif isinstance(value, Counter) and name not in _NOT_SUMMED:
            counts[name] = sum(cast("Counter[str]", value).values())
    return counts


def report_figures(report: Report) -> Figures:
    """The report as numbers."""
    figures: Figures = {} if report.match_rate is None else {"match_rate": round(report.match_rate, 4)}
    figures |= _counts(report)
    figures["seconds"] = round(report.seconds, 1)
    if report.cost is not None:
        figures["cost"] = report.cost
    # A kind that found nobody counts as zero, so that its plot falls to zero and does not break off.
    return figures | {f"matched_{kind}": report.matched_by[kind] for kind in report.answered_by}


def spent_figures(figures: Figures) -> Figures:
    """The figures of a run that ended early. What became of its rows is not known, so no rows are counted.

    All of these are plotted figures: the page draws them on the same line as those of complete runs.
    """
    return {name: figures[name] for name in _SPENT if name in figures}


def plan_figures(plan: Plan) -> Figures:
    """What a run would ask, and what it would cost at most."""
    figures: Figures = {
        "plan_credits_at_most": plan.credits_at_most,
        "plan_identifiers": plan.to_ask,
        "plan_requests": plan.requests,
    }
    return (
        figures if plan.price is None else figures | {"plan_cost_at_most": plan.spends_at_most * plan.price}
    )


def remaining_figures(plan: Plan) -> Figures:
    """What a run that ended early leaves to be done."""
    return {
        "remaining_identifiers": plan.to_ask,
        "remaining_requests": plan.requests,
        "credits_to_finish_at_most": plan.credits_at_most,
    }


def named(figures: Mapping[str, int | float]) -> Figures:
    """Figures under the keys that the asset's page shows."""
    return {PREFIX + name: value for name, value in figures.items()}


def plotted(figures: Mapping[str, int | float]) -> dict[str, Any]:
    """The metadata of a finished table: numbers, which Dagster plots over time, and all figures as one JSON value."""
    matched_by_kind = [name for name in figures if name.startswith("matched_")]
    shown = {name: figures[name] for name in (*_PLOTTED, *matched_by_kind) if name in figures}
    return {**named(shown), _ALL_FIGURES: dg.MetadataValue.json(dict(figures))}


def figures_in(metadata: Mapping[str, Any]) -> Figures:
    """The figures, read back from the metadata that the asset's page shows."""
    figures = {
        name.removeprefix(PREFIX): value.value for name, value in metadata.items() if name.startswith(PREFIX)
    }
    if _ALL_FIGURES in metadata:
        figures |= metadata[_ALL_FIGURES].value
    return {name: figure for name, figure in figures.items() if isinstance(figure, int | float)}


def add_up(parts: Sequence[Mapping[str, int | float]]) -> Figures:
    """The figures of several partitions added up to those of a run."""
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
    """How many rows asked by each kind of identifier, and how many matched."""
    lines = ["| asked by | rows that asked | matched | |", "|---|--:|--:|:--|"]
    for kind, asked in report.answered_by.most_common():
        matched = report.matched_by[kind]
        lines.append(f"| {kind} | {asked:,} | {matched:,} | {_bar(matched, asked)} |")
    return dg.MetadataValue.md("\n".join(lines))


def fill_rates(report: Report, *, prefix: str = "eb_") -> dg.MarkdownMetadataValue:
    """How many of the matched rows hold a value, by column."""
    lines = ["| column | filled | of all matched |", "|---|--:|:--|"]
    for column in CONTACT_COLUMNS:
        if column.name in report.filled:
            count = report.filled[column.name]
            lines.append(f"| {prefix}{column.name} | {count:,} | {_bar(count, report.matched)} |")
    return dg.MetadataValue.md("\n".join(lines))


def picture(report: Report) -> dg.MarkdownMetadataValue:
    """What became of the rows, as a bar.

    Dagster's page shows a picture that is in the text itself, and without a click only if the text is shorter
    than 1000 characters.
    """
    counts = {status: getattr(report, status) for status in _STATUS_COLORS}
    counts["invalid"] = sum(report.invalid.values())
    rows = max(report.rows, 1)
    left = 0.0
    bars: list[str] = []
    labels: list[str] = []
    for status, count in counts.items():
        if not count:
            continue
        color = _STATUS_COLORS[status]
        width = _PICTURE_WIDTH * count / rows
        shown_width = f"{max(width, 1):.0f}"
        bars.append(f'<path fill="{color}" d="M{left:.0f} 0h{shown_width}v16h-{shown_width}"/>')
        labels.append(f'<tspan fill="{color}">{status} {count / rows:.0%} </tspan>')
        left += width
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="490" height="36">'
        f'{"".join(bars)}<text y="32" style="font:11px sans-serif">{"".join(labels)}</text></svg>'
    )
    return dg.MetadataValue.md(f"![rows](data:image/svg+xml;base64,{b64encode(drawing.encode()).decode()})")


def plan_table(plan: Plan) -> dg.MarkdownMetadataValue:
    """The plan as it prints, as a table."""
    lines = ["| the plan | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in plan.facts())]
    return dg.MetadataValue.md("\n".join(lines))


def _bar(count: int, total: int) -> str:
    share = count / total if total else 0.0
    full = round(share * _BAR_LENGTH)
    return f"`{'█' * full}{'░' * (_BAR_LENGTH - full)}` {share:.0%}"
