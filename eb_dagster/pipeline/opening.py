"""What is said before anything is bought: from whom, by which ledger, and what the caps leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.connection import database_url, shown_url
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.settings import Settings, is_sandbox


@dataclass(frozen=True, slots=True)
class Opening:
    """Where an enricher buys, and what it may spend. No key, no password and nobody is in it."""

    address: str
    is_sandbox: bool
    """Whether the address is this very machine's, where nobody sells contacts."""
    ledger: str
    """The absolute path of the ledger's file, or the address of its database without user and password."""
    is_ledger_empty: bool
    """Whether no request was ever made with it. It may not be there yet."""
    credits_left: Mapping[str, int]
    """By "run", "day" and "month", what the caps leave; none where there is no cap."""

    @property
    def seller(self) -> str:
        """Who sells, in words."""
        if self.is_sandbox:
            return f"the sandbox at {self.address}, whose people are made up"
        return self.address

    @property
    def caps(self) -> str:
        """What the caps leave, in words."""
        names = {"run": "for this run", "day": "today", "month": "this month"}
        left = [
            f"{self.credits_left[name]:,} {words}"
            for name, words in names.items()
            if name in self.credits_left
        ]
        return ", ".join(left) if left else "as many as you have, for no cap is set"

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said of it, a line each."""
        return (f"buys from: {self.seller}", f"ledger: {self.ledger}", f"credits left: {self.caps}")

    @property
    def warning(self) -> str | None:
        """What to be warned of: an empty ledger knows nothing of what was bought before."""
        if not self.is_ledger_empty:
            return None
        return (
            f"the ledger is new and empty ({self.ledger}), so nothing counts as bought yet. The first time, that is as "
            "it should be. If you have bought before, name that ledger: this one would pay for everything again"
        )


def opening_of(settings: Settings, ledger: Ledger) -> Opening:
    """What is to be said of an enricher. The ledger may be an empty one in place of one that is not there yet."""
    limits = Limits(
        max_credits=settings.max_credits,
        max_credits_at_risk=settings.max_credits_at_risk,
        max_credits_per_day=settings.max_credits_per_day,
        max_credits_per_month=settings.max_credits_per_month,
    )
    left: dict[str, int] = {} if settings.max_credits is None else {"run": settings.max_credits}
    left |= {str(period): count for period, count in ledger.budget.left_by_caps(limits=limits).items()}
    return Opening(
        address=settings.base_url,
        is_sandbox=is_sandbox(settings.base_url),
        ledger=shown_url(database_url(settings.ledger)),
        is_ledger_empty=ledger.last_request() == 0,
        credits_left=left,
    )
