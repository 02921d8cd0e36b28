"""Spreadsheets (.xlsx), one sheet as a table. Libraries of their own read and write them: the extra `excel`."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib import import_module
from typing import IO, Any, Final

import pyarrow as pa

from eb_dagster.errors import ConfigError, InputError, counted
from eb_dagster.identifiers.columns import listed
from eb_dagster.tables.atomic_file import private_folder
from eb_dagster.tables.csv_rows import texts_of_cells
from eb_dagster.tables.header import find_header
from eb_dagster.tables.query_types import FoundTypes, column_of
from eb_dagster.tables.source import BATCH_ROWS, Source
from eb_dagster.tables.unnamed_file import LocalFile

SUFFIX: Final = ".xlsx"
_SHEET: Final = "contacts"
MOST_ROWS: Final = 1_048_575
"""Below the header, a sheet has room for so many."""
_LONGEST_TEXT: Final = 32_767
_MOST_EXACT: Final = 2**53
_FIRST_DAY: Final = 1900
_SAMPLE_ROWS: Final = 200
# Whatever a cell is that was written here.
_WRITTEN: Final = (str, bool, int, float, dt.date)
_CHARACTERS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise ConfigError(
            'a spreadsheet is read and written with libraries of its own: pip install "eb-dagster[excel]", or save it '
            "as CSV UTF-8"
        ) from None


def check_writer() -> None:
    """Raise `ConfigError` if no spreadsheet can be written here."""
    _imported("xlsxwriter")


def excel_source(path: LocalFile, *, sheet: str | None = None) -> Source:
    """A sheet as a table: whole numbers as such, days as days, a column of several types as text.

    Blank rows and a title above the header are passed over. Memory holds the sheet.

    Args:
        path: the file.
        sheet: its name; not needed if only one has cells.

    Raises:
        ConfigError: the extra `excel` is not installed.
        InputError: it is no spreadsheet, or it cannot be told which sheet, or it has no header.

    """
    with _opened(path) as book:
        name, notes = _chosen(path, book, sheet)
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=True)
    return _source(path, rows, notes)


def own_rows(path: LocalFile) -> tuple[list[str], list[Sequence[object]]]:
    """The header and the rows of a file that `ExcelWriter` wrote. Raises `InputError` if it is another by now."""
    with _opened(path) as book:
        is_ours = book.sheet_names == [_SHEET]
        rows: list[list[object]] = (
            book.get_sheet_by_name(_SHEET).to_python(skip_empty_area=False) if is_ours else []
        )
    if not rows or not all(isinstance(cell, _WRITTEN) for row in rows for cell in row):
        raise InputError(f"{path.name} was changed since it was written; look for the person in it yourself")
    return [_plain_text(cell) for cell in rows[0]], [[_cell(cell) for cell in row] for row in rows[1:]]


@contextlib.contextmanager
def _opened(path: LocalFile) -> Generator[Any]:
    calamine = _imported("python_calamine")
    try:
        with path.open("rb") as file, calamine.CalamineWorkbook.from_filelike(file) as book:
            yield book
    except (calamine.CalamineError, OSError):
        raise InputError(
            f"{path.name} cannot be read as a spreadsheet; save it again as .xlsx without a password, or as CSV UTF-8"
        ) from None


def _chosen(path: LocalFile, book: Any, sheet: str | None) -> tuple[str, list[str]]:
    names: list[str] = book.sheet_names
    if sheet is not None:
        if sheet not in names:
            raise InputError(f"{path.name} has no sheet of that name; choose from {listed(names)}")
        return sheet, []
    filled = [name for name in names if book.get_sheet_by_name(name).height]
    if len(filled) > 1:
        raise InputError(f"{path.name} has several sheets; name one with --sheet: {listed(filled)}")
    if not filled:
        raise InputError(f"{path.name} has no cells; check the file")
    return filled[0], [f"sheet {filled[0]!r} is read"] if len(names) > 1 else []


def _source(path: LocalFile, rows: Sequence[Sequence[object]], notes: list[str]) -> Source:
    above, header = _header_of(path, rows)
    if above:
        notes.append(f"skipped {counted(above, 'row')} above the header")
    columns = _columns_below(rows[above + 1 :], len(header))
    found = FoundTypes([(name, *[None] * 6) for name in header])
    found.add(columns)
    schema = pa.schema([*zip(header, found.types({}), strict=True)])
    arrays = [
        column_of(field.name, values, field.type) for field, values in zip(schema, columns, strict=True)
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    source = Source(schema, table.num_rows, lambda: iter(table.to_batches(BATCH_ROWS)))
    source.notes = notes
    return source


def _header_of(path: LocalFile, rows: Sequence[Sequence[object]]) -> tuple[int, list[str]]:
    """How many rows stand above the header, and the names in it."""
    sample = [[_plain_text(cell) for cell in row] for row in rows[:_SAMPLE_ROWS]]
    above = find_header(sample)
    header = sample[above] if sample else []
    while header and not header[-1].strip():
        header.pop()
    if not header:
        raise InputError(f"{path.name} has no header; give its sheet one row of column names")
    return above, header


def _columns_below(rows: Sequence[Sequence[object]], count: int) -> list[list[object]]:
    """The cells by column, without blank rows."""
    filled = [row for row in rows if any(cell not in ("", None) for cell in row)]
    return [
        _whole([_cell(row[place] if place < len(row) else None) for row in filled]) for place in range(count)
    ]


def _cell(cell: object) -> object:
    return None if cell in ("", None) else cell


def _plain_text(cell: object) -> str:
    return "" if cell is None else str(cell)


def _whole(values: list[object]) -> list[object]:
    """Numbers as whole ones, where no other stands beside them: a spreadsheet keeps every number with a fraction."""
    numbers = [value for value in values if isinstance(value, float)]
    is_text = any(isinstance(value, str) for value in values)
    if not all(number.is_integer() for number in numbers) and not is_text:
        return values
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]


class ExcelWriter:
    """Writes one sheet. A text is written as a text, so that nothing in it is ever run as a formula."""

    def __init__(self, sink: IO[bytes], columns: Sequence[str]) -> None:
        writer = _imported("xlsxwriter")
        self._open = contextlib.ExitStack()
        # Rows wait there for the end, one after the other.
        folder = self._open.enter_context(private_folder())
        self._book = writer.Workbook(sink, {"constant_memory": True, "tmpdir": folder})
        self._sheet = self._book.add_worksheet(_SHEET)
        self._time_format = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._day_format = self._book.add_format({"num_format": "yyyy-mm-dd"})
        bold = self._book.add_format({"bold": True})
        self._columns = columns
        self._sheet.freeze_panes(1, 0)
        for place, name in enumerate(columns):
            self._sheet.write_string(0, place, name, bold)
        self._row = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch. Raises `InputError` if a sheet has no room for one."""
        self.add_rows(zip(*map(_cells, batch.columns), strict=True))

    def add_rows(self, rows: Iterable[Sequence[object]]) -> None:
        """Write cells as they are. Raises likewise."""
        for cells in rows:
            self._row += 1
            if self._row > MOST_ROWS:
                raise InputError(f"a sheet has room for {MOST_ROWS:,} rows; write CSV or Parquet instead")
            for place, cell in enumerate(cells):
                if cell is not None:
                    self._write(place, cell)

    def _write(self, place: int, cell: object) -> None:
        if isinstance(cell, str):
            if len(cell) > _LONGEST_TEXT:
                raise InputError(
                    f"column {listed([self._columns[place]])} holds a text that is too long for a cell of a spreadsheet; "
                    "write CSV or Parquet instead, or leave the column out"
                )
            self._sheet.write_string(self._row, place, _CHARACTERS.sub("\ufffd", cell))
        elif isinstance(cell, bool):
            self._sheet.write_boolean(self._row, place, cell)
        elif isinstance(cell, dt.date):
            # A time is a day too, and a time to the nanosecond is one of pandas.
            day_format = self._time_format if isinstance(cell, dt.datetime) else self._day_format
            self._sheet.write_datetime(self._row, place, cell, day_format)
        else:
            self._sheet.write_number(self._row, place, cell)

    def end(self) -> None:
        """Write the file."""
        self._book.close()

    def close(self) -> None:
        """Remove the rows that wait."""
        self._sheet.row_data_fh.close()
        self._open.close()


def _cells(column: pa.Array) -> Iterator[object]:
    """Texts, numbers, days and yes or no, as they are; all else as the text that a CSV would have."""
    type_ = column.type
    is_day = pa.types.is_date(type_) or (pa.types.is_timestamp(type_) and type_.tz is None)
    is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_)
    if not (is_day or is_number or pa.types.is_boolean(type_)):
        return (text or None for text in texts_of_cells(column).to_pylist())
    return (_or_text(cell) for cell in column.to_pylist())


def _or_text(cell: object) -> object:
    if isinstance(cell, dt.date):
        return cell if cell.year >= _FIRST_DAY else cell.isoformat()
    if isinstance(cell, float) and not abs(cell) < float("inf"):
        return str(cell)
    # Beyond, a spreadsheet would round: the number of a customer or of a credit card, for example.
    return str(cell) if isinstance(cell, int) and abs(cell) > _MOST_EXACT else cell
