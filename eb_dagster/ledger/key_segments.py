"""Segments of the key index: sorted entries of keys in rows, and the headers that say what is in them.

Pure: this file knows bytes and no database. An entry is what a key begins with (8 bytes) and a tag (4 bytes): the
request in which the key stands, and whether it was asked there or is an alias. It says where to look, and no more;
all 16 bytes of a key are compared in the request itself.

Keys are hashes, so they are spread evenly: the row of a segment in which a key would stand follows from the key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.arrays import distinct
from eb_dagster.ledger.entries import ALIAS, AnyKeys, Indices, checksum, checksum_with, pack_keys

Chain = Literal["requests", "late"]
"""Of requests by their ids; or of what came after the segment of its request, by number."""
State = Literal["whole", "growing", "dropped"]
"""Growing: it is made from others, and not whole yet. Dropped: one that was merged from it stands in its place."""

ENTRIES_A_ROW: Final = 5_000
ROW_BITS: Final = 24
"""How many bits of a row's id count the rows of one segment."""

Prefixes: TypeAlias = npt.NDArray[np.uint64]
Tags: TypeAlias = npt.NDArray[np.uint32]

_ENTRY: Final = np.dtype([("prefix", "<u8"), ("tag", "<u4")])
_LAST_BITS: Final = 2**32 - 1
_HALF: Final = np.uint64(32)
NO_PREFIXES: Final[Prefixes] = np.empty(0, dtype=np.uint64)
NO_TAGS: Final[Tags] = np.empty(0, dtype=np.uint32)


class IndexDamage(Exception):
    """The key index is not as it was written, so requests are to be searched without it."""


class Segment(NamedTuple):
    """The header of a segment."""

    id: int
    chain: Chain
    first: int
    """The first request, or number of a late entry, whose keys are in it."""
    last: int
    level: int
    """How often it was merged."""
    entries: int
    """How many entries it was made with."""
    rows: int
    state: State
    filled: int
    """How many of the rows, from the first, are there."""
    mark: int
    """At random, so that the rows of another segment never pass as its own."""

    @property
    def base(self) -> int:
        """The id of its first row."""
        return self.id << ROW_BITS

    def checksum(self) -> int:
        """Over all of the header."""
        return checksum(" ".join(map(str, self)).encode())

    def row_ids(self, prefixes: Prefixes) -> Indices:
        """The ids of the rows in which these would stand."""
        return self.base + row_numbers(prefixes, self.rows)

    def row_checksum(self, row_id: int, blob: bytes) -> int:
        """Over one of its rows."""
        return checksum_with((row_id ^ self.mark) & _LAST_BITS, blob)


class Entries(NamedTuple):
    """Entries of the index, by rising prefix unless it is said otherwise."""

    prefixes: Prefixes
    tags: Tags

    def of_requests(self, *, are_aliases: bool) -> Indices:
        """The requests in which the keys stand: asked, or as aliases."""
        tags = self.tags[(self.tags & 1).astype(np.bool_) == are_aliases]
        return distinct(np.sort(tags) >> np.uint32(1)).astype(np.int64)


class RequestKeys(NamedTuple):
    """The packed keys of one request."""

    asked_keys: bytes
    aliases: bytes | None


def rows_for(entries: int) -> int:
    """How many rows a segment of so many entries has."""
    return -(-entries // ENTRIES_A_ROW)


def row_numbers(prefixes: Prefixes, rows: int) -> Indices:
    """The rows in which these would stand, in a segment of so many rows. A larger prefix is in no earlier row."""
    return (((prefixes >> _HALF) * np.uint64(rows)) >> _HALF).astype(np.int64)


def first_prefix(number: int, rows: int) -> int:
    """The smallest prefix that stands in this row of so many."""
    return -(-(number << 32) // rows) << 32


def prefixes_of(keys: AnyKeys | bytes) -> Prefixes:
    """What each of the keys begins with, in their order."""
    return np.ascontiguousarray(pack_keys(keys)).view("<u8")[::2]


def _alias_prefixes(blob: bytes | None) -> Prefixes:
    return prefixes_of(np.frombuffer(blob or b"", dtype=ALIAS)["key"])


def entries_of(request_id: int, keys: RequestKeys) -> Entries:
    """The entries of a request, each of them once."""
    asked = distinct(np.sort(prefixes_of(keys.asked_keys)))
    aliases = distinct(np.sort(_alias_prefixes(keys.aliases)))
    prefixes = np.concatenate([asked, aliases])
    tags = np.full(len(prefixes), request_id << 1, dtype=np.uint32)
    tags[len(asked) :] |= np.uint32(1)
    # Zero stands for the key of somebody who was forgotten.
    is_key = prefixes != 0
    return sort(Entries(prefixes[is_key], tags[is_key]))


def sort(entries: Entries) -> Entries:
    """The entries by rising prefix."""
    order = np.argsort(entries.prefixes, kind="stable")
    return Entries(entries.prefixes[order], entries.tags[order])


def join(several: Sequence[Entries]) -> Entries:
    """All of these entries, one after the other."""
    if not several:
        return Entries(NO_PREFIXES, NO_TAGS)
    return Entries(
        np.concatenate([entries.prefixes for entries in several]),
        np.concatenate([entries.tags for entries in several]),
    )


def without(entries: Entries, others: Entries) -> Entries:
    """The entries that are not among the others."""
    if not len(others.prefixes):
        return entries
    is_kept = np.ones(len(entries.prefixes), dtype=np.bool_)
    for tag in distinct(np.sort(others.tags)):
        is_tagged = entries.tags == tag
        is_kept &= ~(is_tagged & np.isin(entries.prefixes, others.prefixes[others.tags == tag]))
    return Entries(entries.prefixes[is_kept], entries.tags[is_kept])


def pack_row(entries: Entries) -> bytes:
    """The entries of one row as bytes."""
    array = np.empty(len(entries.prefixes), dtype=_ENTRY)
    array["prefix"], array["tag"] = entries
    return array.tobytes()


def unpack_rows(*blobs: bytes) -> Entries:
    """The entries of some rows, one after the other. Raises `IndexDamage` if one is torn."""
    if any(len(blob) % _ENTRY.itemsize for blob in blobs):
        raise IndexDamage
    array = np.frombuffer(b"".join(blobs), dtype=_ENTRY)
    # Tags are read of few entries only, so they stay where they are.
    return Entries(np.ascontiguousarray(array["prefix"]), array["tag"])


def split(entries: Entries, segment: Segment, *, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """The rows of a segment from `start` up to `stop`, by id, made of the sorted entries that stand in them."""
    numbers = row_numbers(entries.prefixes, segment.rows)
    bounds = np.searchsorted(numbers, np.arange(start, stop + 1))
    for number, (begin, end) in enumerate(itertools.pairwise(bounds), start):
        yield segment.base + number, pack_row(Entries(entries.prefixes[begin:end], entries.tags[begin:end]))


def find_tags(entries: Entries, wanted: Prefixes) -> Tags:
    """The tags of sorted entries that begin as one of `wanted`, which are sorted, and each of them once."""
    if not len(entries.prefixes) or not len(wanted):
        return NO_TAGS
    first, last = np.searchsorted(wanted, entries.prefixes[[0, -1]])
    some = wanted[first : last + 1]
    if not len(some):
        return NO_TAGS
    if len(some) < len(entries.prefixes):
        begins = np.searchsorted(entries.prefixes, some)
        is_there = begins < len(entries.prefixes)
        is_there[is_there] = entries.prefixes[begins[is_there]] == some[is_there]
        if not is_there.any():
            return NO_TAGS
        begins = begins[is_there]
        counts = np.searchsorted(entries.prefixes, some[is_there], side="right") - begins
        # From each beginning on, as many as there are: 7, 7 + 1, 7 + 2, 12, …
        places_before = np.cumsum(counts) - counts
        return entries.tags[np.repeat(begins - places_before, counts) + np.arange(counts.sum())]
    places = np.minimum(np.searchsorted(some, entries.prefixes), len(some) - 1)
    return entries.tags[some[places] == entries.prefixes]


def covered(segments: Iterable[Segment], chain: Chain) -> int:
    """Up to where the whole segments of a chain reach without a gap. Raises `IndexDamage` if they do not fit."""
    reached = 0
    for segment in sorted((each for each in segments if _is_link(each, chain)), key=lambda each: each.first):
        if segment.first != reached + 1 or segment.last < segment.first or segment.filled != segment.rows:
            raise IndexDamage
        reached = segment.last
    return reached


def _is_link(segment: Segment, chain: Chain) -> bool:
    return segment.chain == chain and segment.state == "whole"


def to_merge(segments: Iterable[Segment], chain: Chain, *, fan: int) -> list[Segment]:
    """The first `fan` neighbours of one level, if there are so many; else none."""
    links = sorted((each for each in segments if _is_link(each, chain)), key=lambda each: each.first)
    for start in range(len(links) - fan + 1):
        some = links[start : start + fan]
        if len({segment.level for segment in some}) == 1:
            return some
    return []
