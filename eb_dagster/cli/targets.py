"""What a command writes, checked before anything is bought. Nothing is written over that is not ours."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eb_dagster.cli.inputs import check_suffix

if TYPE_CHECKING:
    from eb_dagster.tables.object_store import Place

_PARQUET_START = b"PAR1"


class Declined(Exception):
    """A person said no."""

    def __str__(self) -> str:
        return "You said no. Nothing was sent"


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirm_replacing(path: Place, *, asks: bool) -> None:
    """Ask a person whether a file that is not ours may be replaced, or refuse."""
    from eb_dagster.errors import ConfigError

    if not asks:
        raise ConfigError(
            f"{path} is there, and this ledger did not write it; choose another name, move it away, or use --force"
        )
    if not click.confirm(f"{path} is there, and this ledger did not write it. Replace it?", err=True):
        raise Declined


def ledger_file(named: str | None) -> Path | None:
    """The file of the ledger as it is named; None if it is a database elsewhere."""
    from eb_dagster.ledger.connection import database_url, file_of
    from eb_dagster.settings import read_ledger

    return file_of(database_url(read_ledger(named)))


def check_targets(
    file: Place | None, output: Place | None, page: Path | None, *, ledger: Path | None = None
) -> None:
    """Refuse what cannot be written, and whatever would be written over the input, the ledger or a table."""
    from eb_dagster.errors import ConfigError
    from eb_dagster.tables.atomic_file import check_writable, files_of_ledger

    kept: list[tuple[str, Place]] = [] if file is None else [("the input", file)]
    if ledger is not None:
        kept += files_of_ledger(ledger)
    if output is not None:
        _check_no_folder(output, "contacts.csv")
        check_suffix(output)
        check_writable(output, kept=kept, makes_folder=False)
    if page is None:
        return
    _check_no_folder(page, "report.html")
    if _is_table(page):
        raise ConfigError(f"cannot write {page}: a report is a web page, not a table; name it .html")
    others = [] if output is None else [("the output", output)]
    check_writable(page, kept=[*others, *kept], makes_folder=False)


def check_replaced(output: Place | None, page: Path | None, *, ledger: str | None, asks: bool) -> None:
    """Refuse to replace a file that is not ours; on a terminal, ask."""
    from eb_dagster.pipeline.html_report import is_page

    if output is not None and output.exists() and not _has_published(ledger, output):
        confirm_replacing(output, asks=asks)
    if page is not None and page.exists() and not is_page(page):
        confirm_replacing(page, asks=asks)


def _has_published(named_ledger: str | None, path: Place) -> bool:
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.settings import read_ledger

    file = ledger_file(named_ledger)
    if file is not None and not file.exists():
        return False
    with closing(Ledger(read_ledger(named_ledger), endpoint="", must_exist=True)) as ledger:
        return ledger.publications.has(str(path.resolve()))


def _check_no_folder(target: Place, example: str) -> None:
    from eb_dagster.errors import ConfigError

    if isinstance(target, Path) and target.is_dir():
        raise ConfigError(
            f"cannot write {target}: it is a folder; name a file in it, such as {target / example}"
        )


def _is_table(path: Path) -> bool:
    from eb_dagster.tables import csv, excel, files, json_lines

    if files.suffix_of(path) in (*csv.SUFFIXES, *json_lines.SUFFIXES, excel.SUFFIX, files.PARQUET):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_PARQUET_START)) == _PARQUET_START
