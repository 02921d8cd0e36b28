"""`eb-dagster enrich --update`: an earlier result is brought up to date, row by row by a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from eb_dagster.cli.inputs import InputTable, Reading, is_parquet
from eb_dagster.cli.options import Option, PlaceType, with_options

if TYPE_CHECKING:
    import pyarrow as pa

    from eb_dagster.enricher import Enricher
    from eb_dagster.tables.object_store import Place
    from eb_dagster.tables.source import Source

with_target_options: Option = with_options(
    [
        click.option(
            "-o",
            "--output",
            type=PlaceType(),
            help="File to write: CSV, TSV, Parquet, NDJSON or .xlsx; - is stdout.",
        ),
        click.option(
            "--update",
            type=PlaceType(),
            metavar="FILE",
            help="In place of --output: bring this earlier result up to date, by the column that --key names. What is "
            "new or due is asked, and all other rows are kept and checked again. If it is not there yet, it is made.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(["csv", "tsv", "ndjson", "xlsx"]),
            help="Format of what is written to stdout. [csv]",
        ),
        click.option(
            "--into",
            metavar="VARIABLE or URL",
            help="Load into the tables of a database in place of a file: the environment variable that holds its URL, "
            "the URL itself, or the name of one of dlt's destinations.",
        ),
        click.option(
            "--dataset", metavar="NAME", help="Schema for --into. In SQLite, main is the file itself."
        ),
        click.option(
            "--key",
            multiple=True,
            metavar="COLUMN",
            help="With --update or --into: the column that tells the rows apart, such as an id. Every row needs one of "
            "its own. With --into, repeatable.",
        ),
    ]
)


def chosen_target(
    output: Place | None, *, update: Place | None, into: str | None, dataset: str | None, key: Sequence[str]
) -> Place | None:
    """The file to write; None if the rows go into a database.

    Raises:
        click.UsageError: none is named, or two, or half of one.

    """
    if sum(target is not None for target in (output, update, into)) != 1:
        raise click.UsageError(
            "name one target: -o for a new file, --update for an earlier result, or --into for a database"
        )
    if (into is None) != (dataset is None):
        raise click.UsageError("--into and --dataset go together")
    if output is not None and key:
        raise click.UsageError("--key is for --update, which names the earlier result, and for --into")
    if update is not None:
        _check_update(update, key)
    return output if update is None else update


def _check_update(update: Place, key: Sequence[str]) -> None:
    from eb_dagster.tables.files import FILE_SUFFIXES, is_compressed, suffix_of

    if len(key) != 1:
        raise click.UsageError(
            "--update needs one --key COLUMN: the column that tells the rows apart, such as an id"
        )
    if suffix_of(update) not in FILE_SUFFIXES or is_compressed(update):
        raise click.UsageError("--update takes a CSV, TSV or Parquet file; write other forms with -o")


def refuse_same(file: Place | None, update: Place | None) -> None:
    """Refuse one file as both the leads and the earlier result."""
    from eb_dagster.tables.atomic_file import is_same

    if file is not None and update is not None and is_same(file, update):
        raise click.UsageError(
            "FILE and --update are the same file; give the leads that the result was made of: eb-dagster enrich LEADS "
            f"--update {update.name} --key COLUMN"
        )


def update_key(update: Place | None, key: Sequence[str]) -> str | None:
    """The column by which an earlier result is brought up to date; None if none is."""
    return None if update is None else key[0]


def refuse_result(table: InputTable, file: Place | None, *, prefix: str) -> None:
    """Refuse an earlier result in place of the leads, unless its columns and the added ones can stand side by side."""
    from eb_dagster.contacts.enriched_tables import prefix_of_enriched
    from eb_dagster.errors import InputError

    if prefix_of_enriched(table.columns) == prefix:
        name = "the query" if file is None else file.name
        raise InputError(
            f"{name} is the result of an enrichment: it has columns that start with {prefix}. To bring it up to "
            f"date, give the file that it was made of: eb-dagster enrich LEADS --update {name} --key COLUMN. To "
            "enrich it all the same, choose another --prefix"
        )


def batches_to_write(
    enricher: Enricher, table: InputTable, target: Place, key: str | None
) -> pa.RecordBatchReader:
    """The enriched rows of a table; with a key, beside those that the target has from earlier."""
    if key is None:
        return enricher.enrich_batches(table.reader())
    return enricher.update_batches(
        table.reader(), _earlier(enricher, target), key=key, is_text=not is_parquet(target)
    )


def _earlier(enricher: Enricher, target: Place) -> Source | None:
    from pathlib import Path

    if not isinstance(target, Path) or is_parquet(target):
        return enricher.earlier_table(target)
    if not target.exists():
        return None
    enricher.check_earlier_text()
    return Reading().open(target).reader()
