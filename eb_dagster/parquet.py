"""Batches → one Parquet file that is either whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster.contacts import SCHEMA_VERSION
from eb_dagster.errors import ConfigError, InputError

ROW_GROUP_ROWS: Final = 65_536

_PREFIX: Final = "eb_dagster."
_SUFFIX: Final = ".tmp"
_NO_FACTS: Final[Mapping[str, str]] = MappingProxyType({})
# File systems take 255 bytes; the rest is for the dots, the token and the suffix.
_LONGEST_NAME: Final = 200


def write_parquet(
    batches: Iterable[pa.RecordBatch],
    path: Path,
    *,
    schema: pa.Schema,
    metadata: Mapping[str, str] | Callable[[], Mapping[str, str]] = _NO_FACTS,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> int:
    """Write the batches as they come and publish them at once. Returns the rows.

    The file is there whole or not at all; a crash leaves the old one, and the next write of the
    same path clears what the crash left. Only its owner may read it. A link keeps pointing where
    it does; its target is replaced. Memory holds one row group. `metadata` may be a function,
    which is asked when all batches have passed.
    """
    target = path.resolve()
    rows = 0
    kept = _without_facts(schema)
    with (
        _published(target) as sink,
        pq.ParquetWriter(sink, kept, compression="zstd", compression_level=1) as writer,
    ):
        for group in _row_groups(batches, schema, row_group_rows):
            writer.write_table(group, row_group_size=row_group_rows)
            rows += group.num_rows
        facts = metadata() if callable(metadata) else metadata
        noted = {**facts, "schema_version": str(SCHEMA_VERSION)}
        writer.add_key_value_metadata({_PREFIX + name: fact for name, fact in noted.items()})
    return rows


def read_metadata(path: Path) -> dict[str, str] | None:
    """What `write_parquet` noted in the file, without our prefix; None when there is no file.

    Raises `InputError` if the file is there and is not Parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            noted = file.metadata.metadata or {}
    except FileNotFoundError:
        return None
    except PermissionError:
        raise InputError(f"{path.name} is there and cannot be read: no permission") from None
    except OSError:
        raise ConfigError(
            f"{path.name} is there and cannot be read: check the disk; nothing was sent"
        ) from None
    except pa.ArrowException:
        raise InputError(f"{path.name} is there and is not a Parquet file; move it away") from None
    return {
        name.decode().removeprefix(_PREFIX): fact.decode("utf-8", "replace")
        for name, fact in noted.items()
        if name.startswith(_PREFIX.encode())
    }


def check_writable(path: Path) -> None:
    """Make the folder if need be, for its owner only.

    Raises `ConfigError` that says why a file cannot be written there.
    """
    try:
        target = path.resolve()
        _make_folder(target.parent)
        is_folder, is_other = target.is_dir(), target.exists() and not target.is_file()
    except NotADirectoryError:
        raise ConfigError(f"cannot write {path}: a part of its folder is a file") from None
    except PermissionError:
        raise ConfigError(f"cannot write {path}: no permission in its folder") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    except (RuntimeError, ValueError):
        # So Python tells a loop of links, and a NUL.
        raise ConfigError("cannot write the table: its path leads nowhere") from None
    if is_folder:
        raise ConfigError(f"cannot write {path}: it is a folder, not a file")
    if is_other:
        raise ConfigError(f"cannot write {path}: it is not a regular file")
    # Read as well: what a crash left is looked for, and the folder is synced.
    if not os.access(target.parent, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write {path}: no permission in its folder")


def _make_folder(folder: Path) -> None:
    # `mkdir(parents=True)` would give the mode to the last folder only.
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError


@contextlib.contextmanager
def _published(target: Path) -> Generator[BinaryIO]:
    """A file to write that takes the target's place at the end, or is gone."""
    start = _start_of_temporary(target)
    _clear_torn(target.parent, start)
    temporary, sink = _open_temporary(target.parent, start)
    try:
        with sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
            if _has_locks():
                # While it is still locked, so that nobody takes it for one that a crash left.
                temporary.replace(target)
        if not _has_locks():
            # Such a platform does not rename open files, and nobody there clears files either.
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _start_of_temporary(target: Path) -> str:
    name = os.fsencode(target.name)
    is_short = len(name) <= _LONGEST_NAME
    # Hidden, so that nobody's *.parquet finds it.
    return f".{target.name if is_short else hashlib.sha256(name).hexdigest()}."


def _open_temporary(folder: Path, start: str) -> tuple[Path, BinaryIO]:
    while True:
        temporary = folder / f"{start}{secrets.token_hex(8)}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        sink = os.fdopen(os.open(temporary, flags, 0o600), "wb")
        _lock(sink.fileno(), wait=True)
        if not _has_locks() or os.fstat(sink.fileno()).st_nlink:
            return temporary, sink
        # Another writer cleared it between the two calls.
        sink.close()


def _clear_torn(folder: Path, start: str) -> None:
    """Remove what killed processes left: their locks are gone with them."""
    for torn in folder.iterdir():
        if torn.name.startswith(start) and torn.name.endswith(_SUFFIX):
            with contextlib.suppress(OSError):
                descriptor = os.open(torn, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if _lock(descriptor, wait=False):
                        torn.unlink()
                finally:
                    os.close(descriptor)


def _has_locks() -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    return hasattr(fcntl, "flock")


def _lock(descriptor: int, *, wait: bool) -> bool:
    if not _has_locks():
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        # Held by a writer that lives, or a file system without locks: not ours to remove.
        return False
    return True


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
                yield pa.Table.from_batches(held, schema=schema)
                held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held, schema=schema)


def _without_facts(schema: pa.Schema) -> pa.Schema:
    # The input may be a table of ours, whose facts are not those of this one.
    noted = schema.metadata or {}
    kept = {name: fact for name, fact in noted.items() if not name.startswith(_PREFIX.encode())}
    return cast("pa.Schema", cast("Any", schema).with_metadata(kept))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
