"""A ledger that is not the one that paid for the table beside it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.databases import PostgreSQL
from tests.faults.cases import Place, Verdict
from tests.faults.places import listening
from tests.faults.scenes.scene import UNTRUSTED, Scene, leads


def _publish(scene: Scene, **settings: Any) -> Callable[..., str]:
    """Enrich into a table, and give a function that does it once more and returns the name of its error."""
    from eb_dagster import Enricher, EnrichError

    source, target = scene.folder / "leads.parquet", scene.folder / "enriched.parquet"
    leads(0, 60).to_parquet(source, index=False)

    def publish(**changes: Any) -> str:
        with listening() as heard:
            try:
                with Enricher(**{**scene.settings, **settings, **changes}) as enricher:
                    enricher.enrich_parquet(source, target)
            except EnrichError as error:
                heard.hear_error(error)
                return type(error).__name__
            finally:
                scene.texts += heard.texts
        return ""

    scene.expect(publish() == "", "the first publication failed")
    return publish


def another_ledger(place: Place, how: str) -> Verdict:
    """Beside a published table, the ledger is gone, empty, or an older copy."""
    scene = Scene(f"84, 96 ledger {how} beside a published table", place)
    if place.postgresql is not None:
        return _another_database(scene, place.postgresql, how)
    ledger = Path(scene.ledger)
    kept = scene.folder / "kept.db"
    scene.here(leads(0, 20))
    for file in _ledger_files(scene):
        shutil.copy(file, scene.folder / file.name.replace("ledger", "older"))
    publish = _publish(scene)
    asked = scene.arrived()
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(ledger, kept)
    for file in _ledger_files(scene):
        file.unlink()
    if how == "emptied":
        ledger.touch(mode=0o600)
    elif how == "an older copy":
        for file in scene.folder.glob("older.db*"):
            shutil.move(file, scene.folder / file.name.replace("older", "ledger"))
        ledger.chmod(0o600)
    ended = publish()
    scene.expect(ended in UNTRUSTED, f"ended with {ended or 'a table'}")
    scene.expect(scene.arrived() == asked, "something was bought again")
    for file in _ledger_files(scene):
        file.unlink()
    shutil.move(kept, ledger)
    ledger.chmod(0o600)
    return scene.close(leads(0, 60))


def _ledger_files(scene: Scene) -> list[Path]:
    return [path for path in scene.folder.glob("ledger.db*") if path.is_file()]


def _another_database(scene: Scene, postgresql: PostgreSQL, how: str) -> Verdict:
    scene.here(leads(0, 20))
    other = f"{scene.case}_other"
    template = f'TEMPLATE "{scene.case}"' if how == "an older copy" else ""
    postgresql.kill_sessions(scene.case)
    postgresql.run(f'CREATE DATABASE "{other}" {template}')
    publish = _publish(scene)
    asked = scene.arrived()
    ended = publish(ledger=postgresql.url(other))
    scene.expect(ended in UNTRUSTED, f"ended with {ended or 'a table'}")
    scene.expect(scene.arrived() == asked, "something was bought again")
    return scene.close(leads(0, 60))
