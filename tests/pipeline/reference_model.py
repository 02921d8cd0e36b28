"""How rows are asked and end, written as plainly as can be: an object a row, one row after the other.

The arrays of `pipeline/window` have to come to the same; see `test_window` for histories that are drawn at random.
"""

from dataclasses import dataclass, field
from typing import Any

from eb_dagster.identifiers.kinds import is_role, is_weak
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.names import RowPerson, agrees
from eb_dagster.identifiers.profile import is_vanity
from tests.pipeline.tables import MINE, Told

PENDING = ("queued", "asked", "elsewhere")
OPEN_OR_PENDING = ("open", *PENDING)
MOST_TURNS = 3


@dataclass(eq=False)
class Question:
    identifier: Identifier
    block: int
    state: str = "open"
    answer: Told | None = None
    has_old: bool = False
    # What the contact holds that was bought in this run.
    holds: frozenset[Identifier] | None = None
    # The contact's full name.
    name: str = ""
    is_held: bool = False


@dataclass(eq=False)
class Row:
    questions: list[Question]
    person: RowPerson | None
    block: int
    status: str | None = None
    deciding: Question | None = None
    waits: Question | None = None

    @property
    def hold(self) -> str | None:
        return None if self.person is None else self.person.hold


@dataclass
class Group:
    first: Row | None = None
    held: list[Row] = field(default_factory=list)
    turns: int = 0


def decide(row: Row) -> tuple[str, Question | None]:
    """A status, or "wait" or "ask", and the question that it is about."""
    if not row.questions:
        return "invalid", None
    for question in row.questions:
        if question.state == "suppressed":
            return "suppressed", question
    not_missed = [question for question in row.questions if question.state != "missed"]
    if not not_missed:
        return "not_found", row.questions[-1]
    first = not_missed[0]
    if first.state == "matched":
        return "matched", first
    # Weak ones count only if it is their turn.
    telling = [first, *(other for other in not_missed[1:] if not is_weak(other.identifier))]
    return decide_by_later_answers(row, first, telling)


def decide_by_later_answers(row: Row, first: Question, telling: list[Question]) -> tuple[str, Question]:
    """The same for a row whose first question is not answered."""
    for question in telling:
        if question.state == "matched" and not contradicts(row, question):
            return "matched", question
    for state in ("in_doubt", "unreadable"):
        for question in telling:
            if question.state == state:
                return state, question
    for question in telling:
        if question.state in PENDING:
            return "wait", question
    if first.state == "open":
        return "ask", first
    for question in telling:
        may_be_theirs = question is first or not contradicts(row, question)
        if question.has_old and question.state in ("open", "not_asked") and may_be_theirs:
            return "matched", question
    return "not_asked", first


def contradicts(row: Row, question: Question) -> bool:
    """Whether an e-mail found a contact with a profile of its own beside the row's."""
    return (
        question.identifier.field_type == "email"
        and question.answer is not None
        and question.answer.has_vanity
        and any(is_vanity(other.identifier.value) for other in row.questions)
    )


def answered_alike(row: Row, holds: frozenset[Identifier], name: str) -> Question | None:
    """The question of a row that is answered by a contact of another row of its name, if it is its person."""
    left = [question for question in row.questions if question.state != "missed"]
    verdict = row.person and agrees(row.person, full_name=name, first_name=None, last_name=None)
    own = {question.identifier for question in left}
    profiles = {other for other in own if is_vanity(other.value)}
    others = {other for other in holds if is_vanity(other.value)}
    emails = {other for other in own if other.field_type == "email" and not is_role(other)}
    # All addresses here are at one company.
    other_emails = {other for other in holds if other.field_type == "email" and not is_role(other)}
    has_other_profile = profiles and others and not profiles & others
    has_other_email = other_emails and emails - other_emails
    if verdict is False or has_other_profile or has_other_email:
        return None
    strong = [question for question in left if not is_weak(question.identifier)]
    for question in strong:
        if question.identifier in holds:
            return question
    if left and (own & holds or (not strong and verdict)):
        return left[0]
    return None


class Model:
    """All open rows, and everything that is queued."""

    def __init__(self, *, doubt_ends: bool) -> None:
        self.doubt_ends = doubt_ends
        self.questions: dict[Identifier, Question] = {}
        self.rows: list[Row] = []
        self.queues: list[list[Question]] = []
        self.groups: dict[str, Group] = {}
        self.blocks: list[int] = []
        self.blocks_added = 0

    # Rows come in

    def add(
        self, rows: list[Candidates], table: dict[Identifier, Told], suppressed: set[Identifier]
    ) -> list[Row]:
        number = self.blocks_added
        self.blocks_added += 1
        new_rows = []
        for candidates in rows:
            questions = []
            for identifier in candidates.identifiers:
                question = self.questions.get(identifier)
                if question is None:
                    question = self.questions[identifier] = Question(identifier, number)
                question.block = number
                if question.state == "open":
                    self.learn(question, table.get(identifier), identifier in suppressed)
                questions.append(question)
            new_rows.append(Row(questions, candidates.person, number))
        self.rows += new_rows
        self.blocks.append(number)
        return new_rows

    def learn(self, question: Question, told: Told | None, is_suppressed: bool) -> None:
        if told is not None and told.standing == "missed" and question.has_old:
            question.state = "matched"
        elif told is not None:
            question.answer = told
            question.has_old = told.is_stale
            question.state = self.state_of(told)
        if is_suppressed:
            question.state = "suppressed"

    def state_of(self, told: Told) -> str:
        if told.is_stale:
            return "open"
        if told.standing == "in_doubt" and not self.doubt_ends and told.run != MINE:
            return "open"
        return {"in_flight": "elsewhere", "decided": "in_doubt"}.get(told.standing, told.standing)

    # Rows go on

    def advance(self, rows: list[Row]) -> None:
        while rows:
            decisions = [decide(row) for row in rows]
            queued_now: set[Question] = set()
            ended = []
            for row, (status, question) in zip(rows, decisions, strict=True):
                row.waits = None
                if status == "ask":
                    self.ask(row, question, queued_now)
                elif status == "wait":
                    row.waits = question
                else:
                    row.status, row.deciding = status, question
                    ended.append(row)
            rows = [other for row in ended for other in self.let_go(row)]

    def ask(self, row: Row, own: Any, queued_now: set[Question]) -> None:
        others = [
            other
            for other in row.questions
            if not is_weak(other.identifier) and (other.state == "open" or other in queued_now)
        ]
        for question in (own, *others):
            if question in queued_now:
                row.waits = question
                return
        if self.is_held_back(row):
            return
        step = row.questions.index(own)
        while len(self.queues) <= step:
            self.queues.append([])
        self.queues[step].append(own)
        own.state = "queued"
        queued_now.add(own)
        row.waits = own

    def is_held_back(self, row: Row) -> bool:
        if row.hold is None:
            return False
        group = self.groups.setdefault(row.hold, Group())
        if group.first is None and group.turns < MOST_TURNS:
            group.first = row
            group.turns += 1
        if group.first in (None, row):
            return False
        group.held.append(row)
        return True

    def let_go(self, first: Row) -> list[Row]:
        group = self.groups.get(first.hold or "")
        if group is None or group.first is not first:
            return []
        held, group.first, group.held = group.held, None, []
        if not held:
            del self.groups[first.hold or ""]
        return [row for row in held if row.status is None and not self.answer_like(first, row)]

    def answer_like(self, first: Row, row: Row) -> bool:
        found = first.deciding
        if first.status != "matched" or found is None or found.holds is None:
            return False
        own = answered_alike(row, found.holds, found.name)
        if own is None:
            return False
        if own is not found and own.state != "suppressed":
            own.answer, own.holds, own.name = found.answer, found.holds, found.name
            if own.state in OPEN_OR_PENDING:
                own.state = "matched"
                own.is_held = False
                self.advance([other for other in self.rows if other.waits is own and other.status is None])
        if row.status is None:
            row.status, row.deciding, row.waits = "matched", own, None
        return True

    # Questions are asked and answered

    def cut(self, size: int) -> list[Question]:
        """The next partition: of the first step that fills one, or else of the first step with any."""
        full = [queue for queue in self.queues if len(queue) >= size] or [
            queue for queue in self.queues if queue
        ]
        if not full:
            return []
        asked, full[0][:] = full[0][:size], full[0][size:]
        wanted = [question for question in asked if self.is_wanted(question)]
        for question in asked:
            if question not in wanted and question.state in OPEN_OR_PENDING:
                question.state = "open"
        for question in wanted:
            question.state, question.is_held = "asked", True
        self.forget()
        return wanted

    def is_wanted(self, question: Question) -> bool:
        return question.state in OPEN_OR_PENDING and any(
            row.waits is question for row in self.rows if row.status is None
        )

    def answer(
        self, outcomes: list[tuple[Question, str, Told | None, frozenset[Identifier] | None, str]]
    ) -> None:
        told_of = []
        for question, outcome, told, holds, name in outcomes:
            question.is_held = False
            if question.state not in OPEN_OR_PENDING:
                continue
            told_of.append(question)
            if outcome == "missed" and question.has_old:
                question.state = "matched"
                continue
            question.state = outcome
            if told is not None:
                question.answer, question.holds, question.has_old = told, holds, False
                question.name = name
        self.advance([row for row in self.rows if row.status is None and row.waits in told_of])
        self.forget()

    def suppress(self, suppressed: set[Identifier]) -> None:
        for question in self.questions.values():
            if question.identifier in suppressed:
                question.state = "suppressed"
        self.advance([
            row for row in self.rows
            if row.status is None and any(question.identifier in suppressed for question in row.questions)
        ])  # fmt: skip
        for queue in self.queues:
            dropped = [question for question in queue if not self.is_wanted(question)]
            queue[:] = [question for question in queue if self.is_wanted(question)]
            for question in dropped:
                if question.state in OPEN_OR_PENDING:
                    question.state = "open"
        self.forget()

    # Rows leave

    def leave(self) -> list[Row]:
        left: list[Row] = []
        while self.blocks:
            block = [row for row in self.rows if row.block == self.blocks[0]]
            if any(row.status is None for row in block):
                break
            left += block
            self.rows = self.rows[len(block) :]
            self.blocks.pop(0)
            self.forget()
        return left

    def forget(self) -> None:
        """What no open row offers, and nothing leads to, is the ledger's from here on."""
        first = self.blocks[0] if self.blocks else self.blocks_added
        queued = [question for queue in self.queues for question in queue]
        for identifier, question in [*self.questions.items()]:
            if (
                question.block < first
                and question.state not in PENDING
                and not question.is_held
                and question not in queued
            ):
                del self.questions[identifier]
