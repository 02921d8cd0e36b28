"""How the rows of a block ended, in arrays. `output` makes columns of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from eb_dagster.contacts.flatten import Flattened
from eb_dagster.identifiers.offers import Numbers, Offers
from eb_dagster.pipeline.rows import Booleans, Codes


@dataclass(frozen=True, slots=True, eq=False)
class EndedRows:
    """How the rows of a block ended. The arrays have an entry for each row."""

    offers: Offers
    status: Codes
    """Index in `STATUSES`."""
    kind: Codes
    """Of the identifier that decided: its index in `FIELD_TYPES`; -1 where none did."""
    trait: Codes
    query: list[str | None] = field(repr=False)
    """The identifier that decided. Nothing tells by which identifier somebody is suppressed."""
    request_id: Numbers
    """The request that was answered; 0 without an answer."""
    position: Numbers
    """The contact's position in that reply; -1 without one."""
    source: Numbers
    """Which of `sources` has the contact; -1 if it has to be read back."""
    contact: Numbers
    answered_at: npt.NDArray[np.float64]
    """Seconds since the epoch; NaN without an answer."""
    is_from_ledger: Booleans
    sources: dict[int, Flattened] = field(repr=False)
    missed_row: Numbers
    missed_kind: Codes
    """Each kind that missed before another kind decided, with the row."""
