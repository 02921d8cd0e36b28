"""`exactbuyer.toml`: settings that stand in a file, for the commands and `Enricher.from_config`.

It is read only where somebody names it, or from the working directory. What is given and what the environment says
comes before it. It never holds a key or a password.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from eb_dagster.errors import ConfigError, closest, shown
from eb_dagster.settings import SETTINGS, days
from eb_dagster.settings.checks import PERSON_PARTS, Age

CONFIG_FILE: Final = "exactbuyer.toml"

_PATHS: Final = ("ledger", "ca_bundle")
_SECRETS: Final = re.compile(r"(?i)key|token|secret|password")
_WITH_PASSWORD: Final = re.compile(r"://[^/@]*@")
# What a file cannot say: a secret, a function, and what is decided for one run.
_NOT_IN_FILE: Final = ("api_key", "progress", "accept_clock")
_IN_FILE: Final = {
    setting.plain_name: setting for setting in SETTINGS.values() if setting.name not in _NOT_IN_FILE
}
"""By the name where only a number can stand, such as `max_age_days`."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says."""

    file: Path
    values: Mapping[str, Any] = field(repr=False)
    """As in `_IN_FILE`."""

    @property
    def said(self) -> str:
        """The file and the names of its settings: no value."""
        names = ", ".join(self.values) or "nothing"
        return f"{self.file} ({names})"

    def options(self) -> dict[str, Any]:
        """The settings as keywords of `Enricher`."""
        return {_IN_FILE[name].name: _IN_FILE[name].in_python(value) for name, value in self.values.items()}


def read_config(path: str | os.PathLike[str] | None) -> Config | None:
    """The settings in a file; without one, in `exactbuyer.toml` of the working directory, if it is there.

    What the environment says is left out. Paths are taken from the folder of the file.

    Raises:
        ConfigError: the file is not there, cannot be read, or says what it must not or cannot say.

    """
    file = Path.cwd() / CONFIG_FILE if path is None else Path(path).expanduser().absolute()
    if path is None and not file.is_file():
        return None
    try:
        # Editors on Windows begin a file with a mark, which TOML does not know.
        said = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {file.name}; check the path, or make it with eb-dagster init"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file.name} cannot be read ({type(error).__name__}); check the path") from None
    except ValueError as error:
        # The text of the error quotes no line, but may quote a character.
        line = re.search(r"at line (\d+)", str(error))
        where = f", line {line[1]}" if line else ""
        raise ConfigError(
            f"{file.name}{where}: this is not TOML; write each setting as name = value"
        ) from None
    values = {name: _read(file, name, value) for name, value in said.items()}
    return Config(file, {name: value for name, value in values.items() if not _is_in_environment(name)})


def _is_in_environment(name: str) -> bool:
    variable = _IN_FILE[name].variable
    return variable is not None and bool(os.environ.get(variable))


def _read(file: Path, name: str, value: Any) -> Any:
    if name not in _IN_FILE:
        raise _unknown(file, name, [*_IN_FILE])
    if isinstance(value, str) and _WITH_PASSWORD.search(value):
        variable = _IN_FILE[name].variable
        place = f"put the address into {variable} instead" if variable else "take it out"
        raise ConfigError(
            f"{file.name}: {name} holds a user name or password, which no file may hold; {place}"
        )
    if name in _PATHS and isinstance(value, str) and value and "://" not in value:
        value = str(file.parent / Path(value).expanduser())
    _check(file, name, value)
    return value


def _unknown(file: Path, name: str, known: list[str]) -> ConfigError:
    meant = closest(name, known)
    if closest(name, ["api_key"]) or (meant is None and _SECRETS.search(name)):
        return ConfigError(
            f"{file.name} holds {shown(name)}: a file never holds a key or a password. Remove it there, and set "
            "EXACTBUYER_API_KEY in the environment"
        )
    hint = f"correct it: did you mean {meant}?" if meant else f"choose from {', '.join(known)}"
    return ConfigError(f"{file.name}: there is no setting {shown(name)}; {hint}")


def _check(file: Path, name: str, value: Any) -> None:
    """Raise `ConfigError`, with the file's name, if the setting's own check would refuse the value."""
    if name == "identifiers":
        _check_parts(file, name, value, ("social_profile", "email", "phone"))
    if name == "person":
        _check_parts(file, name, value, PERSON_PARTS)
    check = _IN_FILE[name].check
    try:
        if isinstance(check, Age):
            days(name, _number(name, value))
        else:
            check(name, value)
    except ConfigError as error:
        raise ConfigError(f"{file.name}: {error.args[0]}") from None


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} is {shown(value)}; give a number of days, such as 90")
    return value


def _check_parts(file: Path, name: str, value: object, parts: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise ConfigError(f'{file.name}: write [{name}] on a line of its own, and below it {parts[1]} = "…"')
    for part in cast("dict[str, object]", value):
        if part not in parts:
            meant = closest(part, parts)
            hint = f"correct it: did you mean {meant}?" if meant else f"choose from {', '.join(parts)}"
            raise ConfigError(f"{file.name}: [{name}] knows no {shown(part)}; {hint}")
