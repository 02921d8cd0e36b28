"""What is said aloud when a run starts: from whom it buys, which ledger remembers, and what the caps leave."""

from __future__ import annotations

from dataclasses import dataclass

from eb_dagster.errors import counted
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.connection import database_url, shown_url
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.settings import Settings, is_sandbox


@dataclass(frozen=True, slots=True)
class Announcement:
    """The start of a run, in words. No key and no password is in it."""

    address: str
    ledger: str
    is_new: bool
    """Whether the ledger remembers no request yet."""
    caps: str

    @property
    def lines(self) -> tuple[str, ...]:
        """One line each: address, ledger, caps."""
        ledger = f"{self.ledger}, new and empty" if self.is_new else self.ledger
        return (f"buys from {self.address}", f"ledger: {ledger}", f"caps: {self.caps}")

    @property
    def warning(self) -> str | None:
        """What to be warned of: an empty ledger knows nothing of what was bought before."""
        if not self.is_new:
            return None
        return (
            f"the ledger is new and empty ({self.ledger}, for {self.address}): if you have bought before, name the "
            "ledger of that time, or everything is paid for again"
        )


def announcement(settings: Settings, ledger: Ledger) -> Announcement:
    """What is true of a run that starts now."""
    return Announcement(
        address=address_in_words(settings.base_url),
        # A plan may count on an empty ledger of its own.
        ledger=shown_url(database_url(settings.ledger)),
        is_new=ledger.last_request() == 0,
        caps=_caps_in_words(settings, ledger),
    )


def address_in_words(base_url: str) -> str:
    """The address of the API; one on this machine is a sandbox, and is called so."""
    return f"the sandbox on this machine, {base_url}" if is_sandbox(base_url) else base_url


def _caps_in_words(settings: Settings, ledger: Ledger) -> str:
    limits = Limits(
        settings.max_credits,
        settings.max_credits_at_risk,
        settings.max_credits_per_day,
        settings.max_credits_per_month,
    )
    left = ledger.budget.left_by_caps(limits=limits)
    words = [
        "no cap on this run"
        if settings.max_credits is None
        else f"{counted(settings.max_credits, 'credit')} in this run"
    ]
    if "day" in left:
        words.append(f"{counted(left['day'], 'credit')} left today")
    if "month" in left:
        words.append(f"{counted(left['month'], 'credit')} left this month")
    return ", ".join(words)
