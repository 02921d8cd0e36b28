"""Take the rows of some people out of tables that were published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from eb_dagster.errors import InputError
from eb_dagster.ledger.traces import Mask, Traces
from eb_dagster.tables.atomic_file import published
from eb_dagster.tables.object_store import Place
from eb_dagster.tables.parquet import open_parquet, read_batches, read_metadata, write_parquet

_BATCH_ROWS: Final = 8_192
_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt")


def _kept_rows(opened: ParquetFile, traces: Traces) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(opened, _BATCH_ROWS):
        yield from _slices(batch, ~traces.rows(batch))


def remove_rows(path: Place, traces: Traces) -> int | None:
    """Write the table anew without the rows that name somebody. Returns how many those were.

    None if the table is there and cannot be read: then the user has replaced it with something else.
    """
    if isinstance(path, Path) and path.suffix.lower() in _TEXT_SUFFIXES:
        return _remove_lines(path, traces)
    try:
        metadata = read_metadata(path)
        opened = open_parquet(path)
    except InputError:
        return None
    with opened:
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


def _remove_lines(path: Path, traces: Traces) -> int | None:
    """The same for a text table: its other rows stay as they are, to the byte."""
    try:
        with path.open("rb") as file:
            rows = sum(int(traces.texts(texts).sum()) for texts in _blocks(_records(file)))
            if rows:
                file.seek(0)
                with published(path) as sink:
                    for texts in _blocks(_records(file)):
                        is_removed = traces.texts(texts)
                        sink.writelines(texts[index].encode() for index in np.flatnonzero(~is_removed))
    except (OSError, UnicodeDecodeError):
        return None
    return rows


def _records(file: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8, together if a quote that opens in one of them closes in another."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record.decode()
            record = b""
    if record:
        yield record.decode()


def _blocks(records: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(records, _BATCH_ROWS)):
        yield block
