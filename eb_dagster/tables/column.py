"""A single column, such as a Series or a list, as a table of one. What kind it holds is told, never guessed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import pyarrow as pa

from eb_dagster.errors import ConfigError, InputError, shown
from eb_dagster.identifiers.columns import likely_kind, listed
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType

IdentifierColumns = Mapping[FieldType, str | Sequence[str]]

_KINDS: Final = 'kind="email", kind="phone" or kind="social_profile"'


@dataclass(frozen=True, slots=True)
class Named:
    """A table, and which of its columns hold which kind; None leaves that to their names."""

    table: Any
    identifiers: IdentifierColumns | None


def as_table(value: Any, *, kind: FieldType | None, identifiers: IdentifierColumns | None) -> Named:
    """The table as it is, or a table of the single column that was given.

    A column without a name is called as its kind is. A list, an array of numpy and an index become dataframes of
    pandas.

    Raises:
        ConfigError: there is no such kind, or a kind is given for a table.
        InputError: nobody says which kind a column holds, or a list holds something else than text.

    """
    _check_kind(kind)
    column = _column_of(value)
    if column is None:
        if kind is not None:
            raise ConfigError(
                f"kind is for a Series or a list; name the columns of a table, as in {kind}='Name of the column'"
            )
        return Named(value, identifiers)
    name = column.name if column.name is not None else kind
    if name is None:
        raise InputError(f"this {column.what} does not say what it holds; give {_KINDS}")
    if kind is not None:
        return Named(column.framed(name), {kind: name})
    if identifiers is None and name.strip().lower() not in (*FIELD_TYPES, "linkedin_url"):
        raise InputError(f"this {column.what} is called {listed([name])}, which is no kind; give {_KINDS}")
    return Named(column.framed(name), identifiers)


def is_no_table(value: object) -> bool:
    """Whether it is a path, a text or a dict of columns, which are often given where a table is due."""
    return isinstance(value, str | bytes | Mapping) or hasattr(value, "__fspath__")


def how_to_give(value: object) -> str:
    """What to do with something that is no table."""
    if isinstance(value, str | bytes) or hasattr(value, "__fspath__"):
        return (
            "a path; give the table that pandas.read_csv(path, dtype=str) reads, or call "
            "enrich_parquet(source, target). A single identifier goes into a list: "
            'enrich_dataframe([text], kind="email")'
        )
    if isinstance(value, Mapping):
        return "a dict; make it a table with pandas.DataFrame(…)"
    name = type(value).__name__
    if name in ("DataFrameReader", "TextFileReader"):
        return f"a {name}; read it first, or leave chunksize out"
    return f"{name}; give it one of these"


def _check_kind(kind: object) -> None:
    if kind is None or kind in FIELD_TYPES:
        return
    meant = likely_kind(kind)
    question = f". Did you mean {meant!r}?" if meant else ""
    raise ConfigError(f"kind is {shown(kind)}; choose from {listed(FIELD_TYPES)}{question}")


@dataclass(frozen=True, slots=True)
class _Column:
    what: str
    """What the user calls it."""
    name: str | None
    value: Any

    def framed(self, name: str) -> Any:
        """A table of it alone, of the library that it came from."""
        if self.what == "Arrow array":
            return pa.table({name: self.value})
        if self.what == "Series of Polars":
            return self.value.alias(name).to_frame()
        import pandas as pd

        is_series = isinstance(self.value, pd.Series)
        if is_series:
            return self.value.to_frame(name)
        values: list[object] = [*self.value]
        return pd.DataFrame({name: pd.Series(values, dtype=object)})


def _column_of(value: Any) -> _Column | None:
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return _Column("Arrow array", None, value)
    if isinstance(value, list | tuple):
        values = cast("Sequence[object]", value)
        if any(isinstance(item, pa.RecordBatch) for item in values):
            # A stream that happens to be in memory.
            return None
        _check_texts(values)
        return _Column("list", None, value)
    library = type(value).__module__.partition(".")[0]
    if library == "polars" and type(value).__name__ == "Series":
        return _Column("Series of Polars", value.name or None, value)
    if library == "numpy" and getattr(value, "ndim", 0) == 1:
        return _Column("array", None, value)
    return _pandas_column(value)


def _pandas_column(value: Any) -> _Column | None:
    # Where nobody has imported pandas, nothing can be a Series of it.
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, pandas.Series | pandas.Index):
        return None
    return _Column(type(value).__name__, None if value.name is None else str(value.name), value)


def _check_texts(values: Sequence[object]) -> None:
    odd = {type(value).__name__ for value in values if value is not None and not isinstance(value, str)}
    if "dict" in odd:
        raise InputError("a list of dicts is no table yet; make it one with pandas.DataFrame(…)")
    if odd:
        raise InputError(
            f"the list holds {', '.join(sorted(odd))} beside text; give it texts, or make it a table"
        )
