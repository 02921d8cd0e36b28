"""`eb-dagster …`: the same enrichment from a shell.

Exit codes: 0 done · 1 stopped before the end, what was bought is in the ledger · 2 bad input or
settings, nothing was sent · 3 done, and some rows are in doubt, unreadable or not asked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eb_dagster import __version__
from eb_dagster.ledger_commands import ledger

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".csv", ".tsv", ".parquet")


@click.group()
@click.version_option(__version__, prog_name="eb-dagster")
def main() -> None:
    """Buy contacts for e-mails, phones and profiles from ExactBuyer, each once."""


main.add_command(ledger)


def _enrichment(command: Any) -> Any:
    options = [
        click.option("--ledger", help="Path or database URL. Default: $EB_DAGSTER_LEDGER."),
        click.option("--base-url", help="Default: $EXACTBUYER_BASE_URL, then the vendor's."),
        click.option("--required", "required_fields", multiple=True, help="A field that must be found; repeatable."),
        click.option("--region", "default_region", help="Country of phones without a country code, such as US."),
        click.option("--max-credits", type=click.IntRange(min=0), help="Spend no more than this."),
        click.option("--social-profile", multiple=True, help="Column of profile URLs; repeatable."),
        click.option("--email", multiple=True, help="Column of e-mail addresses; repeatable."),
        click.option("--phone", multiple=True, help="Column of phone numbers; repeatable."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return click.argument("file", type=click.Path(path_type=Path))(command)


@main.command()
@_enrichment
def plan(file: Path, **options: Any) -> None:
    """Show what enriching FILE (CSV, TSV or Parquet) would ask and cost. Sends nothing."""
    with _errors():
        frame = _read(file)
        with _enricher(options) as enricher:
            click.echo(enricher.plan(frame))


@main.command()
@_enrichment
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="CSV, TSV or Parquet.")  # fmt: skip
@click.option("--columns", multiple=True, help="Contact column to keep; repeatable. Default: all.")
def enrich(file: Path, output: Path, columns: tuple[str, ...], **options: Any) -> None:
    """Enrich FILE (CSV, TSV or Parquet) into OUTPUT, and print the report."""
    with _errors():
        _check_suffix(output)
        frame = None if _is_parquet(file) and _is_parquet(output) else _read(file)
        with _enricher({**options, "columns": columns or None}) as enricher:
            if frame is None:
                enricher.enrich_parquet(file, output)
            elif _is_parquet(output):
                enricher.check_target(output)
                table = enricher.to_table(enricher.enrich_dataframe(frame))
                enricher.write(table.to_reader(), output)
            else:
                _check_folder(output)
                _write_text(enricher.enrich_dataframe(frame), output)
        report = enricher.report
        click.echo(report)
        click.echo(f"written to {output}")
    if report.in_doubt or report.unreadable or report.not_asked:
        sys.exit(3)


@main.command()
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
    except KeyboardInterrupt:
        click.echo("stopped")


def _enricher(options: dict[str, Any]) -> Any:
    from eb_dagster.enrich import Enricher
    from eb_dagster.identifiers import FIELD_TYPES

    # Of the ways to name columns, the command line's order is the default order of asking.
    named = {kind: list(options.pop(kind)) for kind in FIELD_TYPES}
    identifiers = {kind: names for kind, names in named.items() if names}
    return Enricher(**options, identifiers=identifiers or None)  # pyright: ignore[reportArgumentType]


class _errors:  # noqa: N801 - reads as the function it stands for
    """Turns our errors into one clear line and an exit code."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        from eb_dagster.errors import ConfigError, EnrichError, InputError, LedgerError, OverBudget

        if isinstance(error, EnrichError):
            click.echo(f"{type(error).__name__}: {error}", err=True)
            nothing_sent = (ConfigError, InputError, LedgerError, OverBudget)
            sys.exit(2 if isinstance(error, nothing_sent) else 1)


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def _check_suffix(file: Path) -> None:
    from eb_dagster.errors import InputError

    if file.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{file.name}: only {', '.join(_SUFFIXES)} are read and written")


def _check_folder(file: Path) -> None:
    from eb_dagster.parquet import check_writable

    check_writable(file)


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    from eb_dagster.errors import InputError

    _check_suffix(file)
    if not file.is_file():
        raise InputError(f"there is no file {file.name}")
    try:
        if _is_parquet(file):
            return pd.read_parquet(file)
        # Everything as text: a phone number read as a number has lost its zeros and its plus.
        comma = "\t" if file.suffix.lower() == ".tsv" else ","
        text = {"dtype": str, "keep_default_na": False, "na_values": [""], "sep": comma}
        try:
            return pd.read_csv(file, encoding=_encoding(file), **text)
        except UnicodeDecodeError:
            return pd.read_csv(file, encoding="cp1252", **text)
    except (ValueError, OSError) as error:
        raise InputError(f"{file.name} cannot be read ({type(error).__name__})") from None


def _encoding(file: Path) -> str:
    with file.open("rb") as opened:
        start = opened.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _write_text(frame: pd.DataFrame, output: Path) -> None:
    """Write CSV that a spreadsheet opens without running it: formulas become text."""
    import os

    plain = frame.copy()
    added = [name for name in plain.columns if str(name).startswith("eb_")]
    for name in added:
        if plain[name].dtype.kind not in "biufM":
            plain[name] = plain[name].astype(object).map(_as_safe_text)
    temporary = output.with_name(f".{output.name}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as sink:
        plain.to_csv(sink, index=False, sep="\t" if output.suffix.lower() == ".tsv" else ",")
        sink.flush()
        os.fsync(sink.fileno())
    temporary.replace(output)


def _as_safe_text(cell: object) -> object:
    import json

    if hasattr(cell, "tolist"):
        return json.dumps(cell.tolist(), ensure_ascii=False)
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell
