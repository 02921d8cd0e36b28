"""A PostgreSQL that fails during a run, or cannot be trusted."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.databases import PostgreSQL
from tests.faults.cases import Place, Verdict
from tests.faults.scenes.scene import UNTRUSTED, Scene, leads


def sessions_killed(place: Place) -> Verdict:
    """The server ends the run's sessions, again and again."""
    assert place.postgresql is not None
    scene = Scene("94 backend killed in mid-run", place, max_credits_at_risk=80)
    scene.vendor.script(scene.case, processing=(0.05, 0.1))
    scene.doubt_bound = 80
    process = scene.start(leads(0, 400))
    scene.await_requests(2)
    for _ in range(10):
        place.postgresql.kill_sessions(scene.case)
        time.sleep(0.1)
    phase = scene.result(process)
    scene.expect(phase.ended in ("", *UNTRUSTED), f"ended with {phase.ended}")
    return scene.close(leads(0, 400))


def server_down(place: Place, *, seconds: float = 60.0) -> Verdict:
    """The database server crashes with replies in flight, and comes back."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        own = PostgreSQL(Path(folder) / "data")
        try:
            return _server_down(replace(place, postgresql=own), own, seconds=seconds)
        finally:
            own.stop()


def _server_down(place: Place, postgresql: PostgreSQL, *, seconds: float) -> Verdict:
    scene = Scene("95 down with replies in flight", place, max_credits_at_risk=80)
    scene.vendor.script(scene.case, processing=(0.6, 0.6))
    scene.doubt_bound = 80
    process = scene.start(leads(0, 200))
    scene.await_requests(3)
    postgresql.down()
    time.sleep(seconds)
    postgresql.up()
    phase = scene.result(process)
    scene.expect(phase.ended in ("", *UNTRUSTED), f"ended with {phase.ended}")
    return scene.close(leads(0, 200))


def forgetful_server(place: Place) -> Verdict:
    """A server that may forget what it committed is refused."""
    assert place.postgresql is not None
    scene = Scene("100 synchronous_commit=off", place)
    place.postgresql.run(f'ALTER DATABASE "{scene.case}" SET synchronous_commit = off')
    phase = scene.here(leads(0, 40))
    scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
    scene.expect(not scene.arrived(), "something was sent")
    place.postgresql.run(f'ALTER DATABASE "{scene.case}" RESET synchronous_commit')
    return scene.close(leads(0, 40))


def no_connection_left(place: Place) -> Verdict:
    """The server has no connection left for us."""
    assert place.postgresql is not None
    scene = Scene("99 pool exhausted", place)
    role = f"few_{scene.case}"
    place.postgresql.run(
        f'CREATE ROLE "{role}" LOGIN CONNECTION LIMIT 0', f'GRANT ALL ON DATABASE "{scene.case}" TO "{role}"'
    )
    poor = str(scene.ledger).replace("postgres:@", f"{role}:@")
    phase = scene.here(leads(0, 40), ledger=poor)
    scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
    scene.expect(not scene.arrived(), "something was sent")
    return scene.close(leads(0, 40))
