"""A run that is told to stop first takes in what is in flight: it was paid for.

While a run buys, SIGINT (Ctrl-C) and SIGTERM set a mark instead of interrupting it in mid-step. So does
Windows' SIGBREAK, which Dagster sends there.
The run sees the mark, sends nothing more, stores what still arrives, and then lets the signal do
what it would have done. A second signal stops the run at once: what is cut off is in doubt.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, Final

_MARKED_SIGNALS: Final = [
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGBREAK") if name in signal.Signals.__members__
]


class Interruption:
    """Whether the process was told to stop while a run was buying."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.frame: FrameType | None = None
        self.before: dict[int, Any] = {}
        self.on_second: Callable[[], None] = lambda: None
        self.is_suspended = False
        """Whether the user's own code is running meanwhile; then a signal is not for us to hold back."""

    def __bool__(self) -> bool:
        return self.number is not None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        is_first, self.number, self.frame = self.number is None, number, frame
        if is_first and not self.is_suspended:
            return
        if not is_first:
            self.on_second()
        self.deliver()

    def deliver(self) -> None:
        """Do what the signal would have done without us. Returns only if its handler returns."""
        if self.number is None:
            return
        handler = self.before.get(self.number)
        if callable(handler):
            handler(self.number, self.frame)
        elif handler == signal.SIG_DFL:
            # The exit code that a shell gives for a death by this signal.
            raise SystemExit(128 + self.number)


@contextlib.contextmanager
def marked() -> Generator[Interruption]:
    """Mark the signals to stop if this is the main thread; deliver the marked one at the end."""
    interruption = Interruption()
    if threading.current_thread() is threading.main_thread():
        _mark_signals(interruption)
    try:
        yield interruption
    finally:
        if threading.current_thread() is threading.main_thread():
            _restore_handlers(interruption)
    interruption.deliver()


def _mark_signals(interruption: Interruption) -> None:
    for number in _MARKED_SIGNALS:
        handler = signal.getsignal(number)
        # None was not set by Python, so it is not ours to replace. A signal that is ignored is ignored by choice.
        if handler is not None and handler != signal.SIG_IGN:
            interruption.before[number] = handler
            signal.signal(number, interruption.note)


def _restore_handlers(interruption: Interruption) -> None:
    for number, handler in interruption.before.items():
        # If somebody has changed it since, that stays.
        if signal.getsignal(number) == interruption.note:
            signal.signal(number, handler)
