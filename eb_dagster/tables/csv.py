"""Read and write CSV and TSV as spreadsheets and CRMs make them, in any size.

Nothing is guessed in silence: `TextTable.notes` says what the file left open, and what it leaves
ambiguous is refused. Every cell stays the text it is: a phone number that was read as a number has
lost its zeros and its plus.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import IO, Final, NamedTuple, TextIO, TypeAlias

import pyarrow as pa

from eb_dagster.errors import InputError, counted
from eb_dagster.identifiers.arrays import text_arrays
from eb_dagster.tables import encodings
from eb_dagster.tables.csv_rows import CsvRows
from eb_dagster.tables.header import find_header
from eb_dagster.tables.object_store import Place
from eb_dagster.tables.parquet import Revision
from eb_dagster.tables.row_files import write_rows
from eb_dagster.tables.source import Source
from eb_dagster.tables.unnamed_file import LocalFile

SUFFIXES: Final = (".csv", ".tsv", ".txt")
BATCH_ROWS: Final = 8_192

_SEPARATORS: Final = (",", ";", "\t", "|")
_NAMES: Final = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
_CHUNK_BYTES: Final = 2**20
_SAMPLE_RECORDS: Final = 200
# A spreadsheet's own hint on the first line.
_HINT: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# What Salesforce puts below the rows of a report; the longest one seen has nine lines.
_FOOTER: Final = re.compile(
    r"Copyright .{1,20}salesforce\.com|Confidential Information - Do Not Distribute", re.IGNORECASE
)
_MAX_FOOTER_LINES: Final = 20


_Record: TypeAlias = tuple[int, list[str]]
"""The number of a record's last line, and its cells. A blank line has none."""


class _SampleRecord(NamedTuple):
    lines_before: int
    cells: list[str]


class _Fit(NamedTuple):
    """How well a separator fits: the more whole rows, the better."""

    whole_rows: int
    """Rows with as many cells as the header."""
    near_rows: int
    """Rows with several cells, and no more than the header. 1 if there are no rows to judge by."""


class TextTable:
    """A delimited text file whose structure was read once, from end to end, before anything is sent.

    Args:
        path: the file. In a `.tsv` only the tab separates.
        encoding: a name that Python knows. Detected if not given, which is noted if the file did not say it.
        separator: one character. Detected if not given, by the first 200 records.
        header_line: the line that holds the names of the columns, counted from 1. Detected if not given:
            blank lines, a title and notes above it are passed over, which is noted.

    Raises:
        InputError: it cannot be read, or not in one way only.

    """

    def __init__(
        self,
        path: LocalFile,
        *,
        encoding: str | None = None,
        separator: str | None = None,
        header_line: int | None = None,
    ) -> None:
        self._path = path
        self._read_encoding(encoding)
        self._is_detected = encoding is None
        hint = self._read_hint()
        self.separator = separator or hint or ","
        self._hint_lines = int(hint is not None)
        self._skipped_lines = self._hint_lines if header_line is None else header_line - 1
        self._find_structure(
            is_separator_known=bool(separator or hint), is_header_known=header_line is not None
        )
        self.footer_lines = 0
        header = next(self._records(), None)
        self.columns = tuple(header[1]) if header is not None else ()
        if not self.columns:
            raise _no_header(path, header_line)
        self.rows = sum(1 for _ in self._rows())

    @property
    def is_from_spreadsheet(self) -> bool:
        """Whether a spreadsheet would show a copy in plain UTF-8 with the wrong letters."""
        return self.has_mark or self.encoding not in ("utf-8", "utf-8-sig")

    def _read_encoding(self, given: str | None) -> None:
        path = self._path
        try:
            self.has_mark = encodings.mark_of(path) is not None
            self.encoding = encodings.known_encoding(given) if given else encodings.find_encoding(path)
            self._nuls, self._first_nul = _find_nuls(path, self.encoding)
        except OSError as error:
            raise _unreadable(path, error) from None

    @property
    def notes(self) -> list[str]:
        """What was detected, and may be otherwise."""
        notes: list[str] = []
        if self._is_detected and not self.encoding.startswith("utf"):
            spoken = encodings.spoken(self.encoding)
            notes.append(f"it is not UTF-8 and was read as {spoken}; if that is wrong, give --encoding")
        if self.separator not in (",", "\t"):
            notes.append(f"its cells are separated by {_named(self.separator)}")
        if (lines := self._skipped_lines - self._hint_lines) > 0:
            notes.append(
                f"skipped {counted(lines, 'line')} above the header; if that is wrong, give --header-line"
            )
        if self._nuls:
            notes.append(self._note_on_nuls())
        if self.footer_lines:
            notes.append(f"the report's footer ({counted(self.footer_lines, 'line')}) is left out")
        return notes

    def reader(self) -> Source:
        """The rows, all columns as text; a blank cell is null."""
        schema = pa.schema([(name, pa.string()) for name in self.columns])
        return Source(schema, self.rows, lambda: self._batches(schema))

    def samples(self) -> dict[str, list[str]]:
        """The first values of each column."""
        found: dict[str, list[str]] = {name: [] for name in self.columns}
        for row in itertools.islice(self._rows(), _SAMPLE_RECORDS):
            for name, cell in zip(self.columns, row, strict=True):
                if cell:
                    found[name].append(cell)
        return found

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        rows = self._rows()
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            yield _batch(batch, schema)

    def _rows(self) -> Iterator[list[str]]:
        records = self._records()
        next(records, None)
        width = len(self.columns)
        for line, cells in self._without_footer(records):
            if len(cells) > width and any(cells[width:]):
                raise InputError(
                    f"{self._path.name}, line {line}: {counted(len(cells), 'cell')}, and the header has {width}; "
                    f"put a cell that holds a {_named(self.separator)} in quotes, name another --separator, or say with "
                    "--header-line which line names the columns"
                )
            # Spreadsheets leave out blank cells at the end of a row, and some tools add one.
            yield (cells + [""] * (width - len(cells)))[:width]

    def _note_on_nuls(self) -> str:
        characters = counted(self._nuls, "NUL character")
        return f"{characters} in it (the first in line {self._first_nul:,}): passed through, but never asked"

    def _without_footer(self, records: Iterable[_Record]) -> Iterator[_Record]:
        """The records that have cells. A report's footer is left out, and its lines are counted."""
        is_wide_table = len(self.columns) > 1
        possible_footer: list[_Record] = []
        for record in records:
            cells = len(record[1])
            if _cannot_go_on(possible_footer, cells):
                yield from _without_blank_lines(possible_footer)
                possible_footer = []
            # It begins with a blank line, or in a wide table with a line of one cell.
            if possible_footer or not cells or (is_wide_table and cells == 1):
                possible_footer.append(record)
            else:
                yield record
        if _is_footer(possible_footer):
            self.footer_lines = len(_without_blank_lines(possible_footer))
        else:
            yield from _without_blank_lines(possible_footer)

    def _records(self) -> Generator[_Record]:
        """Every record from the header on."""
        line = 0
        try:
            with self._open() as file:
                reader = csv.reader(file, delimiter=self.separator, strict=True)
                for cells in reader:
                    line = reader.line_num
                    yield line + self._skipped_lines, cells
        except csv.Error as error:
            raise InputError(_describe(self._path, line + 1 + self._skipped_lines, error)) from None
        except UnicodeError:
            raise InputError(
                f"{self._path.name} is not {self.encoding}; name the right one with --encoding"
            ) from None
        except OSError as error:
            raise _unreadable(self._path, error) from None

    @contextlib.contextmanager
    def _open(self) -> Generator[TextIO]:
        with self._path.open(encoding=self.encoding, newline="") as file:
            for _ in range(self._skipped_lines):
                file.readline()
            yield file

    def _read_hint(self) -> str | None:
        with contextlib.suppress(UnicodeError), self._path.open(encoding=self.encoding, newline="") as file:
            found = _HINT.fullmatch(file.readline(20))
            return found[1] if found else None
        return None

    def _find_structure(self, *, is_separator_known: bool, is_header_known: bool) -> None:
        """Find what separates the cells, and which line is the header."""
        candidates = ("\t",) if self._path.suffix.lower() == ".tsv" else _SEPARATORS
        fits: dict[str, _Fit] = {}
        skipped_lines: dict[str, int] = {}
        for separator in (self.separator,) if is_separator_known else candidates:
            lines_above, fit = self._try_separator(separator, is_header_known=is_header_known)
            skipped_lines[separator] = self._skipped_lines + lines_above
            if fit is not None:
                fits[separator] = fit
        if not is_separator_known:
            # If no separator gives several columns, there is only one.
            self.separator = self._best_separator(fits) if fits else candidates[0]
        self._skipped_lines = skipped_lines[self.separator]

    def _try_separator(self, separator: str, *, is_header_known: bool) -> tuple[int, _Fit | None]:
        """The lines above the header, and how well the separator fits; None if it gives a single column."""
        sample = self._sample(separator)
        header_index = 0 if is_header_known else find_header([record.cells for record in sample])
        lines_above = sample[header_index].lines_before if sample else 0
        header, *records = [record.cells for record in sample[header_index:] if record.cells] or [[]]
        return lines_above, _fit(header, records) if len(header) > 1 else None

    def _best_separator(self, fits: Mapping[str, _Fit]) -> str:
        best = max(fits.values())
        separators = [separator for separator, fit in fits.items() if fit == best]
        if len(separators) > 1 or not best.near_rows:
            raise InputError(
                f"{self._path.name}: its cells may be separated by {' or '.join(map(_named, fits))}, or its "
                "header needs quotes; say which with --separator"
            )
        return separators[0]

    def _sample(self, separator: str) -> list[_SampleRecord]:
        """The first records. What is wrong with them is reported later, with the line."""
        records: list[_SampleRecord] = []
        with contextlib.suppress(csv.Error, UnicodeError, OSError), self._open() as file:
            reader = csv.reader(file, delimiter=separator)
            lines_before = 0
            for cells in reader:
                records.append(_SampleRecord(lines_before, cells))
                lines_before = reader.line_num
                if len(records) > _SAMPLE_RECORDS:
                    break
        return records


def _fit(header: Sequence[str], records: Sequence[Sequence[str]]) -> _Fit:
    lengths = [_length(record, len(header)) for record in records]
    near_rows = sum(1 < length <= len(header) for length in lengths)
    return _Fit(lengths.count(len(header)), near_rows if records else 1)


def _length(record: Sequence[str], width: int) -> int:
    """The cells of a record, without blank ones beyond the header."""
    return width if len(record) > width and not any(record[width:]) else len(record)


def _without_blank_lines(records: Iterable[_Record]) -> list[_Record]:
    return [record for record in records if record[1]]


def _cannot_go_on(footer: Sequence[_Record], cells: int) -> bool:
    """Whether a record of so many cells shows that what seemed a footer is none."""
    return bool(footer) and (cells > 1 or len(footer) == _MAX_FOOTER_LINES)


def _is_footer(records: Iterable[_Record]) -> bool:
    return any(_FOOTER.search(cell) for _, cells in records for cell in cells)


def read_separator(text: str | None) -> str | None:
    """The character that a name stands for: tab, comma, semicolon, bar, or itself.

    Raises `ValueError` if it is neither.
    """
    if text is None or len(text) == 1:
        return text
    for character, name in _NAMES.items():
        if text.lower() == name or (character, text) == ("\t", "\\t"):
            return character
    raise ValueError(f"a separator is one character, or one of {', '.join(_NAMES.values())}")


def _no_header(path: LocalFile, header_line: int | None) -> InputError:
    what = "is empty: there is no header" if header_line is None else f"has no header in line {header_line:,}"
    return InputError(f"{path.name} {what}; give it one line of column names")


def _unreadable(path: LocalFile, error: OSError) -> InputError:
    return InputError(
        f"{path.name} cannot be read ({type(error).__name__}); check that it is there, and its permissions"
    )


def _find_nuls(path: LocalFile, encoding: str) -> tuple[int, int]:
    """How many NULs there are, and the line of the first."""
    if encoding.startswith(("utf-16", "utf-32")):
        return 0, 0
    count, line, lines = 0, 0, 1
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if not count and b"\0" in chunk:
                line = lines + chunk[: chunk.index(0)].count(b"\n")
            count += chunk.count(0)
            lines += chunk.count(b"\n")
    return count, line


def _named(separator: str) -> str:
    return _NAMES.get(separator, repr(separator))


def _batch(rows: Sequence[Sequence[str]], schema: pa.Schema) -> pa.RecordBatch:
    columns = text_arrays([*zip(*rows, strict=True)])
    return pa.record_batch(columns, schema=schema)


def _describe(path: LocalFile, line: int, error: csv.Error) -> str:
    # The words of the csv module; none of them quotes a cell.
    if "unexpected end of data" in str(error):
        return f"{path.name}: a quote that opens at line {line} or later is never closed; close it, or name the line below it with --header-line if it is above the table"
    if "field larger than" in str(error):
        return f"{path.name}: a cell at line {line} is too long; is a quote left open? Fix it there"
    return f"{path.name}, line {line}: a quote stands inside a cell; double it"


# Writing


def write_text(
    reader: Iterable[pa.RecordBatch],
    target: Place | None,
    *,
    columns: Sequence[str],
    ours: Collection[str],
    separator: str,
    has_mark: bool,
    revise: Callable[[], Revision | None] | None = None,
) -> int:
    """Write batches as text that a spreadsheet opens without running it. Returns the rows.

    Cells of our columns that look like formulas get an apostrophe; the user's stay as they are. The
    file takes its place when it is whole, and only its owner can read it. Before that, `revise` is
    asked: if it gives a revision, the file is written once more through it.
    """
    rows = CsvRows(columns, ours, separator)
    return write_rows(reader, target, lambda sink: _TextWriter(sink, rows, has_mark=has_mark), revise=revise)


class _TextWriter:
    def __init__(self, sink: IO[bytes], rows: CsvRows, *, has_mark: bool) -> None:
        self._sink, self._rows = sink, rows
        sink.write(codecs.BOM_UTF8 if has_mark else b"")
        sink.write(rows.header())

    def add(self, batch: pa.RecordBatch) -> None:
        self._sink.write(self._rows.rows(batch))

    def end(self) -> None:
        """Nothing stands at the end."""

    def close(self) -> None:
        """Nothing is held."""
