"""Files of tables, by their endings: in a folder or an object store, plain or compressed."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.tables import csv
from eb_dagster.tables.object_store import ObjectPath, Place, place
from eb_dagster.tables.parquet import parquet_source
from eb_dagster.tables.row_files import GZIP

if TYPE_CHECKING:
    from eb_dagster.tables.source import Source

PARQUET: Final = ".parquet"
FILE_SUFFIXES: Final = (*csv.SUFFIXES, PARQUET)
# What a table that has no name begins with, and the ending that it would have.
_STARTS: Final = ((b"PAR1", PARQUET), (b"PK\x03\x04", ".xlsx"), (b"{", ".ndjson"))
_GZIP_START: Final = b"\x1f\x8b"


def suffix_of(path: Place) -> str:
    """The ending that tells what a file holds: that before .gz, if it is compressed."""
    name = path.name.lower()
    return Path(name.removesuffix(GZIP)).suffix


def is_compressed(path: Place) -> bool:
    """Whether the name says that the file is compressed."""
    return path.name.lower().endswith(GZIP)


def file_source(path: str | os.PathLike[str] | ObjectPath) -> Source:
    """The table in a file, by its ending: Parquet, or CSV, TSV or text, of which each column is text.

    The path may be the address of an object, and a text may be compressed (.csv.gz). What was detected in it is in
    `notes` of the source.

    Raises:
        ConfigError: the address is none that a table can have, or the store refuses.
        InputError: the file cannot be read, or not in one way only, or is of another kind.

    """
    where = place(path)
    suffix = suffix_of(where)
    if suffix == PARQUET and not is_compressed(where):
        return parquet_source(where)
    if suffix in csv.SUFFIXES:
        table = open_text(where)
        source = table.reader()
        source.notes = table.notes
        return source
    raise InputError(
        f"{where.name}: only {', '.join(FILE_SUFFIXES)} can be read as tables; choose another ending"
    )


def open_text(
    path: Place,
    *,
    encoding: str | None = None,
    separator: str | None = None,
    header_line: int | None = None,
) -> csv.TextTable:
    """The text table in a file or an object, compressed or not. Raises as `TextTable` does, and `ConfigError`."""
    local = path if isinstance(path, Path) and not is_compressed(path) else private_copy(path)
    table = csv.TextTable(local, encoding=encoding, separator=separator, header_line=header_line)
    if local is not path:
        weakref.finalize(table, shutil.rmtree, local.parent, ignore_errors=True)
    return table


def received(stream: BinaryIO) -> Path:
    """What comes from a stream, such as stdin, in a new folder that only its owner can read; named after its start."""
    folder = Path(tempfile.mkdtemp(prefix="eb_dagster-"))
    try:
        kept = folder / "stdin"
        with kept.open("wb") as target:
            shutil.copyfileobj(stream, target, 2**20)
        if _start_of(kept).startswith(_GZIP_START):
            compressed = kept.rename(folder / f"stdin{GZIP}")
            with kept.open("wb") as target:
                _copy(compressed, target)
            compressed.unlink()
        start = _start_of(kept).removeprefix(b"\xef\xbb\xbf").lstrip()
        ending = next((ending for text, ending in _STARTS if start.startswith(text)), ".csv")
        return kept.rename(folder / f"stdin{ending}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def private_copy(path: Place) -> Path:
    """A copy, not compressed, in a new folder that only its owner can read. Who asks for it removes the folder."""
    folder = Path(tempfile.mkdtemp(prefix="eb_dagster-"))
    copy = folder / path.name.removesuffix(GZIP).removesuffix(GZIP.upper())
    try:
        with copy.open("wb") as target:
            _copy(path, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return copy


def _copy(path: Place, target: BinaryIO) -> None:
    try:
        with path.open("rb") if isinstance(path, Path) else path.open() as file:
            opened = gzip.GzipFile(fileobj=file) if is_compressed(path) else file
            shutil.copyfileobj(opened, target, 2**20)
    except FileNotFoundError:
        raise InputError(f"there is no file {path.name}; check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path.name} is no whole gzip file; write it again") from None
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be copied to read it ({type(error).__name__}); check its permissions, and make room in "
            "the folder for temporary files"
        ) from None
