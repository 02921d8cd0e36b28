"""Every error, as a tree sorted by what the caller does next.

    EnrichError
    ├── ConfigError      fix the settings; nothing was sent
    ├── InputError       fix the table; nothing was sent
    ├── OverBudget       raise max_credits or shrink the input; nothing was sent
    ├── Refused          the API said no and charged nothing (.status)
    ├── Busy             the API stayed busy or out of reach past the deadline; nothing was charged
    ├── OutcomeUnknown   too much is in doubt to go on; a person decides
    └── LedgerError      the ledger cannot be trusted to remember; nothing more was sent

A message says what happened and what to do, and ends with what was spent (`.spent`). It names columns,
counts and positions, never a key, an address, a number or a name. Whatever was paid for before an
error is in the ledger, so running again asks only for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from numbers import Integral, Real
from operator import index
from typing import Final, SupportsIndex, cast

# A word such as a setting has; no address, number or key is like that.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,30}[0-9]{0,4}", re.ASCII)
_LONGEST_NUMBER: Final = 7


def _shown_number(given: float) -> str:
    digits = sum(map(str.isdigit, repr(given)))
    return repr(given) if digits <= _LONGEST_NUMBER else f"a number of {digits} digits"


def _shown_text(given: str) -> str:
    is_word = not given or _WORD.fullmatch(given) is not None
    return repr(given) if is_word else f"a text of {len(given):,} characters"


def plain_number(given: object) -> int | float | None:
    """A number as Python's own, numpy's and so the sums of pandas included; None if it is none, or a bool."""
    if isinstance(given, bool):
        return None
    if isinstance(given, SupportsIndex):
        # numpy's bools, spans of time and arrays refuse, which would be numbers elsewhere.
        with suppress(TypeError):
            return index(given)
    return float(given) if isinstance(given, Real) and not isinstance(given, Integral) else None


def shown(given: object) -> str:
    """What was given for a setting, as a message may show it: by mistake it may be a person, or a key."""
    if given is None or isinstance(given, bool | timedelta):
        return repr(given)
    if (number := plain_number(given)) is not None:
        return _shown_number(number)
    if isinstance(given, str):
        return _shown_text(given)
    if isinstance(given, list | tuple | set | frozenset):
        return shown_list(cast("Iterable[object]", given))
    return f"of type {type(given).__name__}"


def shown_list(given: Iterable[object]) -> str:
    """The same for each of several."""
    return f"[{', '.join(map(shown, given))}]"


def closest(given: object, choices: Iterable[str]) -> str | None:
    """The choice that is spelled most like what was given, whatever its case and punctuation; None if none is."""
    # Only a mistake needs it.
    from difflib import get_close_matches

    by_spelling = {_spelling(choice): choice for choice in reversed([*choices])}
    found = get_close_matches(_spelling(given), by_spelling, n=1, cutoff=0.65)
    return by_spelling[found[0]] if found else None


def _spelling(given: object) -> str:
    return re.sub(r"[\W_]+", "", str(given)).lower()


def did_you_mean(given: Iterable[object], choices: Sequence[str]) -> str:
    """A question that ends a message, with the choices that are spelled most like what was given; else nothing.

    Only for choices that are our own words: a column's name may be a person.
    """
    meant = dict.fromkeys(filter(None, (closest(word, choices) for word in given)))
    return f". Did you mean {' and '.join(map(repr, meant))}?" if meant else ""


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 row, 2 rows, 1 reply, 2 replies."""
    if count == 1:
        return f"1 {noun}"
    # A reply, two replies; but a day, two days.
    ends_like_reply = noun.endswith("y") and noun[-2:-1] not in "aeiou"
    return f"{count:,} {noun[:-1]}ies" if ends_like_reply else f"{count:,} {noun}s"


NOTHING_SENT = "Nothing was sent"
BOUGHT = "Whatever was bought is in the ledger"


class EnrichError(Exception):
    """Whatever goes wrong in an enrichment, on purpose and with words."""

    def __init__(self, message: str, *, spent: str = NOTHING_SENT) -> None:
        super().__init__(message)
        self.spent = spent
        """What the run has spent, in words. The run that is under way tells it."""

    def __str__(self) -> str:
        return f"{self.args[0]}{'' if self.args[0].endswith('?') else '.'} {self.spent}"


class ConfigError(EnrichError):
    """A setting is wrong: fix it."""


class InputError(EnrichError):
    """The table is wrong: fix it."""


class OverBudget(EnrichError):
    """The plan may cost more than `max_credits`: raise it, or shrink the input. Nothing was sent."""


class Refused(EnrichError):
    """The API said no, and charged nothing for it. See `.status`: 401 the key, 403 top up; then run again."""

    # With a default, so that another process can be sent it.
    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Busy(EnrichError):
    """The API stayed busy or out of reach past the deadline, and charged nothing for that: run again later."""


class OutcomeUnknown(EnrichError):
    """As much is in doubt as is allowed: compare with the vendor's bill, then decide with `eb-dagster ledger`."""


class LedgerError(EnrichError):
    """The ledger cannot be trusted to remember: give the run the one that can. Nothing more was sent."""
