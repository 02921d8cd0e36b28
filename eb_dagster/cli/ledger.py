"""`eb-dagster ledger …`: look into a ledger and decide. Needs no API key and sends nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from eb_dagster.cli.config import config_option, configured_ledger
from eb_dagster.cli.doubts import lead_through, list_open
from eb_dagster.cli.groups import Commands
from eb_dagster.cli.options import force_option, setting_option, with_options
from eb_dagster.cli.outcome import reporting_errors as reporting_errors
from eb_dagster.cli.spelling import counted
from eb_dagster.cli.targets import confirm_replacing, is_terminal

if TYPE_CHECKING:
    from eb_dagster.ledger.budget import Period
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.ledger.reconcile import Decision, Doubt, Month

_LARGEST_REQUEST: Final = 2**63 - 1
_MONTH_COLUMNS: Final = ("month", "requests", "asked", "credits", "in_flight", "in_doubt", "unreadable")
_DONE: Final = {
    "resend": "will be asked again",
    "write-off": "were written off",
    "charged": "count as charged",
}


def _keep_ledger(context: click.Context, _: click.Parameter, named: str | None) -> None:
    if named is None:
        return
    # A command's context starts with the ledger that was named before the command.
    if context.obj not in (None, named):
        # An address may hold a password, so neither is repeated.
        raise click.UsageError("--ledger names one ledger before the command and another after it; name one")
    context.obj = named


named_ledger: Any = with_options(
    [setting_option("ledger", expose_value=False, callback=_keep_ledger), config_option(applies=False)]
)


@click.group(cls=Commands)
@named_ledger
def ledger() -> None:
    """Look into the ledger, decide about what is in doubt, and let people be forgotten."""


@contextmanager
def opened_ledger(context: click.Context, *, must_exist: bool = True) -> Generator[Ledger]:
    """The ledger that the command line or the environment names. Our errors end the command with exit code 2."""
    from eb_dagster.ledger.connection import database_url, file_of
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.settings import read_ledger

    with reporting_errors():
        if context.obj is None and "EB_DAGSTER_LEDGER" not in os.environ:
            context.obj = configured_ledger(context)
        named = read_ledger(context.obj)
        if context.obj is None and "EB_DAGSTER_LEDGER" not in os.environ:
            # Nobody named the ledger, so nobody may know where it is.
            click.echo(f"ledger: {named}", err=True)
        file = file_of(database_url(named))
        if not must_exist and file is not None and not file.exists():
            click.echo(f"new, empty ledger {named}", err=True)
        with closing(Ledger(named, endpoint="", must_exist=must_exist)) as opened:
            yield opened


@ledger.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@named_ledger
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show what was bought, by month, and what is in doubt."""
    import json
    from dataclasses import asdict

    from eb_dagster.ledger import reconcile
    from eb_dagster.ledger.connection import shown_url

    with opened_ledger(context) as opened:
        months = reconcile.months(opened)
        doubts = reconcile.doubts(opened)
        unreadable = reconcile.unreadable(opened)
        caps = opened.budget.caps()
        where = shown_url(opened.database.url)
    if as_json:
        lists = {"months": months, "doubts": doubts, "unreadable": unreadable}
        facts = {name: [asdict(item) for item in items] for name, items in lists.items()}
        click.echo(json.dumps({**facts, "caps": caps}, default=str))
        return
    click.echo(f"ledger: {where}")
    _print_months(months)
    _print_caps(caps)
    _print_in_doubt(doubts)
    _print_unreadable(unreadable)


def _print_caps(caps: Mapping[Period, int | None]) -> None:
    for period, cap in caps.items():
        if cap is not None:
            click.echo(f"cap: {counted(cap, 'credit')} a {period}")


def _print_in_doubt(doubts: Sequence[Doubt]) -> None:
    if not doubts:
        click.echo("nothing is in doubt")
        return
    credits_at_risk = sum(doubt.at_risk for doubt in doubts)
    click.echo(
        f"in doubt: up to {counted(credits_at_risk, 'credit')} in {counted(len(doubts), 'request')}. Compare with "
        "the vendor's\nbill, then decide: eb-dagster ledger resolve"
    )
    _print_doubts(doubts)
    click.echo(
        "  before and after are the credits that the bill should have without and with the request, as far as\n"
        "  nothing else is in doubt"
    )


def _print_unreadable(unreadable: Sequence[Doubt]) -> None:
    if not unreadable:
        return
    identifiers = sum(doubt.at_risk for doubt in unreadable)
    click.echo(
        f"cannot be read: {counted(identifiers, 'identifier')} in {counted(len(unreadable), 'request')}. An upgrade "
        "may read\nthem (eb-dagster ledger reread); or decide about them as about what is in doubt"
    )
    _print_doubts(unreadable)


def _chosen_decision(decisions: Mapping[str, bool]) -> Decision:
    chosen = [name.replace("_", "-") for name, is_chosen in decisions.items() if is_chosen]
    if len(chosen) != 1:
        raise click.UsageError("give one of --resend, --write-off, --charged")
    return cast("Decision", chosen[0])


def _month_cells(month: Month) -> list[str]:
    return [_shown(getattr(month, column)) for column in _MONTH_COLUMNS]


def _print_months(months: Sequence[Month]) -> None:
    for endpoint in dict.fromkeys(month.endpoint for month in months):
        click.echo(endpoint)
        rows = [_month_cells(month) for month in months if month.endpoint == endpoint]
        _print_table([column.replace("_", " ") for column in _MONTH_COLUMNS], rows)
    click.echo("" if months else "nothing was bought yet")


def _print_doubts(doubts: Sequence[Doubt]) -> None:
    rows = [
        [
            str(doubt.request),
            f"{doubt.sent_at:%Y-%m-%d %H:%M:%S}",
            _shown(doubt.asked),
            _shown(doubt.at_risk),
            _shown(doubt.credits_before),
            f"≤ {_shown(doubt.credits_before + doubt.at_risk)}",
            doubt.reason,
        ]
        for doubt in doubts
    ]
    _print_table(["request", "sent (UTC)", "asked", "at risk", "before", "after", "what happened"], rows)


@ledger.command()
@click.argument("requests", type=click.IntRange(1, _LARGEST_REQUEST), nargs=-1)
@click.option("--all", "every_request", is_flag=True, help="Every request that `show` lists.")
@click.option("--resend", is_flag=True, help="Ask again in the next run; it may be charged twice.")
@click.option("--write-off", is_flag=True, help="No longer count it as at risk; never ask again.")
@click.option(
    "--charged", is_flag=True, help="It is on the vendor's bill: count it as spent; never ask again."
)
@click.option(
    "--credits",
    "charged_credits",
    type=click.IntRange(min=0),
    help="With --charged and one request: how many credits. Default: what its reply says, else all.",
)
@click.option(
    "--ask-again", is_flag=True, help="With --charged: ask again in the next run; it may be paid twice."
)
@named_ledger
@click.pass_context
def resolve(
    context: click.Context,
    requests: tuple[int, ...],
    every_request: bool,
    charged_credits: int | None,
    ask_again: bool,
    **decisions: bool,
) -> None:
    """Decide about REQUESTS that are in doubt or cannot be read (their numbers are in `show`).

    Without REQUESTS and a decision, it takes you through all of them on a terminal; elsewhere it lists them.
    """
    from eb_dagster.ledger import reconcile

    if not any(decisions.values()) and charged_credits is None and not ask_again:
        _decide_one_by_one(context, requests)
        return
    decision = _chosen_decision(decisions)
    if bool(requests) == every_request:
        raise click.UsageError("name requests, or give --all")
    with opened_ledger(context) as opened:
        chosen = [doubt.request for doubt in _open_requests(opened)]
        if not every_request:
            chosen = list(dict.fromkeys(requests))
        count = reconcile.resolve(opened, chosen, decision, credits=charged_credits, ask_again=ask_again)
    again = ", will be asked again, and may be paid twice" if ask_again else ""
    what = f"{counted(count, 'identifier')} of {counted(len(chosen), 'request')}"
    click.echo(f"{what} {_DONE[decision]}{again}")


def _open_requests(opened: Ledger) -> list[Doubt]:
    from eb_dagster.ledger import reconcile

    return [*reconcile.doubts(opened), *reconcile.unreadable(opened)]


def _decide_one_by_one(context: click.Context, requests: Sequence[int]) -> None:
    with opened_ledger(context) as opened:
        doubts = [doubt for doubt in _open_requests(opened) if not requests or doubt.request in requests]
        if requests and not doubts:
            named = ", ".join(map(str, requests))
            click.echo(f"there is nothing to decide about request {named}; see eb-dagster ledger show")
        elif not doubts:
            click.echo("nothing is in doubt, and everything can be read: there is nothing to decide")
        elif is_terminal():
            lead_through(opened, doubts)
        else:
            list_open(doubts)
            sys.exit(2)


@ledger.command()
@named_ledger
@click.pass_context
def reread(context: click.Context) -> None:
    """Read kept replies again that could not be read in full. Costs nothing."""
    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
        result = reconcile.reread(opened)
    click.echo(
        f"{counted(result.replies, 'reply')} read again: {counted(result.contacts, 'more contact')}, "
        f"{counted(result.unreadable, 'identifier')} still unreadable"
    )


@ledger.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet file to write (.parquet)."
)
@force_option
@named_ledger
@click.pass_context
def export(context: click.Context, output: Path, force: bool) -> None:
    """Write the receipts of all requests to a Parquet file. No person is in it."""
    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
        reconcile.check_export(opened, output)
        if not force and output.is_file() and not reconcile.is_export(opened, output):
            confirm_replacing(output, asks=is_terminal())
        rows = reconcile.export(opened, output)
    click.echo(f"{counted(rows, 'receipt')} written to {output}")


@ledger.command()
@named_ledger
@click.pass_context
def check(context: click.Context) -> None:
    """Go through the whole ledger: do checksums match, do credits add up? Exit code 1 if not."""
    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
        faults = reconcile.check(opened)
    for fault in faults:
        click.echo(fault)
    if not faults:
        click.echo("no faults: checksums match and credits add up")
        return
    click.echo(counted(len(faults), "fault"))
    sys.exit(1)


@ledger.command()
@click.argument("path", type=click.Path(path_type=Path))
@named_ledger
@click.pass_context
def backup(context: click.Context, path: Path) -> None:
    """Copy the whole ledger to PATH, a new file, even while runs go on."""
    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
        reconcile.backup(opened, path)
    click.echo(
        f"the ledger was copied to {path}. What is bought from now on is not in the copy: if the\ncopy is put back "
        "after a run, the run's contacts are bought again"
    )


@ledger.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def copy(source: str, target: str) -> None:
    """Move the ledger FROM whole to TO, a new file or an empty PostgreSQL database (postgresql://…).

    No run may be going on. Afterwards FROM buys nothing any more; name TO from then on.
    """
    from eb_dagster.ledger.copying import copy_ledger

    with reporting_errors():
        copied = copy_ledger(source, target, on_table=lambda name: click.echo(f"copying {name} …", err=True))
    click.echo(
        f"the ledger was copied with {counted(copied.requests, 'request')}, and every table compared. The old one is "
        "marked as\nmoved and buys nothing any more: name the new one from now on (--ledger, EB_DAGSTER_LEDGER)"
    )


@ledger.command()
@click.option(
    "--older-than",
    type=click.IntRange(1, timedelta.max.days),
    metavar="DAYS",
    help="Drop the contacts that are at least this old.",
)
@click.option(
    "--kept-columns",
    is_flag=True,
    help="Drop the columns that are kept beside replies. They are made again when they are wanted.",
)
@named_ledger
@click.pass_context
def purge(context: click.Context, older_than: int | None, kept_columns: bool) -> None:
    """Drop contacts older than DAYS; receipts stay. If they are asked for again, they are bought again."""
    from eb_dagster.ledger import privacy

    if older_than is None and not kept_columns:
        raise click.UsageError("give --older-than DAYS, or --kept-columns")
    with opened_ledger(context) as opened:
        if older_than is not None:
            count = privacy.purge(opened, older_than=timedelta(days=older_than))
            click.echo(f"the contacts of {counted(count, 'request')} were dropped")
        if kept_columns:
            replies = opened.kept_columns.drop()
            click.echo(f"the kept columns of {counted(replies, 'request')} were dropped")


@ledger.command()
@click.option("--daily", type=click.IntRange(min=0), help="Credits in one day (UTC).")
@click.option("--monthly", type=click.IntRange(min=0), help="Credits in one month (UTC).")
@click.option("--lift", is_flag=True, help="Lift both caps first.")
@named_ledger
@click.pass_context
def cap(context: click.Context, daily: int | None, monthly: int | None, lift: bool) -> None:
    """Cap what all runs on this ledger may spend together. If there is no ledger yet, one is made."""
    # A cap is a decision that may come before the first run.
    is_set = daily is not None or monthly is not None
    with opened_ledger(context, must_exist=not is_set) as opened:
        if lift:
            opened.budget.set_cap("day", None)
            opened.budget.set_cap("month", None)
        if daily is not None:
            opened.budget.set_cap("day", daily)
        if monthly is not None:
            opened.budget.set_cap("month", monthly)
        caps = opened.budget.caps()
    for period, most in caps.items():
        click.echo(f"{period}: {'no cap' if most is None else counted(most, 'credit')}")


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_table(headings: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo(f"  {'  '.join(cells)}".rstrip())
