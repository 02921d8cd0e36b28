"""The people in an opt-out file: a CSV, TSV or Parquet table, or a list of identifiers, one a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from eb_dagster.cli.inputs import Reading

if TYPE_CHECKING:
    import pyarrow as pa

    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.model import FieldType
    from eb_dagster.tables.unnamed_file import LocalFile

_NOBODY_SUPPRESSED: Final = "Nobody was suppressed"
_BATCH_ROWS: Final = 8_192
_MOST_ROWS_SHOWN: Final = 10
_HEADER_ROW: Final = 0


@dataclass(frozen=True)
class _Cell:
    """A cell that is not blank."""

    row: int
    """Counted from 1 below the header."""
    kind: FieldType | None
    """The kind of identifier, if the column says it."""
    text: str = field(repr=False)


def kind_of(text: str) -> FieldType:
    """The kind of identifier that a text looks like."""
    if "linkedin." in text.lower() or "/" in text:
        return "social_profile"
    return "email" if "@" in text else "phone"


def read_people(
    file: LocalFile,
    *,
    column: str | None,
    kind: FieldType | None,
    region: str | None,
    reading: Reading,
) -> list[tuple[FieldType, str]]:
    """Every person in a file, once.

    Raises:
        InputError: some values are not identifiers; their rows are counted.

    """
    from eb_dagster.identifiers.cells import read_cell

    people: dict[tuple[FieldType, str], None] = {}
    faulty_rows: dict[int, None] = {}
    for cell in _cells(file, column, reading):
        cell_kind = kind or cell.kind or kind_of(cell.text)
        identifiers, reasons = read_cell(cell_kind, cell.text, default_region=region)
        people.update({(identifier.field_type, identifier.value): None for identifier in identifiers})
        if reasons:
            faulty_rows[cell.row] = None
    if faulty_rows:
        raise _faulty(list(faulty_rows))
    return list(people)


def _faulty(rows: Sequence[int]) -> InputError:
    from eb_dagster.errors import InputError

    some = ", ".join(f"{row:,}" for row in rows[:_MOST_ROWS_SHOWN])
    return InputError(
        f"rows with values that are not identifiers of their kind: {len(rows):,} (at {some}, counted from 1 "
        "below the header); correct them or leave them out, or give --kind, and --region for phones without a "
        "country code",
        spent=_NOBODY_SUPPRESSED,
    )


def _cells(file: LocalFile, column: str | None, reading: Reading) -> Iterator[_Cell]:
    names, batches, samples = _open(file, reading)
    chosen = _chosen_columns(file, names, column, samples)
    if chosen is None:
        # A list has no header, so its first line is a person too.
        yield from (_Cell(_HEADER_ROW, None, name) for name in names if name.strip())
        chosen = dict.fromkeys(names)
    columns: list[tuple[int, FieldType | None]] = [
        (index, chosen[name]) for index, name in enumerate(names) if name in chosen
    ]
    first_row = 1
    for batch in batches:
        for index, kind in columns:
            yield from (_Cell(row, kind, text) for row, text in _texts(batch, index, first_row))
        first_row += batch.num_rows


def _open(
    file: LocalFile, reading: Reading
) -> tuple[list[str], Iterable[pa.RecordBatch], Mapping[str, Sequence[str]] | None]:
    """The names of the columns, the batches, and samples of each column if they help to tell its kind."""
    from eb_dagster.tables.parquet import open_parquet, read_batches

    if file.suffix.lower() == ".parquet":
        opened = open_parquet(file)
        return list(opened.schema_arrow.names), read_batches(opened, _BATCH_ROWS), None
    table = reading.open(file)
    for note in table.notes:
        click.echo(f"  {note}", err=True)
    return list(table.columns), table.reader(), table.samples()


def _texts(batch: pa.RecordBatch, index: int, first_row: int) -> Iterator[tuple[int, str]]:
    """The cells of a column that are not blank, with their rows."""
    from eb_dagster.errors import InputError

    cells: list[object] = batch.column(index).to_pylist()
    for row, cell in enumerate(cells, start=first_row):
        if cell is None:
            continue
        if not isinstance(cell, str):
            raise InputError(
                f"the column {batch.schema.names[index]!r} holds values that are not text; write it again as text",
                spent=_NOBODY_SUPPRESSED,
            )
        if cell.strip():
            yield row, cell


def _likely_columns(
    names: Sequence[str], samples: Mapping[str, Sequence[str]] | None
) -> dict[str, FieldType | None]:
    from eb_dagster.identifiers.columns import suggest

    return {name: kind for kind, columns in suggest(names, samples).items() for name in columns}


def _check_column(file: LocalFile, names: Sequence[str], column: str) -> None:
    from eb_dagster.identifiers.columns import listed

    if column not in names:
        raise click.UsageError(f"{file.name} has no column {column}; there are {listed(names)}")


def _chosen_columns(
    file: LocalFile, names: list[str], column: str | None, samples: Mapping[str, Sequence[str]] | None
) -> dict[str, FieldType | None] | None:
    """The columns to read, with their kinds; None if the file is a list without a header."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.columns import find_layout, listed

    likely = _likely_columns(names, samples)
    if column is not None:
        _check_column(file, names, column)
        return {column: likely.get(column)}
    if any(map(is_identifier, names)):
        return None
    with suppress(InputError):
        layout = find_layout(names, None)
        likely |= {name: kind for kind, name in layout.columns} or {"value": None}
    if not likely:
        raise InputError(
            f"no identifier columns; name one with --column (there are {listed(names)})",
            spent=_NOBODY_SUPPRESSED,
        )
    return likely


def is_identifier(text: str) -> bool:
    """Whether a text is an identifier of any kind."""
    from eb_dagster.identifiers.canonical import canonical
    from eb_dagster.identifiers.model import FIELD_TYPES, Identifier

    return any(isinstance(canonical(kind, text), Identifier) for kind in FIELD_TYPES)
