import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from eb_dagster import Enricher, sandbox
from tests.databases import PostgreSQL

# A pipeline that a test runs beside ours would tell dlt's makers.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

# Hundreds of processes import the package; only the first of them should have to compile it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A loaded machine is no fault of the code: examples are counted, not timed.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


# A shell starts what runs in the background with Ctrl-C ignored, and whatever that starts inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL, started when the first test asks for it. It stays up: others need it too."""
    with own_server() as server:
        yield server


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """One for a test that takes it down, so that whatever becomes of it is that test's alone."""
    with own_server() as server:
        yield server


@contextmanager
def own_server() -> Iterator[PostgreSQL]:
    # Not pytest's own folder: the path of a socket must be short, and another user has to get in.
    with tempfile.TemporaryDirectory(prefix="ledger") as folder:
        server = PostgreSQL(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger may be, on each kind of database in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Callable[..., sandbox.Sandbox]]:
    """Start sandboxes with given settings; all stop at the end."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            sandbox.running(bill=tmp_path / "bill.db", requests_per_minute=100_000, **settings)
        )


@pytest.fixture
def enricher(tmp_path: Path) -> Iterator[Callable[..., Enricher]]:
    """Open enrichers on one ledger; all are closed at the end."""
    with ExitStack() as stack:

        def start(api: sandbox.Sandbox, **settings: Any) -> Enricher:
            usual = {
                "api_key": "canary-key", "base_url": api.url, "ledger": tmp_path / "ledger.db",
                "requests_per_minute": 60_000, "progress": False, "timeout": 5.0,
            }  # fmt: skip
            return stack.enter_context(Enricher(**{**usual, **settings}))

        yield start
