"""Which distinct identifiers still have to be asked, in which order, and what that can cost at most.

Pure: it sends nothing and stores nothing. `Agenda` knows, for rows with one or more identifiers
each, which question is next; `Plan` is what it knows before the first one is asked.
"""

from __future__ import annotations

import html
import sys
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any, Final, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from eb_dagster.identifiers.canonical import identifiers_in, key_form
from eb_dagster.identifiers.kinds import is_weak
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.profile import is_vanity
from eb_dagster.pipeline.rows import Settled, Status

State = Literal[
    "new", "open", "queued", "asked", "elsewhere",
    "matched", "missed", "in_doubt", "unreadable", "not_asked", "suppressed",
]  # fmt: skip

_PENDING: Final = frozenset({"queued", "asked", "elsewhere"})
# What ends a row though a strong identifier before is still to be asked: the same person may have been paid for.
_MAY_BE_PAID: Final[tuple[Literal["in_doubt", "unreadable"], ...]] = ("in_doubt", "unreadable")

MOST_TURNS: Final = 3
"""Rows of one name that are answered in turn; more of them are people who share it."""

_T = TypeVar("_T")


class Question(msgspec.Struct, eq=False, gc=False):
    """One distinct identifier, and what is known of it so far. Its repr shows no person."""

    identifier: Identifier
    key: bytes
    block: int
    """The newest block with a row that asks it."""
    state: State = "new"
    seen: int = 0
    """The newest request that was looked at when the ledger was asked about it."""
    answer: Any = None
    """When matched or missed, what is `Known`; while it is open, what is known of an old contact."""

    def __repr__(self) -> str:
        return f"Question(field_type={self.identifier.field_type!r}, state={self.state!r})"


class Row(msgspec.Struct, eq=False, gc=False):
    """One input row that is to be asked: its questions in order of asking, and how it ended."""

    questions: tuple[Question, ...]
    hold: str | None = None
    """The same for rows that may be about one person, by name and company."""
    status: Status | None = None
    question: Question | None = None

    @property
    def answer(self) -> Any:
        """What is `Known` of the question by which it ended."""
        return None if self.question is None else self.question.answer

    @property
    def strong(self) -> list[Question]:
        """Those that are one person's own."""
        return [one for one in self.questions if not is_weak(one.identifier)]

    def is_contradicted_by(self, question: Question) -> bool:
        """Whether the contact that this one of its e-mails found has another LinkedIn name than the row."""
        return (
            question.answer is not None
            and question.answer.has_vanity
            and question.identifier.field_type == "email"
            and any(is_vanity(one.identifier.value) for one in self.questions)
        )


@dataclass(slots=True, eq=False)
class Block:
    """Consecutive rows that leave together."""

    number: int
    candidates: Sequence[Candidates]
    """What each of them offers."""
    rows: list[Row]
    """Those that the ledger does not end at once."""
    at: Sequence[int]
    """Where these stand among all."""
    new: list[Question]
    """Those that no open row asked before; to be looked up."""
    settled: Settled | None = None
    """How the other rows end."""
    keys: frozenset[bytes] = frozenset()
    """Of what those offer."""
    identifiers: int = 0
    """How many identifiers it has that no open block before it has."""
    _resolved: int = 0

    @property
    def folded(self) -> int:
        """How many identifiers are there once more, here or in another open block."""
        return sum([len(one.identifiers) for one in self.candidates]) - self.identifiers

    @property
    def statuses(self) -> list[Status | None]:
        """How each of them ends, as far as that is known."""
        settled = [] if self.settled is None else self.settled.statuses()
        return self.merge([row.status for row in self.rows], settled)

    @property
    def reasons(self) -> tuple[list[str], list[str]]:
        """Why rows are invalid, one reason each; and every reason why something in a row cannot be used."""
        given = [one for one in self.candidates if one.reasons or not one.identifiers]
        invalid = [one.reasons[0] if one.reasons else "blank" for one in given if not one.identifiers]
        return invalid, [reason for one in given for reason in one.reasons if reason != "blank"]

    def merge(self, of_rows: list[_T], settled: list[_T]) -> list[_T]:
        """An entry for each of them, from those of `rows` and, for the others, those that stand in `settled`."""
        if len(of_rows) == len(self.candidates):
            return of_rows
        for at, one in zip(self.at, of_rows, strict=True):
            settled[at] = one
        return settled

    @property
    def has_choice(self) -> bool:
        """Whether one of its rows offers several identifiers."""
        return any(len(row.questions) > 1 for row in self.rows)

    @property
    def is_resolved(self) -> bool:
        """Whether each of its rows has ended."""
        rows, at = self.rows, self._resolved
        while at < len(rows) and rows[at].status is not None:
            at += 1
        self._resolved = at
        return at == len(rows)


@dataclass(slots=True, eq=False)
class _Namesakes:
    """Open rows of one name and company."""

    first: Row | None = None
    """The one that is being answered."""
    held: list[Row] = field(default_factory=list[Row])
    turns: int = 0


def _own_answer(row: Row, first: Row) -> Question | None:
    """The row's question that a contact of the same name answers too, because it holds that identifier.

    Or, for a row with none that is one person's own, the question that found the contact.
    """
    answer = first.answer
    if first.status != "matched" or answer is None or answer.contacts is None:
        return None
    inside = {
        (one.field_type, key_form(one.field_type, one.value))
        for one in identifiers_in(answer.contacts.texts(answer.row))
    }
    for question in row.questions:
        kind, value = question.identifier.field_type, question.identifier.value
        if (kind, key_form(kind, value)) in inside and question.state != "missed":
            return question
    return None if row.strong else first.question


class Agenda:
    """The questions of the rows that are open, and the next partition to ask.

    A row asks its first identifier; only a miss leads to the next one. A row with an identifier
    that is answered already costs nothing, and one whose answer is in doubt asks no further: it
    may have been paid for.
    """

    def __init__(self) -> None:
        self.blocks: deque[Block] = deque()
        self.open_rows = 0
        self._taken = 0
        # Nothing in a row or question leads back to the row, so none of them needs Python's
        # collector of cycles, which would walk through all that are open.
        self._questions: dict[bytes, Question] = {}
        # What settled rows offer, and the newest block with such a row.
        self._settled: dict[bytes, int] = {}
        # By question, who waits for it: nearly always one row, and a list of its own would be a
        # third of what the collector has to walk through.
        self._waiting: dict[bytes, Row | list[Row]] = {}
        self._steps: list[deque[Question]] = []
        self._namesakes: dict[str, _Namesakes] = {}

    def add(
        self,
        candidates: Sequence[Candidates],
        keys: Mapping[Identifier, bytes],
        *,
        settled: Settled | None = None,
    ) -> Block:
        """Take in rows, with the keys of what those offer that are not settled.

        Their new questions have to be looked up before `start`.
        """
        number = self._taken
        self._taken += 1
        known = self._questions
        rows: list[Row] = []
        new: list[Question] = []
        at = range(len(candidates)) if settled is None else np.flatnonzero(settled.is_open).tolist()
        for one in candidates if settled is None else [candidates[row] for row in at]:
            asked: list[Question] = []
            for identifier in one.identifiers:
                key = keys[identifier]
                question = known.get(key)
                if question is None:
                    question = known[key] = Question(identifier, key, number)
                    new.append(question)
                else:
                    question.block = number
                asked.append(question)
            rows.append(Row(tuple(asked), None if one.person is None else one.person.hold))
        block = Block(number, candidates, rows, at, new, settled)
        self._count_identifiers(block)
        self.open_rows += len(candidates)
        self.blocks.append(block)
        return block

    def _count_identifiers(self, block: Block) -> None:
        seen = self._settled
        block.identifiers = len(block.new) - sum([one.key in seen for one in block.new])
        if block.settled is not None:
            block.keys = frozenset(block.settled.settled_keys())
            block.identifiers += len(block.keys.difference(seen, self._questions))
            seen.update(dict.fromkeys(block.keys, block.number))
            # What was learned of a question since the look-up counts for every row that offers it.
            for key in self._questions.keys() & block.keys:
                self._questions[key].block = block.number

    def start(self, block: Block) -> None:
        """Resolve what is known of these rows and queue what is not."""
        for row in block.rows:
            self._advance(row)

    def settle(self, question: Question, state: State, answer: Any = None) -> None:
        """Note an outcome, and let the rows go on that waited for it."""
        # Who was suppressed since it was asked stays so, whatever the answer.
        if question.state != "suppressed":
            question.state = state
        if answer is not None:
            question.answer = answer
        waiting = self._waiting.pop(question.key, None)
        if waiting is not None:
            for row in waiting if isinstance(waiting, list) else [waiting]:
                self._advance(row)

    def put_back(self, questions: Sequence[Question]) -> None:
        """Queue these again, before all others; but none that no row waits for any more."""
        if not self._steps:
            self._steps.append(deque())
        for question in reversed(questions):
            # One that was left over may have a successor, and both would be paid for.
            if self._questions.get(question.key) is not question or question.state == "suppressed":
                continue
            question.state = "open"
            if question.key in self._waiting:
                question.state = "queued"
                self._steps[0].appendleft(question)

    def identifiers(self) -> list[Identifier]:
        """Of all questions that open rows ask."""
        return [one.identifier for one in self._questions.values()]

    def suppress(self, people: Collection[Identifier]) -> None:
        """End the open rows that offer one of these, and ask nothing that only such rows wait for."""
        if not people:
            return
        for question in self._questions.values():
            if question.identifier in people:
                question.state = "suppressed"
        for row in (row for block in self.blocks for row in block.rows if row.status is None):
            barred = next((one for one in row.questions if one.state == "suppressed"), None)
            if barred is not None:
                row.status, row.question = "suppressed", barred
        for key, waiting in list(self._waiting.items()):
            rows = [
                one for one in (waiting if isinstance(waiting, list) else [waiting]) if one.status is None
            ]
            if rows:
                self._waiting[key] = rows if len(rows) > 1 else rows[0]
            else:
                del self._waiting[key]
        for queue in self._steps:
            queued = list(queue)
            queue.clear()
            queue.extend(self.wanted(queued))

    def wanted(self, questions: Iterable[Question]) -> list[Question]:
        """Those that an open row still waits for. The others are open again, for who comes later."""
        kept: list[Question] = []
        for question in questions:
            if question.key in self._waiting:
                kept.append(question)
            elif question.state != "suppressed":
                question.state = "open"
        return kept

    def full_step(self, size: int) -> int | None:
        """The first step with enough questions for a full partition."""
        return next((at for at, queue in enumerate(self._steps) if len(queue) >= size), None)

    def cut_step(self, step: int, size: int) -> list[Question]:
        """Take up to `size` questions of this step."""
        queue = self._steps[step]
        return [queue.popleft() for _ in range(min(size, len(queue)))]

    def first_step(self) -> int | None:
        """The first step with any question."""
        return next((at for at, queue in enumerate(self._steps) if queue), None)

    def clear(self) -> list[Question]:
        """Let go of all rows. Returns the questions that were queued."""
        queued = [question for step in self._steps for question in step]
        for held in (
            self.blocks, self._questions, self._settled, self._waiting, self._steps, self._namesakes,
        ):  # fmt: skip
            held.clear()
        self.open_rows = 0
        return queued

    def give_up(self) -> None:
        """Ask nothing more: what is queued stays unasked."""
        while (step := self.first_step()) is not None:
            for question in self.cut_step(step, 1):
                self.settle(question, "not_asked")

    def leaving(self) -> Iterator[Block]:
        """The blocks at the front whose rows are all resolved, in input order."""
        while self.blocks and self.blocks[0].is_resolved:
            block = self.blocks.popleft()
            yield block
            self.open_rows -= len(block.candidates)
            # What no open row offers: from here on it is the ledger that knows.
            offered = {question.key for row in block.rows for question in row.questions}
            for key in self._questions.keys() & offered.union(block.keys):
                if self._questions[key].block == block.number:
                    del self._questions[key]
            for key in block.keys:
                if self._settled.get(key) == block.number:
                    del self._settled[key]

    def _advance(self, row: Row) -> None:
        if row.status is not None:
            return
        status, question = self._verdict(row)
        if status is None and question is not None:
            if question.state in ("new", "open") and self._is_held_back(row):
                return
            waiting = self._waiting.get(question.key)
            if waiting is None:
                self._waiting[question.key] = row
            elif isinstance(waiting, list):
                waiting.append(row)
            else:
                self._waiting[question.key] = [waiting, row]
            if question.state in ("new", "open"):
                self._queue(question, step=row.questions.index(question))
            return
        self._end(row, status, question)

    def _end(self, row: Row, status: Status | None, question: Question | None) -> None:
        row.status, row.question = status, question
        namesakes = None if row.hold is None else self._namesakes.get(row.hold)
        if namesakes is not None and namesakes.first is row:
            self._let_go(namesakes)

    def _is_held_back(self, row: Row) -> bool:
        """Whether another row of this name and company is being answered, whose contact may be this row's too.

        A row that is held back owns no question, so nothing can wait in a circle.
        """
        if row.hold is None:
            return False
        namesakes = self._namesakes.setdefault(row.hold, _Namesakes())
        if namesakes.first is None and namesakes.turns < MOST_TURNS:
            namesakes.first = row
            namesakes.turns += 1
        if namesakes.first is None or namesakes.first is row:
            return False
        namesakes.held.append(row)
        return True

    def _let_go(self, namesakes: _Namesakes) -> None:
        """Let the rows go on that waited for the first one of their name."""
        first, held = namesakes.first, namesakes.held
        namesakes.first, namesakes.held = None, []
        if first is None:
            return
        if not held and first.hold is not None:
            del self._namesakes[first.hold]
        for row in held:
            question = _own_answer(row, first)
            if question is None:
                self._advance(row)
                continue
            if question is not first.question:
                self.settle(question, "matched", replace(first.answer, is_alias=True))
            if row.status is None:
                self._end(row, "matched", question)

    def _verdict(self, row: Row) -> tuple[Status | None, Question | None]:
        """The row's status and question, or None and the question that it waits for."""
        if not row.questions:
            return "invalid", None
        # One suppressed identifier is enough: it is the person who must not be bought.
        for question in row.questions:
            if question.state == "suppressed":
                return "suppressed", question
        first = next((one for one in row.questions if one.state != "missed"), None)
        if first is None:
            return "not_found", row.questions[-1]
        if first.state == "matched":
            return "matched", first
        return self._beside(row, first)

    @staticmethod
    def _beside(row: Row, first: Question) -> tuple[Status | None, Question | None]:
        """The same, where `first` is neither a miss nor found: by what is known of the strong ones behind it."""
        others = [first, *(one for one in row.strong if one is not first and one.state != "missed")]
        for question in others:
            if question.state == "matched" and not row.is_contradicted_by(question):
                return "matched", question
        for state in _MAY_BE_PAID:
            for question in others:
                if question.state == state:
                    return state, question
        # Another row asks one of this row's identifiers now: its answer may save a credit.
        for question in others:
            if question.state in _PENDING:
                return None, question
        if first.state != "not_asked":
            return None, first
        # What was bought before, under whichever identifier, is better than nothing.
        old = next((one for one in others if one.answer is not None), None)
        return ("not_asked", first) if old is None else ("matched", old)

    def _queue(self, question: Question, *, step: int) -> None:
        while len(self._steps) <= step:
            self._steps.append(deque())
        question.state = "queued"
        self._steps[step].append(question)


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

    @property
    def spends_at_most(self) -> int:
        """Credits that a run can be charged at most, inside every cap that is set."""
        caps = (self.max_credits, self.credits_left_today, self.credits_left_this_month)
        return min(self.credits_at_most, *(one for one in caps if one is not None), sys.maxsize)

    @property
    def slow_reply_seconds(self) -> float:
        """Replies that take longer are what bounds the time, by `max_credits_at_risk`; else it is the pace."""
        return 60 * self.in_flight_at_most / self.requests_per_minute

    @property
    def minutes_at_least(self) -> float:
        """At the pace of `requests_per_minute`, for the first step."""
        return self.requests / self.requests_per_minute

    def facts(self, *, price: float | None = None) -> list[tuple[str, str]]:
        """The plan line by line; with the price of a credit, what it costs."""
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
            (
                "rows answered from the ledger",
                f"{self.matched_in_ledger + self.missed_in_ledger:,}",
            ),
            ("rows in doubt", f"{self.in_doubt:,}"),
            ("identifiers to ask first", f"{self.to_ask:,}"),
            ("requests", requests),
            ("minutes at least", self._minutes()),
            ("credits at most", f"{self.credits_at_most:,}"),
            ("max_credits", cap),
        ]
        for period, left in (
            ("today", self.credits_left_today),
            ("this month", self.credits_left_this_month),
        ):
            if left is not None:
                facts.append((f"credits left {period} by the cap", f"{left:,}"))
        return facts if price is None else [*facts, ("costs at most", money(self.spends_at_most, price))]

    def _minutes(self) -> str:
        minutes = f"{self.minutes_at_least:.1f}"
        if self.requests <= self.in_flight_at_most:
            return minutes
        return f"{minutes}, more if replies take over {self.slow_reply_seconds:.1f} s (max_credits_at_risk)"

    def to_dict(self, *, price: float | None = None) -> dict[str, Any]:
        """The plan as plain numbers and dicts."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain |= {"invalid": dict(self.invalid), "unusable": dict(self.unusable)}
        plain["minutes_at_least"] = self.minutes_at_least
        if price is not None:
            plain["cost_at_most"] = round(self.spends_at_most * price, 6)
        return plain

    def __str__(self) -> str:
        return text_table(self.facts())

    def _repr_html_(self) -> str:
        return html_table(self.facts(), title="Plan: nothing was sent")


def money(bought: int, price: float) -> str:
    """What that many credits cost, with the way it was worked out."""
    return f"{bought * price:,.2f} ({bought:,} at {price:g})"


_REASONS: Final = {
    "shared": "shared by several people",
    "role_mailbox": "mailbox of a role, such as info@",
    "blank": "nothing in it",
    "control_characters": "control characters in it",
    "field_type": "field_type of no known kind",
    "email_syntax": "not an e-mail address, or pieces of one",
    "email_too_long": "longer than an e-mail address can be",
    "phone_no_region": "phone number without a country code",
    "phone_not_possible": "phone number of a length that cannot be",
    "phone_spreadsheet_number": "phone number that a spreadsheet has rounded",
    "phone_syntax": "not a phone number, or pieces of one",
    "phone_too_long": "longer than a phone number can be",
    "profile_not_a_person": "profile that is not a person's",
    "profile_query": "profile with a query that nobody here knows",
    "profile_short_link": "short link (put in the address that it leads to)",
    "profile_syntax": "not the address of a profile, or pieces of one",
    "profile_too_long": "longer than the address of a profile can be",
}


def reason_in_words(reason: str) -> str:
    """Why something is not used, as a person reads it."""
    return _REASONS.get(reason, reason)


def unusable_facts(invalid: Mapping[str, int], unusable: Mapping[str, int]) -> list[tuple[str, str]]:
    """The rows without a usable identifier, and what in any row could not be used, and why."""
    blank = f", {invalid['blank']:,} of them blank" if invalid.get("blank") else ""
    facts = [("rows without a usable identifier", f"{sum(invalid.values()):,}{blank}")]
    if unusable:
        facts.append(("rows with a value that cannot be used", ""))
    for reason, count in sorted(unusable.items(), key=lambda one: -one[1]):
        mend = " (give default_region)" if reason == "phone_no_region" else ""
        facts.append((f"  {reason_in_words(reason)}", f"{count:,}{mend}"))
    return facts


def _split(value: str) -> tuple[str, str]:
    """A leading number, which is aligned, and the words after it."""
    head, space, rest = value.partition(" ")
    return (head, space + rest) if head[:1].isdigit() or not rest else ("", value)


def text_table(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns, the numbers below each other."""
    names = max(len(name) for name, _ in facts)
    numbers = max(len(_split(value)[0]) for _, value in facts)
    lines = ((name, *_split(value)) for name, value in facts)
    return "\n".join(f"{name:<{names}}  {number:>{numbers}}{rest}".rstrip() for name, number, rest in lines)


def html_table(facts: Sequence[tuple[str, str]], *, title: str) -> str:
    """Names and values as a small table for a notebook, in its own colors and fonts."""
    name_style = "text-align:left;font-weight:normal;padding:2px 16px 2px 0;opacity:.75"
    value_style = "text-align:left;padding:2px 0;font-variant-numeric:tabular-nums;white-space:pre-wrap"
    number_style = f"{value_style};text-align:right;font-weight:600"
    rows: list[str] = []
    for name, value in facts:
        number, rest = _split(value)
        # White space at the start stands for "a part of the line above".
        indent = (len(name) - len(name.lstrip())) * 8
        rows.append(
            f"<tr><th scope='row' style='{name_style};padding-left:{indent}px'>{html.escape(name.strip())}</th>"
            f"<td style='{number_style}'>{html.escape(number)}</td>"
            f"<td style='{value_style}'>{html.escape(rest)}</td></tr>"
        )
    caption = "caption-side:top;text-align:left;font-weight:600;padding-bottom:4px;color:inherit"
    return (
        f"<table style='border-collapse:collapse'><caption style='{caption}'>{html.escape(title)}</caption>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


class PlanCount:
    """Sums up a plan block by block. Keeps 8 bytes of each identifier for each place that it has, no rows."""

    def __init__(self) -> None:
        self._statuses: Counter[Status | None] = Counter()
        self._invalid: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._places = 0
        self._identifiers = _Keys()
        self._first = _Keys()
        self._steps: list[_Keys] = []
        self._offers = _Keys()

    def expect(self, questions: Sequence[Question]) -> None:
        """Before a block is started: what a block before asks is not asked again."""
        waits = self._first.contains([one.key for one in questions])
        for question, is_asked in zip(questions, waits, strict=True):
            if is_asked and question.state == "open":
                question.state = "queued"

    def add(self, block: Block, queued: Iterable[Question]) -> None:
        """Count a block that was started, and what it queued."""
        steps: list[list[bytes]] = []
        offers: list[bytes] = []
        self._places += sum(len(one.identifiers) for one in block.candidates)
        self._statuses.update(block.statuses)
        invalid, unusable = block.reasons
        self._invalid.update(invalid)
        self._unusable.update(unusable)
        for row in block.rows:
            if row.status is None:
                offers.append(_joint(row.questions))
                left = [one.key for one in row.questions if one.state != "missed"]
                for step, key in enumerate(left):
                    if step == len(steps):
                        steps.append([])
                    steps[step].append(key)
        self._identifiers.add([*(one.key for one in block.new), *block.keys])
        self._first.add([one.key for one in queued])
        self._offers.add(offers)
        for step, keys in enumerate(steps):
            if step == len(self._steps):
                self._steps.append(_Keys())
            self._steps[step].add(keys)

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
        placed = _Keys()
        sizes = [placed.merge(step) for step in self._steps]
        first, statuses = len(self._first), self._statuses
        requests = -(-first // partition_size)
        return Plan(
            rows=statuses.total(),
            identifiers=len(self._identifiers),
            invalid=dict(self._invalid),
            suppressed=statuses["suppressed"],
            folded=self._places - len(self._identifiers),
            matched_in_ledger=statuses["matched"],
            missed_in_ledger=statuses["not_found"],
            in_doubt=statuses["in_doubt"],
            unreadable=statuses["unreadable"],
            to_ask=first,
            to_ask_at_most=len(placed),
            requests=requests,
            requests_at_most=max(sum(-(-size // partition_size) for size in sizes), requests),
            credits_at_most=min(len(placed), len(self._offers)),
            max_credits=max_credits,
            requests_per_minute=requests_per_minute,
            in_flight_at_most=max(1, max_credits_at_risk // partition_size),
            unusable=dict(self._unusable),
            credits_left_today=credits_left_today,
            credits_left_this_month=credits_left_this_month,
        )


def _joint(questions: Sequence[Question]) -> bytes:
    """One key for all that a row offers."""
    if len(questions) == 1:
        return questions[0].key
    return blake2b(b"".join(one.key for one in questions), digest_size=8).digest()


class _Keys:
    """A set of keyed hashes, kept as the first 8 bytes of each, sorted: as objects they take 100."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._sorted)

    def contains(self, keys: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Which of the keys are in the set."""
        return self._has(_halves(keys))

    def add(self, keys: Sequence[bytes]) -> None:
        """Put keys in."""
        self._insert(np.unique(_halves(keys)))

    def merge(self, other: _Keys) -> int:
        """Put in what another set holds. Returns how many were new."""
        before = len(self)
        self._insert(other._sorted)
        return len(self) - before

    def _has(self, halves: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        if not len(self._sorted):
            return np.zeros(len(halves), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self._sorted, halves), len(self._sorted) - 1)
        return self._sorted[at] == halves

    def _insert(self, halves: npt.NDArray[np.uint64]) -> None:
        new = halves[~self._has(halves)]
        self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, new), new)


def _halves(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join([key[:8] for key in keys]), dtype=np.uint64)
