"""`--config`: settings that stand in a file are the defaults of the options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from eb_dagster.cli.options import Option

if TYPE_CHECKING:
    from eb_dagster.settings import EnricherOptions
    from eb_dagster.settings.config_file import Config

_NAMED: Final = "eb_dagster.config.named"
_READ: Final = "eb_dagster.config.read"
_HELP: Final = "File with settings. Default: exactbuyer.toml in the working directory, if it is there."


def config_option(*, applies: bool = True) -> Option:
    """The option, and the defaults that follow from the file. `applies` is False where a command asks for it itself."""
    return click.option(
        "--config",
        "config",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        is_eager=True,
        expose_value=False,
        callback=_apply if applies else _keep,
        help=_HELP,
    )


def _keep(context: click.Context, _: click.Parameter, named: Path | None) -> None:
    if named is not None:
        context.meta[_NAMED] = named


def _apply(context: click.Context, _: click.Parameter, named: Path | None) -> None:
    if context.resilient_parsing:
        return
    config = read_and_tell(named)
    if config is not None:
        known = {parameter.name for parameter in context.command.params}
        defaults = {name: value for name, value in _as_options(config).items() if name in known}
        context.default_map = {**(context.default_map or {}), **defaults}
        context.meta[_READ] = config


def read_and_tell(named: Path | None) -> Config | None:
    """The file that is named, or that of the working directory. Says which was read."""
    from eb_dagster.errors import ConfigError
    from eb_dagster.settings.config_file import read_config

    try:
        config = read_config(named)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if config is not None:
        click.echo(f"settings from {config.said}", err=True)
    return config


def configured_ledger(context: click.Context) -> str | None:
    """The ledger that a file names, if the environment does not."""
    config = read_and_tell(context.meta.get(_NAMED))
    named = None if config is None else cast("str | None", config.values.get("ledger"))
    return None if named is None else os.fspath(named)


def _as_options(config: Config) -> dict[str, Any]:
    """What the file says, by the names of the shell's options."""
    defaults: dict[str, Any] = {}
    for name, value in config.values.items():
        if name == "identifiers":
            defaults |= {
                kind: [names] if isinstance(names, str) else list(names) for kind, names in value.items()
            }
        elif name == "person":
            defaults |= value
        else:
            defaults[name] = (
                [value] if name in ("columns", "required_fields") and isinstance(value, str) else value
            )
    return defaults


def with_config(options: EnricherOptions) -> EnricherOptions:
    """The options with those settings of the file that the shell has no option for."""
    config: Config | None = click.get_current_context().meta.get(_READ)
    said = {} if config is None else config.options()
    return cast("EnricherOptions", {**{name: said[name] for name in said if name not in options}, **options})
