"""`eb-dagster plan` and `eb-dagster enrich`: what enriching a file would cost, and doing it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eb_dagster.cli.config import config_option, with_config
from eb_dagster.cli.formats import (
    check_form,
    check_source,
    form_of,
    is_standard,
    load_into,
    open_standard,
    query_table,
    with_asked_as_text,
    with_source_options,
    write_form,
)
from eb_dagster.cli.inputs import (
    InputTable,
    Reading,
    check_column_names,
    is_parquet,
    open_table,
)
from eb_dagster.cli.options import (
    enricher_options,
    force_option,
    with_enrichment_options,
    with_output_options,
)
from eb_dagster.cli.outcome import Outcome, adding_what_was_spent
from eb_dagster.cli.spelling import counted
from eb_dagster.cli.targets import (
    Declined,
    check_replaced,
    check_targets,
    is_terminal,
    ledger_file,
)
from eb_dagster.cli.update import (
    batches_to_write,
    chosen_target,
    refuse_result,
    refuse_same,
    update_key,
    with_target_options,
)

if TYPE_CHECKING:
    from eb_dagster.enricher import Enricher
    from eb_dagster.identifiers.columns import Layout
    from eb_dagster.identifiers.model import FieldType
    from eb_dagster.pipeline.opening import Opening
    from eb_dagster.pipeline.plan import Plan
    from eb_dagster.settings import EnricherOptions
    from eb_dagster.tables.object_store import Place

_MOST_ROWS_PLANNED: Final = 1_000_000
"""A plan reads every row. For more rows than this, the bound is their number: a row costs one credit at most."""


@click.command(
    short_help="Show what enriching a file or a query would ask and cost.",
    epilog='For example: eb-dagster plan leads.csv --email "Work Email" --price 0.05',
)
@click.option(
    "--explain",
    is_flag=True,
    help="List every cell that is not used or not asked, and why. Values are not shown.",
)
@with_source_options
@with_enrichment_options
@config_option()
def plan(
    file: Place | None,
    explain: bool,
    encoding: str | None,
    separator: str | None,
    header_line: int | None,
    sheet: str | None,
    query: str | None,
    connection: str | None,
    price: float | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Show what enriching FILE (CSV, Parquet, NDJSON or .xlsx; - is stdin) or a query would ask and cost. Sends nothing."""
    reading = Reading(encoding, separator, header_line, sheet)
    check_source(file, query, connection, reading)
    with Outcome(as_json=as_json, price=price, ledger=values["ledger"]) as outcome:
        options = with_config(enricher_options(values))
        opened = _open_table(file, query, connection, reading)
        table = with_asked_as_text(opened, options)
        if not os.environ.get("EXACTBUYER_API_KEY", "").strip():
            # Nothing is sent, so no key is needed; this is not one.
            options["api_key"] = "no-key"
        with _open_enricher(table, options) as enricher:
            _tell_opening(enricher.opening)
            outcome.plan = enricher.plan(table.reader())
            if explain:
                outcome.explained = enricher.explain(table.reader()).to_pylist()


@click.command(
    short_help="Enrich a file or a query.",
    epilog="For example: eb-dagster enrich leads.csv -o contacts.parquet --max-credits 5000\n\n"
    "To finish a run that was stopped, run it again: what was bought is in the ledger.",
)
@with_target_options
@with_output_options
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write the report as a web page with plots. It shows no people.",
)
@click.option(
    "--confirm-above",
    type=click.IntRange(min=0),
    metavar="CREDITS",
    default=1000,
    show_default=True,
    help="On a terminal, ask before spending more than this.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@force_option
@with_source_options
@with_enrichment_options
@config_option()
def enrich(
    file: Place | None,
    output: Place | None,
    update: Place | None,
    form: str | None,
    into: str | None,
    dataset: str | None,
    key: Sequence[str],
    page: Path | None,
    encoding: str | None,
    separator: str | None,
    header_line: int | None,
    sheet: str | None,
    query: str | None,
    connection: str | None,
    price: float | None,
    as_json: bool,
    confirm_above: int,
    yes: bool,
    force: bool,
    **values: Any,
) -> None:
    """Enrich FILE (CSV, Parquet, NDJSON or .xlsx; - is stdin) or a query into OUTPUT or a database; print the report."""
    from eb_dagster.pipeline.progress import shell_display

    reading = Reading(encoding, separator, header_line, sheet)
    check_source(file, query, connection, reading)
    target = chosen_target(output, update=update, into=into, dataset=dataset, key=key)
    refuse_same(file, update)
    ledger: str | None = values["ledger"]
    asks = not yes and is_terminal()
    is_stdout_taken = is_standard(target)
    with Outcome(as_json=as_json, price=price, ledger=ledger, is_stdout_taken=is_stdout_taken) as outcome:
        published = None if is_stdout_taken else target
        check_targets(None if is_standard(file) else file, published, page, ledger=ledger_file(ledger))
        if not force:
            check_replaced(published, page, ledger=ledger, asks=asks)
        options = with_config(enricher_options(values))
        opened = _open_table(file, query, connection, reading)
        table = with_asked_as_text(opened, options)
        refuse_result(table, file, prefix=values["prefix"])
        if target is not None:
            _check_columns(table, target, form)
        cap = options.get("max_credits")
        bar = shell_display(table.rows, max_credits=cap, say=_say)
        options["progress"] = bar
        with _open_enricher(table, options) as enricher:
            _tell_opening(enricher.opening)
            _check_parquet(enricher, target)
            if (asks or as_json or bar.is_live) and table.rows <= _MOST_ROWS_PLANNED:
                outcome.plan = enricher.plan(table.reader())
                bar.expect(table.rows, outcome.plan)
            if asks:
                most = _most_credits(outcome.plan, rows=table.rows, cap=cap)
                _confirm(most, above=confirm_above, price=price)
            try:
                with bar, adding_what_was_spent(enricher):
                    enricher.on_stopping = bar.say
                    if target is not None:
                        updates_by = update_key(update, key)
                        _write(enricher, table, target, form, prefix=values["prefix"], key=updates_by)
                    else:
                        outcome.loaded = load_into(
                            enricher, table, into or "", dataset or "", key=key, prefix=values["prefix"]
                        )
                outcome.output = target
            finally:
                _finish(enricher, outcome, page)


def _open_table(
    file: Place | None, query: str | None, connection: str | None, reading: Reading
) -> InputTable:
    if file is None:
        return query_table(query or "", connection or "")
    return open_standard(reading) if is_standard(file) else open_table(file, reading)


def _check_columns(table: InputTable, output: Place, form: str | None) -> None:
    written = form_of(output, form)
    if written in ("parquet", "ndjson", "jsonl"):
        check_column_names(table)
    check_form(table, written)


def _check_parquet(enricher: Enricher, target: Place | None) -> None:
    if target is not None and is_parquet(target):
        enricher.check_target(target)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _finish(enricher: Enricher, outcome: Outcome, page: Path | None) -> None:
    outcome.report = enricher.report
    # Closed before the report is shown, because requests that were in flight when a signal came are still to be
    # counted.
    enricher.close()
    if page is not None and (outcome.output or outcome.loaded or outcome.report.requests):
        with adding_what_was_spent(enricher):
            outcome.write_page(page)


def _open_enricher(table: InputTable, options: EnricherOptions) -> Enricher:
    """The enricher for a table. Tells which columns it asks."""
    from eb_dagster.enricher import Enricher
    from eb_dagster.identifiers.columns import find_layout, suggest
    from eb_dagster.identifiers.rows import check_person_columns

    samples = table.samples()

    def show(likely: Mapping[FieldType, Sequence[str]]) -> str:
        return _as_options(suggest(table.columns, samples) or likely)

    layout = find_layout(table.columns, options.get("identifiers"), show=show)
    check_person_columns(table.columns, options.get("person") or {})
    enricher = Enricher(**options)
    _tell_columns(table, layout, samples)
    return enricher


def _tell_opening(opening: Opening) -> None:
    """Say from whom this buys, by which ledger, and what the caps leave."""
    for line in opening.lines:
        click.echo(f"  {line}", err=True)
    if opening.warning is not None:
        click.echo(f"  warning: {opening.warning}", err=True)


def _tell_columns(table: InputTable, layout: Layout, samples: Mapping[str, Sequence[str]]) -> None:
    from eb_dagster.identifiers.columns import suggest

    columns = [f"{name!r} ({kind})" for kind, name in layout.columns] or ["'value' of each row"]
    click.echo(f"  asks {', then '.join(columns)}", err=True)
    likely = suggest([name for name in table.columns if name not in layout.names], samples)
    if likely and layout.shape == "wide":
        click.echo(f"  not asked, though it looks like identifiers: {_as_options(likely)}", err=True)


def _as_options(columns: Mapping[FieldType, Sequence[str]]) -> str:
    return " ".join(
        f"--{kind.replace('_', '-')} {_quoted(name)}" for kind, names in columns.items() for name in names
    )


def _quoted(name: str) -> str:
    if re.fullmatch(r"[\w.…-]+", name):
        return name
    # Every shell understands double quotes, but not what these characters mean inside them.
    return shlex.quote(name) if re.search(r'["$`\\!%]', name) else f'"{name}"'


def _most_credits(plan: Plan | None, *, rows: int, cap: int | None) -> int:
    most = rows if plan is None else plan.spends_at_most
    return most if cap is None else min(most, cap)


def _confirm(most_credits: int, *, above: int, price: float | None) -> None:
    from eb_dagster.pipeline.facts import money

    if most_credits <= above:
        return
    cost = "" if price is None else f", {money(most_credits, price)}"
    if not click.confirm(f"This buys up to {counted(most_credits, 'contact')}{cost}. Go on?", err=True):
        raise Declined


def _write(
    enricher: Enricher, table: InputTable, target: Place, form: str | None, *, prefix: str, key: str | None
) -> None:
    reader = batches_to_write(enricher, table, target, key)
    if is_parquet(target):
        enricher.write(reader, target)
    else:
        write_form(enricher, reader, table, target, form_of(target, form), prefix=prefix)
