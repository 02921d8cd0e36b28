"""Take the rows of some people out of tables that were published."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.ledger.traces import Mask, Traces
from eb_dagster.tables import csv, json_lines
from eb_dagster.tables.atomic_file import published
from eb_dagster.tables.excel import SUFFIX, ExcelWriter, own_rows
from eb_dagster.tables.files import PARQUET, local_file, suffix_of
from eb_dagster.tables.object_store import ObjectPath, Place
from eb_dagster.tables.parquet import open_parquet, read_batches, read_metadata, write_parquet
from eb_dagster.tables.row_files import compressed

_BATCH_ROWS: Final = 8_192
_Records: TypeAlias = Callable[[Iterable[bytes]], Iterator[str]]
"""Takes a text apart into its rows."""


def _kept_rows(opened: ParquetFile, traces: Traces) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(opened, _BATCH_ROWS):
        yield from _slices(batch, ~traces.rows(batch))


def remove_rows(path: Place, traces: Traces) -> int | None:
    """Write the table anew without the rows that name somebody. Returns how many those were.

    None if the table is there and cannot be read: then the user has replaced it with something else.
    """
    suffix = suffix_of(path)
    try:
        if suffix in csv.SUFFIXES:
            return _remove_records(path, traces, _text_records)
        if suffix in json_lines.SUFFIXES:
            return _remove_records(path, traces, _json_records)
        return _remove_cells(path, traces) if suffix == SUFFIX else _remove_from_parquet(path, traces)
    except (InputError, UnicodeDecodeError):
        return None
    except (ConfigError, OSError):
        # What a store or a disk refuses, it may allow later: then this is done again.
        if isinstance(path, ObjectPath) or suffix == PARQUET:
            raise
        return None


def _remove_from_parquet(path: Place, traces: Traces) -> int:
    metadata = read_metadata(path)
    with open_parquet(path) as opened:
        rows = sum(int(traces.rows(batch).sum()) for batch in read_batches(opened, _BATCH_ROWS))
        if rows:
            write_parquet(
                _kept_rows(opened, traces), path, schema=opened.schema_arrow, metadata=metadata or {}
            )
    return rows


def _slices(batch: pa.RecordBatch, is_kept: Mask) -> Iterator[pa.RecordBatch]:
    """The rows to keep, as parts of the batch, because Arrow can filter columns of some types only."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_kept, [False])).astype(np.int8)))
    for start, end in edges.reshape(-1, 2).tolist():
        yield batch.slice(start, end - start)


def _remove_records(path: Place, traces: Traces, records_of: _Records) -> int:
    """The same for a text, compressed or not: its other rows stay as they are, to the byte."""
    local = local_file(path)
    with local.open("rb") as file:
        rows = sum(int(_named(texts, traces).sum()) for texts in _blocks(records_of(file)))
        if rows:
            file.seek(0)
            with published(path) as target, compressed(target, path) as sink:
                for texts in _blocks(records_of(file)):
                    is_kept = ~_named(texts, traces)
                    sink.writelines(texts[index].encode() for index in np.flatnonzero(is_kept))
    return rows


def _remove_cells(path: Place, traces: Traces) -> int:
    """The same for a spreadsheet: its other cells keep their values."""
    header, rows = own_rows(local_file(path))
    is_kept = ~_named(["\t".join(map(_text, row)) for row in rows], traces)
    kept = [rows[index] for index in np.flatnonzero(is_kept)]
    if len(kept) < len(rows):
        with published(path) as sink, contextlib.closing(ExcelWriter(sink, header)) as writer:
            writer.add_rows(kept)
            writer.end()
    return len(rows) - len(kept)


def _text(cell: object) -> str:
    # A spreadsheet keeps every number with a fraction.
    return "" if cell is None else str(cell).removesuffix(".0")


def _named(texts: Sequence[str], traces: Traces) -> Mask:
    # A number would go on beyond a tab, as it does beyond a space.
    return traces.texts([text.replace("\t", "|") for text in texts])


def _text_records(file: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8, together if a quote that opens in one of them closes in another."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record.decode()
            record = b""
    if record:
        yield record.decode()


def _json_records(file: Iterable[bytes]) -> Iterator[str]:
    return (line.decode() for line in file)


def _blocks(records: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(records, _BATCH_ROWS)):
        yield block
