"""How far a run is, and the places that show it: a bar, lines of a log, or the user's own function.

`Forecast` is the one way of counting. It is told the times, so that it needs no clock.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Protocol, Self

from eb_dagster.errors import counted
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.run_log import LOGGER
from eb_dagster.pipeline.telemetry import Telemetry, telemetry

if TYPE_CHECKING:
    from tqdm import tqdm

_EVENTS: Final = 64
"""How many answers the pace is taken from: what the ledger answered at once, at the beginning, is soon forgotten."""

_FIRST_LINE_SECONDS: Final = 2.0
_LONGEST_SILENCE_SECONDS: Final = 30.0
_LONGEST_BAR_WORDS: Final = 51
_WORTH_A_WORD_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 1.0


class _Event(NamedTuple):
    time: float
    share: float
    credits: int


class Forecast:
    """What is left of a run of so many rows, in seconds and credits, by the pace of its last answers.

    With a plan, it counts answers, which come more evenly than rows. `max_credits` is the run's cap, which
    may end it before its rows do.
    """

    def __init__(self, rows: int, plan: Plan | None = None, *, max_credits: int | None = None) -> None:
        self.rows = rows
        self.plan = plan
        self._max_credits = max_credits
        # One whenever the share has grown. The wait for the first answer is no part of the pace.
        self._events: deque[_Event] = deque(maxlen=_EVENTS)
        self._replies = -1
        self._moved = 0.0

    def note(self, report: Report, *, now: float) -> None:
        """Take in where the run is. `now` is in seconds of any clock that does not jump."""
        if report.replies != self._replies:
            self._replies, self._moved = report.replies, now
        share = self.share(report)
        if share > (self._events[-1].share if self._events else 0.0):
            self._events.append(_Event(now, share, report.credits_charged))

    def share(self, report: Report) -> float:
        """How much of the run is done, from 0 to 1."""
        # A stream may bring more rows than it said.
        of_rows = min(1.0, report.rows / self.rows) if self.rows else 1.0
        of_answers = self._share_of_answers(report)
        of_credits = 0.0
        if self._max_credits is not None:
            of_credits = report.credits_charged / max(self._max_credits, 1)
        return max(of_rows, min(0.99, max(of_answers, of_credits)))

    def _share_of_answers(self, report: Report) -> float:
        if self.plan is None or not self.plan.to_ask:
            return 0.0
        # A miss leads to the next question.
        share_missed = 0.5
        if report.answers:
            share_missed = max(0.0, 1 - report.credits_charged / report.answers)
        further = self.plan.to_ask_at_most - self.plan.to_ask
        return report.answers / (self.plan.to_ask + further * share_missed)

    def seconds_left(self, *, now: float) -> float | None:
        """Until the last row is out; None until there is a pace."""
        if len(self._events) < 2:
            return None
        first, last = self._events[0], self._events[-1]
        share_a_second = (last.share - first.share) / (last.time - first.time)
        since_last = now - last.time
        return max(0.0, (1 - last.share) / share_a_second - since_last)

    def waiting_words(self, report: Report, *, now: float | None) -> str:
        """For how many requests the run waits, and for how long now; nothing if that is not worth a word."""
        waiting = report.requests - report.replies
        if now is None or waiting <= 0 or self._replies < 0 or now - self._moved < _WORTH_A_WORD_SECONDS:
            return ""
        return f", waiting for {counted(waiting, 'request')}, {now - self._moved:,.0f} s"

    def credits_in_all(self) -> int | None:
        """What the whole run will be charged; None until there is a pace."""
        if len(self._events) < 2:
            return None
        first, last = self._events[0], self._events[-1]
        credits_a_share = (last.credits - first.credits) / (last.share - first.share)
        expected = round(last.credits + (1 - last.share) * credits_a_share)
        return expected if self._max_credits is None else min(expected, self._max_credits)

    def words(self, *, now: float | None, is_short: bool = False) -> str:
        """Both, to be put behind other words; only the seconds if it is to be short.

        Nothing without a pace, and nothing once the run is over: then `now` is None.
        """
        seconds = None if now is None else self.seconds_left(now=now)
        charged = self.credits_in_all()
        if seconds is None or charged is None:
            return ""
        left = f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
        if is_short:
            return f", {left} left"
        return f", about {left} left and {counted(charged, 'credit')} in all"


def shell_words(forecast: Forecast, report: Report, *, now: float | None, is_short: bool = False) -> str:
    """What a shell shows beside the share that is done."""
    requests = counted(report.replies, "request")
    charged = counted(report.credits_charged, "credit")
    asked = f" of {report.answers:,} asked" if report.answers else ""
    left = forecast.words(now=now, is_short=is_short)
    waiting = forecast.waiting_words(report, now=now)
    words = f"{requests}, {charged}{asked}{left}{waiting}"
    # A terminal has 80 columns; ten of them are the bar's at least.
    return words if not is_short or len(words) <= _LONGEST_BAR_WORDS else f"{charged}{asked}{waiting or left}"


def log_words(forecast: Forecast, report: Report, *, now: float | None) -> str:
    """What a line of Dagster's event log says."""
    # Not partitions, which are Dagster's.
    answered = counted(report.replies, "request")
    of_rows = f" of {forecast.rows:,}" if forecast.rows else ""
    # Otherwise nobody would know why nothing moves.
    return (
        f"{answered} answered, {report.rows:,}{of_rows} rows, {counted(report.credits_charged, 'credit')}"
        f"{forecast.words(now=now)}{forecast.waiting_words(report, now=now)}{retry_words(report)}"
    )


def retry_words(report: Report) -> str:
    """How often requests were sent again, and why; nothing if none was."""
    if not report.retries:
        return ""
    reasons = ", ".join(f"{count:,} × {reason}" for reason, count in report.retries.most_common(3))
    return f"; sent again: {reasons}"


class Display:
    """Shows how far a run is, each time that it is called with the report. This one shows nothing."""

    is_live = False
    """Whether a person sees it move."""

    def __init__(self, rows: int | None = None, *, max_credits: int | None = None) -> None:
        self.forecast = Forecast(rows or 0, max_credits=max_credits)
        self._tick_due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave what is shown as it should stay."""

    def expect(self, rows: int, plan: Plan | None) -> None:
        """Before the first row: how many rows there are, and the plan if there is one."""
        self.forecast.rows, self.forecast.plan = rows, plan

    def __call__(self, report: Report) -> None:
        """Take in and show where the run is."""
        self._show(report)

    def tick(self, report: Report) -> None:
        """Show again where the run is, though nothing came. May be called as often as one likes."""
        now = time.monotonic()
        if now >= self._tick_due:
            self._tick_due = now + _TICK_SECONDS
            self._tick(report)

    def say(self, text: str) -> None:
        """Show a line of text beside it, if it is shown at all."""
        self._show_text(text)

    def announce(self, lines: Sequence[str]) -> None:
        """Show how the run buys, before it begins; where that is said elsewhere, nothing."""

    def _tick(self, report: Report) -> None:
        self._show(report)

    def _show(self, report: Report) -> None: ...
    def _show_text(self, text: str) -> None: ...


class Callback(Display):
    """Gives the report to the user's own function."""

    def __init__(self, function: Callable[[Report], None]) -> None:
        super().__init__()
        self._function = function

    def _show(self, report: Report) -> None:
        self._function(report)

    def _tick(self, report: Report) -> None:
        # A user's function is called when something came. Displays of the shell and of Dagster come in here too.
        if isinstance(self._function, Display):
            self._function.tick(report)

    def _show_text(self, text: str) -> None:
        if isinstance(self._function, Display):
            self._function.say(text)


def _is_in_notebook() -> bool:
    """Whether this is a notebook's kernel, and not a program that runs notebooks."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class RowBar(Display):
    """A bar of rows, for Python: in a notebook or, unless `always`, only on a terminal."""

    def __init__(self, rows: int | None, *, max_credits: int | None, always: bool) -> None:
        super().__init__(rows, max_credits=max_credits)
        self._rows = rows
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._is_shown = always or self._is_terminal or _is_in_notebook()
        self._bar: tqdm[NoReturn] | None = None
        self._stays = False
        """Whether every drawing stays where it is written: in a file, or in a notebook without ipywidgets."""
        self._started = time.monotonic()
        self._due = 0.0

    def announce(self, lines: Sequence[str]) -> None:
        """Show how the run buys, above the bar."""
        if self._is_shown:
            sys.stderr.writelines(f"{line}\n" for line in lines)

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            # In a notebook without ipywidgets, tqdm warns that its bar is text.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

        self._bar = tqdm(
            total=self._rows,
            unit="row",
            desc="Enriching",
            disable=not self._is_shown,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} rows [{elapsed}{postfix}]" if self._rows else None,
        )
        # Only a bar of ipywidgets has a container.
        self._stays = not self._is_terminal and not hasattr(self._bar, "container")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, report: Report) -> None:
        if self._bar is None or self._bar.disable:
            return
        now = time.monotonic()
        self.forecast.note(report, now=now)
        self._bar.n = report.rows
        self._bar.set_postfix_str(self._words(report, now=now), refresh=False)
        if now >= self._due:
            # Where it stays, it is drawn more seldom the longer the run takes.
            pause = min(max(_TICK_SECONDS, (now - self._started) / 60), _LONGEST_SILENCE_SECONDS)
            self._due = now + (pause if self._stays else self._bar.mininterval)
            self._bar.refresh()

    def _words(self, report: Report, *, now: float) -> str:
        words = (
            f"requests={report.requests:,}, credits={report.credits_charged:,}, matched={report.matched:,}"
        )
        if self._rows and report.rows < self._rows:
            words += self.forecast.words(now=now)
        return f"{words}{self.forecast.waiting_words(report, now=now)}{retry_words(report)}"

    def _show_text(self, text: str) -> None:
        if self._bar is not None and not self._bar.disable:
            self._bar.write(text, file=sys.stderr)


class ShareBar(Display):
    """A bar of the share that is done, for a shell on a terminal. It makes way for what comes after it."""

    is_live = True

    def __init__(self, rows: int, *, max_credits: int | None, say: Callable[[str], None]) -> None:
        super().__init__(rows, max_credits=max_credits)
        self._write_line = say
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        from tqdm import tqdm

        self._bar = tqdm(
            total=1.0,
            bar_format="{percentage:3.0f}% |{bar}| {desc} [{elapsed}]",
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            miniters=0,
            mininterval=0,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, report: Report) -> None:
        now = time.monotonic()
        self.forecast.note(report, now=now)
        if self._bar is not None:
            words = shell_words(self.forecast, report, now=now, is_short=True)
            self._bar.set_description_str(words, refresh=False)
            self._bar.update(max(0.0, self.forecast.share(report) - self._bar.n))

    def _show_text(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._write_line(text)


class _Words(Protocol):
    def __call__(self, forecast: Forecast, report: Report, *, now: float | None) -> str: ...


class Lines(Display):
    """A line of a log now and then, however many requests there are; and, with `with`, one at the end."""

    def __init__(
        self, rows: int, *, max_credits: int | None, say: Callable[[str], None], words: _Words
    ) -> None:
        super().__init__(rows, max_credits=max_credits)
        self._write_line = say
        self._words = words
        self._started = time.monotonic()
        self._due = self._silent_due = self._started + _FIRST_LINE_SECONDS
        self._unsaid: Report | None = None
        self._last_line = ""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._unsaid is not None:
            # A run that failed will not go on as it was forecast.
            self._write(self._unsaid, now=time.monotonic() if kind is None else None)

    def _show(self, report: Report) -> None:
        now = time.monotonic()
        self._unsaid = report
        self.forecast.note(report, now=now)
        if now >= self._due:
            # Sparser as the run takes longer, but never silent for long.
            self._due = now + min(now - self._started, _LONGEST_SILENCE_SECONDS)
            self._write(report, now=now)

    def _tick(self, report: Report) -> None:
        now = time.monotonic()
        self.forecast.note(report, now=now)
        if now >= self._silent_due and self.forecast.waiting_words(report, now=now):
            # It takes no turn of a line that has news.
            self._write(report, now=now)

    def _write(self, report: Report, *, now: float | None) -> None:
        self._unsaid = None
        if now is not None:
            silence = max(_FIRST_LINE_SECONDS, now - self._started)
            self._silent_due = now + min(silence, _LONGEST_SILENCE_SECONDS)
        line = self._words(self.forecast, report, now=now)
        if line != self._last_line:
            self._write_line(line)
        self._last_line = line

    def _show_text(self, text: str) -> None:
        self._write_line(text)


class Watched(Display):
    """A display beside which the run is told of in the log and to OpenTelemetry."""

    def __init__(self, inner: Display, rows: int | None, *, max_credits: int | None) -> None:
        super().__init__(rows, max_credits=max_credits)
        self._inner = inner
        self._log = Lines(rows or 0, max_credits=max_credits, say=LOGGER.info, words=log_words)
        self._telemetry: Telemetry | None = None
        self._report: Report | None = None
        self._retries = 0

    def announce(self, lines: Sequence[str]) -> None:
        """Leave it to the display: the log has it already."""
        self._inner.announce(lines)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        self._telemetry = telemetry()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._inner.__exit__(kind, *error)
        finally:
            self._log.__exit__(kind)
            if self._telemetry is not None:
                self._telemetry.end(self._report or Report(), None if kind is None else kind.__name__)

    def _show(self, report: Report) -> None:
        self._report = report
        self._inner(report)
        self._log(report)
        retries = report.retries.total()
        if retries > self._retries and self._telemetry is not None:
            self._telemetry.event("sent again", retries - self._retries)
        self._retries = retries

    def _tick(self, report: Report) -> None:
        self._inner.tick(report)
        self._log.tick(report)

    def _show_text(self, text: str) -> None:
        self._inner.say(text)
        LOGGER.info(text)


def display_for(
    choice: bool | Callable[[Report], None] | None, *, rows: int | None, max_credits: int | None
) -> Display:
    """What the setting `progress` chooses, and the log beside it."""
    return Watched(_display_for(choice, rows=rows, max_credits=max_credits), rows, max_credits=max_credits)


def _display_for(
    choice: bool | Callable[[Report], None] | None, *, rows: int | None, max_credits: int | None
) -> Display:
    """What the setting `progress` chooses: None is a bar on a terminal or in a notebook."""
    if callable(choice):
        return Callback(choice)
    if choice is False:
        return Display()
    return RowBar(rows, max_credits=max_credits, always=choice is True)


def shell_display(rows: int, *, max_credits: int | None, say: Callable[[str], None]) -> Display:
    """A bar on a terminal, and lines elsewhere; `say` writes a line to stderr."""
    if sys.stderr.isatty():
        return ShareBar(rows, max_credits=max_credits, say=say)
    return Lines(rows, max_credits=max_credits, say=say, words=_share_and_words)


def _share_and_words(forecast: Forecast, report: Report, *, now: float | None) -> str:
    return f"{forecast.share(report):4.0%}  {shell_words(forecast, report, now=now)}"
