"""Send as fast as is allowed, from several processes, without being refused by any window.

The vendor's 429 page is the stock page of Flask-Limiter, so the windows are those of the library
under it. The short form is scaled down in time; the jitter of the network is scaled with it.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from . import workers
from .campaign import enrich
from .cases import Place
from .places import listening
from .server.limits import WINDOWS
from .server.people import KEY

ALLOWED = 200
SHARE = 0.99
"""Of the allowed rate. The rest is the margin for jitter: 0.6 s of a minute."""


@dataclass(frozen=True)
class Pace:
    """The result of a run against one window."""

    window: str
    database: str
    requests: int
    refused: int
    share: float
    """Of the allowed rate, over the time from the first request to the last."""
    charged_twice: int
    ended: tuple[str, ...]

    @property
    def refused_of_ten_thousand(self) -> float:
        return 10_000 * self.refused / max(1, self.requests)


def run_at_pace(
    place: Place,
    *,
    windows: tuple[str, ...],
    processes: int,
    allowed: int,
    window_seconds: int,
    seconds: float,
) -> list[Pace]:
    """Run against each window at the same time, each on a ledger of its own."""
    each = int(SHARE * allowed * seconds / window_seconds / processes) + 2
    cases: dict[str, str] = {}
    running: list[tuple[str, Any, Path]] = []
    with tempfile.TemporaryDirectory() as folder:
        for window in windows:
            case, _, ledger = place.new_case(f"pace{window}")
            cases[window] = case
            place.vendor.script(
                case,
                limit={"window": window, "amount": allowed, "seconds": window_seconds},
                latency=(0.0, 0.01 * window_seconds),
                match_rate=0.5,
            )
            for number in range(processes):
                settings = {
                    "api_key": KEY, "base_url": place.vendor.url(case), "ledger": ledger, "partition_size": 1,
                    "requests_per_minute": SHARE * allowed * 60 / window_seconds, "timeout": 30.0, "progress": False,
                }  # fmt: skip
                frame = pd.DataFrame(
                    {"email": [f"canary.pace{number}n{index}@firm.example" for index in range(each)]}
                )
                result = Path(folder) / f"{window}{number}"
                running.append((window, workers.start(_work, frame, settings, result), result))
        for _, process, _ in running:
            process.join(4 * seconds + 60)
            if process.is_alive():
                process.kill()
                process.join()
        return [
            _judge(place, window, case, tuple(_ended(path) for other, _, path in running if other == window))
            for window, case in cases.items()
        ]


def _work(frame: pd.DataFrame, settings: dict[str, Any], result: Path) -> None:
    with listening() as heard:
        ended = enrich(frame, settings, heard).ended
    result.write_text(ended or "done")


def _ended(result: Path) -> str:
    return result.read_text() if result.exists() else "not at all"


def _judge(place: Place, window: str, case: str, ended: tuple[str, ...]) -> Pace:
    events = place.vendor.events(case)
    limit = place.vendor.limit(case)
    arrived = sorted(event["time"] for event in events if event["what"] == "arrived")
    charged = [tuple(pair) for event in events if event["what"] == "charged" for pair in event["values"]]
    rate = (len(arrived) - 1) / (arrived[-1] - arrived[0]) if len(arrived) > 1 else 0.0
    return Pace(
        window, place.database, len(arrived), sum(event["what"] == "refused" for event in events),
        rate / (limit["amount"] / limit["seconds"]), len(charged) - len(set(charged)), ended,
    )  # fmt: skip


def figures(
    place: Place, *, windows: tuple[str, ...] = tuple(WINDOWS), processes: int = 4, minutes: float = 6.0
) -> list[tuple[str, str]]:
    """The rows of the campaign's table, from the long form."""
    started = time.monotonic()
    paces = run_at_pace(
        place, windows=windows, processes=processes, allowed=ALLOWED, window_seconds=60, seconds=60 * minutes
    )
    rows: list[tuple[str, str]] = []
    # 198 of 200 is 99.0 %; the first and the last request may each be late by the jitter.
    least = 0.9885 if minutes >= 6 else 0.5
    for pace in paces:
        name = f"pace: {pace.window} window, {pace.database}, {processes} processes, {minutes:g} minutes"
        rows.append(
            (name, f"{pace.requests:,} requests, {pace.refused_of_ten_thousand:.1f} refused of 10,000, "
             f"{pace.share:.1%} of the allowed rate")
        )  # fmt: skip
        if pace.refused or pace.share < least or pace.charged_twice or set(pace.ended) != {"done"}:
            rows.append(("pace: FAULT", f"{pace}"))
    return [*rows, ("pace: seconds", f"{time.monotonic() - started:.0f}")]
