"""Which cells of a table are not used or not asked, and why. No value is in what it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from eb_dagster.identifiers.kinds import is_role
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.pipeline.eligibility import ROLE_MAILBOX, SHARED
from eb_dagster.pipeline.facts import reason_in_words

EXPLAINED = pa.schema([
    pa.field("row", pa.int64(), nullable=False),
    pa.field("column", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
])  # fmt: skip
"""Rows are counted from 1, as a person counts them."""

Cells = Sequence[tuple[str, Sequence[Candidates]]]
"""By column, what each row's cell offers."""

IsShared = Callable[[Identifier], bool]
"""Whether several people share an identifier."""


def explained(
    blocks: Iterable[Cells], *, shared_among: Callable[[Sequence[Candidates]], IsShared]
) -> pa.Table:
    """The table of `EXPLAINED` for these blocks of rows.

    `shared_among` tells, for what the rows of a block offer, which identifiers several people share.
    """
    lines: list[dict[str, int | str]] = []
    first_row = 1
    for cells in blocks:
        columns = [name for name, _ in cells]
        rows = list(zip(*(offers for _, offers in cells), strict=True))
        whole_rows = [_joined(offers) for offers in rows]
        is_shared = shared_among(whole_rows)
        for number, (offers, whole_row) in enumerate(zip(rows, whole_rows, strict=True), start=first_row):
            reasons = _reasons_by_column(zip(columns, offers, strict=True), whole_row, is_shared)
            lines += [{"row": number, "column": column, "reason": reason} for column, reason in reasons]
        first_row += len(rows)
    return pa.Table.from_pylist(lines, schema=EXPLAINED)


def _reasons_by_column(
    offers: Iterable[tuple[str, Candidates]], row: Candidates, is_shared: IsShared
) -> Iterator[tuple[str, str]]:
    """Each column of a row with a reason, in words, against what it offers."""
    for column, offer in offers:
        for reason in _reasons(offer, row, is_shared):
            yield column, reason_in_words(reason)


def _joined(offers: Sequence[Candidates]) -> Candidates:
    identifiers = dict.fromkeys(identifier for offer in offers for identifier in offer.identifiers)
    return Candidates(tuple(identifiers), ())


def _reasons(offer: Candidates, row: Candidates, is_shared: IsShared) -> Iterator[str]:
    yield from (reason for reason in offer.reasons if reason != "blank")
    if any(map(is_shared, offer.identifiers)):
        yield SHARED
    if not set(offer.identifiers).isdisjoint(_unasked_roles(row)):
        yield ROLE_MAILBOX


def _unasked_roles(row: Candidates) -> list[Identifier]:
    roles = [identifier for identifier in row.identifiers if is_role(identifier)]
    is_only_roles = len(roles) == len(row.identifiers)
    return roles[1:] if is_only_roles else roles
