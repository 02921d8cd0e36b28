"""What a provocation can use: an API that fails, a ledger, files and a database."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from eb_dagster import Enricher, sandbox
from tests.databases import PostgreSQL

KEY = "canary-key-1234"


@dataclass
class Scene:
    """A folder, a ledger and an API of its own for one provocation."""

    folder: Path
    closing: ExitStack
    postgresql: PostgreSQL
    monkeypatch: pytest.MonkeyPatch
    api: sandbox.Sandbox | None = None
    credits_before: int = 0
    """Credits charged before what is provoked."""

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def enricher(self, *, faults: str = "", match_rate: float = 1.0, **settings: Any) -> Enricher:
        if self.api is None:
            self.api = self._start_api(faults, match_rate)
        usual: dict[str, Any] = {
            "api_key": KEY,
            "base_url": self.api.url,
            "ledger": self.ledger,
            "requests_per_minute": 60_000,
            "progress": False,
            "timeout": 5.0,
        }
        return self.closing.enter_context(Enricher(**{**usual, **settings}))

    def _start_api(self, faults: str, match_rate: float) -> sandbox.Sandbox:
        running = sandbox.running(
            bill=self.folder / "bill.db",
            requests_per_minute=100_000,
            faults=[sandbox.Fault.parse(fault) for fault in faults.split()],
            match_rate=match_rate,
        )
        return self.closing.enter_context(running)

    def enrich(self, frame: Any = None, **settings: Any) -> Any:
        with self.enricher(**settings) as enricher:
            return enricher.enrich_dataframe(leads() if frame is None else frame)

    def buy(self, **settings: Any) -> None:
        """Buy before the provocation, which may charge no more."""
        self.enrich(**settings)
        self.credits_before = self.credits()

    def credits(self) -> int:
        return self.api.credits() if self.api else 0

    def file(self, name: str, content: bytes = b"") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def sql(self, statement: str, *values: Any) -> None:
        """Change the ledger behind the package's back."""
        engine = sa.create_engine(f"sqlite:///{self.ledger}")
        with engine.begin() as connection:
            connection.exec_driver_sql(statement, values)
        engine.dispose()


Act = Callable[[Scene], Any]
"""Provokes one error."""
Provocations = Mapping[str, Act]
"""What is provoked, in words, and how."""


def leads(count: int = 20) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"p{number}@canary.example" for number in range(count)]})
