import contextlib
from pathlib import Path
from typing import Any

import pytest

from eb_dagster import sandbox


@pytest.fixture
def start(tmp_path: Path):
    """Start sandboxes with given settings; all stop at the end."""
    with contextlib.ExitStack() as stack:

        def enter(**settings: Any) -> sandbox.Sandbox:
            usual = {"bill": tmp_path / "bill.db", "requests_per_minute": 100_000}
            return stack.enter_context(sandbox.running(**{**usual, **settings}))

        yield enter
