"""The rows of a query, as Arrow: from SQLAlchemy's URLs, DuckDB, ADBC, Snowflake and BigQuery.

The types of the columns are those of the database, so they do not depend on which rows come first. Where a
database does not tell them, as SQLite, the query is read twice: first for its types. Nothing here shows an address,
for it may contain a password, nor what a database says, for it may quote a row.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import pyarrow as pa

from eb_dagster.errors import ConfigError, EnrichError, InputError
from eb_dagster.identifiers.columns import listed
from eb_dagster.tables import query_drivers as drivers
from eb_dagster.tables.query_drivers import Stream
from eb_dagster.tables.query_types import FoundTypes, column_of, postgresql_type
from eb_dagster.tables.source import BATCH_ROWS, Source
from eb_dagster.tables.spool import spooled

if TYPE_CHECKING:
    import sqlalchemy as sa

QueryConnection: TypeAlias = Any
"""A URL of SQLAlchemy's kind, the path of a DuckDB or SQLite file, an engine or a connection of SQLAlchemy's, or a
connection of DuckDB, ADBC or Snowflake, or a client of BigQuery."""

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+_.-]*(?=:)")
_SQLITE: Final = b"SQLite format 3\0"
_TYPED: Final = ("postgresql", "redshift", "cockroachdb")
_INSTALL: Final = {
    "postgresql": '"eb-dagster[postgresql]"',
    "mysql": "pymysql, and name it: mysql+pymysql://…",
    "mssql": "pyodbc",
    "oracle": "oracledb, and name it: oracle+oracledb://…",
    "redshift": "sqlalchemy-redshift redshift-connector",
    "databricks": "databricks-sqlalchemy",
    "trino": "trino[sqlalchemy]",
}
_RIGHTS: Final = "42501"
# Classes of SQLSTATE: of connections and logins, of what a server has run out of, of operators and of failing systems.
_OF_SERVER: Final = ("08", "28", "3D", "53", "57", "58")
_VIEW: Final = "eb_dagster_query"


def read_query(sql: str, connection: QueryConnection) -> pa.RecordBatchReader:
    """The rows of a query, as a stream of Arrow batches; memory holds one batch.

    Args:
        sql: one SELECT.
        connection: a URL (postgresql://…, sqlite:///…, duckdb:///…, snowflake://…, bigquery://…, or another that
            SQLAlchemy knows), the path of a DuckDB or SQLite file, an engine or a connection of SQLAlchemy's, or a
            connection of DuckDB, ADBC or Snowflake, or a client of BigQuery. A connection must not be used for
            anything else until the stream is read.

    The types are those of the database: numbers without bounds, JSON and UUIDs are text.

    Raises:
        ConfigError: the database cannot be reached or refuses the login, or its driver is not installed.
        InputError: the database refuses the query, or a value has no place in its column.

    """
    source = query_source(sql, connection)
    schema = source.schema
    return pa.RecordBatchReader.from_batches(schema, source.batches())


def query_source(sql: str, connection: QueryConnection) -> Source:
    """The same as a table, which is asked each time that it is read. What is raised, comes with its schema."""
    return _QuerySource(sql, connection)


class _QuerySource(Source):
    """A query, which is run when its schema or its first rows are asked for."""

    def __init__(self, sql: str, connection: QueryConnection) -> None:
        if not isinstance(cast("object", sql), str) or not sql.strip():
            raise ConfigError("the query is not text; give one SELECT")
        super().__init__(None, None, is_rereadable=False)
        self._sql = sql.strip().rstrip(";")
        self._connection = connection
        self._running: Stream | None = None

    def _find_schema(self) -> pa.Schema:
        stream = _stream(self._sql, self._connection)
        # It has begun from here on, so that it closes what it opened even if nobody reads on.
        schema = next(stream)
        _check_names(schema.names)
        self._running = stream
        return schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of its rows. Runs the query, unless it was run for its schema and not read since."""
        stream, self._running = self._running, None
        if stream is None:
            stream = _stream(self._sql, self._connection)
            next(stream)
        yield from stream

    def held(self) -> Source:
        """The same rows, kept on disk."""
        return spooled(self)


def _check_names(names: Sequence[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"the query gives more than one column called [{listed(repeated)}]; name each with AS, or leave one out"
        )


def _stream(sql: str, connection: QueryConnection) -> Stream:
    if isinstance(connection, str | os.PathLike):
        return _stream_of_address(sql, os.fspath(cast("str", connection)))
    return _stream_of_connection(sql, connection)


def _stream_of_connection(sql: str, connection: Any) -> Stream:
    module = type(connection).__module__
    if type(connection).__name__ == "DuckDBPyConnection":
        return drivers.duckdb_stream(sql, connection)
    if drivers.is_adbc(connection):
        return drivers.adbc_stream(sql, connection)
    if module.startswith("snowflake.connector"):
        return drivers.snowflake_stream(sql, connection)
    if module.startswith("google.cloud.bigquery"):
        return drivers.bigquery_stream(sql, connection)
    if module.startswith("sqlalchemy"):
        return _sqlalchemy_stream(sql, connection)
    raise ConfigError(
        f"a query's connection cannot be of type {type(connection).__name__}; give a URL, the path of a DuckDB file, or "
        "a connection of DuckDB, ADBC, SQLAlchemy or Snowflake, or a client of BigQuery"
    )


def _stream_of_address(sql: str, address: str) -> Stream:
    scheme = _SCHEME.match(address)
    # One letter is a drive of Windows.
    backend = scheme[0].partition("+")[0].lower() if scheme and len(scheme[0]) > 1 else ""
    match backend:
        case "":
            return _stream_of_file(sql, address)
        case "duckdb":
            path = re.sub(r"^duckdb:(///)?", "", address)
            return _closing(drivers.duckdb_connection(path), sql, drivers.duckdb_stream)
        case "snowflake":
            return _closing(drivers.snowflake_connection(address), sql, drivers.snowflake_stream)
        case "bigquery":
            return _closing(drivers.bigquery_client(address), sql, drivers.bigquery_stream)
        case _:
            return _sqlalchemy_stream(sql, address)


def _stream_of_file(sql: str, path: str) -> Stream:
    file = Path(path)
    if not file.is_file():
        raise ConfigError(
            f"there is no database file {file.name} for the query; check the path, or give a URL"
        )
    with file.open("rb") as opened:
        is_sqlite = opened.read(len(_SQLITE)) == _SQLITE
    if is_sqlite:
        return _sqlalchemy_stream(sql, f"sqlite:///{file.resolve()}")
    return _closing(drivers.duckdb_connection(path), sql, drivers.duckdb_stream)


def _closing(connection: Any, sql: str, run: Any) -> Stream:
    with contextlib.closing(connection):
        yield from run(sql, connection)


# SQLAlchemy


def _sqlalchemy_stream(sql: str, where: str | sa.Engine | sa.Connection) -> Stream:
    from sqlalchemy import exc

    is_running = False
    try:
        with _connected(where) as connection:
            is_running = True
            typed = connection.dialect.name in _TYPED
            yield from (_typed_stream if typed else _untyped_stream)(sql, connection)
    except exc.SQLAlchemyError as error:
        raise _error_of(error, sql, is_running=is_running) from None


@contextlib.contextmanager
def _connected(where: Any) -> Generator[sa.Connection]:
    import sqlalchemy as sa

    if isinstance(where, sa.Connection):
        yield where
        return
    engine = where if isinstance(where, sa.Engine) else _engine(where)
    # Nothing is committed: a query changes nothing.
    with engine.connect() as connection:
        yield connection


def _engine(address: str | sa.URL) -> sa.Engine:
    import sqlalchemy as sa
    from sqlalchemy import exc

    try:
        url = sa.make_url(address)
    except (exc.ArgumentError, ValueError):
        # Without the cause, which may quote the end of a password.
        raise ConfigError("the query's connection is no URL; give one such as postgresql://…") from None
    backend = url.get_backend_name()
    arguments: dict[str, bool] = {}
    if backend == "sqlite":
        arguments["check_same_thread"] = False
        if not Path(url.database or "").is_file() and not (url.database or "").startswith("file:"):
            raise ConfigError(
                f"there is no SQLite file {Path(url.database or '').name or '(in memory)'} for the query; check the path"
            )
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, connect_args=arguments)
    except (exc.NoSuchModuleError, ImportError):
        known = _INSTALL.get(backend)
        raise ConfigError(
            f"the query's database needs a driver: pip install {known}"
            if known
            else "the query's database is not known to SQLAlchemy; install its dialect for SQLAlchemy, or check the URL"
        ) from None
    except (exc.ArgumentError, TypeError, ValueError):
        raise ConfigError("the query's URL has an option that its driver does not know; check it") from None


def _run(sql: str, connection: sa.Connection) -> Any:
    # Without parameters, a % of the query is left alone.
    streaming = connection.execution_options(
        stream_results=True, max_row_buffer=BATCH_ROWS, no_parameters=True
    )
    result = streaming.exec_driver_sql(sql)
    if not result.returns_rows:
        raise InputError("the query returns no table; give a SELECT")
    return result.yield_per(BATCH_ROWS)


def _typed_stream(sql: str, connection: sa.Connection) -> Stream:
    with contextlib.closing(_run(sql, connection)) as result:
        description = result.cursor.description
        schema = pa.schema([(column[0], postgresql_type(column)) for column in description])
        yield schema
        yield from _batches(result, schema)


def _untyped_stream(sql: str, connection: sa.Connection) -> Stream:
    declared: dict[str, str] = {}
    if connection.dialect.name == "sqlite":
        if not connection.connection.dbapi_connection.in_transaction:  # pyright: ignore
            # So that both readings are of one state.
            connection.exec_driver_sql("BEGIN")
        declared = _declared_in_sqlite(sql, connection)
    with contextlib.closing(_run(sql, connection)) as result:
        description = result.cursor.description
        found = FoundTypes(description)
        for rows in result.partitions(BATCH_ROWS):
            found.add(zip(*rows, strict=True))
    types = found.types(declared)
    schema = pa.schema([(column[0], type_) for column, type_ in zip(description, types, strict=True)])
    yield schema
    with contextlib.closing(_run(sql, connection)) as result:
        yield from _batches(result, schema)


def _batches(result: Any, schema: pa.Schema) -> Stream:
    for rows in result.partitions(BATCH_ROWS):
        columns = zip(*rows, strict=True)
        arrays = [
            column_of(field.name, values, field.type) for field, values in zip(schema, columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _declared_in_sqlite(sql: str, connection: sa.Connection) -> dict[str, str]:
    """By column, the declared type of the table's column that it is."""
    from sqlalchemy import exc

    unchanged = connection.execution_options(no_parameters=True)
    with contextlib.suppress(exc.SQLAlchemyError):
        unchanged.exec_driver_sql(f"CREATE TEMP VIEW {_VIEW} AS {sql}")
        try:
            rows = unchanged.exec_driver_sql(f"PRAGMA temp.table_info({_VIEW})").all()
        finally:
            unchanged.exec_driver_sql(f"DROP VIEW temp.{_VIEW}")
        return {row[1]: row[2] for row in rows}
    return {}


def _error_of(error: Any, sql: str, *, is_running: bool) -> EnrichError:
    original = getattr(error, "orig", None) or error
    name, state = (
        type(original).__name__,
        getattr(original, "sqlstate", None) or getattr(original, "pgcode", None),
    )
    if state == _RIGHTS:
        return ConfigError(
            f"the database does not let this user run the query ({name}); check the user's rights"
        )
    if not is_running or getattr(error, "connection_invalidated", False):
        return drivers.unreachable(name)
    if state is not None:
        return (
            drivers.unreachable(name) if state.startswith(_OF_SERVER) else drivers.query_error(original, sql)
        )
    # SQLite's code for a statement that cannot be carried out is 1.
    is_statement = getattr(original, "sqlite_errorcode", 1) == 1 and name != "InterfaceError"
    return drivers.query_error(original, sql) if is_statement else drivers.unreachable(name)
