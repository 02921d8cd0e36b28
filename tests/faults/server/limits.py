"""The rate limit, counted the way Flask-Limiter counts, and its page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from .exchange import Exchange
from .registry import fault

WINDOWS = {
    "fixed": "FixedWindowRateLimiter",
    "moving": "MovingWindowRateLimiter",
    "sliding": "SlidingWindowCounterRateLimiter",
}


class Limit:
    """So many requests in so many seconds."""

    def __init__(self, window: str, amount: int, seconds: int) -> None:
        # The library under Flask-Limiter, which the vendor's 429 page gives away.
        from limits import RateLimitItemPerSecond, storage, strategies

        self.amount = amount
        self.seconds = seconds
        self._item = RateLimitItemPerSecond(amount, seconds)
        self._limiter = getattr(strategies, WINDOWS[window])(storage.MemoryStorage())

    def lets_through(self) -> bool:
        """Count one request, and tell whether it is within the limit."""
        return bool(self._limiter.hit(self._item, "all"))


def refuse(exchange: Exchange, *headers: str, amount: int = 200, seconds: float = 60) -> None:
    """Send the vendor's 429 page."""
    per = "1 minute" if seconds == 60 else f"{seconds:g} second"
    page = (
        "<!doctype html>\n<html lang=en>\n<title>429 Too Many Requests</title>\n"
        f"<h1>Too Many Requests</h1>\n<p>{amount} per {per}</p>\n"
    )
    exchange.reply(429, page.encode(), *headers, content_type="text/html; charset=utf-8")


def retry_after(form: str) -> str:
    """A Retry-After in the named form; + is a date that many seconds from now."""
    if form.startswith("+"):
        return format_datetime(datetime.now(UTC) + timedelta(seconds=float(form[1:])), usegmt=True)
    return form


@fault
def too_many(exchange: Exchange, wait: str | None = None) -> None:
    exchange.read()
    headers = [] if wait is None else [f"Retry-After: {retry_after(wait)}"]
    refuse(exchange, *headers)
