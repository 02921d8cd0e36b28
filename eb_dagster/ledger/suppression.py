"""The suppression list: who must never be sent or handed out, by keyed hash, at every endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.schema import Facts, meta, suppressed

_VERSION: Final = "suppression_version"
_SELECT_VERSION: Final = sa.select(meta.c.value).where(meta.c.name == _VERSION)
_SELECT_KEYS: Final = sa.select(suppressed.c.key)


@dataclass(frozen=True, slots=True)
class SuppressionList:
    """The list at one time. Each change has a higher version."""

    version: int
    keys: frozenset[bytes] = field(repr=False)


class Suppression:
    """Reads and changes the list. The methods with a `connection` are part of its transaction."""

    def __init__(
        self, database: Database, *, key_of: Callable[[Identifier], bytes], clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._key_of = key_of
        self._clock = clock
        self._newest: SuppressionList | None = None

    def current(self) -> SuppressionList:
        """The list as it is now. Read anew only if it has changed."""
        with self._database.reading() as connection:
            version = self.version_in(connection)
            if self._newest is None or version != self._newest.version:
                self._newest = SuppressionList(version, frozenset(_read_keys(connection)))
            return self._newest

    def last_read(self) -> SuppressionList:
        """The list as it was when it was last read: for what checks its version before it counts."""
        return self._newest or self.current()

    def matching(
        self, identifiers: Iterable[Identifier], *, among: SuppressionList | None = None
    ) -> set[Identifier]:
        """Those of `identifiers` that are on the list as it is now, or on the one given."""
        keys = (self.current() if among is None else among).keys
        return (
            {identifier for identifier in identifiers if self._key_of(identifier) in keys} if keys else set()
        )

    def add(self, identifiers: Iterable[Identifier]) -> int:
        """Keep these people from ever being sent. Returns how many identifiers were not on the list before."""
        with self._database.transaction() as connection:
            return self.add_in(connection, identifiers)

    def add_in(self, connection: sa.Connection, identifiers: Iterable[Identifier]) -> int:
        """The same, in this transaction."""
        new = {self._key_of(identifier) for identifier in identifiers} - _read_keys(connection)
        if new:
            rows = [{"key": key, "at": self._clock()} for key in sorted(new)]
            connection.execute(sa.insert(suppressed), rows)
            self._count_change(connection)
        return len(new)

    def remove(self, identifiers: Iterable[Identifier]) -> int:
        """Take identifiers off the list. Returns how many were on it."""
        keys = sorted({self._key_of(identifier) for identifier in identifiers})
        with self._database.transaction() as connection:
            removed = sum(
                connection.execute(sa.delete(suppressed).where(suppressed.c.key == key)).rowcount
                for key in keys
            )
            if removed:
                self._count_change(connection)
        return removed

    @staticmethod
    def version_in(connection: sa.Connection) -> int:
        """The list's version, as this transaction sees it."""
        return int(connection.execute(_SELECT_VERSION).scalar() or b"0")

    @staticmethod
    def version_by(facts: Facts) -> int:
        """The list's version, by what was read of the table `meta`."""
        return int(facts.get(_VERSION, b"0"))

    def _count_change(self, connection: sa.Connection) -> None:
        version = self.version_in(connection) + 1
        connection.execute(sa.delete(meta).where(meta.c.name == _VERSION))
        connection.execute(sa.insert(meta).values(name=_VERSION, value=str(version).encode()))


def _read_keys(connection: sa.Connection) -> set[bytes]:
    return {bytes(key) for key in connection.execute(_SELECT_KEYS).scalars()}
