"""`eb-dagster ledger …`: look into a ledger and decide. Needs no API key and sends nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from eb_dagster.identifiers.model import FieldType
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.ledger.reconcile import Doubt
    from eb_dagster.tables.object_store import Place

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
    from eb_dagster.tables.csv import read_separator

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


def _with_reading_options(command: Any) -> Any:
    for option in reversed(reading_options):
        command = option(command)
    return command


# What may be written over


force_option: Any = click.option("--force", is_flag=True, help="Replace a file that is there and that this ledger did not write.")  # fmt: skip


class Declined(Exception):
    """A person said no."""

    def __str__(self) -> str:
        return "You said no. Nothing was sent"


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def may_replace(path: Place, *, asks: bool) -> None:
    """Ask a person whether a file that is not ours may be replaced, or refuse."""
    from eb_dagster.errors import ConfigError

    if not asks:
        raise ConfigError(
            f"{path} is there, and this ledger did not write it; choose another name, move it away, or say --force"
        )
    if not click.confirm(f"{path} is there, and this ledger did not write it. Replace it?", err=True):
        raise Declined


@click.group()
@_named_ledger
def ledger() -> None:
    """Look into the ledger, decide about what is in doubt, and let people be forgotten."""


@contextlib.contextmanager
def _opened(context: click.Context, *, must_exist: bool = True) -> Generator[Ledger]:
    from eb_dagster.ledger.connection import database_url, file_of
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.settings import read_ledger

    with _telling():
        where = read_ledger(context.obj)
        if context.obj is None and "EB_DAGSTER_LEDGER" not in os.environ:
            # Nobody named it, so nobody may know where it is.
            click.echo(f"ledger: {where}", err=True)
        file = file_of(database_url(where))
        if not must_exist and file is not None and not file.exists():
            click.echo(f"new, empty ledger {where}", err=True)
        with contextlib.closing(Ledger(where, endpoint="", must_exist=must_exist)) as it:
            yield it


@contextlib.contextmanager
def _telling() -> Generator[None]:
    """Turn our errors into words and exit code 2."""
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@_named_ledger
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show what was bought, by month, and what is in doubt."""
    import json
    from dataclasses import asdict

    from eb_dagster.ledger import reconcile

    with _opened(context) as it:
        months, doubts, unreadable, caps = (
            reconcile.months(it),
            reconcile.doubts(it),
            reconcile.unreadable(it),
            it.budget.caps(),
        )
    if as_json:
        lists = {"months": months, "doubts": doubts, "unreadable": unreadable}
        facts = {name: [asdict(one) for one in several] for name, several in lists.items()}
        click.echo(json.dumps({**facts, "caps": caps}, default=str))
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
    else:
        click.echo(f"in doubt: up to {sum(one.at_risk for one in doubts):,} credits in {len(doubts):,} requests. Compare with the vendor's")  # fmt: skip
        click.echo("bill, then: eb-dagster ledger resolve --charged | --resend | --write-off REQUEST …")
        _show_doubts(doubts)
    if unreadable:
        click.echo(f"cannot be read: {sum(one.at_risk for one in unreadable):,} identifiers in {len(unreadable):,} requests. An upgrade may read")  # fmt: skip
        click.echo("them (eb-dagster ledger reread); or decide about them as about what is in doubt")
        _show_doubts(unreadable)


def _show_doubts(doubts: Sequence[Doubt]) -> None:
    rows = [
        [str(one.request), f"{one.sent_at:%Y-%m-%d %H:%M:%S}", _shown(one.asked), _shown(one.at_risk), one.reason]
        for one in doubts
    ]  # fmt: skip
    _table(["request", "sent (UTC)", "asked", "at risk", "what happened"], rows)


@ledger.command()
@click.argument("requests", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every request that `show` lists.")
@click.option("--resend", is_flag=True, help="Ask again at the next run; it may be charged twice.")
@click.option("--write-off", is_flag=True, help="Count it as at risk no more; never ask again.")
@click.option("--charged", is_flag=True, help="The vendor's bill has it: count it as spent; never ask again.")
@click.option("--credits", "credit", type=click.IntRange(min=0), help="With --charged and one request: how many credits. Default: what its reply says, else all.")  # fmt: skip
@click.option("--ask-again", is_flag=True, help="With --charged: ask again at the next run; it may be paid twice.")  # fmt: skip
@_named_ledger
@click.pass_context
def resolve(
    context: click.Context, requests: tuple[int, ...], everything: bool, credit: int | None, ask_again: bool,
    **decisions: bool,
) -> None:  # fmt: skip
    """Decide about REQUESTS that are in doubt or cannot be read (their numbers are in `show`)."""
    from eb_dagster.ledger import reconcile

    said = [name.replace("_", "-") for name, is_said in decisions.items() if is_said]
    if len(said) != 1:
        raise click.UsageError("say one of --resend, --write-off, --charged")
    decision = cast("reconcile.Decision", said[0])
    if bool(requests) == everything:
        raise click.UsageError("name requests, or say --all")
    with _opened(context) as it:
        listed = [one.request for one in (*reconcile.doubts(it), *reconcile.unreadable(it))]
        chosen = list(dict.fromkeys(listed if everything else requests))
        count = reconcile.resolve(it, chosen, decision, credits=credit, ask_again=ask_again)
    what = {"resend": "will be asked again", "write-off": "were written off", "charged": "count as charged"}
    again = ", will be asked again, and may be paid twice" if ask_again else ""
    click.echo(f"{count:,} identifiers of {len(chosen):,} requests {what[decision]}{again}")


@ledger.command()
@_named_ledger
@click.pass_context
def reread(context: click.Context) -> None:
    """Read kept replies again that could not be read in full. Costs nothing."""
    from eb_dagster.ledger import reconcile

    with _opened(context) as it:
        result = reconcile.reread(it)
    click.echo(
        f"{result.replies:,} replies read again: {result.contacts:,} more contacts, "
        f"{result.unreadable:,} identifiers still unreadable"
    )


@ledger.command()
@click.argument("values", nargs=-1, required=True, metavar="VALUE…")
@click.option("--kind", type=click.Choice(_KINDS), help="Of every VALUE. Default: told from its form.")
@click.option("--region", help="Country of a phone without a country code, such as US.")
@_named_ledger
@click.pass_context
def forget(
    context: click.Context, values: tuple[str, ...], kind: FieldType | None, region: str | None
) -> None:
    """Remove the persons with these identifiers from the ledger and its published tables.

    VALUE is an e-mail address, phone or profile; "-" reads them from standard input, one a line, so that
    they are in no shell history. Without a ledger there is nothing to remove: one is made, which keeps
    them from being bought.
    """
    from eb_dagster.ledger import privacy

    texts = [text for value in values for text in (_lines_of_input() if value == "-" else [value])]
    if not texts:
        raise click.UsageError("there is no VALUE on standard input; give one a line")
    _check_no_files(texts)
    people: list[tuple[FieldType, str]] = [(kind or _kind_of(text), text) for text in texts]
    with _telling():
        _check_all(people, region)
    with _opened(context, must_exist=False) as it:
        is_unused = it.last_request() == 0
        gone = [privacy.forget(it, one, text, default_region=region) for one, text in people]
    identifiers = _counted(sum(one.identifiers for one in gone), "identifier")
    if is_unused and not any(one.rows for one in gone):
        click.echo(
            f"nothing was bought with this ledger, so nothing is removed; {identifiers} can no longer be bought"
        )
        return
    click.echo(
        f"removed {_counted(sum(one.contacts for one in gone), 'contact')} from replies and "
        f"{_counted(sum(one.rows for one in gone), 'row')} from "
        f"{_counted(sum(one.tables for one in gone), 'published table')}; {identifiers} can no longer be bought"
    )
    if torn := sum(one.torn_files for one in gone):
        click.echo(f"{_counted(torn, 'file')} that a crash had left removed")
    if missing := max(one.missing_tables for one in gone):
        click.echo(f"{_counted(missing, 'published table')} not where it was written: look for copies")
    for place in dict.fromkeys(place for one in gone for place in one.unsearched):
        click.echo(f"not searched: {place}")
    click.echo("copies, and whatever else was made from a table, are not known to the ledger: look for the person there too")  # fmt: skip


@ledger.command()
@click.argument("values", metavar="VALUE…", nargs=-1, required=True)
@click.option("--kind", type=click.Choice(_KINDS), help="Of VALUE. Default: told from its form.")
@click.option("--region", help="Country of a phone without a country code, such as US.")
@_named_ledger
@click.pass_context
def reject(
    context: click.Context, values: tuple[str, ...], kind: FieldType | None, region: str | None
) -> None:
    """Say that the contact found by an identifier is somebody else's.

    It answers no more for VALUE, which is not asked again; what was paid stays. "-" reads the values from
    standard input, one a line.
    """
    from eb_dagster.ledger import privacy

    texts = [text for value in values for text in (_lines_of_input() if value == "-" else [value])]
    with _opened(context) as it:
        contacts = sum(
            privacy.reject(it, kind or _kind_of(text), text, default_region=region) for text in texts
        )
    click.echo(f"{_counted(contacts, 'contact')} will answer no more for what was named")


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--column", help="Of a table. Default: its identifier columns, and those that look like it.")
@click.option("--kind", type=click.Choice(_KINDS), help="Of the values. Default: told from the column, then from their form.")  # fmt: skip
@click.option("--region", help="Country of phones without a country code, such as US.")
@click.option("--remove", is_flag=True, help="Take them off the list again.")
@_with_reading_options
@_named_ledger
@click.pass_context
def suppress(
    context: click.Context,
    file: Path,
    column: str | None,
    kind: FieldType | None,
    region: str | None,
    remove: bool,
    **reading: Any,
) -> None:
    """Keep the people in FILE from ever being sent: CSV, TSV, text (one a line) or Parquet.

    FILE is read as `enrich` reads it. A ledger that is not there yet is made.
    """
    from eb_dagster.ledger import privacy

    _check_is_file(file)
    with _telling():
        people = _people(file, column, kind, region, reading)
    with _opened(context, must_exist=remove) as it:
        change = privacy.unsuppress if remove else privacy.suppress
        count = change(it, people, default_region=region)
    who = "1 person" if count == 1 else f"{count:,} people"
    were = "was" if count == 1 else "were"
    what = "no longer suppressed" if remove else f"suppressed that {were} not before"
    click.echo(f"{who} {what}, of {len(people):,}")


@ledger.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet file.")
@force_option
@_named_ledger
@click.pass_context
def export(context: click.Context, output: Path, force: bool) -> None:
    """Write the receipts of all requests to a Parquet file. No person is in it."""
    from eb_dagster.ledger import reconcile

    with _opened(context) as it:
        if not force and output.is_file() and not reconcile.is_export(it, output):
            may_replace(output, asks=is_terminal())
        rows = reconcile.export(it, output)
    click.echo(f"{_counted(rows, 'receipt')} written to {output}")


@ledger.command()
@_named_ledger
@click.pass_context
def check(context: click.Context) -> None:
    """Go through the whole ledger: do checksums match, do credits add up? Exit 1 if not."""
    from eb_dagster.ledger import reconcile

    with _opened(context) as it:
        faults = reconcile.check(it)
    for fault in faults:
        click.echo(fault)
    click.echo(f"{len(faults):,} faults" if faults else "no faults: checksums match and credits add up")
    if faults:
        sys.exit(1)


@ledger.command()
@click.argument("path", type=click.Path(path_type=Path))
@_named_ledger
@click.pass_context
def backup(context: click.Context, path: Path) -> None:
    """Copy the whole ledger to PATH, a new file, also while runs go on."""
    from eb_dagster.ledger import reconcile

    with _opened(context) as it:
        reconcile.backup(it, path)
    click.echo(f"the ledger was copied to {path}. What is bought from now on is not in it: once that copy is")
    click.echo("put back after a run, the run's contacts are bought again")


@ledger.command()
@click.option("--older-than", type=click.IntRange(min=1), required=True, metavar="DAYS", help="Age of the answers.")  # fmt: skip
@_named_ledger
@click.pass_context
def purge(context: click.Context, older_than: int) -> None:
    """Drop contacts older than DAYS; receipts stay. Asked again, they are bought again."""
    from eb_dagster.ledger import privacy

    with _opened(context) as it:
        count = privacy.purge(it, older_than=timedelta(days=older_than))
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
            it.budget.set_cap("day", None)
            it.budget.set_cap("month", None)
        if daily is not None:
            it.budget.set_cap("day", daily)
        if monthly is not None:
            it.budget.set_cap("month", monthly)
        caps = it.budget.caps()
    for period, most in caps.items():
        click.echo(f"{period}: {'no cap' if most is None else f'{most:,} credits'}")


def _kind_of(text: str) -> FieldType:
    if "linkedin." in text.lower() or "/" in text:
        return "social_profile"
    return "email" if "@" in text else "phone"


def _lines_of_input() -> list[str]:
    return [text for line in sys.stdin if (text := line.strip())]


def _check_no_files(texts: list[str]) -> None:
    """Refuse the name of a file where an identifier belongs."""
    for text in texts:
        # A profile may look like a path.
        is_name = text.lower().endswith((".csv", ".tsv", ".txt", ".parquet"))
        with contextlib.suppress(OSError, ValueError):
            is_name = is_name or Path(text).is_file()
        if is_name:
            raise click.UsageError(
                "VALUE is the name of a file, and forget takes identifiers; give those, or one a line on standard "
                "input: eb-dagster ledger forget - < FILE"
            )


def _check_is_file(file: Path) -> None:
    """Refuse an identifier where the name of a file belongs, without repeating it."""
    from eb_dagster.identifiers.canonical import canonical
    from eb_dagster.identifiers.model import FIELD_TYPES, Identifier

    if file.is_file():
        return
    if file.is_dir():
        raise click.UsageError(f"{file} is a folder; name a file in it")
    if any(isinstance(canonical(kind, str(file)), Identifier) for kind in FIELD_TYPES):
        raise click.UsageError(
            "FILE is an identifier, and suppress takes the name of a file; write identifiers into one, one a line. "
            "To remove a person as well: eb-dagster ledger forget"
        )
    raise click.UsageError("there is no such FILE; check the path")


def _check_all(people: list[tuple[FieldType, str]], region: str | None) -> None:
    """Refuse all if one is no identifier, before anything is removed."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.canonical import canonical
    from eb_dagster.identifiers.model import Identifier

    faults = [
        str(at)
        for at, (kind, text) in enumerate(people, start=1)
        if not isinstance(canonical(kind, text, default_region=region), Identifier)
    ]
    if faults:
        raise InputError(
            f"values that are no identifiers: {len(faults):,} (at {', '.join(faults[:10])}, counted from 1); correct them, "
            "or give --kind, and --region for phones without a country code",
            spent="Nothing was forgotten",
        )


def _people(
    file: Path, column: str | None, kind: FieldType | None, region: str | None, reading: Mapping[str, Any]
) -> list[tuple[FieldType, str]]:
    """Every person in a table or list, once. Raises `InputError` that counts the rows with what is no identifier."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.cells import read_cell

    found: dict[tuple[FieldType, str], None] = {}
    faults: dict[int, None] = {}
    for row, of, cell in _cells(file, column, reading):
        identifiers, reasons = read_cell(kind or of or _kind_of(cell), cell, default_region=region)
        found.update({(one.field_type, one.value): None for one in identifiers})
        if reasons:
            faults[row] = None
    if faults:
        some = ", ".join(f"{row:,}" for row in list(faults)[:10])
        raise InputError(
            f"rows with values that are no identifiers of their kind: {len(faults):,} (at {some}, counted from 1 below the "
            "header); correct them or leave them out, or give --kind, and --region for phones without a country code",
            spent="Nobody was suppressed",
        )
    return list(found)


def _cells(
    file: Path, column: str | None, reading: Mapping[str, Any]
) -> Iterator[tuple[int, FieldType | None, str]]:
    """The cells that are not blank: the row, the kind by the column if that says it, and the text."""
    from eb_dagster.errors import InputError
    from eb_dagster.tables.csv import TextTable
    from eb_dagster.tables.parquet import open_parquet, read_batches

    if file.suffix.lower() == ".parquet":
        opened: Any = open_parquet(file)
        names, batches = list(opened.schema_arrow.names), read_batches(opened, 8_192)
        chosen = _chosen(file, names, column, None)
    else:
        table = TextTable(file, **reading)
        for note in table.notes:
            click.echo(f"  {note}", err=True)
        names, batches = list(table.columns), cast("Iterator[Any]", table.reader())
        chosen = _chosen(file, names, column, table.samples())
    if chosen is None:
        # There is no header: the first line is somebody too.
        yield from ((0, None, name) for name in names if name.strip())
        chosen = dict.fromkeys(names)
    rows = 0
    for batch in batches:
        for at, name in enumerate(names):
            cells = cast("list[object]", batch.column(at).to_pylist() if name in chosen else [])
            for row, cell in enumerate(cells, start=rows + 1):
                if isinstance(cell, str) and cell.strip():
                    yield row, chosen[name], cell
                elif cell is not None and not isinstance(cell, str):
                    raise InputError(f"the column {name!r} holds values that are not text; write it again as text", spent="Nobody was suppressed")  # fmt: skip
        rows += batch.num_rows


def _chosen(
    file: Path, names: list[str], column: str | None, samples: Mapping[str, Sequence[str]] | None
) -> dict[str, FieldType | None] | None:
    """The columns to read, with their kinds; None if the file is a list without a header."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.canonical import canonical
    from eb_dagster.identifiers.columns import find_layout, listed, suggest
    from eb_dagster.identifiers.model import FIELD_TYPES, Identifier

    likely: dict[str, FieldType | None] = {
        name: kind for kind, some in suggest(names, samples).items() for name in some
    }
    if column is not None:
        if column not in names:
            raise click.UsageError(f"{file.name} has no column {column}; there are {listed(names)}")
        return {column: likely.get(column)}
    if any(isinstance(canonical(kind, name), Identifier) for name in names for kind in FIELD_TYPES):
        return None
    with contextlib.suppress(InputError):
        layout = find_layout(names, None)
        likely |= {name: kind for kind, name in layout.columns} or {"value": None}
    if not likely:
        raise InputError(
            f"no identifier columns; name one with --column (there are {listed(names)})",
            spent="Nobody was suppressed",
        )
    return likely


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(cell) for cell in cells) for cells in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(("  " + "  ".join(cells)).rstrip())
