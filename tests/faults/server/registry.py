"""The faults by name. Each is given an exchange whose body was not read yet."""

from __future__ import annotations

from collections.abc import Callable

FAULTS: dict[str, Callable[..., None]] = {}


def fault(run: Callable[..., None]) -> Callable[..., None]:
    """Let scripts name this function as a fault."""
    FAULTS[run.__name__] = run
    return run
