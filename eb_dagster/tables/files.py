"""Files of tables, by their endings: in a folder or an object store, plain or compressed."""

from __future__ import annotations

import codecs
import gzip
import os
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast, overload

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.tables import csv
from eb_dagster.tables.object_store import ObjectPath, Place, place
from eb_dagster.tables.parquet import parquet_source
from eb_dagster.tables.row_files import GZIP
from eb_dagster.tables.unnamed_file import LocalFile, UnnamedFile

if TYPE_CHECKING:
    from eb_dagster.tables.source import Source

PARQUET: Final = ".parquet"
FILE_SUFFIXES: Final = (*csv.SUFFIXES, PARQUET)
# What a table that has no name begins with, and the ending that it would have.
_STARTS: Final = ((b"PAR1", PARQUET), (b"PK\x03\x04", ".xlsx"), (b"{", ".ndjson"))
# The marks and blanks that a text may begin with; UTF-16 and UTF-32 have zeros between them too.
_BEFORE_TEXT: Final = codecs.BOM_UTF8 + codecs.BOM_UTF16 + b" \t\r\n"
_GZIP_START: Final = b"\x1f\x8b"
_CHUNK_BYTES: Final = 2**20


def suffix_of(path: Place | UnnamedFile) -> str:
    """The ending that tells what a file holds: that before .gz, if it is compressed."""
    name = path.name.lower()
    return Path(name.removesuffix(GZIP)).suffix


def is_compressed(path: Place | UnnamedFile) -> bool:
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
    path: Place | UnnamedFile,
    *,
    encoding: str | None = None,
    separator: str | None = None,
    header_line: int | None = None,
) -> csv.TextTable:
    """The text table in a file or an object, compressed or not. Raises as `TextTable` does, and `ConfigError`."""
    local = local_file(path)
    return csv.TextTable(local, encoding=encoding, separator=separator, header_line=header_line)


def received(stream: BinaryIO) -> UnnamedFile:
    """What comes from a stream, such as stdin, in a file without a name; called after its start."""
    kept = UnnamedFile("stdin")
    shutil.copyfileobj(stream, cast("BinaryIO", kept), _CHUNK_BYTES)
    if kept.read_range(0, 2) == _GZIP_START:
        kept.name = f"stdin{GZIP}"
        kept = local_file(kept)
    start = kept.read_range(0, 64).replace(b"\0", b"").lstrip(_BEFORE_TEXT)
    ending = next((ending for text, ending in _STARTS if start.startswith(text)), ".csv")
    kept.name = f"stdin{ending}"
    return kept


@overload
def local_file(path: UnnamedFile) -> UnnamedFile: ...
@overload
def local_file(path: Place) -> LocalFile: ...
def local_file(path: Place | UnnamedFile) -> LocalFile:
    """The file, on this machine and not compressed: itself, or a copy without a name."""
    if not isinstance(path, ObjectPath) and not is_compressed(path):
        return path
    copy = UnnamedFile(path.name.removesuffix(GZIP).removesuffix(GZIP.upper()))
    _copy(path, copy)
    return copy


def _copy(path: Place | UnnamedFile, target: UnnamedFile) -> None:
    try:
        with path.open() if isinstance(path, ObjectPath) else path.open("rb") as file:
            opened = gzip.GzipFile(fileobj=file) if is_compressed(path) else file
            shutil.copyfileobj(opened, cast("BinaryIO", target), _CHUNK_BYTES)
    except FileNotFoundError:
        raise InputError(f"there is no file {path.name}; check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path.name} is not a complete gzip file; write it again") from None
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be copied to read it ({type(error).__name__}); check its permissions, and make room in "
            "the folder for temporary files"
        ) from None
