"""Where tables of contacts were published, so that `forget` finds them."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.schema import published


class Publications:
    """The paths of published tables that a ledger remembers."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def note(self, path: str) -> None:
        """Remember that a table was published there."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(published).where(published.c.path == path))
            connection.execute(sa.insert(published).values(path=path, at=self._clock()))

    def has(self, path: str) -> bool:
        """Whether a table of this ledger's contacts was published there."""
        with self._database.reading() as connection:
            query = sa.select(published.c.path).where(published.c.path == path)
            return connection.execute(query).first() is not None

    def paths(self) -> list[str]:
        """All paths, in order."""
        with self._database.reading() as connection:
            query = sa.select(published.c.path).order_by(published.c.path)
            return list(connection.execute(query).scalars())
