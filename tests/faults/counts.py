"""What a series of cases came to, as counts that can be added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass
class Counts:
    """Numbers, sets, counters and lists; a subclass declares them."""

    largest: ClassVar[frozenset[str]] = frozenset()
    """Fields of which the largest is kept. The others are added up."""

    def add(self, other: Self) -> None:
        for name, value in vars(other).items():
            so_far = getattr(self, name)
            if name in self.largest:
                setattr(self, name, max(so_far, value))
            elif isinstance(value, set):
                setattr(self, name, so_far | value)
            else:
                setattr(self, name, so_far + value)
