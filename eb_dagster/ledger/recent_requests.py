"""The keys of the newest requests, kept since they were last read, so that a claim reads only what is new of them.

A claim looks once more at all requests since its rows were looked up. Most of these are the run's own, and the
claim before it looked at the same ones. What is kept is compared with the checksums in the requests, so that a
request which has changed since, by whomever, is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import sqlalchemy as sa

from eb_dagster.ledger.entries import ALIAS, AnyKeys
from eb_dagster.ledger.key_segments import Prefixes, prefixes_of
from eb_dagster.ledger.lookup import check_lengths, check_row
from eb_dagster.ledger.request_rows import KEY_COLUMNS, Row, last_id_of_sqlite
from eb_dagster.ledger.schema import damaged, requests

# Of more requests than that, the key index tells sooner in which of them a key may stand.
_MOST_REQUESTS: Final = 1024
_ROWS_AT_ONCE: Final = 16

_column = requests.c
_SELECT_CHECKSUMS: Final = (
    sa.select(_column.id, _column.keys_checksum, _column.aliases_checksum)
    .where(_column.id >= sa.bindparam("first"))
    .order_by(_column.id)
    .limit(_MOST_REQUESTS + 1)
)
_SELECT_KEYS: Final = sa.select(*KEY_COLUMNS).where(_column.id.in_(sa.bindparam("ids", expanding=True)))


class RecentRequests:
    """The newest requests of one ledger. To be used by whoever has the ledger alone."""

    def __init__(self) -> None:
        self._checksums: dict[int, tuple[int, int]] = {}
        """Of the requests whose keys are kept."""
        self._prefixes: list[Prefixes] = []
        """What the kept keys begin with: sorted, in parts of falling size."""

    def may_tell(self, connection: sa.Connection, keys: AnyKeys, *, after: int) -> bool:
        """Whether one of these keys may stand in a request after that one, asked or as an alias.

        Raises `LedgerError` if a request is missing or damaged.
        """
        rows = connection.execute(_SELECT_CHECKSUMS, {"first": after}).all()
        if len(rows) > _MOST_REQUESTS:
            return True
        _check_complete(connection, rows, after=after)
        self._keep([row for row in rows if row.id > after], connection)
        wanted = np.sort(prefixes_of(keys))
        return any(_has_any(prefixes, wanted) for prefixes in self._prefixes)

    def _keep(self, rows: Sequence[Row], connection: sa.Connection) -> None:
        if len(self._checksums) > 3 * len(rows) + _ROWS_AT_ONCE:
            # Most of what is kept is of no use any more.
            self._checksums.clear()
            self._prefixes.clear()
        changed = [
            row.id for row in rows if self._checksums.get(row.id) != (row.keys_checksum, row.aliases_checksum)
        ]
        for start in range(0, len(changed), _ROWS_AT_ONCE):
            chosen = {"ids": changed[start : start + _ROWS_AT_ONCE]}
            for row in connection.execute(_SELECT_KEYS, chosen):
                self._keep_keys(row)

    def _keep_keys(self, row: Row) -> None:
        check_row(row)
        check_lengths(row)
        keys_sum, _ = self._checksums.get(row.id, (None, 0))
        asked = b"" if keys_sum == row.keys_checksum else row.asked_keys
        aliases = np.frombuffer(row.aliases or b"", dtype=ALIAS)["key"]
        self._prefixes.append(np.sort(np.concatenate([prefixes_of(asked), prefixes_of(aliases)])))
        self._checksums[row.id] = row.keys_checksum, row.aliases_checksum
        # Each is at least twice as long as the next one, so that there are few of them.
        while len(self._prefixes) > 1 and len(self._prefixes[-2]) < 2 * len(self._prefixes[-1]):
            merged = np.sort(np.concatenate([self._prefixes.pop(), self._prefixes.pop()]))
            self._prefixes.append(merged)


def _check_complete(connection: sa.Connection, rows: Sequence[Row], *, after: int) -> None:
    """Raise if a request is missing, from that one on: an older copy may have been put in the ledger's place."""
    ids = [row.id for row in rows]
    if after and after not in ids[:1]:
        raise damaged(f"request {after}")
    if connection.dialect.name == "sqlite":
        # SQLite gives ids without gaps, so there a request that is missing is noticed.
        missing = set(range(max(after, 1), last_id_of_sqlite(connection) + 1)).difference(ids)
        if missing:
            raise damaged(f"request {min(missing)}")


def _has_any(prefixes: Prefixes, wanted: Prefixes) -> bool:
    if not len(prefixes):
        return False
    places = np.minimum(np.searchsorted(prefixes, wanted), len(prefixes) - 1)
    return bool((prefixes[places] == wanted).any())
