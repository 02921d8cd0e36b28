"""A file that is either whole or absent, and readable by its owner only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO, Final, cast

from eb_dagster.errors import ConfigError
from eb_dagster.tables.object_store import ObjectPath, Place

_SUFFIX: Final = ".tmp"
# How the name of each temporary file ends.
_ENDING: Final = r"[0-9a-f]{16}\.tmp"
_START_OF_FOLDER: Final = ".eb_dagster-folder."
_FOLDER: Final = re.compile(re.escape(_START_OF_FOLDER) + _ENDING)
# What pathlib makes of s3://bucket/name. A drive of Windows is one letter.
_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+:[/\\]")
# File systems take 255 bytes; the rest is for the dots, the token and the suffix.
_LONGEST_NAME: Final = 200
_PROBE_BYTES: Final = 2**16
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SQLITE: Final = b"SQLite format 3\0"
# What SQLite and the ledger put beside a database.
_SIDE_FILES: Final = ("-wal", "-shm", "-journal", "-owners", ".lock")


def _check_kept(path: Place, kept: Iterable[tuple[str, Place]]) -> None:
    for what, kept_path in kept:
        if is_same(path, kept_path):
            raise ConfigError(f"cannot write {path}: it is {what}; choose another name")


def check_writable(path: Place, *, kept: Iterable[tuple[str, Place]] = (), makes_folder: bool = True) -> None:
    """Raise `ConfigError` that says why a file cannot be written there. Call it before anything is bought.

    Args:
        path: the file.
        kept: the files that must not be written over, under any name, each with what it is.
        makes_folder: make the folder if it is not there, for its owner only.

    """
    _check_kept(path, kept)
    if isinstance(path, ObjectPath):
        path.check_writable()
        return
    if _ADDRESS.match(str(path)):
        raise ConfigError(f"{path.name} cannot be in an object store, only tables can; give a path")
    target = _resolved(path)
    with telling_of(path):
        if not makes_folder and not target.parent.exists():
            raise ConfigError(
                f"cannot write {path}: there is no folder {path.parent}; make it, or choose another path"
            )
        _make_folder(target.parent)
        fault = _fault_of(target)
    if fault is not None:
        raise ConfigError(f"cannot write {path}: {fault}")
    # Permissions do not say what each file system does, least of all for the superuser; and a disk may be full.
    with telling_of(path):
        _write_probe(target)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (RuntimeError, ValueError):
        # Python raises these for a loop of links, and for a NUL.
        raise ConfigError("cannot write the table: its path leads nowhere; choose another path") from None


def _fault_of(target: Path) -> str | None:
    """Why the target must not be written, and what to do; None if there is no such reason."""
    if target.is_dir():
        return "it is a folder; name a file in it"
    if target.exists() and not target.is_file():
        return "it is not a regular file; choose another path"
    if _is_of_database(target):
        return "it belongs to a database, such as a ledger; choose another path"
    # Reading is needed too: the folder is searched for what a crash left, and it is synced.
    if not os.access(target.parent, os.R_OK | os.W_OK | os.X_OK):
        return "no permission to write in its folder; grant it, or choose another path"
    return None


def _write_probe(target: Path) -> None:
    temporary, sink = _open_temporary(target.parent, _start_of_temporary(target))
    try:
        with sink:
            sink.write(bytes(_PROBE_BYTES))
            sink.flush()
            os.fsync(sink.fileno())
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def telling_of(path: Path) -> Generator[None]:
    """Turn the operating system's refusals into `ConfigError`: why the file cannot be written, and what to do."""
    try:
        yield
    except NotADirectoryError:
        raise ConfigError(
            f"cannot write {path}: a part of its folder is a file; choose another path"
        ) from None
    except PermissionError:
        raise ConfigError(
            f"cannot write {path}: no permission to write in its folder; grant it, or choose another path"
        ) from None
    except OSError as error:
        what = "make room there, or choose" if error.errno in _FULL else "choose"
        raise ConfigError(f"cannot write {path}: {error.strerror}; {what} another path") from None


def is_same(first: Place, second: Place) -> bool:
    """Whether two paths lead, or would lead, to one file: through links, and whatever their case."""
    if isinstance(first, ObjectPath) or isinstance(second, ObjectPath):
        return first == second
    with contextlib.suppress(OSError, ValueError):
        return first.samefile(second)
    # Where a file is not there yet, nobody knows whether the file system tells two names apart by case.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return str(first.resolve()).casefold() == str(second.resolve()).casefold()
    return False


def files_of_ledger(ledger: Path) -> list[tuple[str, Place]]:
    """The files of a ledger that must never be written over, as `check_writable` takes them."""
    return [
        ("the ledger", ledger),
        *(("the ledger's", ledger.with_name(ledger.name + end)) for end in _SIDE_FILES),
    ]


def _is_of_database(target: Path) -> bool:
    """Whether it is a SQLite file, or one of the files and folders that stand beside one."""
    for path in (target, target.parent):
        names = [path.name.removesuffix(end) for end in ("", *_SIDE_FILES) if path.name.endswith(end)]
        if any(_is_sqlite(path.with_name(name)) for name in names if name):
            return True
    return False


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _make_folder(folder: Path) -> None:
    # `mkdir(parents=True)` would give the mode to the last folder only.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError


@contextlib.contextmanager
def published(target: Place) -> Generator[BinaryIO]:
    """A file to write that takes the target's place at the end, or is removed.

    A link stays a link: the file that it points to is replaced.
    """
    target = target.resolve()
    if isinstance(target, ObjectPath):
        with _published_object(target) as sink:
            yield sink
        return
    start = _start_of_temporary(target)
    _clear_torn(target.parent, re.compile(rf"{re.escape(start)}.*\.tmp"))
    temporary, sink = _open_temporary(target.parent, start)
    try:
        with sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
            if _has_locks():
                # Replaced while it is locked, so that nobody takes it for one that a crash left.
                temporary.replace(target)
        if not _has_locks():
            # A platform without locks does not rename open files, and nothing there is cleared either.
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def _published_object(target: ObjectPath) -> Generator[BinaryIO]:
    """A local file without a name to write, which becomes the object at the end."""
    with tempfile.TemporaryFile(prefix="eb_dagster-") as sink:
        yield sink
        sink.flush()
        target.upload(sink)


@contextlib.contextmanager
def private_folder(parent: str | os.PathLike[str] | None = None) -> Generator[str]:
    """A folder that only its owner can read, for libraries whose files need names. It is removed in any case.

    What a killed process leaves of its own goes with the next one that asks for one, or with `forget`.
    """
    place = Path(parent or tempfile.gettempdir())
    _clear_folders(place)
    temporary, lock = _open_temporary(place, _START_OF_FOLDER)
    folder = _folder_of(temporary)
    try:
        with lock:
            folder.mkdir(mode=0o700)
            try:
                yield str(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def moved_aside(sink: BinaryIO, target: Place) -> Generator[BinaryIO]:
    """Move what was written so far to a file without a name, so that writing starts again from an empty file."""
    folder = tempfile.gettempdir() if isinstance(target, ObjectPath) else target.parent
    with tempfile.TemporaryFile(dir=folder) as before:
        sink.seek(0)
        shutil.copyfileobj(sink, before)
        before.seek(0)
        sink.seek(0)
        sink.truncate()
        yield cast("BinaryIO", before)


def clear_torn(target: Path) -> int:
    """Remove what killed processes left beside a table, of it or of another. Returns the number of files."""
    start = re.escape(_start_of_temporary(target))
    return _clear_torn(target.parent, re.compile(rf"{start}.*\.tmp|\..+\.{_ENDING}"))


def clear_torn_folders() -> int:
    """Remove what killed processes left in folders for libraries. Returns the number of folders."""
    return _clear_folders(Path(tempfile.gettempdir()))


def _clear_folders(parent: Path) -> int:
    return _clear_torn(parent, _FOLDER)


def _folder_of(temporary: Path) -> Path:
    """The folder that is held by a lock on a file beside it."""
    return temporary.with_suffix("")


def _start_of_temporary(target: Path) -> str:
    name = os.fsencode(target.name)
    is_short = len(name) <= _LONGEST_NAME
    # Hidden, so that nobody's *.parquet finds it.
    return f".{target.name if is_short else hashlib.sha256(name).hexdigest()}."


def _open_temporary(folder: Path, start: str) -> tuple[Path, BinaryIO]:
    while True:
        temporary = folder / f"{start}{secrets.token_hex(8)}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        sink = os.fdopen(os.open(temporary, flags, 0o600), "w+b")
        _lock(sink.fileno(), wait=True)
        if not _has_locks() or os.fstat(sink.fileno()).st_nlink:
            return temporary, sink
        # Another writer cleared it between the two calls.
        sink.close()


def _clear_torn(folder: Path, name: re.Pattern[str]) -> int:
    """Remove what killed processes left. Their locks went with them."""
    return sum(_removed_if_torn(path) for path in folder.iterdir() if name.fullmatch(path.name))


def _removed_if_torn(path: Path) -> bool:
    """Remove a temporary file unless a writer holds it. Returns whether it was removed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _lock(descriptor, wait=False):
                if _FOLDER.fullmatch(path.name):
                    shutil.rmtree(_folder_of(path), ignore_errors=True)
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False


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


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
