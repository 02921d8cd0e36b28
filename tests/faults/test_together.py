"""Several processes on one ledger, signals, failing databases and the pace, in their short form."""

import pytest

from . import scenes
from .cases import Place
from .pace import run_at_pace
from .scenes import dagster_runs, postgresql, processes, sqlite

SHORT = {
    "97 overlapping input, one killed": lambda place: processes.overlapping(
        place, processes=3, people=240, killed=1
    ),
    "caps": lambda place: processes.caps(place, processes=2, daily=False),
    "98 claim taken over, late reply": processes.late_reply,
}
# What does not depend on the database runs on one of them here, and on both in the long form.
ON_SQLITE = {
    **SHORT,
    **{
        name: scenes.ON_BOTH[name]
        for name in (
            "73, 92 stopped, then continued",
            "71 SIGTERM",
            "71 SIGINT twice",
            "91 ten years on",
            "91 daylight saving begins",
            "93 the edge of max_age",
            "72 out of memory, 250 MB left",
        )
    },
    **scenes.ON_SQLITE,
    "76 a backfill": lambda place: dagster_runs.backfill(place, partitions=4),
    "77, 78 Dagster retries": dagster_runs.retried,
    "83 locked": lambda place: sqlite.locked(place, seconds=2.0),
}
ON_POSTGRESQL = {
    "97 overlapping input, one killed": SHORT["97 overlapping input, one killed"],
    **{
        name: scenes.ON_BOTH[name]
        for name in (
            "75 the second waits",
            "98 claim taken over, late reply",
            "71 SIGINT",
            "84, 96 an older copy",
        )
    },
    **scenes.ON_POSTGRESQL,
    "95 down with replies in flight": lambda place: postgresql.server_down(place, seconds=2.0),
}


@pytest.mark.parametrize("name", ON_SQLITE)
def test_the_promises_hold_on_sqlite(on_sqlite: Place, name: str):
    assert ON_SQLITE[name](on_sqlite).complaints == []


@pytest.mark.parametrize("name", ON_POSTGRESQL)
def test_the_promises_hold_on_postgresql(on_postgresql: Place, name: str):
    assert ON_POSTGRESQL[name](on_postgresql).complaints == []


def test_two_processes_send_as_fast_as_is_allowed_and_are_not_refused(on_sqlite: Place):
    (pace,) = run_at_pace(
        on_sqlite, windows=("moving",), processes=2, allowed=40, window_seconds=4, seconds=8
    )
    assert pace.ended == ("done", "done")
    assert pace.charged_twice == 0
    # Scaled down, the margin for jitter is 40 ms; a busy machine may be late by more.
    assert pace.refused <= 3
    assert pace.share > 0.6
