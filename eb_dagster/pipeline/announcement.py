"""What is said aloud when a run starts: from whom it buys, which ledger remembers, and what the caps leave."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.connection import database_url, file_of
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.settings import Settings


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
        ledger=ledger_in_words(settings.ledger),
        is_new=ledger.last_request() == 0,
        caps=_caps_in_words(settings, ledger),
    )


def address_in_words(base_url: str) -> str:
    """The address of the API; one on this machine is a sandbox, and is called so."""
    host = urlsplit(base_url).hostname or ""
    return f"the sandbox on this machine, {base_url}" if _is_here(host) else base_url


def ledger_in_words(where: str | os.PathLike[str]) -> str:
    """The ledger's file with its whole path, or the database that it is; the address of that may hold a password."""
    url = database_url(where)
    file = file_of(url)
    if file is not None:
        return str(file)
    return f"{url.get_backend_name()} database {url.database or ''} on {url.host or 'this machine'}"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        else f"{settings.max_credits:,} credits in this run"
    ]
    if "day" in left:
        words.append(f"{left['day']:,} credits left today")
    if "month" in left:
        words.append(f"{left['month']:,} credits left this month")
    return ", ".join(words)
