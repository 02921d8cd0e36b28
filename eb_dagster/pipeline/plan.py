"""What an enrichment would ask and what it can cost at most. It sends nothing and stores nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.schema import Status
from eb_dagster.pipeline.facts import html_table, money, one_row, text_table, unusable_facts
from eb_dagster.pipeline.rows import Block, Question, Row

if TYPE_CHECKING:
    import pandas as pd

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
        self._statuses: Counter[Status | None] = Counter()
        self._invalid: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._offered_identifiers = 0
        self._identifiers = _KeySet()
        self._asked_first = _KeySet()
        self._asked_in_step: list[_KeySet] = []
        self._offers = _KeySet()

    def expect(self, questions: Sequence[Question]) -> None:
        """Call it before a block is started: what an earlier block asks is not asked again."""
        is_asked = self._asked_first.contains([question.key for question in questions])
        for question, is_asked_before in zip(questions, is_asked.tolist(), strict=True):
            if is_asked_before and question.state == "open":
                question.state = "queued"

    def add(self, block: Block, queued: Iterable[Question]) -> None:
        """Count a block that was started, and the questions that it queued."""
        self._offered_identifiers += sum(len(row.identifiers) for row in block.candidates)
        self._statuses.update(block.statuses)
        self._invalid.update(block.invalid_reasons())
        self._unusable.update(block.unusable_reasons())
        self._identifiers.add([*(question.key for question in block.new), *block.settled_keys])
        self._asked_first.add([question.key for question in queued])
        self._add_open_rows(block)

    def _add_open_rows(self, block: Block) -> None:
        offers: list[bytes] = []
        keys_in_step: list[list[bytes]] = []
        for row in block.rows:
            if row.status is not None:
                continue
            offers.append(_joint_key(row.questions))
            _add_keys_to_ask(row, keys_in_step)
        self._offers.add(offers)
        while len(self._asked_in_step) < len(keys_in_step):
            self._asked_in_step.append(_KeySet())
        for key_set, keys in zip(self._asked_in_step, keys_in_step, strict=False):
            key_set.add(keys)

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
            rows=self._statuses.total(),
            identifiers=len(self._identifiers),
            invalid=dict(self._invalid),
            suppressed=self._statuses["suppressed"],
            folded=self._offered_identifiers - len(self._identifiers),
            matched_in_ledger=self._statuses["matched"],
            missed_in_ledger=self._statuses["not_found"],
            in_doubt=self._statuses["in_doubt"],
            unreadable=self._statuses["unreadable"],
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


def _add_keys_to_ask(row: Row, keys_in_step: list[list[bytes]]) -> None:
    to_ask = [question.key for question in row.questions if question.state != "missed"]
    while len(keys_in_step) < len(to_ask):
        keys_in_step.append([])
    for keys, key in zip(keys_in_step, to_ask, strict=False):
        keys.append(key)


def _joint_key(questions: Sequence[Question]) -> bytes:
    """One key for all that a row offers."""
    if len(questions) == 1:
        return questions[0].key
    return blake2b(b"".join(question.key for question in questions), digest_size=8).digest()


class _KeySet:
    """A set of keys. It keeps the first 8 bytes of each, sorted: as Python objects they would take 100."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._sorted)

    def contains(self, keys: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Which of the keys are in the set."""
        return self._contains(_first_bytes(keys))

    def add(self, keys: Sequence[bytes]) -> None:
        """Put keys in."""
        self._insert(np.unique(_first_bytes(keys)))

    def merge(self, other: _KeySet) -> int:
        """Put in what another set holds. Returns how many were new."""
        before = len(self)
        self._insert(other._sorted)
        return len(self) - before

    def _contains(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        if not len(self._sorted):
            return np.zeros(len(values), dtype=np.bool_)
        index = np.minimum(np.searchsorted(self._sorted, values), len(self._sorted) - 1)
        return self._sorted[index] == values

    def _insert(self, values: npt.NDArray[np.uint64]) -> None:
        new = values[~self._contains(values)]
        self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, new), new)


def _first_bytes(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join([key[:8] for key in keys]), dtype=np.uint64)
