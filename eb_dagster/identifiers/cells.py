"""What one cell offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from eb_dagster.identifiers.canonical import MAX_CELL_LENGTH, canonical, first_of_each_key, is_identifier
from eb_dagster.identifiers.grammar import MAX_PARTS, HalfOfAValue
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FieldType, Identifier

Cell: TypeAlias = tuple[tuple[Identifier, ...], tuple[str, ...]]
"""The identifiers of a cell, and the reasons against the rest of it."""
BLANK_CELL: Final[Cell] = ((), ())


def read_cell(field_type: FieldType, cell: str | None, *, default_region: str | None) -> Cell:
    """Read every identifier in a cell, in its order, and the reasons against the rest.

    Both are empty if the cell is blank.
    """
    if not cell or cell.isspace():
        return BLANK_CELL
    kind = KINDS[field_type]
    if len(cell) > MAX_CELL_LENGTH:
        return (), (f"{kind.slug}_too_long",)

    def is_of_kind(text: str) -> bool:
        return is_identifier(field_type, text, default_region=default_region)

    try:
        parts = [*dict.fromkeys(kind.split_cell(cell, is_of_kind))]
    except HalfOfAValue:
        return (), (f"{kind.slug}_syntax",)
    if len(parts) > MAX_PARTS:
        return (), (f"{kind.slug}_too_long",)
    return _read_parts(field_type, parts, default_region)


def _read_parts(field_type: FieldType, parts: Sequence[str], default_region: str | None) -> Cell:
    identifiers: list[Identifier] = []
    reasons: dict[str, None] = {}
    for part in parts:
        found = canonical(field_type, part, default_region=default_region)
        if isinstance(found, Identifier):
            identifiers.append(found)
        elif found != "blank":
            reasons[found] = None
    if not identifiers and not reasons:
        return BLANK_CELL
    return first_of_each_key(identifiers), tuple(reasons)
