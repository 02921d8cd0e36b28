"""What is spent and at risk, counted with each change of a request, so that no claim sums all requests anew.

One row for all requests of an endpoint, for each run of it, and for each day of UTC on which requests were made. Every
change is part of the transaction that changes the request. A row that is damaged is counted anew from the requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import sqlalchemy as sa

from eb_dagster.ledger.entries import checksum
from eb_dagster.ledger.schema import counters, requests

_ALL: Final = "all"
_LAST_DAY: Final = "day:9999-12-31"
_ROWS_AT_ONCE: Final = 1_000

_counter, _column = counters.c, requests.c
_SELECT_SOME: Final = sa.select(counters).where(
    _counter.endpoint == sa.bindparam("endpoint"), _counter.name.in_(sa.bindparam("names", expanding=True))
)
_SELECT_BETWEEN: Final = sa.select(counters).where(
    _counter.endpoint == sa.bindparam("endpoint"),
    _counter.name >= sa.bindparam("first"),
    _counter.name <= sa.bindparam("last"),
)
_UPDATE: Final = sa.update(counters).where(
    _counter.endpoint == sa.bindparam("of_endpoint"), _counter.name == sa.bindparam("of_name")
)
_INSERT: Final = sa.insert(counters)
COUNTED_COLUMNS: Final = (
    _column.endpoint,
    _column.run,
    _column.created_at,
    _column.credits,
    _column.at_risk,
    _column.unreadable,
)
"""What has to be read of a request to count a change of it."""
_SELECT_COUNTED: Final = sa.select(*COUNTED_COLUMNS)


class Amounts(NamedTuple):
    """Credits: spent, at risk (in flight or in doubt), and asked without an answer that can be read."""

    credits: int = 0
    at_risk: int = 0
    unreadable: int = 0

    @property
    def used(self) -> int:
        """What counts as spent: all of it may have been paid for."""
        return sum(self)

    def plus(self, other: Amounts) -> Amounts:
        """Both together."""
        return Amounts(*map(sum, zip(self, other, strict=True)))

    def minus(self, other: Amounts) -> Amounts:
        """What changed since the other."""
        return Amounts(*(now - before for now, before in zip(self, other, strict=True)))


_NOTHING: Final = Amounts()
_Counters = dict[str, Amounts]


class _Damage(Exception):
    """A counter is not as it was written."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted of all requests of an endpoint, of one run of it, and of the day of a time."""

    endpoint: str
    run: str
    time: float
    amounts: Mapping[str, Amounts]
    is_trusted: bool
    """False if the counters are damaged or missing, and the requests were counted in their place."""

    @property
    def of_endpoint(self) -> Amounts:
        """What all requests of the endpoint come to."""
        return self.amounts.get(_ALL, _NOTHING)

    @property
    def of_run(self) -> Amounts:
        """What the requests of the run come to."""
        return self.amounts.get(_of_run(self.run), _NOTHING)

    def add(self, connection: sa.Connection, change: Amounts) -> None:
        """Count a change of a request of that run, made at that time. Part of its transaction, after the change."""
        if change == _NOTHING:
            return
        if not self.is_trusted:
            # With the change, which is made already.
            write_all(connection)
            return
        updates: list[dict[str, object]] = []
        inserts: list[dict[str, object]] = []
        for name in _names(self.run, self.time):
            values = _values(self.endpoint, name, self.amounts.get(name, _NOTHING).plus(change))
            if name in self.amounts:
                updates.append({"of_endpoint": self.endpoint, "of_name": name, **values})
            else:
                inserts.append({"endpoint": self.endpoint, "name": name, **values})
        if updates:
            connection.execute(_UPDATE, updates)
        if inserts:
            connection.execute(_INSERT, inserts)


def read(connection: sa.Connection, *, endpoint: str, run: str, time: float) -> Counted:
    """What is counted where a request of this run, made at that time, is counted."""
    try:
        known = _read(connection, _SELECT_SOME, endpoint, names=_names(run, time))
    except _Damage:
        known = _Counters()
    if _ALL in known or not _has_others(connection, endpoint):
        return Counted(endpoint, run, time, known, is_trusted=True)
    return Counted(endpoint, run, time, sums(connection)[endpoint], is_trusted=False)


def since(connection: sa.Connection, endpoint: str, day: datetime) -> Amounts:
    """What the requests come to that were made on that day of UTC or later."""
    first = _day(day)
    try:
        known = _read(connection, _SELECT_BETWEEN, endpoint, first=first, last=_LAST_DAY)
    except _Damage:
        counted = sums(connection)[endpoint]
        known = {name: amounts for name, amounts in counted.items() if first <= name <= _LAST_DAY}
    total = _NOTHING
    for amounts in known.values():
        total = total.plus(amounts)
    return total


def faults(connection: sa.Connection, counted: Mapping[str, Mapping[str, Amounts]]) -> list[str]:
    """How the counters differ from the sums over all requests (`Sums`), in words."""
    stored = connection.execute(sa.select(counters)).all()
    try:
        known = {(row.endpoint, row.name): _checked(row.endpoint, row.name, row) for row in stored}
    except _Damage:
        return [
            "the counters of what was spent are damaged; they are counted anew when they are next changed"
        ]
    expected = {
        (endpoint, name): amounts
        for endpoint, several in counted.items()
        for name, amounts in several.items()
    }
    differing = [
        place for place in {*known, *expected} if known.get(place, _NOTHING) != expected.get(place, _NOTHING)
    ]
    if not differing:
        return []
    return [f"what was spent is counted wrongly (counters that differ: {len(differing):,})"]


class Sums(dict[str, dict[str, Amounts]]):
    """The sums over requests, by endpoint and name of the counter."""

    def add(self, endpoint: str, run: str, created_at: float, amounts: Amounts) -> None:
        """Add what one request came to."""
        of_endpoint = self.setdefault(endpoint, defaultdict(Amounts))
        for name in _names(run, created_at):
            of_endpoint[name] = of_endpoint[name].plus(amounts)


def sums(connection: sa.Connection) -> defaultdict[str, _Counters]:
    """What the counters have to be, from all requests."""
    total = Sums()
    options = {"yield_per": _ROWS_AT_ONCE}
    for row in connection.execute(_SELECT_COUNTED, execution_options=options):
        amounts = Amounts(row.credits, row.at_risk, row.unreadable)
        total.add(row.endpoint, row.run, row.created_at, amounts)
    return defaultdict(dict, total)


def write_all(connection: sa.Connection) -> None:
    """Count everything anew."""
    connection.execute(sa.delete(counters))
    rows = [
        {"endpoint": endpoint, "name": name, **_values(endpoint, name, amounts)}
        for endpoint, several in sums(connection).items()
        for name, amounts in several.items()
    ]
    if rows:
        connection.execute(_INSERT, rows)


def _names(run: str, created_at: float) -> list[str]:
    return [_ALL, _of_run(run), _day(datetime.fromtimestamp(created_at, UTC))]


def _of_run(run: str) -> str:
    return f"run:{run}"


def _day(day: datetime) -> str:
    return f"day:{day:%Y-%m-%d}"


def _has_others(connection: sa.Connection, endpoint: str) -> bool:
    """Whether there are requests that must have been counted."""
    query = sa.select(_column.id).where(_column.endpoint == endpoint).limit(1)
    return connection.execute(query).scalar() is not None


def _read(
    connection: sa.Connection, query: sa.Select[tuple[object, ...]], endpoint: str, **chosen: object
) -> _Counters:
    rows = connection.execute(query, {"endpoint": endpoint, **chosen})
    return {row.name: _checked(endpoint, row.name, row) for row in rows}


def _checked(endpoint: str, name: str, row: sa.Row[tuple[object, ...]]) -> Amounts:
    amounts = Amounts(row.credits, row.at_risk, row.unreadable)
    if row.checksum != _checksum(endpoint, name, amounts):
        raise _Damage
    return amounts


def _checksum(endpoint: str, name: str, amounts: Amounts) -> int:
    return checksum(f"{endpoint} {name} {tuple(amounts)}".encode())


def _values(endpoint: str, name: str, amounts: Amounts) -> dict[str, int]:
    return {**amounts._asdict(), "checksum": _checksum(endpoint, name, amounts)}
