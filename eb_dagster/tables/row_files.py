"""Files that are written row by row, whole or not at all: text, JSON and spreadsheets, compressed or not."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import IO, Final, Protocol, cast

import pyarrow as pa

from eb_dagster.errors import ConfigError
from eb_dagster.tables.atomic_file import published, telling_of
from eb_dagster.tables.object_store import ObjectPath, Place
from eb_dagster.tables.parquet import Revision

GZIP: Final = ".gz"
"""How the name of a compressed file ends."""


class RowWriter(Protocol):
    """Writes one file from its start."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch."""
        ...

    def end(self) -> None:
        """Write what stands at the end. The file stays open."""
        ...

    def close(self) -> None:
        """Let go of whatever is held beside the file, also if the end was not reached."""
        ...


def write_rows(
    batches: Iterable[pa.RecordBatch],
    target: Place | None,
    start: Callable[[IO[bytes]], RowWriter],
    *,
    revise: Callable[[], Revision | None] | None = None,
) -> int:
    """Write batches with the writer that `start` gives for a file. Returns the rows.

    The file takes its place when it is whole, and only its owner can read it; without a target, it goes to stdout
    then. Before that, `revise` is asked: if it gives a revision, the file is written once more through it.
    """
    if target is None or isinstance(target, ObjectPath):
        folder = tempfile.gettempdir()
    else:
        folder = str(target.resolve().parent)
    with _published(target) as sink, contextlib.ExitStack() as stack:
        if revise is None:
            return _write(batches, sink, start, target)
        # A file without a name is gone with the process, whatever becomes of it.
        kept = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        rows = _write(_keeping(batches, kept), sink, start, target)
        while (revision := revise()) is not None:
            before, kept = kept, stack.enter_context(tempfile.TemporaryFile(dir=folder))
            before.seek(0)
            revised = revision(pa.ipc.open_stream(before) if rows else ())
            sink.seek(0)
            sink.truncate()
            rows = _write(_keeping(revised, kept), sink, start, target)
    return rows


def _write(
    batches: Iterable[pa.RecordBatch],
    sink: IO[bytes],
    start: Callable[[IO[bytes]], RowWriter],
    target: Place | None,
) -> int:
    rows = 0
    with contextlib.ExitStack() as stack:
        if target is not None:
            sink = stack.enter_context(compressed(sink, target))
        writer = start(sink)
        stack.callback(writer.close)
        for batch in batches:
            writer.add(batch)
            rows += batch.num_rows
        writer.end()
    return rows


@contextlib.contextmanager
def compressed(sink: IO[bytes], target: Place) -> Generator[IO[bytes]]:
    """What is written into a file, compressed if the name of the target says so."""
    if not target.name.lower().endswith(GZIP):
        yield sink
        return
    # Without a time and a name, so that the same table gives the same bytes.
    with gzip.GzipFile("", "wb", 6, sink, mtime=0) as gzipped:
        yield cast("IO[bytes]", gzipped)


@contextlib.contextmanager
def _published(target: Place | None) -> Generator[IO[bytes]]:
    if target is None:
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            try:
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                raise ConfigError("what read stdout went away before the end; run it again") from None
        return
    telling = contextlib.nullcontext() if isinstance(target, ObjectPath) else telling_of(target)
    with telling, published(target) as sink:
        yield sink


def _keeping(batches: Iterable[pa.RecordBatch], kept: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """The batches, each of which is kept in a file too, compressed."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    writer: pa.ipc.RecordBatchStreamWriter | None = None
    for batch in batches:
        writer = writer or pa.ipc.new_stream(kept, batch.schema, options=options)
        writer.write_batch(batch)
        yield batch
    if writer is not None:
        writer.close()
