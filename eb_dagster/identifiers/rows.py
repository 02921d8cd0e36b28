"""What each row of a pandas or Arrow table offers. Each distinct text is read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from eb_dagster.errors import InputError
from eb_dagster.identifiers.canonical import first_of_each_key, plain_forms
from eb_dagster.identifiers.cells import BLANK_CELL, read_cell
from eb_dagster.identifiers.characters import WRAPPING
from eb_dagster.identifiers.columns import Layout, check_columns
from eb_dagster.identifiers.contract import check_text
from eb_dagster.identifiers.model import FIELD_TYPES, Candidates, FieldType, Identifier
from eb_dagster.identifiers.names import row_person
from eb_dagster.identifiers.phone import check_region
from eb_dagster.identifiers.texts import (
    NUMBERS,
    ArrowColumn,
    Texts,
    arrow_texts,
    holds_text,
    how_to_read_numbers,
    kind_of_values,
    pandas_texts,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BLANK: Final = Candidates((), ("blank",))


def read_rows(frame: pd.DataFrame, layout: Layout, *, default_region: str | None) -> list[Candidates]:
    """Read what each row offers, in the order of asking.

    Raises:
        ConfigError: `default_region` is no country.
        InputError: an identifier column is missing, there twice, or holds values that are not text.

    """
    blocks = read_blocks(frame, layout, default_region=default_region, rows=max(len(frame), 1))
    return [row for block in blocks for row in block]


def read_blocks(
    frame: pd.DataFrame, layout: Layout, *, default_region: str | None, rows: int
) -> Iterator[list[Candidates]]:
    """What `read_rows` does, so many rows at a time.

    All rows are checked before the first block. Otherwise a value that is no text would stop a run that
    has bought what is before it.
    """
    region = None if default_region is None else check_region(default_region)
    check_columns([*frame.columns], layout.names)
    check_text(frame, layout.names)
    for start in range(0, len(frame), rows):
        block = frame.iloc[start : start + rows]
        yield _read_columns([pandas_texts(block[name]) for name in layout.names], layout, region)


def read_batch(batch: pa.RecordBatch, layout: Layout, *, default_region: str | None) -> list[Candidates]:
    """Read what each row of an Arrow table offers: what `read_rows` does, without pandas.

    Raises:
        ConfigError: `default_region` is no country.
        InputError: an identifier column is missing, there twice, or holds values that are not text.

    """
    region = None if default_region is None else check_region(default_region)
    check_columns(batch.schema.names, layout.names)
    columns: dict[str, ArrowColumn] = {name: batch.column(name) for name in layout.names}
    _check_text(columns)
    return _read_columns([arrow_texts(column) for column in columns.values()], layout, region)


def _read_columns(columns: Sequence[Sequence[Texts]], layout: Layout, region: str | None) -> list[Candidates]:
    if layout.shape == "long":
        kinds, cells = columns
        return _read_long(kinds, cells, region)
    rows_by_column = [
        _read_column(kind, cells, region) for (kind, _), cells in zip(layout.columns, columns, strict=True)
    ]
    if len(rows_by_column) == 1:
        return rows_by_column[0]
    return [_merged(cells) for cells in zip(*rows_by_column, strict=True)]


def _check_text(columns: Mapping[str, ArrowColumn]) -> None:
    kinds = {
        name: kind_of_values(column.type)
        for name, column in columns.items()
        if column.null_count < len(column) and not holds_text(column.type)
    }
    if not kinds:
        return
    faults = [
        f"{name}: {len(columns[name]) - columns[name].null_count:,} of {len(columns[name]):,} values are {kind}, not text"
        for name, kind in kinds.items()
    ]
    numbers = [name for name, kind in kinds.items() if kind == NUMBERS]
    cure = how_to_read_numbers(numbers) or "cast the column to text, or to lists of text"
    raise InputError(f"{'; '.join(faults)}; {cure}")


def _read_texts(field_type: FieldType, texts: list[str], region: str | None) -> dict[str, Candidates]:
    read: dict[str, Candidates] = {}
    for text, value in zip(texts, plain_forms(field_type, texts), strict=True):
        if value is None:
            read[text] = _read_text(field_type, text, region)
        else:
            read[text] = Candidates((Identifier(field_type, value),), ())
    return read


def _read_column(field_type: FieldType, cells: Sequence[Texts], region: str | None) -> list[Candidates]:
    # Equal cells share what was read.
    distinct = set(cells)
    lists = [cell for cell in distinct if isinstance(cell, tuple)]
    texts = list({cell for cell in distinct if isinstance(cell, str)}.union(*lists))
    known: dict[Texts, Candidates] = {None: _BLANK, **_read_texts(field_type, texts, region)}
    for cell in lists:
        known[cell] = _merged([known[text] for text in cell])
    return [known[cell] for cell in cells]


def _read_text(field_type: FieldType, text: str | None, region: str | None) -> Candidates:
    cell = read_cell(field_type, text, default_region=region)
    return _BLANK if cell is BLANK_CELL else Candidates(*cell)


def _read_long(kinds: Sequence[Texts], cells: Sequence[Texts], region: str | None) -> list[Candidates]:
    pairs = list(zip(kinds, cells, strict=True))
    known = {(kind, cell): _read_pair(kind, cell, region) for kind, cell in set(pairs)}
    return [known[pair] for pair in pairs]


def _read_pair(kind: Texts, cell: Texts, region: str | None) -> Candidates:
    if isinstance(cell, tuple):
        return _merged([_read_pair(kind, text, region) for text in cell or (None,)])
    # A list of kinds is no kind.
    name = kind.strip(WRAPPING).lower() if isinstance(kind, str) else ""
    for field_type in FIELD_TYPES:
        if name == field_type:
            return _read_text(field_type, cell, region)
    return _BLANK if not name and _is_blank(cell) else Candidates((), ("field_type",))


def _is_blank(cell: str | None) -> bool:
    return not (cell or "").strip(WRAPPING)


def _merged(cells: Sequence[Candidates]) -> Candidates:
    """What several cells of one row offer together."""
    useful = [cell for cell in cells if cell is not _BLANK]
    if not useful:
        return _BLANK
    if len(useful) == 1:
        return useful[0]
    identifiers = first_of_each_key(identifier for cell in useful for identifier in cell.identifiers)
    reasons = dict.fromkeys(reason for cell in useful for reason in cell.reasons)
    return Candidates(identifiers, tuple(reasons))


# ---- people -------------------------------------------------------------------------------------


def check_person_columns(available: Sequence[str], person: Mapping[str, str]) -> None:
    """Raise `InputError` if a column that is to hold names is not there, or there twice."""
    check_columns(available, tuple(person.values()))


def with_persons(rows: Sequence[Candidates], columns: Mapping[str, Sequence[str | None]]) -> list[Candidates]:
    """The same rows, each with the person whom `name`, `first_name`, `last_name` and `company` name."""
    no_names: Sequence[str | None] = [None] * len(rows)
    parts = [columns.get(part, no_names) for part in ("name", "first_name", "last_name", "company")]
    persons = [
        row_person(name=name, first=first, last=last, company=company)
        for name, first, last, company in zip(*parts, strict=True)
    ]
    return [
        row if person is None else Candidates(row.identifiers, row.reasons, person)
        for row, person in zip(rows, persons, strict=True)
    ]
