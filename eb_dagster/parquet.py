"""Batches → one Parquet file that is either whole or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster.contacts import SCHEMA_VERSION
from eb_dagster.errors import ConfigError, InputError

_PREFIX: Final = "eb_dagster."
ROW_GROUP_ROWS: Final = 65_536


def write_parquet(
    batches: Iterable[pa.RecordBatch],
    path: Path,
    *,
    schema: pa.Schema,
    metadata: Callable[[], Mapping[str, str]] = dict,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> int:
    """Write the batches as they come and publish them at once. Returns the rows.

    The file is there whole or not at all; a crash leaves the old one. Only its owner may read it.
    `metadata` is asked when all batches have passed.
    """
    target = path.resolve()
    rows = 0
    with _published(target) as (temporary, sink):
        with pq.ParquetWriter(sink, schema, compression="zstd", compression_level=1) as writer:
            for group in _groups(batches, schema, row_group_rows):
                writer.write_table(group, row_group_size=row_group_rows)
                rows += group.num_rows
            facts = {"schema_version": str(SCHEMA_VERSION), **metadata()}
            writer.add_key_value_metadata({_PREFIX + name: fact for name, fact in facts.items()})
        sink.flush()
        os.fsync(sink.fileno())
        Path(temporary).replace(target)
    _sync_folder(target.parent)
    return rows


def read_metadata(path: Path) -> dict[str, str] | None:
    """What `write_parquet` noted in the file; None when there is no file."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException):
        raise InputError(f"{path.name} is there and is not a Parquet file; move it away") from None
    named = {name.decode(): value.decode("utf-8", "replace") for name, value in metadata.items()}
    return {name.removeprefix(_PREFIX): value for name, value in named.items() if name.startswith(_PREFIX)}


def check_writable(path: Path) -> None:
    """Make the folder if need be; a `ConfigError` says why a file cannot be written there."""
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        raise ConfigError(f"the folder of {path.name} cannot be made") from None
    if path.is_dir():
        raise ConfigError(f"{path.name} is a folder, not a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"the folder of {path.name} cannot be written to")


@contextlib.contextmanager
def _published(target: Path) -> Iterator[tuple[str, tempfile._TemporaryFileWrapper[bytes]]]:
    # Hidden, so that nobody's *.parquet finds it; mkstemp makes it 0600.
    start = f".{target.name}."
    _clear_torn(target.parent, start)
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, before it is gone
        dir=target.parent, prefix=start, suffix=".tmp", delete=False
    )
    try:
        _try_lock(handle.fileno())
        yield handle.name, handle
    finally:
        handle.close()
        Path(handle.name).unlink(missing_ok=True)


def _clear_torn(folder: Path, start: str) -> None:
    """Remove what a killed process left: its lock is gone with it."""
    for torn in folder.iterdir():
        if torn.name.startswith(start) and torn.name.endswith(".tmp"):
            with contextlib.suppress(OSError):
                descriptor = os.open(torn, os.O_RDWR)
                try:
                    if _try_lock(descriptor):
                        torn.unlink()
                finally:
                    os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema, most: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= most:
            yield pa.Table.from_batches(held, schema=schema)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held, schema=schema)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
