"""Which identifiers stood beside which in the rows: this tells an identifier that several people share.

A phone is shared if it stood in two rows whose profiles differ, or whose e-mails or names differ, and no contact
that was bought holds both. An e-mail is shared if the profiles differ. What is shared is asked for nobody and
answers for nobody.

The ledger remembers it as keyed hashes, so that earlier tables count. A row that says nothing new adds nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from eb_dagster.ledger import schema
from eb_dagster.ledger.entries import KEY_BYTES, Keys, unpack_keys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.lookup import contacts_with

_MOST_PEOPLE: Final = 4
"""So many people are remembered beside one identifier. One that stood beside more is shared for good."""
_MOST_KEYS: Final = 8
"""So many keys of each kind are remembered of a person."""
_MANY_PEOPLE: Final = b"\xff"
_KEYS_AT_ONCE: Final = 1_000
_companions = schema.companions
# As the driver takes them: to convert a value for it, or what it gives, SQLAlchemy takes four times as long as SQLite
# takes to find or insert it.
_SELECT: Final = "SELECT key, people, is_shared, searched FROM companions WHERE key IN ({})"
_DELETE: Final = "DELETE FROM companions WHERE key = {}"
_INSERT: Final = "INSERT INTO companions (key, people, is_shared, searched, at) VALUES ({})"


class Person(NamedTuple):
    """Somebody beside whom an identifier stood, by keyed hashes."""

    profiles: frozenset[bytes]
    """LinkedIn vanity profiles; other profiles cannot be compared."""
    emails: frozenset[bytes]
    names: frozenset[bytes] = frozenset()
    """The words of the name."""

    def _is_one_with(self, other: Person) -> bool | None:
        """Compare by profile, else by names that have no word in common, else by e-mail.

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
        """Whether both are certainly one person."""
        return self._is_one_with(other) is True

    def differs(self, other: Person) -> bool:
        """Whether both are certainly two people."""
        return self._is_one_with(other) is False

    def is_joined_with(self, other: Person, holders: Mapping[bytes, Collection[object]]) -> bool:
        """Whether one contact holds what tells both apart. `holders` are the contacts that hold each key."""
        has_profiles = self.profiles and other.profiles
        own_keys, other_keys = (
            (self.profiles, other.profiles) if has_profiles else (self.emails, other.emails)
        )
        return any(
            not set(holders[own_key]).isdisjoint(holders[other_key])
            for own_key in own_keys
            for other_key in other_keys
        )

    def merge(self, other: Person) -> Person:
        """Both as one person."""
        return Person(self.profiles | other.profiles, self.emails | other.emails, self.names | other.names)


def pack_person(*kinds: Collection[bytes]) -> bytes:
    """A person as bytes: the number of keys of each kind, then the keys. At most `_MOST_KEYS` of each are kept."""
    kept = [sorted(keys)[:_MOST_KEYS] for keys in kinds]
    return bytes(map(len, kept)) + b"".join([key for keys in kept for key in keys])


def pack_people(*, profiles: Keys | None, emails: Keys | None) -> list[bytes]:
    """People without names as bytes, each with the keys that stand in one place of these arrays."""
    kinds = [keys for keys in (profiles, emails) if keys is not None]
    header = [profiles is not None, emails is not None, False]
    blobs = np.empty((len(kinds[0]), len(header) + KEY_BYTES * len(kinds)), dtype=np.uint8)
    blobs[:, : len(header)] = header
    for number, keys in enumerate(kinds):
        start = len(header) + KEY_BYTES * number
        blobs[:, start : start + KEY_BYTES] = keys.view(np.uint8).reshape(-1, KEY_BYTES)
    return blobs.view(f"V{blobs.shape[1]}")[:, 0].tolist()


def _is_at_most_one(blob: bytes) -> bool:
    """Whether it is one person, or nobody."""
    counts = blob[: len(Person._fields)]
    return len(blob) <= len(counts) + KEY_BYTES * sum(counts)


def _unpack(blob: bytes) -> list[Person]:
    people: list[Person] = []
    start = 0
    while start < len(blob):
        counts = blob[start : start + len(Person._fields)]
        start += len(counts)
        kinds: list[frozenset[bytes]] = []
        for count in counts:
            end = start + KEY_BYTES * count
            starts = range(start, end, KEY_BYTES)
            kinds.append(frozenset(blob[key_start : key_start + KEY_BYTES] for key_start in starts))
            start = end
        people.append(Person(*kinds))
    return people


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of one identifier."""

    people: bytes = b""
    is_shared: bool = False
    searched: int = 0


_NOTHING: Final = _Entry()


class _Memory(Protocol):
    """Where entries are remembered."""

    def get(self, keys: Collection[bytes]) -> dict[bytes, _Entry]:
        """The entries of these keys."""
        ...

    def put(self, entries: Mapping[bytes, _Entry]) -> None:
        """Replace the entries of these keys."""
        ...

    def shared(self) -> Collection[bytes]:
        """The keys of all shared identifiers."""
        ...


class Companions:
    """What stood beside what, for one run or plan. A plan writes nothing into the ledger."""

    def __init__(self, ledger: Ledger, *, is_plan: bool = False) -> None:
        self._ledger = ledger
        self._memory: _Memory = _Scratch(_InLedger(ledger)) if is_plan else _InLedger(ledger)

    def note(self, keys: Keys, beside: Mapping[bytes, Collection[bytes]]) -> None:
        """Take in what rows that offer these keys say: by key, the people beside whom it stood (`pack_person`)."""
        shared = self._memory.shared()
        doubtful = [key for key in unpack_keys(keys.tobytes()) if key in shared] if shared else []
        if not (beside or doubtful):
            return
        known = self._memory.get({*beside, *doubtful})
        changed = {key: known[key] for key in doubtful if known[key].people != _MANY_PEOPLE}
        changed |= _learn_each(known, beside)
        judged = self._judge(changed)
        self._memory.put({key: entry for key, entry in judged.items() if entry != known.get(key)})

    def shared(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of these keys are of identifiers that several people share, as far as rows tell."""
        shared = self._memory.shared()
        if not shared:
            return np.zeros(len(keys), dtype=np.bool_)
        listed = unpack_keys(keys.tobytes())
        return np.fromiter((key in shared for key in listed), dtype=np.bool_, count=len(listed))

    def _judge(self, entries: Mapping[bytes, _Entry]) -> dict[bytes, _Entry]:
        """The same entries: people whom a contact shows to be one are joined, and it is told anew what is shared."""
        judged = dict(entries)
        differing: dict[bytes, list[Person]] = {}
        for key, entry in entries.items():
            if entry.people == _MANY_PEOPLE or _is_at_most_one(entry.people):
                continue
            people = _unpack(entry.people)
            if _differ(people):
                differing[key] = people
            else:
                judged[key] = _Entry(entry.people, searched=entry.searched)
        if not differing:
            return judged
        since = min(entries[key].searched for key in differing)
        return judged | self._join_by_contacts(differing, since=since)

    def _join_by_contacts(
        self, differing: Mapping[bytes, list[Person]], *, since: int
    ) -> dict[bytes, _Entry]:
        newest = self._ledger.last_request()
        holders = self._contacts_with(differing, after=since)
        judged: dict[bytes, _Entry] = {}
        for key, people in differing.items():
            joined = _join(people, lambda person, other: person.is_joined_with(other, holders))
            judged[key] = _Entry(_pack(joined), _differ(joined), newest)
        return judged

    def _contacts_with(
        self, differing: Mapping[bytes, Sequence[Person]], *, after: int
    ) -> dict[bytes, set[tuple[int, int]]]:
        keys = {
            key
            for people in differing.values()
            for person in people
            for key in (*person.profiles, *person.emails)
        }
        with (
            schema.wrong_types_as_damage("the table `requests`"),
            self._ledger.database.reading() as connection,
        ):
            return contacts_with(
                connection,
                sorted(keys),
                index=self._ledger.index,
                endpoint=self._ledger.endpoint,
                after=after,
            )


def forget(ledger: Ledger, keys: Collection[bytes]) -> None:
    """Leave nothing of what stood beside these, nor of these beside others."""
    forgotten = frozenset(keys)
    column = _companions.c
    with ledger.database.transaction() as connection:
        rows = connection.execute(sa.select(column.key, column.people)).all()
        for row in rows:
            key, people = bytes(row.key), bytes(row.people)
            kept = b"" if key in forgotten else _without(people, forgotten)
            if not kept:
                connection.execute(sa.delete(_companions).where(column.key == key))
            elif kept != people:
                connection.execute(sa.update(_companions).where(column.key == key).values(people=kept))


def _without(blob: bytes, forgotten: frozenset[bytes]) -> bytes:
    if blob == _MANY_PEOPLE:
        return blob
    people = _unpack(blob)
    return _pack(person for person in people if forgotten.isdisjoint((*person.profiles, *person.emails)))


def purge(ledger: Ledger, *, before: float) -> None:
    """Drop what was noted before that time, in seconds since the epoch."""
    with ledger.database.transaction() as connection:
        connection.execute(sa.delete(_companions).where(_companions.c.at < before))


def _learn_each(
    known: Mapping[bytes, _Entry], beside: Mapping[bytes, Collection[bytes]]
) -> dict[bytes, _Entry]:
    """The entries that change, with what is new."""
    changed: dict[bytes, _Entry] = {}
    for key, people in beside.items():
        learned = _learn(known.get(key, _NOTHING), people)
        if learned is not None:
            changed[key] = learned
    return changed


def _learn(entry: _Entry, beside: Collection[bytes]) -> _Entry | None:
    """The entry with these people; None if that is nothing new."""
    if entry.people == _MANY_PEOPLE or beside == {entry.people}:
        return None
    if not entry.people and len(beside) == 1:
        # Nearly always: nobody stood beside it before.
        return _Entry(next(iter(beside)))
    known = _unpack(entry.people)
    new = [person for blob in sorted(beside) for person in _unpack(blob) if not _is_known(person, known)]
    return _with_people(known, new, is_shared=False) if new else None


def _with_people(known: Sequence[Person], new: Sequence[Person], *, is_shared: bool | None = None) -> _Entry:
    """The entry of all these people. If `is_shared` is not given, it is shared if they differ."""
    people = _join([*known, *new], Person.is_same)
    if len(people) > _MOST_PEOPLE:
        return _Entry(_MANY_PEOPLE, is_shared=True)
    return _Entry(_pack(people), _differ(people) if is_shared is None else is_shared)


def _is_known(new: Person, people: Iterable[Person]) -> bool:
    return any(
        new.profiles <= person.profiles and new.emails <= person.emails and new.names <= person.names
        for person in people
    )


def _join(people: Sequence[Person], are_one: Callable[[Person, Person], bool]) -> list[Person]:
    """Each of them once."""
    joined: list[Person] = []
    for person in people:
        whole = person
        others: list[Person] = []
        for other in joined:
            # Compared as merged so far: with a profile by now, it is not one with somebody who has another.
            if are_one(whole, other):
                whole = other.merge(whole)
            else:
                others.append(other)
        joined = [*others, whole]
    return joined


def _pack(people: Iterable[Person]) -> bytes:
    return b"".join([pack_person(*person) for person in people])


def _differ(people: Sequence[Person]) -> bool:
    return any(person.differs(other) for person, other in combinations(people, 2))


class _InLedger:
    """The ledger's own memory, which all runs on it share."""

    def __init__(self, ledger: Ledger) -> None:
        self._database = ledger.database
        self._version: tuple[int, float] = (0, 0.0)
        self._shared: frozenset[bytes] = frozenset()

    def get(self, keys: Collection[bytes]) -> dict[bytes, _Entry]:
        with self._database.reading() as connection:
            return _read(connection, keys)

    def put(self, entries: Mapping[bytes, _Entry]) -> None:
        if not entries:
            return
        now = time.time()
        # If a power cut undoes it, the rows tell it again; the next claim makes it durable.
        with self._database.transaction(is_durable=False) as connection:
            # What another process has put in meanwhile stays.
            stored = _read(connection, entries)
            merged = {key: _merge(entry, stored.get(key)) for key, entry in entries.items()}
            if stored:
                connection.exec_driver_sql(_DELETE.format(_marks(connection, 1)), [(key,) for key in stored])
            rows = [
                (key, entry.people, entry.is_shared, entry.searched, now) for key, entry in _by_key(merged)
            ]
            connection.exec_driver_sql(_INSERT.format(_marks(connection, 5)), rows)

    def shared(self) -> Collection[bytes]:
        column = _companions.c
        with self._database.reading() as connection:
            query = sa.select(sa.func.count(), sa.func.max(column.at)).where(column.is_shared)
            count, newest = connection.execute(query).one()
            version = (int(count), float(newest or 0.0))
            if version != self._version:
                keys = connection.execute(sa.select(column.key).where(column.is_shared)).scalars()
                self._version, self._shared = version, frozenset(bytes(key) for key in keys)
        return self._shared


def _by_key(entries: Mapping[bytes, _Entry]) -> Iterator[tuple[bytes, _Entry]]:
    """In the order of the keys, so that the tree of the database grows at one place at a time."""
    return ((key, entries[key]) for key in sorted(entries))


def _merge(entry: _Entry, stored: _Entry | None) -> _Entry:
    """What two processes have learned of one identifier."""
    if stored is None or stored.people == entry.people:
        return entry
    if _MANY_PEOPLE in (entry.people, stored.people):
        return _Entry(_MANY_PEOPLE, is_shared=True)
    known = _unpack(entry.people)
    new = [person for person in _unpack(stored.people) if not _is_known(person, known)]
    return _with_people(known, new) if new else entry


def _read(connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, _Entry]:
    found: dict[bytes, _Entry] = {}
    for some in _batches(keys):
        query = _SELECT.format(_marks(connection, len(some)))
        for key, people, is_shared, searched in connection.exec_driver_sql(query, tuple(some)):
            found[bytes(key)] = _Entry(bytes(people), bool(is_shared), searched)
    return found


def _marks(connection: sa.Connection, count: int) -> str:
    """What stands for so many values in a statement."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    return ", ".join([mark] * count)


def _batches(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    # In the order in which they stand in the database.
    listed = sorted(keys)
    for start in range(0, len(listed), _KEYS_AT_ONCE):
        yield listed[start : start + _KEYS_AT_ONCE]


class _Scratch:
    """What a plan has read, on top of what the ledger remembers: in memory, on disk if it is much, then gone."""

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
        rows = [(key, entry.people, entry.is_shared, entry.searched) for key, entry in _by_key(entries)]
        self._database.execute("BEGIN")
        self._database.executemany("REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")
        shared = {key for key, entry in entries.items() if entry.is_shared}
        self._shared = {key for key in self._shared if key not in entries} | shared
        not_shared = {key for key in self._below.shared() if key in entries}
        self._not_shared = (self._not_shared | not_shared) - shared

    def shared(self) -> Collection[bytes]:
        if not (self._shared or self._not_shared):
            return self._below.shared()
        return (frozenset(self._below.shared()) - self._not_shared) | self._shared
