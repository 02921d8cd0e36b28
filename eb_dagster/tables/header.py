"""Which line of a text table names its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eb_dagster.identifiers.canonical import is_identifier
from eb_dagster.identifiers.columns import suggest
from eb_dagster.identifiers.model import FIELD_TYPES

_MAX_LINES_ABOVE: Final = 40


def find_header(records: Sequence[Sequence[str]]) -> int:
    """The index of the record that names the columns.

    Blank lines, a title, notes and comments may stand above it.
    """
    filled = [_count_filled(record) for record in records]
    first = next((index for index, count in enumerate(filled) if count), 0)
    if not records or (filled[first] > 1 and _names_columns(records[first])):
        return first
    searched = range(first, min(first + _MAX_LINES_ABOVE, len(records)))
    wide = _first_wide(records, filled, searched)
    if wide != first and _names_columns(records[wide]):
        return wide
    naming = _header_below_notes(records, filled, searched)
    return wide if naming is None else naming


def _count_filled(record: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in record)


def _header_below_notes(
    records: Sequence[Sequence[str]], filled: Sequence[int], searched: range
) -> int | None:
    """The record that names identifiers below a blank line or narrower lines, with no person above it.

    Notes may have several cells, too.
    """
    first, naming = searched.start, _first_naming(records, searched)
    if naming is None or naming == first:
        return None
    is_below_blank_line = not filled[naming - 1]
    if is_below_blank_line or _fits_what_is_below(records, filled, first, naming):
        return naming
    return None


def _first_wide(records: Sequence[Sequence[str]], filled: Sequence[int], searched: range) -> int:
    """The first record with several cells that are no comment, if a table begins there; else the first."""
    first = searched.start
    wide = next((index for index in searched if filled[index] > 1 and not _is_comment(records[index])), first)
    is_wide = [count > 1 for count in filled[wide + 1 :] if count]
    is_table = sum(is_wide) * 2 > len(is_wide) or _names_columns(records[wide])
    has_people_above = any(map(_holds_identifier, records[first : wide + 1]))
    return wide if is_table and not has_people_above else first


def _first_naming(records: Sequence[Sequence[str]], searched: range) -> int | None:
    """The first record that names identifiers, if no identifier stands above it."""
    for index in searched:
        if _holds_identifier(records[index]):
            return None
        if _names_columns(records[index]):
            return index
    return None


def _fits_what_is_below(
    records: Sequence[Sequence[str]], filled: Sequence[int], first: int, index: int
) -> bool:
    """Whether the rows below a record are more like it than like what stands above."""
    if filled[index] == 1:
        # A title above a list.
        is_one_column = max(filled) == 1
        return is_one_column and index + 1 < len(records) and _holds_identifier(records[index + 1])
    lengths_below = {len(record) for record in records[index + 1 :]}
    has_length_below = len(records[index]) in lengths_below
    if has_length_below and not any(len(record) in lengths_below for record in records[first:index]):
        return True
    return max(filled[first:index]) < filled[index]


def _is_comment(record: Sequence[str]) -> bool:
    return record[0].lstrip().startswith("#") and not _names_columns(record)


def _names_columns(record: Sequence[str]) -> bool:
    return bool(suggest(record)) or {"field_type", "value"} <= set(record)


def _holds_identifier(record: Sequence[str]) -> bool:
    return any(is_identifier(kind, cell) for cell in record for kind in FIELD_TYPES)
