"""A SQLite file that cannot be trusted, written or locked."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from tests.faults import workers
from tests.faults.campaign import enrich
from tests.faults.cases import Figures, Place, Verdict
from tests.faults.places import listening
from tests.faults.scenes.scene import UNTRUSTED, Scene, leads

NOBODY = 65534
"""The user and the group that own nothing."""


def refused_file(place: Place, how: str) -> Verdict:
    """With a file that cannot be trusted as a ledger, nothing is sent."""
    scene = Scene(f"82, 86, 87 {how}", place)
    ledger = Path(scene.ledger)
    scene.here(leads(0, 20))
    asked = scene.arrived()
    undo = SPOILED[how](ledger)
    phase = scene.here(leads(0, 60))
    scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
    scene.expect(scene.arrived() == asked, "something was sent")
    undo()
    return scene.close(leads(0, 60))


def _open_to_all(ledger: Path) -> Callable[[], None]:
    ledger.chmod(0o644)
    return lambda: ledger.chmod(0o600)


def _newer(ledger: Path) -> Callable[[], None]:
    def raise_version(by: int) -> None:
        with closing(sqlite3.connect(ledger)) as connection:
            (version,) = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
            changed = str(int(version) + by).encode()
            connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (changed,))
            connection.commit()

    raise_version(by=90)
    return lambda: raise_version(by=-90)


def _swapped(put: Callable[[Path], None]) -> Callable[[Path], Callable[[], None]]:
    """Put something else in the ledger's place."""

    def spoil(ledger: Path) -> Callable[[], None]:
        with closing(sqlite3.connect(ledger)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _remove_companions(ledger)
        kept = ledger.with_name("kept")
        ledger.rename(kept)
        put(ledger)

        def undo() -> None:
            if ledger.is_dir() and not ledger.is_symlink():
                ledger.rmdir()
            else:
                ledger.unlink(missing_ok=True)
            _remove_companions(ledger)
            kept.rename(ledger)

        return undo

    return spoil


def _remove_companions(ledger: Path) -> None:
    for ending in ("-wal", "-shm"):
        ledger.with_name(ledger.name + ending).unlink(missing_ok=True)


def _write_private(ledger: Path, data: bytes) -> None:
    ledger.write_bytes(data)
    ledger.chmod(0o600)


SPOILED: dict[str, Callable[[Path], Callable[[], None]]] = {
    "open permissions": _open_to_all,
    "a newer schema": _newer,
    "a file that is no database": _swapped(
        lambda ledger: _write_private(ledger, b"canary no database" * 900)
    ),
    "a folder": _swapped(lambda ledger: ledger.mkdir()),
}


def symlinked(place: Place) -> Verdict:
    """A symbolic link gives a ledger a second name: it is refused, or is the same ledger."""
    scene = Scene("87 a symlinked ledger", place)
    scene.vendor.script(scene.case, processing=(0.1, 0.3))
    scene.here(leads(0, 20))
    link = scene.folder / "elsewhere" / "link.db"
    link.parent.mkdir(mode=0o700)
    link.symlink_to(scene.ledger)
    running = [scene.start(leads(0, 100)), scene.start(leads(0, 100), ledger=str(link))]
    for process in running:
        phase = scene.result(process)
        scene.expect(phase.ended in ("", *UNTRUSTED), f"ended with {phase.ended}")
    return scene.close(leads(0, 100))


def locked(place: Place, *, seconds: float = 60.0) -> Verdict:
    """Somebody else holds the write lock for a while."""
    scene = Scene("83 locked by another process", place)
    scene.vendor.script(scene.case, processing=(0.1, 0.1))
    scene.here(leads(0, 20))
    with closing(sqlite3.connect(scene.ledger, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        process = scene.start(leads(0, 100))
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    phase = scene.result(process)
    scene.expect(not phase.ended, f"ended with {phase.ended}")
    return scene.close(leads(0, 100))


def _as_nobody(frame: pd.DataFrame, settings: dict[str, Any], result: Path) -> None:
    # These are imported at first use, and could not be read any more then.
    import encodings.idna
    import encodings.unicode_escape  # noqa: F401

    os.setgid(NOBODY)
    os.setuid(NOBODY)
    with listening() as heard:
        phase = enrich(frame, settings, heard)
    result.write_bytes(pickle.dumps((phase, heard.texts)))


def read_only(place: Place, *, what: str) -> Verdict:
    """The file, or its folder, can only be read."""
    scene = Scene(f"82 read-only {what}", place)
    if os.geteuid() != 0:
        return Verdict(f"{scene.name}: skipped, needs root to become somebody else", [], Figures())
    # Another user has to reach it, so it is not below a private folder.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        ledger, out = folder / "ledger.db", folder / "out"
        out.mkdir(mode=0o777)
        out.chmod(0o777)
        scene.here(leads(0, 20), ledger=str(ledger))
        scene.settings["ledger"] = str(ledger)
        for file in folder.glob("ledger.db*"):
            shutil.chown(file, NOBODY, NOBODY)
        if what == "file":
            ledger.chmod(0o400)
        else:
            folder.chmod(0o555)
        asked = scene.arrived()
        result = out / "result"
        process = workers.start(_as_nobody, leads(0, 60), scene.settings, result)
        scene.results[process] = result
        phase = scene.result(process)
        folder.chmod(0o777)
        ledger.chmod(0o600)
        scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
        scene.expect(scene.arrived() == asked, "something was sent")
        for file in folder.glob("ledger.db*"):
            shutil.chown(file, 0, 0)
        return scene.close(leads(0, 60))
