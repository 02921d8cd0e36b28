"""The options of commands. Those that are settings are made from the table of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import click

from eb_dagster.cli.spelling import in_options
from eb_dagster.errors import ConfigError
from eb_dagster.settings import PERSON_PARTS, SETTINGS, EnricherOptions, Setting
from eb_dagster.settings.checks import Age, Choice, PositiveNumber, WholeNumber, YesOrNo, read_price

if TYPE_CHECKING:
    from eb_dagster.identifiers.model import FieldType

# click types a command by what it decorates, which a list of options cannot keep.
Option = Callable[[Any], Any]

_COLUMN_HELP: Final = {
    "--social-profile": "Column of profile URLs; repeatable.",
    "--email": "Column of e-mail addresses; repeatable.",
    "--phone": "Column of phone numbers; repeatable.",
    "--name": "Column of full names: compared here, never sent.",
    "--first-name": "Column of first names, in place of --name.",
    "--last-name": "Column of last names, in place of --name.",
    "--company": "Column of companies: tells people of the same name apart.",
}


class PlaceType(click.Path):
    """A path, or the address of an object in an object store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed."""
        from eb_dagster.errors import ConfigError
        from eb_dagster.tables.object_store import place

        try:
            return place(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def setting_option(name: str, **attributes: Any) -> Option:
    """The option for a setting that has a single one. `attributes` are those of `click.option`."""
    setting = SETTINGS[name]
    (flag,) = setting.flags
    return click.option(
        flag,
        setting.plain_name,
        metavar=setting.metavar,
        help=in_options(setting.description),
        **_attributes(setting),
        **attributes,
    )


def _attributes(setting: Setting) -> dict[str, Any]:
    """What `click.option` has to know to refuse early what the setting's own check would refuse."""
    if isinstance(setting.check, YesOrNo):
        return {"is_flag": True}
    attributes: dict[str, Any] = {}
    if (parameter_type := _parameter_type(setting)) is not None:
        attributes["type"] = parameter_type
    if setting.default:
        attributes |= {"default": setting.default, "show_default": True}
    return attributes


def _parameter_type(setting: Setting) -> click.ParamType[Any, Any] | None:
    match setting.check:
        case WholeNumber(least=least, most=most):
            return click.IntRange(min=least, max=most)
        case PositiveNumber():
            return click.FloatRange(min=0, min_open=True)
        case Choice(choices=choices):
            return click.Choice(choices)
        case Age():
            return click.IntRange(min=1)
        case _:
            return None


def _column_options(name: str, *, multiple: bool) -> list[Option]:
    setting = SETTINGS[name]
    return [
        click.option(flag, metavar=setting.metavar, multiple=multiple, help=_COLUMN_HELP[flag])
        for flag in setting.flags
    ]


def _split_names(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[str]:
    """Names that are separated by commas, or given one by one."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _complete_columns(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from eb_dagster.contacts.schema import CONTACT_COLUMNS

    return _complete([column.name for column in CONTACT_COLUMNS], incomplete)


def _complete_fields(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from eb_dagster.api.envelope import REQUIRED_FIELDS

    return _complete(REQUIRED_FIELDS, incomplete)


def _complete(known: Sequence[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in known if name.startswith(last)]


def refuse_password(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a password on the command line."""
    if value is not None and "@" in value:
        raise click.BadParameter(
            "other users of this machine can read a password on a command line; put the address into "
            "EB_DAGSTER_PROXY instead",
            param=param,
        )
    return value


def price_option(text: str) -> Option:
    """The option of the price, which is checked as the setting is: a cost in nan is none."""
    return click.option(
        "--price", type=click.FloatRange(min=0), metavar="0.05", callback=_read_price, help=text
    )


def _read_price(_: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is None:
        return None
    try:
        return read_price("it", value)
    except ConfigError as error:
        raise click.BadParameter(str(error), param=param) from None


def _read_separator(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from eb_dagster.tables.csv import read_separator

    try:
        return read_separator(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None


def with_options(options: Sequence[Option]) -> Option:
    """Several options in one decorator; help shows them in this order."""
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


_READING_OPTIONS: Final[Sequence[Option]] = (
    click.option("--encoding", help="Encoding of a CSV or TSV. Default: detected."),
    click.option(
        "--separator",
        callback=_read_separator,
        help="What separates the cells of a CSV: comma, semicolon, tab, bar or a character. Default: detected.",
    ),
    click.option(
        "--header-line",
        type=click.IntRange(min=1),
        metavar="N",
        help="Line of a CSV that names the columns. Default: detected.",
    ),
)

with_reading_options: Option = with_options(_READING_OPTIONS)

with_enrichment_options: Option = with_options(
    [
        click.argument("file", type=PlaceType(), required=False),
        *_column_options("identifiers", multiple=True),
        *_column_options("person", multiple=False),
        setting_option("default_region"),
        setting_option(
            "required_fields", multiple=True, callback=_split_names, shell_complete=_complete_fields
        ),
        setting_option("max_credits"),
        setting_option("over_budget"),
        setting_option("max_age"),
        setting_option("retry_misses_after"),
        setting_option("in_doubt"),
        setting_option("accept_clock"),
        setting_option("requests_per_minute"),
        price_option("Price of one credit. Costs are then shown in money."),
        *_READING_OPTIONS,
        setting_option("ledger"),
        setting_option("base_url"),
        setting_option("proxy", callback=refuse_password),
        setting_option("ca_bundle"),
        click.option(
            "--json", "as_json", is_flag=True, help="Print one JSON object to stdout, and nothing else there."
        ),
    ]
)

with_output_options: Option = with_options(
    [
        setting_option("columns", multiple=True, callback=_split_names, shell_complete=_complete_columns),
        setting_option("lists"),
        setting_option("prefix"),
    ]
)

force_option: Option = click.option(
    "--force", is_flag=True, help="Replace files that exist and that this ledger did not write."
)


def enricher_options(values: Mapping[str, Any]) -> EnricherOptions:
    """The keywords of `Enricher` from the values of the shell's options."""
    from eb_dagster.identifiers.model import FIELD_TYPES

    options = {
        setting.name: setting.in_python(values[setting.plain_name])
        for setting in SETTINGS.values()
        if setting.plain_name in values
    }
    # In the shell, no columns means all of them.
    options["columns"] = options.get("columns") or None
    # The options may come in any order, so they are asked in the default order.
    identifiers: dict[FieldType, list[str]] = {kind: [*values[kind]] for kind in FIELD_TYPES if values[kind]}
    person = {part: values[part] for part in PERSON_PARTS if values[part] is not None}
    options |= {"identifiers": identifiers or None, "person": person or None}
    return EnricherOptions(**options)
