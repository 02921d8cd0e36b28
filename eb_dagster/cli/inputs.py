"""The file of leads that a command reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import click

from eb_dagster.cli.spelling import counted

if TYPE_CHECKING:
    from eb_dagster.tables.csv import TextTable
    from eb_dagster.tables.object_store import Place
    from eb_dagster.tables.source import Source
    from eb_dagster.tables.unnamed_file import UnnamedFile

_SAMPLE_ROWS: Final = 200


class InputTable(Protocol):
    """A file of leads."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...

    @property
    def rows(self) -> int:
        """How many there are below the header."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was detected in the file, in words."""
        ...

    def reader(self) -> Source:
        """The table from its start."""
        ...

    def samples(self) -> dict[str, list[str]]:
        """The first texts of each column."""
        ...


@dataclass(frozen=True)
class Reading:
    """How a file is to be read. None means that it is detected."""

    encoding: str | None = None
    separator: str | None = None
    header_line: int | None = None
    sheet: str | None = None

    def refuse_other(self, name: str, suffix: str) -> None:
        """Refuse options that a table of this name does not have, which is no file if it has no suffix."""
        from eb_dagster.tables import csv, excel

        if self.sheet is not None and suffix != excel.SUFFIX:
            raise click.UsageError(f"--sheet is for spreadsheets (.xlsx), and {name} is none; leave it out")
        given = {
            "--encoding": self.encoding,
            "--separator": self.separator,
            "--header-line": self.header_line,
        }
        options = [option for option, value in given.items() if value is not None]
        if options and suffix not in csv.SUFFIXES:
            are = "is" if len(options) == 1 else "are"
            raise click.UsageError(
                f"{' and '.join(options)} {are} for CSV and TSV, and {name} is neither; leave it out"
            )

    def open(self, file: Place | UnnamedFile) -> TextTable:
        """The table in a CSV, TSV or text file."""
        from eb_dagster.tables.files import open_text

        return open_text(file, encoding=self.encoding, separator=self.separator, header_line=self.header_line)


@dataclass(frozen=True)
class SourceTable:
    """A table of leads that is no text file: Parquet, a spreadsheet, NDJSON or a query."""

    source: Source

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.source.names)

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.source.rows or 0

    @property
    def notes(self) -> Sequence[str]:
        """What was detected, in words."""
        return self.source.notes

    def reader(self) -> Source:
        """The table from its start."""
        return self.source

    def samples(self) -> dict[str, list[str]]:
        """The first texts of each column."""
        return _first_texts(self.source)


@dataclass(frozen=True)
class ParquetTable(SourceTable):
    """A Parquet file of leads: the types of its columns are somebody's choice."""


def _first_texts(source: Source) -> dict[str, list[str]]:
    """The texts in the first rows of each column that holds text."""
    batch = next(source.batches(), None)
    if batch is None:
        return {}
    columns = [field.name for field in batch.schema if str(field.type) in ("string", "large_string")]
    texts: dict[str, list[str | None]] = batch.slice(0, _SAMPLE_ROWS).select(columns).to_pydict()
    return {name: [cell for cell in cells if cell is not None] for name, cells in texts.items()}


def open_table(file: Place | UnnamedFile, reading: Reading) -> InputTable:
    """Open a file of leads, and tell what was detected."""
    from eb_dagster.errors import InputError

    if isinstance(file, Path) and file.is_dir():
        raise InputError(f"{file} is a folder; name a file in it")
    check_suffix(file)
    if not file.is_file():
        raise InputError(f"there is no file {file.name}; check the path")
    table = _open(file, reading)
    click.echo(f"{file.name}: {counted(table.rows, 'row')}", err=True)
    for note in table.notes:
        click.echo(f"  {note}", err=True)
    return table


def _open(file: Place | UnnamedFile, reading: Reading) -> InputTable:
    from eb_dagster.cli.formats import open_other
    from eb_dagster.tables import files
    from eb_dagster.tables.parquet import parquet_source

    reading.refuse_other(file.name, files.suffix_of(file))
    return ParquetTable(parquet_source(file)) if is_parquet(file) else open_other(file, reading)


def is_parquet(file: Place | UnnamedFile) -> bool:
    """Whether the file's name says that it is Parquet."""
    return file.suffix.lower() == ".parquet"


def check_suffix(file: Place | UnnamedFile) -> None:
    """Refuse a file of a kind that is neither read nor written."""
    from eb_dagster.errors import InputError
    from eb_dagster.tables import csv, excel, files, json_lines

    rows = (*csv.SUFFIXES, *json_lines.SUFFIXES)
    known = (*rows, excel.SUFFIX, files.PARQUET)
    allowed = rows if files.is_compressed(file) else known
    if files.suffix_of(file) not in allowed:
        hint = "save it as .xlsx or CSV UTF-8" if file.suffix.lower() == ".xls" else "choose another ending"
        raise InputError(
            f"{file.name}: only {', '.join(known)} are read and written, and {rows[0]}.gz and the like; {hint}"
        )


def check_column_names(table: InputTable) -> None:
    """Refuse repeated column names, which a Parquet table cannot have."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.columns import listed

    repeated = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if repeated:
        raise InputError(
            f"more than one column is called [{listed(repeated)}], which a Parquet table cannot have; rename one, "
            "or write a CSV"
        )
