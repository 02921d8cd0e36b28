"""What came back for a request, or that nothing did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, as it came. `complete` is false when it broke off or was cut off."""

    status: int
    body: bytes = field(repr=False)
    encoding: str
    complete: bool
    request_left: bool
    retry_after: str | None
    date: float | None = None
    """The server's clock by its `Date` header, in seconds since the epoch, if it tells that."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Nothing came back. If the whole request had left, it may have been paid for."""

    request_left: bool
    reason: str
