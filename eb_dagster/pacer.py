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

LONGEST_PAUSE: Final = 120.0
"""Seconds. Twice the vendor's window: a Retry-After beyond it is taken for a mistake."""

_FIRST_PAUSE: Final = 1.0


class Slots(Protocol):
    """Where the next free moment to send is kept; the ledger, so that all processes share it."""

    def reserve_slot(self, *, interval: float, now: float) -> float:
        """Take the next slot and return when it is, in seconds since the epoch."""
        ...

    def postpone_slots(self, *, until: float, now: float) -> None:
        """Give no slot before `until`."""
        ...


class Pacer:
    """Hands out moments to send, evenly spaced."""

    def __init__(
        self,
        slots: Slots,
        *,
        requests_per_minute: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slots = slots
        self._interval = 60.0 / requests_per_minute
        self._clock = clock
        self._sleep = sleep

    def wait(self) -> None:
        """Sleep until the next free slot, and take it."""
        now = self._clock()
        slot = self._slots.reserve_slot(interval=self._interval, now=now)
        self._sleep(max(0.0, min(slot - now, 2 * LONGEST_PAUSE)))

    def pause(self, *, retry_after: str | None, refusals: int) -> float:
        """Hold back every sender on the ledger after a 429. Returns the seconds.

        `refusals` counts the 429s in a row; without a usable Retry-After, the pause doubles.
        """
        now = self._clock()
        asked = read_retry_after(retry_after, now=now)
        # Not random for security: so that several processes do not come back at once.
        jitter = 1 + random.random() / 4  # noqa: S311
        backoff = _FIRST_PAUSE * 2 ** min(refusals, 6) * jitter
        seconds = min(backoff if asked is None else max(asked, 0.1), LONGEST_PAUSE)
        self._slots.postpone_slots(until=now + seconds, now=now)
        return seconds


def read_retry_after(text: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3), or None if it says nothing."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    # Zero or less is no answer to "too many"; neither is not-a-number.
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else None
