"""A stream that is kept on disk, so that it can be read again, and so that what fails in it fails before anything is bought."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from eb_dagster.errors import ConfigError
from eb_dagster.tables.source import Source
from eb_dagster.tables.unnamed_file import UnnamedFile

_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="zstd")


class _Spool:
    """Batches in a file without a name, which only this process can read, and which is gone with it."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._places: list[tuple[int, int]] = []
        self._file = UnnamedFile("rows")
        self.close = self._file.close

    def add(self, batch: pa.RecordBatch) -> None:
        sink = pa.BufferOutputStream()
        # A small stream each: so any batch can be read alone, and dictionaries come along.
        writer = pa.ipc.new_stream(sink, self._schema, options=_OPTIONS)
        writer.write_batch(batch)
        writer.close()
        content = sink.getvalue()
        start = self._file.size
        try:
            self._file.write(memoryview(content))
        except OSError as error:
            raise ConfigError(
                f"the rows cannot be kept on disk while they are enriched ({type(error).__name__}); make room in the "
                "folder for temporary files, or set TMPDIR to another"
            ) from None
        self._places.append((start, self._file.size))

    def read(self) -> Iterator[pa.RecordBatch]:
        """The batches. Several may read at once, each at its own place."""
        for start, end in self._places:
            yield from pa.ipc.open_stream(self._file.read_range(start, end))


def spooled(source: Source) -> Source:
    """The same table, read to its end into a file without a name, so that it can be read again.

    Memory holds one batch. The file is in the folder for temporary files, compressed, and is gone when the
    source is.
    """
    if source.is_rereadable:
        return source
    spool = _Spool(source.schema)
    rows = 0
    try:
        for batch in source.batches():
            spool.add(batch)
            rows += batch.num_rows
    except BaseException:
        spool.close()
        raise
    return Source(source.schema, rows, spool.read)
