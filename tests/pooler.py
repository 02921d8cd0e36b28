"""A real PgBouncer between a test and its PostgreSQL, where one is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FOUND = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextlib.contextmanager
def pooled(url: str, folder: Path, *, mode: str = "transaction") -> Generator[str]:
    """The address of the same database through a pooler that lends a session for one transaction at a time."""
    assert FOUND is not None
    parts = urlsplit(url)
    behind = parse_qs(parts.query)["host"][0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    name, user = parts.path.strip("/"), parts.username or "postgres"
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{name} = host={behind} user={user}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 12\n"
    )
    words = [FOUND, "-q", str(settings)]
    if os.geteuid() == 0:
        # PgBouncer refuses to run as the superuser, and only its owner may use the server's socket.
        for path in (folder, *folder.parents[:-1]):
            path.chmod(path.stat().st_mode | 0o055)
        words += ["-u", Path(behind).owner()]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            assert process.poll() is None, "the pooler has ended"
            assert time.monotonic() < deadline, "the pooler does not listen"
            time.sleep(0.05)
        yield f"postgresql://{user}@127.0.0.1:{port}/{name}"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
