"""How rows end. The only file that decides a row's status by what is known of its identifiers.

`output` and `publication` may still take a contact back from a row, or withhold it.

`settle` decides, for all rows of a look-up at once and in arrays, what the ledger's answers decide; nearly
every row of a table that was bought before ends here. `decide` applies the same rules to one row whose
identifiers are being asked. A property test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.schema import Status
from eb_dagster.identifiers.kinds import is_weak
from eb_dagster.identifiers.model import Candidates, FieldType, Identifier, Trait
from eb_dagster.identifiers.profile import is_vanity
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.known_keys import STANDINGS, Known, KnownKeys
from eb_dagster.pipeline.offers import Offers

Booleans = npt.NDArray[np.bool_]
_T = TypeVar("_T")

ANSWERED: Final[frozenset[Status | None]] = frozenset({"matched", "not_found"})
"""The statuses of rows to which the vendor has given an answer."""

# One row at a time

State = Literal[
    "new", "open", "queued", "asked", "elsewhere",
    "matched", "missed", "in_doubt", "unreadable", "not_asked", "suppressed",
]  # fmt: skip
"""What is known of a question. `elsewhere`: another process is asking it."""

_PENDING: Final = frozenset[State]({"queued", "asked", "elsewhere"})
# These end a row even if one of its strong identifiers could still be asked: the person may have been paid for.
_MAY_BE_PAID: Final[tuple[Literal["in_doubt", "unreadable"], ...]] = ("in_doubt", "unreadable")


class Question(msgspec.Struct, eq=False, gc=False):
    """One distinct identifier, and what is known of it so far. Its repr shows no person."""

    identifier: Identifier
    key: bytes
    block: int
    """The newest block with a row that asks it."""
    state: State = "new"
    seen: int = 0
    """The ledger's newest request when it was last looked up."""
    answer: Known | None = None
    """What answered it, once it is matched or missed."""
    old_answer: Known | None = None
    """A contact that was bought before and is older than `max_age`: used if the question cannot be asked again."""

    def __repr__(self) -> str:
        return f"Question(field_type={self.identifier.field_type!r}, state={self.state!r})"


class Row(msgspec.Struct, eq=False, gc=False):
    """One input row whose identifiers are to be asked, in order of asking, and how it ended.

    Its repr shows no person.
    """

    questions: tuple[Question, ...]
    hold: str | None = None
    """The same text for all rows that may be about one person, made of name and company."""
    status: Status | None = None
    question: Question | None = None
    """The question that decided how the row ended."""

    def __repr__(self) -> str:
        return f"Row(questions={self.questions!r}, status={self.status!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("questions", self.questions), ("status", self.status)]

    @property
    def answer(self) -> Known | None:
        """What answered the question that decided how the row ended."""
        return None if self.question is None else self.question.answer or self.question.old_answer

    @property
    def strong_questions(self) -> list[Question]:
        """The questions whose identifiers belong to one person only."""
        return [question for question in self.questions if not is_weak(question.identifier)]

    def not_missed(self, first: Question) -> list[Question]:
        """The `first` question, and every other strong one that did not miss."""
        others = [question for question in self.strong_questions if question is not first]
        return [first, *(question for question in others if question.state != "missed")]

    def is_contradicted_by(self, question: Question) -> bool:
        """Whether this e-mail of the row found a contact, or an old one, with another LinkedIn profile than the row's."""
        answer = question.answer or question.old_answer
        return (
            answer is not None
            and answer.has_vanity
            and question.identifier.field_type == "email"
            and any(is_vanity(other.identifier.value) for other in self.questions)
        )


def decide(row: Row) -> tuple[Status | None, Question | None]:
    """The row's status and the question that decides it; or None and the question that the row waits for."""
    if not row.questions:
        return "invalid", None
    # One suppressed identifier is enough: it is the person who must not be bought.
    for question in row.questions:
        if question.state == "suppressed":
            return "suppressed", question
    first = next((question for question in row.questions if question.state != "missed"), None)
    if first is None:
        return "not_found", row.questions[-1]
    if first.state == "matched":
        return "matched", first
    return _decide_by_later_answers(row, first)


def _decide_by_later_answers(row: Row, first: Question) -> tuple[Status | None, Question | None]:
    """Decide a row whose `first` question is not answered: a known answer to a later strong one costs nothing."""
    questions = row.not_missed(first)
    for question in questions:
        if question.state == "matched" and not row.is_contradicted_by(question):
            return "matched", question
    for state in _MAY_BE_PAID:
        if (question := _first_in(questions, {state})) is not None:
            return state, question
    # Another row is asking one of this row's identifiers: its answer may save a credit.
    if (pending := _first_in(questions, _PENDING)) is not None:
        return None, pending
    if first.state != "not_asked":
        return None, first
    # An old contact, under whichever identifier, is better than none, if it may be this person's.
    for question in questions:
        is_fitting = question is first or not row.is_contradicted_by(question)
        if question.old_answer is not None and is_fitting:
            return "matched", question
    return "not_asked", first


def _first_in(questions: Sequence[Question], states: Collection[State]) -> Question | None:
    return next((question for question in questions if question.state in states), None)


# All rows of a look-up at once


class _Outcome(IntEnum):
    """What an identifier means for its row, or what a row comes to. Of several, the lowest decides."""

    SUPPRESSED = 0
    # A known contact costs nothing.
    MATCHED = 1
    # What may have been paid for is not asked under another identifier.
    IN_DOUBT = 2
    UNREADABLE = 3
    # It has to be asked.
    OPEN = 4
    NOT_FOUND = 5
    INVALID = 6


_STATUS_OF_OUTCOME: Final[tuple[Status | None, ...]] = (
    "suppressed", "matched", "in_doubt", "unreadable", None, "not_found", "invalid",
)  # fmt: skip
_OUTCOME_OF_STANDING: Final = {
    "matched": _Outcome.MATCHED,
    "missed": _Outcome.NOT_FOUND,
    "in_flight": _Outcome.OPEN,
    "in_doubt": _Outcome.IN_DOUBT,
    "unreadable": _Outcome.UNREADABLE,
    "decided": _Outcome.IN_DOUBT,
}
# An index of no identifier.
_NONE: Final = -1


class Answers(NamedTuple):
    """Where the answers to rows are stored: an entry for each of `rows`."""

    rows: Indices
    """Which rows are answered."""
    request_id: Indices
    position: Indices
    """In that request's reply; -1 if nobody was found."""
    answered_at: npt.NDArray[np.float64]
    """Seconds since the epoch."""
    is_from_ledger: Booleans
    """Bought by another run, or found inside a contact that another identifier bought."""


@dataclass(frozen=True, slots=True, eq=False)
class Settlement:
    """How rows end by what the ledger knows. Some may stay open."""

    offers: Offers
    known: KnownKeys
    is_of_run: Booleans
    """For each request of `known`, whether this run made it."""
    identifier_outcome: npt.NDArray[np.int8]
    """For each identifier."""
    offer_outcome: npt.NDArray[np.int8]
    """For each offer."""
    deciding_identifier: Indices
    """For each offer, the index of the identifier that decides its outcome."""
    offer_of_row: Indices
    """For each row, the index of its offer."""

    def part(self, start: int, rows: int) -> Settlement:
        """The same for `rows` rows, from `start` on."""
        return replace(self, offer_of_row=self.offer_of_row[start : start + rows])

    @property
    def is_open(self) -> Booleans:
        """Which rows have to be asked."""
        return self._row_outcome == _Outcome.OPEN

    def open_keys(self) -> dict[Identifier, bytes]:
        """The keys of what the open rows offer."""
        return self.offers.spellings_of(np.unique(self.offer_of_row[self.is_open]))

    def settled_keys(self) -> list[bytes]:
        """The keys of what the other rows offer, once for each time that it is offered."""
        indices: list[int] = self.offers.identifiers_of(self.offer_of_row[~self.is_open]).tolist()
        return [self.offers.keys[index] for index in indices]

    def statuses(self) -> list[Status | None]:
        """How each row ends; None if it is open."""
        outcomes: list[int] = self._row_outcome.tolist()
        return [_STATUS_OF_OUTCOME[outcome] for outcome in outcomes]

    def deciding_identifiers(self) -> list[Identifier | None]:
        """The identifier that decides how each row ends."""
        identifiers = self.offers.identifiers
        indices: list[int] = self.deciding_identifier[self.offer_of_row].tolist()
        return [None if index == _NONE else identifiers[index] for index in indices]

    def answers(self) -> Answers:
        """Where the answers to the rows are stored that are found or not found."""
        known = self.known
        rows = np.flatnonzero(self._is_answered)
        identifier = self.deciding_identifier[self.offer_of_row[rows]]
        request = known.request_index[identifier]
        return Answers(
            rows=rows,
            request_id=known.request_ids[request],
            position=known.position[identifier],
            answered_at=known.answered_at[request],
            is_from_ledger=~self.is_of_run[request] | known.is_alias[identifier],
        )

    def missed_kinds(self) -> set[tuple[int, FieldType]]:
        """For answered rows with several identifiers: the row, and each kind that missed before another answered."""
        identifiers = self.offers.identifiers
        counts = self.offers.counts
        rows = np.flatnonzero(self._is_answered & (counts[self.offer_of_row] > 1))
        offers = self.offer_of_row[rows]
        offered = self.offers.identifiers_of(offers)
        has_missed = self.identifier_outcome[offered] == _Outcome.NOT_FOUND
        missed_row = np.repeat(rows, counts[offers])[has_missed]
        row_list: list[int] = missed_row.tolist()
        missed_list: list[int] = offered[has_missed].tolist()
        deciding_list: list[int] = self.deciding_identifier[self.offer_of_row[missed_row]].tolist()
        kinds: set[tuple[int, FieldType]] = set()
        for row, missed, deciding in zip(row_list, missed_list, deciding_list, strict=True):
            kind = identifiers[missed].field_type
            if kind != identifiers[deciding].field_type:
                kinds.add((row, kind))
        return kinds

    @property
    def _row_outcome(self) -> npt.NDArray[np.int8]:
        return self.offer_outcome[self.offer_of_row]

    @property
    def _is_answered(self) -> Booleans:
        outcome = self._row_outcome
        return (outcome == _Outcome.MATCHED) | (outcome == _Outcome.NOT_FOUND)


def settle(
    offers: Offers, known: KnownKeys, *, run: str, suppressed: Collection[bytes], doubt_ends: bool
) -> Settlement:
    """Decide how each row ends by what is known of its identifiers.

    `doubt_ends`: what is in doubt ends its row; otherwise it is asked again, unless this `run` left it in doubt.
    """
    # The last entry stands for a standing of -1: nothing is known.
    outcome_of_standing = [_OUTCOME_OF_STANDING[standing] for standing in STANDINGS]
    outcomes = np.array([*outcome_of_standing, _Outcome.OPEN], dtype=np.int8)[known.standing]
    outcomes[known.is_stale] = _Outcome.OPEN
    is_of_run = np.array([other == run for other in known.runs], dtype=np.bool_)
    if not doubt_ends:
        in_doubt = np.flatnonzero(known.standing == STANDINGS.index("in_doubt"))
        outcomes[in_doubt[~is_of_run[known.request_index[in_doubt]]]] = _Outcome.OPEN
    if suppressed:
        outcomes[[key in suppressed for key in offers.keys]] = _Outcome.SUPPRESSED
    offer_outcome, deciding_identifier = _decide_offers(offers, outcomes, known.has_vanity)
    return Settlement(
        offers=offers,
        known=known,
        is_of_run=is_of_run,
        identifier_outcome=outcomes,
        offer_outcome=offer_outcome,
        deciding_identifier=deciding_identifier,
        offer_of_row=offers.offer_of_row,
    )


def _decide_offers(
    offers: Offers, identifier_outcome: npt.NDArray[np.int8], has_vanity: Booleans
) -> tuple[npt.NDArray[np.int8], Indices]:
    """The outcome of each offer, and the index of the identifier that decides it."""
    offer_outcome = np.full(len(offers.counts), _Outcome.INVALID, dtype=np.int8)
    deciding_identifier = np.full(len(offers.counts), _NONE, dtype=np.intp)
    has_identifiers = offers.counts > 0
    if not has_identifiers.any():
        return offer_outcome, deciding_identifier
    outcome = identifier_outcome[offers.identifier_indices]
    offer = np.repeat(np.arange(len(offers.counts)), offers.counts)
    step = np.arange(len(offer)) - offers.starts[offer]
    if offers.counts.max() > 1:
        outcome = _without_silenced(offers, outcome, step, has_vanity)
    # Of several with the same outcome, the first decides; of several that missed, the one that was asked last.
    priority = np.where(outcome == _Outcome.NOT_FOUND, -step, step)
    by_offer = np.lexsort((priority, outcome, offer))
    deciding = by_offer[offers.starts[has_identifiers]]
    offer_outcome[has_identifiers] = outcome[deciding]
    deciding_identifier[has_identifiers] = offers.identifier_indices[deciding]
    # The report does not tell by which identifier somebody is suppressed.
    deciding_identifier[offer_outcome == _Outcome.SUPPRESSED] = _NONE
    return offer_outcome, deciding_identifier


def _without_silenced(
    offers: Offers, outcome: npt.NDArray[np.int8], step: Indices, has_vanity: Booleans
) -> npt.NDArray[np.int8]:
    """The outcomes, with INVALID for identifiers that say nothing beside the others of their offer.

    The first identifier that did not miss decides. Behind it, a weak one says nothing, and a strong one that
    is known answers only if its contact does not have another profile than the row.
    """
    starts = offers.starts[offers.counts > 0]
    counts = offers.counts[offers.counts > 0]
    step_if_not_missed = np.where(outcome == _Outcome.NOT_FOUND, len(outcome), step)
    first_step = np.repeat(np.minimum.reduceat(step_if_not_missed, starts), counts)
    indices = offers.identifier_indices
    is_vanity_profile = offers.have_trait(Trait.VANITY)[indices]
    row_has_vanity = np.repeat(np.logical_or.reduceat(is_vanity_profile, starts), counts)
    is_email = offers.have_trait(Trait.EMAIL, Trait.ROLE)[indices]
    is_contradicted = row_has_vanity & is_email & has_vanity[indices] & (outcome == _Outcome.MATCHED)
    is_weak_one = offers.have_trait(Trait.ROLE, Trait.PHONE)[indices]
    is_silenced = (step > first_step) & (outcome != _Outcome.SUPPRESSED) & (is_weak_one | is_contradicted)
    return np.where(is_silenced, np.int8(_Outcome.INVALID), outcome)


# The rows of a block, settled or asked


@dataclass(slots=True, eq=False)
class Block:
    """Consecutive rows that leave together."""

    number: int
    candidates: Sequence[Candidates]
    """What each row offers."""
    rows: list[Row]
    """The rows that the ledger does not end at once."""
    row_index: Sequence[int]
    """The index of each of `rows` among all rows of the block."""
    new: list[Question]
    """The questions that no open row asked before; they have to be looked up."""
    settlement: Settlement | None = None
    """How the other rows end."""
    settled_keys: frozenset[bytes] = frozenset()
    """The keys of what the other rows offer."""
    identifiers: int = 0
    """How many distinct identifiers it has that no open block before it has."""
    _resolved_rows: int = 0

    @property
    def folded(self) -> int:
        """How many of its identifiers are offered more than once, here or in another open block."""
        return sum([len(row.identifiers) for row in self.candidates]) - self.identifiers

    @property
    def statuses(self) -> list[Status | None]:
        """How each row ends; None if that is not known yet."""
        statuses: list[Status | None] = (
            [None] * len(self.candidates) if self.settlement is None else self.settlement.statuses()
        )
        asked: list[Status | None] = [row.status for row in self.rows]
        scatter(asked, self.row_index, into=statuses)
        return statuses

    def invalid_reasons(self) -> Iterator[str]:
        """For each row without a usable identifier, why."""
        for row in self.candidates:
            if not row.identifiers:
                yield row.reasons[0] if row.reasons else "blank"

    def unusable_reasons(self) -> Iterator[str]:
        """Every reason why something in a row cannot be used."""
        for row in self.candidates:
            for reason in row.reasons:
                if reason != "blank":
                    yield reason

    @property
    def has_choice(self) -> bool:
        """Whether one of its rows offers several identifiers."""
        return any(len(row.questions) > 1 for row in self.rows)

    @property
    def is_resolved(self) -> bool:
        """Whether each of its rows has ended."""
        rows = self.rows
        # What has ended stays so, and is not looked at again.
        while self._resolved_rows < len(rows) and rows[self._resolved_rows].status is not None:
            self._resolved_rows += 1
        return self._resolved_rows == len(rows)


def scatter(values: Sequence[_T], index: Sequence[int], *, into: list[_T]) -> None:
    """Put each value at its index of another list."""
    for position, value in zip(index, values, strict=True):
        into[position] = value


class EndedRows:
    """How the rows of a block ended, an entry for each row."""

    def __init__(self, block: Block, *, run: str) -> None:
        rows = len(block.candidates)
        self._block = block
        self.statuses = block.statuses
        self.identifiers: list[Identifier | None] = [None] * rows
        """The identifier that decided. Nothing tells by which identifier somebody is suppressed."""
        self.is_from_ledger = np.zeros(rows, dtype=np.bool_)
        self.answered_at = np.full(rows, np.nan)
        """Seconds since the epoch; NaN without an answer."""
        self.settled_answers: Final = None if block.settlement is None else block.settlement.answers()
        """The answers to the rows that the ledger ended."""
        self.known: Final = [row.answer if row.status in ANSWERED else None for row in block.rows]
        """The answers to the rows that were asked."""
        if block.settlement is not None and self.settled_answers is not None:
            self.identifiers = block.settlement.deciding_identifiers()
            self.is_from_ledger[self.settled_answers.rows] = self.settled_answers.is_from_ledger
            self.answered_at[self.settled_answers.rows] = self.settled_answers.answered_at
        if block.rows:
            self._place_asked_rows(block, run)

    def _place_asked_rows(self, block: Block, run: str) -> None:
        identifiers = [_shown_identifier(row) for row in block.rows]
        scatter(identifiers, block.row_index, into=self.identifiers)
        index = np.array(block.row_index)
        self.is_from_ledger[index] = [
            known is not None and (known.run != run or known.is_alias) for known in self.known
        ]
        times = [None if known is None else known.answered_at for known in self.known]
        self.answered_at[index] = np.array(times, dtype=np.float64)

    def suppress(self, row: int) -> None:
        """End this row as suppressed, and tell nothing else of it."""
        self.statuses[row] = "suppressed"
        self.identifiers[row] = None
        self.is_from_ledger[row] = False
        self.answered_at[row] = np.nan

    def contradict(self, row: int) -> None:
        """End this row as not found: the contact that was found is another person's."""
        self.statuses[row] = "not_found"

    def missed_kinds(self) -> Iterator[FieldType]:
        """For each answered row with several identifiers, each kind that missed before another kind answered."""
        for row, kind in self._missed_kinds():
            if self.statuses[row] in ANSWERED:
                yield kind

    def _missed_kinds(self) -> Iterator[tuple[int, FieldType]]:
        for index, row in zip(self._block.row_index, self._block.rows, strict=True):
            for kind in _kinds_missed_before(row):
                yield index, kind
        if self._block.settlement is not None:
            yield from self._block.settlement.missed_kinds()


def _shown_identifier(row: Row) -> Identifier | None:
    """The identifier that decided. Nothing tells by which identifier somebody is suppressed."""
    return None if row.question is None or row.status == "suppressed" else row.question.identifier


def _kinds_missed_before(row: Row) -> set[FieldType]:
    """The kinds of a row's identifiers that were missed, except the kind of the one that decided."""
    if len(row.questions) <= 1 or row.question is None:
        return set()
    missed: set[FieldType] = {
        question.identifier.field_type for question in row.questions if question.state == "missed"
    }
    return missed - {row.question.identifier.field_type}
