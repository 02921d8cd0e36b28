"""Rows that end by what the ledger knows of them, all of a look-up at once.

`plan.Agenda` comes to the same for one row after the other. Here it is done in arrays, with an entry for
each row, offer or identifier: of a table that was bought before, nearly all rows are such.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from eb_dagster.findings import STANDINGS, KnownKeys
from eb_dagster.identifiers import FIELD_TYPES, Candidates, FieldType, Identifier
from eb_dagster.packed import Indices

Status = Literal["matched", "not_found", "invalid", "suppressed", "not_asked", "in_doubt", "unreadable"]

# What an identifier comes to for its row. The lowest counts: who is suppressed is never bought, who is known
# costs nothing, and who is in doubt may have been paid for. One that is open has to be asked.
_SUPPRESSED, _MATCHED, _IN_DOUBT, _UNREADABLE, _OPEN, _NOT_FOUND, _INVALID = range(7)
_STATUSES: Final[tuple[Status | None, ...]] = (
    "suppressed", "matched", "in_doubt", "unreadable", None, "not_found", "invalid",
)  # fmt: skip
_OF_STANDING: Final = {
    "matched": _MATCHED, "missed": _NOT_FOUND, "in_flight": _OPEN, "in_doubt": _IN_DOUBT,
    "unreadable": _UNREADABLE,
}  # fmt: skip
_NOBODY: Final = -1


class Offers:
    """What rows offer. What several rows offer alike is kept once, and so is each identifier."""

    def __init__(
        self, rows: Sequence[Candidates], keys_of: Callable[[Sequence[Identifier]], Sequence[bytes]]
    ) -> None:
        # Equal cells were read as one object.
        objects = np.fromiter(map(id, rows), dtype=np.uintp, count=len(rows))
        _, first, self.of_row = np.unique(objects, return_index=True, return_inverse=True)
        self.distinct: Final = [rows[at] for at in cast("list[int]", first.tolist())]
        offered = [one for offer in self.distinct for one in offer.identifiers]
        keys = keys_of(offered)
        by_key = dict(zip(keys, offered, strict=True))
        place = dict(zip(by_key, range(len(by_key)), strict=True))
        self.keys: Final = list(by_key)
        self.identifiers: Final = list(by_key.values())
        """Distinct, each at the place of its key."""
        self.places: Final[Indices] = np.array([place[key] for key in keys], dtype=np.intp)
        """Of the identifiers of each distinct offer, one offer after the other."""
        self.counts: Final[Indices] = np.array(
            [len(offer.identifiers) for offer in self.distinct], dtype=np.intp
        )
        self.starts: Final[Indices] = np.cumsum(self.counts) - self.counts

    def places_of(self, offers: Indices) -> list[int]:
        """The places of the identifiers of these offers."""
        counts = self.counts[offers]
        before = np.cumsum(counts) - counts
        inside = np.arange(int(counts.sum())) + np.repeat(self.starts[offers] - before, counts)
        return cast("list[int]", self.places[inside].tolist())


class Answers(NamedTuple):
    """Where the answers to rows stand, an entry for each of the rows `at`."""

    at: Indices
    request_id: Indices
    position: Indices
    """In that request's reply; -1 for who was not found."""
    answered_at: npt.NDArray[np.float64]
    """Seconds since the epoch."""
    is_from_ledger: npt.NDArray[np.bool_]
    """Not of this run, or found inside another's contact."""


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """How rows end by what the ledger knows, an entry for each; some may stay open. `settle` makes it."""

    offers: Offers
    known: KnownKeys
    run: str
    comes_to: npt.NDArray[np.int8]
    """By identifier."""
    ends: npt.NDArray[np.int8]
    """By offer, what it comes to."""
    by: Indices
    """By offer, the place of the identifier by which it does."""
    of_row: Indices
    """By row, its offer."""

    def part(self, start: int, rows: int) -> Settled:
        """Of so many of the rows."""
        return replace(self, of_row=self.of_row[start : start + rows])

    @property
    def open_at(self) -> list[int]:
        """Which rows have to be asked."""
        return np.flatnonzero(self.ends[self.of_row] == _OPEN).tolist()

    @property
    def open_keys(self) -> dict[Identifier, bytes]:
        """The keys of what those offer."""
        is_open = self.ends[self.of_row] == _OPEN
        places = self.offers.places_of(np.unique(self.of_row[is_open]))
        return {self.offers.identifiers[place]: self.offers.keys[place] for place in places}

    @property
    def keys(self) -> list[bytes]:
        """The keys of what the other rows offer, as often as they do."""
        is_open = self.ends[self.of_row] == _OPEN
        return [self.offers.keys[place] for place in self.offers.places_of(self.of_row[~is_open])]

    @property
    def statuses(self) -> list[Status | None]:
        """How each row ends; None where it is open."""
        return [_STATUSES[one] for one in cast("list[int]", self.ends[self.of_row].tolist())]

    @property
    def identifiers(self) -> list[Identifier | None]:
        """By which identifier each row ends."""
        who, places = self.offers.identifiers, cast("list[int]", self.by[self.of_row].tolist())
        return [None if place == _NOBODY else who[place] for place in places]

    @property
    def answers(self) -> Answers:
        """Where the answers stand to the rows that are found or not found."""
        known, at = self.known, np.flatnonzero(self._is_answered)
        place = self.by[self.of_row[at]]
        number = known.number[place]
        is_of_run = np.array([one == self.run for one in known.runs], dtype=np.bool_)
        return Answers(
            at, known.request_ids[number], known.position[place], known.answered_at[number],
            ~is_of_run[number] | known.is_alias[place],
        )  # fmt: skip

    @property
    def missed_kinds(self) -> list[FieldType]:
        """Of rows of several identifiers that are found or not found, the other kinds that missed: once a row."""
        offers = self.offers
        several = self.of_row[self._is_answered & (offers.counts[self.of_row] > 1)]
        if not len(several):
            return []
        kinds = np.array([FIELD_TYPES.index(one.field_type) for one in offers.identifiers], dtype=np.intp)
        places = np.array(offers.places_of(several), dtype=np.intp)
        row = np.repeat(np.arange(len(several)), offers.counts[several])
        is_other = (self.comes_to[places] == _NOT_FOUND) & (kinds[places] != kinds[self.by[several]][row])
        once = np.unique(row[is_other] * len(FIELD_TYPES) + kinds[places][is_other])
        return [FIELD_TYPES[kind] for kind in cast("list[int]", (once % len(FIELD_TYPES)).tolist())]

    @property
    def _is_answered(self) -> npt.NDArray[np.bool_]:
        ends = self.ends[self.of_row]
        return (ends == _MATCHED) | (ends == _NOT_FOUND)


def settle(
    offers: Offers, known: KnownKeys, *, run: str, suppressed: Collection[Identifier], doubt_ends: bool
) -> Settled:
    """Decide how each row ends by what is known of its identifiers."""
    ranks = np.array([*(_OF_STANDING[one] for one in STANDINGS), _OPEN], dtype=np.int8)
    if not doubt_ends:
        ranks[ranks == _IN_DOUBT] = _OPEN
    # The last one stands for an identifier of which nothing is known: -1.
    comes_to = ranks[known.standing]
    comes_to[known.is_stale] = _OPEN
    if suppressed:
        comes_to[[one in suppressed for one in offers.identifiers]] = _SUPPRESSED
    return Settled(offers, known, run, comes_to, *_decided(offers, comes_to), offers.of_row)


def _decided(offers: Offers, comes_to: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], Indices]:
    """What each offer comes to, and the place of the identifier by which it does."""
    ends = np.full(len(offers.counts), _INVALID, dtype=np.int8)
    by = np.full(len(offers.counts), _NOBODY, dtype=np.intp)
    if not len(offers.places):
        return ends, by
    rank, most = comes_to[offers.places].astype(np.intp), int(offers.counts.max())
    turn = np.arange(len(rank)) - np.repeat(offers.starts, offers.counts)
    # Of several that come to the same, the first; but of those that missed, the last that was asked.
    turn = np.where(rank == _NOT_FOUND, most - 1 - turn, turn)
    is_usable = offers.counts > 0
    starts = offers.starts[is_usable]
    lowest, turn = np.divmod(np.minimum.reduceat(rank * most + turn, starts), most)
    turn = np.where(lowest == _NOT_FOUND, most - 1 - turn, turn)
    # Of whoever is suppressed, it is not told by which identifier.
    ends[is_usable] = lowest
    by[is_usable] = np.where(lowest == _SUPPRESSED, _NOBODY, offers.places[starts + turn])
    return ends, by
