"""What the key index finds, against a scan of all requests; and what it does when it is not as it was written."""

from __future__ import annotations

import random
import time
from contextlib import closing

import numpy as np
import pytest
import sqlalchemy as sa

from eb_dagster.ledger import key_index, key_segments, privacy, reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.schema import key_rows, requests
from eb_dagster.ledger.schema import key_segments as headers
from tests.ledger.index_steps import (
    answer,
    ask,
    change,
    count,
    covered,
    email,
    everybody,
    fill,
    looked_up,
    note,
    scanned,
    small_segments,
)
from tests.ledger.steps import ENDPOINT

MANY = 24


@pytest.fixture(autouse=True)
def with_small_segments():
    with small_segments():
        yield


def test_look_ups_by_the_index_tell_what_a_scan_tells(ledger):
    fill(ledger, MANY)
    everyone = everybody(MANY)
    expected = scanned(ledger, everyone)
    assert len(expected) == 3 * MANY
    assert covered(ledger) >= MANY - 6
    assert looked_up(ledger, everyone) == expected
    for some in random.Random(1).sample(everyone, 20):
        assert looked_up(ledger, [some]) == {key: value for key, value in expected.items() if key == some}
    ledger.index.catch_up()
    assert looked_up(ledger, everyone) == expected
    # Of the segments that were written, few are left, and nothing is left of what was merged.
    assert count(ledger, headers) <= 6
    assert reconcile.check(ledger) == []


def test_only_requests_in_which_a_key_stands_are_read(ledger):
    fill(ledger, MANY)
    with ledger.database.reading() as connection:
        hits = ledger.index.find(connection, [ledger.key(email(20))])
        nobody = ledger.index.find(connection, [ledger.key(email(200_001))])
    assert (hits.asked.tolist(), hits.aliases.tolist()) == ([11], [11])
    assert not len(nobody.asked)
    assert not len(nobody.aliases)


def test_a_late_reply_and_a_reread_of_an_indexed_request_are_found(ledger):
    late = ask(ledger, 200_000, 200_001)
    ledger.doubt(late, http_status=None, note="")
    fill(ledger, MANY)
    assert covered(ledger) > late
    assert looked_up(ledger, [200_000, 200_002]) == {200_000: ("in_doubt", late)}
    answer(ledger, late, 200_002)
    assert looked_up(ledger, [200_000, 200_002]) == {200_000: ("matched", late), 200_002: ("matched", late)}
    # Read once more, the contact holds somebody else too, and one no more.
    for _ in range(5):
        note(ledger, late, 200_003)
        assert looked_up(ledger, [200_002, 200_003]) == {200_003: ("matched", late)}
        note(ledger, late, 200_002)
        assert looked_up(ledger, [200_002, 200_003]) == {200_002: ("matched", late)}
    ledger.index.catch_up()
    assert looked_up(ledger, everybody(MANY)) == scanned(ledger, everybody(MANY))
    assert reconcile.check(ledger) == []


@pytest.mark.parametrize(
    ("decision", "standing"), [("resend", None), ("write-off", "decided"), ("charged", "decided")]
)
def test_a_decision_about_an_indexed_request_is_found(ledger, decision, standing):
    doubted = ask(ledger, 200_000, 200_001)
    ledger.doubt(doubted, http_status=None, note="")
    fill(ledger, 12)
    assert covered(ledger) > doubted
    reconcile.resolve(ledger, [doubted], decision)
    expected = {} if standing is None else {200_000: (standing, doubted)}
    assert looked_up(ledger, [200_000]) == expected
    # A reply that comes after all says more than the decision.
    answer(ledger, doubted, 200_004)
    assert looked_up(ledger, [200_000, 200_004]) == dict.fromkeys([200_000, 200_004], ("matched", doubted))
    assert reconcile.check(ledger) == []


def test_what_is_under_way_holds_up_the_index_for_a_while_only(ledger):
    first = ask(ledger, 200_000, 200_001)
    fill(ledger, 6)
    assert covered(ledger) == 0
    fill(ledger, 12, start=6)
    assert covered(ledger) > first
    assert looked_up(ledger, [200_001]) == {200_001: ("in_flight", first)}
    answer(ledger, first, 200_003)
    assert looked_up(ledger, [200_003]) == {200_003: ("matched", first)}


def test_forgetting_and_rejecting_leave_nothing_in_the_index(ledger):
    fill(ledger, MANY)
    # In the middle of a merge, an entry is in two segments.
    with ledger.database.transaction() as connection:
        key_index._begin_merging(connection, key_index._segments(connection))
    ledger.index.grow()
    assert privacy.reject(ledger, "email", email(20).value) == 1
    assert looked_up(ledger, [20, 21]) == {20: ("missed", 11), 21: ("missed", 11)}
    wanted = key_segments.prefixes_of([ledger.key(email(30))])
    assert len(tags_of(ledger, wanted))
    privacy.forget(ledger, "email", email(30).value)
    assert not len(tags_of(ledger, wanted))
    ledger.index.catch_up()
    assert reconcile.check(ledger) == []


def tags_of(ledger: Ledger, wanted) -> list[int]:
    """The entries of these prefixes, in whichever row they stand."""
    with ledger.database.reading() as connection:
        blobs = connection.execute(sa.select(key_rows.c.entries)).scalars().all()
    rows = [key_segments.unpack_rows(bytes(blob)) for blob in blobs]
    return [tag for row in rows for tag in key_segments.find_tags(row, wanted).tolist()]


def test_a_purge_leaves_nothing_in_the_index_but_what_is_in_doubt(ledger):
    from datetime import timedelta

    doubted = ask(ledger, 200_000, 200_001)
    ledger.doubt(doubted, http_status=None, note="")
    fill(ledger, 12)
    time.sleep(0.01)
    assert privacy.purge(ledger, older_than=timedelta(0)) == 12
    assert looked_up(ledger, everybody(12)) == dict.fromkeys([200_000, 200_001], ("in_doubt", doubted))
    assert covered(ledger) >= 12
    fill(ledger, 12, start=20)
    assert looked_up(ledger, everybody(32)) == scanned(ledger, everybody(32))
    assert reconcile.check(ledger) == []


def flip(blob: bytes) -> bytes:
    return blob[:-1] + bytes([blob[-1] ^ 1])


def spoil_a_row(ledger):
    with ledger.database.reading() as connection:
        # Which rows are empty, the hashes of the ledger's own key decide.
        has_entries = sa.func.length(key_rows.c.entries) > 0
        row = connection.execute(sa.select(key_rows).where(has_entries).limit(1).offset(1)).one()
    blob = flip(bytes(row.entries))
    change(ledger, sa.update(key_rows).where(key_rows.c.id == row.id).values(entries=blob))


def swap_two_rows(ledger):
    with ledger.database.reading() as connection:
        first, second = connection.execute(sa.select(key_rows).limit(2)).all()
    for to, of in ((first, second), (second, first)):
        values = {"entries": of.entries, "checksum": of.checksum}
        change(ledger, sa.update(key_rows).where(key_rows.c.id == to.id).values(**values))


DAMAGE = {
    "a bit of a row": spoil_a_row,
    "two rows swapped": swap_two_rows,
    "a row is missing": lambda it: change(
        it, sa.delete(key_rows).where(key_rows.c.id.in_(sa.select(sa.func.max(key_rows.c.id))))
    ),
    "all rows are missing": lambda it: change(it, sa.delete(key_rows)),
    "a header is missing": lambda it: change(
        it, sa.delete(headers).where(headers.c.id.in_(sa.select(sa.func.min(headers.c.id))))
    ),
    "a header says more": lambda it: change(it, sa.update(headers).values(last=headers.c.last + 1)),
    "everything is merged twice": lambda it: change(it, sa.update(headers).values(state="whole")),
    "all late entries are missing": lambda it: change(
        it, sa.delete(headers).where(headers.c.chain == "late")
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_makes_nobody_unknown_and_is_made_anew(ledger, where, damage):
    late = ask(ledger, 200_000, 200_001)
    ledger.doubt(late, http_status=None, note="")
    fill(ledger, 16)
    answer(ledger, late, 200_002)
    everyone = everybody(16)
    expected = scanned(ledger, everyone)
    while count_of_growing(ledger) == 0:
        assert ledger.index.grow()
    DAMAGE[damage](ledger)
    assert any("key index" in fault for fault in reconcile.check(ledger))
    assert looked_up(ledger, everyone) == expected
    with closing(Ledger(where, endpoint=ENDPOINT)) as another:
        assert looked_up(another, everyone) == expected
        another.index.catch_up()
        assert covered(another) >= 15
        assert looked_up(another, everyone) == expected
        assert reconcile.check(another) == []


def count_of_growing(ledger: Ledger) -> int:
    with ledger.database.reading() as connection:
        return sum(segment.state == "growing" for segment in key_index._segments(connection))


def test_an_older_copy_of_the_index_makes_nobody_unknown(ledger):
    late = ask(ledger, 200_000, 200_001)
    ledger.doubt(late, http_status=None, note="")
    copies = []
    for step in range(4):
        fill(ledger, 6, start=6 * step)
        if step == 1:
            answer(ledger, late, 200_002)
        if step == 2:
            note(ledger, late, 200_002, 200_003)
        copies.append(copy_of(ledger))
    everyone = everybody(24)
    expected = scanned(ledger, everyone)
    newest = copies[-1]
    for older in copies:
        for rows, of_headers in ((older[0], older[1]), (older[0], newest[1]), (newest[0], older[1])):
            put_back(ledger, rows, of_headers)
            assert looked_up(ledger, everyone) == expected
            # It goes on from there.
            ledger.index.catch_up()
            assert looked_up(ledger, everyone) == expected


def copy_of(ledger: Ledger):
    with ledger.database.reading() as connection:
        return [
            [row._asdict() for row in connection.execute(sa.select(table))] for table in (key_rows, headers)
        ]


def put_back(ledger: Ledger, rows, of_headers) -> None:
    with ledger.database.transaction() as connection:
        for table, content in ((key_rows, rows), (headers, of_headers)):
            connection.execute(sa.delete(table))
            if content:
                connection.execute(sa.insert(table), content)


def test_two_processes_grow_one_index(ledger, where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as other:
        for number in range(30):
            chosen = ledger if number % 2 else other
            fill(chosen, 1, start=number)
            assert looked_up(other if number % 2 else ledger, [2 * number])
        assert looked_up(other, everybody(30)) == scanned(ledger, everybody(30))
        assert reconcile.check(ledger) == []


def test_a_damaged_request_stays_outside_and_is_told(ledger):
    from eb_dagster.errors import LedgerError

    fill(ledger, 2)
    change(ledger, sa.update(requests).where(requests.c.id == 2).values(keys_checksum=1))
    fill(ledger, 6, start=2)
    assert covered(ledger) == 0
    with pytest.raises(LedgerError, match="request 2 is damaged"):
        looked_up(ledger, [1])


@pytest.mark.parametrize("wanted", [[], [2], [1, 5, 9], [2, 3], list(range(12))])
def test_all_entries_of_a_prefix_are_found_whichever_side_is_longer(wanted):
    prefixes = np.array([2, 2, 2, 3, 5, 5, 9], dtype=np.uint64)
    entries = key_segments.Entries(prefixes, np.arange(7, dtype=np.uint32))
    found = key_segments.find_tags(entries, np.array(wanted, dtype=np.uint64))
    assert found.tolist() == [tag for tag, prefix in enumerate(prefixes.tolist()) if prefix in wanted]
