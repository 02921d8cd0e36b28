"""What is known of keys: the result of a look-up, in arrays with one entry for each key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.arrays import distinct
from eb_dagster.ledger.entries import AnyKeys, Indices

Standing = Literal["matched", "missed", "in_flight", "in_doubt", "unreadable", "decided"]
STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)
"""Decided: it was in doubt or unreadable, and a person said that it is not to be asked again."""
UNKNOWN: Final = -1
MATCHED: Final = STANDINGS.index("matched")
_UNANSWERED: Final = ("in_flight", "in_doubt", "decided")


class RequestFacts(NamedTuple):
    """What is kept of a request that says something about a key."""

    id: int
    run: str
    answered_at: float | None


class Known(msgspec.Struct, gc=False):
    """What the ledger knows of an identifier. Matched: which contact of which reply."""

    standing: Standing
    request_id: int
    run: str
    answered_at: float | None
    position: int = -1
    is_alias: bool = False
    is_stale: bool = False
    has_vanity: bool = False
    """Whether the contact has a LinkedIn profile under a name that its owner chose."""
    contacts: Flattened | None = None
    """Once the reply is taken apart: its contacts."""
    row: int = -1
    """The index of the contact among these."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The times (seconds since the epoch) from which on contacts and misses still count."""

    contacts_since: float | None = None
    misses_since: float | None = None
    aged_up_to: int | None = None
    """The newest request that can be too old. What a run learns counts for that run, whatever its clock says."""


AT_ANY_AGE: Final = Freshness()


class KnownKeys(Mapping[bytes, Known]):
    """What is known of each key. The arrays have one entry a key; as a mapping, it makes objects when asked."""

    def __init__(
        self,
        keys: AnyKeys,
        requests: Sequence[RequestFacts],
        *,
        standing: npt.NDArray[np.int8],
        request_index: npt.NDArray[np.int32],
        position: npt.NDArray[np.int32],
        is_alias: npt.NDArray[np.bool_],
        is_stale: npt.NDArray[np.bool_],
        is_of_two: npt.NDArray[np.bool_],
        has_vanity: npt.NDArray[np.bool_],
    ) -> None:
        self._keys = keys
        self._requests = requests
        self.standing: Final = standing
        """Index into `STANDINGS`; -1 for a key of which nothing is known."""
        self.request_index: Final = request_index
        """Index of the request that says so, into `request_ids`, `runs` and `answered_at`."""
        self.position: Final = position
        """Position of the contact in the reply to that request; -1 if there is no contact."""
        self.is_alias: Final = is_alias
        self.is_stale: Final = is_stale
        self.is_of_two: Final = is_of_two
        """Whether the key stands inside contacts of two people."""
        self.has_vanity: Final = has_vanity
        """Whether the contact that answers has a LinkedIn profile under a name that its owner chose."""
        self.request_ids: Final[Indices] = np.array([request.id for request in requests], dtype=np.int64)
        self.runs: Final = [request.run for request in requests]
        self.answered_at: Final = np.array([request.answered_at for request in requests], dtype=np.float64)
        """Seconds since the epoch; NaN where there is no answer."""
        answering = self.request_ids[distinct(np.sort(request_index[standing == MATCHED]))]
        self.answering: Final[list[int]] = answering.tolist()
        """The ids of the requests whose contacts answer, the oldest first."""

    def forget(self, indices: Indices) -> None:
        """Know nothing of these keys. To be called before the mapping is used."""
        for numbers in (self.standing, self.request_index, self.position):
            numbers[indices] = UNKNOWN
        for flags in (self.is_alias, self.is_stale, self.has_vanity):
            flags[indices] = False

    @cached_property
    def _index_of(self) -> dict[bytes, int]:
        known = np.flatnonzero(self.standing != UNKNOWN).tolist()
        if isinstance(self._keys, np.ndarray):
            return dict(zip(self._keys[known].tolist(), known, strict=True))
        return {self._keys[index]: index for index in known}

    def __len__(self) -> int:
        return int(np.count_nonzero(self.standing != UNKNOWN))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._index_of)

    def __contains__(self, key: object) -> bool:
        return key in self._index_of

    def __getitem__(self, key: bytes) -> Known:
        return self._make([self._index_of[key]])[0]

    def news(self, *, run: str, resend: bool) -> dict[bytes, Known]:
        """What is known by now of keys that this run is about to ask. With `resend`, doubt is no reason not to."""
        return {
            key: answer
            for key, answer in self.items()
            if not answer.is_stale and not (resend and answer.standing == "in_doubt" and answer.run != run)
        }

    def of(self, keys: Iterable[bytes]) -> list[Known | None]:
        """What is known of each of these keys, three times as fast as one by one."""
        indices = [self._index_of.get(key) for key in keys]
        made = iter(self._make([index for index in indices if index is not None]))
        return [None if index is None else next(made) for index in indices]

    def _make(self, indices: Sequence[int]) -> list[Known]:
        chosen = np.array(indices, dtype=np.intp)
        standings: list[int] = self.standing[chosen].tolist()
        requests: list[int] = self.request_index[chosen].tolist()
        positions: list[int] = self.position[chosen].tolist()
        is_alias: list[bool] = self.is_alias[chosen].tolist()
        is_stale: list[bool] = self.is_stale[chosen].tolist()
        has_vanity: list[bool] = self.has_vanity[chosen].tolist()
        made: list[Known] = []
        for index, request_index in enumerate(requests):
            standing, request = STANDINGS[standings[index]], self._requests[request_index]
            known = Known(
                standing=standing,
                request_id=request.id,
                run=request.run,
                answered_at=None if standing in _UNANSWERED else request.answered_at,
                position=positions[index],
                is_alias=is_alias[index],
                is_stale=is_stale[index],
                has_vanity=has_vanity[index],
            )
            made.append(known)
        return made
