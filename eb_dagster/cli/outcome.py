"""What `plan` and `enrich` print at their end: the plan or the report, what to do next, and the exit code."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from eb_dagster.cli.next_steps import after_error, after_run
from eb_dagster.cli.spelling import facts_in_options, in_options
from eb_dagster.cli.targets import Declined

if TYPE_CHECKING:
    from eb_dagster.enricher import Enricher
    from eb_dagster.pipeline.plan import Plan
    from eb_dagster.pipeline.report import Report
    from eb_dagster.tables.object_store import Place

EXIT_CODES: Final = {
    0: "done",
    1: "stopped before the table was written; what was bought is in the ledger, so run it again",
    2: "nothing was sent: bad input or settings, or you said no",
    3: "the table is written, and some of its rows are in doubt, unreadable or not asked",
}


@dataclass
class Outcome:
    """Collects what is known, prints it at the end, and turns our errors into exit codes."""

    as_json: bool
    price: float | None
    ledger: str | None
    plan: Plan | None = None
    explained: Sequence[Mapping[str, Any]] | None = None
    report: Report | None = None
    output: Place | None = None
    page: Path | None = None
    loaded: str | None = None
    """What was loaded into a database, in words."""
    is_stdout_taken: bool = False
    """Whether the table goes to stdout, and so nothing else may."""

    def __post_init__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._notes: list[str] = []

    def __enter__(self) -> Self:
        self._warnings.__enter__()
        warnings.simplefilter("always", UserWarning)
        # The shell says these itself, at its end and at its start.
        for said in (
            r": 1 row (is|was) ",
            r": [\d,]+ rows (are|were) ",
            "the run ended before",
            "the ledger is new",
        ):
            warnings.filterwarnings("ignore", message=f".*{said}", category=UserWarning)
        # Above them may be a bar, which they would break, so they are shown at the end.
        warnings.showwarning = self._note
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from eb_dagster.errors import EnrichError

        self._warnings.__exit__(kind, error, trace)
        self._show_notes()
        if error is not None and not isinstance(error, EnrichError | KeyboardInterrupt | Declined):
            return
        if self.as_json:
            self._print_json(error)
        else:
            self._print_text(error)
        sys.exit(self._exit_code(error))

    def _note(self, message: Warning | str, *_: Any) -> None:
        self._notes.append(str(message))

    def _show_notes(self) -> None:
        # Why a run stopped is said at the very end, with what to do.
        stopped = self.report.stopped if self.report is not None else None
        for note in dict.fromkeys(self._notes):
            if not (stopped and stopped in note):
                click.echo(f"note: {in_options(note)}", err=True)

    def write_page(self, page: Path) -> None:
        """Write the report as a web page, if there is a report."""
        from eb_dagster.pipeline.html_report import report_page, write_page

        if self.report is not None:
            write_page(report_page(self.report, plan=self.plan, price=self.price), page)
            self.page = page

    def _print_text(self, error: BaseException | None) -> None:
        # After an error, only what a run has spent is of interest.
        if self.report is not None and (error is None or self.report.requests):
            self._print(_table(self.report.facts(price=self.price)))
        elif self.plan is not None and error is None:
            self._print_plan(self.plan)
        if self.output is not None:
            self._print("written to stdout" if self.is_stdout_taken else f"written to {self.output}")
        if self.loaded is not None:
            self._print(self.loaded)
        if self.page is not None:
            self._print(f"report written to {self.page}")
        self._print_next_steps(error)

    def _print(self, text: str) -> None:
        click.echo(text, err=self.is_stdout_taken)

    def _print_plan(self, plan: Plan) -> None:
        self._print(_table(plan.facts(price=self.price)))
        for cell in self.explained or ():
            click.echo(f"row {cell['row']:,}, {cell['column']}: {cell['reason']}")

    def _print_json(self, error: BaseException | None) -> None:
        import json

        facts: dict[str, Any] = {
            "plan": self.plan and self.plan.to_dict(price=self.price),
            "explained": self.explained,
            "report": self.report and self.report.to_dict(price=self.price),
            "output": self.output and str(self.output),
            "loaded": self.loaded,
            "report_page": self.page and str(self.page),
            "error": error and {"type": type(error).__name__, "message": in_options(str(error))},
        }
        self._print_next_steps(error)
        known = {name: fact for name, fact in facts.items() if fact is not None}
        self._print(json.dumps(known, ensure_ascii=False))

    def _print_next_steps(self, error: BaseException | None) -> None:
        """Print to stderr what went wrong, and what to do about rows without an answer."""
        if error is not None:
            for step in after_error(error, self.report):
                self._say(step)
            return
        counts = self.report or self.plan
        phones = 0 if counts is None else counts.unusable.get("phone_no_region", 0)
        if phones:
            rows = "1 row has a phone number" if phones == 1 else f"{phones:,} rows have phone numbers"
            self._say(f"{rows} without a country code, which cannot be used: give --region")
        for step in after_run(self.report):
            self._say(step)

    def _say(self, text: str) -> None:
        ledger_option = ""
        # The address of a database may hold a password, so it is not repeated.
        if self.ledger is not None and "://" not in self.ledger:
            ledger_option = f" --ledger {shlex.quote(self.ledger)}"
        command = f"`eb-dagster ledger{ledger_option} "
        click.echo(in_options(text).replace("`eb-dagster ledger ", command), err=True)

    def _exit_code(self, error: BaseException | None) -> int:
        from eb_dagster.errors import ConfigError, InputError, LedgerError, OverBudget

        report = self.report
        if error is None:
            return 3 if report is not None and _has_open_rows(report) else 0
        # These errors come before anything is sent, but a ledger may also fail during the run.
        has_sent = report is not None and report.requests > 0
        comes_first = isinstance(error, ConfigError | InputError | LedgerError | OverBudget | Declined)
        return 2 if comes_first and not has_sent else 1


@contextmanager
def reporting_errors() -> Generator[None]:
    """Turn our errors into a message and exit code 2."""
    from eb_dagster.errors import EnrichError

    try:
        yield
    except EnrichError as error:
        click.echo(in_options(f"{type(error).__name__}: {error}"), err=True)
        sys.exit(2)
    except Declined as error:
        click.echo(str(error), err=True)
        sys.exit(2)


@contextmanager
def adding_what_was_spent(enricher: Enricher) -> Generator[None]:
    """Let an error say what the run has spent: what cannot be written at the end was bought all the same."""
    from eb_dagster.errors import NOTHING_SENT, EnrichError

    try:
        yield
    except EnrichError as error:
        if enricher.report.requests and error.spent == NOTHING_SENT:
            error.spent = enricher.report.spent
        raise


def _table(facts: Sequence[tuple[str, str]]) -> str:
    from eb_dagster.pipeline.facts import text_table

    return text_table(facts_in_options(facts))


def _has_open_rows(report: Report) -> bool:
    return bool(report.in_doubt or report.unreadable or report.not_asked)
