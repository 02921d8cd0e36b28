"""Rows that end by what a look-up in the ledger told of them, all at once.

By that alone, `plan.Agenda` would end them likewise, one after the other. Here it is done in arrays with an
entry for each row, offer or identifier: of a table that was bought before, nearly all rows are such.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.kinds import trait_of
from eb_dagster.identifiers.model import Candidates, FieldType, Identifier, Trait
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.lookup import STANDINGS, KnownKeys

Status = Literal["matched", "not_found", "invalid", "suppressed", "not_asked", "in_doubt", "unreadable"]

# What an identifier comes to for its row. The lowest counts: who is suppressed is never bought, who is known
# costs nothing, and who is in doubt may have been paid for. One that is open has to be asked.
_SUPPRESSED, _MATCHED, _IN_DOUBT, _UNREADABLE, _OPEN, _NOT_FOUND, _INVALID = range(7)
_STATUSES: Final[tuple[Status | None, ...]] = (
    "suppressed", "matched", "in_doubt", "unreadable", None, "not_found", "invalid",
)  # fmt: skip
_OF_STANDING: Final = {
    "matched": _MATCHED, "missed": _NOT_FOUND, "in_flight": _OPEN, "in_doubt": _IN_DOUBT,
    "unreadable": _UNREADABLE, "decided": _IN_DOUBT,
}  # fmt: skip
_NOBODY: Final = -1


class Offers:
    """What rows offer. What several rows offer alike is kept once, and so is each identifier."""

    def __init__(
        self, rows: Sequence[Candidates], keys_of: Callable[[Sequence[Identifier]], Sequence[bytes]]
    ) -> None:
        # Equal cells were read as one object.
        objects = np.fromiter(map(id, rows), dtype=np.uintp, count=len(rows))
        _, first, of_row = np.unique(objects, return_index=True, return_inverse=True)
        self.of_row = np.argsort(np.argsort(first))[of_row]
        # In the order of the rows: of several spellings of one key, the first stands for all.
        self.distinct = [rows[at] for at in cast("list[int]", np.sort(first).tolist())]
        """What rows offer, each once."""
        offered = [one for offer in self.distinct for one in offer.identifiers]
        keys = keys_of(offered)
        by_key = dict(zip(keys, offered, strict=True))
        if len(by_key) < len(keys):
            by_key.update(zip(reversed(keys), reversed(offered), strict=True))
        self.keys: Final = list(by_key)
        self.identifiers: Final = list(by_key.values())
        """Distinct, each at the place of its key."""
        self._place(_places(by_key, keys), [len(offer.identifiers) for offer in self.distinct])

    def _place(self, places: Indices, counts: Sequence[int]) -> None:
        self.places: Indices = places
        """Of the identifiers of each distinct offer, one offer after the other."""
        self.counts: Indices = np.array(counts, dtype=np.intp)
        self.starts: Indices = np.cumsum(self.counts) - self.counts

    def replace_each(
        self, change: Callable[[Candidates, Sequence[int]], tuple[Candidates, Sequence[int]]]
    ) -> None:
        """Put in the place of each distinct offer, with the places of its identifiers, another one with its."""
        places = cast("list[int]", self.places.tolist())
        ends = cast("list[int]", np.cumsum(self.counts).tolist())
        starts = cast("list[int]", self.starts.tolist())
        changed = [
            change(offer, places[start:end])
            for offer, start, end in zip(self.distinct, starts, ends, strict=True)
        ]
        self.distinct = [offer for offer, _ in changed]
        left = [place for _, kept in changed for place in kept]
        self._place(np.array(left, dtype=np.intp), [len(kept) for _, kept in changed])

    def rows(self) -> list[Candidates]:
        """What each row offers."""
        return [self.distinct[offer] for offer in cast("list[int]", self.of_row.tolist())]

    @cached_property
    def traits(self) -> npt.NDArray[np.int8]:
        """By distinct identifier, its `Trait`."""
        return np.fromiter(map(trait_of, self.identifiers), dtype=np.int8, count=len(self.identifiers))

    def are(self, *traits: Trait) -> npt.NDArray[np.bool_]:
        """By distinct identifier, whether it is one of these."""
        return np.isin(self.traits, traits)

    def places_of(self, offers: Indices) -> list[int]:
        """The places of the identifiers of these offers."""
        return cast("list[int]", self.places[self._inside(offers)].tolist())

    def spellings_of(self, offers: Indices) -> dict[Identifier, bytes]:
        """The keys of the identifiers of these offers, in every spelling that they have there."""
        inside = self._inside(offers)
        offered = [one for offer in self.distinct for one in offer.identifiers]
        spellings = [offered[at] for at in cast("list[int]", inside.tolist())]
        places = cast("list[int]", self.places[inside].tolist())
        return {one: self.keys[place] for one, place in zip(spellings, places, strict=True)}

    def _inside(self, offers: Indices) -> Indices:
        counts = self.counts[offers]
        before = np.cumsum(counts) - counts
        return np.arange(int(counts.sum())) + np.repeat(self.starts[offers] - before, counts)


def _places(distinct: Collection[bytes], keys: Sequence[bytes]) -> Indices:
    """Where each of the keys stands among the distinct ones, which are in the order of their first."""
    if len(distinct) == len(keys):
        return np.arange(len(keys))
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    return np.array([place[key] for key in keys], dtype=np.intp)


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
    is_of_run: npt.NDArray[np.bool_]
    """By request of `known`, whether this run made it."""
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
    def is_open(self) -> npt.NDArray[np.bool_]:
        """Which rows have to be asked."""
        return self.ends[self.of_row] == _OPEN

    def open_keys(self) -> dict[Identifier, bytes]:
        """The keys of what those offer."""
        return self.offers.spellings_of(np.unique(self.of_row[self.is_open]))

    def settled_keys(self) -> list[bytes]:
        """The keys of what the others offer, as often as they do."""
        return [self.offers.keys[place] for place in self.offers.places_of(self.of_row[~self.is_open])]

    def statuses(self) -> list[Status | None]:
        """How each row ends; None where it is open."""
        return [_STATUSES[one] for one in cast("list[int]", self.ends[self.of_row].tolist())]

    def identifiers(self) -> list[Identifier | None]:
        """By which identifier each row ends."""
        who, places = self.offers.identifiers, cast("list[int]", self.by[self.of_row].tolist())
        return [None if place == _NOBODY else who[place] for place in places]

    def answers(self) -> Answers:
        """Where the answers stand to the rows that are found or not found."""
        known, at = self.known, np.flatnonzero(self._is_answered)
        place = self.by[self.of_row[at]]
        number = known.number[place]
        return Answers(
            at, known.request_ids[number], known.position[place], known.answered_at[number],
            ~self.is_of_run[number] | known.is_alias[place],
        )  # fmt: skip

    def missed_kinds(self) -> set[tuple[int, FieldType]]:
        """Of rows of several identifiers that are found or not found: the row, and each other kind that missed."""
        offers = self.offers
        several = np.flatnonzero(self._is_answered & (offers.counts[self.of_row] > 1))
        mine, who = self.of_row[several], offers.identifiers
        places = np.array(offers.places_of(mine), dtype=np.intp)
        row = np.repeat(np.arange(len(mine)), offers.counts[mine])
        has_missed = self.comes_to[places] == _NOT_FOUND
        row, missed = row[has_missed], places[has_missed]
        rows, others, answering = (
            cast("list[int]", one.tolist()) for one in (several[row], missed, self.by[mine][row])
        )
        kinds: list[tuple[FieldType, FieldType]] = [
            (who[one].field_type, who[by].field_type) for one, by in zip(others, answering, strict=True)
        ]
        return {(at, kind) for at, (kind, by) in zip(rows, kinds, strict=True) if kind != by}

    @property
    def _is_answered(self) -> npt.NDArray[np.bool_]:
        ends = self.ends[self.of_row]
        return (ends == _MATCHED) | (ends == _NOT_FOUND)


def settle(
    offers: Offers, known: KnownKeys, *, run: str, suppressed: Collection[bytes], doubt_ends: bool
) -> Settled:
    """Decide how each row ends by what is known of its identifiers."""
    # The last one stands for an identifier of which nothing is known: -1.
    ranks = np.array([*(_OF_STANDING[one] for one in STANDINGS), _OPEN], dtype=np.int8)
    comes_to = ranks[known.standing]
    comes_to[known.is_stale] = _OPEN
    is_of_run = np.array([one == run for one in known.runs], dtype=np.bool_)
    if not doubt_ends:
        # But what this run left in doubt is not sent again by itself.
        doubts = np.flatnonzero(known.standing == STANDINGS.index("in_doubt"))
        comes_to[doubts[~is_of_run[known.number[doubts]]]] = _OPEN
    if suppressed:
        comes_to[[key in suppressed for key in offers.keys]] = _SUPPRESSED
    ends, by = _decided(offers, comes_to, known.has_vanity)
    return Settled(offers, known, is_of_run, comes_to, ends, by, offers.of_row)


def _decided(
    offers: Offers, comes_to: npt.NDArray[np.int8], has_vanity: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int8], Indices]:
    """What each offer comes to, and the place of the identifier by which it does."""
    ends = np.full(len(offers.counts), _INVALID, dtype=np.int8)
    by = np.full(len(offers.counts), _NOBODY, dtype=np.intp)
    if not len(offers.places):
        return ends, by
    rank, most = comes_to[offers.places].astype(np.intp), int(offers.counts.max())
    turn = np.arange(len(rank)) - np.repeat(offers.starts, offers.counts)
    is_usable = offers.counts > 0
    starts = offers.starts[is_usable]
    if most > 1:
        rank = _in_company(offers, rank, turn, starts, has_vanity)
    # Of several that come to the same, the first; but of those that missed, the last that was asked.
    turn = np.where(rank == _NOT_FOUND, most - 1 - turn, turn)
    lowest, turn = np.divmod(np.minimum.reduceat(rank * most + turn, starts), most)
    turn = np.where(lowest == _NOT_FOUND, most - 1 - turn, turn)
    # Of whoever is suppressed, it is not told by which identifier.
    ends[is_usable] = lowest
    by[is_usable] = np.where(lowest == _SUPPRESSED, _NOBODY, offers.places[starts + turn])
    return ends, by


def _in_company(
    offers: Offers, rank: Indices, turn: Indices, starts: Indices, has_vanity: npt.NDArray[np.bool_]
) -> Indices:
    """What each offered identifier comes to, beside the others of its row.

    The first that is no miss decides. Behind it, a weak one says nothing, and a strong one that is known
    answers only if its contact does not have another profile than the row.
    """
    counts = offers.counts[offers.counts > 0]
    first = np.minimum.reduceat(np.where(rank == _NOT_FOUND, len(rank), turn), starts)
    is_behind = turn > np.repeat(first, counts)
    is_vanity_profile = offers.are(Trait.VANITY)[offers.places]
    row_has_vanity = np.repeat(np.logical_or.reduceat(is_vanity_profile, starts), counts)
    is_email = offers.are(Trait.EMAIL, Trait.ROLE)[offers.places]
    contradicts = row_has_vanity & is_email & has_vanity[offers.places] & (rank == _MATCHED)
    is_mute = (
        is_behind & (rank != _SUPPRESSED) & (offers.are(Trait.ROLE, Trait.PHONE)[offers.places] | contradicts)
    )
    return np.where(is_mute, _INVALID, rank)
