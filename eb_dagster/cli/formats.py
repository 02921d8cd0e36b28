"""Where a command's table comes from, and the forms in which it is written: files of any kind, stdin and stdout, a query."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eb_dagster.cli.inputs import ParquetTable, SourceTable
from eb_dagster.cli.options import Option, with_options

if TYPE_CHECKING:
    import pyarrow as pa

    from eb_dagster.cli.inputs import InputTable, Reading
    from eb_dagster.enricher import Enricher
    from eb_dagster.settings import EnricherOptions
    from eb_dagster.tables.csv import TextTable
    from eb_dagster.tables.object_store import Place
    from eb_dagster.tables.parquet import Revision
    from eb_dagster.tables.source import Source
    from eb_dagster.tables.unnamed_file import UnnamedFile

_STANDARD: Final = "-"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PASSWORD: Final = re.compile(r"://[^/@\s]*:[^/@\s]+@")

with_source_options: Option = with_options(
    [
        click.option(
            "--sheet",
            metavar="NAME",
            help="Sheet of a spreadsheet (.xlsx). Default: the only one with cells.",
        ),
        click.option("--query", metavar="SQL", help="Enrich the rows of a query in place of a file."),
        click.option(
            "--connection",
            metavar="VARIABLE or URL",
            help="Database of the query: the environment variable that holds its URL, the URL itself, or the path of a "
            "DuckDB or SQLite file.",
        ),
    ]
)


def is_standard(file: Place | None) -> bool:
    """Whether it stands for stdin or stdout."""
    return isinstance(file, Path) and str(file) == _STANDARD


def with_asked_as_text(table: InputTable, options: EnricherOptions) -> InputTable:
    """The table with whole numbers as text where they are asked: spreadsheets keep phone numbers as numbers."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.columns import find_layout

    if not isinstance(table, SourceTable) or isinstance(table, ParquetTable):
        return table
    # What is wrong with the names of the columns is told later, with suggestions.
    with contextlib.suppress(InputError):
        names = find_layout(table.columns, options.get("identifiers")).names
        return SourceTable(_as_text(table.source, names))
    return table


def _as_text(source: Source, names: Sequence[str]) -> Source:
    import pyarrow as pa

    from eb_dagster.tables.source import Source

    numbers = [
        field.name for field in source.schema if field.name in names and pa.types.is_integer(field.type)
    ]
    if not numbers:
        return source
    fields = [field.with_type(pa.string()) if field.name in numbers else field for field in source.schema]
    schema = pa.schema(fields)
    # Whatever cannot be read twice was put on disk by those who opened it.
    read = source.batches

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in read():
            yield batch.cast(schema)

    changed = Source(schema, source.rows, batches)
    changed.notes = source.notes
    return changed


# Sources


def check_source(file: Place | None, query: str | None, connection: str | None, reading: Reading) -> None:
    """Refuse a command that names no table, or two, or says of a query what only a file has."""
    if (query is None) != (connection is None):
        raise click.UsageError("--query and --connection go together")
    if file is None and query is None:
        raise click.UsageError("Missing argument 'FILE', or --query with --connection.")
    if file is not None and query is not None:
        raise click.UsageError("give either FILE or --query")
    if query is not None:
        reading.refuse_other("a query", "")


def address_of(text: str, option: str) -> str:
    """The address that an option names, itself or by an environment variable."""
    from eb_dagster.errors import ConfigError

    if _VARIABLE.fullmatch(text):
        if found := os.environ.get(text, "").strip():
            return found
        if text.isupper():
            raise ConfigError(f"{option}: there is no environment variable {text}; set it to a URL")
        return text
    if _PASSWORD.search(text):
        click.echo(
            f"note: other users of this machine can read a password on a command line; put the URL of {option} into an "
            "environment variable, and give its name",
            err=True,
        )
    return text


def query_table(query: str, connection: str) -> SourceTable:
    """The rows of a query, kept on disk while they are enriched."""
    from eb_dagster.cli.spelling import counted
    from eb_dagster.tables.query import query_source
    from eb_dagster.tables.spool import spooled

    table = SourceTable(spooled(query_source(query, address_of(connection, "--connection"))))
    click.echo(f"the query: {counted(table.rows, 'row')}", err=True)
    return table


def open_standard(reading: Reading) -> InputTable:
    """The table that comes from stdin, in any of the forms."""
    from eb_dagster.cli.inputs import open_table
    from eb_dagster.tables.files import received

    return open_table(received(sys.stdin.buffer), reading)


def open_other(file: Place | UnnamedFile, reading: Reading) -> InputTable:
    """The table of a file that is not Parquet."""
    from eb_dagster.tables import excel, files, json_lines

    suffix = files.suffix_of(file)
    if suffix not in (excel.SUFFIX, *json_lines.SUFFIXES):
        return reading.open(file)
    local = files.local_file(file)
    if suffix == excel.SUFFIX:
        return SourceTable(excel.excel_source(local, sheet=reading.sheet))
    return SourceTable(json_lines.json_source(local))


# Targets


def form_of(output: Place, form: str | None) -> str:
    """The ending of what is written, without its dot."""
    from eb_dagster.tables.files import suffix_of

    return (form or "csv") if is_standard(output) else suffix_of(output)[1:]


def check_form(table: InputTable, form: str) -> None:
    """Refuse, before anything is bought, what a spreadsheet has no room for."""
    from eb_dagster.errors import InputError
    from eb_dagster.tables import excel

    if form != excel.SUFFIX[1:]:
        return
    excel.check_writer()
    if table.rows > excel.MOST_ROWS:
        raise InputError(
            f"the table has {table.rows:,} rows, and a sheet has room for {excel.MOST_ROWS:,}; write CSV or Parquet"
        )


def write_form(
    enricher: Enricher,
    reader: pa.RecordBatchReader,
    table: InputTable,
    output: Place,
    form: str,
    *,
    prefix: str,
) -> None:
    """Write enriched batches as text, NDJSON or a spreadsheet, to a file or to stdout."""
    from eb_dagster.tables.excel import ExcelWriter
    from eb_dagster.tables.json_lines import JsonLinesWriter
    from eb_dagster.tables.row_files import write_rows

    target = None if is_standard(output) else output
    if target is not None:
        # Noted before the file exists, so that `forget` knows of it.
        enricher.note_published(target)
    revise = enricher.revisions(reader.schema)
    match form:
        case "xlsx":
            names = reader.schema.names
            write_rows(reader, target, lambda sink: ExcelWriter(sink, names), revise=revise)
        case "ndjson" | "jsonl":
            write_rows(reader, target, JsonLinesWriter, revise=revise)
        case _:
            _write_text(reader, table, target, form, prefix=prefix, revise=revise)


def _write_text(
    reader: pa.RecordBatchReader,
    table: InputTable,
    target: Place | None,
    form: str,
    *,
    prefix: str,
    revise: Callable[[], Revision | None],
) -> None:
    from eb_dagster.contacts.schema import arrow_schema
    from eb_dagster.tables.csv import TextTable, write_text

    new_columns = arrow_schema(prefix=prefix, with_agrees=True).names
    source = table if isinstance(table, TextTable) else None
    write_text(
        reader,
        target,
        columns=reader.schema.names,
        ours=set(new_columns) - set(table.columns),
        separator=_separator(form, source),
        has_mark=source is not None and source.is_from_spreadsheet,
        revise=revise,
    )


def _separator(form: str, source: TextTable | None) -> str:
    if form in ("tsv", "txt"):
        return "\t"
    # The same spreadsheet will open the result, so a CSV keeps the separator of the input.
    return "," if source is None or source.separator == "\t" else source.separator


def load_into(
    enricher: Enricher, table: InputTable, into: str, dataset: str, *, key: Sequence[str], prefix: str
) -> str:
    """Load the enriched table into a database. Returns what was loaded, in words."""
    from eb_dagster.cli.spelling import counted
    from eb_dagster.warehouse.query import destination_of, load_enriched

    destination = destination_of(address_of(into, "--into"))
    rows = load_enriched(
        enricher, table.reader(), destination, dataset=dataset, key=tuple(key), prefix=prefix
    )
    loaded = ", ".join(f"{name}: {counted(count, 'row')}" for name, count in rows.items())
    return f"loaded into {dataset} ({loaded or 'nobody was found'})"
