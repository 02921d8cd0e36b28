"""Read what a request asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from eb_dagster.sandbox.people import REQUIRED_FIELD_KEYS

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_IDENTIFIERS: Final = 1000
FIELD_TYPES: Final = ("email", "phone", "social_profile")


@dataclass(frozen=True, slots=True)
class Identifier:
    """What one person is asked for by, as it was sent."""

    field_type: str
    value: str


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """What one request asks for."""

    identifiers: Sequence[Identifier]
    required_fields: Sequence[str]


def read_form(form: Mapping[str, str]) -> BulkRequest | None:
    """The two fields of the form, or None if they are not what the vendor documents."""
    try:
        query_list: Json = json.loads(form["query_list"])
        required_fields: Json = json.loads(form.get("required_fields") or "[]")
        identifiers = [_read_identifier(entry) for entry in _list(query_list)]
        names = [_read_required_field(entry) for entry in _list(required_fields)]
    except (LookupError, ValueError, RecursionError):
        return None
    if not 1 <= len(identifiers) <= MAX_IDENTIFIERS:
        return None
    return BulkRequest(identifiers, names)


def _read_identifier(entry: Json) -> Identifier:
    texts = _texts(entry, names={"field_type", "value"})
    identifier = Identifier(texts["field_type"], texts["value"])
    if identifier.field_type not in FIELD_TYPES or not identifier.value:
        raise ValueError
    return identifier


def _read_required_field(entry: Json) -> str:
    name = _texts(entry, names={"field_type"})["field_type"]
    if name not in REQUIRED_FIELD_KEYS:
        raise ValueError
    return name


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _texts(entry: Json, *, names: set[str]) -> dict[str, str]:
    """Read an object that holds exactly these names, each with a text."""
    if not isinstance(entry, dict) or entry.keys() != names:
        raise ValueError
    return {name: _text(value) for name, value in entry.items()}


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError
    # Raises a ValueError for half a surrogate pair, which is no text.
    value.encode("utf-8")
    return value
