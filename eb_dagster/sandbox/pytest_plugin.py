"""The pytest plugin: `exactbuyer_sandbox` is a running sandbox for one test of a project that uses eb_dagster.

The fixture sets EXACTBUYER_BASE_URL, EXACTBUYER_API_KEY and EB_DAGSTER_LEDGER for the test, so that code under test
buys from it and remembers in a ledger of the test's own. What it does wrong is chosen with a mark:

    @pytest.mark.exactbuyer(faults=["reset-after@1"], match_rate=1.0, credits=100)
    def test_my_job_survives(exactbuyer_sandbox): ...
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from eb_dagster.sandbox.stand_in import Sandbox

_MARK: Final = "exactbuyer"
# Tests do not wait for the vendor's pace, unless they ask for it.
_USUAL: Final = {"requests_per_minute": 100_000, "match_rate": 1.0}


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        f"{_MARK}(faults=[…], credits=…, match_rate=…, latency=…, api_key=…, requests_per_minute=…): how the sandbox "
        "of `exactbuyer_sandbox` behaves",
    )


@pytest.fixture
def exactbuyer_sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Sandbox]:
    """A running sandbox, which finds everybody and answers every request if the mark says nothing else.

    `.requests()`, `.credits()`, `.charged_twice()` and `.charges()` read its bill; `.fail_next("reset-after")` lets
    the next request go wrong; `.url` is its address.
    """
    from eb_dagster.sandbox.stand_in import running

    settings = _settings(request)
    with running(bill=tmp_path / "exactbuyer-bill.db", **settings) as sandbox:
        monkeypatch.setenv("EXACTBUYER_BASE_URL", sandbox.url)
        monkeypatch.setenv("EXACTBUYER_API_KEY", settings.get("api_key") or "sandbox")
        monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "exactbuyer-ledger.db"))
        yield sandbox


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    from eb_dagster.sandbox.faults import Fault

    settings: dict[str, Any] = {**_USUAL}
    for mark in reversed(list(request.node.iter_markers(_MARK))):
        settings |= mark.kwargs
    faults: Sequence[str | Fault] = settings.pop("faults", ())
    read = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
    return {**settings, "faults": read}
