"""Tables in an object store (s3://bucket/folder/table.parquet), with the part of a path's interface that is needed.

Amazon's, Google's (gs://) and Azure's (az:// and abfss://) are known; others are refused: only of these it was seen
that they show an object whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, Self, TypeAlias, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa

from eb_dagster.errors import ConfigError
from eb_dagster.tables.stores import AzureRefused, ReadableFile, Store, store_of

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_BUCKET: Final = r"[a-z0-9][a-z0-9._-]*[a-z0-9]"
_KEY: Final = r"(?:/(?P<key>[^/].*)?)?"
_ADDRESSES: Final = (
    re.compile(rf"(?P<scheme>s3|gs|az)://(?P<bucket>{_BUCKET}){_KEY}"),
    # A container, and its account.
    re.compile(rf"(?P<scheme>abfss?)://(?P<bucket>{_BUCKET}@[a-z0-9.]+){_KEY}"),
)
_REASON: Final = re.compile(r"AWS Error (\w+)")
_AZURE: Final = "AZURE_STORAGE_ACCOUNT_NAME"
# What to check if a store refuses.
_HINTS: Final = {
    "s3": "AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
}


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object, or a prefix that stands for a folder of objects."""

    bucket: str
    """The bucket; of Azure, the container, with its account if the address names it."""
    key: str
    scheme: str = "s3"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> Self:
        return replace(self, key=f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return Path(self.name).suffix

    def resolve(self) -> Self:
        """Itself: an address leads nowhere else."""
        return self

    def as_uri(self) -> str:
        """The address."""
        return str(self)

    def exists(self) -> bool:
        """Whether there is an object. Raises `ConfigError` if nobody can tell."""
        with self._telling("be reached"):
            return self._store().is_file(self.key)

    is_file = exists

    def open(self) -> ReadableFile:
        """Open the object for reading. Raises `FileNotFoundError`, or `ConfigError` that says why not."""
        with self._telling("be read", but=FileNotFoundError):
            return self._store().open(self.key)

    def check_writable(self) -> None:
        """Raise `ConfigError` that says why no object can be written there.

        To find out, an empty object is written beside it and deleted again. Its folder stays.
        """
        with self._telling("be written"):
            is_folder = not self.key or self._store().is_folder(self.key)
        if is_folder:
            raise ConfigError(f"cannot write {self}: it is a folder; name an object in it")
        folder, _, name = self.key.rpartition("/")
        # Hidden, so that nobody's *.parquet finds it.
        probe = f"{folder}/.{name}.tmp".lstrip("/")
        with self._telling("be written"):
            self._store().make_empty(probe)
        # Whoever may write need not be allowed to delete. The next probe takes the same name.
        with contextlib.suppress(OSError):
            self._store().delete(probe)

    def upload(self, local: IO[bytes]) -> None:
        """Make the object of a local file, whole or not at all."""
        # In a thread, because Ctrl-C is not raised there: closing a stream early would publish a part.
        with self._telling("be written"), ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(self._store().upload, self.key, local).result()

    def _store(self) -> Store:
        return store_of(self.scheme, self.bucket)

    @contextlib.contextmanager
    def _telling(self, what: str, *, but: type[OSError] | tuple[()] = ()) -> Generator[None]:
        try:
            yield
        except but:
            raise
        except (OSError, pa.ArrowException) as error:
            found = _REASON.search(str(error))
            reason = found[1].lower() if found else str(error) if isinstance(error, AzureRefused) else ""
            raise ConfigError(
                f"{self} cannot {what} ({reason or type(error).__name__}); check the address, {_HINTS[self.scheme]}, and "
                "the keys and their rights"
            ) from None


Place: TypeAlias = Path | ObjectPath


def place(path: object) -> Place:
    """The place that a path or an address of the user's names. A path of universal-pathlib counts as its address.

    Raises `ConfigError` if no table can be at that address.
    """
    if isinstance(path, ObjectPath):
        return path
    text = os.fsdecode(cast("str", path)) if isinstance(path, str | os.PathLike) else str(path)
    if not _SCHEME.match(text):
        return Path(text)
    if text.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(text).path))
    address = next(filter(None, (pattern.fullmatch(text) for pattern in _ADDRESSES)), None)
    if address is None:
        # The address is not shown: it may contain keys.
        raise ConfigError(
            "a table's address is s3://bucket/folder/table.parquet, or gs://…, az://… or abfss://… likewise, without "
            "keys, and no other store is known; give such a one, or a path"
        )
    return ObjectPath(address["bucket"], (address["key"] or "").rstrip("/"), address["scheme"])
