"""Files that have no name in any folder, so that nothing of them is left, however the process ends."""

from __future__ import annotations

import io
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

_PIECE: Final = 2**20


class RangeFile(io.RawIOBase):
    """A file to read, of whatever gives a range of its bytes."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read, self._size, self._position = read, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read as much as there is room for, or is left."""
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        content = self._read(self._position, end)
        buffer[: len(content)] = content
        self._position = end
        return len(content)


class UnnamedFile:
    """A private file in the folder for temporary files. Several may read it at once, each at its own place.

    Where the system knows no files without a name (Windows), it has one, and the system removes it once nobody has
    it open.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """What messages call it, and what its ending tells of its content."""
        self._file = tempfile.TemporaryFile(prefix="eb_dagster-")  # noqa: SIM115 - lives as long as this
        self._lock = threading.Lock()
        self._size = 0
        # Before the file itself is collected, which Python would warn of.
        self.close = weakref.finalize(self, self._file.close)

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return Path(self.name).suffix

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._size

    def is_file(self) -> bool:
        """Always, as a path of it would say."""
        return True

    def write(self, content: bytes | memoryview) -> int:
        """Write at the end."""
        with self._lock:
            self._file.seek(self._size)
            self._file.write(content)
            self._size += len(content)
        return len(content)

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from one place to another."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(end - start)

    def open(self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None) -> Any:
        """Open it to read from its start, as a path of it would."""
        binary = io.BufferedReader(RangeFile(self.read_range, self._size), _PIECE)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding, newline=newline)


LocalFile: TypeAlias = Path | UnnamedFile
"""A file on this machine."""
