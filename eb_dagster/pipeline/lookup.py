"""What the ledger knew of keys, in arrays that rows are decided by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.known_keys import STANDINGS, UNKNOWN, KnownKeys
from eb_dagster.pipeline.rows import Booleans, Codes, State

_STATE_OF_STANDING: Final = {
    "matched": State.MATCHED,
    "missed": State.MISSED,
    "in_flight": State.ELSEWHERE,
    "in_doubt": State.IN_DOUBT,
    "unreadable": State.UNREADABLE,
    "decided": State.IN_DOUBT,
}
# The last entry stands for a standing of -1: nothing is known.
_STATES: Final = np.array(
    [*(_STATE_OF_STANDING[standing] for standing in STANDINGS), State.OPEN], dtype=np.int8
)


@dataclass(frozen=True, eq=False)
class Lookup:
    """What the ledger knew of some keys, up to its `newest` request. Arrays have an entry for each key."""

    known: KnownKeys
    newest: int
    is_suppressed: Booleans
    """Those that must never be sent or handed out."""
    run: str
    """The run that looks them up."""
    doubt_ends: bool = True
    """What is in doubt ends its row; otherwise it is asked again, unless this `run` left it in doubt."""
    list_version: int = 0
    """The version of the suppression list by which these are suppressed."""

    @cached_property
    def states(self) -> Codes:
        """The `State` of each key."""
        known = self.known
        states = _STATES[known.standing]
        # An old contact is asked again.
        states[known.is_stale] = State.OPEN
        if not self.doubt_ends:
            in_doubt = np.flatnonzero(known.standing == STANDINGS.index("in_doubt"))
            states[in_doubt[~self.is_of_run[in_doubt]]] = State.OPEN
        states[self.is_suppressed] = State.SUPPRESSED
        return states

    @cached_property
    def is_of_run(self) -> Booleans:
        """Whether this run made the request that tells of the key."""
        is_own = np.array([*(other == self.run for other in self.known.runs), False], dtype=np.bool_)
        return is_own[self.known.request_index]

    @cached_property
    def request_ids(self) -> Indices:
        """The request that tells of the key; 0 if none does."""
        return np.append(self.known.request_ids, 0)[self.known.request_index]

    @cached_property
    def answered_at(self) -> npt.NDArray[np.float64]:
        """When that was answered, in seconds since the epoch; NaN without an answer."""
        return np.append(self.known.answered_at, np.nan)[self.known.request_index]

    @property
    def is_known(self) -> Booleans:
        """Of which keys anything is known."""
        return self.known.standing != UNKNOWN
