"""How far a run is, and what is left of it in seconds and credits, by the pace of its last answers.

Pure: it is told the moments.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.report import Report

_EVENTS: Final = 64
"""So many are looked back on: what the ledger answered at once, at the beginning, is soon forgotten."""


class Forecast:
    """What a run comes to, of so many rows. With a plan, it counts answers, which come more evenly.

    `max_credits` is the run's cap, which may end it before its rows do.
    """

    def __init__(self, rows: int, plan: Plan | None = None, *, max_credits: int | None = None) -> None:
        self.plan = plan
        self._max_credits = max_credits
        self._rows = rows
        # Moment, share and credits, whenever the share has grown. The wait for the first answer is
        # no part of the pace.
        self._events: deque[tuple[float, float, int]] = deque(maxlen=_EVENTS)

    def note(self, report: Report, *, now: float) -> None:
        """Take in where the run is. `now` is in seconds of any clock that does not jump."""
        share = self.share(report)
        if share > (self._events[-1][1] if self._events else 0.0):
            self._events.append((now, share, report.credits_charged))

    def share(self, report: Report) -> float:
        """How much of the run is done, from 0 to 1."""
        # A stream may bring more rows than it said.
        done = min(1.0, report.rows / self._rows) if self._rows else 1.0
        asked = 0.0
        if self.plan is not None and self.plan.to_ask:
            # A miss leads to the next question.
            missed = max(0.0, 1 - report.credits_charged / report.answers) if report.answers else 0.5
            further = self.plan.to_ask_at_most - self.plan.to_ask
            asked = report.answers / (self.plan.to_ask + further * missed)
        if self._max_credits is not None:
            asked = max(asked, report.credits_charged / max(self._max_credits, 1))
        return max(done, min(0.99, asked))

    def seconds_left(self, *, now: float) -> float | None:
        """Until the last row is out; None until there is a pace."""
        if len(self._events) < 2:
            return None
        (began, first, _), (at, last, _) = self._events[0], self._events[-1]
        return max(0.0, (1 - last) * (at - began) / (last - first) - (now - at))

    def credits_in_all(self) -> int | None:
        """What the whole run will be charged; None until there is a pace."""
        if len(self._events) < 2:
            return None
        (_, first, before), (_, last, spent) = self._events[0], self._events[-1]
        expected = round(spent + (1 - last) * (spent - before) / (last - first))
        return expected if self._max_credits is None else min(expected, self._max_credits)

    def words(self, *, now: float, is_short: bool = False) -> str:
        """Both, to be put behind other words; the seconds alone if it is to be short. Nothing without a pace."""
        seconds, charged = self.seconds_left(now=now), self.credits_in_all()
        if seconds is None or charged is None:
            return ""
        left = f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
        if is_short:
            return f", {left} left"
        return f", about {left} left and {charged:,} credits in all"
