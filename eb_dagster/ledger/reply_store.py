"""Raw replies as they are stored: sealed if there is a key, each with a checksum. `replies` reads what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NoReturn

import sqlalchemy as sa

from eb_dagster.errors import LedgerError
from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.encryption import ReplyCipher, check_key
from eb_dagster.ledger.entries import reply_checksum, unpack_keys
from eb_dagster.ledger.kept_columns import drop_kept
from eb_dagster.ledger.request_rows import Row
from eb_dagster.ledger.schema import (
    Facts,
    damaged,
    read_facts,
    replies,
    requests,
    wrong_types_as_damage,
)

_REPLIES_AT_ONCE: Final = 8
_SELECT_REPLIES: Final = (
    sa.select(
        requests.c.id,
        requests.c.endpoint,
        requests.c.run,
        requests.c.asked_keys,
        requests.c.answered_at,
        replies.c.encoding,
        replies.c.complete,
        replies.c.checksum,
        replies.c.body,
    )
    .join(replies, replies.c.request_id == requests.c.id)
    .where(requests.c.id.in_(sa.bindparam("requests", expanding=True)))
)
_SELECT_STATE: Final = sa.select(requests.c.state).where(requests.c.id == sa.bindparam("request"))
_SELECT_STORED: Final = sa.select(replies.c.request_id).where(replies.c.request_id == sa.bindparam("request"))
_INSERT_REPLY: Final = sa.insert(replies)
_UPDATE_REPLY: Final = sa.update(replies).where(replies.c.request_id == sa.bindparam("request"))


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A raw reply as it came, with the keys of what had been asked."""

    request_id: int
    endpoint: str
    run: str
    asked_keys: bytes = field(repr=False)
    answered_at: float
    encoding: str
    complete: bool
    body: bytes = field(repr=False)
    checksum: int
    """Of the reply as it is stored."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys one by one, in the order of asking."""
        return unpack_keys(self.asked_keys)


class ReplyStore:
    """Stores and gives back raw replies. The methods with a `connection` are part of its transaction."""

    def __init__(self, database: Database, *, cipher: ReplyCipher, ledger_id: str) -> None:
        self._database = database
        self._cipher = cipher
        self._ledger_id = ledger_id

    def check_key(self, facts: Facts) -> None:
        """Refuse to go on if replies are sealed with another key by now."""
        check_key(facts, self._cipher, self._ledger_id)

    def seal(self, body: bytes, encoding: str) -> tuple[bytes, str]:
        """Encrypt a body if there is a key. Returns it with its encoding."""
        return self._cipher.seal(body, encoding)

    def insert_sealed(
        self, connection: sa.Connection, request_id: int, *, body: bytes, encoding: str, complete: bool
    ) -> None:
        """Store a reply that `seal` gave."""
        connection.execute(
            _INSERT_REPLY,
            {
                "request_id": request_id,
                "encoding": encoding,
                "complete": complete,
                "body": body,
                "checksum": reply_checksum(encoding, body, complete=complete),
            },
        )

    def rewrite(
        self, connection: sa.Connection, request_id: int, *, body: bytes, encoding: str, complete: bool
    ) -> None:
        """Replace a stored reply, and drop what was kept of the one before."""
        self.check_key(read_facts(connection))
        drop_kept(connection, request_id)
        sealed, sealed_encoding = self.seal(body, encoding)
        connection.execute(
            _UPDATE_REPLY,
            {
                "request": request_id,
                "body": sealed,
                "encoding": sealed_encoding,
                "complete": complete,
                "checksum": reply_checksum(sealed_encoding, sealed, complete=complete),
            },
        )

    def find(self, request_id: int) -> StoredReply | None:
        """The stored reply to this request, if there is one."""
        with self._database.reading() as connection:
            is_there = connection.execute(_SELECT_STORED, {"request": request_id}).scalar() is not None
        return next(self.read([request_id])) if is_there else None

    def read(self, request_ids: Iterable[int]) -> Iterator[StoredReply]:
        """The stored replies to these requests. Only a few of them are in memory at a time."""
        wanted = iter(request_ids)
        while some := list(islice(wanted, _REPLIES_AT_ONCE)):
            numbers = ", ".join(map(str, some))
            what = f"request {numbers}" if len(some) == 1 else f"one of the requests {numbers}"
            with wrong_types_as_damage(what), self._database.reading() as connection:
                rows = {row.id: row for row in connection.execute(_SELECT_REPLIES, {"requests": some})}
            for request_id in some:
                row = rows.get(request_id)
                if row is None:
                    self._raise_missing(request_id)
                yield self._open(row)

    def _open(self, row: Row) -> StoredReply:
        if not is_intact(row):
            raise damaged(f"the reply of request {row.id}")
        body, encoding = self._cipher.unseal(bytes(row.body), row.encoding)
        return StoredReply(
            row.id,
            row.endpoint,
            row.run,
            row.asked_keys,
            row.answered_at,
            encoding,
            row.complete,
            body,
            row.checksum,
        )

    def _raise_missing(self, request_id: int) -> NoReturn:
        with self._database.reading() as connection:
            state = connection.execute(_SELECT_STATE, {"request": request_id}).scalar()
        if state == "purged":
            raise LedgerError(
                f"the contacts of request {request_id} were dropped by a purge while this run was using them. "
                "Run again: who was in them is then as if never asked"
            )
        raise LedgerError(
            f"the reply of request {request_id} is gone from the ledger; restore it from a backup"
        )

    def can_open(self, body: bytes, encoding: str) -> bool:
        """Whether a stored reply is not sealed, or can be opened with a key that is given."""
        try:
            self._cipher.unseal(bytes(body), encoding)
        except LedgerError:
            return False
        return True


def is_intact(row: Row) -> bool:
    """Whether a row of `replies` is as it was written."""
    return reply_checksum(row.encoding, row.body, complete=row.complete) == row.checksum
