"""Tables in an object store (s3://bucket/folder/table.parquet), with the part of a path's interface that is needed.

pyarrow's S3 does the work: keys, region and endpoint come from the environment, as for every tool
of Amazon's. Other stores are refused: only this one was seen to show an object whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast

import pyarrow as pa
import pyarrow.fs

from eb_dagster.errors import ConfigError

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_ADDRESS: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]*[a-z0-9])(?:/(?P<key>[^/].*)?)?")
_PIECE: Final = 16 << 20
_REASON: Final = re.compile(r"AWS Error (\w+)")


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object, or a prefix that stands for a folder of objects."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.bucket, f"{self.key}/{name}".lstrip("/"))

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
            return self._info().type == pyarrow.fs.FileType.File

    is_file = exists

    def open(self) -> Any:
        """Open the object for reading. Raises `FileNotFoundError`, or `ConfigError` that says why not."""
        with self._telling("be read", but=FileNotFoundError):
            return self._store().open_input_file(self._place)

    def check_writable(self) -> None:
        """Raise `ConfigError` that says why no object can be written there.

        To find out, an empty object is written beside it and deleted again. Its folder stays.
        """
        with self._telling("be written"):
            is_folder = not self.key or self._info().type == pyarrow.fs.FileType.Directory
        if is_folder:
            raise ConfigError(f"cannot write {self}: it is a folder; name an object in it")
        folder, _, name = self.key.rpartition("/")
        # Hidden, so that nobody's *.parquet finds it.
        probe = type(self)(self.bucket, f"{folder}/.{name}.tmp".lstrip("/"))
        with self._telling("be written"):
            probe._store().open_output_stream(probe._place).close()
        # Whoever may write need not be allowed to delete. The next probe takes the same name.
        with contextlib.suppress(OSError):
            probe._store().delete_file(probe._place)

    def upload(self, local: Path) -> None:
        """Make the object of a local file, whole or not at all."""
        # In a thread, because Ctrl-C is not raised there: closing a stream early would publish a part.
        with self._telling("be written"), ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(self._upload, local).result()

    def _upload(self, local: Path) -> None:
        with pa.memory_map(str(local)) as file:
            # Mapped, so that nothing but the store can fail from here on. If a part fails, pyarrow does not
            # complete the object.
            whole = file.read_buffer()
            with self._store().open_output_stream(self._place) as target:
                for start in range(0, len(whole), _PIECE):
                    target.write(whole[start : start + _PIECE])
                    # Otherwise all parts would wait in memory for the network.
                    target.flush()
            del whole

    @property
    def _place(self) -> str:
        return f"{self.bucket}/{self.key}"

    def _store(self) -> Any:
        return pyarrow.fs.FileSystem.from_uri(f"s3://{self.bucket}")[0]

    def _info(self) -> Any:
        return self._store().get_file_info(self._place)

    @contextlib.contextmanager
    def _telling(self, what: str, *, but: type[OSError] | tuple[()] = ()) -> Generator[None]:
        try:
            yield
        except but:
            raise
        except (OSError, pa.ArrowException) as error:
            reason = _REASON.search(str(error))
            raise ConfigError(
                f"{self} cannot {what} ({reason[1].lower() if reason else type(error).__name__}); check the address, "
                "AWS_ENDPOINT_URL, and the keys and their rights"
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
    address = _ADDRESS.fullmatch(text)
    if address is None:
        # The address is not shown: it may contain keys.
        raise ConfigError(
            "a table's address is s3://bucket/folder/table.parquet, without keys, and no other store is known; "
            "give such a one, or a path"
        )
    return ObjectPath(address["bucket"], (address["key"] or "").rstrip("/"))
