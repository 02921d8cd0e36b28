"""What each row of a pandas or Arrow table offers. Each distinct text is read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from eb_dagster.errors import InputError
from eb_dagster.identifiers.arrays import Mask, concatenated, flags_in, taken, text_array
from eb_dagster.identifiers.canonical import first_of_each_key, key_form, plain_forms
from eb_dagster.identifiers.cells import BLANK_CELL, read_cell
from eb_dagster.identifiers.characters import WRAPPING
from eb_dagster.identifiers.columns import Layout, check_columns, listed
from eb_dagster.identifiers.contract import check_text
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, Candidates, FieldType, Identifier
from eb_dagster.identifiers.names import row_person
from eb_dagster.identifiers.offers import (
    BLANK,
    BLANK_CANDIDATES,
    KIND_CODES,
    NO_REASON,
    Numbers,
    Offers,
    Reasons,
    joined,
    ranges,
)
from eb_dagster.identifiers.phone import check_region
from eb_dagster.identifiers.texts import (
    NUMBERS,
    ArrowColumn,
    Cells,
    Texts,
    arrow_cells,
    holds_text,
    how_to_read_numbers,
    kind_of_values,
    pandas_cells,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BLANK: Final = BLANK_CANDIDATES


def read_rows(frame: pd.DataFrame, layout: Layout, *, default_region: str | None) -> Offers:
    """Read what each row offers, in the order of asking.

    Raises:
        ConfigError: `default_region` is no country.
        InputError: an identifier column is missing, there twice, or holds values that are not text.

    """
    return joined([*read_blocks(frame, layout, default_region=default_region, rows=max(len(frame), 1))])


def read_blocks(
    frame: pd.DataFrame, layout: Layout, *, default_region: str | None, rows: int
) -> Iterator[Offers]:
    """What `read_rows` does, so many rows at a time.

    All rows are checked before the first block. Otherwise a value that is no text would stop a run that
    has bought what is before it.
    """
    region = None if default_region is None else check_region(default_region)
    check_columns([*frame.columns], layout.names)
    check_text(frame, layout.names)
    for start in range(0, len(frame), rows):
        block = frame.iloc[start : start + rows]
        yield _read_columns([pandas_cells(block[name]) for name in layout.names], layout, region)


def read_batch(batch: pa.RecordBatch, layout: Layout, *, default_region: str | None) -> Offers:
    """Read what each row of an Arrow table offers: what `read_rows` does, without pandas.

    Raises:
        ConfigError: `default_region` is no country.
        InputError: an identifier column is missing, there twice, or holds values that are not text.

    """
    region = None if default_region is None else check_region(default_region)
    check_columns(batch.schema.names, layout.names)
    columns: dict[str, ArrowColumn] = {name: batch.column(name) for name in layout.names}
    _check_text(columns)
    return _read_columns([arrow_cells(column) for column in columns.values()], layout, region)


def _read_columns(columns: Sequence[Cells], layout: Layout, region: str | None) -> Offers:
    reader = _Reader(region)
    if layout.shape == "long":
        kinds, cells = columns
        return reader.offers([reader.read_long(kinds, cells)])
    return reader.offers(
        [reader.read_column(kind, cells) for (kind, _), cells in zip(layout.columns, columns, strict=True)]
    )


def _check_text(columns: Mapping[str, ArrowColumn]) -> None:
    kinds = {
        name: kind_of_values(column.type)
        for name, column in columns.items()
        if column.null_count < len(column) and not holds_text(column.type)
    }
    if not kinds:
        return
    faults = [
        f"{listed([name])}: {len(columns[name]) - columns[name].null_count:,} of {len(columns[name]):,} values are {kind}, not text"
        for name, kind in kinds.items()
    ]
    numbers = [name for name, kind in kinds.items() if kind == NUMBERS]
    cure = how_to_read_numbers(numbers) or "cast the column to text, or to lists of text"
    raise InputError(f"{'; '.join(faults)}; {cure}")


class _Read(NamedTuple):
    """What each cell of one column offers: how many identifiers, which, and reasons against the rest."""

    counts: Numbers
    identifiers: Numbers
    """Indices of values, cell after cell."""
    reasons: Numbers

    def of(self, codes: Numbers) -> _Read:
        """Those of the cells with these codes."""
        counts = self.counts[codes]
        if counts.all() and (self.counts[:-1] == 1).all():
            return _Read(counts, self.identifiers[codes], self.reasons[codes])
        starts = np.cumsum(self.counts) - self.counts
        return _Read(counts, self.identifiers[ranges(starts[codes], counts)], self.reasons[codes])


class _Reader:
    """Reads the columns of one block of rows. Equal cells are read once."""

    def __init__(self, region: str | None) -> None:
        self._region = region
        self._values: list[pa.Array] = []
        self._kinds: list[npt.NDArray[np.int8]] = []
        self._reasons = Reasons()

    def _add(self, values: pa.Array, kinds: npt.NDArray[np.int8]) -> Numbers:
        """Add values that cells offer. Returns their indices."""
        first = sum(map(len, self._kinds))
        self._values.append(values)
        self._kinds.append(kinds)
        return np.arange(first, first + len(kinds))

    def read_column(self, field_type: FieldType, cells: Cells) -> _Read:
        """What each cell of a column of one kind offers."""
        if cells.has_lists:
            plain = dict(zip(cells.texts, plain_forms(field_type, cells.texts), strict=True))
            read = [self._read_cell(field_type, cell, plain) for cell in cells.distinct]
            return self._read_each(read).of(cells.codes)
        forms = _plain_column(field_type, cells)
        is_plain = flags_in(forms.is_valid())
        kinds = np.full(np.count_nonzero(is_plain), KIND_CODES[field_type], dtype=np.int8)
        plain_values = self._add(forms.drop_null(), kinds)
        others: list[int] = np.flatnonzero(~is_plain).tolist()
        texts = cells.texts if others else []
        read = self._read_each([_read_text(field_type, texts[index], self._region) for index in others])
        return self._read_beside(plain_values, np.append(~is_plain, True), read).of(cells.codes)

    def _read_beside(self, plain_values: Numbers, is_other: Mask, others: _Read) -> _Read:
        """Cells that offer one of the values each, in their order, and between them others."""
        counts = np.ones(len(is_other), dtype=np.int64)
        counts[is_other] = others.counts
        reasons = np.full(len(is_other), NO_REASON)
        reasons[is_other] = others.reasons
        starts = np.cumsum(counts) - counts
        identifiers = np.empty(int(counts.sum()), dtype=np.int64)
        identifiers[starts[~is_other]] = plain_values
        identifiers[ranges(starts[is_other], others.counts)] = others.identifiers
        return _Read(counts, identifiers, reasons)

    def _read_cell(self, field_type: FieldType, cell: Texts, plain: Mapping[str, str | None]) -> Candidates:
        if isinstance(cell, tuple):
            return _merged([self._read_cell(field_type, text, plain) for text in cell])
        value = None if cell is None else plain.get(cell)
        if value is None:
            return _read_text(field_type, cell, self._region)
        return Candidates((Identifier(field_type, value),), ())

    def _read_each(self, cells: Sequence[Candidates]) -> _Read:
        """These cells, and at the end a blank one."""
        offered = [identifier for cell in cells for identifier in cell.identifiers]
        identifiers = self._add(
            text_array([identifier.value for identifier in offered]),
            np.array([KIND_CODES[identifier.field_type] for identifier in offered], dtype=np.int8),
        )
        return _Read(
            np.array([*(len(cell.identifiers) for cell in cells), 0], dtype=np.int64),
            identifiers,
            np.array([*(self._reasons.code(cell.reasons) for cell in cells), BLANK], dtype=np.int64),
        )

    def read_long(self, kinds: Cells, cells: Cells) -> _Read:
        """What each row of a table in long form offers."""
        pairs, codes = np.unique(kinds.codes * (len(cells) + 1) + cells.codes, return_inverse=True)
        kind_codes, cell_codes = np.divmod(pairs, len(cells) + 1)
        pair_codes: list[tuple[int, int]] = [*zip(kind_codes.tolist(), cell_codes.tolist(), strict=True)]
        kind_texts: list[Texts] = [*kinds.distinct, None]
        cell_texts: list[Texts] = [*cells.distinct, None]
        read = [_read_pair(kind_texts[kind], cell_texts[cell], self._region) for kind, cell in pair_codes]
        return self._read_each(read).of(codes)

    def offers(self, columns: Sequence[_Read]) -> Offers:
        """What the rows offer, by the cells of their columns."""
        read = columns[0] if len(columns) == 1 else self._beside(columns)
        return Offers(
            concatenated(self._values),
            np.concatenate(self._kinds),
            identifiers=read.identifiers,
            counts=read.counts,
            reasons=read.reasons,
            reason_lists=self._reasons.listed,
        )

    def _beside(self, columns: Sequence[_Read]) -> _Read:
        counts = np.sum([column.counts for column in columns], axis=0)
        starts = np.cumsum(counts) - counts
        identifiers = np.empty(int(counts.sum()), dtype=np.int64)
        reasons = columns[0].reasons
        for index, column in enumerate(columns):
            identifiers[ranges(starts, column.counts)] = column.identifiers
            starts = starts + column.counts
            if index:
                reasons = self._join_reasons(reasons, column.reasons)
        return self._without_repeats(_Read(counts, identifiers, reasons))

    def _join_reasons(self, first: Numbers, second: Numbers) -> Numbers:
        """For each row, the reasons of both. What is blank says nothing beside anything else."""
        most = len(self._reasons.listed)
        pairs, codes = np.unique(first * most + second, return_inverse=True)
        return np.array([self._join_pair(*divmod(pair, most)) for pair in pairs.tolist()], dtype=np.int64)[
            codes
        ]

    def _join_pair(self, first: int, second: int) -> int:
        if BLANK in (first, second):
            return second if first == BLANK else first
        listed = self._reasons.listed
        return self._reasons.code(tuple(dict.fromkeys((*listed[first], *listed[second]))))

    def _without_repeats(self, read: _Read) -> _Read:
        """The same without what a row offers a second time, in whichever spelling."""
        row = np.repeat(np.arange(len(read.counts)), read.counts)
        kind = np.concatenate(self._kinds)[read.identifiers]
        of_kind = row * len(FIELD_TYPES) + kind
        may_repeat = np.flatnonzero(np.bincount(of_kind, minlength=1)[of_kind] > 1)
        if not len(may_repeat):
            return read
        forms: dict[tuple[int, str], int] = {}
        kinds: list[int] = kind[may_repeat].tolist()
        values: list[str] = taken(concatenated(self._values), read.identifiers[may_repeat]).to_pylist()
        form = [
            forms.setdefault((code, key_form(FIELD_TYPES[code], value)), len(forms))
            for code, value in zip(kinds, values, strict=True)
        ]
        _, first = np.unique(row[may_repeat] * len(forms) + np.array(form), return_index=True)
        is_kept = np.ones(len(row), dtype=np.bool_)
        is_kept[may_repeat] = False
        is_kept[may_repeat[first]] = True
        counts = np.bincount(row[is_kept], minlength=len(read.counts))
        return _Read(counts, read.identifiers[is_kept], read.reasons)


def _plain_column(field_type: FieldType, cells: Cells) -> pa.Array:
    """The canonical values of cells that are plainly identifiers; null for the others."""
    try:
        column = cells.column()
    except UnicodeEncodeError:
        return text_array([None] * len(cells))
    return KINDS[field_type].plain_column(column)


def _read_text(field_type: FieldType, text: str | None, region: str | None) -> Candidates:
    value = None if text is None else KINDS[field_type].plain_form(text)
    if value is not None:
        return Candidates((Identifier(field_type, value),), ())
    cell = read_cell(field_type, text, default_region=region)
    return _BLANK if cell is BLANK_CELL else Candidates(*cell)


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


def with_persons(rows: Offers, columns: Mapping[str, Sequence[str | None]]) -> Offers:
    """The same rows, each with the person whom `name`, `first_name`, `last_name` and `company` name."""
    no_names: Sequence[str | None] = [None] * len(rows)
    parts = [columns.get(part, no_names) for part in ("name", "first_name", "last_name", "company")]
    return rows.with_persons(
        [
            row_person(name=name, first=first, last=last, company=company)
            for name, first, last, company in zip(*parts, strict=True)
        ]
    )
