"""What is done with objects, in each kind of store. Credentials come from the environment, as each store's own tools read it.

Amazon's and Google's are pyarrow's: an object appears when its stream is closed. Azure's is obstore's: there, pyarrow's
own replaces an object by an empty one as soon as it is opened for writing.
"""

from __future__ import annotations

import io
import mmap
import os
from datetime import timedelta
from importlib import import_module
from typing import IO, Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs

from eb_dagster.errors import ConfigError
from eb_dagster.tables.unnamed_file import RangeFile

_PIECE: Final = 16 << 20
_PATIENCE: Final = timedelta(seconds=60)
_GOOGLE_EMULATOR: Final = "STORAGE_EMULATOR_HOST"


ReadableFile: TypeAlias = pa.NativeFile | io.BufferedReader


class Store(Protocol):
    """One bucket or container. Each call raises `OSError` or `pa.ArrowException` if the store refuses."""

    def is_file(self, key: str) -> bool:
        """Whether there is an object."""
        ...

    def is_folder(self, key: str) -> bool:
        """Whether there are objects below a key, and none at it."""
        ...

    def open(self, key: str) -> ReadableFile:
        """A file to read from. Raises `FileNotFoundError`."""
        ...

    def make_empty(self, key: str) -> None:
        """Make an object without content."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object."""
        ...

    def upload(self, key: str, local: IO[bytes]) -> None:
        """Make an object of a file, whole or not at all."""
        ...


def store_of(scheme: str, bucket: str) -> Store:
    """The store at an address. Raises `ConfigError` if a library is not installed."""
    match scheme:
        case "s3":
            return _ArrowStore(pyarrow.fs.FileSystem.from_uri(f"s3://{bucket}")[0], bucket)
        case "gs":
            return _ArrowStore(_google(), bucket)
        case _:
            return _AzureStore(scheme, bucket)


def _google() -> pyarrow.fs.FileSystem:
    address = os.environ.get(_GOOGLE_EMULATOR)
    if not address:
        return pyarrow.fs.GcsFileSystem(retry_time_limit=_PATIENCE)
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return pyarrow.fs.GcsFileSystem(
        anonymous=True, endpoint_override=parts.netloc, scheme=parts.scheme, retry_time_limit=_PATIENCE
    )


class _ArrowStore:
    def __init__(self, files: pyarrow.fs.FileSystem, bucket: str) -> None:
        self._files, self._bucket = files, bucket

    def _place(self, key: str) -> str:
        return f"{self._bucket}/{key}"

    def _type(self, key: str) -> pyarrow.fs.FileType:
        return self._files.get_file_info(self._place(key)).type

    def is_file(self, key: str) -> bool:
        return self._type(key) == pyarrow.fs.FileType.File

    def is_folder(self, key: str) -> bool:
        return self._type(key) == pyarrow.fs.FileType.Directory

    def open(self, key: str) -> ReadableFile:
        return self._files.open_input_file(self._place(key))

    def make_empty(self, key: str) -> None:
        self._files.open_output_stream(self._place(key), compression=None).close()

    def delete(self, key: str) -> None:
        self._files.delete_file(self._place(key))

    def upload(self, key: str, local: IO[bytes]) -> None:
        # Mapped, so that nothing but the store can fail from here on. If a part fails, pyarrow does not complete
        # the object.
        whole = _mapped(local)
        # What is compressed is so already: by itself, pyarrow would do it once more for a name with .gz.
        with self._files.open_output_stream(self._place(key), compression=None) as target:
            for start in range(0, len(whole), _PIECE):
                target.write(whole[start : start + _PIECE])
                # Otherwise all parts would wait in memory for the network.
                target.flush()


def _mapped(file: IO[bytes]) -> pa.Buffer:
    is_empty = not os.fstat(file.fileno()).st_size
    return pa.py_buffer(b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class AzureRefused(OSError):
    """Azure refused, by the name of obstore's own error."""


class _AzureStore:
    def __init__(self, scheme: str, bucket: str) -> None:
        try:
            self._library: Any = import_module("obstore")
            stores = import_module("obstore.store")
        except ModuleNotFoundError:
            raise ConfigError('Azure needs a library of its own: pip install "eb-dagster[azure]"') from None
        settings = {"retry_config": {"max_retries": 5, "retry_timeout": _PATIENCE}}
        self._store = self._telling(stores.from_url, f"{scheme}://{bucket}", **settings)

    def _telling(self, call: Any, *arguments: Any, **settings: Any) -> Any:
        try:
            return call(*arguments, **settings)
        except FileNotFoundError:
            raise FileNotFoundError from None
        except (self._library.exceptions.BaseError, OSError) as error:
            # Its text may show the address with a signature.
            raise AzureRefused(type(error).__name__) from None

    def is_file(self, key: str) -> bool:
        try:
            self._telling(self._library.head, self._store, key)
        except FileNotFoundError:
            return False
        return True

    def is_folder(self, key: str) -> bool:
        below = self._telling(self._library.list_with_delimiter, self._store, f"{key}/")
        return bool(below["objects"] or below["common_prefixes"]) and not self.is_file(key)

    def open(self, key: str) -> ReadableFile:
        return io.BufferedReader(
            RangeFile(lambda start, end: self._read_range(key, start, end), self._size(key)), _PIECE
        )

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        return bytes(self._telling(self._library.get_range, self._store, key, start=start, end=end))

    def _size(self, key: str) -> int:
        return self._telling(self._library.head, self._store, key)["size"]

    def make_empty(self, key: str) -> None:
        self._telling(self._library.put, self._store, key, b"")

    def delete(self, key: str) -> None:
        self._telling(self._library.delete, self._store, key)

    def upload(self, key: str, local: IO[bytes]) -> None:
        # In blocks, which become the object in one step at the end.
        local.seek(0)
        self._telling(self._library.put, self._store, key, local)
