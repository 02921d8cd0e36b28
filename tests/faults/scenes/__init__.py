"""Several processes on one ledger, signals, and databases that fail under the run.

Each scene starts its processes, does its damage, and then looks with two clean runs whether every
promise held. The number at the head of a name is that of the catalogue of faults.
"""

from __future__ import annotations

import signal

from tests.faults.scenes import clocks, other_ledgers, postgresql, processes, signals, sqlite
from tests.faults.scenes.dagster_runs import UNDER_DAGSTER
from tests.faults.scenes.scene import Play

__all__ = ["ON_BOTH", "ON_POSTGRESQL", "ON_SQLITE", "UNDER_DAGSTER"]


ON_BOTH: dict[str, Play] = {
    "97 overlapping input": lambda place: processes.overlapping(place),
    "97 overlapping input, two killed": lambda place: processes.overlapping(
        place, processes=5, people=480, killed=2
    ),
    "75 the second waits": processes.waiting,
    "73, 92 stopped, then continued": processes.stopped_owner,
    "98 claim taken over, late reply": processes.late_reply,
    **{
        f"72 out of memory, {size} MB left": (
            lambda place, size=size: processes.out_of_memory(place, megabytes=size)
        )
        for size in (200, 250)
    },
    "caps": processes.caps,
    "71 SIGTERM": lambda place: signals.stopped(place, signal.SIGTERM),
    "71 SIGINT": lambda place: signals.stopped(place, signal.SIGINT),
    "71 SIGINT twice": signals.interrupted_twice,
    "84 deleted": lambda place: other_ledgers.another_ledger(place, "deleted"),
    "84, 96 an older copy": lambda place: other_ledgers.another_ledger(place, "an older copy"),
    "91 ten years on": lambda place: clocks.wrong_clock(place, years=10),
    "91 a year back": lambda place: clocks.wrong_clock(place, years=-1),
    "91 daylight saving begins": lambda place: clocks.daylight_saving(place, ends=False),
    "91 daylight saving ends": lambda place: clocks.daylight_saving(place, ends=True),
    "93 the edge of max_age": clocks.edge_of_age,
}
ON_POSTGRESQL: dict[str, Play] = {
    "94 backend killed": postgresql.sessions_killed,
    "95 down with replies in flight": postgresql.server_down,
    "99 pool exhausted": postgresql.no_connection_left,
    "100 synchronous_commit=off": postgresql.forgetful_server,
}
ON_SQLITE: dict[str, Play] = {
    "82 read-only file": lambda place: sqlite.read_only(place, what="file"),
    "82 read-only folder": lambda place: sqlite.read_only(place, what="folder"),
    "83 locked": sqlite.locked,
    "84 emptied": lambda place: other_ledgers.another_ledger(place, "emptied"),
    "87 symlinked": sqlite.symlinked,
    **{
        f"82, 86, 87 {how}": (lambda place, how=how: sqlite.refused_file(place, how))
        for how in sqlite.SPOILED
    },
}
