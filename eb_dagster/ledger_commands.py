"""`eb-dagster ledger …`: look into a ledger and decide. Needs no API key and sends nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

if TYPE_CHECKING:
    from eb_dagster.identifiers import FieldType
    from eb_dagster.ledger import Ledger

_KINDS = ("email", "phone", "social_profile")


def _keep(context: click.Context, _: click.Parameter, where: str | None) -> None:
    if where is None:
        return
    # A command starts with what stood before it.
    if context.obj not in (None, where):
        # An address may hold a password, so neither is repeated.
        raise click.UsageError("--ledger names one ledger before the command and another after it; name one")
    context.obj = where


_named_ledger = click.option(
    "--ledger",
    metavar="PATH|URL",
    help="Default: $EB_DAGSTER_LEDGER, then your data folder.",
    expose_value=False,
    callback=_keep,
)


def _read_separator(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from eb_dagster.delimited import read_separator

    try:
        return read_separator(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None


# How a CSV is read, in each command that reads one.
reading_options: list[Any] = [
    click.option("--encoding", help="Encoding of a CSV or TSV. Default: detected."),
    click.option("--separator", callback=_read_separator, help="What separates the cells of a CSV: comma, semicolon, tab, bar or a character. Default: detected."),
    click.option("--header-line", type=click.IntRange(min=1), metavar="N", help="Line of a CSV that names the columns. Default: detected."),
]  # fmt: skip


@click.group()
@_named_ledger
def ledger() -> None:
    """Look into the ledger, decide about what is in doubt, and let people be forgotten."""


@contextlib.contextmanager
def _opened(context: click.Context) -> Generator[Ledger]:
    from eb_dagster.errors import EnrichError
    from eb_dagster.ledger import Ledger
    from eb_dagster.settings import read_ledger

    try:
        where = read_ledger(context.obj)
        if context.obj is None and "EB_DAGSTER_LEDGER" not in os.environ:
            # Nobody named it, so nobody may know where it is.
            click.echo(f"ledger: {where}", err=True)
        with contextlib.closing(Ledger(where, endpoint="", must_exist=True)) as it:
            yield it
    except EnrichError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2)


@ledger.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@_named_ledger
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show what was bought, by month, and what is in doubt."""
    import json
    from dataclasses import asdict

    from eb_dagster import books

    with _opened(context) as it:
        months, doubts, caps = books.months(it), books.doubts(it), it.caps()
    if as_json:
        facts = {"months": [asdict(one) for one in months], "doubts": [asdict(one) for one in doubts], "caps": caps}  # fmt: skip
        click.echo(json.dumps(facts, default=str))
        return
    names = ["month", "requests", "asked", "credits", "in_flight", "in_doubt", "unreadable"]
    for endpoint in dict.fromkeys(one.endpoint for one in months):
        click.echo(endpoint)
        rows = [[_shown(getattr(one, name)) for name in names] for one in months if one.endpoint == endpoint]
        _table([name.replace("_", " ") for name in names], rows)
    click.echo("" if months else "nothing was bought yet")
    for period, most in caps.items():
        if most is not None:
            click.echo(f"cap: {most:,} credits a {period}")
    if not doubts:
        click.echo("nothing is in doubt")
        return
    total = sum(one.at_risk for one in doubts)
    click.echo(f"in doubt: up to {total:,} credits in {len(doubts):,} requests. Compare with the vendor's")
    click.echo("bill, then: eb-dagster ledger resolve --charged | --resend | --write-off REQUEST …")
    facts = [
        [str(one.request), f"{one.sent_at:%Y-%m-%d %H:%M:%S}", _shown(one.asked), _shown(one.at_risk), one.reason]
        for one in doubts
    ]  # fmt: skip
    _table(["request", "sent (UTC)", "asked", "at risk", "what happened"], facts)


@ledger.command()
@click.argument("requests", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every request in doubt.")
@click.option("--resend", "decision", flag_value="resend", help="Ask again at the next run; it may be charged twice.")  # fmt: skip
@click.option("--write-off", "decision", flag_value="write-off", help="Count it as at risk no more; never ask again.")  # fmt: skip
@click.option("--charged", "decision", flag_value="charged", help="The vendor's bill has it: count it as spent; never ask again.")  # fmt: skip
@click.option("--credits", "credit", type=click.IntRange(min=0), help="With --charged and one request: how many credits.")  # fmt: skip
@_named_ledger
@click.pass_context
def resolve(
    context: click.Context, requests: tuple[int, ...], everything: bool, decision: Any, credit: int | None
) -> None:
    """Decide about REQUESTS in doubt (their numbers are in `show`)."""
    from eb_dagster import books

    if decision not in get_args(books.Decision):
        raise click.UsageError("say one of --resend, --write-off, --charged")
    if bool(requests) == everything:
        raise click.UsageError("name requests, or say --all")
    with _opened(context) as it:
        chosen = [one.request for one in books.doubts(it)] if everything else list(requests)
        count = books.resolve(it, chosen, decision, credits=credit)
    what = {"resend": "will be asked again", "write-off": "were written off", "charged": "count as charged"}
    click.echo(f"{count:,} identifiers of {len(chosen):,} requests {what[decision]}")


@ledger.command()
@_named_ledger
@click.pass_context
def reread(context: click.Context) -> None:
    """Read kept replies again that could not be read in full. Costs nothing."""
    from eb_dagster import books

    with _opened(context) as it:
        result = books.reread(it)
    click.echo(
        f"{result.replies:,} replies read again: {result.contacts:,} more contacts, "
        f"{result.unreadable:,} identifiers still unreadable"
    )


@ledger.command()
@click.argument("value")
@click.option("--kind", type=click.Choice(_KINDS), help="Of VALUE. Default: told from its form.")
@click.option("--region", help="Country of a phone without a country code, such as US.")
@_named_ledger
@click.pass_context
def forget(context: click.Context, value: str, kind: FieldType | None, region: str | None) -> None:
    """Remove the person with this identifier from the ledger and its published Parquet tables.

    VALUE is an e-mail address, phone or profile; "-" reads it from standard input, so that it is
    in no shell history.
    """
    from eb_dagster import rights

    text = sys.stdin.readline().strip() if value == "-" else value
    with _opened(context) as it:
        gone = rights.forget(it, kind or _kind_of(text), text, default_region=region)
    click.echo(
        f"removed {gone.contacts:,} contacts from replies and {gone.rows:,} rows from {gone.tables:,} "
        f"published tables; {gone.identifiers:,} identifiers can no longer be bought"
    )
    if gone.missing_tables:
        click.echo(f"{gone.missing_tables:,} tables are not where they were published: look for copies")
    click.echo(
        "a CSV, and whatever else was made from a table, is not known to the ledger: look for the person there too"
    )


@ledger.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--column", help="Of a CSV or Parquet FILE. Default: its identifier columns.")
@click.option("--kind", type=click.Choice(_KINDS), help="Of the values. Default: told from their form.")
@click.option("--region", help="Country of phones without a country code, such as US.")
@_named_ledger
@click.pass_context
def suppress(
    context: click.Context, file: Path, column: str | None, kind: FieldType | None, region: str | None
) -> None:
    """Keep the people in FILE from ever being sent: text (one a line), CSV or Parquet."""
    from eb_dagster import rights

    with _opened(context) as it:
        values = list(_values(file, column))
        count = rights.suppress(it, [(kind or _kind_of(text), text) for text in values], default_region=region)  # fmt: skip
    click.echo(f"{count:,} people suppressed that were not before, of {len(values):,}")


@ledger.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet file.")
@_named_ledger
@click.pass_context
def export(context: click.Context, output: Path) -> None:
    """Write the receipts of all requests to a Parquet file. No person is in it."""
    from eb_dagster import books

    with _opened(context) as it:
        rows = books.export(it, output)
    click.echo(f"{rows:,} receipts written to {output}")


@ledger.command()
@_named_ledger
@click.pass_context
def check(context: click.Context) -> None:
    """Go through the whole ledger: do checksums match, do credits add up? Exit 1 if not."""
    from eb_dagster import books

    with _opened(context) as it:
        faults = books.check(it)
    for fault in faults:
        click.echo(fault)
    click.echo(f"{len(faults):,} faults" if faults else "no faults: checksums match and credits add up")
    if faults:
        sys.exit(1)


@ledger.command()
@click.option("--older-than", type=click.IntRange(min=1), required=True, metavar="DAYS", help="Age of the answers.")  # fmt: skip
@_named_ledger
@click.pass_context
def purge(context: click.Context, older_than: int) -> None:
    """Drop contacts older than DAYS; receipts stay. Asked again, they are bought again."""
    from eb_dagster import rights

    with _opened(context) as it:
        count = rights.purge(it, older_than=timedelta(days=older_than))
    click.echo(f"the contacts of {count:,} requests were dropped")


@ledger.command()
@click.option("--daily", type=click.IntRange(min=0), help="Credits in a day of UTC.")
@click.option("--monthly", type=click.IntRange(min=0), help="Credits in a month of UTC.")
@click.option("--lift", is_flag=True, help="Lift both caps first.")
@_named_ledger
@click.pass_context
def cap(context: click.Context, daily: int | None, monthly: int | None, lift: bool) -> None:
    """Cap what all runs on this ledger may spend together."""
    with _opened(context) as it:
        if lift:
            it.set_cap("day", None)
            it.set_cap("month", None)
        if daily is not None:
            it.set_cap("day", daily)
        if monthly is not None:
            it.set_cap("month", monthly)
        caps = it.caps()
    for period, most in caps.items():
        click.echo(f"{period}: {'no cap' if most is None else f'{most:,} credits'}")


def _kind_of(text: str) -> FieldType:
    if "linkedin." in text.lower() or "/" in text:
        return "social_profile"
    return "email" if "@" in text else "phone"


def _values(file: Path, column: str | None) -> Iterator[str]:
    if file.suffix.lower() not in (".csv", ".tsv", ".parquet"):
        with file.open(encoding="utf-8-sig") as lines:
            yield from (text for line in lines if (text := line.strip()))
        return
    from eb_dagster.delimited import TextTable
    from eb_dagster.identifiers import find_layout, listed
    from eb_dagster.parquet import open_parquet

    if file.suffix.lower() == ".parquet":
        with open_parquet(file) as opened:
            reader: Any = cast("Any", opened).read().to_reader()
    else:
        reader = TextTable(file).reader()
    names: list[str] = reader.schema.names
    if column is not None and column not in names:
        raise click.UsageError(f"{file.name} has no column {column}; there are {listed(names)}")
    chosen = [column] if column is not None else list(find_layout(names, None).names)
    for batch in reader:
        for name in chosen:
            yield from (
                str(cell) for cell in batch[name].to_pylist() if cell is not None and str(cell).strip()
            )


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(cell) for cell in cells) for cells in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(("  " + "  ".join(cells)).rstrip())
