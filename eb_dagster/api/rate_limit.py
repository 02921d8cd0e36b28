"""Even spacing of requests, shared by every process on one ledger.

The vendor allows 200 requests a minute and does not say how it counts. Requests that are spaced
evenly, at a rate just below, stay clear of a fixed, a moving and a sliding window alike; a burst
does not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

REQUESTS_PER_MINUTE: Final = 198.0
"""Just below the 200 that the vendor allows."""

LONGEST_PAUSE: Final = 120.0
"""Seconds. Twice the vendor's window; a Retry-After beyond it is not believed."""

_FIRST_PAUSE: Final = 1.0


class Slots(Protocol):
    """Where the next free time to send is kept: the ledger, so that all processes share it."""

    def reserve_slot(self, *, interval: float) -> float:
        """Take the next slot and return how many seconds it is away."""
        ...

    def postpone_slots(self, *, seconds: float) -> None:
        """Give no slot before that many seconds have passed."""
        ...


class Pacer:
    """Hands out times to send, evenly spaced. It does not sleep itself."""

    def __init__(
        self,
        slots: Slots,
        *,
        requests_per_minute: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._interval = 60.0 / requests_per_minute
        self._clock = clock
        self._slot: float | None = None

    def seconds_to_wait(self) -> float:
        """Seconds until this process may send; 0 or less when it may send now."""
        now = self._clock()
        # A slot that was not used in time is given up: those of others follow closely.
        if self._slot is None or now > self._slot + self._interval:
            self._slot = now + self._slots.reserve_slot(interval=self._interval)
        return self._slot - now

    def sent(self) -> None:
        """The slot was used."""
        self._slot = None

    def pause(self, *, retry_after: str | None, refusals: int) -> float:
        """Hold back every sender on the ledger after a 429. Returns the seconds.

        `refusals` counts the 429s in a row; without a usable Retry-After, the pause doubles.
        """
        asked = read_retry_after(retry_after, now=time.time())
        # Several processes must not come back at the same time. It is not for security.
        jitter = 1 + random.random() / 4  # noqa: S311
        backoff = _FIRST_PAUSE * 2 ** min(refusals, 6) * jitter
        seconds = min(backoff if asked is None else max(asked, 0.1), LONGEST_PAUSE)
        self._slots.postpone_slots(seconds=seconds)
        self._slot = None
        return seconds


def read_retry_after(text: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3), or None if it says nothing."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        time_to_retry = read_date(text)
        if time_to_retry is None:
            return None
        seconds = time_to_retry - now
    # Zero or less is no answer to "too many", nor is not-a-number. An hour is taken for a mistake.
    return seconds if 0 < seconds <= LONGEST_PAUSE else None


def read_date(text: str | None) -> float | None:
    """A date in a header (RFC 9110, 5.6.7) as seconds since the epoch, or None if it is none."""
    try:
        date = parsedate_to_datetime(text or "")
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
