"""How far a run is: a live bar on a terminal, a line every few seconds elsewhere. Both go to stderr."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

import click

from eb_dagster.cli.spelling import counted

if TYPE_CHECKING:
    from eb_dagster.pipeline.report import Report

_LINE_SECONDS: Final = 10.0
_LONGEST_BAR_WORDS: Final = 51
"""A terminal has 80 columns, and at least ten of them are the bar's."""


class ProgressBar:
    """Shows the reports that it is called with."""

    def __init__(self, rows: int, *, max_credits: int | None) -> None:
        from eb_dagster.pipeline.forecast import Forecast

        self.forecast = Forecast(rows, max_credits=max_credits)
        self.is_live = sys.stderr.isatty()
        self._bar: Any = None
        self._last_time = -math.inf
        self._last_line = ""
        self._unshown: Report | None = None

    def __enter__(self) -> Self:
        if self.is_live:
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
        elif self._unshown is not None:
            # The last line of a log says where the run ended. A run that failed has no forecast any more.
            self._print_line(self._unshown, has_forecast=kind is None)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        click.echo(text, err=True)

    def __call__(self, report: Report) -> None:
        """Show how far the run is by its report so far."""
        self._unshown = report
        self.forecast.note(report, now=time.monotonic())
        if self._bar is not None:
            self._bar.set_description_str(self._words(report, is_short=True), refresh=False)
            self._bar.update(max(0.0, self.forecast.share(report) - self._bar.n))
        elif time.monotonic() - self._last_time >= _LINE_SECONDS:
            self._print_line(report)

    def _print_line(self, report: Report, *, has_forecast: bool = True) -> None:
        self._last_time, self._unshown = time.monotonic(), None
        line = f"{self.forecast.share(report):4.0%}  {self._words(report, has_forecast=has_forecast)}"
        if line != self._last_line:
            click.echo(line, err=True)
        self._last_line = line

    def _words(self, report: Report, *, has_forecast: bool = True, is_short: bool = False) -> str:
        requests = counted(report.replies, "request")
        spent = counted(report.credits_charged, "credit")
        found = f", {report.credits_charged / report.answers:.1%} found" if report.answers else ""
        left = self.forecast.words(now=time.monotonic(), is_short=is_short) if has_forecast else ""
        words = f"{requests}, {spent}{found}{left}"
        if is_short and len(words) > _LONGEST_BAR_WORDS:
            return f"{requests}, {spent}{left}"
        return words
