"""Ledgers whose key index has many small segments, and look-ups in them with the index and without it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import msgspec
import pytest
import sqlalchemy as sa

from eb_dagster.api.envelope import MISSED, Record, encode_reply
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import key_index, key_segments
from eb_dagster.ledger.entries import Entries, pack_aliases, pack_outcomes
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.request_rows import update_request
from tests.ledger.steps import HOLDS_EMAIL, PLENTY

BODY = encode_reply([Record("", msgspec.Raw(b"{}"))], 1)
Found = dict[int, tuple[str, int]]
"""By number of a person, how the key stands and which request says so."""


@contextmanager
def small_segments() -> Generator[None]:
    """Segments of three requests, rows of four entries, two of a level merged into one: all within a few requests."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name, value in (
            (key_index, "REQUESTS_A_SEGMENT", 3),
            (key_index, "FAN", 2),
            (key_index, "ROWS_A_STEP", 2),
            (key_index, "_FEW_REQUESTS", 0),
            (key_index, "_MOST_UNCOVERED", 9),
            (key_segments, "ENTRIES_A_ROW", 4),
        ):
            patched.setattr(module, name, value)
        yield


def email(number: int) -> Identifier:
    return Identifier("email", f"p{number}@firm.example")


def ask(ledger: Ledger, *numbers: int) -> int:
    keys = [ledger.key(email(number)) for number in numbers]
    claim = ledger.claim(keys, run="r", required=0, limits=PLENTY, seen=ledger.last_request())
    assert claim.request_id
    return claim.request_id


def answer(ledger: Ledger, request_id: int, *inside: int, asked: int = 2) -> None:
    """The first that was asked is found, and its contact holds these."""
    ledger.record(request_id, http_status=200, encoding="", complete=True, body=BODY)
    note(ledger, request_id, *inside, asked=asked)


def note(ledger: Ledger, request_id: int, *inside: int, asked: int = 2) -> None:
    outcomes, aliases = what_came(ledger, request_id, *inside, asked=asked)
    ledger.apply(request_id, outcomes=outcomes, aliases=aliases, records_enriched=1)


def what_came(ledger: Ledger, request_id: int, *inside: int, asked: int) -> tuple[Entries, Entries]:
    keys = [ledger.key(email(number)) for number in inside]
    count = len(keys)
    outcomes = pack_outcomes([0, *[MISSED] * (asked - 1)], [HOLDS_EMAIL] * asked)
    aliases = pack_aliases(keys, [0] * count, [HOLDS_EMAIL] * count, [2 * request_id + 1] * count)
    return outcomes, aliases


def fill(ledger: Ledger, count: int, *, start: int = 0) -> None:
    """Each request asks two people, and the contact of one of them holds two more keys. In one transaction, to be quick."""
    for first in range(start, start + count, 3):
        with ledger.database.transaction(is_durable=False) as connection:
            for number in range(first, min(first + 3, start + count)):
                buy(ledger, connection, 2 * number, 2 * number + 1, inside=(2 * number, 100_000 + number))
        ledger.index.grow()
        ledger.index.grow()


def buy(ledger: Ledger, connection: sa.Connection, *asked: int, inside: tuple[int, ...]) -> None:
    keys = [ledger.key(email(number)) for number in asked]
    counted = ledger.budget.counted_in(connection, run="r", time=time.time())
    request_id = ledger._insert_intent(connection, keys, required=0, counted=counted)
    update_request(connection, request_id, {"state": "answered", "answered_at": time.time()})
    ledger.stored.insert_sealed(connection, request_id, body=BODY, encoding="", complete=True)
    outcomes, aliases = what_came(ledger, request_id, *inside, asked=len(asked))
    ledger._apply(connection, request_id, outcomes, aliases, charged=1, changes={})


def everybody(count: int) -> list[int]:
    return [*range(2 * count + 5), *range(100_000, 100_005 + count), *range(200_000, 200_005)]


def looked_up(ledger: Ledger, numbers: list[int]) -> Found:
    keys = [ledger.key(email(number)) for number in numbers]
    found, _ = ledger.lookup(keys, required=0, alias_keys=keys)
    return {
        number: (known.standing, known.request_id)
        for number, known in zip(numbers, found.of(keys), strict=True)
        if known is not None
    }


def scanned(ledger: Ledger, numbers: list[int]) -> Found:
    """The same without the index."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(key_index, "_FEW_REQUESTS", 10**9)
        return looked_up(ledger, numbers)


def covered(ledger: Ledger) -> int:
    with ledger.database.reading() as connection:
        return key_index._covered(connection, key_index._segments(connection))


def count(ledger: Ledger, table: sa.Table) -> int:
    with ledger.database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def change(ledger: Ledger, statement: sa.Executable) -> None:
    with ledger.database.transaction() as connection:
        connection.execute(statement)
