"""The rows that are open, in arrays: which of their identifiers is asked next, and which rows wait for which."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.schema import STATUSES
from eb_dagster.identifiers.arrays import distinct
from eb_dagster.identifiers.names import RowPerson
from eb_dagster.identifiers.offers import Numbers, Offers, ranges
from eb_dagster.pipeline.eligibility import answered_alike
from eb_dagster.pipeline.ended import EndedRows
from eb_dagster.pipeline.keys import SLOT, KeySlots
from eb_dagster.pipeline.lookup import Lookup
from eb_dagster.pipeline.namesakes import Namesakes, NewAlias
from eb_dagster.pipeline.offers import KeyedOffers
from eb_dagster.pipeline.rows import (
    NONE,
    Booleans,
    Codes,
    Identifiers,
    Outcome,
    State,
    are_weak,
    await_answers,
    decide,
    status_code,
)
from eb_dagster.pipeline.table import Table

_ROW: Final = np.dtype([
    # Where its slots begin, and how many there are.
    ("start", "i8"),
    ("count", "i8"),
    # An index in `STATUSES`; -1 until it has ended.
    ("status", "i1"),
    # The slot that decided how it ended, or for which it waits; -1 without one.
    ("deciding", "i8"),
    ("waits", "i8"),
    ("has_namesakes", "?"),
])  # fmt: skip
_MATCHED: Final = status_code("matched")
_SUPPRESSED: Final = status_code("suppressed")
_LAST: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows that leave together: what they offer, the keys of it, and what the ledger knew of these."""

    keyed: KeyedOffers
    lookup: Lookup
    offers: Offers
    """What these rows offer, of all in `keyed`."""

    @property
    def offered(self) -> Numbers:
        """The index of a key in `keyed` for everything that is offered, row after row."""
        return self.keyed.key_of_value[self.offers.identifiers]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive rows that leave together."""

    number: int
    offers: Offers
    """What each row offers."""
    new_slots: Numbers
    """The slots of keys that no slot stood for before."""
    identifiers: int
    """How many distinct identifiers it has that no open block before it has."""

    @property
    def folded(self) -> int:
        """How many of its identifiers are offered more than once, here or in another open block."""
        return len(self.offers.identifiers) - self.identifiers

    @property
    def has_choice(self) -> bool:
        """Whether one of its rows offers several identifiers."""
        return int(self.offers.counts.max(initial=0)) > 1


class Window:
    """The open rows, and the next partition to ask.

    A row is looked up by its first identifier; only a miss leads to the next one. A row with an identifier
    that is answered already costs nothing. A row whose answer is in doubt is not asked further: the person
    may have been paid for.
    """

    def __init__(self) -> None:
        self.blocks: deque[Block] = deque()
        self.slots = KeySlots()
        self._rows = Table.zeros(_ROW, 0)
        self._offered: Numbers = np.zeros(0, dtype=np.int64)
        """The slots of all rows, row after row."""
        self._first_row = 0
        """The number of the first row: how many have left."""
        self._blocks_added = 0
        self._queues: list[Numbers] = []
        """The slots to ask, by step: how many identifiers of the row were asked before."""
        self._namesakes = Namesakes()
        self.new_aliases: list[NewAlias] = []
        """What rows were answered by for their names' sake: for the ledger, so that it is not asked next time."""

    @property
    def open_rows(self) -> int:
        """How many rows have not left."""
        return len(self._rows)

    @property
    def elsewhere(self) -> Numbers:
        """The slots that another process is asking."""
        return np.flatnonzero(self.slots.table["state"] == State.ELSEWHERE)

    # Rows come in

    def add(self, rows: Rows) -> Block:
        """Take in rows that were looked up. They are decided by `start`."""
        number = self._blocks_added
        first_block = self._first_open_block
        self._blocks_added += 1
        indices, offered = np.unique(rows.offered, return_inverse=True)
        slots, is_new, is_unoffered = self.slots.take(
            rows.keyed, indices, block=number, first_block=first_block
        )
        # What was learned of a key since the look-up counts.
        may_learn = is_new | (self.slots.table["state"][slots] == State.OPEN)
        self._learn(slots[may_learn], rows.lookup, indices[may_learn])
        self._append(rows.offers, slots[offered])
        block = Block(number, rows.offers, slots[is_new], identifiers=int(np.count_nonzero(is_unoffered)))
        self.blocks.append(block)
        return block

    def _append(self, offers: Offers, slots: Numbers) -> None:
        new = Table.zeros(_ROW, len(offers))
        new["start"] = len(self._offered) + offers.starts
        new["count"] = offers.counts
        new["status"] = new["deciding"] = new["waits"] = NONE
        if offers.persons is not None:
            first = self._first_row + len(self._rows)
            for index, person in enumerate(offers.persons):
                if person is not None and (hold := person.hold) is not None:
                    self._namesakes.add(first + index, hold)
                    new["has_namesakes"][index] = True
        self._rows.append(new)
        self._offered = np.concatenate([self._offered, slots])

    def learn(self, slots: Numbers, lookup: Lookup) -> None:
        """Note what a look-up of the keys in these slots told, and let the rows go on that waited for it."""
        self._learn(slots, lookup, np.arange(len(slots)))
        table = self.slots.table
        table["is_held"][slots[table["state"][slots] != State.OPEN]] = False
        ended = slots[~self._may_be_answered(slots)]
        self._advance(self._rows_that_wait_for(ended))
        self._free(ended)

    def _learn(self, slots: Numbers, lookup: Lookup, indices: Numbers) -> None:
        """Note what a look-up told of the keys in these slots. `indices` are theirs in the look-up's arrays."""
        table, known = self.slots.table, lookup.known
        states = lookup.states[indices]
        # It was bought before, asked again because it was old, and not found any more.
        keeps_old = (states == State.MISSED) & table["has_old"][slots]
        states[keeps_old] = State.MATCHED
        is_suppressed = table["state"][slots] == State.SUPPRESSED
        table["state"][slots] = np.where(is_suppressed, np.int8(State.SUPPRESSED), states)
        table["seen"][slots] = lookup.newest
        is_told = lookup.is_known[indices] & ~keeps_old
        slots, indices = slots[is_told], indices[is_told]
        if not len(slots):
            return
        table["request_id"][slots] = lookup.request_ids[indices]
        table["answered_at"][slots] = lookup.answered_at[indices]
        table["is_of_run"][slots] = lookup.is_of_run[indices]
        table["position"][slots] = known.position[indices]
        table["is_alias"][slots] = known.is_alias[indices]
        table["has_vanity"][slots] = known.has_vanity[indices]
        table["has_old"][slots] = known.is_stale[indices]
        table["source"][slots] = NONE

    def start(self, block: Block) -> None:
        """End the rows of the newest block of which enough is known, and queue the questions of the others."""
        end = len(self._rows)
        self._advance(np.arange(end - len(block.offers), end))

    # Questions are asked

    def full_step(self, size: int) -> int | None:
        """The first step with enough questions for a full partition."""
        return next((step for step, queue in enumerate(self._queues) if len(queue) >= size), None)

    def first_step(self) -> int | None:
        """The first step with any question."""
        return self.full_step(1)

    def cut_step(self, step: int, size: int) -> Numbers:
        """Take the slots of up to `size` questions of this step."""
        queue = self._queues[step]
        slots, self._queues[step] = queue[:size], queue[size:]
        self.slots.table["is_queued"][slots] = False
        self.slots.table["is_held"][slots] = True
        return slots

    def put_back(self, slots: Numbers) -> None:
        """Queue these questions again, before all others; except those that no row waits for any more."""
        if not self._queues:
            self._queues.append(np.zeros(0, dtype=np.int64))
        wanted = self.wanted(slots)
        table = self.slots.table
        table["state"][wanted] = State.QUEUED
        table["is_queued"][wanted] = True
        table["is_held"][wanted] = False
        self._queues[0] = np.concatenate([wanted, self._queues[0]])

    def wanted(self, slots: Numbers) -> Numbers:
        """The slots for which an open row still waits. The others are open again, for rows that come later."""
        if not len(slots):
            return slots
        is_wanted = self._waited_for()[slots] & self._may_be_answered(slots)
        self._let_go_of(slots[~is_wanted])
        return slots[is_wanted]

    def _let_go_of(self, slots: Numbers) -> None:
        """Let go of slots that no row waits for."""
        table = self.slots.table
        table["state"][slots[self._may_be_answered(slots)]] = State.OPEN
        table["is_queued"][slots] = table["is_held"][slots] = False
        self._free(slots)

    def _waited_for(self) -> Booleans:
        is_waited_for = np.zeros(len(self.slots.table) + 1, dtype=np.bool_)
        is_waited_for[self._rows["waits"]] = True
        is_waited_for[NONE] = False
        return is_waited_for

    # Answers come in

    def settle(self, slots: Numbers, states: npt.ArrayLike) -> None:
        """Note outcomes without an answer, and let the rows go on that waited for them."""
        is_waiting = self._may_be_answered(slots)
        self.slots.table["is_held"][slots] = False
        self._settle(
            slots[is_waiting], np.broadcast_to(np.asarray(states, dtype=np.int8), len(slots))[is_waiting]
        )
        self._free(slots)

    def answer(self, slots: Numbers, states: Codes, answers: Answers) -> None:
        """Note what a reply said, and let the rows go on that waited for it."""
        table, is_waiting = self.slots.table, self._may_be_answered(slots)
        states = np.where((states == State.MISSED) & table["has_old"][slots], np.int8(State.MATCHED), states)
        is_told = is_waiting & (
            (states == State.MISSED) | ((states == State.MATCHED) & (answers.contact != NONE))
        )
        told = slots[is_told]
        table["request_id"][told] = answers.request_id
        table["answered_at"][told] = answers.answered_at
        table["position"][told] = answers.position[is_told]
        table["has_vanity"][told] = answers.has_vanity[is_told]
        table["source"][told] = np.where(answers.contact[is_told] == NONE, NONE, answers.source)
        table["contact"][told] = answers.contact[is_told]
        table["is_of_run"][told] = True
        table["is_alias"][told] = table["has_old"][told] = False
        table["is_held"][slots] = False
        self._settle(slots[is_waiting], states[is_waiting])
        self._free(slots)

    def _may_be_answered(self, slots: Numbers) -> Booleans:
        """Which of these wait for an answer.

        Who was suppressed since the question was asked stays so, whatever the answer. And what a namesake's
        contact has answered has decided rows.
        """
        return await_answers(self.slots.table["state"][slots])

    def _settle(self, slots: Numbers, states: Codes) -> None:
        self.slots.table["state"][slots] = states
        self._advance(self._rows_that_wait_for(slots))

    def _rows_that_wait_for(self, slots: Numbers) -> Numbers:
        is_settled = np.zeros(len(self.slots.table) + 1, dtype=np.bool_)
        is_settled[slots] = True
        return np.flatnonzero(is_settled[self._rows["waits"]])

    def suppress(self, slots: Numbers) -> None:
        """End the open rows that offer one of these, and ask nothing that only such rows wait for."""
        if not len(slots):
            return
        self.slots.table["state"][slots] = State.SUPPRESSED
        is_suppressed = np.zeros(len(self.slots.table), dtype=np.bool_)
        is_suppressed[slots] = True
        row_of_offered = np.repeat(np.arange(len(self._rows)), self._rows["count"])
        rows = distinct(row_of_offered[is_suppressed[self._offered]])
        self._advance(rows[self._rows["status"][rows] == NONE])
        self._queues = [self.wanted(queue) for queue in self._queues]
        self._free(slots)

    def give_up(self) -> None:
        """Ask nothing more: what is queued stays unasked."""
        while (step := self.first_step()) is not None:
            self.settle(self.cut_step(step, len(self._queues[step])), State.NOT_ASKED)

    # Rows go on

    def _advance(self, rows: Numbers) -> None:
        """Decide these rows, then those that were held back for them."""
        while len(rows):
            ended = self._decide(rows)
            rows = self._let_go(ended)

    def _decide(self, rows: Numbers) -> Numbers:
        """End those of these rows of which enough is known, and let the others wait. Returns those that ended."""
        table, counts = self.slots.table, self._rows["count"][rows]
        offered = self._offered[ranges(self._rows["start"][rows], counts)]
        outcome, deciding = decision = decide(
            counts,
            Identifiers(
                table["state"][offered],
                table["trait"][offered],
                table["has_vanity"][offered],
                table["has_old"][offered],
            ),
        )
        slot = np.append(offered, NONE)[deciding]
        status = decision.status
        has_ended = status != NONE
        self._rows["status"][rows] = status
        self._rows["deciding"][rows] = np.where(has_ended, slot, NONE)
        self._rows["waits"][rows] = np.where(outcome == Outcome.PENDING, slot, NONE)
        asking = np.flatnonzero(outcome == Outcome.ASK)
        if len(asking):
            starts = np.cumsum(counts) - counts
            self._ask(_Asking(rows[asking], slot[asking], (deciding - starts)[asking]))
        return rows[has_ended]

    def _ask(self, asking: _Asking) -> None:
        """Queue the questions of these rows, in the order of the rows.

        A row does not ask its own question if a row before it asks another of its strong identifiers: that
        answer may save a credit.
        """
        asked_by = np.full(len(self.slots.table), _LAST)
        step_of = np.zeros(len(self.slots.table), dtype=np.int64)
        is_bound = self._rows["has_namesakes"][asking.rows] | self._offer_what_others_ask(asking)
        order = np.arange(len(asking.rows))
        free = order[~is_bound]
        slots, first = np.unique(asking.slots[free], return_index=True)
        asked_by[slots] = free[first]
        step_of[slots] = asking.steps[free[first]]
        waits = asking.slots.copy()
        for index in order[is_bound].tolist():
            # One row after the other: few rows depend on others.
            waits[index] = self._ask_in_turn(index, asking, asked_by, step_of)
        self._rows["waits"][asking.rows] = waits
        asked = np.flatnonzero(asked_by != _LAST)
        asked = asked[np.argsort(asked_by[asked], kind="stable")]
        self._queue(asked, step_of[asked])

    def _offer_what_others_ask(self, asking: _Asking) -> Booleans:
        """Which of these rows have a strong identifier, behind their first one, that another may ask now."""
        counts = self._rows["count"][asking.rows]
        if counts.max(initial=0) < 2:
            return np.zeros(len(counts), dtype=np.bool_)
        is_asked = np.zeros(len(self.slots.table), dtype=np.bool_)
        is_asked[asking.slots] = True
        offered = self._offered[ranges(self._rows["start"][asking.rows], counts)]
        is_other = is_asked[offered] & self._is_strong(offered) & (offered != np.repeat(asking.slots, counts))
        row = np.repeat(np.arange(len(counts)), counts)
        return np.bincount(row[is_other], minlength=len(counts)) > 0

    def _is_strong(self, slots: Numbers) -> Booleans:
        return ~are_weak(self.slots.table["trait"][slots])

    def _ask_in_turn(self, index: int, asking: _Asking, asked_by: Numbers, step_of: Numbers) -> int:
        """For which slot a row waits: one that a row before it asks, or its own; -1 if it is held back."""
        row, own = int(asking.rows[index]), int(asking.slots[index])
        others = self._slots_of(row)
        others = others[self._is_strong(others) & (self.slots.table["state"][others] == State.OPEN)]
        for slot in (own, *others.tolist()):
            if asked_by[slot] < index:
                return slot
        if self._namesakes.holds_back(self._first_row + row):
            return NONE
        if index < asked_by[own]:
            asked_by[own], step_of[own] = index, asking.steps[index]
        return own

    def _slots_of(self, row: int) -> Numbers:
        start = int(self._rows["start"][row])
        return self._offered[start : start + int(self._rows["count"][row])]

    def _queue(self, slots: Numbers, steps: Numbers) -> None:
        self.slots.table["state"][slots] = State.QUEUED
        self.slots.table["is_queued"][slots] = True
        while len(self._queues) <= steps.max(initial=-1):
            self._queues.append(np.zeros(0, dtype=np.int64))
        listed: list[int] = distinct(np.sort(steps)).tolist()
        for step in listed:
            self._queues[step] = np.concatenate([self._queues[step], slots[steps == step]])

    def _let_go(self, ended: Numbers) -> Numbers:
        """Answer rows like the first one of their name, which has ended. Returns those that have to be decided."""
        go_on: list[int] = []
        for first in ended[self._rows["has_namesakes"][ended]].tolist():
            for number in self._namesakes.end(self._first_row + first):
                row = number - self._first_row
                # A row that has ended otherwise may have left.
                if row >= 0 and self._rows["status"][row] == NONE and not self._answer_like(first, row):
                    go_on.append(row)
        return np.array(go_on, dtype=np.int64)

    def _answer_like(self, first: int, row: int) -> bool:
        """Give a row the contact of the first row of its name if that is the row's person. Returns whether it was."""
        table = self.slots.table
        deciding = int(self._rows["deciding"][first])
        slot = self._answered_slot(row, first)
        if slot is None:
            return False
        if slot != deciding and table["state"][slot] != State.SUPPRESSED:
            self._note_alias(slot, of=deciding)
            for name in (
                "request_id",
                "position",
                "answered_at",
                "is_of_run",
                "has_vanity",
                "source",
                "contact",
            ):
                table[name][slot] = table[name][deciding]
            table["is_alias"][slot] = True
            self.settle(np.array([slot]), State.MATCHED)
        if self._rows["status"][row] == NONE:
            self._rows["status"][row] = _MATCHED
            self._rows["deciding"][row] = slot
            self._rows["waits"][row] = NONE
            self._namesakes.end(self._first_row + row)
        return True

    def _note_alias(self, slot: int, *, of: int) -> None:
        """Note that the contact of one slot answers another one that it may not hold, and that nobody has asked."""
        table = self.slots.table
        if table["state"][slot] not in (State.OPEN, State.QUEUED):
            return
        answer = table[np.array([of])]
        self.new_aliases.append(
            NewAlias(
                table["key"][slot].tobytes(),
                int(answer["request_id"][0]),
                int(answer["position"][0]),
                self.slots.sources[int(answer["source"][0])],
                int(answer["contact"][0]),
            )
        )

    def _person_of(self, row: int) -> RowPerson | None:
        for block in self.blocks:
            if row < len(block.offers):
                return None if block.offers.persons is None else block.offers.persons[row]
            row -= len(block.offers)
        return None

    def _answered_slot(self, row: int, first: int) -> int | None:
        """The slot of this row that the contact of the first row of its name answers too; None if it answers none."""
        table = self.slots.table
        deciding, person = int(self._rows["deciding"][first]), self._person_of(row)
        if self._rows["status"][first] != _MATCHED or table["source"][deciding] == NONE or person is None:
            return None
        slots = self._slots_of(row)
        slots = slots[table["state"][slots] != State.MISSED]
        contacts = self.slots.sources[int(table["source"][deciding])]
        index = answered_alike(
            self.slots.identifiers(slots), person, contacts, int(table["contact"][deciding])
        )
        return None if index is None else int(slots[index])

    # Rows leave

    @property
    def _first_open_block(self) -> int:
        return self.blocks[0].number if self.blocks else self._blocks_added

    def _free(self, slots: Numbers) -> None:
        if self.slots.table["block"][slots].min(initial=_LAST) < self._first_open_block:
            self.slots.free(slots, first_block=self._first_open_block)

    def status_of(self, block: Block) -> Codes:
        """How each row of the newest block ends, as an index in `STATUSES`; -1 if that is not known yet."""
        return self._rows["status"][len(self._rows) - len(block.offers) :]

    def open_questions(self, block: Block) -> tuple[Numbers, Numbers]:
        """Of the open rows of the newest block: how many identifiers each offers, and the slots of these."""
        rows = self._rows[len(self._rows) - len(block.offers) :]
        rows = rows[np.flatnonzero(rows["status"] == NONE)]
        counts = rows["count"]
        return counts, self._offered[ranges(rows["start"], counts)]

    def leaving(self) -> Iterator[EndedRows]:
        """The rows of the blocks at the front that have all ended, in input order."""
        while self.blocks and (self._rows["status"][: len(self.blocks[0].offers)] != NONE).all():
            yield self._ended(self.blocks[0])
            self._drop(self.blocks.popleft())

    def _ended(self, block: Block) -> EndedRows:
        rows = self._rows[: len(block.offers)]
        status = rows["status"].copy()
        is_answered = (status == _MATCHED) | (status == STATUSES.index("not_found"))
        deciding = np.where(status == _SUPPRESSED, NONE, rows["deciding"])
        table = self.slots.table if len(self.slots.table) else Table.zeros(SLOT, 1)
        answer = table[np.maximum(deciding, 0)]
        answer["kind"][deciding == NONE] = answer["trait"][deciding == NONE] = NONE
        missed_row, missed_kind = self._missed_kinds(rows, is_answered)
        return EndedRows(
            offers=block.offers,
            status=status,
            kind=answer["kind"],
            trait=answer["trait"],
            query=self.slots.values(deciding),
            request_id=np.where(is_answered, answer["request_id"], 0),
            position=np.where(status == _MATCHED, answer["position"], NONE),
            source=np.where(status == _MATCHED, answer["source"], NONE),
            contact=answer["contact"],
            answered_at=np.where(is_answered, answer["answered_at"], np.nan),
            is_from_ledger=is_answered & (~answer["is_of_run"] | answer["is_alias"]),
            sources=self.slots.sources,
            missed_row=missed_row,
            missed_kind=missed_kind,
        )

    def _missed_kinds(self, rows: Table, is_answered: Booleans) -> tuple[Numbers, Codes]:
        table = self.slots.table
        index = np.flatnonzero(is_answered & (rows["count"] > 1))
        counts = rows["count"][index]
        slots = self._offered[ranges(rows["start"][index], counts)]
        row = np.repeat(index, counts)
        kind = table["kind"][slots]
        is_missed = (table["state"][slots] == State.MISSED) & (kind != table["kind"][rows["deciding"][row]])
        pairs = distinct(np.sort(row[is_missed] * 128 + kind[is_missed]))
        return pairs // 128, (pairs % 128).astype(np.int8)

    def _drop(self, block: Block) -> None:
        """Forget what no open row offers: from here on it is the ledger that knows it."""
        rows, offered = len(block.offers), len(block.offers.identifiers)
        deciding = self._rows["deciding"][:rows]
        slots: Numbers = np.append(self._offered[:offered], deciding[deciding != NONE])
        self._rows = self._rows[rows:]
        self._rows["start"] -= offered
        self._offered = self._offered[offered:]
        self._first_row += rows
        self.slots.free(slots, first_block=self._first_open_block)
        self.slots.drop_unused_sources()

    @property
    def queued(self) -> Numbers:
        """The slots to ask, of all steps."""
        queues = [np.zeros(0, dtype=np.int64), *self._queues]
        return np.concatenate(queues)

    def clear(self) -> None:
        """Let go of all rows."""
        self.blocks.clear()
        self.slots.clear()
        self._first_row += len(self._rows)
        self._rows = Table.zeros(_ROW, 0)
        self._offered = np.zeros(0, dtype=np.int64)
        self._queues.clear()
        self._namesakes.clear()


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a reply says, an entry for each question that it answers."""

    request_id: int
    answered_at: float
    """Seconds since the epoch."""
    source: int
    """Which of the window's sources has the contacts."""
    position: Numbers
    """The contact's position in the reply; -1 for a miss."""
    contact: Numbers
    """The contact's row in the source; -1 without one."""
    has_vanity: Booleans


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """Rows that ask: the slot that each asks, and how many identifiers of the row come before it."""

    rows: Numbers
    slots: Numbers
    steps: Numbers
