"""One case for several processes, and the check of every promise after it."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd

from tests.faults import workers
from tests.faults.campaign import enrich
from tests.faults.cases import Figures, Phase, Place, Verdict
from tests.faults.places import CANARIES, holds_key, listening, names_below, wait_for
from tests.faults.server.people import KEY, Pair, name_of

Play = Callable[[Place], Verdict]
"""Plays a scene and judges it."""


UNTRUSTED = ("LedgerError", "Unavailable")
"""The errors of a run that cannot trust or reach its ledger."""


def leads(first: int, last: int) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"canary.lead{number}@firm.example" for number in range(first, last)]})


def work(
    frame: pd.DataFrame, settings: dict[str, Any], result: Path, clock: float = 0.0, zone: str = ""
) -> None:
    """What a process does: enrich, and write what came of it into a file."""
    if zone:
        os.environ["TZ"] = zone
        time.tzset()
    if clock:
        _put_clock(clock)
    with listening() as heard:
        try:
            phase = enrich(frame, settings, heard)
        except KeyboardInterrupt:
            sys.exit(130)
    draft = result.with_suffix(".draft")
    draft.write_bytes(pickle.dumps((phase, heard.texts)))
    draft.rename(result)


def _put_clock(seconds: float) -> None:
    """Make the clock of this process wrong by that many seconds."""
    from eb_dagster.ledger.ledger import Ledger

    real = time.time
    time.time = lambda: real() + seconds
    # The ledger keeps the clock that there was when it was imported.
    defaults = Ledger.__init__.__kwdefaults__
    assert defaults is not None
    assert defaults["clock"] is real
    defaults["clock"] = time.time


class Scene:
    """One case for several processes, and what is asked of it afterwards."""

    def __init__(self, name: str, place: Place, **settings: Any) -> None:
        self.name, self.place, self.vendor = name, place, place.vendor
        self.case, self.folder, self.ledger = place.new_case("together")
        self.settings: dict[str, Any] = {
            "api_key": KEY,
            "base_url": self.vendor.url(self.case),
            "ledger": self.ledger,
            "partition_size": 20,
            "requests_per_minute": 6_000,
            "timeout": 10.0,
            "progress": False,
            **settings,
        }
        self.complaints: list[str] = []
        self.texts: list[str] = []
        self.results: dict[BaseProcess, Path] = {}
        self.doubt_bound = 0
        """How many may be in doubt in the end."""

    def start(
        self, frame: pd.DataFrame, *, clock: float = 0.0, zone: str = "", **settings: Any
    ) -> BaseProcess:
        result = self.folder / f"result{len(self.results)}"
        process = workers.start(work, frame, {**self.settings, **settings}, result, clock, zone)
        self.results[process] = result
        return process

    def result(self, process: BaseProcess, *, seconds: float = 180.0) -> Phase:
        """What a process found; an empty phase if it found nothing."""
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            self.complain(f"a process was still running after {seconds:.0f} s: a deadlock?")
        try:
            phase, texts = pickle.loads(self.results[process].read_bytes())
        except FileNotFoundError:
            return Phase(None, f"exit code {process.exitcode}", {}, 0.0)
        self.texts += texts
        return phase

    def here(self, frame: pd.DataFrame, **settings: Any) -> Phase:
        """A run in this process."""
        mark = self.vendor.mark(self.case)
        with listening() as heard:
            phase = enrich(frame, {**self.settings, **settings}, heard)
        self.texts += heard.texts
        phase.events = self.vendor.events(self.case, since=mark)
        return phase

    def charged(self) -> Counter[Pair]:
        """How often each identifier was charged so far."""
        return Phase(None, "", {}, 0.0, events=self.vendor.events(self.case)).charged()

    def arrived(self) -> int:
        return sum(event["what"] == "arrived" for event in self.vendor.events(self.case))

    def await_requests(self, count: int) -> None:
        wait_for(lambda: self.arrived() >= count)

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def expect(self, is_so: bool, text: str) -> None:
        if not is_so:
            self.complain(text)

    def close(self, frame: pd.DataFrame, **settings: Any) -> Verdict:
        """Run twice without faults over everything; then check every promise."""
        before = Phase(None, "", {}, 0.0, events=self.vendor.events(self.case))
        self.vendor.script(self.case)
        second, third = (self.here(frame, **settings) for _ in range(2))
        figures = Figures(cases=1, variants={self.name})
        everything = Counter[Pair]()
        for phase in (before, second, third):
            everything += phase.charged()
        figures.charged = everything.total()
        figures.charged_twice = sum(count - 1 for count in everything.values())
        self.expect(not figures.charged_twice, f"{figures.charged_twice} were charged twice")
        self.expect(not second.ended, f"the clean run ended with {second.ended}")
        statuses, charged = second.statuses(), before.charged()
        if second.frame is not None:
            known = ("matched", "in_doubt", "unreadable")
            figures.lost = sum(statuses.get(pair) not in known for pair in charged)
            figures.forgotten = len(set(charged) & second.asked())
            self.expect(not figures.lost, f"{figures.lost} that were charged have no answer")
            self.expect(not figures.forgotten, f"{figures.forgotten} that were charged were asked again")
            self.check_rows(second)
        doubtful = [pair for pair, status in statuses.items() if status == "in_doubt"]
        figures.in_doubt = len(doubtful)
        figures.in_doubt_free = sum(pair not in charged for pair in doubtful)
        figures.largest_doubt = len(doubtful) / self.doubt_bound if self.doubt_bound else 0.0
        self.expect(
            len(doubtful) <= self.doubt_bound,
            f"{len(doubtful)} in doubt, {self.doubt_bound} at most were expected",
        )
        figures.rerun_requests = third.requests()
        self.expect(not third.requests(), f"a third run sent {third.requests()} requests")
        said = [hit for text in self.texts for hit in CANARIES.findall(text)]
        figures.leaks = len(said) + bool(CANARIES.search(names_below(self.folder))) + holds_key(self.folder)
        self.expect(not figures.leaks, "the key or a person was said")
        figures.broken = bool(self.complaints)
        return Verdict(f"{self.name}, {self.place.database}", self.complaints, figures)

    def check_rows(self, phase: Phase) -> None:
        assert phase.frame is not None
        matched = phase.frame[phase.frame["eb_status"] == "matched"]
        own = [name_of("email", query) for query in matched["eb_query"]]
        self.expect(matched["eb_full_name"].tolist() == own, "rows hold other persons")
