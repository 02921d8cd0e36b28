"""Which identifiers stood beside which, so that one that several people share is told from one person's own.

A phone is shared if it stood in two rows whose profiles differ, or whose e-mails or names do, and no contact that
was bought holds both; an e-mail, if profiles differ. What is shared is asked for nobody and answers for nobody.

The ledger remembers it as keyed hashes, so that earlier tables count. A row that says nothing new adds nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from eb_dagster.ledger import connection as database
from eb_dagster.ledger.entries import KEY_BYTES
from eb_dagster.ledger.ledger import Ledger

_MOST_PEOPLE: Final = 4
"""Beside whom one identifier is remembered. One that stood beside more is shared for good."""
_MOST_KEYS: Final = 8
_MANY: Final = b"\xff"
_KEYS_AT_ONCE: Final = 1_000
_companions = database.companions


class Person(NamedTuple):
    """Somebody beside whom an identifier stood, by keyed hashes."""

    profiles: frozenset[bytes]
    """LinkedIn names; other profiles cannot be compared."""
    emails: frozenset[bytes]
    names: frozenset[bytes] = frozenset()
    """The words of the name."""

    def compared(self, other: Person) -> bool | None:
        """Whether both are one: by a profile, else by names that have no word in common, else by an e-mail.

        None where that cannot be told.
        """
        if self.profiles and other.profiles:
            return not self.profiles.isdisjoint(other.profiles)
        if self.names and other.names and self.names.isdisjoint(other.names):
            return False
        if self.emails and other.emails:
            return not self.emails.isdisjoint(other.emails)
        return True if self.names and self.names == other.names else None

    def is_same(self, other: Person) -> bool:
        """Whether both are one."""
        return self.compared(other) is True

    def differs(self, other: Person) -> bool:
        """Whether both are two."""
        return self.compared(other) is False

    def is_joined_with(self, other: Person, holders: Mapping[bytes, Collection[Any]]) -> bool:
        """Whether a contact holds what differs of both."""
        by_profile = self.profiles and other.profiles
        ours, theirs = (self.profiles, other.profiles) if by_profile else (self.emails, other.emails)
        return any(not set(holders[one]).isdisjoint(holders[two]) for one in ours for two in theirs)

    def with_(self, other: Person) -> Person:
        """Both as one."""
        return Person(*(one | two for one, two in zip(self, other, strict=True)))


def pack_person(*kinds: Collection[bytes]) -> bytes:
    """A person as bytes: three counts, then the keys. What is beyond the most that is kept is left out."""
    kept = [sorted(keys)[:_MOST_KEYS] for keys in kinds]
    return bytes(map(len, kept)) + b"".join([key for keys in kept for key in keys])


def _is_one(packed: bytes) -> bool:
    """Whether it is one person, or nobody."""
    counts = packed[: len(Person._fields)]
    return len(packed) <= len(counts) + KEY_BYTES * sum(counts)


def _unpacked(packed: bytes) -> list[Person]:
    people: list[Person] = []
    at = 0
    while at < len(packed):
        counts = packed[at : at + len(Person._fields)]
        at += len(counts)
        kinds: list[frozenset[bytes]] = []
        for count in counts:
            end = at + KEY_BYTES * count
            kinds.append(frozenset(packed[start : start + KEY_BYTES] for start in range(at, end, KEY_BYTES)))
            at = end
        people.append(Person(*kinds))
    return people


class _Entry(NamedTuple):
    """What is remembered of one identifier."""

    people: bytes = b""
    is_shared: bool = False
    searched: int = 0


class _Memory(Protocol):
    """Where it is remembered."""

    def get(self, keys: Collection[bytes]) -> dict[bytes, _Entry]:
        """What is known of these keys."""
        ...

    def put(self, entries: Mapping[bytes, _Entry]) -> None:
        """Replace what is known of these."""
        ...

    def shared(self) -> Collection[bytes]:
        """All that are shared."""
        ...


class Companions:
    """What stood beside what, for one run or plan. A plan writes nothing into the ledger."""

    def __init__(self, ledger: Ledger, *, is_plan: bool = False) -> None:
        self._ledger = ledger
        self._memory: _Memory = _Scratch(_InLedger(ledger)) if is_plan else _InLedger(ledger)

    def note(self, keys: Collection[bytes], said: Mapping[bytes, Collection[bytes]]) -> None:
        """Take in what rows that offer these keys say: by key, the people beside whom it stood (`pack_person`)."""
        shared = self._memory.shared()
        open_questions = [key for key in keys if key in shared] if shared else []
        if not (said or open_questions):
            return
        known = self._memory.get({*said, *open_questions})
        news = {key: told for key in said if (told := _learned(known.get(key, _Entry()), said[key]))}
        again = {key: known[key] for key in open_questions if key not in news and known[key].people != _MANY}
        changed = self._judged({**again, **news})
        self._memory.put({key: one for key, one in changed.items() if one != known.get(key)})

    def shared(self, keys: Collection[bytes]) -> npt.NDArray[np.bool_]:
        """Which of these keys are of identifiers that several people share, as far as rows tell."""
        shared = self._memory.shared()
        if not shared:
            return np.zeros(len(keys), dtype=np.bool_)
        return np.fromiter((key in shared for key in keys), dtype=np.bool_, count=len(keys))

    def _judged(self, entries: Mapping[bytes, _Entry]) -> dict[bytes, _Entry]:
        """The same, with who is one by a contact put together, and whether they are still shared."""
        several = {
            key: _unpacked(one.people)
            for key, one in entries.items()
            if one.people != _MANY and not _is_one(one.people)
        }
        differing = {key: people for key, people in several.items() if _differ(people)}
        judged = dict(entries)
        for key in several.keys() - differing.keys():
            judged[key] = entries[key]._replace(is_shared=False)
        if not differing:
            return judged
        asked = {
            key for people in differing.values() for one in people for key in (*one.profiles, *one.emails)
        }
        newest = self._ledger.last_request()
        after = min(entries[key].searched for key in differing)
        holders = self._ledger.contacts_with(sorted(asked), after=after)
        for key, people in differing.items():
            joined = _joined(people, lambda one, two: one.is_joined_with(two, holders))
            judged[key] = _Entry(_packed(joined), _differ(joined), newest)
        return judged


def forget(ledger: Ledger, keys: Collection[bytes]) -> None:
    """Leave nothing of what stood beside these, nor of these beside others."""
    gone = frozenset(keys)
    column = _companions.c
    with ledger.transaction() as connection:
        rows = connection.execute(sa.select(column.key, column.people)).all()
        for row in rows:
            key, people = bytes(row.key), bytes(row.people)
            kept = b"" if key in gone else _without(people, gone)
            if not kept:
                connection.execute(sa.delete(_companions).where(column.key == key))
            elif kept != people:
                connection.execute(sa.update(_companions).where(column.key == key).values(people=kept))


def _without(packed: bytes, gone: frozenset[bytes]) -> bytes:
    if packed == _MANY:
        return packed
    return _packed(one for one in _unpacked(packed) if gone.isdisjoint((*one.profiles, *one.emails)))


def purge(ledger: Ledger, *, before: float) -> None:
    """Drop what was noted before that moment, in seconds since the epoch."""
    with ledger.transaction() as connection:
        connection.execute(sa.delete(_companions).where(_companions.c.at < before))


def _learned(entry: _Entry, said: Collection[bytes]) -> _Entry | None:
    """What is known with this; None if it is nothing new."""
    if entry.people == _MANY or said == {entry.people}:
        return None
    if not entry.people and len(said) == 1:
        # Nearly always: nobody stood beside it before.
        return _Entry(next(iter(said)))
    people = _unpacked(entry.people)
    new = [one for packed in sorted(said) for one in _unpacked(packed) if not _is_told(one, people)]
    if not new:
        return None
    people = _joined([*people, *new], Person.is_same)
    if len(people) > _MOST_PEOPLE:
        return _Entry(_MANY, is_shared=True)
    return _Entry(_packed(people))


def _is_told(new: Person, people: Iterable[Person]) -> bool:
    return any(all(told <= known for told, known in zip(new, one, strict=True)) for one in people)


def _joined(people: Sequence[Person], are_one: Callable[[Person, Person], bool]) -> list[Person]:
    """Each of them once."""
    joined: list[Person] = []
    for one in people:
        others: list[Person] = []
        for other in joined:
            # As it has become: somebody with a profile by now is not one with whoever has another.
            if are_one(one, other):
                one = other.with_(one)
            else:
                others.append(other)
        joined = [*others, one]
    return joined


def _packed(people: Iterable[Person]) -> bytes:
    return b"".join([pack_person(*one) for one in people])


def _differ(people: Sequence[Person]) -> bool:
    return any(one.differs(two) for one, two in combinations(people, 2))


class _InLedger:
    """The ledger's own memory, which all runs on it share."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._version: tuple[int, float] = (0, 0.0)
        self._shared: frozenset[bytes] = frozenset()

    def get(self, keys: Collection[bytes]) -> dict[bytes, _Entry]:
        with self._ledger.reading() as connection:
            return _read(connection, keys)

    def put(self, entries: Mapping[bytes, _Entry]) -> None:
        if not entries:
            return
        now = time.time()
        # Undone by a power cut, it is told again by the rows; the next claim makes it durable.
        with self._ledger.transaction(is_durable=False) as connection:
            # What another process has put in meanwhile stays.
            there = _read(connection, entries)
            rows: list[dict[str, Any]] = []
            for key, one in sorted(entries.items()):
                both = _with(one, there.get(key))
                rows.append({
                    "key": key, "people": both.people, "is_shared": both.is_shared, "searched": both.searched, "at": now,
                })  # fmt: skip
            if there:
                column = _companions.c.key
                connection.execute(
                    sa.delete(_companions).where(column == sa.bindparam("old")),
                    [{"old": key} for key in there],
                )
            connection.execute(sa.insert(_companions), rows)

    def shared(self) -> Collection[bytes]:
        column = _companions.c
        with self._ledger.reading() as connection:
            query = sa.select(sa.func.count(), sa.func.max(column.at)).where(column.is_shared)
            row = connection.execute(query).one()
            version = (int(row[0]), float(row[1] or 0.0))
            if version != self._version:
                keys = connection.execute(sa.select(column.key).where(column.is_shared)).scalars()
                self._version, self._shared = version, frozenset(bytes(key) for key in keys)
        return self._shared


def _with(one: _Entry, other: _Entry | None) -> _Entry:
    """What two processes have learned of one identifier."""
    if other is None or other.people == one.people:
        return one
    if _MANY in (one.people, other.people):
        return _Entry(_MANY, is_shared=True)
    if not (
        new := [person for person in _unpacked(other.people) if not _is_told(person, _unpacked(one.people))]
    ):
        return one
    people = _joined([*_unpacked(one.people), *new], Person.is_same)
    if len(people) > _MOST_PEOPLE:
        return _Entry(_MANY, is_shared=True)
    return _Entry(_packed(people), _differ(people))


def _read(connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, _Entry]:
    column = _companions.c
    query = sa.select(column.key, column.people, column.is_shared, column.searched).where(
        column.key.in_(sa.bindparam("keys", expanding=True))
    )
    return {
        bytes(row.key): _Entry(bytes(row.people), bool(row.is_shared), row.searched)
        for some in _batches(keys)
        for row in connection.execute(query, {"keys": some})
    }


def _batches(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    listed = list(keys)
    for start in range(0, len(listed), _KEYS_AT_ONCE):
        yield listed[start : start + _KEYS_AT_ONCE]


class _Scratch:
    """What a plan has read, over what the ledger remembers: in memory, on disk if it is much, then gone."""

    def __init__(self, below: _InLedger) -> None:
        self._below = below
        # SQLite's own temporary database.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(
            "CREATE TABLE entries (key BLOB PRIMARY KEY, people, is_shared, searched) WITHOUT ROWID"
        )
        self._shared: set[bytes] = set()
        self._not_shared: set[bytes] = set()

    def get(self, keys: Collection[bytes]) -> dict[bytes, _Entry]:
        found = self._below.get(keys)
        for some in _batches(keys):
            marks = ",".join("?" * len(some))
            # Only question marks are put in.
            query = f"SELECT key, people, is_shared, searched FROM entries WHERE key IN ({marks})"  # noqa: S608
            for key, people, is_shared, searched in self._database.execute(query, some):
                found[key] = _Entry(people, bool(is_shared), searched)
        return found

    def put(self, entries: Mapping[bytes, _Entry]) -> None:
        # In their order: so a tree grows at one place at a time.
        rows = [(key, *one) for key, one in sorted(entries.items())]
        self._database.executemany("REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
        shared = {key for key, one in entries.items() if one.is_shared}
        self._shared = (self._shared - entries.keys()) | shared
        self._not_shared = (self._not_shared - shared) | (
            frozenset(self._below.shared()) & entries.keys() - shared
        )

    def shared(self) -> Collection[bytes]:
        if not (self._shared or self._not_shared):
            return self._below.shared()
        return (frozenset(self._below.shared()) - self._not_shared) | self._shared
