"""What an enrichment would ask and what it can cost at most. It sends nothing and stores nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.schema import STATUSES, Status
from eb_dagster.identifiers.arrays import distinct
from eb_dagster.identifiers.offers import Numbers
from eb_dagster.ledger.entries import Keys
from eb_dagster.pipeline.facts import html_table, money, one_row, text_table, unusable_facts
from eb_dagster.pipeline.rows import Codes, State
from eb_dagster.pipeline.window import Block, Window

if TYPE_CHECKING:
    import pandas as pd

# Odd numbers by which the keys of a row's steps are told apart when they are made one.
_MULTIPLIERS: Final = np.array(
    [0x9E3779B97F4A7C15 * (2 * step + 1) % 2**64 for step in range(32)], dtype=np.uint64
)
MOST_SENDERS: Final = 48
"""The threads that send, at most: each holds one request until it is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """How much may be under way at once."""

    max_credits_at_risk: int
    partition_size: int

    @property
    def senders(self) -> int:
        """Threads that send."""
        return max(1, min(MOST_SENDERS, self.max_credits_at_risk))

    @property
    def identifiers(self) -> int:
        """Identifiers, in requests of any size."""
        return min(self.max_credits_at_risk, self.senders * self.partition_size)

    @property
    def full_requests(self) -> int:
        """Requests of `partition_size`, as far as `max_credits_at_risk` allows them."""
        return max(1, self.max_credits_at_risk // self.partition_size)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an enrichment would ask and what it can cost at most. Prints well, also in a notebook.

    Credits are the vendor's: one for each record found.
    """

    rows: int
    identifiers: int
    """Distinct identifiers in canonical form."""
    invalid: Mapping[str, int]
    """Rows without a usable identifier, by reason."""
    suppressed: int
    folded: int
    """Identifiers that stand in more than one row: each is one question."""
    matched_in_ledger: int
    missed_in_ledger: int
    in_doubt: int
    unreadable: int
    to_ask: int
    """Distinct identifiers of the first step."""
    to_ask_at_most: int
    """Distinct identifiers if every one of them is a miss."""
    requests: int
    """Requests of the first step."""
    requests_at_most: int
    credits_at_most: int
    """What the vendor can charge at most, before `max_credits`."""
    max_credits: int | None
    requests_per_minute: float
    in_flight_at_most: int
    """Requests that may be under way at once, by `max_credits_at_risk`."""
    unusable: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows with a cell, or a part of one, that is passed over, by reason; the row itself may be fine."""
    credits_left_today: int | None = None
    """What the daily cap of all runs on the ledger leaves; None without one."""
    credits_left_this_month: int | None = None
    price: float | None = None
    """Of one credit, if it was given: costs are then in money."""

    @property
    def spends_at_most(self) -> int:
        """Credits that a run can be charged at most, inside every cap that is set."""
        caps = (self.max_credits, self.credits_left_today, self.credits_left_this_month)
        return min(self.credits_at_most, *(cap for cap in caps if cap is not None), sys.maxsize)

    @property
    def slow_reply_seconds(self) -> float:
        """If replies take longer than this, `max_credits_at_risk` bounds the speed; else `requests_per_minute`."""
        return 60 * self.in_flight_at_most / self.requests_per_minute

    @property
    def minutes_at_least(self) -> float:
        """At the pace of `requests_per_minute`, for the first step."""
        return self.requests / self.requests_per_minute

    def facts(self, *, price: float | None = None) -> list[tuple[str, str]]:
        """The plan line by line; with the price of a credit, what it costs."""
        price = self.price if price is None else price
        cap = "none" if self.max_credits is None else f"{self.max_credits:,}"
        requests = f"{self.requests:,}"
        if self.requests_at_most > self.requests:
            requests += f" to {self.requests_at_most:,}"
        facts = [
            ("rows", f"{self.rows:,}"),
            ("distinct identifiers", f"{self.identifiers:,}"),
            *unusable_facts(self.invalid, self.unusable),
            ("rows suppressed", f"{self.suppressed:,}"),
            ("repeats (asked once)", f"{self.folded:,}"),
            ("rows answered from the ledger", f"{self.matched_in_ledger + self.missed_in_ledger:,}"),
            ("rows in doubt", f"{self.in_doubt:,}"),
            ("identifiers to ask first", f"{self.to_ask:,}"),
            ("requests", requests),
            ("minutes at least", self._minutes()),
            ("credits at most", f"{self.credits_at_most:,}"),
            ("max_credits", cap),
        ]
        for period, credits_left in (
            ("today", self.credits_left_today),
            ("this month", self.credits_left_this_month),
        ):
            if credits_left is not None:
                facts.append((f"credits left {period} by the cap", f"{credits_left:,}"))
        if price is not None:
            facts.append(("costs at most", money(self.spends_at_most, price)))
        return facts

    def _minutes(self) -> str:
        minutes = f"{self.minutes_at_least:.1f}"
        if self.requests <= self.in_flight_at_most:
            return minutes
        return f"{minutes}, more if replies take over {self.slow_reply_seconds:.1f} s (max_credits_at_risk)"

    def to_dict(self, *, price: float | None = None) -> dict[str, Any]:
        """The plan as plain numbers and dicts."""
        plain = {column.name: getattr(self, column.name) for column in fields(self)}
        plain["invalid"] = dict(self.invalid)
        plain["unusable"] = dict(self.unusable)
        plain["minutes_at_least"] = self.minutes_at_least
        price = plain["price"] = self.price if price is None else price
        if price is not None:
            plain["cost_at_most"] = round(self.spends_at_most * price, 6)
        return plain

    def to_frame(self) -> pd.DataFrame:
        """The plan as a dataframe of one row, with a column for each figure and each part, as `invalid.blank`."""
        return one_row(self.to_dict())

    def __str__(self) -> str:
        return text_table(self.facts())

    def _repr_html_(self) -> str:
        return html_table(self.facts(), title="Plan: nothing was sent")


class PlanCount:
    """Adds up a plan block by block. Keeps 8 bytes for each identifier and step, and no rows."""

    def __init__(self) -> None:
        # Of open rows, then by the index of each status.
        self._statuses = np.zeros(len(STATUSES) + 1, dtype=np.int64)
        self._invalid: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._offered_identifiers = 0
        self._identifiers = _KeySet()
        self._asked_first = _KeySet()
        self._asked_in_step: list[_KeySet] = []
        self._offers = _KeySet()

    def add(self, window: Window, block: Block) -> None:
        """Count a block that was taken in; the window has no other, and lets go of it."""
        table = window.slots.table
        if block.has_choice:
            # What an earlier block asks is not asked again, and its row asks nothing else.
            open_slots = block.new_slots[table["state"][block.new_slots] == State.OPEN]
            is_asked = self._asked_first.contains(_first_bytes(table["key"][open_slots]))
            table["state"][open_slots[is_asked]] = State.QUEUED
        window.start(block)
        status = window.status_of(block)
        self._statuses += np.bincount(status + 1, minlength=len(STATUSES) + 1)
        self._offered_identifiers += len(block.offers.identifiers)
        self._invalid.update(block.offers.count_invalid())
        self._unusable.update(block.offers.count_unusable())
        self._identifiers.add(_first_bytes(table["key"][block.new_slots]))
        self._asked_first.add(_first_bytes(table["key"][window.queued]))
        counts, slots = window.open_questions(block)
        self._add_open_rows(counts, _first_bytes(table["key"][slots]), table["state"][slots])
        window.clear()

    def _add_open_rows(self, counts: Numbers, halves: npt.NDArray[np.uint64], states: Codes) -> None:
        """Count rows that are open, with the first bytes and states of what they offer, row after row."""
        if not len(counts):
            return
        starts = np.cumsum(counts) - counts
        step = np.arange(len(halves)) - np.repeat(starts, counts)
        # One key for all that a row offers.
        self._offers.add(np.add.reduceat(halves * _MULTIPLIERS[step % len(_MULTIPLIERS)], starts))
        is_to_ask = states != State.MISSED
        before = np.cumsum(is_to_ask) - is_to_ask
        step = before - np.repeat(before[starts], counts)
        for number in range(int(step[is_to_ask].max(initial=-1)) + 1):
            if len(self._asked_in_step) <= number:
                self._asked_in_step.append(_KeySet())
            self._asked_in_step[number].add(halves[is_to_ask & (step == number)])

    def _count(self, status: Status) -> int:
        return int(self._statuses[1 + STATUSES.index(status)])

    def plan(
        self,
        *,
        partition_size: int,
        max_credits: int | None,
        max_credits_at_risk: int,
        requests_per_minute: float,
        credits_left_today: int | None = None,
        credits_left_this_month: int | None = None,
    ) -> Plan:
        """The plan of all blocks."""
        in_flight = InFlight(max_credits_at_risk=max_credits_at_risk, partition_size=partition_size)
        asked_at_most = _KeySet()
        # Each identifier counts in the first step that may ask it.
        step_sizes = [asked_at_most.merge(step) for step in self._asked_in_step]
        to_ask = len(self._asked_first)
        requests = -(-to_ask // partition_size)
        return Plan(
            rows=int(self._statuses.sum()),
            identifiers=len(self._identifiers),
            invalid=dict(self._invalid),
            suppressed=self._count("suppressed"),
            folded=self._offered_identifiers - len(self._identifiers),
            matched_in_ledger=self._count("matched"),
            missed_in_ledger=self._count("not_found"),
            in_doubt=self._count("in_doubt"),
            unreadable=self._count("unreadable"),
            to_ask=to_ask,
            to_ask_at_most=len(asked_at_most),
            requests=requests,
            requests_at_most=max(sum(-(-size // partition_size) for size in step_sizes), requests),
            credits_at_most=min(len(asked_at_most), len(self._offers)),
            max_credits=max_credits,
            requests_per_minute=requests_per_minute,
            in_flight_at_most=in_flight.full_requests,
            unusable=dict(self._unusable),
            credits_left_today=credits_left_today,
            credits_left_this_month=credits_left_this_month,
        )


class _KeySet:
    """A set of keys. It keeps the first 8 bytes of each: as Python objects they would take 100.

    They are in sorted runs, of which each is less than half as long as the one before it: what is put in is
    merged with runs of its own length, and not with all that is there. A key may be in several runs.
    """

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []

    def __len__(self) -> int:
        if len(self._runs) > 1:
            self._runs = [distinct(np.sort(np.concatenate(self._runs)))]
        return sum(map(len, self._runs))

    def add(self, values: npt.NDArray[np.uint64]) -> None:
        """Put keys in."""
        self._insert(distinct(np.sort(values)))

    def merge(self, other: _KeySet) -> int:
        """Put in what another set holds. Returns how many were new."""
        before = len(self)
        for run in other._runs:
            self._insert(run)
        return len(self) - before

    def contains(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which of the keys are in the set."""
        # Sorted, they are searched for in the order in which the runs stand in memory.
        order = np.argsort(values)
        values = values[order]
        is_in = np.zeros(len(values), dtype=np.bool_)
        for run in self._runs:
            is_in[order] |= run[np.minimum(np.searchsorted(run, values), len(run) - 1)] == values
        return is_in

    def _insert(self, run: npt.NDArray[np.uint64]) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = distinct(np.sort(np.concatenate([self._runs.pop(), run])))
        if len(run):
            self._runs.append(run)


def _first_bytes(keys: Keys) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)[:, 0]
