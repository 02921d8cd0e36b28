"""`eb-dagster …`: the same enrichment from a shell.

The plan, the report, or with --json one JSON object go to stdout; everything else to stderr. What is
slow to import is imported where it is used, so that --help answers at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import click

from eb_dagster import __version__
from eb_dagster.cli.ledger import (
    Declined,
    force_option,
    is_terminal,
    ledger,
    may_replace,
    reading_options,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from eb_dagster.enricher import Enricher
    from eb_dagster.identifiers.model import FieldType
    from eb_dagster.pipeline.plan import Plan
    from eb_dagster.pipeline.report import Report
    from eb_dagster.tables.csv import TextTable
    from eb_dagster.tables.object_store import Place
    from eb_dagster.tables.source import Source

_PLANNED_ROWS: Final = 1_000_000
"""A plan reads every row. Beyond this, its bound is the rows: no row costs more than one credit."""

EXIT_CODES: Final = {
    0: "done",
    1: "stopped before the end; what was bought is in the ledger, so run it again",
    2: "nothing was sent: bad input or settings, or you said no",
    3: "done, and some rows are in doubt, unreadable or not asked",
}
_EPILOG: Final = f"""\b
Exit codes:
{chr(10).join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())}
\b
Completion of commands, options and column names, for bash (zsh and fish likewise):
  eval "$(_EB_DAGSTER_COMPLETE=bash_source eb-dagster)"
"""


@click.group(epilog=_EPILOG)
@click.version_option(__version__, prog_name="eb-dagster")
def main() -> None:
    """Buy contacts for e-mails, phones and profiles from ExactBuyer, each once."""


main.add_command(ledger)


# The options


class _PlaceType(click.Path):
    """A path, or the address of an object."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from eb_dagster.errors import ConfigError
        from eb_dagster.tables.object_store import place

        try:
            return place(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def _split_names(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[str]:
    """Names that are repeated, or separated by commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _complete_columns(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from eb_dagster.contacts.schema import CONTACT_COLUMNS

    return _complete([one.name for one in CONTACT_COLUMNS], incomplete)


def _complete_fields(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from eb_dagster.api.envelope import REQUIRED_FIELDS

    return _complete(REQUIRED_FIELDS, incomplete)


def _complete(known: Sequence[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in known if name.startswith(last)]


def _without_password(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and "@" in value:
        raise click.BadParameter(
            "whoever uses this machine can read the password on a command line; put the address into "
            "EB_DAGSTER_PROXY instead",
            param=param,
        )
    return value


def _enrichment(command: Any) -> Any:
    options: list[Any] = [
        click.option("--social-profile", multiple=True, metavar="COLUMN", help="Column of profile URLs; repeatable."),
        click.option("--email", multiple=True, metavar="COLUMN", help="Column of e-mail addresses; repeatable."),
        click.option("--phone", multiple=True, metavar="COLUMN", help="Column of phone numbers; repeatable."),
        click.option("--name", metavar="COLUMN", help="Column of full names: compared here, never sent."),
        click.option("--first-name", metavar="COLUMN", help="Column of first names, in place of --name."),
        click.option("--last-name", metavar="COLUMN", help="Column of last names, in place of --name."),
        click.option("--company", metavar="COLUMN", help="Column of companies: tells people of one name apart."),
        click.option("--region", "default_region", metavar="US", help="Country of phones without a country code."),
        click.option("--required", "required_fields", multiple=True, metavar="FIELD,…", callback=_split_names, shell_complete=_complete_fields, help="Fields that a contact must have to be found (and paid for)."),
        click.option("--max-credits", type=click.IntRange(min=0), help="Spend no more than this."),
        click.option("--over-budget", type=click.Choice(["stop", "refuse"]), default="stop", show_default=True, help="Above --max-credits: buy up to it, or nothing."),
        click.option("--max-age-days", type=click.IntRange(min=1), metavar="DAYS", help="Buy again what is older. Default: never."),
        click.option("--retry-misses-after", type=click.IntRange(min=1), metavar="DAYS", help="Ask again what was not found that long ago. Default: never."),
        click.option("--in-doubt", type=click.Choice(["hold", "resend"]), default="hold", show_default=True, help="What may have been paid for without an answer."),
        click.option("--accept-clock", is_flag=True, help="Buy although the clock is far off the ledger's or the API's."),
        click.option("--requests-per-minute", type=click.FloatRange(min=0, min_open=True), default=198.0, show_default=True, help="The vendor refuses above 200."),
        click.option("--price", type=click.FloatRange(min=0), metavar="0.05", help="Price of one credit: costs are shown in money."),
        *reading_options,
        click.option("--ledger", metavar="PATH|URL", help="Default: $EB_DAGSTER_LEDGER, then your data folder."),
        click.option("--base-url", metavar="URL", help="Default: $EXACTBUYER_BASE_URL, then the vendor's."),
        click.option("--proxy", metavar="URL", callback=_without_password, help="http://host:port. Default: $EB_DAGSTER_PROXY, then none."),
        click.option("--ca-bundle", metavar="FILE.pem", help="Authorities to trust too. Default: $EB_DAGSTER_CA_BUNDLE, then none."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return click.argument("file", type=_PlaceType())(command)


# The commands


@main.command(
    short_help="Show what enriching a file would ask and cost.",
    epilog='For example: eb-dagster plan leads.csv --email "Work Email" --price 0.05',
)
@click.option(
    "--explain", is_flag=True, help="List every cell that is not used or not asked, and why; no values."
)
@_enrichment
def plan(
    file: Place,
    explain: bool,
    encoding: str | None,
    separator: str | None,
    header_line: int | None,
    price: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what enriching FILE (CSV, TSV or Parquet) would ask and cost. Sends nothing."""
    with _Outcome(as_json=as_json, price=price, ledger=options["ledger"]) as outcome:
        if not os.environ.get("EXACTBUYER_API_KEY", "").strip():
            # Nothing is sent, so there need be no key; this one is none.
            options["api_key"] = "no-key"
        table = _open_table(file, encoding=encoding, separator=separator, header_line=header_line)
        with _enricher(table, options) as enricher:
            outcome.plan = enricher.plan(table.reader())
            if explain:
                outcome.explained = enricher.explain(table.reader()).to_pylist()


@main.command(
    short_help="Enrich a CSV, TSV or Parquet file.",
    epilog="For example: eb-dagster enrich leads.csv -o contacts.parquet --max-credits 5000\n\n"
    "A run that was stopped is finished by running it again: what was bought is in the ledger.",
)
@click.option("-o", "--output", type=_PlaceType(), required=True, help="CSV, TSV or Parquet.")  # fmt: skip
@click.option("--columns", multiple=True, metavar="COLUMN,…", callback=_split_names, shell_complete=_complete_columns, help="Contact columns to keep. Default: all.")  # fmt: skip
@click.option("--lists", type=click.Choice(["list", "json"]), default="list", show_default=True, help="Lists in a Parquet table: as they are, or as JSON text. A CSV has JSON.")  # fmt: skip
@click.option("--prefix", default="eb_", show_default=True, help="Start of the names of added columns.")
@click.option("--report", "page", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page with plots; no people are in it.")  # fmt: skip
@click.option("--confirm-above", type=click.IntRange(min=0), metavar="CREDITS", default=1000, show_default=True, help="On a terminal, ask before spending more.")  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@force_option
@_enrichment
def enrich(
    file: Place,
    output: Place,
    page: Path | None,
    encoding: str | None,
    separator: str | None,
    header_line: int | None,
    price: float | None,
    as_json: bool,
    confirm_above: int,
    yes: bool,
    force: bool,
    **options: Any,
) -> None:
    """Enrich FILE (CSV, TSV or Parquet) into OUTPUT, and print the report."""
    from eb_dagster.pipeline.progress import shell_display

    with _Outcome(as_json=as_json, price=price, ledger=options["ledger"]) as outcome:
        asks = not yes and is_terminal()
        _check_targets(file, output, page, ledger=_ledger_file(options["ledger"]))
        if not force:
            _check_replaced(output, page, ledger=options["ledger"], asks=asks)
        table = _open_table(file, encoding=encoding, separator=separator, header_line=header_line)
        if _is_parquet(output):
            _check_names(table)
        bar = shell_display(table.rows, max_credits=options["max_credits"], say=_write_line)
        with _enricher(table, options, progress=bar) as enricher:
            if _is_parquet(output):
                enricher.check_target(output)
            if (asks or as_json or bar.is_live) and table.rows <= _PLANNED_ROWS:
                outcome.plan = enricher.plan(table.reader())
                bar.expect(table.rows, outcome.plan)
            if asks:
                _confirm(outcome.plan, table.rows, options["max_credits"], above=confirm_above, price=price)
            try:
                with bar:
                    enricher.on_stopping = bar.say
                    with _telling_spent(enricher):
                        _write(enricher, table, output, prefix=options["prefix"])
                outcome.output = output
            finally:
                outcome.report = enricher.report
                # Before the report is read: what a signal has stopped in mid-writing is still in flight.
                enricher.close()
                if page is not None and (outcome.output or outcome.report.requests):
                    with _telling_spent(enricher):
                        _write_page(page, outcome)
                    outcome.page = page


@main.command(short_help="Run a local stand-in for the API.")
@click.option("--port", default=8765, show_default=True)
@click.option("--bill", type=click.Path(path_type=Path), default=Path("sandbox-bill.db"), show_default=True, help="SQLite file of every charge.")  # fmt: skip
@click.option("--credits", "credit", type=click.IntRange(min=0), help="Credits there are. Default: any number.")  # fmt: skip
@click.option("--requests-per-minute", default=200, show_default=True)
@click.option("--latency", default=0.0, show_default=True, help="Seconds for each request.")
@click.option("--match-rate", default=0.7, show_default=True)
@click.option("--fault", multiple=True, metavar="KIND@N[-M]", help="What goes wrong with the N-th request; repeatable.")  # fmt: skip
def sandbox(port: int, bill: Path, credit: int | None, fault: tuple[str, ...], **options: Any) -> None:
    """Run a local stand-in for the API, billing and all. Its people are made up."""
    import threading

    from eb_dagster import sandbox as stand_in

    try:
        faults = [stand_in.Fault.parse(text) for text in fault]
        with stand_in.running(port=port, bill=bill, credits=credit, faults=faults, **options) as it:
            click.echo(f"listening on {it.url}; every charge is in {bill}; stop with Ctrl-C")
            click.echo(f"  export EXACTBUYER_BASE_URL={it.url} EXACTBUYER_API_KEY=sandbox")
            threading.Event().wait()
    except (ImportError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{error.strerror}".replace("another port", "another --port")) from None
    except KeyboardInterrupt:
        click.echo("stopped")


# What a command tells at its end


class _Outcome:
    """Prints what is known at the end, in words or as JSON, and turns our errors into exit codes."""

    def __init__(self, *, as_json: bool, price: float | None, ledger: str | None) -> None:
        self._as_json, self.price, self._ledger = as_json, price, ledger
        self.plan: Plan | None = None
        self.explained: Sequence[Mapping[str, Any]] | None = None
        self.report: Report | None = None
        self.output: Place | None = None
        self.page: Path | None = None
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> Self:
        self._warnings.__enter__()
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from eb_dagster.errors import EnrichError

        self._warnings.__exit__(kind, error, trace)
        if error is not None and not isinstance(error, EnrichError | KeyboardInterrupt | Declined):
            return
        if self._as_json:
            self._print_json(error)
        else:
            self._print_words(error)
        sys.exit(self._exit_code(error))

    def _print_words(self, error: BaseException | None) -> None:
        from eb_dagster.pipeline.facts import text_table

        # After an error, only what a run has spent is of interest.
        if self.report is not None and (error is None or self.report.requests):
            click.echo(text_table(_facts_in_options(self.report.facts(price=self.price))))
        elif self.plan is not None and error is None:
            click.echo(text_table(_facts_in_options(self.plan.facts(price=self.price))))
            for one in self.explained or ():
                click.echo(f"row {one['row']:,}, {one['column']}: {one['reason']}")
        if self.output is not None:
            click.echo(f"written to {self.output}")
        if self.page is not None:
            click.echo(f"report written to {self.page}")
        self._print_last(error)

    def _print_last(self, error: BaseException | None) -> None:
        """What went wrong, and what to do about what is not known; on stderr."""
        if error is not None:
            self._tell(_say(error, self.report))
            return
        counts = self.report or self.plan
        if counts is not None and (phones := counts.unusable.get("phone_no_region", 0)):
            are = "row has a phone number" if phones == 1 else "rows have phone numbers"
            self._tell(f"{phones:,} {are} without a country code, which cannot be used: give --region")
        if self.report is not None:
            for step in _next_steps(self.report):
                self._tell(step)

    def _tell(self, text: str) -> None:
        named = ""
        # The address of a database may hold a password.
        if self._ledger is not None and "://" not in self._ledger:
            named = f" --ledger {shlex.quote(self._ledger)}"
        click.echo(_in_options(text).replace("`eb-dagster ledger ", f"`eb-dagster ledger{named} "), err=True)

    def _print_json(self, error: BaseException | None) -> None:
        import json

        whole: dict[str, Any] = {}
        if self.plan is not None:
            whole["plan"] = self.plan.to_dict(price=self.price)
        if self.explained is not None:
            whole["explained"] = self.explained
        if self.report is not None:
            whole["report"] = self.report.to_dict(price=self.price)
        if self.output is not None:
            whole["output"] = str(self.output)
        if self.page is not None:
            whole["report_page"] = str(self.page)
        if error is not None:
            whole["error"] = {
                "type": type(error).__name__,
                "message": _in_options(str(error)),
            }
        self._print_last(error)
        click.echo(json.dumps(whole, ensure_ascii=False))

    def _exit_code(self, error: BaseException | None) -> int:
        from eb_dagster.errors import ConfigError, InputError, LedgerError, OverBudget

        report = self.report
        if error is not None:
            # The ledger may also fail in the middle.
            sent = report is not None and report.requests > 0
            before = isinstance(error, ConfigError | InputError | LedgerError | OverBudget | Declined)
            return 2 if before and not sent else 1
        return 3 if report is not None and report.in_doubt + report.unreadable + report.not_asked else 0


def _say(error: BaseException, report: Report | None) -> str:
    if isinstance(error, Declined):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        if report is not None and report.credits_in_doubt:
            return (
                f"stopped; {_counted(report.credits_in_doubt, 'credit')} in doubt: what was in flight may have "
                f"been charged, and is not asked again by itself. {_DECIDE}"
            )
        return "stopped; what was bought is in the ledger, so running it again asks only for the rest"
    return f"{type(error).__name__}: {error}"


_DECIDE: Final = "See `eb-dagster ledger show`, compare with the vendor's bill, then decide with `eb-dagster ledger resolve`"


def _next_steps(report: Report) -> list[str]:
    """What to do about rows whose answer is not known."""
    steps: list[str] = []
    if report.in_doubt:
        what = f"{_counted(report.in_doubt, 'row')} in doubt, which may have been charged, and not asked again by itself"
        steps.append(f"{what}. {_DECIDE}")
    if report.unreadable:
        what = f"{_counted(report.unreadable, 'row')} unreadable: the replies are kept"
        steps.append(f"{what}. After an upgrade, `eb-dagster ledger reread` reads them again for nothing")
    if report.not_asked:
        what = "1 row was" if report.not_asked == 1 else f"{report.not_asked:,} rows were"
        why = f" ({report.stopped})" if report.stopped else ""
        steps.append(f"{what} not asked{why}. Another run asks the rest: what was bought is in the ledger")
    return steps


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count:,} {what}s are"


def _show_warning(message: Warning | str, *_: Any) -> None:
    click.echo(f"note: {_in_options(str(message))}", err=True)


# How the shell calls what is a keyword in Python.
_IN_OPTIONS: Final = {
    "over_budget": "--over-budget",
    "max_credits": "--max-credits",
    "max_age": "--max-age-days",
    "retry_misses_after": "--retry-misses-after",
    "in_doubt": "--in-doubt",
    "accept_clock": "--accept-clock",
    "requests_per_minute": "--requests-per-minute",
    "required_fields": "--required",
    "default_region": "--region",
    "columns:": "--columns:",
    "base_url": "--base-url or EXACTBUYER_BASE_URL",
    "set proxy=… or EB_DAGSTER_PROXY": "set --proxy or EB_DAGSTER_PROXY",
    "ca_bundle": "--ca-bundle or EB_DAGSTER_CA_BUNDLE",
    "pass api_key=… or set EXACTBUYER_API_KEY": "set EXACTBUYER_API_KEY",
    "api_key": "EXACTBUYER_API_KEY",
    "prefix is": "--prefix is",
    "choose another prefix": "choose another --prefix",
}
_KEYWORD: Final = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _IN_OPTIONS))})(?!\w)(?:=(?=[\w\"']))?")


def _in_options(text: str) -> str:
    """A message that names keywords, as the shell spells them."""
    return _KEYWORD.sub(lambda found: _IN_OPTIONS[found[0].rstrip("=")] + " " * found[0].endswith("="), text)


def _facts_in_options(facts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(_in_options(name), _in_options(value)) for name, value in facts]


# What goes in


class _Table(Protocol):
    """A file of leads."""

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def notes(self) -> list[str]: ...
    def reader(self) -> Source: ...
    def samples(self) -> dict[str, list[str]]: ...


@dataclass(frozen=True)
class _ParquetTable:
    file: Place
    columns: tuple[str, ...]
    rows: int
    notes: list[str]

    @staticmethod
    def open(file: Place) -> _ParquetTable:
        from eb_dagster.tables.parquet import open_parquet

        with open_parquet(file) as opened:
            return _ParquetTable(file, tuple(opened.schema_arrow.names), opened.metadata.num_rows, [])

    def reader(self) -> Source:
        from eb_dagster.tables.parquet import parquet_source

        return parquet_source(self.file)

    def samples(self) -> dict[str, list[str]]:
        """The first texts of each column."""
        first: Any = next(self.reader().batches(), None)
        if first is None:
            return {}
        texts = [field.name for field in first.schema if str(field.type) in ("string", "large_string")]
        held: dict[str, list[str | None]] = first.slice(0, 200).select(texts).to_pydict()
        return {name: [cell for cell in cells if cell is not None] for name, cells in held.items()}


def _open_table(
    file: Place, *, encoding: str | None, separator: str | None, header_line: int | None = None
) -> _Table:
    from eb_dagster.errors import InputError
    from eb_dagster.tables.csv import TextTable

    if isinstance(file, Path) and file.is_dir():
        raise InputError(f"{file} is a folder; name a file in it")
    _check_suffix(file)
    if not file.is_file():
        raise InputError(f"there is no file {file.name}; check the path")
    if isinstance(file, Path) and not _is_parquet(file):
        table: _Table = TextTable(file, encoding=encoding, separator=separator, header_line=header_line)
    else:
        table = _ParquetTable.open(file)
    click.echo(f"{file.name}: {'1 row' if table.rows == 1 else f'{table.rows:,} rows'}", err=True)
    for note in table.notes:
        click.echo(f"  {note}", err=True)
    return table


def _is_parquet(file: Place) -> bool:
    return file.suffix.lower() == ".parquet"


def _check_suffix(file: Place) -> None:
    from eb_dagster.errors import InputError
    from eb_dagster.tables.csv import SUFFIXES

    known = (*SUFFIXES, ".parquet")
    if file.suffix.lower() not in known:
        hint = "save it as CSV UTF-8" if file.suffix.lower().startswith(".xls") else "choose another ending"
        raise InputError(f"{file.name}: only {', '.join(known)} are read and written; {hint}")
    if not isinstance(file, Path) and not _is_parquet(file):
        raise InputError(f"{file.name}: in an object store, only .parquet is read and written; choose it")


def _check_names(table: _Table) -> None:
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.model import listed

    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice:
        raise InputError(
            f"more than one column is called [{listed(twice)}], which a Parquet table cannot have; rename one, or write CSV"
        )


def _enricher(table: _Table, options: Mapping[str, Any], **others: Any) -> Enricher:
    from eb_dagster.enricher import Enricher
    from eb_dagster.identifiers.model import FIELD_TYPES, check_person_columns, find_layout, suggest
    from eb_dagster.settings import PERSON_PARTS

    settings = dict(options)
    # Of the ways to name columns, the command line's order is the default order of asking.
    named: dict[FieldType, list[str]] = {kind: [*settings.pop(kind)] for kind in FIELD_TYPES}
    identifiers: dict[FieldType, list[str]] = {kind: names for kind, names in named.items() if names}
    samples = table.samples()

    def show(likely: Mapping[FieldType, Sequence[str]]) -> str:
        return _as_options(suggest(table.columns, samples) or likely)

    layout = find_layout(table.columns, identifiers or None, show=show)
    settings["max_age"] = _days(settings.pop("max_age_days"))
    settings["retry_misses_after"] = _days(settings["retry_misses_after"])
    settings["columns"] = settings.get("columns") or None
    person = {part: column for part in PERSON_PARTS if (column := settings.pop(part)) is not None}
    settings["person"] = person or None
    check_person_columns(table.columns, person)
    new = _new_ledger(settings["ledger"])
    enricher = Enricher(**settings, identifiers=identifiers or None, **others)
    if new is not None:
        click.echo(f"  new, empty ledger {new}", err=True)
    steps = [f"{name!r} ({kind})" for kind, name in layout.columns] or ["'value' of each row"]
    click.echo(f"  asks {', then '.join(steps)}", err=True)
    likely = suggest([name for name in table.columns if name not in layout.names], samples)
    if likely and layout.shape == "wide":
        click.echo(f"  not asked, though it looks like one: {_as_options(likely)}", err=True)
    return enricher


def _days(count: int | None) -> timedelta | None:
    from datetime import timedelta

    return None if count is None else timedelta(days=count)


def _ledger_file(named: str | None) -> Path | None:
    from eb_dagster.ledger.connection import database_url, file_of
    from eb_dagster.settings import read_ledger

    return file_of(database_url(read_ledger(named)))


def _new_ledger(named: str | None) -> str | None:
    """The ledger's file, as it was named, if there is none yet."""
    from eb_dagster.settings import read_ledger

    file = _ledger_file(named)
    return None if file is None or file.exists() else str(read_ledger(named))


def _as_options(named: Mapping[FieldType, Sequence[str]]) -> str:
    return " ".join(
        f"--{kind.replace('_', '-')} {_quoted(name)}" for kind, names in named.items() for name in names
    )


def _quoted(name: str) -> str:
    if re.fullmatch(r"[\w.…-]+", name):
        return name
    # Double quotes are known to every shell; only if something inside them is not do it its way.
    return shlex.quote(name) if re.search(r'["$`\\!%]', name) else f'"{name}"'


# What goes out


def _check_targets(file: Place, output: Place, page: Path | None, *, ledger: Path | None = None) -> None:
    from eb_dagster.errors import ConfigError
    from eb_dagster.tables.atomic_file import check_writable, files_of_ledger

    _check_no_folder(output, "contacts.csv")
    _check_suffix(output)
    kept: list[tuple[str, Place]] = [
        ("the input", file),
        *([] if ledger is None else files_of_ledger(ledger)),
    ]
    check_writable(output, kept=kept, makes_folder=False)
    if page is not None:
        _check_no_folder(page, "report.html")
        if _is_table(page):
            raise ConfigError(f"cannot write {page}: a report is a web page, not a table; name it .html")
        check_writable(page, kept=[("the output", output), *kept], makes_folder=False)


def _check_no_folder(target: Place, example: str) -> None:
    from eb_dagster.errors import ConfigError

    if isinstance(target, Path) and target.is_dir():
        raise ConfigError(
            f"cannot write {target}: it is a folder; name a file in it, such as {target / example}"
        )


def _is_table(path: Path) -> bool:
    from eb_dagster.tables.csv import SUFFIXES

    if path.suffix.lower() in (*SUFFIXES, ".parquet"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _check_replaced(output: Place, page: Path | None, *, ledger: str | None, asks: bool) -> None:
    """Refuse to replace what is not ours; on a terminal, ask."""
    from eb_dagster.pipeline.html_report import is_page

    if output.exists() and not _has_published(ledger, output):
        may_replace(output, asks=asks)
    if page is not None and page.exists() and not is_page(page):
        may_replace(page, asks=asks)


def _has_published(ledger: str | None, path: Place) -> bool:
    from contextlib import closing

    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.settings import read_ledger

    if _new_ledger(ledger) is not None:
        return False
    with closing(Ledger(read_ledger(ledger), endpoint="", must_exist=True)) as it:
        return it.has_published(str(path.resolve()))


def _write(enricher: Enricher, table: _Table, output: Place, *, prefix: str) -> None:
    from eb_dagster.contacts.schema import arrow_schema
    from eb_dagster.tables.csv import TextTable, write_text

    if isinstance(table, _ParquetTable) and _is_parquet(output):
        enricher.enrich_parquet(table.file, output)
        return
    reader = enricher.enrich_batches(table.reader())
    if _is_parquet(output):
        enricher.write(reader, output)
        return
    # Before it is there, so that `forget` knows of it.
    enricher.note_published(output)
    revise = enricher.revisions(reader.schema)
    source: TextTable | None = table if isinstance(table, TextTable) else None
    like_input = "," if source is None or source.separator == "\t" else source.separator
    names = reader.schema.names
    write_text(
        reader,
        output,
        columns=names,
        ours=set(arrow_schema(prefix=prefix, with_agrees=True).names) - set(table.columns),
        # Whoever opens semicolons today opens the result in the same spreadsheet.
        separator="\t" if output.suffix.lower() in (".tsv", ".txt") else like_input,
        has_mark=source is not None and source.is_from_spreadsheet,
        revise=revise,
    )


@contextlib.contextmanager
def _telling_spent(enricher: Enricher) -> Generator[None]:
    """What cannot be written at the end was bought all the same."""
    from eb_dagster.errors import NOTHING_SENT, EnrichError

    try:
        yield
    except EnrichError as error:
        if enricher.report.requests and error.spent == NOTHING_SENT:
            error.spent = enricher.report.spent
        raise


def _write_line(text: str) -> None:
    click.echo(text, err=True)


def _write_page(page: Path, outcome: _Outcome) -> None:
    from eb_dagster.pipeline.html_report import report_page, write_page

    if outcome.report is not None:
        write_page(report_page(outcome.report, plan=outcome.plan, price=outcome.price), page)


def _confirm(plan: Plan | None, rows: int, cap: int | None, *, above: int, price: float | None) -> None:
    from eb_dagster.pipeline.facts import money

    most = rows if plan is None else plan.spends_at_most
    most = most if cap is None else min(most, cap)
    if most <= above:
        return
    cost = "" if price is None else f", {money(most, price)}"
    if not click.confirm(f"This buys up to {most:,} contacts{cost}. Go on?", err=True):
        raise Declined
