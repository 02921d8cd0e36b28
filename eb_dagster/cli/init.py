"""`eb-dagster init`: look at a file of leads, ask what cannot be known, and write `exactbuyer.toml`."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eb_dagster.cli.inputs import InputTable, Reading, open_table
from eb_dagster.cli.options import PlaceType, price_option
from eb_dagster.cli.outcome import reporting_errors
from eb_dagster.cli.spelling import counted
from eb_dagster.cli.targets import Declined, is_terminal
from eb_dagster.settings.environment import KEY_VARIABLE

if TYPE_CHECKING:
    from eb_dagster.identifiers.model import FieldType
    from eb_dagster.tables.object_store import Place

_WORDS: Final = {
    "social_profile": "profile URLs (such as linkedin.com/in/…)",
    "email": "e-mail addresses",
    "phone": "phone numbers",
}
# Regions are only hinted at: a number may fit several.
_REGIONS: Final = ("US", "GB", "DE", "FR", "NL", "ES", "IT", "CH", "AT", "AU", "IN", "BR")
_MOST_HINTS: Final = 3


@dataclass
class _Answers:
    """What goes into the file."""

    identifiers: dict[FieldType, list[str]]
    region: str | None = None
    price: float | None = None
    max_credits: int | None = None


@click.command(
    short_help="Look at a file of leads and write exactbuyer.toml.",
    epilog="For example: eb-dagster init leads.csv, then eb-dagster doctor, then eb-dagster plan leads.csv",
)
@click.argument("file", type=PlaceType())
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    default=Path("exactbuyer.toml"),
    show_default=True,
    help="File to write.",
)
@click.option(
    "--region", metavar="US", help="Two-letter country of the phone numbers without a country code."
)
@price_option("Price of one credit.")
@click.option("--max-credits", type=click.IntRange(min=0), help="Credits that one run may spend.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask: take what was found in FILE, and these options.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(
    file: Place,
    config_file: Path,
    region: str | None,
    price: float | None,
    max_credits: int | None,
    yes: bool,
    force: bool,
) -> None:
    """Look at FILE (CSV, TSV or Parquet), propose its columns, ask for the rest, and write exactbuyer.toml.

    The commands and `Enricher.from_config()` read it from the working directory. It never holds a key.
    """
    asks = not yes and is_terminal()
    with reporting_errors():
        if config_file.exists() and not force:
            _confirm_replacing(config_file, asks=asks)
        table = open_table(file, Reading())
        answers = _Answers(_proposed(table), region, price, max_credits)
        if asks:
            _ask(answers, table)
        elif answers.region is None and _tell_numbers_without_code(
            table, answers.identifiers.get("phone", ())
        ):
            click.echo(
                "They are not used; to use them, name their country with --region (and --force, to replace this file).",
                err=True,
            )
        _write(answers, config_file, table)
    if not asks:
        # Nobody has seen them yet.
        for kind, columns in answers.identifiers.items():
            click.echo(f"{_WORDS[kind].partition(' (')[0]}: {', '.join(columns)}", err=True)
    key = "" if os.environ.get(KEY_VARIABLE) else f"set {KEY_VARIABLE}, then "
    click.echo(f"written to {config_file}. Next: {key}eb-dagster doctor, then")
    click.echo(f"  eb-dagster plan {file}")


def _confirm_replacing(config_file: Path, *, asks: bool) -> None:
    from eb_dagster.errors import ConfigError

    if not asks:
        raise ConfigError(f"{config_file} is there; choose another --config, or replace it with --force")
    if not click.confirm(f"{config_file} is there. Replace it?", err=True):
        raise Declined


def _proposed(table: InputTable) -> dict[FieldType, list[str]]:
    """The columns that are recognized or look like identifiers, by kind."""
    from eb_dagster.errors import InputError
    from eb_dagster.identifiers.columns import find_layout, suggest

    samples = table.samples()
    found: dict[FieldType, list[str]] = {}
    try:
        layout = find_layout(table.columns, None)
    except InputError:
        pass
    else:
        if layout.shape == "long":
            raise InputError(
                "this file has the columns field_type and value, which every command reads without settings; run "
                "eb-dagster plan on it"
            )
        for kind, name in layout.columns:
            found.setdefault(kind, []).append(name)
    likely = suggest(
        [name for name in table.columns if not any(name in names for names in found.values())], samples
    )
    for kind, names in likely.items():
        found.setdefault(kind, []).extend(names)
    return found


def _ask(answers: _Answers, table: InputTable) -> None:
    click.echo(
        "Columns to look people up by, in the order of asking; more than one with commas between them.",
        err=True,
    )
    identifiers: dict[FieldType, list[str]] = {}
    kinds: tuple[FieldType, ...] = ("social_profile", "email", "phone")
    for kind in kinds:
        names = _ask_columns(f"  {_WORDS[kind]}", answers.identifiers.get(kind, []), table)
        if names:
            identifiers[kind] = names
    answers.identifiers = identifiers
    if answers.region is None and _tell_numbers_without_code(table, identifiers.get("phone", ())):
        answers.region = _ask_region()
    if answers.price is None:
        answers.price = _ask_number("Price of one credit (- if you do not know)", float)
    if answers.max_credits is None:
        most = _ask_number("Credits that one run may spend at most (- for no cap)", int, default=table.rows)
        answers.max_credits = None if most is None else int(most)


def _ask_columns(words: str, proposed: Sequence[str], table: InputTable) -> list[str]:
    """Names of columns. A dash stands for none."""
    while True:
        text: str = click.prompt(words, default=", ".join(proposed) or "-", err=True)
        if text in table.columns:
            return [text]
        names = [name.strip() for name in text.split(",") if name.strip() not in ("", "-")]
        unknown = [name for name in names if name not in table.columns]
        if not unknown:
            return names
        click.echo(f"    {_not_there(unknown[0], table.columns)}", err=True)


def _not_there(name: str, columns: Sequence[str]) -> str:
    from eb_dagster.errors import closest
    from eb_dagster.identifiers.columns import listed

    meant = closest(name, columns)
    hint = f"did you mean {listed([meant])}?" if meant else f"there are {listed(columns)}"
    return f"the file has no such column; {hint} A dash stands for none"


def _tell_numbers_without_code(table: InputTable, columns: Sequence[str]) -> bool:
    """Say how many of the first phone numbers have no country code. Returns whether any has none.

    Says too how many a spreadsheet has rounded: no country helps those.
    """
    samples = table.samples()
    texts = [text for name in columns for text in samples.get(name, ())]
    rounded = sum("phone_spreadsheet_number" in _faults_of_phone(text) for text in texts)
    if rounded:
        have = "was" if rounded == 1 else "were"
        click.echo(
            f"{counted(rounded, 'phone number')} among the first rows {have} rounded by a spreadsheet: the last digits "
            "are gone, and nobody is asked by them. Export that column as text.",
            err=True,
        )
    numbers = [text for text in texts if "phone_no_region" in _faults_of_phone(text)]
    if not numbers:
        return False
    hints = _fitting_regions(numbers)
    fits = f"; they fit {', '.join(hints)}" if hints else ""
    have = "has" if len(numbers) == 1 else "have"
    click.echo(
        f"{counted(len(numbers), 'phone number')} among the first rows {have} no country code{fits}.",
        err=True,
    )
    return True


def _faults_of_phone(text: str) -> Sequence[str]:
    from eb_dagster.identifiers.cells import read_cell

    return read_cell("phone", text, default_region=None)[1]


def _ask_region() -> str | None:
    from eb_dagster.errors import ConfigError
    from eb_dagster.identifiers.phone import check_region

    while True:
        text: str = click.prompt(
            "  Their country, in two letters such as US (- not to use them)", default="-", err=True
        )
        if text == "-":
            return None
        try:
            return check_region(text.upper())
        except ConfigError:
            click.echo("    that is not a country; give two letters, such as US", err=True)


def _fitting_regions(numbers: Sequence[str]) -> list[str]:
    """Regions in which most of the numbers could be."""
    from eb_dagster.identifiers.cells import read_cell

    fitting: dict[str, int] = {}
    for region in _REGIONS:
        count = sum(bool(read_cell("phone", number, default_region=region)[0]) for number in numbers)
        if 2 * count > len(numbers):
            fitting[region] = count
    return sorted(fitting, key=lambda region: -fitting[region])[:_MOST_HINTS]


_THOUSANDS: Final = re.compile(r"\d{1,3}(,\d{3})+")


def _ask_number(words: str, kind: type[int] | type[float], *, default: int | None = None) -> float | None:
    while True:
        text: str = click.prompt(words, default="-" if default is None else str(default), err=True)
        if text == "-":
            return None
        # "0,05" is a price in half the world, and not five.
        is_grouped = kind is int and _THOUSANDS.fullmatch(text) is not None
        try:
            number = kind(text.replace(",", "") if is_grouped else text)
        except ValueError:
            number = -1
        if 0 <= number < math.inf:
            return number
        click.echo(
            "    give a number such as 0.05, or a dash" if kind is float else "    give a whole number",
            err=True,
        )


def _write(answers: _Answers, config_file: Path, table: InputTable) -> None:
    from eb_dagster.errors import ConfigError, InputError
    from eb_dagster.identifiers.columns import listed
    from eb_dagster.identifiers.phone import check_region
    from eb_dagster.tables.atomic_file import check_writable, published, telling_of

    if config_file.suffix.lower() != ".toml":
        raise ConfigError(f"cannot write {config_file}: settings are a TOML file; name it .toml")
    if answers.region is not None:
        answers.region = check_region(answers.region)
    if not answers.identifiers:
        raise InputError(
            f"no column of the file looks like identifiers (there are {listed(table.columns)}); name them, as in "
            "eb-dagster plan FILE --email COLUMN"
        )
    check_writable(config_file, makes_folder=False)
    with telling_of(config_file), published(config_file) as sink:
        sink.write(_as_toml(answers).encode())


def _as_toml(answers: _Answers) -> str:
    lines = [
        "# Settings of eb_dagster, read from the working directory or with --config. Options and the environment come",
        "# before them. Never put a key here: set EXACTBUYER_API_KEY in the environment.",
        "",
    ]
    lines += _setting(
        "default_region", answers.region, "the country of phone numbers without a country code", '"US"'
    )
    lines += _setting("price", answers.price, "of one credit; costs are then shown in money", "0.05")
    lines += _setting("max_credits", answers.max_credits, "that one run may spend", "5000")
    lines += ['# ledger = "ledger.db"  # what was bought; by default a file in your data folder', ""]
    lines += ["[identifiers]"]
    lines += [f"{kind} = {_toml(names)}" for kind, names in answers.identifiers.items()]
    return "\n".join([*lines, ""])


def _setting(name: str, value: object, meaning: str, example: str) -> list[str]:
    if value is None:
        return [f"# {name} = {example}  # {meaning}"]
    return [f"{name} = {_toml(value)}  # {meaning}"]


def _toml(value: object) -> str:
    # Texts, numbers and lists of them are written alike in TOML and JSON; but TOML allows no DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
