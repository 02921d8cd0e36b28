"""Enriched contacts as a dlt source: a wide table and its parts, merged into any warehouse that dlt knows.

dlt makes the tables, the SQL and the migrations. What is decided here is who a row is, and which rows
of the warehouse a load may delete.

A row is who was asked for: `contact_id` is a hash of the columns that the user names as key, else of
the identifier that answered, in canonical form. Both are the same in each run; what the vendor says of
a person is not.

A Parquet table is whole, so who is not in it any more, a forgotten person above all, is deleted. A
stream is a part, and replaces only the people in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from eb_dagster.contacts.schema import CONTACT_COLUMNS
from eb_dagster.errors import BOUGHT, NOTHING_SENT, ConfigError, EnrichError, InputError
from eb_dagster.identifiers.columns import listed
from eb_dagster.tables.object_store import place
from eb_dagster.tables.parquet import open_parquet, read_batches

try:
    import dlt
    from dlt.common import logger as dlt_logger
    from dlt.common.configuration.container import Container
    from dlt.common.configuration.exceptions import ConfigFieldMissingException
    from dlt.common.destination.exceptions import DestinationException
    from dlt.common.pipeline import PipelineContext
    from dlt.pipeline.exceptions import PipelineStepFailed
except ModuleNotFoundError as _error:
    if _error.name != "dlt":
        raise
    raise ModuleNotFoundError(
        'eb_dagster.warehouse needs dlt: pip install "eb-dagster[warehouse]"', name="dlt"
    ) from None

BATCH_ROWS: Final = 32_768
HISTORY: Final = "contact_job_history"

_WHOLE: Final = "1 = 1"
_PART: Final = "contact_id IN (SELECT contact_id FROM {staging_table})"
_ID: Final = pa.field(
    "contact_id", pa.string(), False, {"description": "Who this is, in each load the same."}
)
_POSITION: Final = pa.field(
    "position", pa.int64(), False, {"description": "Place in the vendor's list, from 0."}
)
_GONE: Final = pa.field(
    "is_gone",
    pa.bool_(),
    metadata={"description": "Always null: tells a load that a contact has none any more."},
)
_JOB: Final = ("job_title", "job_level", "company_name", "company_domain")
# dlt itself hands descriptions to Snowflake, BigQuery and Databricks. These three share one statement.
_COMMENTED_HERE: Final = ("duckdb", "postgres", "redshift")
_PIPELINE: Final = "exactbuyer"
# Of this pipeline alone. Else dlt would keep the staged people in a schema beside theirs.
_CLEARED: Final = f"{_PIPELINE.upper()}__LOAD__TRUNCATE_STAGING_DATASET"
_MOST_DIGITS: Final = 38
_LAST_YEAR: Final = 9999


def _field(name: str, description: str) -> pa.Field[Any]:
    return pa.field(name, pa.string(), metadata={"description": description})


_EMAIL: Final = (_field("email", "E-mail address."),)
_PHONE: Final = (_field("phone", "Phone number."),)
_PROFILE: Final = (
    _field("network", "Network as the vendor gives it."),
    _field("url", "Address of the profile."),
)
_SCHOOL: Final = (
    _field("school_name", "School."),
    _field("degree", "Degree."),
    _field("start_date", "Start as the vendor gives it."),
    _field("end_date", "End as the vendor gives it."),
    _field("entry", "All that the vendor said, as JSON."),
)
_EXPERIENCE: Final = (
    _field("company_name", "Employer."),
    _field("job_title", "Job title."),
    _field("start_date", "Start as the vendor gives it."),
    _field("end_date", "End as the vendor gives it."),
    _field("entry", "All that the vendor said, as JSON."),
)
# Where in an entry the columns before `entry` are found: the first key that is there.
_SCHOOL_KEYS: Final = (("school", "name"), ("degree", "degrees"), ("start_date",), ("end_date",))
_EXPERIENCE_KEYS: Final = (
    ("company", "company_name"),
    ("title", "job_title"),
    ("start_date",),
    ("end_date",),
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A child table, and the column of the enriched table that it is taken from."""

    table: str
    column: str
    fields: tuple[pa.Field[Any], ...]
    keys: tuple[tuple[str, ...], ...] = ()

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([_ID, _POSITION, *self.fields])


PARTS: Final = (
    _Part("contact_emails", "emails", _EMAIL),
    _Part("contact_phones", "phones", _PHONE),
    _Part("contact_social_profiles", "social_profiles", _PROFILE),
    _Part("contact_education", "education", _SCHOOL, _SCHOOL_KEYS),
    _Part("contact_experiences", "experiences", _EXPERIENCE, _EXPERIENCE_KEYS),
)


def contacts_source(
    table: str | os.PathLike[str] | pa.RecordBatchReader,
    *,
    key: str | Sequence[str] = (),
    is_whole: bool | None = None,
    history: bool = False,
    table_format: Literal["delta", "iceberg"] | None = None,
    prefix: str = "eb_",
) -> Any:
    """The contacts that were found, as a dlt source.

    Args:
        table: the path of an enriched Parquet table, or the reader that `enrich_batches` returns.
        key: the columns of the input that tell one row from another; the identifier that answered if
            none is named, and then several rows with one identifier are one contact.
        is_whole: the table has everybody, so who is not in it is deleted. By default a path is whole
            and a reader is not.
        history: keep a table of each contact's jobs over time as well (type 2).
        table_format: for a data lake, "delta" or "iceberg"; then each load replaces the whole tables.
        prefix: the one that the table was enriched with.

    Raises:
        ConfigError: settings that do not go together.
        InputError: the table is not an enriched one, or its key columns are missing, null or not
            unique. Positions are named, never values.

    """
    names = (key,) if isinstance(key, str) else tuple(key)
    whole = not isinstance(table, pa.RecordBatchReader) if is_whole is None else is_whole
    if table_format and history:
        raise ConfigError(
            "history needs a database; leave it out for Delta and Iceberg, where dlt keeps none"
        )
    if table_format and not whole:
        raise ConfigError("Delta and Iceberg tables are replaced as a whole: give a path, or is_whole=True")

    def batches() -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            schema, rows = _open(table, stack)
            shape = _Shape.of(schema, key=names, prefix=prefix)
            hints = _hints(shape, is_whole=whole, table_format=table_format, history=history)
            seen: set[bytes] = set()
            start = 0
            # An empty one first: a table in which nobody is left has no batches, and still deletes.
            for batch in itertools.chain([_empty(schema)], rows):
                for name, found in shape.split(batch, seen, start=start, is_whole=whole):
                    if name in hints:
                        yield dlt.mark.with_hints(found, hints[name], create_table_variant=True)
                start += batch.num_rows

    return dlt.source(
        lambda: dlt.resource(batches, name="contacts"), name="exactbuyer", max_table_nesting=0
    )()


def load_contacts(
    table: str | os.PathLike[str] | pa.RecordBatchReader,
    destination: Any,
    *,
    dataset: str,
    folder: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Mapping[str, int]:
    """Load the contacts, and return how many rows each table was given.

    `destination` is dlt's name of one or one of its `dlt.destinations`; `dataset` is the schema there.
    While it runs, dlt holds the people in files: in a folder of their own inside `folder` (the
    system's for temporary files by default), which only its owner may read and which is gone
    afterwards, also after an error. The other settings are those of `contacts_source`.

    Raises:
        ConfigError, InputError: as `contacts_source`; ConfigError also if the warehouse refused.
        EnrichError: what stopped the enrichment that is loaded.

    """
    source = contacts_source(table, **settings)
    try:
        with (
            _our_words(),
            _apart(),
            tempfile.TemporaryDirectory(prefix="eb_dagster-", dir=folder) as private,
        ):
            pipeline = _pipeline(
                _PIPELINE, destination=destination, dataset_name=dataset, pipelines_dir=private
            )
            pipeline.sync_destination()
            # Before the first batch: a table that is loaded as it streams buys it.
            new = _types_of(table, f"{private}/declared", settings)
            _refuse_bytes(pipeline, new)
            _refuse_other_types(_types(pipeline), new)
            pipeline.extract(source)
            counts: dict[str, int] = pipeline.normalize().row_counts
            pipeline.load()
            _finish(pipeline, with_history=bool(settings.get("history")))
    except EnrichError as error:
        if error.spent == NOTHING_SENT:
            # An enrichment that is loaded as it streams may have bought before the load failed.
            error.spent = BOUGHT if isinstance(table, pa.RecordBatchReader) else "Nothing was bought"
        raise
    return {name: rows for name, rows in counts.items() if not name.startswith("_dlt")}


def _pipeline(name: str, **settings: Any) -> Any:
    pipeline: Any = dlt.pipeline(name, **settings)
    # What dlt tells its makers of a load is made of its trace.
    pipeline.config.enable_runtime_trace = False
    return pipeline


@contextlib.contextmanager
def _apart() -> Generator[None]:
    """Load without a trace: other pipelines of this process find dlt as they left it.

    While it loads, dlt's log is silent. It would show the values that a warehouse refused.
    """
    active: Any = Container()[PipelineContext]
    before = active.pipeline() if active.is_active() else None
    log: logging.Logger = dlt_logger.LOGGER or logging.getLogger("dlt")
    was_cleared = os.environ.get(_CLEARED)
    os.environ[_CLEARED] = "true"
    log.addFilter(_no_record)
    try:
        yield
    finally:
        log.removeFilter(_no_record)
        if was_cleared is None:
            del os.environ[_CLEARED]
        else:
            os.environ[_CLEARED] = was_cleared
        active.deactivate()
        if before is not None:
            # One whose folder is gone by now is nobody's any more.
            with contextlib.suppress(FileNotFoundError):
                active.activate(before)


def _no_record(_: logging.LogRecord) -> bool:
    return False


@contextlib.contextmanager
def _our_words() -> Generator[None]:
    try:
        yield
    except PipelineStepFailed as failure:
        raise _told(failure) from None
    except DestinationException as error:
        # Its text may hold values of the row that was refused.
        raise ConfigError(
            f"the warehouse refused ({type(error).__name__}); check its address, rights and disk"
        ) from None


# By the name of the database's own error; its text may hold values.
_ADVICE: Final = {
    "BinderException": "something in the warehouse has another form than expected: choose another dataset",
    "CatalogException": "something in the warehouse has another form than expected: choose another dataset",
    "IOException": "its file cannot be opened: check the path, and that no other program has it open, then run it again",
    "OperationalError": "the database cannot be reached, or refuses the login: check its address, then run it again",
}


def _told(failure: PipelineStepFailed) -> EnrichError:
    """What stopped the load, without dlt's own text: it may hold values of the row that was refused."""
    cause: BaseException = failure
    while inner := getattr(cause, "exception", None) or cause.__cause__ or cause.__context__:
        cause = inner
        if isinstance(cause, EnrichError):
            return cause
        if isinstance(cause, ConfigFieldMissingException):
            return ConfigError(
                f"dlt has no {sorted(cause.fields)} for this destination; set them in .dlt/secrets.toml or the environment"
            )
    name = type(cause).__name__
    advice = _ADVICE.get(name, "check the destination, its rights and its disk")
    # DuckDB's words for it; no value is in them.
    if "Ambiguous reference to catalog or schema" in str(cause):
        advice = (
            "the dataset has the name of the database's file, as in crm.duckdb and crm, and DuckDB cannot tell "
            "them apart: choose another dataset"
        )
    return ConfigError(f"dlt could not {failure.step} the contacts ({name}); {advice}")


def _types_of(
    table: str | os.PathLike[str] | pa.RecordBatchReader, folder: str, settings: Mapping[str, Any]
) -> dict[tuple[str, str], str]:
    """The types that a table's columns will have, by its schema alone."""
    with contextlib.ExitStack() as stack:
        schema, _ = _open(table, stack)
    declared: dict[str, Any] = {"is_whole": not isinstance(table, pa.RecordBatchReader), **settings}
    nobody = pa.RecordBatchReader.from_batches(schema, cast("list[pa.RecordBatch]", []))
    pipeline = _pipeline(f"{_PIPELINE}_declared", destination="duckdb", pipelines_dir=folder)
    pipeline.extract(contacts_source(nobody, **declared))
    return _types(pipeline)


def _types(pipeline: Any) -> dict[tuple[str, str], str]:
    """The type of each column, by table and column, as far as dlt knows them."""
    return {
        (table["name"], name): column["data_type"]
        for schema in pipeline.schemas.values()
        for table in schema.data_tables()
        for name, column in table["columns"].items()
        if "data_type" in column
    }


def _refuse_bytes(pipeline: Any, new: Mapping[tuple[str, str], str]) -> None:
    names = [name for (_, name), kind in new.items() if kind == "binary"]
    # There, dlt writes Arrow tables as CSV.
    if names and pipeline.destination.destination_type.endswith(".postgres"):
        raise InputError(
            f"columns {listed(names)} (binary) hold bytes, which dlt does not bring into PostgreSQL; cast them to text",
            spent="Nothing was changed",
        )


def _refuse_other_types(known: Mapping[tuple[str, str], str], new: Mapping[tuple[str, str], str]) -> None:
    """A warehouse keeps a column's type, and some round or cut what is of another one without a word."""
    others = [
        f"{name}: {known[table, name]} there, {kind} here"
        for (table, name), kind in new.items()
        if known.get((table, name), kind) != kind
    ]
    if others:
        raise InputError(
            f"the warehouse has columns of other types than this table ({'; '.join(others)}); cast them, or "
            "load into another dataset",
            spent="Nothing was changed",
        )


def _finish(pipeline: Any, *, with_history: bool) -> None:
    """What dlt leaves to do: a forgotten person's history, and comments on columns."""
    is_commented = pipeline.destination.destination_name in _COMMENTED_HERE
    if not with_history and not is_commented:
        return
    with pipeline.sql_client() as client:
        contacts = client.make_qualified_table_name("contacts")
        if with_history:
            past = client.make_qualified_table_name(HISTORY)
            # Names that dlt has quoted; no value is in it.
            client.execute_sql(
                f"DELETE FROM {past} WHERE contact_id NOT IN (SELECT contact_id FROM {contacts})"  # noqa: S608
            )
        for table in pipeline.default_schema.data_tables() if is_commented else ():
            for name, column in table["columns"].items():
                if text := column.get("description"):
                    at = (
                        f"{client.make_qualified_table_name(table['name'])}.{client.escape_column_name(name)}"
                    )
                    client.execute_sql(f"COMMENT ON COLUMN {at} IS {_quoted(text)}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _open(
    table: str | os.PathLike[str] | pa.RecordBatchReader, stack: contextlib.ExitStack
) -> tuple[pa.Schema, Iterable[Any]]:
    if isinstance(table, pa.RecordBatchReader):
        return table.schema, cast("Iterable[Any]", table)
    file: Any = stack.enter_context(open_parquet(place(table)))
    return file.schema_arrow, read_batches(file, BATCH_ROWS)


def _empty(schema: pa.Schema) -> Any:
    kinds: list[Any] = [*schema.types]
    return cast("Any", pa.RecordBatch).from_arrays([pa.nulls(0, kind) for kind in kinds], schema=schema)


def _hints(shape: _Shape, *, is_whole: bool, table_format: str | None, history: bool) -> dict[str, Any]:
    scope = _WHOLE if is_whole else _PART
    merge = {
        "disposition": "merge",
        "strategy": "delete-insert",
        "destination_scope": scope,
        "deduplicated": True,
    }
    how = "replace" if table_format else merge
    hints = {
        "contacts": dlt.mark.make_hints(
            table_name="contacts", write_disposition=cast("Any", how), primary_key="contact_id",
            columns=_described(shape.contacts), table_format=cast("Any", table_format),
        )
    }  # fmt: skip
    to_contacts: Any = [
        {"columns": ["contact_id"], "referenced_table": "contacts", "referenced_columns": ["contact_id"]}
    ]
    for part in shape.parts:
        columns = _described(part.schema)
        if not is_whole:
            columns["is_gone"] = {**_described(pa.schema([_GONE]))["is_gone"], "hard_delete": True}
        hints[part.table] = dlt.mark.make_hints(
            table_name=part.table, write_disposition=cast("Any", how), columns=columns,
            primary_key=("contact_id", "position"), references=to_contacts,
            table_format=cast("Any", table_format),
        )  # fmt: skip
    if history:
        # One row for each job that a contact had, with the times between which it was the newest.
        versions = {
            "disposition": "merge", "strategy": "scd2", "destination_scope": scope,
            "row_version_column_name": "job_id",
        }  # fmt: skip
        hints[HISTORY] = dlt.mark.make_hints(
            table_name=HISTORY,
            write_disposition=cast("Any", versions),
            references=to_contacts,
            columns=_described(shape.history),
        )
    return hints


def _described(schema: pa.Schema) -> Any:
    described: dict[str, dict[str, Any]] = {}
    for one in cast("Any", schema):
        noted: dict[bytes, bytes] = one.metadata or {}
        if text := noted.get(b"description"):
            described[one.name] = {"description": text.decode()}
    return described


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one enriched table is split."""

    contacts: pa.Schema
    history: pa.Schema
    parts: tuple[_Part, ...]
    key: tuple[str, ...]
    is_unique: bool
    prefix: str

    @classmethod
    def of(cls, schema: pa.Schema, *, key: tuple[str, ...], prefix: str) -> _Shape:
        needed = {prefix + name for name in ("matched", "field_type", "query")}
        if not needed <= set(schema.names):
            raise InputError(
                f"this is no enriched table, which has columns {sorted(needed)}; give the one that was written, and its prefix"
            )
        if missing := [name for name in key if name not in schema.names]:
            raise InputError(f"key: no columns {listed(missing)}; choose from {listed(schema.names)}")
        parts = tuple(part for part in PARTS if prefix + part.column in schema.names)
        apart = {prefix + part.column for part in parts}
        # A column without a type has no values either. It is added when it has some.
        own = [_loadable(one) for one in cast("Any", schema) if one.name not in apart]
        kept = [one for one in own if not pa.types.is_null(one.type)]
        _check_names([one.name for one in kept])
        job = [one for one in kept if one.name.removeprefix(prefix) in _JOB and one.name.startswith(prefix)]
        version = _field("job_id", "This job of this contact.").with_nullable(False)
        return cls(
            contacts=pa.schema([_ID, *kept]),
            history=pa.schema([_ID, version, *job]),
            parts=parts,
            key=key or (prefix + "field_type", prefix + "query"),
            is_unique=bool(key),
            prefix=prefix,
        )

    def split(
        self, batch: Any, seen: set[bytes], *, start: int, is_whole: bool
    ) -> Iterator[tuple[str, pa.Table]]:
        """The tables of one batch, of those rows that found somebody."""
        places = np.flatnonzero(np.asarray(batch.column(self.prefix + "matched").fill_null(False)))
        ids: list[str] = []
        rows: list[int] = []
        own = {name: _loaded(name, batch.column(name)) for name in self.contacts.names[1:]}
        values = [own.get(name, batch.column(name)).take(pa.array(places)).to_pylist() for name in self.key]
        for at, one in zip(places.tolist(), zip(*values, strict=True), strict=True):
            if None in one:
                raise InputError(
                    f"key: row {start + at} has no value in [{listed(self.key)}]; name columns that are filled in every row"
                )
            digest = hashlib.blake2b(msgspec.json.encode([str(each) for each in one]), digest_size=16)
            if digest.digest() in seen:
                if self.is_unique:
                    raise InputError(
                        f"key: row {start + at} has the same [{listed(self.key)}] as one before it; name columns that tell rows apart"
                    )
                continue
            seen.add(digest.digest())
            ids.append(digest.hexdigest())
            rows.append(at)
        found = pa.array(rows, type=pa.int64())
        contact_ids = pa.array(ids, type=pa.string())
        own = {name: column.take(found) for name, column in own.items()}
        yield "contacts", _table(self.contacts, [contact_ids, *own.values()])
        for part in self.parts:
            lists = _as_written(part, batch.column(self.prefix + part.column)).take(found)
            yield part.table, _part_table(part, contact_ids, lists, is_whole=is_whole)
        jobs = [own[name] for name in self.history.names[2:]]
        yield HISTORY, _table(self.history, [contact_ids, _versions(ids, jobs), *jobs])


def _check_names(names: Sequence[str]) -> None:
    """Refuse columns whose names in the warehouse are another's, ours or dlt's."""
    naming = dlt.Schema("exactbuyer").naming
    taken: dict[str, str] = {_ID.name: _ID.name}
    for name in names:
        loaded = naming.normalize_identifier(name) if name else ""
        if not loaded or loaded.startswith("_dlt"):
            raise InputError(f"a column cannot be called {listed([name])} in a warehouse; rename it")
        if loaded in taken:
            raise InputError(
                f"columns [{listed([taken[loaded], name])}] would both be {listed([loaded])} in the warehouse; rename one"
            )
        taken[loaded] = name


def _part_table(part: _Part, ids: Any, lists: Any, *, is_whole: bool) -> pa.Table:
    owners, positions, columns = _entries(part, lists)
    schema = part.schema
    if not is_whole:
        # Nothing else would tell the warehouse that a contact's last one is gone.
        without = np.setdiff1d(np.arange(len(ids)), owners)
        is_gone = [None] * len(owners) + [True] * len(without)
        owners = np.concatenate([owners, without])
        positions = np.concatenate([positions, np.zeros_like(without)])
        padded: list[Any] = [
            pa.array([*one.to_pylist(), *[None] * len(without)], type=one.type) for one in columns
        ]
        columns = [*padded, pa.array(is_gone, type=pa.bool_())]
        schema = pa.schema([*cast("Any", schema), _GONE])
    return _table(schema, [ids.take(pa.array(owners)), pa.array(positions), *columns])


def _table(schema: pa.Schema, arrays: Sequence[Any]) -> pa.Table:
    bare = cast("Any", schema).remove_metadata()
    return cast("Any", pa.Table).from_arrays([*arrays], schema=bare)


def _versions(ids: Sequence[str], jobs: Sequence[Any]) -> Any:
    """A hash of each contact's job: dlt takes a row for new when it changes."""
    rows = zip(ids, *(job.to_pylist() for job in jobs), strict=True)
    return pa.array(
        [hashlib.blake2b(msgspec.json.encode(row), digest_size=16).hexdigest() for row in rows],
        type=pa.string(),
    )


def _entries(part: _Part, column: Any) -> tuple[Any, Any, list[Any]]:
    """For each entry of these lists: its row, its place in the list, and its columns."""
    if part.keys:
        return _json_entries(part, column)
    owners = np.asarray(compute.list_parent_indices(column), dtype=np.int64)
    entries = cast("Any", compute.list_flatten(column))
    # A row's entries stand together.
    firsts = np.searchsorted(owners, owners)
    columns: list[Any] = entries.flatten() if pa.types.is_struct(entries.type) else [entries]
    return owners, np.arange(len(owners)) - firsts, columns


def _json_entries(part: _Part, column: Any) -> tuple[Any, Any, list[Any]]:
    owners: list[int] = []
    positions: list[int] = []
    rows: list[tuple[str | None, ...]] = []
    for owner, text in enumerate(column.to_pylist()):
        for position, raw in enumerate(_raw_entries(text) if text else ()):
            owners.append(owner)
            positions.append(position)
            fields = _fields_of(raw, part.keys[0][0])
            rows.append((*(_first(fields, keys) for keys in part.keys), raw.decode()))
    columns = list(zip(*rows, strict=True)) or [()] * len(part.fields)
    return (
        np.array(owners, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        [pa.array(list(one), type=pa.string()) for one in columns],
    )


_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _raw_entries(text: str) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _decode_entries(text)]
    except (msgspec.DecodeError, RecursionError):
        return [text.encode()]


def _fields_of(raw: bytes, bare: str) -> Mapping[str, Any]:
    """The entry's fields; what is no object stands for the one called `bare`."""
    try:
        entry: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", entry) if isinstance(entry, dict) else {bare: entry}


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    for key in keys:
        value: Any = entry.get(key)
        while isinstance(value, list | dict) and value:
            if isinstance(value, dict):
                value = cast("dict[str, Any]", value).get("name")
            else:
                value = cast("list[Any]", value)[0]
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def _as_written(part: _Part, column: Any) -> Any:
    """A column of lists as the enrichment has it, though it was told to write JSON or the table was rewritten since."""
    (kind,) = (one.type for one in CONTACT_COLUMNS if one.name == part.column)
    if column.type == kind:
        return column
    cells = column.to_pylist()
    if pa.types.is_list(kind) and not pa.types.is_nested(column.type):
        cells = [None if text is None else msgspec.json.decode(text) for text in cells]
    return pa.array(cells, type=kind)


def _loadable(column: pa.Field[Any]) -> pa.Field[Any]:
    return column.with_type(_loadable_type(column.type))


def _loadable_type(kind: Any) -> Any:
    """The type that a column of the user's has in the warehouse: text, where no other holds all of it."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _loadable_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if isinstance(kind, pa.UuidType) else _loadable_type(kind.storage_type)
    if pa.types.is_decimal(kind):
        digits, scale = kind.precision + max(0, -kind.scale), max(0, kind.scale)
        return pa.decimal128(digits, scale) if digits <= _MOST_DIGITS else pa.string()
    if (plain := _PLAIN.get(str(kind))) is not None:
        return plain
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    is_text = pa.types.is_nested(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind)
    return pa.string() if is_text else kind


# By name, as some are younger than the oldest pyarrow that is allowed.
_PLAIN: Final[dict[str, Any]] = {
    "string_view": pa.string(), "binary_view": pa.binary(), "halffloat": pa.float32(), "date64[ms]": pa.date32(),
    "time64[ns]": pa.time64("us"),
    # A warehouse's own integers end at half of these.
    "uint64": pa.decimal128(20),
}  # fmt: skip


def _loaded(name: str, column: Any) -> Any:
    """The column in its loadable type. Raises `InputError` if one of its values has no place there."""
    kind = column.type
    try:
        return _converted(column)
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        # Its text quotes a value.
        raise InputError(
            f"column {listed([name])} ({str(kind).partition('<')[0]}) holds values that a warehouse has no room for, such as "
            "parts of a microsecond, or years after 9999; round them, or cast the column to text"
        ) from None


def _converted(column: Any) -> Any:
    kind, target = column.type, _loadable_type(column.type)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return _converted(column.storage)
    if pa.types.is_run_end_encoded(kind):
        return _converted(cast("Any", compute).run_end_decode(column))
    if pa.types.is_dictionary(kind):
        return _converted(column.dictionary).take(column.indices)
    if (text := _text_of(kind)) is not None:
        texts = [None if one is None else text(one) for one in _values(column)]
        return cast("Any", pa).array(texts, type=target)
    if pa.types.is_date(target) or pa.types.is_timestamp(target):
        _check_years(column)
    return column if kind == target else column.cast(target)


def _check_years(column: Any) -> None:
    found = cast("Any", compute).min_max(cast("Any", compute).year(column)).as_py()
    if found["min"] is not None and not 1 <= found["min"] <= found["max"] <= _LAST_YEAR:
        raise ValueError


def _text_of(kind: Any) -> Callable[[Any], str] | None:
    """How a value of this type is text; None if Arrow itself can tell, or it stays what it is."""
    if isinstance(kind, pa.UuidType):
        return str
    if pa.types.is_nested(kind):
        return lambda one: msgspec.json.encode(one, enc_hook=str).decode()
    if pa.types.is_duration(kind):
        return lambda one: f"PT{_seconds(one, _PARTS_OF_SECOND[kind.unit])}S"
    if pa.types.is_interval(kind):
        return lambda one: f"P{one.months}M{one.days}DT{_seconds(one.nanoseconds, _PARTS_OF_SECOND['ns'])}S"
    return None


_PARTS_OF_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _values(column: Any) -> list[Any]:
    # Python's own durations end at a microsecond.
    return (column.cast(pa.int64()) if pa.types.is_duration(column.type) else column).to_pylist()


def _seconds(count: int, parts: int) -> str:
    """As ISO 8601 writes them, with what is below one."""
    whole, rest = divmod(abs(count), parts)
    below = f".{rest:0{len(str(parts)) - 1}}".rstrip("0") if rest else ""
    return f"{'-' if count < 0 else ''}{whole}{below}"
