"""Read and write CSV and TSV as spreadsheets and CRMs make them, in any size.

Nothing is guessed in silence: `TextTable.notes` says what the file left open, and what it leaves
ambiguous is refused. Every cell stays the text it is: a phone number that was read as a number has
lost its zeros and its plus.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO, cast

import pyarrow as pa

from eb_dagster.errors import InputError
from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.columns import suggest
from eb_dagster.identifiers.model import FIELD_TYPES, Identifier
from eb_dagster.tables import encodings
from eb_dagster.tables.atomic_file import published, telling_of
from eb_dagster.tables.object_store import ObjectPath, Place
from eb_dagster.tables.parquet import Revision
from eb_dagster.tables.source import Source

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
_FOOTER_LINES: Final = 20


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
        path: Path,
        *,
        encoding: str | None = None,
        separator: str | None = None,
        header_line: int | None = None,
    ) -> None:
        self._path = path
        try:
            self.has_mark = encodings.mark_of(path) is not None
            self.encoding = encodings.known_encoding(encoding) if encoding else encodings.find_encoding(path)
            self._nuls, self._first_nul = _find_nuls(path, self.encoding)
        except OSError as error:
            raise _unreadable(path, error) from None
        self._is_detected = encoding is None
        hint = self._read_hint()
        self.separator = separator or hint or ","
        self._hint_lines = int(hint is not None)
        self._skipped_lines = self._hint_lines if header_line is None else header_line - 1
        self._find_structure(
            is_separator_known=bool(separator or hint), is_header_known=header_line is not None
        )
        self.footer_lines = 0
        records = self._records()
        self.columns = tuple(next((record for _, record in records), ()))
        if not self.columns:
            where = (
                "is empty: there is no header"
                if header_line is None
                else f"has no header in line {header_line:,}"
            )
            raise InputError(f"{path.name} {where}; give it one line of column names")
        self.rows = sum(1 for _ in self._rows())

    @property
    def is_from_spreadsheet(self) -> bool:
        """Whether a spreadsheet would show a copy in plain UTF-8 with the wrong letters."""
        return self.has_mark or self.encoding not in ("utf-8", "utf-8-sig")

    @property
    def notes(self) -> list[str]:
        """What was detected, and may be otherwise."""
        notes: list[str] = []
        if self._is_detected and not self.encoding.startswith("utf"):
            spoken = encodings.spoken(self.encoding)
            notes.append(f"it is not UTF-8 and was read as {spoken}; --encoding says otherwise")
        if self.separator not in (",", "\t"):
            notes.append(f"its cells are separated by {_named(self.separator)}")
        if (lines := self._skipped_lines - self._hint_lines) > 0:
            notes.append(
                f"{_lines(lines)} above the header {'is' if lines == 1 else 'are'} passed over; --header-line says otherwise"
            )
        if self._nuls:
            count = "1 NUL character" if self._nuls == 1 else f"{self._nuls:,} NUL characters"
            notes.append(
                f"{count} in it (the first in line {self._first_nul:,}): passed through, but never asked"
            )
        if self.footer_lines:
            notes.append(f"the report's footer ({_lines(self.footer_lines)}) is left out")
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
        held: list[list[str]] = []
        for row in self._rows():
            held.append(row)
            if len(held) == BATCH_ROWS:
                yield _batch(held, schema)
                held = []
        if held:
            yield _batch(held, schema)

    def _rows(self) -> Iterator[list[str]]:
        records = self._records()
        next(records, None)
        width = len(self.columns)
        for line, record in self._without_footer(records):
            if len(record) > width and any(record[width:]):
                raise InputError(
                    f"{self._path.name}, line {line}: {len(record)} cells, and the header has {width}; "
                    f"put a cell that holds a {_named(self.separator)} in quotes, name another --separator, or say with "
                    "--header-line which line names the columns"
                )
            # Spreadsheets leave out blank cells at the end of a row, and some tools add one.
            yield (record + [""] * (width - len(record)))[:width]

    def _without_footer(self, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
        held: list[tuple[int, list[str]]] = []
        is_wide = len(self.columns) > 1
        for one in records:
            record = one[1]
            if len(record) > 1 or len(held) == _FOOTER_LINES:
                yield from (row for row in held if row[1])
                held = []
            # It begins with a blank line, or in a wide table with a line of one cell.
            if held or not record or (is_wide and len(record) == 1):
                held.append(one)
            else:
                yield one
        if any(_FOOTER.search(cell) for _, record in held for cell in record):
            self.footer_lines = sum(1 for _, record in held if record)
        else:
            yield from (row for row in held if row[1])

    def _records(self) -> Generator[tuple[int, list[str]]]:
        """Every record from the header on, with the number of its last line. A blank line has no cells."""
        line = 0
        try:
            with self._open() as file:
                reader = csv.reader(file, delimiter=self.separator, strict=True)
                for record in reader:
                    line = reader.line_num
                    yield line + self._skipped_lines, record
        except csv.Error as error:
            raise InputError(_describe(self._path, line + 1 + self._skipped_lines, error)) from None
        except UnicodeError:
            raise InputError(f"{self._path.name} is not {self.encoding}; name it with --encoding") from None
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
        fits: dict[str, tuple[int, int]] = {}
        skipped: dict[str, int] = {}
        for one in (self.separator,) if is_separator_known else candidates:
            sample = self._sample(one)
            at = 0 if is_header_known else find_header([record for _, record in sample])
            skipped[one] = self._skipped_lines + (sample[at][0] if sample else 0)
            header, *records = [record for _, record in sample[at:] if record] or [[]]
            if len(header) < 2:
                continue
            lengths = [_length(record, len(header)) for record in records]
            near = sum(1 < length <= len(header) for length in lengths)
            fits[one] = (lengths.count(len(header)), near or not records)
        if not is_separator_known:
            # One column: nothing separates.
            self.separator = self._best(fits) if fits else candidates[0]
        self._skipped_lines = skipped[self.separator]

    def _best(self, fits: Mapping[str, tuple[int, int]]) -> str:
        best = max(fits.values())
        found = [one for one, fit in fits.items() if fit == best]
        if len(found) > 1 or not best[1]:
            raise InputError(
                f"{self._path.name}: its cells may be separated by {' or '.join(map(_named, fits))}, or its "
                "header needs quotes; say which with --separator"
            )
        return found[0]

    def _sample(self, separator: str) -> list[tuple[int, list[str]]]:
        """The first records, each with the number of lines before it."""
        records: list[tuple[int, list[str]]] = []
        # What is wrong with it is told later, with the line.
        with contextlib.suppress(csv.Error, UnicodeError, OSError), self._open() as file:
            reader = csv.reader(file, delimiter=separator)
            before = 0
            for record in reader:
                records.append((before, record))
                before = reader.line_num
                if len(records) > _SAMPLE_RECORDS:
                    break
        return records


# Which line is the header


_LINES_ABOVE: Final = 40


def find_header(records: Sequence[Sequence[str]]) -> int:
    """Which record names the columns: below blank lines, a title, notes and comments, if there are any."""
    filled = [sum(bool(cell.strip()) for cell in record) for record in records]
    first = next((at for at, count in enumerate(filled) if count), 0)
    if not records or (filled[first] > 1 and _names_columns(records[first])):
        return first
    some = range(first, min(first + _LINES_ABOVE, len(records)))
    wide = next((at for at in some if filled[at] > 1 and not _is_comment(records[at])), first)
    below = [count > 1 for count in filled[wide + 1 :] if count]
    is_table = sum(below) * 2 > len(below) or _names_columns(records[wide])
    if not is_table or any(map(_holds_value, records[first : wide + 1])):
        wide = first
    if wide != first and _names_columns(records[wide]):
        return wide
    # Notes may have several cells too. What names identifiers below a blank line, or below narrower
    # lines, is the header: unless what stands above has names, or people.
    for at in some:
        if _holds_value(records[at]):
            break
        if _names_columns(records[at]):
            is_apart = at > first and (not filled[at - 1] or _fits_better(records, first, at, filled))
            return at if is_apart else wide
    return wide


def _fits_better(records: Sequence[Sequence[str]], first: int, at: int, filled: Sequence[int]) -> bool:
    """Whether the rows below a record are more like it than like what stands above."""
    if filled[at] == 1:
        # A title above a list.
        return at + 1 < len(records) and max(filled) == 1 and _holds_value(records[at + 1])
    lengths = [len(record) for record in records[at + 1 :]]
    is_alone = len(records[at]) in lengths and not any(len(record) in lengths for record in records[first:at])
    return is_alone or max(filled[first:at]) < filled[at]


def _is_comment(record: Sequence[str]) -> bool:
    return record[0].lstrip().startswith("#") and not _names_columns(record)


def _names_columns(record: Sequence[str]) -> bool:
    return bool(suggest(record)) or {"field_type", "value"} <= set(record)


def _holds_value(record: Sequence[str]) -> bool:
    return any(isinstance(canonical(kind, cell), Identifier) for cell in record for kind in FIELD_TYPES)


def _length(record: Sequence[str], width: int) -> int:
    """The cells of a record, without blank ones beyond the header."""
    return width if len(record) > width and not any(record[width:]) else len(record)


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


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path.name} cannot be read ({type(error).__name__}); check that it is there, and its permissions"
    )


def _find_nuls(path: Path, encoding: str) -> tuple[int, int]:
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
    columns = [pa.array([cell or None for cell in column], pa.string()) for column in zip(*rows, strict=True)]
    # pyarrow-stubs leaves the type parameters of arrays unknown here.
    return cast(Any, pa.RecordBatch).from_arrays(columns, schema=schema)


def _describe(path: Path, line: int, error: csv.Error) -> str:
    # The words of the csv module; none of them quotes a cell.
    if "unexpected end of data" in str(error):
        return f"{path.name}: a quote that opens at line {line} or later is never closed; close it, or name the line below it with --header-line if it is above the table"
    if "field larger than" in str(error):
        return f"{path.name}: a cell at line {line} is too long; is a quote not closed? Mend it there"
    return f"{path.name}, line {line}: a quote stands inside a cell; double it"


# Writing


def write_text(
    reader: Iterable[pa.RecordBatch],
    target: Place,
    *,
    columns: Sequence[str],
    ours: Collection[str],
    separator: str,
    has_mark: bool,
    revise: Callable[[], Revision | None] | None = None,
) -> int:
    """Write batches as text that a spreadsheet opens without running it. Returns the rows.

    The cells of our columns that look like formulas get an apostrophe; the user's stay as they
    are. The file takes its place when it is whole, and only its owner can read it. Before, `revise` is
    asked: if it gives a revision, the file is made once more through that.
    """
    ways: list[Callable[[object], str]] = [_safe_text if name in ours else _text for name in columns]
    folder = tempfile.gettempdir() if isinstance(target, ObjectPath) else target.resolve().parent
    with (
        _published_text(target, encoding="utf-8-sig" if has_mark else "utf-8") as sink,
        contextlib.ExitStack() as stack,
    ):
        if revise is None:
            return _write_rows(reader, sink, columns, ways, separator)
        # Without a name: gone with the process, whatever becomes of it.
        kept = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        rows = _write_rows(_keeping(reader, kept), sink, columns, ways, separator)
        while (revision := revise()) is not None:
            before, kept = kept, stack.enter_context(tempfile.TemporaryFile(dir=folder))
            before.seek(0)
            again = revision(cast("Any", pa.ipc).open_stream(before) if rows else ())
            sink.seek(0)
            sink.truncate()
            rows = _write_rows(_keeping(again, kept), sink, columns, ways, separator)
    return rows


def _keeping(batches: Iterable[pa.RecordBatch], kept: Any) -> Iterator[pa.RecordBatch]:
    """The batches, each of which is kept in a file too, compressed."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    writer: Any = None
    for batch in batches:
        writer = writer or pa.ipc.new_stream(kept, batch.schema, options=options)
        writer.write_batch(batch)
        yield batch
    if writer is not None:
        writer.close()


def _write_rows(
    batches: Iterable[pa.RecordBatch],
    sink: TextIO,
    columns: Sequence[str],
    ways: Sequence[Callable[[object], str]],
    separator: str,
) -> int:
    rows = 0
    plain = csv.writer(sink, delimiter=separator, lineterminator="\n")
    quoted = csv.writer(sink, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    (quoted if "\r" in "".join(columns) else plain).writerow(columns)
    for batch in batches:
        cells: list[list[Any]] = [_cells(column) for column in cast(Any, batch).columns]
        texts = [[way(cell) for cell in column] for way, column in zip(ways, cells, strict=True)]
        # The csv module leaves a lone carriage return bare, which would end the row.
        has_returns = any("\r" in text for column in texts for text in column)
        (quoted if has_returns else plain).writerows(zip(*texts, strict=True))
        rows += batch.num_rows
    return rows


def _cells(column: Any) -> list[Any]:
    try:
        return column.to_pylist()
    except OverflowError:
        # Years and durations that Python's own have no room for.
        return column.cast(pa.string()).to_pylist()


@contextlib.contextmanager
def _published_text(target: Place, *, encoding: str) -> Generator[TextIO]:
    telling = contextlib.nullcontext() if isinstance(target, ObjectPath) else telling_of(target)
    with telling, published(target) as raw:
        sink = io.TextIOWrapper(raw, encoding=encoding, newline="")
        try:
            yield sink
        finally:
            # Written out, and the file itself left open for who publishes it.
            sink.detach()


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if hasattr(cell, "isoformat"):
        return cast(Any, cell).isoformat()
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    if isinstance(cell, list | Mapping):
        return json.dumps(cell, ensure_ascii=False, default=_text)
    return str(cell)


_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _safe_text(cell: object) -> str:
    text = _text(cell)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
