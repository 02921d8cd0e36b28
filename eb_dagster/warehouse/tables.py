"""One enriched table, split into the tables of a warehouse: the contacts, their parts and their jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeGuard

import dlt
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.contacts.schema import CONTACT_COLUMNS, JOB_COLUMNS, Column, EntryField
from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import listed
from eb_dagster.warehouse.column_types import Array, as_loadable, loadable_type

CONTACTS: Final = "contacts"
HISTORY: Final = "contact_job_history"
_NEEDED_COLUMNS: Final = ("matched", "field_type", "query")


def _field(name: str, description: str, type_: pa.DataType = pa.string()) -> pa.Field:  # noqa: B008 - a constant
    return pa.field(name, type_, metadata={"description": description})


ID_FIELD: Final = _field("contact_id", "Who this is, in each load the same.").with_nullable(False)
GONE_FIELD: Final = _field(
    "is_gone", "Always null: tells a load that a contact has none any more.", pa.bool_()
)
_POSITION_FIELD: Final = _field("position", "Place in the vendor's list, from 0.", pa.int64()).with_nullable(
    False
)
JOB_ID_FIELD: Final = _field("job_id", "This job of this contact.").with_nullable(False)


def described(field: pa.Field) -> str | None:
    """What a column means, if its field says so."""
    metadata: Mapping[bytes, bytes] = field.metadata or {}
    return metadata[b"description"].decode() if b"description" in metadata else None


@dataclass(frozen=True, slots=True)
class Part:
    """A table of the entries of one list column."""

    column: Column

    @property
    def table(self) -> str:
        """Its name in the warehouse."""
        return f"contact_{self.column.name}"

    @property
    def schema(self) -> pa.Schema:
        """The contact, the position in the list, and the fields of the entry."""
        fields = [_field(field.name, field.description) for field in self.column.entry_fields]
        return pa.schema([ID_FIELD, _POSITION_FIELD, *fields])


PARTS: Final = tuple(Part(column) for column in CONTACT_COLUMNS if column.entry_fields)

TABLE_DESCRIPTIONS: Final[Mapping[str, str]] = {
    CONTACTS: "The contacts that were found, one row each, with the columns of the enriched table.",
    **{
        part.table: f"One row for each of a contact's {part.column.name.replace('_', ' ')}, in the vendor's order."
        for part in PARTS
    },
    HISTORY: "One row for each job that a contact had, with the times between which it was the newest.",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How one enriched table is split."""

    contacts: pa.Schema
    history: pa.Schema
    parts: tuple[Part, ...]
    key: tuple[str, ...]
    is_unique: bool
    prefix: str

    @classmethod
    def of(cls, schema: pa.Schema, *, key: tuple[str, ...], prefix: str) -> Layout:
        """The layout of a table with this schema. Raises `InputError` if it is no enriched table."""
        _check_enriched(schema, prefix)
        _check_key(schema, key)
        parts = tuple(part for part in PARTS if prefix + part.column.name in schema.names)
        kept = _kept_fields(schema, without={prefix + part.column.name for part in parts})
        _check_names([field.name for field in kept])
        return cls(
            contacts=pa.schema([ID_FIELD, *kept]),
            history=_history_schema(kept, prefix),
            parts=parts,
            key=key or (prefix + "field_type", prefix + "query"),
            is_unique=bool(key),
            prefix=prefix,
        )

    def split(
        self, batch: pa.RecordBatch, seen: set[bytes], *, first_row: int, is_whole: bool
    ) -> Iterator[tuple[str, pa.Table]]:
        """The tables of one batch, of those rows that found somebody.

        `seen` are the contacts of the batches before, to which those of this one are added.
        """
        columns = {name: as_loadable(name, batch.column(name)) for name in self.contacts.names[1:]}
        found = self._find_contacts(batch, columns, seen, first_row=first_row)
        rows = pa.array(found.rows, type=pa.int64())
        ids = pa.array(found.ids, type=pa.string())
        columns = {name: column.take(rows) for name, column in columns.items()}
        yield CONTACTS, _table(self.contacts, [ids, *columns.values()])
        for part in self.parts:
            lists = _as_declared(part.column, batch.column(self.prefix + part.column.name)).take(rows)
            yield part.table, _part_table(part, ids, lists, is_whole=is_whole)
        jobs = [columns[name] for name in self.history.names[2:]]
        yield HISTORY, _table(self.history, [ids, _job_ids(found.ids, jobs), *jobs])

    def _find_contacts(
        self, batch: pa.RecordBatch, columns: Mapping[str, Array], seen: set[bytes], *, first_row: int
    ) -> _FoundContacts:
        is_matched = batch.column(self.prefix + "matched").fill_null(False)
        matched_rows = np.flatnonzero(np.asarray(is_matched))
        key_columns = [columns.get(name, batch.column(name)) for name in self.key]
        keys = _key_values(key_columns, matched_rows)
        found = _FoundContacts([], [])
        for row, key in zip(matched_rows.tolist(), keys, strict=True):
            if None in key:
                raise InputError(
                    f"key: row {first_row + row} has no value in [{listed(self.key)}]; name columns that are filled in every row"
                )
            digest = _digest([str(value) for value in key])
            if digest not in seen:
                seen.add(digest)
                found.ids.append(digest.hex())
                found.rows.append(row)
            elif self.is_unique:
                raise InputError(
                    f"key: row {first_row + row} has the same [{listed(self.key)}] as one before it; name columns that tell rows apart"
                )
        return found


def table_schemas(layout: Layout) -> dict[str, pa.Schema]:
    """The columns of each table, by its name."""
    parts = {part.table: part.schema for part in layout.parts}
    return {CONTACTS: layout.contacts, **parts, HISTORY: layout.history}


def column_origins(layout: Layout) -> dict[str, dict[str, Sequence[str]]]:
    """By table and column, the columns of the enriched table that its values are made of."""
    kept = {name: (name,) for name in layout.contacts.names[1:]}
    origins: dict[str, dict[str, Sequence[str]]] = {CONTACTS: {ID_FIELD.name: layout.key, **kept}}
    for part in layout.parts:
        lists = dict.fromkeys(part.schema.names, (layout.prefix + part.column.name,))
        origins[part.table] = {**lists, ID_FIELD.name: layout.key}
    jobs = {name: (name,) for name in layout.history.names[2:]}
    origins[HISTORY] = {ID_FIELD.name: layout.key, JOB_ID_FIELD.name: tuple(jobs), **jobs}
    return origins


class _FoundContacts(NamedTuple):
    ids: list[str]
    rows: list[int]


def _digest(value: object) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=16).digest()


def _kept_fields(schema: pa.Schema, *, without: set[str]) -> list[pa.Field]:
    fields = [field.with_type(loadable_type(field.type)) for field in schema if field.name not in without]
    # A column without a type has no values either. It is added once it has some.
    return [field for field in fields if not pa.types.is_null(field.type)]


def _key_values(columns: Sequence[Array], rows: npt.NDArray[np.int64]) -> Iterator[tuple[object, ...]]:
    """The values of these columns together, by row."""
    return zip(*(column.take(pa.array(rows)).to_pylist() for column in columns), strict=True)


def _check_enriched(schema: pa.Schema, prefix: str) -> None:
    needed = {prefix + name for name in _NEEDED_COLUMNS}
    if not needed <= set(schema.names):
        raise InputError(
            f"this is no enriched table, which has columns {sorted(needed)}; give the one that was written, and its prefix"
        )


def _check_key(schema: pa.Schema, key: Sequence[str]) -> None:
    if missing := [name for name in key if name not in schema.names]:
        raise InputError(f"key: no columns {listed(missing)}; choose from {listed(schema.names)}")


def _history_schema(kept: Sequence[pa.Field], prefix: str) -> pa.Schema:
    job_names = [prefix + name for name in JOB_COLUMNS]
    return pa.schema([ID_FIELD, JOB_ID_FIELD, *(field for field in kept if field.name in job_names)])


def _check_names(names: Sequence[str]) -> None:
    """Refuse columns whose names in the warehouse are another's, ours or dlt's."""
    naming = dlt.Schema("exactbuyer").naming
    taken: dict[str, str] = {ID_FIELD.name: ID_FIELD.name}
    for name in names:
        loaded = naming.normalize_identifier(name) if name else ""
        if not loaded or loaded.startswith("_dlt"):
            raise InputError(f"a column cannot be called {listed([name])} in a warehouse; rename it")
        if loaded in taken:
            raise InputError(
                f"columns [{listed([taken[loaded], name])}] would both be {listed([loaded])} in the warehouse; rename one"
            )
        taken[loaded] = name


def _as_declared(column: Column, values: Array) -> Array:
    """A column of lists in its declared type, though it was written as JSON or the table was rewritten since."""
    if values.type == column.type:
        return values
    cells = values.to_pylist()
    if pa.types.is_list(column.type) and not pa.types.is_nested(values.type):
        cells = [None if text is None else msgspec.json.decode(text) for text in cells]
    return pa.array(cells, type=column.type)


def _table(schema: pa.Schema, arrays: Sequence[Array]) -> pa.Table:
    return pa.Table.from_arrays([*arrays], schema=schema.remove_metadata())


def _job_ids(contact_ids: Sequence[str], jobs: Sequence[Array]) -> Array:
    """A hash of each contact's job: dlt takes a row for new when it changes."""
    rows = zip(contact_ids, *(job.to_pylist() for job in jobs), strict=True)
    return pa.array([_digest(row).hex() for row in rows], type=pa.string())


# Parts


@dataclass(frozen=True, slots=True)
class _Entries:
    """The entries of lists, side by side."""

    rows: npt.NDArray[np.int64]
    """The row of each."""
    positions: npt.NDArray[np.int64]
    """Where each stands in its list."""
    columns: list[Array]
    """An array for each of the fields."""


def _part_table(part: Part, ids: Array, lists: Array, *, is_whole: bool) -> pa.Table:
    is_json = part.column.is_json
    entries = _read_json_entries(part.column.entry_fields, lists) if is_json else _read_entries(lists)
    schema = part.schema
    if is_whole:
        arrays = [ids.take(pa.array(entries.rows)), pa.array(entries.positions), *entries.columns]
        return _table(schema, arrays)
    # Nothing else would tell the warehouse that a contact's last entry is gone.
    empty_rows = np.setdiff1d(np.arange(len(ids)), entries.rows)
    is_gone = [None] * len(entries.rows) + [True] * len(empty_rows)
    rows = np.concatenate([entries.rows, empty_rows])
    positions = np.concatenate([entries.positions, np.zeros_like(empty_rows)])
    padding = [None] * len(empty_rows)
    padded = [pa.array([*column.to_pylist(), *padding], type=column.type) for column in entries.columns]
    return _table(
        schema.append(GONE_FIELD),
        [ids.take(pa.array(rows)), pa.array(positions), *padded, pa.array(is_gone, type=pa.bool_())],
    )


def _read_entries(lists: Array) -> _Entries:
    rows = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)
    entries = pc.list_flatten(lists)
    # The entries of a row stand together.
    first_entries = np.searchsorted(rows, rows)
    columns = entries.flatten() if isinstance(entries, pa.StructArray) else [entries]
    return _Entries(rows, np.arange(len(rows)) - first_entries, columns)


def _read_json_entries(fields: Sequence[EntryField], texts: Array) -> _Entries:
    rows: list[int] = []
    positions: list[int] = []
    values: list[list[str | None]] = [[] for _ in fields]
    for row, text in enumerate(texts.to_pylist()):
        for position, raw in enumerate(_split_json(text) if text else ()):
            rows.append(row)
            positions.append(position)
            entry = _decode_entry(raw, bare_key=fields[0].keys[0])
            for field, column in zip(fields, values, strict=True):
                column.append(_first_text(entry, field.keys) if field.keys else raw.decode())
    return _Entries(
        np.array(rows, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        [pa.array(column, type=pa.string()) for column in values],
    )


_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _split_json(text: str) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _decode_entries(text)]
    except (msgspec.DecodeError, RecursionError):
        return [text.encode()]


def _decode_entry(raw: bytes, *, bare_key: str) -> Mapping[str, object]:
    """The fields of an entry. One that is no object stands under `bare_key`."""
    try:
        entry: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return entry if _is_object(entry) else {bare_key: entry}


def _first_text(entry: Mapping[str, object], keys: Sequence[str]) -> str | None:
    for key in keys:
        value = _innermost(entry.get(key))
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def _innermost(value: object) -> object:
    """The name of an object, the first entry of a list, and so on until it is neither."""
    while value and (_is_object(value) or _is_list(value)):
        value = value.get("name") if _is_object(value) else next(iter(value))
    return value


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)
