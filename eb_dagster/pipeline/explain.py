"""Which cells of a table are not used or not asked, and why. No value is in what it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from eb_dagster.identifiers.kinds import is_role
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.pipeline.eligibility import ROLE_MAILBOX, SHARED
from eb_dagster.pipeline.plan import reason_in_words

EXPLAINED = pa.schema([
    pa.field("row", pa.int64(), nullable=False),
    pa.field("column", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
])  # fmt: skip
"""Rows are counted from 1, as a person counts them."""

Cells = Sequence[tuple[str, Sequence[Candidates]]]
"""By column, what each row's cell offers."""


def explained(
    blocks: Iterable[Cells], *, shared_among: Callable[[Sequence[Candidates]], Callable[[Identifier], bool]]
) -> pa.Table:
    """The table of `EXPLAINED` for these blocks of rows.

    `shared_among` gives, for what the rows of a block offer, which identifiers several people share.
    """
    found: list[tuple[int, str, str]] = []
    first = 1
    for cells in blocks:
        rows = [_row(offers) for offers in zip(*(offers for _, offers in cells), strict=True)]
        is_shared = shared_among(rows)
        for column, offers in cells:
            found += [
                (first + at, column, reason_in_words(reason))
                for at, (offer, row) in enumerate(zip(offers, rows, strict=True))
                for reason in _reasons(offer, row, is_shared)
            ]
        first += len(rows)
    found.sort(key=lambda one: one[0])
    rows_of = [{"row": row, "column": column, "reason": reason} for row, column, reason in found]
    return pa.Table.from_pylist(rows_of, schema=EXPLAINED)


def _row(offers: Sequence[Candidates]) -> Candidates:
    return Candidates(tuple(dict.fromkeys(one for offer in offers for one in offer.identifiers)), ())


def _reasons(offer: Candidates, row: Candidates, is_shared: Callable[[Identifier], bool]) -> Iterator[str]:
    yield from (reason for reason in offer.reasons if reason != "blank")
    if any(map(is_shared, offer.identifiers)):
        yield SHARED
    roles = [one for one in row.identifiers if is_role(one)]
    unasked = roles if len(roles) < len(row.identifiers) else roles[1:]
    if any(one in unasked for one in offer.identifiers):
        yield ROLE_MAILBOX
