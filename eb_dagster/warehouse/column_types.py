"""The user's own columns in types that a warehouse takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import listed

Array: TypeAlias = pa.Array

_MOST_DIGITS: Final = 38
_LAST_YEAR: Final = 9999

# By name, as some are younger than the oldest pyarrow that is allowed.
_REPLACED_TYPES: Final[dict[str, pa.DataType]] = {
    "string_view": pa.string(),
    "binary_view": pa.binary(),
    "halffloat": pa.float32(),
    "date64[ms]": pa.date32(),
    "time64[ns]": pa.time64("us"),
    # A warehouse's own integers end at half of these.
    "uint64": pa.decimal128(20),
}
_UNITS_IN_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def loadable_type(type_: pa.DataType) -> pa.DataType:
    """The type that a column has in the warehouse: text, where no other holds all of it."""
    if pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        return loadable_type(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return pa.string() if isinstance(type_, pa.UuidType) else loadable_type(type_.storage_type)
    if pa.types.is_decimal(type_):
        return _loadable_decimal(type_)
    return _REPLACED_TYPES.get(str(type_)) or _loadable_plain_type(type_)


def _loadable_plain_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return pa.timestamp("us", type_.tz)
    is_text = pa.types.is_nested(type_) or pa.types.is_duration(type_) or pa.types.is_interval(type_)
    return pa.string() if is_text else type_


def _loadable_decimal(type_: pa.DecimalType) -> pa.DataType:
    digits, scale = type_.precision + max(0, -type_.scale), max(0, type_.scale)
    return pa.decimal128(digits, scale) if digits <= _MOST_DIGITS else pa.string()


def as_loadable(name: str, column: Array) -> Array:
    """The column in its loadable type. Raises `InputError` if one of its values has no place there."""
    try:
        return _converted(column)
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        # Its text quotes a value.
        type_name = str(column.type).partition("<")[0]
        raise InputError(
            f"column {listed([name])} ({type_name}) holds values that a warehouse has no room for, such as "
            "parts of a microsecond, or years after 9999; round them, or cast the column to text"
        ) from None


def _converted(column: Array) -> Array:
    type_ = column.type
    if isinstance(column, pa.ExtensionArray) and not isinstance(type_, pa.UuidType):
        return _converted(column.storage)
    if pa.types.is_run_end_encoded(type_):
        return _converted(pc.run_end_decode(column))
    if isinstance(column, pa.DictionaryArray):
        return _converted(column.dictionary).take(column.indices)
    return _converted_plain(column)


def _converted_plain(column: Array) -> Array:
    type_, target = column.type, loadable_type(column.type)
    if (as_text := _text_writer(type_)) is not None:
        texts = [None if value is None else as_text(value) for value in _values(column)]
        return pa.array(texts, type=target)
    if pa.types.is_date(target) or pa.types.is_timestamp(target):
        _check_years(column)
    return column if type_ == target else column.cast(target)


def _check_years(column: Array) -> None:
    years = pc.min_max(pc.year(column)).as_py()
    if years["min"] is not None and not 1 <= years["min"] <= years["max"] <= _LAST_YEAR:
        raise ValueError


def _text_writer(type_: pa.DataType) -> Callable[[Any], str] | None:
    """What writes a value of this type as text; None if it needs no text, or Arrow itself can write it."""
    if isinstance(type_, pa.UuidType):
        return str
    if pa.types.is_nested(type_):
        return lambda value: msgspec.json.encode(value, enc_hook=str).decode()
    if pa.types.is_duration(type_):
        return lambda count: f"PT{_seconds(count, _UNITS_IN_SECOND[type_.unit])}S"
    if pa.types.is_interval(type_):
        return _interval_text
    return None


def _interval_text(interval: Any) -> str:
    seconds = _seconds(interval.nanoseconds, _UNITS_IN_SECOND["ns"])
    return f"P{interval.months}M{interval.days}DT{seconds}S"


def _seconds(count: int, units_in_second: int) -> str:
    """Seconds and their fraction, as ISO 8601 writes them."""
    whole, rest = divmod(abs(count), units_in_second)
    digits = len(str(units_in_second)) - 1
    fraction = f".{rest:0{digits}}".rstrip("0") if rest else ""
    return f"{'-' if count < 0 else ''}{whole}{fraction}"


def _values(column: Array) -> list[Any]:
    # Python's own durations end at a microsecond.
    return (column.cast(pa.int64()) if pa.types.is_duration(column.type) else column).to_pylist()
