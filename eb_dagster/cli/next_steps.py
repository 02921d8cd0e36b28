"""What to do after a run that left something open, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eb_dagster.cli.spelling import counted, counted_with_verb
from eb_dagster.cli.targets import Declined

if TYPE_CHECKING:
    from eb_dagster.pipeline.report import Report

_DECIDE: Final = "See `eb-dagster ledger show`, compare with the vendor's bill, then decide with `eb-dagster ledger resolve`"
_AGAIN: Final = (
    "Run the same command again for the rest: what was bought is in the ledger and is not paid for again"
)
# By a word of what the report says.
_CURES: Final = {
    "max_credits": f"{_AGAIN}; max_credits is for each run",
    "daily": f"From midnight UTC, or with a higher cap (`eb-dagster ledger cap --daily`): {_AGAIN[0].lower()}{_AGAIN[1:]}",
    "monthly": f"Next month, or with a higher cap (`eb-dagster ledger cap --monthly`): {_AGAIN[0].lower()}{_AGAIN[1:]}",
}


def after_error(error: BaseException, report: Report | None) -> list[str]:
    """What went wrong, and what to do."""
    if isinstance(error, Declined):
        return [str(error)]
    if isinstance(error, KeyboardInterrupt):
        return [_after_interruption(report)]
    steps = [f"{type(error).__name__}: {error}"]
    if report is not None and report.requests:
        steps.append(
            f"stopped before the end, so no table was written. Once that is settled: {_AGAIN[0].lower()}{_AGAIN[1:]}"
        )
    return steps


def _after_interruption(report: Report | None) -> str:
    if report is not None and report.credits_in_doubt:
        return (
            f"stopped before the end by you; {counted_with_verb(report.credits_in_doubt, 'credit')} in doubt: what was "
            f"in flight may have been charged, and is not asked again automatically. {_DECIDE}"
        )
    return f"stopped before the end by you, so no table was written. {_AGAIN}"


def after_run(report: Report | None) -> list[str]:
    """What to do about rows whose answer is not known."""
    steps: list[str] = []
    if report is None:
        return steps
    if report.in_doubt:
        rows = counted_with_verb(report.in_doubt, "row")
        steps.append(f"{rows} in doubt, perhaps charged, and not asked again automatically. {_DECIDE}")
    if report.unreadable:
        rows = counted_with_verb(report.unreadable, "row")
        steps.append(
            f"{rows} unreadable: the replies are kept. After an upgrade, `eb-dagster ledger reread` reads them "
            "again for nothing"
        )
    if report.not_asked:
        steps.append(_about_not_asked(report.stopped, report.not_asked))
    return steps


def _about_not_asked(why: str | None, rows: int) -> str:
    count = f"{counted(rows, 'row')} {'was' if rows == 1 else 'were'} not asked"
    if why is None:
        return f"{count}: an error stood in place of the answer. {_AGAIN}"
    cure = next((cure for word, cure in _CURES.items() if word in why), _AGAIN)
    return f"stopped before the end: {why}, and {count}. {cure}"
