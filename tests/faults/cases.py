"""What a case is run on, and what came of it."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from tests.busy import allowed
from tests.databases import PostgreSQL

from .counts import Counts
from .places import VendorProcess
from .server.people import Pair


def slack() -> float:
    """Seconds that a busy machine may add to what is promised within one."""
    return allowed(2.0, at_most=8.0)


@dataclass
class Phase:
    """One run of the client, seen from outside."""

    frame: pd.DataFrame | None
    ended: str
    """Name and status of the error that ended it; "" if none did."""
    report: dict[str, Any]
    seconds: float
    memory: int = 0
    """By how many bytes the peak grew, for a run in a process of its own."""
    events: list[dict[str, Any]] = field(default_factory=list)

    def requests(self) -> int:
        return sum(event["what"] == "arrived" for event in self.events)

    def asked(self, requests: set[int] | None = None) -> set[Pair]:
        """The identifiers whose whole request came in, of all requests or of some."""
        return {
            (kind, value)
            for event in self.events
            if event["what"] == "asked" and (requests is None or event["request"] in requests)
            for kind, value in event["values"]
        }

    def charged(self) -> Counter[Pair]:
        return Counter(
            (kind, value)
            for event in self.events
            if event["what"] == "charged"
            for kind, value in event["values"]
        )

    def faulty(self) -> set[int]:
        """The numbers of the requests at which something went wrong."""
        return {event["request"] for event in self.events if event["what"] == "fault"}

    def statuses(self) -> dict[Pair, str]:
        if self.frame is None:
            return {}
        frame = self.frame.dropna(subset=["eb_query"])
        pairs = zip(frame["eb_field_type"], frame["eb_query"], strict=True)
        return dict(zip(pairs, frame["eb_status"], strict=True))


@dataclass
class Figures(Counts):
    """What a campaign counts, over one case or many."""

    largest: ClassVar[frozenset[str]] = frozenset({"overshoot", "largest_doubt", "memory"})

    cases: int = 0
    variants: set[str] = field(default_factory=set[str])
    charged: int = 0
    charged_twice: int = 0
    outside: int = 0
    """Charged twice by a vendor that does what docs/assumptions.md assumes it does not."""
    lost: int = 0
    forgotten: int = 0
    wrong_rows: int = 0
    leaks: int = 0
    in_doubt: int = 0
    in_doubt_free: int = 0
    largest_doubt: float = 0.0
    """As a share of its bound."""
    saved: int = 0
    rerun_requests: int = 0
    overshoot: float = 0.0
    memory: int = 0
    broken: int = 0


@dataclass
class Verdict:
    """What was wrong, in words, and the figures of the case."""

    name: str
    complaints: list[str]
    figures: Figures


@dataclass
class Place:
    """Where cases are run: a vendor and a kind of ledger."""

    vendor: VendorProcess
    postgresql: PostgreSQL | None
    folder: Path
    certificates: dict[str, Path]

    @property
    def database(self) -> str:
        return "PostgreSQL" if self.postgresql else "SQLite"

    def new_case(self, label: str) -> tuple[str, Path, str]:
        """A name, a folder and a ledger that nobody has used."""
        name = f"{self.database.lower()}{label}{uuid.uuid4().hex[:12]}"
        folder = self.folder / name
        folder.mkdir(parents=True, mode=0o700)
        ledger = self.postgresql.database(name) if self.postgresql else str(folder / "ledger.db")
        return name, folder, ledger
