"""`eb-dagster ledger forget | reject | suppress`: what is decided about people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress as ignoring
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eb_dagster.cli.formats import is_standard
from eb_dagster.cli.inputs import Reading
from eb_dagster.cli.ledger import named_ledger, opened_ledger, reporting_errors
from eb_dagster.cli.options import with_reading_options
from eb_dagster.cli.people_files import is_identifier, kind_of, read_people
from eb_dagster.cli.spelling import counted

if TYPE_CHECKING:
    from eb_dagster.identifiers.model import FieldType
    from eb_dagster.ledger.privacy import Forgotten

_KINDS: Final = ("email", "phone", "social_profile")
_MOST_POSITIONS: Final = 10
_REGION_HELP: Final = "Two-letter country of the phone numbers that have no country code, such as US."


def _with_people(command: Callable[..., None]) -> Callable[..., None]:
    """The persons whom a command is about, and the ledger."""
    kind_help = "Kind of every VALUE. Default: detected from its form."
    command = named_ledger(command)
    command = click.option("--region", help=_REGION_HELP)(command)
    command = click.option("--kind", type=click.Choice(_KINDS), help=kind_help)(command)
    return click.argument("values", nargs=-1, required=True, metavar="VALUE…")(command)


@click.command()
@_with_people
@click.pass_context
def forget(
    context: click.Context, values: tuple[str, ...], kind: FieldType | None, region: str | None
) -> None:
    """Remove the people with these identifiers from the ledger and its published tables.

    VALUE is an e-mail address, a phone number or a profile. "-" reads them from standard input, one per line, so
    that they are in no shell history. Without a ledger there is nothing to remove; a new ledger is then made,
    which keeps them from being bought.
    """
    from eb_dagster.ledger import privacy

    texts = _texts(values)
    if not texts:
        raise click.UsageError("there is no VALUE on standard input; write one per line")
    _refuse_file_names(texts)
    people: list[tuple[FieldType, str]] = [(kind or kind_of(text), text) for text in texts]
    with reporting_errors():
        check_identifiers(people, region)
    with opened_ledger(context, must_exist=False) as ledger:
        is_unused = ledger.last_request() == 0
        results = [
            privacy.forget(ledger, field_type, text, default_region=region) for field_type, text in people
        ]
    _print_forgotten(results, is_unused=is_unused)


def _print_forgotten(results: Sequence[Forgotten], *, is_unused: bool) -> None:
    removed_rows = _total(results, "rows")
    identifiers = counted(_total(results, "identifiers"), "identifier")
    rows = counted(removed_rows, "row")
    if is_unused and not removed_rows:
        click.echo(
            f"nothing was bought with this ledger, so nothing is removed; {identifiers} can no longer be bought"
        )
        return
    contacts = counted(_total(results, "contacts"), "contact")
    tables = counted(_total(results, "tables"), "published table")
    click.echo(
        f"removed {contacts} from replies and {rows} from {tables}; {identifiers} can no longer be bought"
    )
    if torn_files := _total(results, "torn_files"):
        click.echo(f"removed {counted(torn_files, 'file')} that a crash had left behind")
    _print_unsearched(results)
    click.echo(
        "copies, and whatever else was made from a table, are not known to the ledger: look for the person there too"
    )


def _total(results: Sequence[Forgotten], name: str) -> int:
    return sum(getattr(result, name) for result in results)


def _print_unsearched(results: Sequence[Forgotten]) -> None:
    if missing := max(result.missing_tables for result in results):
        click.echo(f"{counted(missing, 'published table')} not where it was written: look for copies")
    for place in dict.fromkeys(place for result in results for place in result.unsearched):
        click.echo(f"not searched: {place}")


@click.command()
@_with_people
@click.pass_context
def reject(
    context: click.Context, values: tuple[str, ...], kind: FieldType | None, region: str | None
) -> None:
    """Say that the contact found by an identifier is somebody else's.

    The contact no longer answers for VALUE, which is not asked again; what was paid stays paid. "-" reads the
    values from standard input, one per line.
    """
    from eb_dagster.ledger import privacy

    with opened_ledger(context) as ledger:
        contacts = sum(
            privacy.reject(ledger, kind or kind_of(text), text, default_region=region)
            for text in _texts(values)
        )
    click.echo(f"{counted(contacts, 'contact')} will no longer answer for what was named")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--column",
    help="Column of a table. Default: its identifier columns, and those that look like identifiers.",
)
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    help="Kind of the values. Default: detected from the column, then from their form.",
)
@click.option("--region", help=_REGION_HELP)
@click.option("--remove", is_flag=True, help="Take the people off the list again.")
@with_reading_options
@named_ledger
@click.pass_context
def suppress(
    context: click.Context,
    file: Path,
    column: str | None,
    kind: FieldType | None,
    region: str | None,
    remove: bool,
    encoding: str | None,
    separator: str | None,
    header_line: int | None,
) -> None:
    """Keep the people in FILE from ever being sent: CSV, TSV, text (one per line) or Parquet.

    FILE is read as `enrich` reads it; "-" is standard input. If there is no ledger yet, one is made.
    """
    from eb_dagster.ledger import privacy
    from eb_dagster.tables.files import received

    if not is_standard(file):
        _refuse_no_file(file)
    reading = Reading(encoding, separator, header_line)
    with reporting_errors():
        source = received(sys.stdin.buffer) if is_standard(file) else file
        people = read_people(source, column=column, kind=kind, region=region, reading=reading)
    with opened_ledger(context, must_exist=remove) as ledger:
        change = privacy.unsuppress if remove else privacy.suppress
        count = change(ledger, people, default_region=region)
    changed = "1 person" if count == 1 else f"{count:,} people"
    were = "was" if count == 1 else "were"
    what = "no longer suppressed" if remove else f"suppressed that {were} not before"
    click.echo(f"{changed} {what}, of {len(people):,}")


def _texts(values: Sequence[str]) -> list[str]:
    """The values as given; "-" stands for the lines of standard input."""
    texts: list[str] = []
    for value in values:
        texts += _lines_of_input() if value == "-" else [value]
    return texts


def _lines_of_input() -> list[str]:
    return [text for line in sys.stdin if (text := line.strip())]


def _refuse_file_names(texts: Sequence[str]) -> None:
    """Refuse the name of a file where an identifier belongs."""
    for text in texts:
        is_file_name = text.lower().endswith((".csv", ".tsv", ".txt", ".parquet"))
        # A text that is not allowed as a path is no file either.
        with ignoring(OSError, ValueError):
            is_file_name = is_file_name or Path(text).is_file()
        if is_file_name:
            raise click.UsageError(
                "VALUE is the name of a file, and forget takes identifiers; give those, or one per line on standard "
                "input: eb-dagster ledger forget - < FILE"
            )


def _refuse_no_file(file: Path) -> None:
    """Refuse an identifier where the name of a file belongs, without repeating it."""
    if file.is_file():
        return
    if file.is_dir():
        raise click.UsageError(f"{file} is a folder; name a file in it")
    if is_identifier(str(file)):
        raise click.UsageError(
            "FILE is an identifier, and suppress takes the name of a file; write identifiers into a file, one per line, or give "
            "them on standard input: eb-dagster ledger suppress -. "
            "To remove a person as well: eb-dagster ledger forget"
        )
    raise click.UsageError("there is no such FILE; check the path")


def check_identifiers(people: Sequence[tuple[FieldType, str]], region: str | None) -> None:
    """Refuse all values if one of them is not an identifier, before anything is removed."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.canonical import canonical
    from eb_dagster.identifiers.model import Identifier

    faulty_positions = [
        str(position)
        for position, (kind, text) in enumerate(people, start=1)
        if not isinstance(canonical(kind, text, default_region=region), Identifier)
    ]
    if faulty_positions:
        some = ", ".join(faulty_positions[:_MOST_POSITIONS])
        raise InputError(
            f"values that are not identifiers: {len(faulty_positions):,} (at {some}, counted from 1); correct them, or "
            "give --kind, and --region for phones without a country code",
            spent="Nothing was forgotten",
        )
