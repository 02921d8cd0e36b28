"""Columns of a database as Arrow columns, of types that do not depend on which rows come first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import listed

_UTC: Final = pa.timestamp("us", "UTC")
_MOST_DIGITS: Final = 38
_NUMERIC: Final = 1700
# By the number that PostgreSQL gives each type. What is not here is text: names, UUIDs, JSON, enums, networks.
_POSTGRESQL: Final[Mapping[int, pa.DataType]] = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.int64(),
    700: pa.float32(),
    701: pa.float64(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: _UTC,
    1186: pa.duration("us"),
}
_POSTGRESQL_LISTS: Final[Mapping[int, pa.DataType]] = {
    1000: pa.bool_(),
    1005: pa.int16(),
    1007: pa.int32(),
    1009: pa.string(),
    1014: pa.string(),
    1015: pa.string(),
    1016: pa.int64(),
    1021: pa.float32(),
    1022: pa.float64(),
    1115: pa.timestamp("us"),
    1182: pa.date32(),
    1185: _UTC,
}


def postgresql_type(description: Sequence[Any]) -> pa.DataType:
    """The type of a column, by what PEP 249 calls its description."""
    code, precision, scale = description[1], description[4], description[5]
    if code == _NUMERIC:
        return _decimal_type(precision, scale)
    if code in _POSTGRESQL_LISTS:
        return pa.list_(_POSTGRESQL_LISTS[code])
    return _POSTGRESQL.get(code, pa.string())


def _decimal_type(precision: object, scale: object) -> pa.DataType:
    """Text, if the database sets no bounds to the digits."""
    if isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision <= _MOST_DIGITS:
        return pa.decimal128(precision, scale) if precision else pa.string()
    return pa.string()


_KINDS: Final[Mapping[frozenset[type], pa.DataType]] = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({bool, int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({float, int}): pa.float64(),
    frozenset({bytes}): pa.binary(),
    frozenset({dt.date}): pa.date32(),
    frozenset({dt.time}): pa.time64("us"),
    frozenset({dt.timedelta}): pa.duration("us"),
}


class FoundTypes:
    """The types of columns whose database does not tell them, by all of their values."""

    def __init__(self, descriptions: Sequence[Sequence[Any]]) -> None:
        self._descriptions = descriptions
        self._kinds: list[set[type]] = [set() for _ in descriptions]
        self._zones: list[set[bool]] = [set() for _ in descriptions]

    def add(self, columns: Iterable[Sequence[object]]) -> None:
        """Look at some rows, column by column."""
        for values, kinds, zones in zip(columns, self._kinds, self._zones, strict=True):
            kinds.update(map(type, values))
            if dt.datetime in kinds:
                zones.update(value.tzinfo is not None for value in values if isinstance(value, dt.datetime))

    def types(self, declared: Mapping[str, str]) -> list[pa.DataType]:
        """The type of each column; where it has no value, by its declaration, if there is one.

        What holds values of several types is text.
        """
        return [
            self._type(kinds - {type(None)}, zones, description, declared.get(description[0], ""))
            for kinds, zones, description in zip(self._kinds, self._zones, self._descriptions, strict=True)
        ]

    def _type(
        self, kinds: set[type], zones: set[bool], description: Sequence[Any], declared: str
    ) -> pa.DataType:
        of_declaration = _declared_type(declared)
        if not kinds:
            return of_declaration or pa.null()
        if of_declaration == pa.float64() and kinds <= {int, float}:
            return pa.float64()
        if kinds == {dt.datetime} and len(zones) == 1:
            return _UTC if True in zones else pa.timestamp("us")
        if Decimal in kinds and kinds <= {Decimal, int}:
            return _decimal_type(description[4], description[5])
        return _KINDS.get(frozenset(kinds), pa.string())


def _declared_type(declared: str) -> pa.DataType | None:
    """What SQLite takes a declaration for: https://www.sqlite.org/datatype3.html, 3.1."""
    text = declared.upper()
    for words, type_ in (
        (("INT",), pa.int64()),
        (("CHAR", "CLOB", "TEXT"), pa.string()),
        (("BLOB",), pa.binary()),
        (("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"), pa.float64()),
    ):
        if any(word in text for word in words):
            return type_
    return None


def column_of(name: str, values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Values as an Arrow column. Raises `InputError` if one does not fit; it is not shown."""
    try:
        if pa.types.is_string(type_):
            if {*map(type, values)} <= {str, type(None)}:
                return pa.array(values, type_)
            return pa.array([_text(value) for value in values], type_)
        if pa.types.is_binary(type_):
            return pa.array([None if value is None else bytes(value) for value in values], type_)
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise InputError(
            f"the query's column {listed([name])} holds a value that has no place in a column of type {type_}; cast "
            "it in the query, for example to text"
        ) from None


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    return str(value)


_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    bool: lambda value: "true" if value else "false",
    Decimal: lambda value: format(value, "f"),
    dict: lambda value: msgspec.json.encode(value, enc_hook=str).decode(),
    list: lambda value: msgspec.json.encode(value, enc_hook=str).decode(),
    dt.date: lambda value: value.isoformat(),
    dt.time: lambda value: value.isoformat(),
    bytes: lambda value: value.decode(),
    memoryview: lambda value: bytes(value).decode(),
}
