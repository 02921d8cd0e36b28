"""Open a ledger in PostgreSQL, and refuse a server that cannot be trusted to remember."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from eb_dagster.errors import LedgerError

if TYPE_CHECKING:
    import psycopg

# Set for each transaction: the defaults of a server, a database or a role cannot be relied on, nor can what others
# left in a session that a pooler shares. The time-out lets others go on when a process was stopped in the middle.
_BEGIN: Final = (
    "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; "
    "SET LOCAL idle_in_transaction_session_timeout = '10min'; SET LOCAL search_path = {schema}, pg_temp; "
)
_FIRST_VERSION_WITH_TRANSACTION_TIMEOUT: Final = 170_000
_SELECT_SETTINGS: Final = """
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('transaction_read_only'),
    (SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = to_regclass('meta')), quote_ident(current_schema())
"""


class PinnedSchema:
    """Keeps all connections of one ledger in the PostgreSQL schema where its tables were first found."""

    def __init__(self) -> None:
        self._name: str | None = None

    def prepare(self, connection: psycopg.Connection) -> dict[str, object]:
        """Check that the server keeps what is committed. Returns the statements that `begin` uses."""
        # A prepared statement belongs to a session, and behind a pooler the next transaction may run in another.
        connection.prepare_threshold = None
        with connection.cursor() as cursor:
            (settings,) = cursor.execute(_SELECT_SETTINGS).fetchall()
        connection.commit()
        commit, fsync, read_only, found_schema, first_schema = settings
        _check_settings(commit, fsync, read_only)
        # Said explicitly from here on, so that a default that changes during a run loses no reply.
        connection.read_only = False
        self._name = self._name or found_schema or first_schema
        if self._name is None:
            raise LedgerError(
                "the search_path of PostgreSQL leads to no schema for the ledger's tables; make it, or set "
                "search_path for this user"
            )
        statements = _BEGIN.format(schema=self._name)
        if connection.info.server_version >= _FIRST_VERSION_WITH_TRANSACTION_TIMEOUT:
            statements += "SET LOCAL transaction_timeout = 0; "
        durable = "remote_apply" if commit == "remote_apply" else "on"
        return {
            "begin_durable": f"{statements}SET LOCAL synchronous_commit = {durable}",
            "begin": f"{statements}SET LOCAL synchronous_commit = off",
        }


def _check_settings(commit: str, fsync: str, read_only: str) -> None:
    if commit in ("off", "local") or fsync != "on":
        raise LedgerError(
            "PostgreSQL runs with synchronous_commit or fsync off: it may forget a purchase. Set both to on"
        )
    if read_only != "off":
        raise LedgerError("PostgreSQL is read-only there (a replica?); name the primary")


def begin(connection: sa.Connection) -> None:
    """Begin a transaction that is durable or may be undone by a crash of the server."""
    options = connection.get_execution_options()
    if options.get("isolation_level") != "AUTOCOMMIT":
        statements = "begin_durable" if options.get("is_durable", True) else "begin"
        connection.exec_driver_sql(connection.info[statements])
