"""The moments to send that all processes on one ledger share (`api.rate_limit.Slots`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.schema import pacer

_SELECT_SLOT: Final = sa.select(pacer.c.next_at, pacer.c.decided_at).where(
    pacer.c.endpoint == sa.bindparam("endpoint")
)
# Not named "endpoint": in an update, that name stands for the column to be set.
_UPDATE_SLOT: Final = sa.update(pacer).where(pacer.c.endpoint == sa.bindparam("of_endpoint"))
_SELECT_TIME: Final = sa.text("SELECT extract(epoch FROM clock_timestamp())")


class SharedSlots:
    """The slots of one endpoint."""

    def __init__(self, database: Database, *, endpoint: str, clock: Callable[[], float]) -> None:
        self._database = database
        self._endpoint = endpoint
        self._clock = clock

    def reserve_slot(self, *, interval: float) -> float:
        """Take the next slot and return how many seconds it is away."""
        # A slot that a power cut undoes costs nothing: by the time of the restart, the minute is over.
        with self._database.transaction(is_durable=False) as connection:
            now = self._now(connection)
            slot = max(self._next_slot(connection, now), now)
            self._set_next_slot(connection, slot + interval, now=now)
        return slot - now

    def postpone_slots(self, *, seconds: float) -> None:
        """Give no slot to any process before that many seconds have passed."""
        with self._database.transaction() as connection:
            now = self._now(connection)
            slot = max(self._next_slot(connection, now), now + seconds)
            self._set_next_slot(connection, slot, now=now)

    def _now(self, connection: sa.Connection) -> float:
        if self._database.file is not None:
            return self._clock()
        # The clocks of machines disagree, so all of them take the time of the database that they share.
        return float(connection.execute(_SELECT_TIME).scalar_one())

    def _next_slot(self, connection: sa.Connection, now: float) -> float:
        row = connection.execute(_SELECT_SLOT, {"endpoint": self._endpoint}).one_or_none()
        if row is None:
            first = {"endpoint": self._endpoint, "next_at": now, "decided_at": now}
            connection.execute(sa.insert(pacer), first)
            return now
        # It is no farther away than when it was decided. If it seems to be, the clock was put back.
        return min(row.next_at, now + row.next_at - row.decided_at)

    def _set_next_slot(self, connection: sa.Connection, slot: float, *, now: float) -> None:
        values = {"of_endpoint": self._endpoint, "next_at": slot, "decided_at": now}
        connection.execute(_UPDATE_SLOT, values)
