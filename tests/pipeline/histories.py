"""Histories at random: the same rows for the arrays and for the plain model. `python -m tests.pipeline.histories`.

As a program it checks 50,000 of them, or as many as it is told.
"""

import json
import random
import sys

import numpy as np

from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.flatten import flatten
from eb_dagster.contacts.schema import STATUSES
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.identifiers.model import FIELD_TYPES, Candidates, Identifier
from eb_dagster.identifiers.names import row_person
from eb_dagster.pipeline.rows import State
from eb_dagster.pipeline.window import Answers, Rows, Window
from tests.pipeline.reference_model import Model, Row
from tests.pipeline.tables import MINE, Told, keyed_offers, looked_up, reason_of

PROFILES = [Identifier("social_profile", f"linkedin.com/in/p{number}") for number in range(4)]
EMAILS = [Identifier("email", f"p{number}@firm.example") for number in range(4)]
PHONES = [Identifier("phone", f"+1202555010{number}") for number in range(3)]
ROLE = Identifier("email", "info@firm.example")
EVERYBODY = [*PROFILES, *EMAILS, *PHONES, ROLE]
NAMES = ("Ada Byron", "Ada Byron", "Bob Stone", "p")
PERSONS = [
    row_person(name=name, first=None, last=None, company="Firm") for name in ("Ada Byron", "Bob Stone")
]
STANDINGS = ("matched", "matched", "missed", "missed", "in_flight", "in_doubt", "unreadable", "decided")
OUTCOMES = ("found", "found", "missed", "missed", "failed", "in_doubt", "unreadable", "forgotten")
STATE = {
    "matched": State.MATCHED, "missed": State.MISSED, "not_asked": State.NOT_ASKED, "in_doubt": State.IN_DOUBT,
    "unreadable": State.UNREADABLE, "suppressed": State.SUPPRESSED,
}  # fmt: skip


class History:
    """Blocks of rows, what the ledger knows at first, and what the vendor would say."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.seed = seed
        self.chance = chance
        everybody = chance.sample(EVERYBODY, chance.randint(1, len(EVERYBODY)))
        self.size = chance.choice((1, 2, 3, 5))
        self.window = chance.choice((1, 4, 100))
        self.doubt_ends = chance.random() < 0.7
        has_persons = chance.random() < 0.4
        self.blocks = [
            [self._row(everybody, has_persons) for _ in range(chance.randint(0, 7))]
            for _ in range(chance.randint(1, 5))
        ]
        known_share = chance.choice((0, 0.2, 0.7))
        self.table = {identifier: self._told() for identifier in everybody if chance.random() < known_share}
        self.suppressed = {
            identifier for identifier in everybody if chance.random() < chance.choice((0, 0, 0.1))
        }
        self.suppressed_later = {
            identifier for identifier in everybody if chance.random() < chance.choice((0, 0, 0.3))
        }
        self.vendor = {identifier: chance.choice(OUTCOMES) for identifier in everybody}
        self.holds = {
            identifier: frozenset(
                {identifier, *chance.sample(everybody, chance.randint(0, 2) % len(everybody))}
            )
            for identifier in everybody
        }
        self.has_vanity = {identifier: chance.random() < 0.5 for identifier in everybody}
        self.names = {identifier: chance.choice(NAMES) for identifier in everybody}

    def _row(self, everybody: list[Identifier], has_persons: bool) -> Candidates:
        chance = self.chance
        count = min(len(everybody), chance.choice((0, 1, 1, 2, 2, 3, 4)))
        identifiers = chance.sample(everybody, count)
        # As `narrowed` has them: phones last.
        identifiers.sort(key=lambda identifier: identifier.field_type == "phone")
        person = chance.choice((None, *PERSONS)) if has_persons else None
        return Candidates(tuple(identifiers), reason_of(tuple(identifiers)), person)

    def _told(self) -> Told:
        chance = self.chance
        standing = chance.choice(STANDINGS)
        is_matched = standing == "matched"
        return Told(
            standing, chance.choice(("earlier", "earlier", MINE)), 0 if is_matched else -1,
            is_alias=is_matched and chance.random() < 0.3, is_stale=is_matched and chance.random() < 0.3,
            has_vanity=is_matched and chance.random() < 0.5,
        )  # fmt: skip

    def told(self, asked: list[Identifier]) -> dict[Identifier, Told]:
        """What the ledger tells of these after they were asked."""
        outcomes = {identifier: outcome_state(self.vendor[identifier]) for identifier in asked}
        return {
            identifier: Told(
                outcome, MINE, 0 if outcome == "matched" else -1, has_vanity=self.has_vanity[identifier]
            )
            for identifier, outcome in outcomes.items()
            if outcome in ("matched", "missed", "in_doubt", "unreadable")
        }

    def contact(self, identifier: Identifier) -> Contact:
        """Whom the vendor finds by it."""
        texts: dict[str, list[str]] = {kind: [] for kind in FIELD_TYPES}
        for held in sorted(self.holds[identifier]):
            texts[held.field_type].append(held.value)
        return read_contact(
            json.dumps({
                "full_name": self.names[identifier],
                "emails": [{"email": value} for value in texts["email"]],
                "phone_numbers": [{"number": value} for value in texts["phone"]],
                "social_profiles": [{"network": "linkedin", "url": value} for value in texts["social_profile"]],
            }).encode()
        )  # fmt: skip


class Arrays:
    """The window of arrays, driven by a history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.window = Window()
        self.left: list[tuple[str, str | None]] = []

    def add(self, rows, table) -> int:
        keyed = keyed_offers(rows)
        lookup = looked_up(
            keyed, table, suppressed=self.history.suppressed, doubt_ends=self.history.doubt_ends
        )
        block = self.window.add(Rows(keyed, lookup, keyed.offers))
        self.window.start(block)
        return block.identifiers

    def leave(self) -> None:
        for ended in self.window.leaving():
            self.left += [
                (STATUSES[code], query)
                for code, query in zip(ended.status.tolist(), ended.query, strict=True)
            ]

    def cut(self) -> list[Identifier]:
        window, size = self.window, self.history.size
        step = window.full_step(size)
        step = window.first_step() if step is None else step
        if step is None:
            self.asked = np.zeros(0, dtype=np.int64)
            return []
        self.asked = window.wanted(window.cut_step(step, size))
        window.slots.table["state"][self.asked] = State.ASKED
        return window.slots.identifiers(self.asked)

    def answer(self, identifiers: list[Identifier]) -> None:
        states = [STATE[outcome_state(self.history.vendor[identifier])] for identifier in identifiers]
        contacts = [
            self.history.contact(identifier) if state is State.MATCHED else None
            for identifier, state in zip(identifiers, states, strict=True)
        ]
        found = np.array([contact is not None for contact in contacts], dtype=np.bool_)
        index = np.arange(len(contacts))
        self.window.answer(
            self.asked,
            np.array(states, dtype=np.int8),
            Answers(
                request_id=1,
                answered_at=1.0,
                source=self.window.slots.add_source(flatten(contacts)),
                position=np.where(found, index, -1),
                contact=np.where(found, index, -1),
                has_vanity=np.array([self.history.has_vanity[identifier] for identifier in identifiers], dtype=np.bool_) & found,
            ),
        )  # fmt: skip

    def suppress(self, identifiers: set[Identifier]) -> None:
        slots = self.window.slots.used()
        chosen = [identifier in identifiers for identifier in self.window.slots.identifiers(slots)]
        self.window.suppress(slots[np.array(chosen, dtype=np.bool_)])

    def end_elsewhere(self) -> bool:
        slots = self.window.elsewhere
        self.window.settle(slots, State.IN_DOUBT)
        return len(slots) > 0


class Plain:
    """The model, driven by the same history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.model = Model(doubt_ends=history.doubt_ends)
        self.left: list[tuple[str, str | None]] = []

    def add(self, rows, table) -> int:
        model = self.model
        first = model.blocks[0] if model.blocks else model.blocks_added
        offered = {identifier for row in rows for identifier in row.identifiers}
        open_before = {
            identifier for identifier, question in model.questions.items() if question.block >= first
        }
        model.advance(model.add(rows, table, self.history.suppressed))
        return len(offered - open_before)

    def leave(self) -> None:
        self.left += [(row.status or "", shown(row)) for row in self.model.leave()]

    def cut(self) -> list[Identifier]:
        self.asked = self.model.cut(self.history.size)
        return [question.identifier for question in self.asked]

    def answer(self, identifiers: list[Identifier]) -> None:
        outcomes = []
        for question, identifier in zip(self.asked, identifiers, strict=True):
            outcome = outcome_state(self.history.vendor[identifier])
            is_found = outcome == "matched"
            told = None
            if outcome in ("matched", "missed"):
                told = Told(outcome, MINE, has_vanity=is_found and self.history.has_vanity[identifier])
            holds = self.history.holds[identifier] if is_found else None
            outcomes.append((question, outcome, told, holds, self.history.names[identifier]))
        self.model.answer(outcomes)

    def suppress(self, identifiers: set[Identifier]) -> None:
        self.model.suppress(identifiers)

    def end_elsewhere(self) -> bool:
        waiting = [question for question in self.model.questions.values() if question.state == "elsewhere"]
        self.model.answer([(question, "in_doubt", None, None, "") for question in waiting])
        return bool(waiting)


def outcome_state(outcome: str) -> str:
    return {"found": "matched", "failed": "not_asked", "forgotten": "suppressed"}.get(outcome, outcome)


def shown(row: Row) -> str | None:
    return None if row.deciding is None or row.status == "suppressed" else row.deciding.identifier.value


def check(history: History) -> None:
    """Drive both through the history, and compare after every step."""
    ways = arrays, plain = Arrays(history), Plain(history)
    table = dict(history.table)
    waiting = [*history.blocks]
    asked: list[Identifier] = []
    suppressed_later = history.suppressed_later
    while True:
        while waiting and len(plain.model.rows) < history.window:
            rows = waiting.pop(0)
            counts = [way.add(rows, table) for way in ways]
            assert counts[0] == counts[1], history.seed
        for way in ways:
            way.leave()
        assert arrays.left == plain.left, history.seed
        partitions = [way.cut() for way in ways]
        assert partitions[0] == partitions[1], history.seed
        (partition, _) = partitions
        asked += partition
        if suppressed_later and asked:
            # Also while a request is under way.
            history.suppressed |= suppressed_later
            for way in ways:
                way.suppress(suppressed_later)
            suppressed_later = set()
        for way in ways:
            way.answer(partition)
        table |= history.told(partition)
        # What was cut may be wanted by no row any more.
        if not partition and arrays.window.first_step() is None:
            if [way.end_elsewhere() for way in ways] == [True, True]:
                continue
            if not waiting or len(plain.model.rows) >= history.window:
                break
    for way in ways:
        way.leave()
    check_end(history, arrays, plain, asked)


def check_end(history: History, arrays: Arrays, plain: Plain, asked: list[Identifier]) -> None:
    """All rows have ended alike, and nobody was asked twice."""
    rows = [row for block in history.blocks for row in block]
    assert arrays.left == plain.left, history.seed
    assert len(arrays.left) == len(rows), history.seed
    # Only where the vendor could not look may it be asked again.
    paid = [
        identifier
        for identifier in asked
        if history.vendor[identifier] != "failed" and history.vendor[identifier] != "forgotten"
    ]
    assert len(paid) == len(set(paid)), history.seed
    assert history.suppressed.isdisjoint(
        identifier for identifier in asked if identifier not in history.suppressed_later
    ), history.seed
    assert not len(arrays.window.slots), history.seed


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for seed in range(first, first + count):
        check(History(seed))
    print(f"{count:,} histories: arrays and model agree, and nobody was asked twice")
