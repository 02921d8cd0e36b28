"""Tell how far a long run is, on standard error; a short one says nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
EVERY = 20.0
"""Seconds between two lines."""


def told(things: Iterable[T], *, what: str, of: int) -> Iterator[T]:
    """Pass things on as they come, and say from time to time how many have."""
    started = last = time.monotonic()
    for count, thing in enumerate(things, 1):
        yield thing
        if (now := time.monotonic()) - last > EVERY:
            last = now
            print(f"  {what}: {count:,} of {of:,} after {now - started:.0f} s", file=sys.stderr, flush=True)
