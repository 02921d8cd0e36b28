"""Record batches as the rows of a CSV, in arrays: no cell becomes an object of Python's if Arrow can write it."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.identifiers.arrays import lists_of, numbers_in, text_array, text_scalar

_Texts: TypeAlias = pa.Array
"""An array of texts."""

# What a spreadsheet may take for a formula at the start of a cell.
_FORMULA: Final = "^[=+@\t\r\n＝＋－＠-]"
_FIRST_PRINTABLE: Final = 0x20
# Arrow's texts of one array have at most 2 GiB, and quoting and JSON make them longer.
_MOST_BYTES: Final = 2**27


@dataclass(frozen=True, slots=True)
class CsvRows:
    """Writes batches of some columns as text."""

    columns: Sequence[str]
    ours: Collection[str]
    """The columns whose cells get an apostrophe if they look like formulas."""
    separator: str

    def header(self) -> bytes:
        """The names of the columns."""
        text = io.StringIO()
        # The csv module does not quote a lone carriage return, which would end the row.
        quoting = csv.QUOTE_ALL if "\r" in "".join(self.columns) else csv.QUOTE_MINIMAL
        csv.writer(text, delimiter=self.separator, lineterminator="\n", quoting=quoting).writerow(
            self.columns
        )
        return text.getvalue().encode()

    def rows(self, batch: pa.RecordBatch) -> memoryview:
        """The rows of a batch, each with its end of line."""
        if not batch.num_rows:
            return memoryview(b"")
        if batch.nbytes > _MOST_BYTES and batch.num_rows > 1:
            middle = batch.num_rows // 2
            return memoryview(b"".join([self.rows(batch.slice(0, middle)), self.rows(batch.slice(middle))]))
        cells = [
            self._cells(name in self.ours, column)
            for name, column in zip(self.columns, batch.columns, strict=True)
        ]
        if len(cells) == 1:
            # A row without a character is no row for those who read it.
            is_blank = pc.equal(cells[0], text_scalar(""))
            cells = [pc.if_else(is_blank, text_scalar('""'), cells[0])]
        lines = _joined(*cells, between=self.separator)
        return _content(_joined(lines, "\n")).data

    def _cells(self, is_ours: bool, column: pa.Array) -> _Texts:
        texts = _filled(texts_of_cells(column), "")
        if is_ours:
            texts = _replaced_where(pc.match_substring_regex(texts, _FORMULA), ("'", texts), texts)
        if not _may_hold(texts, f'"\n\r{self.separator}'):
            return texts
        needs_quotes = pc.match_substring_regex(texts, f'["\n\r{re.escape(self.separator)}]')
        return _replaced_where(needs_quotes, ('"', pc.replace_substring(texts, '"', '""'), '"'), texts)


def _replaced_where(mask: pa.Array, parts: Sequence[_Texts | str], texts: _Texts) -> _Texts:
    if not pc.any(mask).as_py():
        return texts
    return pc.if_else(mask, _joined(*parts), texts)


def _joined(*parts: _Texts | str, between: str = "") -> _Texts:
    """Texts and arrays of them, side by side."""
    type_ = next(part.type for part in parts if not isinstance(part, str))
    texts = [text_scalar(part, type_) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*texts, text_scalar(between, type_))


def _filled(texts: _Texts, text: str) -> _Texts:
    return texts.fill_null(text_scalar(text, texts.type)) if texts.null_count else texts


def _content(texts: _Texts) -> npt.NDArray[np.uint8]:
    """The bytes of all texts, one after the other: one look at them is quicker than one at each text."""
    _, offsets, content = texts.buffers()
    if offsets is None or content is None:
        return np.empty(0, np.uint8)
    places = np.frombuffer(memoryview(offsets), np.int32)
    start, end = places[texts.offset], places[texts.offset + len(texts)]
    return np.frombuffer(memoryview(content), np.uint8, count=end - start, offset=start)


def _may_hold(texts: _Texts, characters: str) -> bool:
    """Whether one of the characters stands in a text."""
    held = _content(texts).tobytes()
    return any(character.encode() in held for character in characters)


# One cell as text


def texts_of_cells(column: pa.Array) -> _Texts:
    """Each cell as the text that stands for it in a CSV: lists and structs as JSON, days as ISO writes them."""
    type_ = column.type
    if _is_plain(type_):
        return column.cast(pa.string())
    if isinstance(column, pa.DictionaryArray):
        return texts_of_cells(column.dictionary).take(column.indices)
    if pa.types.is_nested(type_):
        return _json_texts(column)
    return _each_once(column)


def _is_plain(type_: pa.DataType) -> bool:
    """Whether Arrow writes the type as the csv module would."""
    is_text = pa.types.is_string(type_) or pa.types.is_large_string(type_)
    return is_text or pa.types.is_integer(type_) or pa.types.is_boolean(type_) or pa.types.is_null(type_)


def _each_once(column: pa.Array) -> _Texts:
    """Through Python's own objects, each that occurs only once."""
    try:
        coded = column.dictionary_encode()
    except (pa.ArrowException, TypeError):
        return _through_python(column)
    return _through_python(coded.dictionary).take(coded.indices)


def _through_python(column: pa.Array) -> _Texts:
    return text_array([_text(cell) for cell in _values(column)])


def _values(column: pa.Array) -> list[object]:
    try:
        if pa.types.is_timestamp(column.type) and column.type.tz == "UTC":
            # To make times with a zone, Arrow would import pandas.
            times = column.cast(pa.timestamp(column.type.unit)).to_pylist()
            return [None if time is None else time.replace(tzinfo=UTC) for time in times]
        return column.to_pylist()
    except OverflowError:
        # Python's own types have no room for some years and durations.
        return column.cast(pa.string()).to_pylist()


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if hasattr(cell, "isoformat"):
        return cell.isoformat()
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    if isinstance(cell, list | Mapping):
        return json.dumps(cell, ensure_ascii=False, default=_text)
    return str(cell)


# JSON


def json_lines(batch: pa.RecordBatch) -> memoryview:
    """The rows of a batch as JSON objects, one a line."""
    if not batch.num_rows:
        return memoryview(b"")
    parts: list[_Texts | str] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        parts += [
            f"{', ' if parts else '{'}{json.dumps(name, ensure_ascii=False)}: ",
            _json_of_column(column),
        ]
    lines = _joined(*parts, "}\n")
    return _content(lines).data


def _json_of_column(column: pa.Array) -> _Texts:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    written = _json(column)
    if written is not None:
        return written
    return text_array([_json_of_value(cell) for cell in _values(column)])


def _json_of_value(cell: object) -> str:
    if isinstance(cell, float) and not math.isfinite(cell):
        # JSON has no number for these.
        return "null"
    return json.dumps(cell, ensure_ascii=False, default=_text)


def _json_texts(column: pa.Array) -> _Texts:
    written = _json(column)
    if written is None:
        return _through_python(column)
    return pc.if_else(column.is_valid(), written, text_scalar(None))


def _json(column: pa.Array) -> _Texts | None:
    """Each value as JSON, null as `null`; None if a type or a character in it is left to Python."""
    type_ = column.type
    if pa.types.is_string(type_):
        return _json_strings(column)
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_) or pa.types.is_null(type_):
        return column.cast(pa.string()).fill_null(text_scalar("null"))
    # A map is an array of lists too.
    if isinstance(column, pa.ListArray) and pa.types.is_list(type_):
        return _json_lists(column)
    if isinstance(column, pa.StructArray):
        return _json_structs(column)
    return None


def _json_strings(column: pa.Array) -> _Texts | None:
    texts = _filled(column, "")
    if _may_hold(texts, '\\"'):
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    if (_content(texts) < _FIRST_PRINTABLE).any():
        return None
    quoted = _joined('"', texts, '"')
    return pc.if_else(column.is_valid(), quoted, text_scalar("null")) if column.null_count else quoted


def _json_lists(column: pa.ListArray) -> _Texts | None:
    if column.null_count or column.offset:
        # Entries below a null, or outside a slice, would be counted by the offsets.
        lengths = np.maximum(numbers_in(pc.list_value_length(column)), 0)
        entries = _json(column.flatten())
    else:
        lengths, entries = np.diff(numbers_in(column.offsets)), _json(column.values)
    if entries is None:
        return None
    lists = lists_of(entries, lengths.astype(np.int32))
    joined = pc.binary_join(lists, text_scalar(", "))
    written = _joined("[", joined, "]")
    return pc.if_else(column.is_valid(), written, text_scalar("null")) if column.null_count else written


def _json_structs(column: pa.StructArray) -> _Texts | None:
    parts: list[_Texts | str] = []
    for field, values in zip(column.type, column.flatten(), strict=True):
        written = _json(values)
        if written is None:
            return None
        name = json.dumps(field.name, ensure_ascii=False)
        parts += [f"{', ' if parts else '{'}{name}: ", written]
    if not parts:
        return None
    joined = _joined(*parts, "}")
    return pc.if_else(column.is_valid(), joined, "null") if column.null_count else joined
