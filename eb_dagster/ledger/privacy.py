"""What people may ask for: not to be bought, and to be forgotten; and what a policy may: not to keep.

`suppress` keeps people from ever being sent. `forget` removes a person from the ledger's index, from
its raw replies and from the tables it published. `purge` drops what is older than an age.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeGuard

import numpy as np
import sqlalchemy as sa

from eb_dagster.api.envelope import UNREADABLE
from eb_dagster.errors import InputError
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from eb_dagster.ledger import companions, rejections
from eb_dagster.ledger.connection import Unavailable
from eb_dagster.ledger.entries import FORGOTTEN, KEY_BYTES, NO_KEY, REJECTED
from eb_dagster.ledger.forgetting import PersonInLedger, Removal
from eb_dagster.ledger.kept_columns import drop_kept
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.published_tables import remove_rows
from eb_dagster.ledger.replies import apply_reply
from eb_dagster.ledger.request_rows import HELD, Row, changed_keys, outcomes_of, rewrite_outcomes
from eb_dagster.ledger.schema import replies, requests
from eb_dagster.ledger.traces import Traces
from eb_dagster.tables.atomic_file import clear_torn, clear_torn_folders
from eb_dagster.tables.object_store import Place, place

_LETTERS: Final = re.compile(r"[^\W\d_]")
_FAULTS_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` removed, in counts, and where it could not look."""

    contacts: int
    """Contacts in raw replies."""
    rows: int
    """Rows of published tables."""
    tables: int
    """Published tables that were rewritten."""
    missing_tables: int
    """Tables that were published once and are no longer where they were: look for copies."""
    identifiers: int
    """Identifiers of the person that can no longer be bought."""
    torn_files: int = 0
    """Files that a crash left beside published tables and the ledger, and that were removed."""
    unsearched: tuple[str, ...] = ()
    """What may still hold the person and could not be searched, in words: look there yourself."""


def suppress(
    ledger: Ledger, identifiers: Iterable[tuple[FieldType, str]], *, default_region: str | None = None
) -> int:
    """Put people on the suppression list. Returns how many identifiers were not on it before.

    A text may hold several, as a cell may. It takes effect at once for runs that are under way, in any process.

    Raises `InputError` that counts what is no identifier, and then suppresses nobody.
    """
    return ledger.suppression.add(_read_people(identifiers, default_region, spent="Nobody was suppressed"))


def unsuppress(
    ledger: Ledger, identifiers: Iterable[tuple[FieldType, str]], *, default_region: str | None = None
) -> int:
    """Take people off the suppression list. Returns how many identifiers were on it.

    What was forgotten stays so: the next run may buy it again.

    Raises `InputError` as `suppress` does, and then changes nothing.
    """
    return ledger.suppression.remove(_read_people(identifiers, default_region, spent="Nothing was changed"))


def reject(
    ledger: Ledger, field_type: FieldType, text: str | Iterable[str], *, default_region: str | None = None
) -> int:
    """Let the contacts that these identifiers lead to answer no more for them. Returns the contacts."""
    texts = [text] if isinstance(text, str) else list(text)
    pairs = [(field_type, identifier) for identifier in texts]
    return rejections.reject(ledger, _read_people(pairs, default_region, spent="Nothing was changed"))


def forget(
    ledger: Ledger,
    field_type: FieldType,
    text: str | Iterable[str],
    *,
    default_region: str | None = None,
) -> Forgotten:
    """Remove a person, or several, from the ledger and its published tables, and keep them from being bought.

    A contact is the person's if it was asked by this identifier or holds it. The person's other
    addresses and profiles go with it, and the phones by which the person was found, unless somebody
    else's contact holds them too. A text that holds several identifiers, as a cell may, is one person.
    It may be repeated if it broke off, and is complete then. Runs may be under way.
    """
    people = [_read_person(field_type, one_text, default_region) for one_text in _texts(text)]
    given = {identifier for several in people for identifier in several}
    # First, so that nobody is bought again even if the rest breaks off.
    ledger.suppression.add(given)
    _read_waiting_replies(ledger)
    tables = [place(path) for path in ledger.publications.paths()]
    found = _find_in_ledger(ledger, people, default_region)
    identifiers = given.union(*(person.identifiers for person in found))
    ledger.suppression.add(identifiers)
    traces = _traces_of(ledger, identifiers, default_region)
    torn_files = _clear_torn_files(ledger, tables)
    # The ledger comes last: it knows what the person is called in the tables, if this has to be done again.
    removed = {path: remove_rows(path, traces) for path in tables if path.exists()}
    contacts = _remove_from_ledger(ledger, identifiers, traces, found)
    return Forgotten(
        contacts=contacts,
        rows=sum(filter(None, removed.values())),
        tables=sum(map(bool, removed.values())),
        missing_tables=len(tables) - len(removed),
        identifiers=len(identifiers),
        torn_files=torn_files,
        unsearched=(*(str(path) for path in tables if removed.get(path) is None), *_compact(ledger)),
    )


def _find_in_ledger(
    ledger: Ledger, people: Iterable[Sequence[Identifier]], default_region: str | None
) -> list[PersonInLedger]:
    return [
        PersonInLedger(ledger, endpoint, person, _traces_of(ledger, person, default_region))
        for endpoint in ledger.endpoints()
        for person in people
    ]


def _traces_of(ledger: Ledger, identifiers: Iterable[Identifier], default_region: str | None) -> Traces:
    return Traces(
        set(identifiers),
        key_of=lambda identifier: ledger.key(identifier, endpoint=""),
        default_region=default_region,
    )


def _remove_from_ledger(
    ledger: Ledger, identifiers: set[Identifier], traces: Traces, found: Sequence[PersonInLedger]
) -> int:
    """Remove the people from what was bought of every endpoint. Returns the contacts."""
    contacts = 0
    for endpoint in ledger.endpoints():
        contacts += Removal(ledger, endpoint, identifiers, traces, found).remove()
        keys = {ledger.key(identifier, endpoint=endpoint) for identifier in identifiers}
        companions.forget(ledger, keys)
    return contacts


def purge(ledger: Ledger, *, older_than: timedelta) -> int:
    """Drop contacts, replies and index of what was answered before that age. Returns the requests.

    What was paid and when stays; who it was for does not. Asked again, they are bought again. What may have
    been paid for without an answer stays as it is, by its keyed hash: nobody asks it again by a purge. So does
    what a person rejected.
    """
    before = time.time() - older_than.total_seconds()
    companions.purge(ledger, before=before)
    column = requests.c
    query = sa.select(column.id, column.state, column.asked, column.asked_keys, column.outcomes).where(
        column.answered_at < before, column.state.in_(("applied", "unreadable"))
    )
    with ledger.database.transaction() as connection:
        rows = connection.execute(query).all()
        for row in rows:
            _purge_request(connection, row)
        if rows:
            ledger.index.reset(connection)
    ledger.index.catch_up()
    ledger.database.compact()
    return len(rows)


def _purge_request(connection: sa.Connection, row: Row) -> None:
    outcomes = outcomes_of(row).copy()
    is_dropped = ~np.isin(outcomes["position"], (*HELD, UNREADABLE, REJECTED))
    outcomes[is_dropped] = (FORGOTTEN, 0)
    keys = np.frombuffer(row.asked_keys, dtype=f"V{KEY_BYTES}").copy()
    keys[is_dropped] = NO_KEY
    changes = changed_keys(connection, row.id, keys.tobytes())
    rewrite_outcomes(connection, row.id, outcomes, aliases=b"", changes={**changes, "state": "purged"})
    drop_kept(connection, row.id)
    connection.execute(sa.delete(replies).where(replies.c.request_id == row.id))


# People, as they are given


def _read_people(identifiers: object, default_region: str | None, *, spent: str) -> list[Identifier]:
    found: list[Identifier] = []
    faults: list[int] = []
    for number, (field_type, text) in enumerate(_pairs(identifiers, spent), start=1):
        in_text, _ = _read_text(field_type, text, default_region, spent=spent)
        found += in_text
        if not in_text:
            faults.append(number)
    if faults:
        numbers = ", ".join(map(str, faults[:_FAULTS_NAMED]))
        raise InputError(
            f"values that are not identifiers of their kind: {len(faults):,} (at {numbers}, counted from 1); correct "
            "them or leave them out",
            spent=spent,
        )
    return found


def _pairs(identifiers: object, spent: str) -> list[Sequence[object]]:
    pairs = list(identifiers) if _is_list(identifiers) else None
    if pairs is None or not all(_is_pair(pair) for pair in pairs):
        raise InputError(
            'people are given as a list of pairs, as in [("email", "jane@firm.example")]; correct that',
            spent=spent,
        )
    return [pair for pair in pairs if _is_pair(pair)]


def _is_list(identifiers: object) -> TypeGuard[Iterable[object]]:
    return isinstance(identifiers, Iterable) and not isinstance(identifiers, str | bytes | Mapping)


def _is_pair(pair: object) -> TypeGuard[Sequence[object]]:
    return _is_sequence(pair) and len(pair) == 2


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _texts(text: object) -> list[object]:
    return [text] if isinstance(text, str) or not isinstance(text, Iterable) else [*text]


def _read_text(
    field_type: object, text: object, default_region: str | None, *, spent: str
) -> tuple[Sequence[Identifier], Sequence[str]]:
    """The identifiers of a kind in a text, and the reasons against the rest of it."""
    kinds: list[FieldType] = [kind for kind in FIELD_TYPES if kind == field_type]
    if not kinds:
        raise _unknown_kind(text, spent=spent)
    if not isinstance(text, str):
        raise InputError(
            f"an identifier is of type {type(text).__name__}, not text; give it as text", spent=spent
        )
    identifiers, reasons = read_cell(kinds[0], text, default_region=default_region)
    return identifiers, reasons or ("blank",)


def _unknown_kind(text: object, *, spent: str) -> InputError:
    if text in FIELD_TYPES:
        return InputError(f'kind and text are swapped: give the kind first, as in ("{text}", …)', spent=spent)
    return InputError(f"no such kind of identifier; choose from {', '.join(FIELD_TYPES)}", spent=spent)


def _read_person(field_type: FieldType, text: object, default_region: str | None) -> Sequence[Identifier]:
    identifiers, reasons = _read_text(field_type, text, default_region, spent="Nothing was forgotten")
    if identifiers:
        return identifiers
    fault = f"this is no {field_type} ({reasons[0]})"
    if reasons[0] == "phone_no_region":
        message = "the phone number has no country code; add --region (default_region), such as US"
    elif reasons[0] == "phone_two_readings":
        message = (
            "the phone number may begin with a country code or not; write it with + and its country code"
        )
    elif field_type != "phone" and not _LETTERS.search(str(text)):
        message = (
            f"{fault}. A phone number without a country code? Then add --kind phone and --region, such as US"
        )
    else:
        message = f"{fault}; check the spelling"
    raise InputError(message, spent="Nothing was forgotten")


# Steps of `forget`


def _read_waiting_replies(ledger: Ledger) -> None:
    """Read the replies of processes that ended in between: whoever is suppressed is not kept of them."""
    ledger.recover()
    for endpoint in ledger.endpoints():
        for stored in ledger.unapplied(endpoint=endpoint):
            apply_reply(ledger, stored)


def _clear_torn_files(ledger: Ledger, tables: Sequence[Place]) -> int:
    """Remove what a crash left beside the published tables and the ledger, and of libraries. Returns the files."""
    files = [path for path in tables if isinstance(path, Path) and path.parent.is_dir()]
    if ledger.file is not None:
        files.append(ledger.file)
    return sum(map(clear_torn, files)) + clear_torn_folders()


def _compact(ledger: Ledger) -> Iterator[str]:
    """Clear the database's log. Returns what of it could not be cleared, in words."""
    try:
        ledger.database.compact()
    except Unavailable:
        yield "the ledger's log, because the ledger is in use: do this again once nothing else uses it"
    if ledger.file is None:
        yield "PostgreSQL's write-ahead log, its archives, replicas and backups"
