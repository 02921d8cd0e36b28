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
from tests import compiled
from tests.databases import PostgreSQL

compiled.share()

# dlt would report each run of a pipeline to its makers.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

# Hundreds of processes import the package; only the first of them should have to compile it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Examples have no deadline: a loaded machine is no fault of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


# A shell starts background jobs with Ctrl-C ignored, and their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL for all tests, started when the first of them asks for it. None may stop it."""
    with own_server() as server:
        yield server


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL for one test, which may stop it."""
    with own_server() as server:
        yield server


@contextmanager
def own_server() -> Iterator[PostgreSQL]:
    # pytest's own folder will not do: the path of a socket must be short, and another user must reach it.
    with tempfile.TemporaryDirectory(prefix="ledger") as folder:
        server = PostgreSQL(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new ledger, on each kind of database in turn."""
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
                "requests_per_minute": 60_000, "progress": False, "timeout": 20.0,
            }  # fmt: skip
            return stack.enter_context(Enricher(**{**usual, **settings}))

        yield start
