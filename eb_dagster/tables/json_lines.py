"""NDJSON: one JSON object a line, as APIs and log pipelines hand over tables."""

from __future__ import annotations

import codecs
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import IO, Final, cast

import msgspec
import pyarrow as pa

from eb_dagster.errors import InputError
from eb_dagster.tables.csv_rows import json_lines
from eb_dagster.tables.encodings import declared_encoding
from eb_dagster.tables.query_types import FoundTypes, column_of
from eb_dagster.tables.source import BATCH_ROWS, Source
from eb_dagster.tables.unnamed_file import LocalFile

SUFFIXES: Final = (".ndjson", ".jsonl")


def json_source(path: LocalFile) -> Source:
    """The objects of a file as rows: a column for each key, in the order in which the keys come.

    It is read once for the types: what holds values of several is text, and so are lists and objects, as JSON.

    Raises:
        InputError: a line is no JSON object, or not in UTF-8; UTF-16 and UTF-32 are read too.

    """
    names: dict[str, None] = {}
    rows = 0
    for records in _records(path):
        for record in records:
            names.update(dict.fromkeys(record))
        rows += len(records)
    if not names:
        raise InputError(f"{path.name} has no columns: no line in it is an object with keys; check the file")
    found = FoundTypes([(name, *[None] * 6) for name in names])
    for records in _records(path):
        found.add(_columns(records, list(names)))
    schema = pa.schema([*zip(names, found.types({}), strict=True)])
    return Source(schema, rows, lambda: _batches(path, schema))


def _batches(path: LocalFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for records in _records(path):
        columns = _columns(records, schema.names)
        arrays = [
            column_of(field.name, values, field.type) for field, values in zip(schema, columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _columns(records: Sequence[dict[str, object]], names: Sequence[str]) -> Iterator[list[object]]:
    return ([record.get(name) for record in records] for name in names)


def _records(path: LocalFile) -> Generator[list[dict[str, object]]]:
    decode = msgspec.json.Decoder().decode
    with _opened(path) as opened:
        lines = enumerate(opened, start=1)
        while block := list(itertools.islice(lines, BATCH_ROWS)):
            yield [_object(decode, text, path, number) for number, text in block if text.strip()]


@contextlib.contextmanager
def _opened(path: LocalFile) -> Generator[Iterable[bytes]]:
    """The lines of a file as UTF-8. Windows begins it with a mark, or writes UTF-16."""
    encoding = declared_encoding(path, save_as="UTF-8, one JSON object a line")
    if encoding in (None, "utf-8-sig"):
        with path.open("rb") as file:
            file.seek(len(codecs.BOM_UTF8) if encoding else 0)
            yield file
        return
    try:
        # Only a line feed ends a line, as of bytes.
        with path.open(encoding=encoding, newline="\n") as file:
            yield (line.encode() for line in file)
    except UnicodeError:
        raise InputError(
            f"{path.name} begins as {encoding} and does not go on so; save it as UTF-8"
        ) from None


def _object(
    decode: Callable[[bytes], object], text: bytes, path: LocalFile, number: int
) -> dict[str, object]:
    try:
        record = decode(text)
    except UnicodeDecodeError:
        raise InputError(f"{path.name}, line {number:,}: it is not UTF-8; save the file as UTF-8") from None
    except (msgspec.DecodeError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{path.name}, line {number:,}: it is not a JSON object; write one per line")
    return cast("dict[str, object]", record)


class JsonLinesWriter:
    """Writes each row as an object with all of its columns."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch."""
        self._sink.write(json_lines(batch))

    def end(self) -> None:
        """Nothing stands at the end."""

    def close(self) -> None:
        """Nothing is held."""
