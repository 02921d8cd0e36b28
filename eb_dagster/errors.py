"""Every error, as a tree sorted by what the caller does next.

    EnrichError
    ├── ConfigError      fix the settings; nothing was sent
    ├── InputError       fix the dataframe; nothing was sent
    ├── OverBudget       raise max_credits or shrink the input; nothing was sent
    ├── Refused          the API said no and charged nothing (.status)
    ├── Busy             the API stayed busy or out of reach past the deadline; nothing was charged
    ├── OutcomeUnknown   too much is in doubt to go on; a person decides
    └── LedgerError      the ledger cannot be trusted to remember; nothing was sent

A message says what happened and what to do, and ends with what was spent (`.spent`). It names columns,
counts and positions, never a key, an address, a number or a name. Whatever was paid for before an
error is in the ledger, so running again asks only for the rest.
"""

from __future__ import annotations

NOTHING_SENT = "Nothing was sent"


class EnrichError(Exception):
    """Whatever goes wrong in an enrichment, on purpose and with words."""

    def __init__(self, message: str, *, spent: str = NOTHING_SENT) -> None:
        super().__init__(message)
        self.spent = spent
        """What the run has spent, in words. The run that is under way tells it."""

    def __str__(self) -> str:
        return f"{self.args[0]}{'' if self.args[0].endswith('?') else '.'} {self.spent}"


class ConfigError(EnrichError):
    """A setting is wrong. Fix it; nothing was sent."""


class InputError(EnrichError):
    """The dataframe is wrong. Fix it; nothing was sent."""


class OverBudget(EnrichError):
    """The plan may cost more than `max_credits`. Raise it or shrink the input; nothing was sent."""


class Refused(EnrichError):
    """The API said no and charged nothing for it. What was bought before is in the ledger."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Busy(EnrichError):
    """The API stayed busy or out of reach past the deadline; nothing was charged for that."""


class OutcomeUnknown(EnrichError):
    """Too many questions have an unknown outcome to go on. A person decides."""


class LedgerError(EnrichError):
    """The ledger cannot be trusted to remember, so nothing was sent."""
