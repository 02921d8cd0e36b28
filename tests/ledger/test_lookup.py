"""What is gathered in arrays, against the same rules written out one key at a time."""

import threading
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE
from eb_dagster.errors import LedgerError
from eb_dagster.ledger.entries import (
    CHARGED,
    FORGOTTEN,
    KEY_BYTES,
    NO_KEY,
    RESENT,
    VANITY,
    WRITTEN_OFF,
    checksum,
    pack_aliases,
    pack_keys,
    pack_outcomes,
)
from eb_dagster.ledger.key_search import KeySearch
from eb_dagster.ledger.known_keys import Freshness, Known
from eb_dagster.ledger.lookup import KeyLookup

# Some begin alike: told apart by their second half.
KEYS = [bytes([first]) * 8 + bytes([second]) * 8 for first in (2, 1) for second in (2, 1)]
OUTCOMES = [0, 1, 2, MISSED, IN_DOUBT, UNREADABLE, RESENT, WRITTEN_OFF, CHARGED, FORGOTTEN]


def request(number, *, state, required, asked, aliases, with_outcomes=True):
    """A row as the ledger gives it. `asked`: key → (outcome, held). `aliases`: (key, position, held, person)."""
    keys = b"".join(asked)
    outcomes = pack_outcomes(*zip(*asked.values(), strict=True)).tobytes() if with_outcomes else None
    packed_aliases = pack_aliases(*zip(*aliases, strict=True)).tobytes() if aliases else b""
    return SimpleNamespace(
        id=number, run=f"run {number}", state=state, required=required, answered_at=float(number),
        asked_keys=keys, outcomes=outcomes, aliases=packed_aliases, outcomes_checksum=checksum(outcomes),
        aliases_checksum=checksum(packed_aliases),
    )  # fmt: skip


HELD_FIELDS = st.sampled_from([*range(4), *(held | VANITY for held in range(4))])

requests = st.lists(
    st.tuples(
        st.sampled_from(["intent", "answered", "in_doubt", "applied", "unreadable", "resolved"]),
        st.sampled_from([0, 1, 2, 3]),
        st.dictionaries(
            st.sampled_from([*KEYS, NO_KEY]),
            st.tuples(st.sampled_from(OUTCOMES), HELD_FIELDS),
            min_size=1,
        ),
        st.lists(
            st.tuples(st.sampled_from(KEYS), st.integers(0, 2), HELD_FIELDS, st.integers(1, 3)),
            max_size=4,
        ),
        st.booleans(),
    ),
    max_size=6,
)


def said_when_asked(rows, key, *, required):
    """The newest contact, the newest miss and the newest open request of a key that was asked."""
    contact = missed = opened = None
    for row in rows:
        if key not in row.table:
            continue
        outcome, held = row.table[key]
        if outcome >= 0 and required & ~(held | row.required) == 0:
            contact = Known(
                "matched", row.id, row.run, row.answered_at, outcome, has_vanity=held & VANITY > 0
            )
        elif outcome == MISSED and row.required & ~required == 0:
            missed = Known("missed", row.id, row.run, row.answered_at)
        elif outcome in (WRITTEN_OFF, CHARGED):
            opened = Known("decided", row.id, row.run, None)
        elif outcome == IN_DOUBT:
            standing = "in_flight" if row.state in ("intent", "answered") else "in_doubt"
            opened = Known(standing, row.id, row.run, None)
        elif outcome == UNREADABLE:
            opened = Known("unreadable", row.id, row.run, row.answered_at)
    return contact, missed, opened


def contacts_with(rows, key):
    """The contacts in which a key was found, and which of them were bought by the key itself."""
    inside = [
        (row, position, held, person)
        for row in rows
        for found_key, position, held, person in row.found
        if found_key == key
    ]
    return inside, [row.table.get(key, (MISSED, 0))[0] == position for row, position, _, _ in inside]


def people_with(rows, key):
    """Whose contacts these are. All that were bought by the key itself are of one person."""
    inside, is_own = contacts_with(rows, key)
    own = {person for (_, _, _, person), is_bought in zip(inside, is_own, strict=True) if is_bought}
    return {
        "own" if is_bought or person in own else person
        for (_, _, _, person), is_bought in zip(inside, is_own, strict=True)
    }


def said_as_alias(rows, key, *, required):
    """The newest contact in which a key was found, and whether it is of one who was bought by the key itself.

    Nobody's, if it was found in the contacts of two people.
    """
    inside, is_own = contacts_with(rows, key)
    if len(people_with(rows, key)) != 1:
        return None, False
    able = [
        (contact, is_bought)
        for contact, is_bought in zip(inside, is_own, strict=True)
        if required & ~contact[2] == 0
    ]
    if not able:
        return None, False
    row, position, held, person = able[-1][0]
    is_same = any(is_bought for _, is_bought in able) and person % 2 == 1
    alias = Known(
        "matched", row.id, row.run, row.answered_at, position, is_alias=True, has_vanity=held & VANITY > 0
    )
    return alias, is_same


def is_old(known, since, freshness):
    """Whether an answer is too old to count. What came after a certain request never is."""
    newest = freshness.aged_up_to
    return since is not None and known.answered_at < since and (newest is None or known.request_id <= newest)


def by_the_rules(rows, key, *, by_alias, required, freshness):
    """What is known of one key."""
    contact, missed, opened = said_when_asked(rows, key, required=required)
    alias, is_same = said_as_alias(rows, key, required=required) if by_alias else (None, False)
    if contact is None:
        contact = alias
    elif is_same and alias is not None and alias.request_id > contact.request_id:
        # It replaces an own one that is old, if it is newer and the same person's.
        contact = alias if is_old(contact, freshness.contacts_since, freshness) else contact
    if missed and is_old(missed, freshness.misses_since, freshness):
        missed = None
    if contact is None:
        return opened or missed
    if not is_old(contact, freshness.contacts_since, freshness):
        return contact
    if opened or (missed and missed.request_id > contact.request_id):
        # Asked again when it was old, and not found: the old contact is the best there is.
        return opened or contact
    return replace(contact, is_stale=True)


@settings(max_examples=600)
@given(
    requests,
    st.sampled_from([0, 1, 2, 3]),
    st.builds(Freshness, *[st.none() | st.integers(0, 7)] * 3),
    st.sets(st.sampled_from(KEYS)),
    st.sampled_from([1, 150, 2**20]),
    st.sampled_from([1, 3, 2**20]),
)
def test_arrays_come_to_what_the_rules_come_to(
    made, required, freshness, alias_keys, bytes_at_once, entries_at_once
):
    rows = []
    for number, (state, asked_with, asked, aliases, with_outcomes) in enumerate(made, start=1):
        row = request(
            number,
            state=state,
            required=asked_with,
            asked=asked,
            aliases=aliases,
            with_outcomes=with_outcomes,
        )
        default = UNREADABLE if state == "unreadable" else IN_DOUBT
        row.table = asked if with_outcomes else dict.fromkeys(asked, (default, 0))
        row.found = aliases
        rows.append(row)
    with (
        pytest.MonkeyPatch.context() as patched,
        KeyLookup(KEYS, alias_keys=alias_keys, required=required, freshness=freshness) as lookup,
    ):
        # Some requests, or some entries, at a time: one, a few, or all.
        patched.setattr("eb_dagster.ledger.lookup._BYTES_A_ROW", 0)
        patched.setattr("eb_dagster.ledger.lookup._BYTES_AT_ONCE", bytes_at_once)
        patched.setattr("eb_dagster.ledger.key_search._ENTRIES_AT_ONCE", entries_at_once)
        for row in rows:
            lookup.read(row)
        known = lookup.known()
    for key in KEYS:
        expected = by_the_rules(rows, key, by_alias=key in alias_keys, required=required, freshness=freshness)
        assert known.get(key) == expected
        assert known.is_of_two[KEYS.index(key)] == (len(people_with(rows, key)) > 1)
    assert set(known) <= set(KEYS)


@pytest.mark.parametrize(("first", "second", "is_stale"), [(MISSED, 0, True), (0, MISSED, False)])
def test_an_old_contact_is_asked_for_again_unless_that_was_done_in_vain(first, second, is_stale):
    with KeyLookup(KEYS, alias_keys=KEYS, required=0, freshness=Freshness(contacts_since=3.0)) as lookup:
        for number, outcome in enumerate((first, second), start=1):
            lookup.read(
                request(number, state="applied", required=0, asked={KEYS[0]: (outcome, 0)}, aliases=[])
            )
    assert lookup.known()[KEYS[0]].is_stale is is_stale


ANN, BOB = 1, 3
"""Marks of people with a profile: odd."""


@pytest.mark.parametrize(
    ("inside", "is_of_two"), [([ANN, BOB], False), ([ANN, ANN], False), ([ANN], False), ([], False)]
)
def test_what_was_bought_twice_under_one_key_is_one_person_s_whatever_the_contacts_say(inside, is_of_two):
    with KeyLookup(KEYS, alias_keys=KEYS, required=0, freshness=Freshness()) as lookup:
        for number, person in enumerate(inside, start=1):
            aliases = [(KEYS[0], 0, 0, person)]
            lookup.read(
                request(number, state="applied", required=0, asked={KEYS[0]: (0, 0)}, aliases=aliases)
            )
    assert bool(lookup.known().is_of_two[0]) is is_of_two


def test_an_old_contact_gives_way_to_a_newer_one_of_the_same_person_and_to_nobody_else():
    for person, answering, is_stale in (ANN, 2, False), (BOB, 1, True), (ANN + 1, 1, True):
        with KeyLookup(KEYS, alias_keys=KEYS, required=0, freshness=Freshness(contacts_since=1.5)) as lookup:
            for number, key, other in (
                (1, KEYS[0], ANN if person != ANN + 1 else person),
                (2, KEYS[1], person),
            ):
                aliases = [(KEYS[0], 0, 0, other)]
                lookup.read(
                    request(number, state="applied", required=0, asked={key: (0, 0)}, aliases=aliases)
                )
        known = lookup.known()[KEYS[0]]
        assert (known.request_id, known.is_stale) == (answering, is_stale)


@pytest.mark.parametrize("bytes_at_once", [1, 2**20])
def test_damage_in_what_answers_is_told(bytes_at_once, monkeypatch):
    monkeypatch.setattr("eb_dagster.ledger.lookup._BYTES_AT_ONCE", bytes_at_once)
    row = request(1, state="applied", required=0, asked={KEYS[0]: (0, 0)}, aliases=[])
    row.outcomes_checksum += 1
    with KeyLookup(KEYS, alias_keys=KEYS, required=0, freshness=Freshness()) as lookup:
        lookup.read(row)
        with pytest.raises(LedgerError, match="request 1 is damaged"):
            lookup.known()
    assert not [thread for thread in threading.enumerate() if "searcher" in thread.name]


def is_known(rows, key):
    with KeyLookup([key], alias_keys=[key], required=0, freshness=Freshness()) as lookup:
        for row in rows:
            lookup.read(row)
        return key in lookup.known()


def test_damage_of_a_request_that_answers_by_alias_only_is_told():
    row = request(
        1,
        state="applied",
        required=0,
        asked={KEYS[1]: (0, 0)},
        aliases=[(KEYS[0], 0, 0, 1), (KEYS[2], 0, 0, 2)],
    )
    assert is_known([row], KEYS[0])
    row.aliases = row.aliases[:-1] + bytes([row.aliases[-1] ^ 1])
    assert not is_known([row], KEYS[3])
    with pytest.raises(LedgerError, match="request 1 is damaged"):
        is_known([row], KEYS[0])


@pytest.mark.parametrize("moment", [-1.0, 1e300, float("nan")])
def test_an_answer_from_no_time_at_all_is_damage(moment):
    for asked, aliases in ({KEYS[0]: (0, 0)}, []), ({KEYS[1]: (0, 0)}, [(KEYS[0], 0, 0, 1)]):
        row = request(1, state="applied", required=0, asked=asked, aliases=aliases)
        assert is_known([row], KEYS[0])
        row.answered_at = moment
        with pytest.raises(LedgerError, match="request 1 is damaged"):
            is_known([row], KEYS[0])


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("outcomes", [b"\xfc\xff\xff\xff", b"\0"]),
        ("asked_keys", [b"\0" * 15, b"\0"]),
        ("aliases", [b"\0" * 24, b"\0"]),
    ],
)
def test_what_is_torn_in_other_requests_shifts_no_answer(name, damaged):
    rows = [
        request(number, state="applied", required=0, asked={KEYS[number - 1]: (number, 0)}, aliases=[])
        for number in (1, 2, 3)
    ]
    for row, more in zip((rows[0], rows[2]), damaged, strict=True):
        # Together as long as an entry, so that no length of all tells.
        setattr(row, name, getattr(row, name) + more)
        row.outcomes_checksum, row.aliases_checksum = checksum(row.outcomes), checksum(row.aliases)
    with pytest.raises(LedgerError, match="request 1 is damaged"):
        is_known(rows, KEYS[1])


@given(
    st.integers(0, 2**32),
    st.integers(0, 400),
    st.integers(0, 400),
    st.sampled_from([1, 7, 2**16]),
)
def test_random_keys_are_found_among_many(seed, known, unknown, entries_at_once):
    random = Random(seed)
    keys = [random.randbytes(KEY_BYTES) for _ in range(known + unknown)]
    entries = random.sample(keys, len(keys) // 2) + [random.randbytes(KEY_BYTES) for _ in range(unknown)]
    random.shuffle(entries)
    wanted = keys[:known]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("eb_dagster.ledger.key_search._ENTRIES_AT_ONCE", entries_at_once)
        positions, which = KeySearch(wanted).find(b"".join(entries))
    place = {key: number for number, key in enumerate(wanted)}
    expected = [(number, place[key]) for number, key in enumerate(entries) if key in place]
    assert list(zip(positions.tolist(), which.tolist(), strict=True)) == expected


@given(st.lists(st.sampled_from([*KEYS, NO_KEY, b"\xff" * 16]), max_size=30), st.sets(st.sampled_from(KEYS)))
def test_wanted_keys_are_found_wherever_they_stand(entries, wanted):
    wanted = sorted(wanted, reverse=True)
    for rest in (b"", b"123456789"):
        table = b"".join(entry + rest for entry in entries)
        positions, which = KeySearch(wanted).find(table, size=KEY_BYTES + len(rest))
        found = [(int(entry), wanted[int(key)]) for entry, key in zip(positions, which, strict=True)]
        assert found == [(entry, key) for entry, key in enumerate(entries) if key in wanted]


def test_what_is_torn_in_the_middle_of_an_entry_is_no_list_of_keys():
    with pytest.raises(ValueError, match="torn"):
        KeySearch(KEYS).find(b"12345")


def test_keys_and_flags_in_arrays_are_looked_up_as_lists_are():
    row = request(
        1, state="applied", required=0, asked={KEYS[0]: (0, 0)}, aliases=[(key, 0, 0, 1) for key in KEYS]
    )
    flags = np.array([False, True, False, False])
    found = []
    for keys, alias_keys in ((KEYS, [KEYS[1]]), (pack_keys(KEYS), flags)):
        with KeyLookup(keys, alias_keys=alias_keys, required=0, freshness=Freshness()) as lookup:
            lookup.read(row)
        found.append(lookup.known())
    assert set(found[1]) == set(KEYS[:2])
    assert dict(found[0]) == dict(found[1])
