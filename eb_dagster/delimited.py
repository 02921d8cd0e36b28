"""Read and write CSV and TSV as spreadsheets and CRMs make them, in any size.

Nothing is guessed in silence: `TextTable.notes` says what the file left open, and what it leaves
ambiguous is refused. Every cell stays the text it is: a phone number that was read as a number has
lost its zeros and its plus.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO, cast

import pyarrow as pa

from eb_dagster.errors import InputError, shown
from eb_dagster.frames import Source
from eb_dagster.object_store import Place
from eb_dagster.publication import published

SUFFIXES: Final = (".csv", ".tsv", ".txt")
BATCH_ROWS: Final = 8_192

_SEPARATORS: Final = (",", ";", "\t", "|")
_NAMES: Final = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
# UTF-32 first: its mark begins like that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK_BYTES: Final = 2**20
_SAMPLE_RECORDS: Final = 200
# A spreadsheet's own hint on the first line.
_HINT: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# What Salesforce puts below the rows of a report; the longest one seen has nine lines.
_FOOTER: Final = re.compile(
    r"Copyright .{1,20}salesforce\.com|Confidential Information - Do Not Distribute", re.IGNORECASE
)
_FOOTER_LINES: Final = 20
_ESCAPED: Final = re.compile("[\ud800-\udfff]")


class TextTable:
    """A delimited text file whose structure was read once, from end to end, before anything is sent.

    Args:
        path: the file. In a `.tsv` only the tab separates.
        encoding: a name that Python knows. Found out if not given: by the mark at its start, else
            UTF-8, else Windows-1252, which is noted.
        separator: one character. Found out if not given, by the first 200 records.

    Raises:
        InputError: it cannot be read, or not in one way only.

    """

    def __init__(self, path: Path, *, encoding: str | None = None, separator: str | None = None) -> None:
        self._path = path
        self.has_mark = _mark(path) is not None
        self.encoding = _known_encoding(encoding) if encoding else _find_encoding(path)
        self._hint = self._read_hint()
        self.separator = separator or self._hint or self._find_separator()
        self.footer_lines = 0
        records = self._records()
        self.columns = tuple(next((record for _, record in records), ()))
        if not self.columns:
            raise InputError(f"{path.name} is empty: there is no header; give it one line of column names")
        self.rows = sum(1 for _ in self._rows())

    @property
    def is_from_spreadsheet(self) -> bool:
        """Whether a spreadsheet would show a copy in plain UTF-8 with the wrong letters."""
        return self.has_mark or self.encoding not in ("utf-8", "utf-8-sig")

    @property
    def notes(self) -> list[str]:
        """What was found out, and may be otherwise."""
        notes: list[str] = []
        if self.encoding == "cp1252" and not self.has_mark:
            notes.append("it is not UTF-8 and was read as Windows-1252; --encoding says otherwise")
        if self.separator not in (",", "\t"):
            notes.append(f"its cells are separated by {_named(self.separator)}")
        if self.footer_lines:
            notes.append(f"the report's footer ({self.footer_lines} lines) is left out")
        return notes

    def reader(self) -> Source:
        """The rows, all columns as text; a blank cell is null."""
        schema = pa.schema([(name, pa.string()) for name in self.columns])
        return Source(schema, self.rows, lambda: self._batches(schema))

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
                    f"put a cell that holds a {_named(self.separator)} in quotes, or name another --separator"
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
        """Every record with the number of its last line. A blank line is one without cells."""
        line = 0
        try:
            with self._open() as file:
                reader = csv.reader(file, delimiter=self.separator, strict=True)
                for record in reader:
                    line = reader.line_num
                    yield line + bool(self._hint), record
        except csv.Error as error:
            raise InputError(_describe(self._path, line + 1 + bool(self._hint), error)) from None
        except UnicodeError:
            raise InputError(f"{self._path.name} is not {self.encoding}; name it with --encoding") from None
        except OSError as error:
            raise InputError(
                f"{self._path.name} cannot be read ({type(error).__name__}); check that it is there, and its permissions"
            ) from None

    @contextlib.contextmanager
    def _open(self) -> Generator[TextIO]:
        with self._path.open(encoding=self.encoding, newline="") as file:
            if self._hint:
                file.readline()
            yield file

    def _read_hint(self) -> str | None:
        with contextlib.suppress(UnicodeError), self._path.open(encoding=self.encoding, newline="") as file:
            found = _HINT.fullmatch(file.readline(20))
            return found[1] if found else None
        return None

    def _find_separator(self) -> str:
        candidates = ("\t",) if self._path.suffix.lower() == ".tsv" else _SEPARATORS
        fits: dict[str, tuple[int, int]] = {}
        for one in candidates:
            header, records = self._sample(one)
            if len(header) < 2:
                continue
            exact = sum(len(record) == len(header) for record in records)
            near = sum(1 < len(record) <= len(header) for record in records)
            fits[one] = (exact, near or not records)
        if not fits:
            # One column: nothing separates.
            return candidates[0]
        best = max(fits.values())
        found = [one for one, fit in fits.items() if fit == best]
        if len(found) > 1 or not best[1]:
            raise InputError(
                f"{self._path.name}: its cells may be separated by {' or '.join(map(_named, fits))}, or its "
                "header needs quotes; say which with --separator"
            )
        return found[0]

    def _sample(self, separator: str) -> tuple[list[str], list[list[str]]]:
        records: list[list[str]] = []
        # What is wrong with it is told later, with the line.
        with contextlib.suppress(csv.Error, UnicodeError), self._open() as file:
            for record in csv.reader(file, delimiter=separator):
                if record:
                    records.append(record)
                if len(records) > _SAMPLE_RECORDS:
                    break
        return (records[0], records[1:]) if records else ([], [])


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


def _named(separator: str) -> str:
    return _NAMES.get(separator, repr(separator))


def _batch(rows: Sequence[Sequence[str]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array([cell or None for cell in column], pa.string()) for column in zip(*rows, strict=True)]
    # pyarrow-stubs leaves the type parameters of arrays unknown here.
    return cast(Any, pa.RecordBatch).from_arrays(columns, schema=schema)


def _describe(path: Path, line: int, error: csv.Error) -> str:
    # The words of the csv module; none of them quotes a cell.
    if "unexpected end of data" in str(error):
        return f"{path.name}: a quote that opens at line {line} or later is never closed; close it"
    if "field larger than" in str(error):
        return f"{path.name}: a cell at line {line} is too long; is a quote not closed? Mend it there"
    return f"{path.name}, line {line}: a quote stands inside a cell; double it"


# Which encoding


def _mark(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read ({type(error).__name__}); check that it is there, and its permissions"
        ) from None
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)


def _known_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
        # Some codecs turn bytes into bytes.
        found.decode(b"")[0].encode("utf-8")
    except (LookupError, AttributeError, ValueError):
        raise InputError(
            f"encoding: {shown(name)} is none that Python knows; name another, such as utf-8 or cp1252"
        ) from None
    # A mark at the start is no part of the first column's name.
    return "utf-8-sig" if found.name == "utf-8" else found.name


def _find_encoding(path: Path) -> str:
    if (encoding := _mark(path)) is not None:
        return encoding
    with path.open("rb") as file:
        start = file.read(4096)
    if b"\0" in start:
        # UTF-16 without a mark: every second byte of English is zero.
        zeros = [start[at::2].count(0) for at in (0, 1)]
        if zeros[0] == 0 or zeros[1] == 0:
            return "utf-16-le" if zeros[0] == 0 else "utf-16-be"
        raise InputError(f"{path.name} is not a text file; save it as CSV UTF-8")
    whole, odd, undefined = _count_bytes(path)
    if not odd:
        return "utf-8"
    if whole:
        raise InputError(
            f"{path.name} is UTF-8 in {whole:,} places and not in {odd:,}: it is damaged, or joined from "
            "two files. Mend it, or say with --encoding how to read it"
        )
    if undefined:
        raise InputError(f"{path.name} is neither UTF-8 nor Windows-1252; name its encoding with --encoding")
    return "cp1252"


def _count_bytes(path: Path) -> tuple[int, int, int]:
    """Count letters beyond ASCII that are UTF-8, bytes that are not, and bytes that Windows-1252 lacks."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    whole = odd = undefined = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            undefined += sum(map(chunk.count, (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")))
            text = decoder.decode(chunk)
            if not text.isascii():
                escaped = len(_ESCAPED.findall(text))
                odd += escaped
                whole += len(text) - len(text.encode("ascii", "ignore")) - escaped
        odd += len(decoder.decode(b"", final=True))
    return whole, odd, undefined


# Writing


def write_text(
    reader: Iterable[pa.RecordBatch],
    target: Place,
    *,
    columns: Sequence[str],
    ours: Collection[str],
    separator: str,
    has_mark: bool,
) -> int:
    """Write batches as text that a spreadsheet opens without running it. Returns the rows.

    The cells of our columns that look like formulas get an apostrophe; the user's stay as they
    are. The file takes its place when it is whole, and only its owner can read it.
    """
    ways: list[Callable[[object], str]] = [_safe_text if name in ours else _text for name in columns]
    rows = 0
    with _published_text(target, encoding="utf-8-sig" if has_mark else "utf-8") as sink:
        plain = csv.writer(sink, delimiter=separator, lineterminator="\n")
        quoted = csv.writer(sink, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        (quoted if "\r" in "".join(columns) else plain).writerow(columns)
        for batch in reader:
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
    with published(target) as raw:
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
    if isinstance(cell, list | Mapping):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _safe_text(cell: object) -> str:
    text = _text(cell)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
