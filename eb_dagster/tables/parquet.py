"""Parquet files: read a batch at a time, and written whole or not at all."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, Self, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.identifiers.columns import listed
from eb_dagster.tables.atomic_file import moved_aside, published
from eb_dagster.tables.dictionaries import without_null_entries
from eb_dagster.tables.object_store import ObjectPath, Place
from eb_dagster.tables.source import BATCH_ROWS, Source
from eb_dagster.tables.unnamed_file import UnnamedFile

ROW_GROUP_ROWS: Final = 16_384
_BUFFER_BYTES: Final = 2**16
# Of the texts of one column in a row group. Four times what Arrow takes by default: then the long texts of people who
# are in several rows are written once, and where all texts are different it costs next to nothing.
_DICTIONARY_BYTES: Final = 2**22

SCHEMA_VERSION: Final = 1
"""Of the tables that this release writes."""

_PREFIX: Final = "eb_dagster."
_NO_FACTS: Final[Mapping[str, str]] = MappingProxyType({})


Revision: TypeAlias = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]
"""Makes the batches of a table anew."""


def write_parquet(
    batches: Iterable[pa.RecordBatch],
    path: Place,
    *,
    schema: pa.Schema,
    metadata: Mapping[str, str] | Callable[[], Mapping[str, str]] = _NO_FACTS,
    row_group_rows: int = ROW_GROUP_ROWS,
    revise: Callable[[], Revision | None] = lambda: None,
) -> int:
    """Write the batches as they come and publish them at once. Returns the rows.

    The file is there whole or not at all; a crash leaves the old one, and the next write of the
    same path clears what the crash left. Only its owner may read it. A link keeps pointing where
    it does; its target is replaced. Memory holds one row group, and the one before it while that is
    written. `metadata` may be a function, which is asked when all batches have passed. So is `revise`,
    before the file takes its place: if it gives a revision, the file is made once more through that.
    """
    target = path.resolve()
    with published(target) as sink:
        rows = _write_into(sink, batches, schema, metadata, row_group_rows)
        while (revision := revise()) is not None:
            with moved_aside(sink, target) as before, _opened_file(before) as opened:
                again = revision(read_batches(opened, BATCH_ROWS))
                rows = _write_into(sink, again, schema, metadata, row_group_rows)
    return rows


def _write_into(
    sink: BinaryIO,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    metadata: Mapping[str, str] | Callable[[], Mapping[str, str]],
    row_group_rows: int,
) -> int:
    rows = 0
    with _Writer(sink, _without_facts(schema)) as writer:
        for group in _row_groups(batches, schema, row_group_rows):
            rows += group.num_rows
            writer.write(group)
            # Else it would be held until the next one is whole.
            del group
        facts = metadata() if callable(metadata) else metadata
        noted = {**facts, "schema_version": str(SCHEMA_VERSION)}
        writer.end({_PREFIX + name: fact for name, fact in noted.items()})
    return rows


def check_types(schema: pa.Schema) -> None:
    """Refuse columns that a Parquet table cannot have, before anything is bought for it."""
    names = schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"more than one column is called [{listed(twice)}], which a Parquet table cannot have; rename one, or write CSV"
        )
    if not _can_write(schema):
        raise _unwritable(schema)


def _unwritable(schema: pa.Schema) -> InputError:
    fields = [field for field in schema if not _can_write(pa.schema([field]))]
    kinds = ", ".join(sorted({str(field.type).partition("<")[0] for field in fields}))
    return InputError(
        f"Parquet has no type for columns {listed([field.name for field in fields])} ({kinds}); leave them out, or cast them to text"
    )


def _can_write(schema: pa.Schema) -> bool:
    # A row too: of some types, only that is refused.
    bare = pa.schema([pa.field(str(index), kind) for index, kind in enumerate(schema.types)])
    try:
        nothing = pa.Table.from_arrays([pa.nulls(1, kind) for kind in schema.types], schema=bare)
        pq.write_table(nothing, io.BytesIO())
    except (pa.ArrowException, OSError):
        return False
    return True


class _Writer:
    """Compresses and writes row groups in a thread, each while the next one is made.

    Only that thread touches the file: a signal may end any wait for it, and nothing that it is
    writing is closed under it.
    """

    def __init__(self, sink: BinaryIO, schema: pa.Schema) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="eb_dagster_writer")
        self._open = contextlib.ExitStack()
        self._written: Future[None] = self._thread.submit(self._start, sink, schema)

    def _start(self, sink: BinaryIO, schema: pa.Schema) -> None:
        # Through Arrow: for a file of Python's, the thread would wait for the interpreter at each page.
        same_file = f"/dev/fd/{sink.fileno()}"
        file = self._open.enter_context(pa.OSFile(same_file, "wb")) if Path(same_file).exists() else sink
        self._parquet = self._open.enter_context(
            pq.ParquetWriter(
                file,
                schema,
                compression="zstd",
                compression_level=1,
                dictionary_pagesize_limit=_DICTIONARY_BYTES,
                write_statistics=_with_statistics(schema) or False,
            )
        )

    def write(self, group: pa.Table) -> None:
        """Write a row group, once the one before is written."""
        self._written.result()
        self._written = self._thread.submit(
            lambda: self._parquet.write_table(group, row_group_size=group.num_rows)
        )

    def end(self, facts: Mapping[str, str]) -> None:
        """Write the facts, and close the file."""
        self._written.result()
        self._thread.submit(self._parquet.add_key_value_metadata, dict(facts)).result()
        self._thread.submit(self._open.close).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing is left to close, unless an error came before the end.
        self._thread.submit(self._open.close)
        self._thread.shutdown()


def _with_statistics(schema: pa.Schema) -> list[str]:
    """The columns whose least and greatest value is noted in each row group.

    Texts and lists that were added to the user's columns are in no order, so nobody could skip a row group by them.
    Of long texts, it would take memory for as long as the file is written.
    """
    return [field.name for field in schema if not (_is_added(field) and _is_text_or_list(field.type))]


def _is_added(field: pa.Field) -> bool:
    return b"description" in (field.metadata or {})


def _is_text_or_list(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_list(kind)


def open_parquet(path: Place | UnnamedFile) -> pq.ParquetFile:
    """Open a Parquet file of the user's. Raises `InputError` that says why it cannot be read."""
    try:
        return _opened(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path.name}; check the path") from None
    except (OSError, pa.ArrowException):
        raise InputError(f"{path.name} is not a Parquet file; check the path, or write it again") from None


def parquet_source(path: Place | UnnamedFile) -> Source:
    """A Parquet file, which is opened each time that it is read. Raises `InputError` if it cannot be."""
    with open_parquet(path) as file:
        schema, rows = file.schema_arrow.remove_metadata(), file.metadata.num_rows

    def read() -> Iterator[pa.RecordBatch]:
        with open_parquet(path) as file:
            yield from read_batches(file, BATCH_ROWS)

    return Source(schema, rows, read)


def read_batches(file: pq.ParquetFile, rows: int) -> Iterator[pa.RecordBatch]:
    """All of the file, so many rows at a time or, where a row group ends, fewer.

    It reads one row group after the other: pyarrow would hold more, the more of them it reads as one.
    """
    for number in range(file.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[number], use_threads=False)


def read_metadata(path: Place) -> dict[str, str] | None:
    """What `write_parquet` noted in the file, without our prefix; None when there is no file.

    Raises `InputError` if the file is there and is not Parquet.
    """
    try:
        with _opened(path) as file:
            noted = file.metadata.metadata or {}
    except FileNotFoundError:
        return None
    except PermissionError:
        raise InputError(
            f"{path.name} is there and cannot be read: no permission; grant it, or name another path"
        ) from None
    except OSError:
        raise ConfigError(f"{path.name} is there and cannot be read: check the disk") from None
    except pa.ArrowException:
        raise InputError(f"{path.name} is there and is not a Parquet file; move it away") from None
    return _own_notes(noted)


def _own_notes(noted: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        name.decode().removeprefix(_PREFIX): fact.decode("utf-8", "replace")
        for name, fact in noted.items()
        if name.startswith(_PREFIX.encode())
    }


def _opened(path: Place | UnnamedFile) -> pq.ParquetFile:
    if not isinstance(path, ObjectPath):
        return _opened_file(path if isinstance(path, Path) else path.open("rb"))
    # Only what is asked for is fetched of an object, and each column's chunk as a whole.
    return pq.ParquetFile(path.open(), pre_buffer=True)


def _opened_file(file: Path | BinaryIO) -> pq.ParquetFile:
    # A piece at a time, and not the whole of each column's chunk.
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema, most: int) -> Iterator[pa.Table]:
    # pyarrow makes a row group of each write, and small ones cost time and space.
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, most - rows)
            held.append(piece)
            start += piece.num_rows
            rows += piece.num_rows
            if rows == most:
                group = _group(held, schema)
                held, rows = [], 0
                yield group
                del group
    if held:
        yield _group(held, schema)


def _group(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    whole = [
        pa.RecordBatch.from_arrays(
            [without_null_entries(column) for column in batch.columns], schema=batch.schema
        )
        for batch in batches
    ]
    return pa.Table.from_batches(whole, schema=schema)


def _without_facts(schema: pa.Schema) -> pa.Schema:
    # The input may be a table of ours, whose facts are not those of this one.
    metadata = schema.metadata or {}
    of_others = {name: fact for name, fact in metadata.items() if not name.startswith(_PREFIX.encode())}
    return schema.with_metadata(of_others)
