"""Measure things side by side, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(
    things: Mapping[str, Callable[[], Any]], *, rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each thing in each round; a round runs all of them once, each time in another order.

    Before the first, each runs once unmeasured.
    """
    for thing in things.values():
        thing()
    seconds: dict[str, list[float]] = {name: [] for name in things}
    # Imported modules are not what is measured.
    gc.collect()
    gc.freeze()
    names = list(things)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            started = clock()
            things[name]()
            seconds[name].append(clock() - started)
    gc.unfreeze()
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """The median over the rounds of the ratio within a round."""
    return statistics.median(upper / lower for upper, lower in zip(above, below, strict=True))
