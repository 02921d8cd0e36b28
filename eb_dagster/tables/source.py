"""One way to read every table: its schema, its rows if known, its batches, and whether it can be read twice.

Arrow data, streams, CSV and Parquet files are a plain `Source`. Dataframes of pandas and Polars have one of
their own, because they hold columns that Arrow has no type for: of these, only the columns that are asked
are read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import pyarrow as pa

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import Layout, find_layout, listed
from eb_dagster.identifiers.contract import check_text
from eb_dagster.identifiers.model import FieldType
from eb_dagster.identifiers.offers import Offers
from eb_dagster.identifiers.rows import check_person_columns, read_batch, read_blocks, with_persons
from eb_dagster.identifiers.texts import texts_of
from eb_dagster.tables.dictionaries import without_null_entries

if TYPE_CHECKING:
    import pandas as pd

BATCH_ROWS: Final = 8_192


@dataclass(frozen=True, slots=True)
class InputColumns:
    """Which columns of a table are read, and how. They are found once, and handed on."""

    layout: Layout
    person: Mapping[str, str]
    """By part of a name, the column that holds it: compared here, and never sent."""
    default_region: str | None

    @staticmethod
    def find(
        names: Sequence[str],
        *,
        identifiers: Mapping[FieldType, str | Sequence[str]] | None,
        person: Mapping[str, str] | None,
        default_region: str | None,
    ) -> InputColumns:
        """Find them among the names of a table's columns.

        Raises:
            InputError: a column is not there or there twice, or none is known to hold identifiers.

        """
        layout = find_layout(names, identifiers)
        check_person_columns(names, person or {})
        return InputColumns(layout, person or {}, default_region)

    @property
    def names(self) -> list[str]:
        """The names of the columns, each once."""
        return list(dict.fromkeys([*self.layout.names, *self.person.values()]))

    def each(self) -> Iterator[InputColumns]:
        """Each column of a wide table alone."""
        for column in self.layout.columns:
            yield replace(self, layout=Layout("wide", (column,)))

    def read(self, batch: pa.RecordBatch) -> Offers:
        """What each row of a batch offers."""
        rows = read_batch(batch, self.layout, default_region=self.default_region)
        return self._with_persons(rows, batch.column)

    def read_pandas(self, frame: pd.DataFrame, *, rows: int) -> Iterator[Offers]:
        """What each row of a dataframe offers, so many rows at a time."""
        start = 0
        for block in read_blocks(frame, self.layout, default_region=self.default_region, rows=rows):
            piece = frame.iloc[start : start + len(block)]
            start += len(block)
            yield self._with_persons(block, piece.__getitem__)

    def _with_persons(self, rows: Offers, column: Callable[[str], object]) -> Offers:
        if not self.person:
            return rows
        return with_persons(rows, {part: texts_of(column(name)) for part, name in self.person.items()})


class Source:
    """A table: its schema, its rows if they are known, and what gives its batches from the first on.

    A kind of its own overrides `_find_schema` and `batches` in place of giving `schema` and `read`.
    """

    def __init__(
        self,
        schema: pa.Schema | None,
        rows: int | None,
        read: Callable[[], Iterator[pa.RecordBatch]] = lambda: iter(()),
        *,
        is_rereadable: bool = True,
    ) -> None:
        self._schema: pa.Schema | None = schema
        self._read = read
        self.rows = rows
        self.notes: Sequence[str] = ()
        """What was detected in it, and may be otherwise, in words."""
        self.is_rereadable = is_rereadable
        """Whether it gives the same rows once more, at no more cost than memory or a file: no query, no stream."""

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return self.schema.names

    @property
    def schema(self) -> pa.Schema:
        """The schema of its batches. Raises `InputError` if Arrow has no type for a column."""
        if self._schema is None:
            self._schema = self._find_schema()
        return self._schema

    def _find_schema(self) -> pa.Schema:
        return self.read_all().schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of its rows; if it is not rereadable, only once. Raises as `schema` does."""
        return self._read()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches()

    def offers(self, columns: InputColumns, *, rows: int) -> Iterator[Offers]:
        """What its rows offer, up to so many rows at a time; if it is not rereadable, only once."""
        return map(columns.read, sliced(self.batches(), rows))

    def check(self, columns: InputColumns) -> None:
        """Raise `InputError` if it is known without reading that a cell is not text."""

    def read_all(self) -> pa.Table:
        """The whole table."""
        return pa.Table.from_batches(self.batches(), schema=self.schema)

    def held(self) -> Source:
        """The same table in memory if it could not be read twice."""
        return self if self.is_rereadable else table_source(self.read_all())


class PandasSource(Source):
    """A pandas dataframe. Names of columns are texts here; an index is a column if it has a name."""

    def __init__(self, frame: pd.DataFrame) -> None:
        super().__init__(None, len(frame))
        self.frame = frame
        # An index without a name is a row number; one with a name is data.
        self._keep_index = any(name is not None for name in frame.index.names)

    @property
    def names(self) -> list[str]:
        """The names of its columns, as texts."""
        return [str(name) for name in self.frame.columns]

    def offers(self, columns: InputColumns, *, rows: int) -> Iterator[Offers]:
        """What its rows offer, by the cells as they are: a column of Python objects need not have an Arrow type."""
        return columns.read_pandas(self._with_text_names(columns.names), rows=rows)

    def check(self, columns: InputColumns) -> None:
        """Raise `InputError` if a cell of the columns that are asked is not text."""
        # An index with a name may be asked too, and is no column of the frame.
        names = [name for name in columns.layout.names if name in self.names]
        check_text(self._with_text_names(names), names)

    def _find_schema(self) -> pa.Schema:
        frame = self._with_text_names()
        repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
        if repeated:
            raise InputError(
                f"the dataframe has columns of the same name: [{listed(repeated)}]; rename or drop one"
            )
        try:
            return pa.Schema.from_pandas(frame, preserve_index=self._keep_index).remove_metadata()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            # Its text quotes a value.
            mixed = [str(name) for name in frame.columns if not _has_one_type(frame[name])]
            raise InputError(
                f"columns {f'[{listed(mixed)}]' if mixed else 'of the index'} hold values of several types, or of one that "
                "no table has, such as complex numbers; make them text, or leave them out"
            ) from None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, converted piece by piece."""
        frame, schema = self._with_text_names(), self.schema
        for start in range(0, len(frame), BATCH_ROWS):
            piece = frame.iloc[start : start + BATCH_ROWS]
            # As a table: what pandas has put together of several frames may be in several pieces.
            table = pa.Table.from_pandas(piece, schema=schema, preserve_index=self._keep_index)
            columns = [
                pa.chunked_array([*map(without_null_entries, column.chunks)], column.type)
                for column in table.columns
            ]
            yield from pa.Table.from_arrays(columns, schema=table.schema).combine_chunks().to_batches()

    def _with_text_names(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """A view of the frame whose columns have texts as names; only the wanted ones."""
        import pandas as pd

        view = self.frame.copy(deep=False)
        view.columns = pd.Index(self.names)
        return view if wanted is None else view.loc[:, view.columns.isin([*wanted])]


class PolarsSource(Source):
    """A Polars dataframe; a lazy one is collected each time that it is read."""

    def __init__(self, frame: Any) -> None:
        is_lazy = hasattr(frame, "collect")
        super().__init__(None, None if is_lazy else frame.height, is_rereadable=not is_lazy)
        self._frame = frame

    @property
    def names(self) -> list[str]:
        """The names of its columns. Nothing is collected for them."""
        return self._frame.collect_schema().names()

    def offers(self, columns: InputColumns, *, rows: int) -> Iterator[Offers]:
        """What its rows offer. No other column is converted, so that each may be of any type."""
        asked = PolarsSource(self._frame.select(columns.names))
        return map(columns.read, sliced(asked.batches(), rows))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of its rows. Raises as `read_all` does."""
        return iter(self.read_all().to_batches())

    def read_all(self) -> pa.Table:
        """The whole table. Raises `InputError` if Arrow has no type for a column."""
        frame = self._collected()
        if odd := [name for name in frame.columns if not _has_arrow_type(frame.select(name).clear())]:
            # What stands in brackets may be values, as of an Enum.
            kinds = ", ".join(sorted({str(frame.schema[name]).partition("(")[0] for name in odd}))
            raise InputError(
                f"Arrow and Parquet have no type for columns {listed(odd)} ({kinds}); leave them out, or cast "
                "them to text"
            )
        # What Arrow's own protocol hands over holds string views, which few readers of Parquet know.
        return frame.to_arrow()

    def held(self) -> PolarsSource:
        """The same table, collected."""
        return self if self.is_rereadable else PolarsSource(self._collected())

    def with_columns(self, columns: pa.Table) -> Any:
        """The frame with these columns beside its own, of which none is converted."""
        return self._collected().hstack(import_module("polars").from_arrow(columns))

    def _collected(self) -> Any:
        return self._frame if self.is_rereadable else self._frame.collect()


def table_source(table: pa.Table) -> Source:
    """An Arrow table."""
    return Source(table.schema, table.num_rows, lambda: iter(table.to_batches(BATCH_ROWS)))


def batches_source(batches: Iterable[object]) -> Source:
    """Record batches one after the other, which can be read once. Raises `InputError` if they are none."""
    stream = iter(batches)
    first = next(stream, None)
    if not isinstance(first, pa.RecordBatch):
        raise InputError(
            "enrich_batches was given no pyarrow RecordBatch; give it at least one, or a pyarrow Table"
        )
    whole = chain([first], cast("Iterator[pa.RecordBatch]", stream))
    return Source(first.schema, None, lambda: whole, is_rereadable=False)


def source_of(value: Any) -> Source | None:
    """What reads a dataframe of pandas or Polars, an Arrow table, or whatever else has `__arrow_c_stream__`.

    None if it is no such table. Raises `InputError` if it is one column and no table.
    """
    if isinstance(value, Source):
        return value
    if _is_pandas(value):
        return PandasSource(value)
    if _is_polars(value):
        return PolarsSource(value)
    # Not through the protocol, which keeps no type that nobody registered.
    if isinstance(value, pa.Table):
        return table_source(value)
    if isinstance(value, pa.RecordBatch):
        return table_source(pa.Table.from_batches([value]))
    return _streamed(value) if hasattr(value, "__arrow_c_stream__") else None


def _streamed(value: Any) -> Source:
    if isinstance(value, pa.RecordBatchReader):
        # Not through the protocol either, which makes an error of ours one of Arrow's.
        reader = value
    else:
        try:
            reader = pa.RecordBatchReader.from_stream(value)
        except (pa.ArrowException, TypeError, ValueError):
            # Its text may quote a value.
            raise InputError(
                f"this {type(value).__name__} is no table with named columns; make it a dataframe"
            ) from None
    batches = _telling(reader)
    return Source(reader.schema, getattr(value, "num_rows", None), lambda: batches, is_rereadable=False)


def _telling(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except pa.ArrowException as error:
        # Its text may quote a value.
        raise InputError(
            f"the stream of rows failed while it was read ({type(error).__name__}); look at what makes it, such as its query"
        ) from None


def sliced(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of so many at most."""
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def joined(left: pa.RecordBatch, right: pa.RecordBatch, *, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of two record batches side by side. `schema` is that of both."""
    return pa.RecordBatch.from_arrays([*left.columns, *right.columns], schema=schema)


def joined_schema(left: pa.Schema, right: pa.Schema) -> pa.Schema:
    """The fields of both schemas."""
    return pa.schema([*left, *right])


def _is_pandas(value: object) -> TypeGuard[pd.DataFrame]:
    # Where nobody has imported pandas, nothing can be a dataframe of it.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def _is_polars(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "polars" and hasattr(value, "collect_schema")


def _has_arrow_type(empty: Any) -> bool:
    # Of a column of Python objects, Polars would hand over their addresses in memory.
    if "Object" in str(empty.dtypes[0]):
        return False
    try:
        empty.to_arrow()
    except (pa.ArrowException, TypeError):
        return False
    return True


def _has_one_type(column: object) -> bool:
    try:
        pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True
