"""Rows of one name and company: while one of them is being answered, the others are held back.

Few tables name persons, so these are objects. A row is known by its number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from eb_dagster.contacts.flatten import Flattened

MOST_TURNS: Final = 3
"""Rows of one name that are answered in turn. More rows of it are about people who share the name."""


@dataclass(slots=True)
class _Group:
    """Open rows of one name and company."""

    first: int | None = None
    """The row that is being answered."""
    held: list[int] = field(default_factory=list[int])
    turns: int = 0


class Namesakes:
    """Which rows wait for which, because their names and companies are the same."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._names: dict[int, str] = {}

    def add(self, row: int, hold: str) -> None:
        """Note a row that came in. `hold` is the same for all rows that may be about one person."""
        self._names[row] = hold

    def holds_back(self, row: int) -> bool:
        """Whether another row of this name is being answered, whose contact may be this row's too.

        A row that is held back owns no question, so rows cannot wait for each other in a circle.
        """
        hold = self._names.get(row)
        if hold is None:
            return False
        group = self._groups.setdefault(hold, _Group())
        if group.first is None and group.turns < MOST_TURNS:
            group.first = row
            group.turns += 1
        if group.first is None or group.first == row:
            return False
        group.held.append(row)
        return True

    def end(self, row: int) -> list[int]:
        """Note that a row has ended. Returns the rows that were held back for it."""
        hold = self._names.pop(row, None)
        group = None if hold is None else self._groups.get(hold)
        if hold is None or group is None or group.first != row:
            return []
        held, group.first, group.held = group.held, None, []
        if not held:
            del self._groups[hold]
        return held

    def clear(self) -> None:
        """Forget all rows."""
        self._groups.clear()
        self._names.clear()


@dataclass(frozen=True, slots=True, eq=False)
class NewAlias:
    """An identifier's key, and the contact that answers it: its place in the reply, and among contacts in memory."""

    key: bytes = field(repr=False)
    request_id: int
    position: int
    contacts: Flattened = field(repr=False)
    row: int
