"""One row of the table `requests`: its states, and how its keys and outcomes are written with their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from eb_dagster.api.envelope import IN_DOUBT, UNREADABLE
from eb_dagster.ledger import counters
from eb_dagster.ledger.counters import Amounts
from eb_dagster.ledger.entries import CHARGED, WRITTEN_OFF, Entries, checksum, keys_checksum, unpack_outcomes
from eb_dagster.ledger.schema import requests

Row: TypeAlias = Any
"""A row of a query on `requests`. Which columns it has to have is said where it is used."""

IN_FLIGHT_STATES: Final = ("intent", "answered")
UNSENT_STATES: Final = ("free", "refused")
STATES: Final = frozenset(
    {*IN_FLIGHT_STATES, *UNSENT_STATES, "in_doubt", "applied", "unreadable", "resolved", "purged"}
)
HELD: Final = (IN_DOUBT, WRITTEN_OFF, CHARGED)
"""Outcomes of what may have been paid for, without an answer."""

IS_IN_FLIGHT: Final = sa.text("state IN ('intent', 'answered')")
"""As the index of the few requests that are in flight says it."""
IS_UNDECIDED: Final = sa.text("(at_risk > 0 OR unreadable > 0)")
"""As the index of the requests with answers in doubt, or that cannot be read, says it."""

ANSWER_COLUMNS: Final = (
    requests.c.id,
    requests.c.state,
    requests.c.asked,
    requests.c.asked_keys,
    requests.c.outcomes,
    requests.c.aliases,
)
"""What has to be read of a request to find whom it asked for, and whom it found."""

KEY_COLUMNS: Final = (
    requests.c.id,
    requests.c.endpoint,
    requests.c.state,
    requests.c.required,
    requests.c.keys_checksum,
    requests.c.aliases_checksum,
    requests.c.asked_keys,
    requests.c.aliases,
)
"""The keys of a request, and what has to be read beside them to check them."""

_NO_CHANGES: Final[Mapping[str, object]] = MappingProxyType({})
_SELECT_NEWEST: Final = sa.select(sa.func.max(requests.c.id))
# SQLite counts the ids that it has given.
_SELECT_LAST_ID_OF_SQLITE: Final = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'requests'")
_SELECT_FIXED: Final = sa.select(requests.c.endpoint, requests.c.required)
_SELECT_COUNTED: Final = sa.select(*counters.COUNTED_COLUMNS).where(requests.c.id == sa.bindparam("request"))
_UPDATE_REQUEST: Final = sa.update(requests).where(requests.c.id == sa.bindparam("request"))


def default_outcome(state: str) -> int:
    """What each question of a request comes to that has no outcomes yet."""
    return UNREADABLE if state == "unreadable" else IN_DOUBT


def outcomes_of(row: Row) -> Entries:
    """The outcomes of a row with `state`, `asked` and `outcomes`. Not to be written to."""
    return unpack_outcomes(row.outcomes, asked=row.asked, default=default_outcome(row.state))


def rewrite_outcomes(
    connection: sa.Connection,
    request_id: int,
    outcomes: Entries,
    *,
    aliases: bytes | None,
    changes: Mapping[str, object] = _NO_CHANGES,
    before: Row | None = None,
) -> None:
    """Replace a request's outcomes and aliases, and with them what of it is at risk. `changes` are other columns."""
    blob = outcomes.tobytes()
    update_request(
        connection,
        request_id,
        {
            "outcomes": blob,
            "aliases": aliases,
            "outcomes_checksum": checksum(blob),
            "aliases_checksum": checksum(aliases),
            "at_risk": int((outcomes["position"] == IN_DOUBT).sum()),
            **changes,
        },
        before=before,
    )


def update_request(
    connection: sa.Connection, request_id: int, changes: Mapping[str, object], *, before: Row | None = None
) -> None:
    """Change columns of a request, and with them what is counted as spent and at risk.

    `before` is the request with its `counters.COUNTED_COLUMNS`, where this transaction has read it already.
    """
    row = connection.execute(_SELECT_COUNTED, {"request": request_id}).one() if before is None else before
    amounts = Amounts(row.credits, row.at_risk, row.unreadable)
    connection.execute(_UPDATE_REQUEST, {"request": request_id, **changes})
    changed = {name: changes[name] for name in Amounts._fields if name in changes}
    change = amounts._replace(**changed).minus(amounts)
    if any(change):
        counted = counters.read(connection, endpoint=row.endpoint, run=row.run, time=row.created_at)
        counted.add(connection, change)


def changed_keys(connection: sa.Connection, request_id: int, asked_keys: bytes) -> dict[str, object]:
    """The columns that change when a request's keys are replaced."""
    row = connection.execute(_SELECT_FIXED.where(requests.c.id == request_id)).one()
    return {
        "asked_keys": asked_keys,
        "keys_checksum": keys_checksum(request_id, row.endpoint, row.required, asked_keys),
    }


def newest_request(connection: sa.Connection) -> int:
    """The id of the newest request; 0 if there is none."""
    return int(connection.execute(_SELECT_NEWEST).scalar() or 0)


def last_id_of_sqlite(connection: sa.Connection) -> int:
    """The last id that SQLite has given to a request, whether or not that is still there."""
    return int(connection.execute(_SELECT_LAST_ID_OF_SQLITE).scalar() or 0)
