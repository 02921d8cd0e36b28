"""The questions of open rows: which of them is asked next, and which rows wait for which."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from msgspec.structs import replace

from eb_dagster.contacts.schema import Status
from eb_dagster.identifiers.canonical import identifiers_in, key_form
from eb_dagster.identifiers.model import Candidates, FieldType, Identifier
from eb_dagster.ledger.known_keys import Known
from eb_dagster.pipeline.rows import Block, Question, Row, Settlement, State, decide

MOST_TURNS: Final = 3
"""Rows of one name that are answered in turn. More rows of it are about people who share the name."""


@dataclass(slots=True, eq=False)
class _Namesakes:
    """Open rows of one name and company."""

    first: Row | None = None
    """The row that is being answered."""
    held: list[Row] = field(default_factory=list[Row])
    turns: int = 0


class Agenda:
    """The questions of the rows that are open, and the next partition to ask.

    A row is looked up by its first identifier; only a miss leads to the next one. A row with an identifier
    that is answered already costs nothing. A row whose answer is in doubt is not asked further: the person
    may have been paid for.
    """

    def __init__(self) -> None:
        self.blocks: deque[Block] = deque()
        self.open_rows = 0
        self._blocks_added = 0
        # Nothing in a row or question leads back to the row. So there are no cycles, and Python's collector
        # does not have to walk through the open rows.
        self._questions: dict[bytes, Question] = {}
        # The newest block with a settled row that offers this key.
        self._settled_in_block: dict[bytes, int] = {}
        # The rows that wait for a question: nearly always one, and a list for each would be a third of what
        # the collector has to walk through.
        self._waiting: dict[bytes, Row | list[Row]] = {}
        self._queues: list[deque[Question]] = []
        """The questions to ask, by step: how many identifiers of the row were asked before."""
        self._namesakes: dict[str, _Namesakes] = {}

    # Rows come in

    def add(
        self,
        candidates: Sequence[Candidates],
        keys: Mapping[Identifier, bytes],
        *,
        settlement: Settlement | None = None,
    ) -> Block:
        """Take in rows, with the keys of what the rows offer that the ledger does not settle.

        The new questions of the block have to be looked up before `start`.
        """
        number = self._blocks_added
        self._blocks_added += 1
        row_index: Sequence[int] = range(len(candidates))
        open_candidates = candidates
        if settlement is not None:
            row_index = np.flatnonzero(settlement.is_open).tolist()
            open_candidates = [candidates[index] for index in row_index]
        questions = self._questions
        rows: list[Row] = []
        new: list[Question] = []
        for offered in open_candidates:
            row_questions: list[Question] = []
            for identifier in offered.identifiers:
                key = keys[identifier]
                question = questions.get(key)
                if question is None:
                    question = questions[key] = Question(identifier, key, number)
                    new.append(question)
                else:
                    question.block = number
                row_questions.append(question)
            rows.append(Row(tuple(row_questions), None if offered.person is None else offered.person.hold))
        block = Block(number, candidates, rows, row_index, new, settlement)
        self._count_identifiers(block)
        self.open_rows += len(candidates)
        self.blocks.append(block)
        return block

    def _count_identifiers(self, block: Block) -> None:
        counted_before = self._settled_in_block
        block.identifiers = sum([question.key not in counted_before for question in block.new])
        if block.settlement is None:
            return
        block.settled_keys = frozenset(block.settlement.settled_keys())
        block.identifiers += len(block.settled_keys.difference(counted_before, self._questions))
        counted_before.update(dict.fromkeys(block.settled_keys, block.number))
        # What was learned of a question since the look-up counts for every row that offers it.
        for key in self._questions.keys() & block.settled_keys:
            self._questions[key].block = block.number

    def start(self, block: Block) -> None:
        """End the rows of which enough is known, and queue the questions of the others."""
        for row in block.rows:
            self._advance(row)

    # Questions are asked

    def full_step(self, size: int) -> int | None:
        """The first step with enough questions for a full partition."""
        return next((step for step, queue in enumerate(self._queues) if len(queue) >= size), None)

    def first_step(self) -> int | None:
        """The first step with any question."""
        return self.full_step(1)

    def cut_step(self, step: int, size: int) -> list[Question]:
        """Take up to `size` questions of this step."""
        queue = self._queues[step]
        return [queue.popleft() for _ in range(min(size, len(queue)))]

    def put_back(self, questions: Sequence[Question]) -> None:
        """Queue these questions again, before all others; except those that no row waits for any more."""
        if not self._queues:
            self._queues.append(deque())
        for question in reversed(questions):
            # A question that was left over may have a successor, and both would be paid for.
            if self._questions.get(question.key) is not question or question.state == "suppressed":
                continue
            question.state = "open"
            if question.key in self._waiting:
                question.state = "queued"
                self._queues[0].appendleft(question)

    def wanted(self, questions: Iterable[Question]) -> list[Question]:
        """The questions that an open row still waits for. The others are open again, for rows that come later."""
        wanted: list[Question] = []
        for question in questions:
            if question.key in self._waiting:
                wanted.append(question)
            elif question.state != "suppressed":
                question.state = "open"
        return wanted

    def identifiers(self) -> list[Identifier]:
        """The identifiers of all questions of open rows."""
        return [question.identifier for question in self._questions.values()]

    # Answers come in

    def settle(self, question: Question, state: State, answer: Known | None = None) -> None:
        """Note an outcome, and let the rows go on that waited for it."""
        # Who was suppressed since the question was asked stays so, whatever the answer.
        if question.state != "suppressed":
            question.state = state
        if answer is not None:
            question.answer = answer
        for row in _as_list(self._waiting.pop(question.key, [])):
            self._advance(row)

    def _end_suppressed(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.status is None and any(question.state == "suppressed" for question in row.questions):
                self._end(row, *decide(row))

    def suppress(self, suppressed: Collection[Identifier]) -> None:
        """End the open rows that offer one of these, and ask nothing that only such rows wait for."""
        if not suppressed:
            return
        for question in self._questions.values():
            if question.identifier in suppressed:
                question.state = "suppressed"
        for block in self.blocks:
            self._end_suppressed(block.rows)
        self._forget_ended_waiters()
        for queue in self._queues:
            queued = list(queue)
            queue.clear()
            queue.extend(self.wanted(queued))

    def _forget_ended_waiters(self) -> None:
        for key, waiting in list(self._waiting.items()):
            rows = [row for row in _as_list(waiting) if row.status is None]
            if rows:
                self._waiting[key] = rows if len(rows) > 1 else rows[0]
            else:
                del self._waiting[key]

    def give_up(self) -> None:
        """Ask nothing more: what is queued stays unasked."""
        while (step := self.first_step()) is not None:
            for question in self.cut_step(step, 1):
                self.settle(question, "not_asked")

    # Rows go on

    def _advance(self, row: Row) -> None:
        if row.status is not None:
            return
        status, question = decide(row)
        if status is not None or question is None:
            self._end(row, status, question)
            return
        is_asked = question.state not in ("new", "open")
        if not is_asked and self._is_held_back(row):
            return
        self._wait(row, question)
        if not is_asked:
            self._queue(question, step=row.questions.index(question))

    def _wait(self, row: Row, question: Question) -> None:
        waiting = self._waiting.get(question.key)
        if waiting is None:
            self._waiting[question.key] = row
        elif isinstance(waiting, list):
            waiting.append(row)
        else:
            self._waiting[question.key] = [waiting, row]

    def _queue(self, question: Question, *, step: int) -> None:
        while len(self._queues) <= step:
            self._queues.append(deque())
        question.state = "queued"
        self._queues[step].append(question)

    def _end(self, row: Row, status: Status | None, question: Question | None) -> None:
        row.status, row.question = status, question
        namesakes = None if row.hold is None else self._namesakes.get(row.hold)
        if namesakes is not None and namesakes.first is row:
            self._let_namesakes_go(namesakes)

    def _is_held_back(self, row: Row) -> bool:
        """Whether another row of this name and company is being answered, whose contact may be this row's too.

        A row that is held back owns no question, so rows cannot wait for each other in a circle.
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

    def _let_namesakes_go(self, namesakes: _Namesakes) -> None:
        """Let the rows go on that waited for the first one of their name."""
        first, held = namesakes.first, namesakes.held
        namesakes.first, namesakes.held = None, []
        if first is None:
            return
        if not held and first.hold is not None:
            del self._namesakes[first.hold]
        for row in held:
            self._answer_like(first, row)

    def _answer_like(self, first: Row, row: Row) -> None:
        """Give a row the contact of the first row of its name if that is the row's person; else let it go on."""
        question = _answered_question(row, first)
        if question is None:
            self._advance(row)
            return
        if question is not first.question and first.answer is not None:
            self.settle(question, "matched", replace(first.answer, is_alias=True))
        if row.status is None:
            self._end(row, "matched", question)

    # Rows leave

    def leaving(self) -> Iterator[Block]:
        """The blocks at the front whose rows have all ended, in input order."""
        while self.blocks and self.blocks[0].is_resolved:
            block = self.blocks.popleft()
            yield block
            self.open_rows -= len(block.candidates)
            self._forget(block)

    def _forget(self, block: Block) -> None:
        """Forget what no open row offers: from here on it is the ledger that knows it."""
        offered = {question.key for row in block.rows for question in row.questions}
        for key in self._questions.keys() & offered.union(block.settled_keys):
            if self._questions[key].block == block.number:
                del self._questions[key]
        for key in block.settled_keys:
            if self._settled_in_block.get(key) == block.number:
                del self._settled_in_block[key]

    def clear(self) -> list[Question]:
        """Let go of all rows. Returns the questions that were queued."""
        queued = [question for queue in self._queues for question in queue]
        self.blocks.clear()
        self._questions.clear()
        self._settled_in_block.clear()
        self._waiting.clear()
        self._queues.clear()
        self._namesakes.clear()
        self.open_rows = 0
        return queued


def _as_list(waiting: Row | list[Row]) -> list[Row]:
    return waiting if isinstance(waiting, list) else [waiting]


def _folded(identifier: Identifier) -> tuple[FieldType, str]:
    return identifier.field_type, key_form(identifier.field_type, identifier.value)


def _answered_question(row: Row, first: Row) -> Question | None:
    """The question of this row that the contact of the first row of its name answers too; None if it answers none.

    The contact has to hold one of the row's identifiers. A row without a strong identifier takes the
    contact as it is: then it is the question that found the contact.
    """
    answer = first.answer
    if first.status != "matched" or answer is None or answer.contacts is None:
        return None
    held = set(map(_folded, identifiers_in(answer.contacts.texts(answer.row))))
    for question in row.questions:
        if question.state != "missed" and _folded(question.identifier) in held:
            return question
    return None if row.strong_questions else first.question
