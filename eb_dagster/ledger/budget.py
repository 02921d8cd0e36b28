"""What is spent and what is left: limits, caps and sums. All in credits, one for each contact that is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import sqlalchemy as sa

from eb_dagster.ledger import counters
from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.counters import Counted
from eb_dagster.ledger.request_rows import IS_IN_FLIGHT
from eb_dagster.ledger.schema import Facts, meta, read_facts, requests

Period = Literal["day", "month"]
Short = Literal["credits", "day", "month", "risk"]

_CAP_NAMES: Final[Mapping[Period, str]] = {"day": "credits_per_day", "month": "credits_per_month"}
_column = requests.c


_SELECT_IN_FLIGHT: Final = sa.select(sa.func.coalesce(sa.func.sum(_column.at_risk), 0)).where(IS_IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a claim must stay inside of, in credits. None: no such limit.

    `max_credits` is of one run, the others are of all runs at one address. Days and months are those of UTC.
    """

    max_credits: int | None
    max_credits_at_risk: int
    max_credits_per_day: int | None = None
    max_credits_per_month: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """How many identifiers may still be asked, and which limit says so."""

    credits: int
    short_of: Short


@dataclass(frozen=True, slots=True)
class Spending:
    """Totals in credits, of a run or of a whole endpoint."""

    credits: int
    in_flight: int
    in_doubt: int
    unreadable: int

    @property
    def at_risk(self) -> int:
        """Credits that may have been spent without an answer."""
        return self.in_flight + self.in_doubt


class Budget:
    """The budget of one endpoint. The methods with a `connection` are part of its transaction."""

    def __init__(self, database: Database, *, endpoint: str, clock: Callable[[], float]) -> None:
        self._database = database
        self._endpoint = endpoint
        self._clock = clock

    def spending(self, *, run: str | None = None) -> Spending:
        """What this endpoint cost so far, or one run of it."""
        is_counted = _column.endpoint == self._endpoint if run is None else _column.run == run
        with self._database.reading() as connection:
            in_flight = int(connection.execute(_SELECT_IN_FLIGHT.where(is_counted)).scalar_one())
            counted = self.counted_in(connection, run=run or "", time=self._clock())
        spent = counted.of_endpoint if run is None else counted.of_run
        return Spending(spent.credits, in_flight, max(0, spent.at_risk - in_flight), spent.unreadable)

    def room(self, *, run: str, limits: Limits) -> Room:
        """How many identifiers may be asked now."""
        with self._database.reading() as connection:
            counted = self.counted_in(connection, run=run, time=self._clock())
            return self.room_in(connection, counted, limits=limits, facts=read_facts(connection))

    def counted_in(self, connection: sa.Connection, *, run: str, time: float) -> Counted:
        """What is counted of this endpoint, of a run of it and of the day that it is."""
        return counters.read(connection, endpoint=self._endpoint, run=run, time=time)

    def room_in(self, connection: sa.Connection, counted: Counted, *, limits: Limits, facts: Facts) -> Room:
        """How many identifiers a run may ask by what was counted: the tightest limit decides."""
        rooms = [Room(limits.max_credits_at_risk - counted.of_endpoint.at_risk, "risk")]
        if limits.max_credits is not None:
            rooms.append(Room(limits.max_credits - counted.of_run.used, "credits"))
        rooms += self._rooms_of_caps(connection, limits, facts)
        return min(rooms, key=lambda room: room.credits)

    def left_by_caps(self, *, limits: Limits) -> dict[Short, int]:
        """Credits that the caps on a "day" and a "month" leave, of those that are set."""
        with self._database.reading() as connection:
            rooms = self._rooms_of_caps(connection, limits, read_facts(connection))
        return {room.short_of: max(0, room.credits) for room in rooms}

    def _rooms_of_caps(self, connection: sa.Connection, limits: Limits, facts: Facts) -> list[Room]:
        ledger_caps = _caps(facts)
        day = datetime.fromtimestamp(self._clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        periods: list[tuple[Period, int | None, datetime]] = [
            ("day", limits.max_credits_per_day, day),
            ("month", limits.max_credits_per_month, day.replace(day=1)),
        ]
        rooms: list[Room] = []
        for period, limit, start in periods:
            caps = [cap for cap in (ledger_caps[period], limit) if cap is not None]
            if caps:
                used = counters.since(connection, self._endpoint, start).used
                rooms.append(Room(min(caps) - used, period))
        return rooms

    def caps(self) -> dict[Period, int | None]:
        """The ledger's own caps; None for none."""
        with self._database.reading() as connection:
            return _caps(read_facts(connection))

    def set_cap(self, period: Period, cap: int | None) -> None:
        """Cap what all runs on this ledger may spend in a day or month of UTC; None lifts the cap."""
        name = _CAP_NAMES[period]
        with self._database.transaction() as connection:
            connection.execute(sa.delete(meta).where(meta.c.name == name))
            if cap is not None:
                connection.execute(sa.insert(meta).values(name=name, value=str(cap).encode()))


def _caps(facts: Facts) -> dict[Period, int | None]:
    return {period: int(facts[name]) if name in facts else None for period, name in _CAP_NAMES.items()}
