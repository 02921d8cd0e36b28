"""Checks of single settings. Each one returns the value as `Settings` holds it, or raises `ConfigError`.

What checks a setting by something slow to import imports it when it is called: the shell reads the table of
settings each time it starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

from eb_dagster.errors import ConfigError, did_you_mean, plain_number, shown, shown_list

Value = TypeVar("Value")

_LARGEST_NUMBER: Final = 1_000_000_000
_PERSON_SHAPE: Final = 'person must name columns, as in {"name": "Full name", "company": "Company"}'
_IDENTIFIERS_SHAPE: Final = 'identifiers must name columns by kind, as in {"email": ["Work email", "Email"]}'

PERSON_PARTS: Final = ("name", "first_name", "last_name", "company")


@dataclass(frozen=True)
class WholeNumber:
    """A whole number within bounds, both included."""

    least: int
    most: int | None = None

    def __call__(self, name: str, given: object) -> int:  # noqa: D102
        span = f"at least {self.least}" if self.most is None else f"from {self.least} to {self.most}"
        number = plain_number(given)
        if not isinstance(number, int):
            raise ConfigError(f"{name} is {shown(given)}; choose a whole number {span}")
        if number < self.least or (self.most is not None and number > self.most):
            raise ConfigError(f"{name} is {shown(given)}; choose a number {span}")
        return number


@dataclass(frozen=True)
class PositiveNumber:
    """A number above 0."""

    def __call__(self, name: str, given: object) -> float:  # noqa: D102
        number = _real(given)
        if number is None or not 0 < number < _LARGEST_NUMBER:
            raise ConfigError(
                f"{name} is {shown(given)}; choose a number above 0 and below {_LARGEST_NUMBER:,}"
            )
        return number


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    choices: tuple[str, ...]

    def __call__(self, name: str, given: object) -> str:  # noqa: D102
        for choice in self.choices:
            if given == choice:
                return choice
        meant = did_you_mean([given], self.choices)
        raise ConfigError(f"{name} is {shown(given)}; choose from {list(self.choices)}{meant}")


@dataclass(frozen=True)
class YesOrNo:
    """True or False."""

    def __call__(self, name: str, given: object) -> bool:  # noqa: D102
        if not isinstance(given, bool):
            raise ConfigError(f"{name} is {shown(given)}; choose True or False")
        return given


@dataclass(frozen=True)
class Age:
    """A timedelta above 0. Where only a number can stand, it is a number of days."""

    def __call__(self, name: str, given: object) -> timedelta:  # noqa: D102
        if not (isinstance(given, timedelta) and given >= timedelta(0)):
            raise ConfigError(
                f"{name} is {shown(given)}; give a timedelta such as timedelta(days=90), or None"
            )
        if not given:
            raise ConfigError(
                f"{name} is zero, so nothing that was paid for would ever count; give a timedelta such as "
                "timedelta(minutes=1) to ask again now, or None to never do so"
            )
        return given


@dataclass(frozen=True)
class Text:
    """A key, an address or a path; None stands for what the environment says. It is never shown."""

    read: Callable[[Any], object]

    def __call__(self, name: str, given: object) -> object:  # noqa: D102
        if not (given is None or isinstance(given, str | os.PathLike)):
            raise ConfigError(f"{name} is of type {type(given).__name__}; give it as text")
        return self.read(given)


def days(name: str, count: float | None) -> timedelta | None:
    """The age that a number of days stands for.

    Raises:
        ConfigError: the number is not above 0, or too large.

    """
    if count is None:
        return None
    if not 0 < count <= timedelta.max.days:
        raise ConfigError(
            f"{name} is {count:g}; choose a number of days above 0, such as 90, and at most {timedelta.max.days:,}, or "
            "leave it out"
        )
    return timedelta(days=count)


def read_text(name: str, given: object) -> str:
    """A text."""
    if not isinstance(given, str):
        raise ConfigError(f'{name} is {shown(given)}; give a text such as "eb_"')
    if not given.isprintable():
        raise ConfigError(
            f'{name} holds a line break, a tab or another character that cannot be seen; give a text such as "eb_"'
        )
    return given


def read_region(_: str, given: object) -> str:
    """A country that phone numbers can belong to."""
    from eb_dagster.identifiers.phone import check_region

    return check_region(str(given))


def read_partition_size(name: str, given: object) -> int:
    """As many identifiers as the vendor takes in one request, or fewer."""
    from eb_dagster.api.envelope import MOST_IDENTIFIERS

    return WholeNumber(least=1, most=MOST_IDENTIFIERS)(name, given)


def read_required_fields(name: str, given: object) -> tuple[str, ...]:
    """Fields that the vendor can be told to require; a single one may be given as it is."""
    from eb_dagster.api.envelope import REQUIRED_FIELDS

    return _known_names(name, [given] if isinstance(given, str) else given, REQUIRED_FIELDS)


def read_price(name: str, given: object) -> float:
    """What one credit costs, in whatever money: nothing, or more."""
    number = _real(given)
    if number is None or not 0 <= number < _LARGEST_NUMBER:
        raise ConfigError(
            f"{name} is {shown(given)}; give what one credit costs, as a number such as 0.05, from 0 and below "
            f"{_LARGEST_NUMBER:,}"
        )
    return number


def read_aliases(name: str, given: object) -> tuple[str, ...]:
    """Kinds of identifiers."""
    from eb_dagster.identifiers.model import FIELD_TYPES

    return _known_names(name, given, FIELD_TYPES)


def read_list(name: str, given: object) -> tuple[Any, ...]:
    """Several names, and not one text, which Python would take for a list of letters."""
    if isinstance(given, str):
        raise ConfigError(f"{name} is a single text; give it as a list: [{shown(given)}]")
    if not isinstance(given, Iterable):
        raise ConfigError(f"{name} is not a list; give a list of names, not {shown(given)}")
    return tuple(cast("Iterable[Any]", given))


def read_identifiers(_: str, given: object) -> Mapping[Any, Any]:
    """Columns by kind. Whether the table has them is found out when it is there."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{_IDENTIFIERS_SHAPE}, not be of type {type(given).__name__}")
    columns = cast("Mapping[object, object]", given)
    for kind, names in columns.items():
        if not isinstance(names, Iterable):
            raise ConfigError(f"{_IDENTIFIERS_SHAPE}; {shown(kind)} names none")
    return columns


def read_person(_: str, given: object) -> Mapping[Any, Any]:
    """Columns with the name and the company of the person a row is about."""
    from eb_dagster.identifiers.columns import listed
    from eb_dagster.identifiers.names import check_installed

    if not isinstance(given, Mapping):
        raise ConfigError(f"{_PERSON_SHAPE}, not be of type {type(given).__name__}")
    columns = cast("Mapping[object, object]", given)
    if unknown := len(columns.keys() - set(PERSON_PARTS)):
        raise ConfigError(
            f"{_PERSON_SHAPE}; {unknown} of its keys are not known: choose from {listed(PERSON_PARTS)}"
        )
    if not all(isinstance(column, str) and column for column in columns.values()):
        raise ConfigError(f"{_PERSON_SHAPE}; each part is one column")
    if not columns.keys() & {"name", "first_name", "last_name"}:
        raise ConfigError(f"{_PERSON_SHAPE}; a company alone is nobody's name")
    check_installed()
    return columns


def read_progress(name: str, given: object) -> object:
    """Whether to show a bar, or a function that is given the report so far."""
    if not (isinstance(given, bool) or callable(given)):
        raise ConfigError(f"{name} is {shown(given)}; give True, False, None or a function")
    return given


def _real(given: object) -> float | None:
    """A number as a float; None if it is none."""
    number = plain_number(given)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return math.inf


def _known_names(setting: str, given: object, known: Iterable[str]) -> tuple[str, ...]:
    names = read_list(setting, given)
    choices = list(known)
    unknown = [name for name in names if name not in choices]
    if unknown:
        meant = did_you_mean(unknown, choices)
        raise ConfigError(f"{setting}: {shown_list(unknown)} not known; choose from {choices}{meant}")
    # A name that is given twice counts once.
    return tuple(dict.fromkeys(names))
