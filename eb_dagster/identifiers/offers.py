"""What rows offer, in arrays: for each row its identifiers in the order of asking, and why the rest is of no use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.arrays import Array, concatenated, text_array
from eb_dagster.identifiers.model import FIELD_TYPES, Candidates, FieldType, Identifier
from eb_dagster.identifiers.names import RowPerson

Numbers: TypeAlias = npt.NDArray[np.signedinteger[Any]]

KIND_CODES: Final[dict[FieldType, int]] = {kind: code for code, kind in enumerate(FIELD_TYPES)}
"""A kind as a number: its index in `FIELD_TYPES`."""
NO_REASON: Final = 0
BLANK: Final = 1
BLANK_CANDIDATES: Final = Candidates((), ("blank",))


class Reasons:
    """Lists of reasons, each with a number, so that a row needs no list of its own."""

    def __init__(self) -> None:
        self.listed: Final[list[tuple[str, ...]]] = [(), ("blank",)]
        self._codes: dict[tuple[str, ...], int] = {(): NO_REASON, ("blank",): BLANK}

    def code(self, reasons: tuple[str, ...]) -> int:
        """The number of a list of reasons."""
        code = self._codes.setdefault(reasons, len(self.listed))
        if code == len(self.listed):
            self.listed.append(reasons)
        return code


class Offers(Sequence[Candidates]):
    """What each of some rows offers. As a sequence it makes a `Candidates` of a row when it is asked for."""

    def __init__(
        self,
        values: Array,
        kinds: npt.NDArray[np.int8],
        *,
        identifiers: Numbers,
        counts: Numbers,
        reasons: Numbers,
        reason_lists: Sequence[tuple[str, ...]],
        persons: Sequence[RowPerson | None] | None = None,
    ) -> None:
        self.values: Final = values
        """The canonical values that rows offer, as a column of text. Some may be equal."""
        self.kinds: Final = kinds
        """The kind of each value, as its index in `FIELD_TYPES`."""
        self.identifiers: Final = identifiers
        """The index of a value for everything that is offered, row after row, in the order of asking."""
        self.counts: Final = counts
        """How many of `identifiers` belong to each row."""
        self.reasons: Final = reasons
        """For each row, an index into `reason_lists`."""
        self.reason_lists: Final = reason_lists
        self.persons: Final = persons
        """Who each row is about; None if no columns with names are given."""

    @cached_property
    def starts(self) -> Numbers:
        """Where those of each row begin in `identifiers`."""
        return np.cumsum(self.counts) - self.counts

    def __len__(self) -> int:
        return len(self.counts)

    @overload
    def __getitem__(self, index: int) -> Candidates: ...
    @overload
    def __getitem__(self, index: slice) -> Offers: ...
    def __getitem__(self, index: int | slice) -> Candidates | Offers:
        if isinstance(index, slice):
            return self._part(index)
        start = int(self.starts[index])
        indices: list[int] = self.identifiers[start : start + int(self.counts[index])].tolist()
        identifiers = [
            Identifier(FIELD_TYPES[int(self.kinds[number])], self.values[number].as_py())
            for number in indices
        ]
        person = None if self.persons is None else self.persons[index]
        return Candidates(tuple(identifiers), self.reason_lists[int(self.reasons[index])], person)

    def __iter__(self) -> Iterator[Candidates]:
        for index in range(len(self)):
            yield self[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return False
        rows: list[object] = [*cast("Sequence[object]", other)]
        return list(self) == rows

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Offers(rows={len(self)})"

    def _part(self, index: slice) -> Offers:
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise ValueError("only rows that stand together")
        stop = max(start, stop)
        ends = np.append(self.starts, len(self.identifiers))
        return Offers(
            self.values,
            self.kinds,
            identifiers=self.identifiers[ends[start] : ends[stop]],
            counts=self.counts[start:stop],
            reasons=self.reasons[start:stop],
            reason_lists=self.reason_lists,
            persons=None if self.persons is None else self.persons[start:stop],
        )

    def with_persons(self, persons: Sequence[RowPerson | None]) -> Offers:
        """The same rows, each about a person."""
        return Offers(
            self.values,
            self.kinds,
            identifiers=self.identifiers,
            counts=self.counts,
            reasons=self.reasons,
            reason_lists=self.reason_lists,
            persons=persons,
        )

    def count_invalid(self) -> dict[str, int]:
        """The rows without a usable identifier, by the first reason."""
        counted: dict[str, int] = {}
        for reasons, count in self._count_reasons(self.reasons[self.counts == 0]):
            reason = reasons[0] if reasons else "blank"
            counted[reason] = counted.get(reason, 0) + count
        return counted

    def count_unusable(self) -> dict[str, int]:
        """Everything in any row that cannot be used, by reason."""
        counted: dict[str, int] = {}
        for reasons, count in self._count_reasons(self.reasons):
            for reason in reasons:
                if reason != "blank":
                    counted[reason] = counted.get(reason, 0) + count
        return counted

    def _count_reasons(self, codes: Numbers) -> Iterator[tuple[tuple[str, ...], int]]:
        counts = np.bincount(codes, minlength=1)
        used: list[int] = np.flatnonzero(counts).tolist()
        for code in used:
            yield self.reason_lists[code], int(counts[code])


def offers_of(rows: Iterable[Candidates]) -> Offers:
    """What these rows offer, as arrays."""
    values: list[str] = []
    kinds: list[int] = []
    counts: list[int] = []
    codes: list[int] = []
    persons: list[RowPerson | None] = []
    reasons = Reasons()
    for row in rows:
        values += [identifier.value for identifier in row.identifiers]
        kinds += [KIND_CODES[identifier.field_type] for identifier in row.identifiers]
        counts.append(len(row.identifiers))
        codes.append(reasons.code(row.reasons))
        persons.append(row.person)
    return Offers(
        text_array(values),
        np.array(kinds, dtype=np.int8),
        identifiers=np.arange(len(values)),
        counts=np.array(counts, dtype=np.int64),
        reasons=np.array(codes, dtype=np.int64),
        reason_lists=reasons.listed,
        persons=persons if any(person is not None for person in persons) else None,
    )


def joined(several: Sequence[Offers]) -> Offers:
    """The rows of all, one after the other."""
    if len(several) == 1:
        return several[0]
    if not several:
        return offers_of([])
    reasons = Reasons()
    codes = [
        np.array([reasons.code(listed) for listed in offers.reason_lists], dtype=np.int64)[offers.reasons]
        for offers in several
    ]
    firsts = np.cumsum([0, *(len(offers.values) for offers in several)])
    return Offers(
        concatenated([offers.values for offers in several]),
        np.concatenate([offers.kinds for offers in several]),
        identifiers=np.concatenate(
            [first + offers.identifiers for first, offers in zip(firsts[:-1], several, strict=True)]
        ),
        counts=np.concatenate([offers.counts for offers in several]),
        reasons=np.concatenate(codes),
        reason_lists=reasons.listed,
        persons=_joined_persons(several),
    )


def _joined_persons(several: Sequence[Offers]) -> list[RowPerson | None] | None:
    if all(offers.persons is None for offers in several):
        return None
    return [person for offers in several for person in (offers.persons or [None] * len(offers))]


def ranges(starts: Numbers, counts: Numbers) -> Numbers:
    """The numbers from each start on, as many as its count says, one range after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
