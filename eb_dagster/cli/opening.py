"""What a command says before it starts: from whom it buys, by which ledger, and what the caps leave."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eb_dagster.cli.targets import ledger_file

if TYPE_CHECKING:
    from eb_dagster.pipeline.opening import Opening
    from eb_dagster.settings import EnricherOptions

_EMPTY = (
    "so nothing counts as bought yet. If you have bought before, name that ledger with --ledger: this one would pay "
    "for everything again"
)


def tell_opening(opening: Opening, *, planned_without: Path | None = None) -> None:
    """Say it on stderr. A plan may have been made without the ledger, which is not there yet."""
    ledger = opening.ledger if planned_without is None else str(planned_without)
    _say(f"buys from: {opening.seller}")
    _say(f"ledger: {ledger}")
    _say(f"credits left: {opening.caps}")
    if planned_without is not None:
        _say(f"warning: there is no such ledger yet, {_EMPTY}")
    elif opening.is_ledger_empty:
        _say(f"warning: this ledger is new and empty, {_EMPTY}")


@contextlib.contextmanager
def planning_ledger(options: EnricherOptions) -> Generator[Path | None]:
    """Let a plan make no ledger: if there is none, `options` name one that is gone with the plan.

    Gives the file that is not there.
    """
    named = options.get("ledger")
    file = ledger_file(None if named is None else os.fspath(named))
    if file is None or file.exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="eb_dagster") as folder:
        options["ledger"] = Path(folder) / "ledger.db"
        yield file


def _say(text: str) -> None:
    click.echo(f"  {text}", err=True)
