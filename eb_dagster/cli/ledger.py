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

from eb_dagster.cli.options import force_option, setting_option
from eb_dagster.cli.spelling import counted
from eb_dagster.cli.targets import Declined, confirm_replacing, is_terminal

if TYPE_CHECKING:
    from eb_dagster.ledger.budget import Period
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.ledger.reconcile import Decision, Doubt, Month

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


named_ledger: Any = setting_option("ledger", expose_value=False, callback=_keep_ledger)


@click.group()
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
        named = read_ledger(context.obj)
        if context.obj is None and "EB_DAGSTER_LEDGER" not in os.environ:
            # Nobody named the ledger, so nobody may know where it is.
            click.echo(f"ledger: {named}", err=True)
        file = file_of(database_url(named))
        if not must_exist and file is not None and not file.exists():
            click.echo(f"new, empty ledger {named}", err=True)
        with closing(Ledger(named, endpoint="", must_exist=must_exist)) as opened:
            yield opened


@contextmanager
def reporting_errors() -> Generator[None]:
    """Turn our errors into a message and exit code 2."""
    from eb_dagster.errors import EnrichError

    try:
        yield
    except EnrichError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2)
    except Declined as error:
        click.echo(str(error), err=True)
        sys.exit(2)


@ledger.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@named_ledger
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show what was bought, by month, and what is in doubt."""
    import json
    from dataclasses import asdict

    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
        months = reconcile.months(opened)
        doubts = reconcile.doubts(opened)
        unreadable = reconcile.unreadable(opened)
        caps = opened.budget.caps()
    if as_json:
        lists = {"months": months, "doubts": doubts, "unreadable": unreadable}
        facts = {name: [asdict(item) for item in items] for name, items in lists.items()}
        click.echo(json.dumps({**facts, "caps": caps}, default=str))
        return
    _print_months(months)
    _print_caps(caps)
    _print_in_doubt(doubts)
    _print_unreadable(unreadable)


def _print_caps(caps: Mapping[Period, int | None]) -> None:
    for period, cap in caps.items():
        if cap is not None:
            click.echo(f"cap: {cap:,} credits a {period}")


def _print_in_doubt(doubts: Sequence[Doubt]) -> None:
    if not doubts:
        click.echo("nothing is in doubt")
        return
    credits_at_risk = sum(doubt.at_risk for doubt in doubts)
    click.echo(
        f"in doubt: up to {counted(credits_at_risk, 'credit')} in {counted(len(doubts), 'request')}. Compare with "
        "the vendor's\nbill, then: eb-dagster ledger resolve --charged | --resend | --write-off REQUEST …"
    )
    _print_doubts(doubts)


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
            doubt.reason,
        ]
        for doubt in doubts
    ]
    _print_table(["request", "sent (UTC)", "asked", "at risk", "what happened"], rows)


@ledger.command()
@click.argument("requests", type=int, nargs=-1)
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
    """Decide about REQUESTS that are in doubt or cannot be read (their numbers are in `show`)."""
    from eb_dagster.ledger import reconcile

    decision = _chosen_decision(decisions)
    if bool(requests) == every_request:
        raise click.UsageError("name requests, or give --all")
    with opened_ledger(context) as opened:
        open_requests = [
            doubt.request for doubt in (*reconcile.doubts(opened), *reconcile.unreadable(opened))
        ]
        chosen = list(dict.fromkeys(open_requests if every_request else requests))
        count = reconcile.resolve(opened, chosen, decision, credits=charged_credits, ask_again=ask_again)
    again = ", will be asked again, and may be paid twice" if ask_again else ""
    what = f"{counted(count, 'identifier')} of {counted(len(chosen), 'request')}"
    click.echo(f"{what} {_DONE[decision]}{again}")


@ledger.command()
@named_ledger
@click.pass_context
def reread(context: click.Context) -> None:
    """Read kept replies again that could not be read in full. Costs nothing."""
    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
        result = reconcile.reread(opened)
    click.echo(
        f"{result.replies:,} replies read again: {result.contacts:,} more contacts, "
        f"{result.unreadable:,} identifiers still unreadable"
    )


@ledger.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@force_option
@named_ledger
@click.pass_context
def export(context: click.Context, output: Path, force: bool) -> None:
    """Write the receipts of all requests to a Parquet file. No person is in it."""
    from eb_dagster.ledger import reconcile

    with opened_ledger(context) as opened:
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
    click.echo(f"{len(faults):,} faults")
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
@click.option(
    "--older-than",
    type=click.IntRange(min=1),
    required=True,
    metavar="DAYS",
    help="Least age of the contacts to drop.",
)
@named_ledger
@click.pass_context
def purge(context: click.Context, older_than: int) -> None:
    """Drop contacts older than DAYS; receipts stay. If they are asked for again, they are bought again."""
    from eb_dagster.ledger import privacy

    with opened_ledger(context) as opened:
        count = privacy.purge(opened, older_than=timedelta(days=older_than))
    click.echo(f"the contacts of {counted(count, 'request')} were dropped")


@ledger.command()
@click.option("--daily", type=click.IntRange(min=0), help="Credits in a day of UTC.")
@click.option("--monthly", type=click.IntRange(min=0), help="Credits in a month of UTC.")
@click.option("--lift", is_flag=True, help="Lift both caps first.")
@named_ledger
@click.pass_context
def cap(context: click.Context, daily: int | None, monthly: int | None, lift: bool) -> None:
    """Cap what all runs on this ledger may spend together."""
    # A cap is a decision that may come before the first run.
    with opened_ledger(context, must_exist=daily is None and monthly is None) as opened:
        if lift:
            opened.budget.set_cap("day", None)
            opened.budget.set_cap("month", None)
        if daily is not None:
            opened.budget.set_cap("day", daily)
        if monthly is not None:
            opened.budget.set_cap("month", monthly)
        caps = opened.budget.caps()
    for period, most in caps.items():
        click.echo(f"{period}: {'no cap' if most is None else f'{most:,} credits'}")


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_table(headings: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo(f"  {'  '.join(cells)}".rstrip())
