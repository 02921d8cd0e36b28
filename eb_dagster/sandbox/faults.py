"""What can go wrong on request, and when it does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# The request is refused before anything is processed, so nothing is charged.
FREE_STATUSES: Final = {
    "400": 400,
    "401": 401,
    "403": 403,
    "413": 413,
    "429": 429,
    "500-before": 500,
}
# The request is processed and charged. Then the reply is lost on the way.
CHARGED_STATUSES: Final = {"408": 408, "500-after": 500, "502": 502, "503": 503, "504": 504}
# The request is processed and charged. Then no reply comes at all.
SILENT_KINDS: Final = ("reset-after", "no-reply")
# The request is processed and charged. Then a reply with status 200 cannot be read.
_UNREADABLE_KINDS: Final = ("truncated", "invalid-json", "html")
# The request is processed and charged. Then a reply with status 200 says something wrong.
_WRONG_KINDS: Final = (
    "shuffled",
    "missing",
    "extra",
    "no-echo",
    "upper-echo",
    "wrong-count",
    "missing-required",
)
FAULTS: Final = (*FREE_STATUSES, *CHARGED_STATUSES, *SILENT_KINDS, *_UNREADABLE_KINDS, *_WRONG_KINDS)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and the first and the last request (counted from 1) that it affects.

    Only requests that the rate limiter lets through are counted. If several faults affect one request,
    the first of them is applied.
    """

    kind: str
    first: int
    last: int | None = None
    """None: the first request only."""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no such fault: {self.kind!r}; choose one of {', '.join(FAULTS)}")
        if not 1 <= self.first <= (self.last or self.first):
            raise ValueError("a fault begins at request 1 or later, and does not end before it begins")

    @staticmethod
    def parse(text: str) -> Fault:
        """Read KIND@N or KIND@N-M."""
        match = re.fullmatch(r"(.+)@([0-9]+)(?:-([0-9]+))?", text)
        if match is None:
            raise ValueError(f"a fault is KIND@N or KIND@N-M, not {text!r}")
        kind, first, last = match.groups()
        return Fault(kind, int(first), int(last) if last else None)

    def affects(self, request_number: int) -> bool:
        """Whether it affects the request of that number."""
        return self.first <= request_number <= (self.last or self.first)
