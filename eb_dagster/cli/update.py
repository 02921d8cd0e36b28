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

_UPDATE_OPTIONS: Sequence[Option] = (
    click.option("-o", "--output", type=PlaceType(), help="CSV, TSV or Parquet file to write."),
    click.option(
        "--update",
        type=PlaceType(),
        metavar="FILE",
        help="In place of --output: bring this earlier result up to date. What is new or due is asked, and all "
        "other rows are kept and checked again. If it is not there yet, it is made.",
    ),
    click.option(
        "--key",
        metavar="COLUMN",
        help="With --update: the column that tells the rows apart, such as an id. Every row needs one of its own.",
    ),
)

with_update_options: Option = with_options(_UPDATE_OPTIONS)


def chosen_target(output: Place | None, update: Place | None, key: str | None) -> Place:
    """The file to write.

    Raises:
        click.UsageError: none is named, or two.

    """
    if update is not None and output is not None:
        raise click.UsageError("give --output for a new file or --update for an earlier result, not both")
    if update is not None and key is None:
        raise click.UsageError(
            "--update needs --key COLUMN: the column that tells the rows apart, such as an id"
        )
    if update is None and key is not None:
        raise click.UsageError("--key is for --update, which names the earlier result")
    target = update if update is not None else output
    if target is None:
        raise click.UsageError("name the file to write with -o, or an earlier result with --update")
    return target


def refuse_result(table: InputTable, file: Place, *, prefix: str) -> None:
    """Refuse an earlier result in place of the leads, unless its columns and the added ones can stand side by side."""
    from eb_dagster.contacts.enriched_tables import prefix_of_enriched
    from eb_dagster.errors import InputError

    if prefix_of_enriched(table.columns) == prefix:
        raise InputError(
            f"{file.name} is the result of an enrichment: it has columns that start with {prefix}. To bring it up to "
            f"date, give the file that it was made of: eb-dagster enrich LEADS --update {file.name} --key COLUMN. To "
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
