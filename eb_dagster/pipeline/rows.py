"""How rows end: a row's status by what is known of its identifiers.

It is the same for rows that the ledger knows and for rows that are asked, for plans and for runs. Only a row
that was held back for one of its name may get that row's contact from `window`. `output` and `publication` may
still take a contact back from a row, or withhold it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.schema import STATUSES, Status
from eb_dagster.identifiers.model import Trait
from eb_dagster.identifiers.offers import Numbers

Booleans: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.int8]

ANSWERED: Final[frozenset[Status | None]] = frozenset({"matched", "not_found"})
"""The statuses of rows to which the vendor has given an answer."""


class State(IntEnum):
    """What is known of an identifier."""

    OPEN = 0
    QUEUED = 1
    ASKED = 2
    ELSEWHERE = 3
    """Another process is asking it."""
    MATCHED = 4
    MISSED = 5
    IN_DOUBT = 6
    UNREADABLE = 7
    NOT_ASKED = 8
    SUPPRESSED = 9


PENDING: Final = (State.QUEUED, State.ASKED, State.ELSEWHERE)
_IS_PENDING: Final = np.array([state in PENDING for state in State], dtype=np.bool_)
_AWAITS_ANSWER: Final = np.array([state in (State.OPEN, *PENDING) for state in State], dtype=np.bool_)
NONE: Final = -1
"""An index of nothing; and the status of a row that has not ended."""


def are_pending(states: Codes) -> Booleans:
    """Which identifiers, in these states, somebody asks or is about to."""
    return _IS_PENDING[states]


def await_answers(states: Codes) -> Booleans:
    """Which identifiers, in these states, wait for an answer or may still be asked."""
    return _AWAITS_ANSWER[states]


class Outcome(IntEnum):
    """What an identifier means for its row, or what a row comes to. Of several, the lowest decides."""

    # One suppressed identifier is enough: it is the person who must not be bought.
    SUPPRESSED = 0
    # A known contact costs nothing.
    MATCHED = 1
    # What may have been paid for is not asked under another identifier.
    IN_DOUBT = 2
    UNREADABLE = 3
    # Another row is asking one of this row's identifiers: its answer may save a credit.
    PENDING = 4
    ASK = 5
    # An old contact, under whichever identifier, is better than none, if nothing more is asked.
    OLD = 6
    NOT_ASKED = 7
    NOT_FOUND = 8
    # It says nothing beside the row's other identifiers. A row with nothing else has no identifier at all.
    SILENT = 9


_OUTCOME_OF_STATE: Final = np.array(
    [
        Outcome.ASK, Outcome.PENDING, Outcome.PENDING, Outcome.PENDING, Outcome.MATCHED, Outcome.NOT_FOUND,
        Outcome.IN_DOUBT, Outcome.UNREADABLE, Outcome.NOT_ASKED, Outcome.SUPPRESSED,
    ],
    dtype=np.int8,
)  # fmt: skip


# The last entry stands for no identifier.
_IS_WEAK: Final = np.array([*(trait.is_weak for trait in Trait), False], dtype=np.bool_)


def are_weak(traits: Codes) -> Booleans:
    """Which identifiers, of these traits, several people may share. False where the trait is -1."""
    return _IS_WEAK[traits]


def status_code(status: Status) -> int:
    """A status as a number: its index in `STATUSES`."""
    return STATUSES.index(status)


_STATUS_OF_OUTCOME: Final = np.array(
    [
        status_code("suppressed"), status_code("matched"), status_code("in_doubt"), status_code("unreadable"),
        NONE, NONE, status_code("matched"), status_code("not_asked"), status_code("not_found"),
        status_code("invalid"),
    ],
    dtype=np.int8,
)  # fmt: skip
# Of several identifiers with the same outcome, the first decides; of several that missed, the last.
_SCALE: Final = 1 << 32


class Identifiers(NamedTuple):
    """The identifiers of some rows, those of one row after those of the other, in the order of asking."""

    state: Codes
    trait: Codes
    has_vanity: Booleans
    """Whether the contact that was found, or an old one, has a LinkedIn profile under a name that its owner chose."""
    has_old: Booleans
    """Whether a contact was bought before that is older than `max_age`."""


class Decision(NamedTuple):
    """What rows come to."""

    outcome: Codes
    deciding: Numbers
    """For each row, the index of the identifier that decides, or for which the row waits; -1 without one."""

    @property
    def status(self) -> Codes:
        """As an index in `STATUSES`; -1 if the row has not ended."""
        return _STATUS_OF_OUTCOME[self.outcome]


def decide(counts: Numbers, identifiers: Identifiers) -> Decision:
    """Decide what each row comes to, by what is known of its identifiers. `counts` says how many each row has."""
    outcome = np.full(len(counts), Outcome.SILENT, dtype=np.int8)
    deciding = np.full(len(counts), NONE)
    has_any = np.flatnonzero(counts)
    if not len(has_any):
        return Decision(outcome, deciding)
    meaning = _OUTCOME_OF_STATE[identifiers.state]
    if counts.max() == 1:
        meaning[(meaning == Outcome.NOT_ASKED) & identifiers.has_old] = Outcome.OLD
        outcome[has_any] = meaning
        deciding[has_any] = np.arange(len(meaning))
        return Decision(outcome, deciding)
    counts = counts[has_any]
    starts = np.cumsum(counts) - counts
    step = np.arange(len(meaning)) - np.repeat(starts, counts)
    meaning = _beside_others(starts, counts, step, meaning, identifiers)
    priority = np.where(meaning == Outcome.NOT_FOUND, _SCALE // 2 - step, step)
    best = np.minimum.reduceat(meaning.astype(np.int64) * _SCALE + priority, starts)
    outcome[has_any] = best // _SCALE
    priority = best % _SCALE
    step = np.where(outcome[has_any] == Outcome.NOT_FOUND, _SCALE // 2 - priority, priority)
    deciding[has_any] = starts + step
    return Decision(outcome, deciding)


def _beside_others(
    starts: Numbers, counts: Numbers, step: Numbers, meaning: Codes, identifiers: Identifiers
) -> Codes:
    """What identifiers mean beside the others of their row.

    The first one that is not a miss decides. Behind it, a weak one says nothing. A strong one that is known
    answers, if its contact does not have another profile than the row; it is not asked.
    """
    state, trait, has_vanity, has_old = identifiers
    step_if_not_missed = np.where(state == State.MISSED, len(step), step)
    first_step = np.minimum.reduceat(step_if_not_missed, starts)
    is_first = step == np.repeat(first_step, counts)
    is_behind = step > np.repeat(first_step, counts)
    row_has_vanity = np.repeat(np.logical_or.reduceat(trait == Trait.VANITY, starts), counts)
    is_email = (trait == Trait.EMAIL) | (trait == Trait.ROLE)
    is_contradicted = row_has_vanity & is_email & has_vanity
    first = starts + np.minimum(first_step, counts - 1)
    asks_no_more = np.repeat(state[first] == State.NOT_ASKED, counts)
    is_unasked = (state == State.OPEN) | (state == State.NOT_ASKED)
    is_old = has_old & is_unasked & asks_no_more & (is_first | ~is_contradicted)
    is_silent = is_behind & (
        are_weak(trait) | (is_contradicted & (state == State.MATCHED)) | (is_unasked & ~is_old)
    )
    meaning = np.where(is_old, np.int8(Outcome.OLD), meaning)
    return np.where(is_silent & (state != State.SUPPRESSED), np.int8(Outcome.SILENT), meaning)
